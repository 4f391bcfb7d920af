"""Figures of the proxy, under upstream's names where it has them."""

from __future__ import annotations

import time
from collections.abc import Iterable

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

FINE = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self._sync = Histogram(
            "kubeproxy_sync_proxy_rules_duration_seconds",
            "From the start of a plan to its commit",
            buckets=FINE,
            registry=registry,
        )
        self._programming = Histogram(
            "kubeproxy_network_programming_duration_seconds",
            "From a pod's or Service's change to the rule that follows from it",
            buckets=FINE,
            registry=registry,
        )
        self._frontends = Gauge("kubarium_proxy_frontends", "Frontends that are programmed", registry=registry)
        self._commits = Counter("kubarium_proxy_commits", "Transactions committed", registry=registry)
        self._last = Gauge(
            "kubeproxy_sync_proxy_rules_last_timestamp_seconds", "When the last commit was", registry=registry
        )

    def committed(self, seconds: float, frontends: int, triggers: Iterable[float]) -> None:
        """After a commit; `triggers` are the times (since the epoch) of the changes that it answers to."""
        now = time.time()
        self._sync.observe(seconds)
        self._frontends.set(frontends)
        self._commits.inc()
        self._last.set(now)
        for at in triggers:
            self._programming.observe(max(0.0, now - at))
