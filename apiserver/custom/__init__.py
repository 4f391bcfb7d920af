"""Custom kinds: CustomResourceDefinitions become resources of the registry, and their objects go through the pipeline.

`structural` is a schema made ready; `pruning`, `defaulting`, `embedded`, `values` and `lists` are what is done with
objects by it; `kinds` makes resources out of a definition, `checks` judges the definition itself, `following` keeps the
registry and the definitions' conditions at what the store holds. Pure, but for `following`.
"""
