"""Jobs: pods that run to their end, counted each exactly once.

`plan` decides (pure), with `indexes` and `policies`; `controller` carries it out. A pod of a Job bears a finalizer: it
goes only when its end is written down, first by uid (`status.uncountedTerminatedPods`), then as a number.
Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/, KEP-2307 (tracking with finalizers).
"""
