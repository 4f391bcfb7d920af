"""Field management: who owns which field of an object (metadata.managedFields), and server-side apply. Pure.

`fieldsets` is the algebra of sets of fields, `schema` and `roots` say how values of the API's types are owned,
`entries` are the managers of an object, `updates` and `applying` the two ways to become one.
Source: Kubernetes documentation, "Server-Side Apply"; KEP-555.
"""
