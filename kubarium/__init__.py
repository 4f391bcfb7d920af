"""kubarium: a Kubernetes cluster under glass."""

__version__ = "0.1.0"
