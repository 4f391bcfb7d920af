"""Filters that look at other pods: topology spread and affinity between pods. Pure.

Source: https://kubernetes.io/docs/concepts/scheduling-eviction/topology-spread-constraints/, .../assign-pod-node/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from kubarium.machinery.objects import LabelSelector, Pod, PodAffinityTerm, TopologySpreadConstraint
from kubarium.machinery.selectors import matches
from kubarium.scheduler import filters
from kubarium.scheduler.state import NodeState, PodInfo

NamespaceLabels = Mapping[str, Mapping[str, str]]
"""Labels of the namespaces, by name: terms with a namespaceSelector ask for them."""

SPREAD = "node(s) didn't match pod topology spread constraints"
SPREAD_LABEL = "node(s) didn't match pod topology spread constraints (missing required label)"
AFFINITY = "node(s) didn't match pod affinity rules"
ANTI_AFFINITY = "node(s) didn't match pod anti-affinity rules"
EXISTING_ANTI_AFFINITY = "node(s) didn't satisfy existing pods anti-affinity rules"


@dataclass(frozen=True, slots=True)
class _Term:
    """A pod affinity term with the values it is judged by."""

    term: PodAffinityTerm
    owner: Pod

    def selects(self, pod: Pod, namespaces: NamespaceLabels) -> bool:
        return self._in_namespace(pod.metadata.namespace, namespaces) and matches(
            self.term.label_selector, pod.metadata.labels
        )

    def _in_namespace(self, namespace: str, namespaces: NamespaceLabels) -> bool:
        if namespace in self.term.namespaces:
            return True
        if self.term.namespace_selector is not None:
            return matches(self.term.namespace_selector, namespaces.get(namespace, {}))
        return not self.term.namespaces and namespace == self.owner.metadata.namespace


def plan_filter(
    info: PodInfo, nodes: Sequence[NodeState], namespaces: NamespaceLabels
) -> Callable[[NodeState], Sequence[str]]:
    """Looks at all pods once for `info`; the function returned judges a node."""
    checks = [_spread(info, nodes), _affinity(info, nodes, namespaces)]
    return lambda state: next((reasons for check in checks if (reasons := check(state))), ())


def _spread(info: PodInfo, nodes: Sequence[NodeState]) -> Callable[[NodeState], Sequence[str]]:
    constraints = [
        constraint
        for constraint in info.pod.spec.topology_spread_constraints
        if constraint.when_unsatisfiable == "DoNotSchedule"
    ]
    counted = [(constraint, _domains(constraint, info, nodes)) for constraint in constraints]

    def check(state: NodeState) -> Sequence[str]:
        for constraint, domains in counted:
            value = state.node.metadata.labels.get(constraint.topology_key)
            if value is None:
                return (SPREAD_LABEL,)
            own = int(matches(_selector(constraint, info.pod), info.pod.metadata.labels))
            fewest = min(domains.values(), default=0) if len(domains) >= (constraint.min_domains or 1) else 0
            if domains[value] + own - fewest > constraint.max_skew:
                return (SPREAD,)
        return ()

    return check


def _domains(constraint: TopologySpreadConstraint, info: PodInfo, nodes: Sequence[NodeState]) -> Counter[str]:
    """Matching pods per value of the topology key, over the nodes that the pod could use at all."""
    selector = _selector(constraint, info.pod)
    domains: Counter[str] = Counter()
    for state in nodes:
        value = state.node.metadata.labels.get(constraint.topology_key)
        if value is None or not _counts(constraint, info, state):
            continue
        domains[value] += sum(
            each.pod.metadata.namespace == info.pod.metadata.namespace
            and not each.pod.metadata.deletion_timestamp
            and matches(selector, each.pod.metadata.labels)
            for each in state.pods.values()
        )
    return domains


def _counts(constraint: TopologySpreadConstraint, info: PodInfo, state: NodeState) -> bool:
    if constraint.node_affinity_policy != "Ignore" and filters.node_affinity(info, state):
        return False
    return constraint.node_taints_policy != "Honor" or not filters.taints(info, state)


def _selector(constraint: TopologySpreadConstraint, pod: Pod) -> LabelSelector | None:
    if not constraint.match_label_keys:
        return constraint.label_selector
    given = constraint.label_selector or LabelSelector()
    own = {key: pod.metadata.labels[key] for key in constraint.match_label_keys if key in pod.metadata.labels}
    return LabelSelector(match_labels={**given.match_labels, **own}, match_expressions=given.match_expressions)


def _affinity(
    info: PodInfo, nodes: Sequence[NodeState], namespaces: NamespaceLabels
) -> Callable[[NodeState], Sequence[str]]:
    wanted, unwanted = required_terms(info.pod)
    everyone = [(state, each.pod) for state in nodes for each in state.pods.values()]
    near = [_places(term, everyone, namespaces) for term in wanted]
    far = [_places(term, everyone, namespaces) for term in unwanted]
    forbidden = {
        (term.term.topology_key, value)
        for state, pod in everyone
        if pod.spec.affinity is not None
        for term in required_terms(pod)[1]
        if term.selects(info.pod, namespaces)
        and (value := state.node.metadata.labels.get(term.term.topology_key)) is not None
    }
    # the first of a group that wants to be together finds nobody yet, and may go anywhere
    first = not any(near) and all(term.selects(info.pod, namespaces) for term in wanted)

    def check(state: NodeState) -> Sequence[str]:
        labels = state.node.metadata.labels
        for term, places in zip(wanted, near, strict=True):
            value = labels.get(term.term.topology_key)
            if value is None or (value not in places and not first):
                return (AFFINITY,)
        if any(labels.get(term.term.topology_key) in places for term, places in zip(unwanted, far, strict=True)):
            return (ANTI_AFFINITY,)
        if any(labels.get(key) == value for key, value in forbidden):
            return (EXISTING_ANTI_AFFINITY,)
        return ()

    return check


def required_terms(pod: Pod) -> tuple[list[_Term], list[_Term]]:
    """The terms a pod insists on: to be near, and to be apart."""
    affinity = pod.spec.affinity
    if affinity is None:
        return [], []
    near, apart = affinity.pod_affinity, affinity.pod_anti_affinity
    return (
        [_Term(term, pod) for term in (near.required_during_scheduling_ignored_during_execution if near else ())],
        [_Term(term, pod) for term in (apart.required_during_scheduling_ignored_during_execution if apart else ())],
    )


def _places(term: _Term, everyone: Iterable[tuple[NodeState, Pod]], namespaces: NamespaceLabels) -> set[str]:
    """Values of the topology key where a pod is that the term selects."""
    return {
        value
        for state, pod in everyone
        if (value := state.node.metadata.labels.get(term.term.topology_key)) is not None
        and term.selects(pod, namespaces)
    }
