"""One decision: a pod and the cluster in, a node or the reasons for none out. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from kubarium.scheduler import scores
from kubarium.scheduler.filters import FILTERS
from kubarium.scheduler.state import NodeState, PodInfo
from kubarium.scheduler.topology import NamespaceLabels, plan_filter


@dataclass(frozen=True, slots=True)
class Placement:
    """The node for the pod."""

    node: str


@dataclass(frozen=True, slots=True)
class Unschedulable:
    """No node can take the pod; `message` says why, as upstream's condition does."""

    message: str


def plan_placement(
    info: PodInfo, nodes: Sequence[NodeState], namespaces: NamespaceLabels | None = None
) -> Placement | Unschedulable:
    """The best node for a pod. Of equal ones the one with fewer pods is taken, then the first by name."""
    if not nodes:
        return Unschedulable("no nodes available to schedule pods")
    among_pods = plan_filter(info, nodes, namespaces or {})
    reasons = {
        state.name: next((found for each in FILTERS if (found := each(info, state))), ()) or among_pods(state)
        for state in nodes
    }
    feasible = [state for state in nodes if not reasons[state.name]]
    if not feasible:
        return Unschedulable(why_none(len(nodes), reasons.values()))
    ranked = zip(feasible, scores.total(info, feasible), strict=True)
    best = min(ranked, key=lambda pair: (-round(pair[1], 6), len(pair[0].pods), pair[0].name))
    return Placement(best[0].name)


def why_none(nodes: int, reasons: Iterable[Sequence[str]]) -> str:
    """`0/3 nodes are available: 1 node(s) had untolerated taint {...}, 2 Insufficient cpu.`"""
    counts = Counter(reason for each in reasons for reason in each)
    texts = sorted(f"{count} {reason}" for reason, count in counts.items())
    return f"0/{nodes} nodes are available: {', '.join(texts)}."
