"""StatefulSets: pods with names and volumes of their own, made and changed one after the other.

`plan` decides (pure), `controller` carries it out.
Source: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/
"""
