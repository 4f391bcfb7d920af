"""DaemonSets: a pod on every node that takes it.

`plan` decides (pure), `controller` carries it out; the scheduler brings each pod to the node that its affinity names.
Source: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/
"""
