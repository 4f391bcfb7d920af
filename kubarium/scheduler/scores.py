"""Which of the nodes that can take a pod does best: each score is 0 to 100 a node, higher is better. Pure.

Weights and shapes are upstream's defaults; the label-independent spread stands for its default constraints.
Source: https://kubernetes.io/docs/reference/scheduling/config/#scheduling-plugins
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kubarium.machinery.selectors import matches
from kubarium.machinery.taints import PREFER_NO_SCHEDULE, tolerates
from kubarium.scheduler.filters import term_matches
from kubarium.scheduler.state import NodeState, PodInfo

Score = Callable[[PodInfo, Sequence[NodeState]], list[float]]

BEST = 100.0


def spread(info: PodInfo, nodes: Sequence[NodeState]) -> list[float]:
    """Fewer pods of the same owner (or, without one, with the same labels) on the node."""
    return _least([sum(_related(info, other) for other in state.pods.values()) for state in nodes])


def _related(info: PodInfo, other: PodInfo) -> bool:
    mine, theirs = info.pod.metadata, other.pod.metadata
    if mine.namespace != theirs.namespace or theirs.deletion_timestamp:
        return False
    if info.owner or other.owner:
        return info.owner == other.owner
    return bool(mine.labels) and mine.labels == theirs.labels


def constraints(info: PodInfo, nodes: Sequence[NodeState]) -> list[float]:
    """Topology spread constraints that are only wished for: fewer matching pods in the node's domain."""
    soft = [c for c in info.pod.spec.topology_spread_constraints if c.when_unsatisfiable == "ScheduleAnyway"]
    totals = [0.0] * len(nodes)
    for constraint in soft:
        values = [state.node.metadata.labels.get(constraint.topology_key) for state in nodes]
        counts: dict[str | None, int] = {}
        for state, value in zip(nodes, values, strict=True):
            counts[value] = counts.get(value, 0) + sum(
                other.pod.metadata.namespace == info.pod.metadata.namespace
                and matches(constraint.label_selector, other.pod.metadata.labels)
                for other in state.pods.values()
            )
        totals = [total + counts[value] for total, value in zip(totals, values, strict=True)]
    return _least(totals)


def least_allocated(info: PodInfo, nodes: Sequence[NodeState]) -> list[float]:
    """More of CPU and memory left."""
    return [sum(_left(used, total) for used, total in _usage(info, state)) / 2 for state in nodes]


def balanced(info: PodInfo, nodes: Sequence[NodeState]) -> list[float]:
    """CPU and memory used to the same part."""
    scores = []
    for state in nodes:
        parts = [min(1.0, used / total) if total else 1.0 for used, total in _usage(info, state)]
        scores.append(BEST * (1 - abs(parts[0] - parts[1]) / 2))
    return scores


def _usage(info: PodInfo, state: NodeState) -> tuple[tuple[int, int], tuple[int, int]]:
    return (
        (state.scored_cpu + info.scored_cpu, state.allocatable.get("cpu", 0)),
        (state.scored_memory + info.scored_memory, state.allocatable.get("memory", 0)),
    )


def _left(used: int, total: int) -> float:
    return BEST * (total - used) / total if total and used < total else 0.0


def preferred_affinity(info: PodInfo, nodes: Sequence[NodeState]) -> list[float]:
    """Node affinity that is only wished for, by weight."""
    affinity = info.pod.spec.affinity and info.pod.spec.affinity.node_affinity
    terms = affinity.preferred_during_scheduling_ignored_during_execution if affinity else ()
    return _most([sum(term.weight for term in terms if term_matches(term.preference, state)) for state in nodes])


def taint_preference(info: PodInfo, nodes: Sequence[NodeState]) -> list[float]:
    """Fewer taints PreferNoSchedule that the pod does not tolerate."""
    return _least(
        [
            sum(
                taint.effect == PREFER_NO_SCHEDULE
                and not any(tolerates(toleration, taint) for toleration in info.pod.spec.tolerations)
                for taint in state.node.spec.taints
            )
            for state in nodes
        ]
    )


def _most(values: Sequence[float]) -> list[float]:
    top = max(values, default=0)
    return [BEST * value / top if top else 0.0 for value in values]


def _least(values: Sequence[float]) -> list[float]:
    top = max(values, default=0)
    return [BEST * (top - value) / top if top else BEST for value in values]


SCORES: tuple[tuple[Score, float], ...] = (
    (taint_preference, 3),
    (spread, 2),
    (constraints, 2),
    (preferred_affinity, 2),
    (least_allocated, 1),
    (balanced, 1),
)


def total(info: PodInfo, nodes: Sequence[NodeState]) -> list[float]:
    """The weighted sum for each node."""
    sums = [0.0] * len(nodes)
    for score, weight in SCORES:
        sums = [a + weight * b for a, b in zip(sums, score(info, nodes), strict=True)]
    return sums
