"""Which nodes can take a pod: each filter gives the reasons, in upstream's words, why a node cannot. Pure.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/kube-scheduler/, .../assign-pod-node/
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from kubarium.machinery.objects import NodeSelectorTerm, Pod, Taint
from kubarium.machinery.selectors import matches_map, node_requirement_matches
from kubarium.machinery.taints import NO_EXECUTE, NO_SCHEDULE, UNSCHEDULABLE, first_untolerated, tolerates
from kubarium.scheduler.state import HostPort, NodeState, PodInfo

Filter = Callable[[PodInfo, NodeState], Sequence[str]]


def unschedulable(info: PodInfo, state: NodeState) -> Sequence[str]:
    taint = Taint(key=UNSCHEDULABLE, effect=NO_SCHEDULE)
    if state.node.spec.unschedulable and not any(tolerates(each, taint) for each in info.pod.spec.tolerations):
        return ("node(s) were unschedulable",)
    return ()


def taints(info: PodInfo, state: NodeState) -> Sequence[str]:
    found = first_untolerated(state.node.spec.taints, info.pod.spec.tolerations, (NO_SCHEDULE, NO_EXECUTE))
    return (f"node(s) had untolerated taint {{{found.key}: {found.value}}}",) if found else ()


def node_affinity(info: PodInfo, state: NodeState) -> Sequence[str]:
    if matches_map(info.pod.spec.node_selector, state.node.metadata.labels) and _required(info.pod, state):
        return ()
    return ("node(s) didn't match Pod's node affinity/selector",)


def _required(pod: Pod, state: NodeState) -> bool:
    affinity = pod.spec.affinity and pod.spec.affinity.node_affinity
    selector = affinity and affinity.required_during_scheduling_ignored_during_execution
    return not selector or any(term_matches(term, state) for term in selector.node_selector_terms)


def term_matches(term: NodeSelectorTerm, state: NodeState) -> bool:
    """All of a term's requirements hold; an empty term matches no node."""
    fields = {"metadata.name": state.name}
    labels = state.node.metadata.labels
    return bool(term.match_expressions or term.match_fields) and (
        all(node_requirement_matches(requirement, labels) for requirement in term.match_expressions)
        and all(node_requirement_matches(requirement, fields) for requirement in term.match_fields)
    )


def ports(info: PodInfo, state: NodeState) -> Sequence[str]:
    taken = [port for port, count in state.host_ports.items() if count > 0]
    if any(_clash(wanted, port) for wanted in info.host_ports for port in taken):
        return ("node(s) didn't have free ports for the requested pod ports",)
    return ()


def _clash(a: HostPort, b: HostPort) -> bool:
    return (a.protocol, a.port) == (b.protocol, b.port) and (a.ip == b.ip or "0.0.0.0" in (a.ip, b.ip))


def resources(info: PodInfo, state: NodeState) -> Sequence[str]:
    reasons = ["Too many pods"] if len(state.pods) + 1 > state.allocatable.get("pods", 0) else []
    for name, wanted in sorted(info.requests.items()):
        if wanted and wanted > state.allocatable.get(name, 0) - state.requested[name]:
            reasons.append(f"Insufficient {name}")
    return reasons


FILTERS: tuple[Filter, ...] = (unschedulable, taints, node_affinity, ports, resources)
"""In this order; the first that objects speaks for the node."""
