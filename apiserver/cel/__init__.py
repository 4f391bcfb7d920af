"""CEL, the Common Expression Language, as Kubernetes has it: rules of custom kinds, expressions of admission policies.

`environment` parses and checks expressions (by the CEL project's own library) and gives programs; `tree` is a checked
expression, `evaluate` makes closures of it that count what they cost, `library` has the functions. `rules` applies the
rules of a schema to objects, `definitions` judges the rules themselves. Nothing here is imported before a rule is.
"""
