"""`kubarium get pods` against `kubectl get pods`: wall time, taken in turns."""

from __future__ import annotations

import statistics

from benchmarks.lab import KUBARIUM, NAME, Row, cluster, spread, timed
from kubarium.testing.kubectl import kubectl_path

RUNS = 20


def measure() -> list[Row]:
    kubectl = str(kubectl_path())
    ours, theirs = [], []
    with cluster() as lab:
        env = {"KUBECONFIG": str(lab.kubeconfig), "HOME": str(lab.kubeconfig.parent)}
        for _ in range(RUNS):
            ours.append(timed([KUBARIUM, "--cluster", NAME, "get", "pods", "-A"]) * 1e3)
            theirs.append(timed([kubectl, "get", "pods", "-A"], env=env) * 1e3)
    ratio = statistics.median(ours) / statistics.median(theirs)
    return [
        Row("`kubarium get pods -A`", spread(ours, "ms", 0)),
        Row("`kubectl get pods -A`", spread(theirs, "ms", 0)),
        Row("ratio", f"{ratio:.2f}", "<= 2"),
    ]
