"""On which nodes a DaemonSet's pods are to be made and deleted now, and its status. Pure.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/, .../update-daemon-set/
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubarium.controllers import pods as podutil
from kubarium.controllers.refs import controller_reference
from kubarium.controllers.setviews import DaemonSet
from kubarium.machinery.objects import Node, NodeSelectorTerm, Pod, convert
from kubarium.machinery.selectors import matches_map, node_requirement_matches
from kubarium.machinery.taints import NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE, UNSCHEDULABLE, first_untolerated

REVISION = "controller-revision-hash"
GENERATION = "pod-template-generation"
BURST = 250
NODE = "node.kubernetes.io/"
TOLERATED = (
    (NOT_READY, NO_EXECUTE),
    (UNREACHABLE, NO_EXECUTE),
    (NODE + "disk-pressure", NO_SCHEDULE),
    (NODE + "memory-pressure", NO_SCHEDULE),
    (NODE + "pid-pressure", NO_SCHEDULE),
    (UNSCHEDULABLE, NO_SCHEDULE),
)
"""What happens to nodes does not concern the pods that look after them."""
NETWORK_UNAVAILABLE = (NODE + "network-unavailable", NO_SCHEDULE)
BY_NAME = "metadata.name"


def daemon_spec(daemon_set: DaemonSet) -> dict[str, Any]:
    """The template's spec with the tolerations that every daemon has."""
    spec = dict(daemon_set.spec.template.get("spec") or {})
    extra = (*TOLERATED, NETWORK_UNAVAILABLE) if spec.get("hostNetwork") else TOLERATED
    own = list(spec.get("tolerations") or ())
    own += [
        wanted for key, effect in extra if (wanted := {"key": key, "operator": "Exists", "effect": effect}) not in own
    ]
    return {**spec, "tolerations": own}


def pod_of(daemon_set: DaemonSet, node: str, revision: str) -> dict[str, Any]:
    """The pod for a node, as sent to the API server."""
    given = daemon_set.spec.template.get("metadata") or {}
    labels = {**(given.get("labels") or {}), REVISION: revision}
    if generation := daemon_set.metadata.annotations.get("deprecated.daemonset.template.generation"):
        labels[GENERATION] = generation
    metadata = {key: given[key] for key in ("annotations", "finalizers") if given.get(key)}
    metadata |= {"generateName": f"{daemon_set.metadata.name}-", "labels": labels}
    spec = daemon_spec(daemon_set)
    spec["affinity"] = pinned(spec.get("affinity") or {}, node)
    return {"metadata": {**metadata, "ownerReferences": [controller_reference(daemon_set)]}, "spec": spec}


def pinned(affinity: Mapping[str, Any], node: str) -> dict[str, Any]:
    """The affinity with that node as the only choice: what it says of nodes otherwise has been looked at."""
    fields = [{"key": BY_NAME, "operator": "In", "values": [node]}]
    required = {"nodeSelectorTerms": [{"matchFields": fields}]}
    of_nodes = {**(affinity.get("nodeAffinity") or {}), "requiredDuringSchedulingIgnoredDuringExecution": required}
    return {**affinity, "nodeAffinity": of_nodes}


def node_of(pod: Pod) -> str:
    """The node that a pod is on, or is pinned to."""
    if pod.spec.node_name:
        return pod.spec.node_name
    affinity = pod.spec.affinity and pod.spec.affinity.node_affinity
    required = affinity and affinity.required_during_scheduling_ignored_during_execution
    for term in required.node_selector_terms if required else ():
        for field in term.match_fields:
            if (field.key, field.operator) == (BY_NAME, "In") and len(field.values) == 1:
                return field.values[0]
    return ""


@dataclass(frozen=True, slots=True)
class Fit:
    """Whether a pod is to be made on a node, and whether one that is there may stay."""

    run: bool
    stay: bool


def fit(template: Pod, node: Node) -> Fit:
    """`template`: a pod with the spec of the set's daemons (see `template_pod`)."""
    spec = template.spec
    if spec.node_name not in ("", node.metadata.name):
        return Fit(False, False)
    if not matches_map(spec.node_selector, node.metadata.labels) or not _likes(template, node):
        return Fit(False, False)
    if first_untolerated(node.spec.taints, spec.tolerations, (NO_SCHEDULE, NO_EXECUTE)) is None:
        return Fit(True, True)
    return Fit(False, first_untolerated(node.spec.taints, spec.tolerations, (NO_EXECUTE,)) is None)


def template_pod(daemon_set: DaemonSet) -> Pod:
    return convert(Pod, {"metadata": {}, "spec": daemon_spec(daemon_set)})


def _likes(pod: Pod, node: Node) -> bool:
    affinity = pod.spec.affinity and pod.spec.affinity.node_affinity
    required = affinity and affinity.required_during_scheduling_ignored_during_execution
    return not required or any(_term_matches(term, node) for term in required.node_selector_terms)


def _term_matches(term: NodeSelectorTerm, node: Node) -> bool:
    fields = {BY_NAME: node.metadata.name}
    return bool(term.match_expressions or term.match_fields) and (
        all(node_requirement_matches(one, node.metadata.labels) for one in term.match_expressions)
        and all(node_requirement_matches(one, fields) for one in term.match_fields)
    )


# -- the plan ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class World:
    """A DaemonSet, the nodes with what they say to its pods, and its pods by node; `revision` is the wanted one."""

    daemon_set: DaemonSet
    fits: Mapping[str, Fit]
    pods: Mapping[str, Sequence[Pod]]
    revision: str
    now: float

    def available(self, pod: Pod | None) -> bool:
        return pod is not None and podutil.available_in(pod, self.daemon_set.spec.min_ready_seconds, self.now) == 0

    def is_new(self, pod: Pod) -> bool:
        return pod.metadata.labels.get(REVISION) == self.revision

    @property
    def desired(self) -> int:
        return sum(one.run for one in self.fits.values())


@dataclass(frozen=True, slots=True)
class Plan:
    """Nodes to make a pod on, pods to delete, and of these the ones whose work is over."""

    create: tuple[str, ...] = ()
    delete: tuple[Pod, ...] = ()
    ended: tuple[Pod, ...] = ()

    @property
    def nothing(self) -> bool:
        return not (self.create or self.delete or self.ended)


def limits(world: World) -> tuple[int, int]:
    """How many more, and how many fewer pods than wanted there may be during an update; one of both at least."""
    rolling, desired = world.daemon_set.spec.update_strategy.rolling_update, world.desired
    surge, unavailable = (_scaled(value, desired) for value in (rolling.max_surge, rolling.max_unavailable))
    return surge, max(unavailable, 0 if surge else 1)


def _scaled(value: int | str, total: int) -> int:
    return value if isinstance(value, int) else math.ceil(int(value.removesuffix("%")) * total / 100)


def in_age(pods: Iterable[Pod]) -> list[Pod]:
    """Those on a node first, then the oldest."""
    return sorted(pods, key=lambda p: (not p.spec.node_name, p.metadata.creation_timestamp, p.metadata.name))


def plan_nodes(world: World) -> Plan:
    """One pod a node: what is missing, superfluous or out of place."""
    create: list[str] = []
    delete: list[Pod] = []
    ended: list[Pod] = []
    surging = limits(world)[0] > 0 and world.daemon_set.spec.update_strategy.type == "RollingUpdate"
    for node, one in world.fits.items():
        pods = world.pods.get(node, ())
        if not pods:
            create += [node] if one.run else []
            continue
        staying = [pod for pod in pods if not pod.metadata.deletion_timestamp]
        if not one.stay:
            delete += staying
            continue
        ended += [pod for pod in staying if podutil.is_terminal(pod)]
        running = in_age(pod for pod in staying if not podutil.is_terminal(pod))
        if not surging:
            delete += running[1:]
        elif not running:
            create += [node] if one.run and not staying else []
        else:
            delete += _surplus(world, running)
    lost = (pod for node, pods in world.pods.items() if node not in world.fits for pod in pods)
    delete += [pod for pod in lost if not pod.metadata.deletion_timestamp and not pod.spec.node_name]
    return Plan(tuple(create[:BURST]), tuple(delete[:BURST]), tuple(ended))


def _surplus(world: World, running: list[Pod]) -> list[Pod]:
    """While an update surges a node may have a new pod beside an old one, until the new one is well."""
    new = [pod for pod in running if world.is_new(pod)]
    old = [pod for pod in running if not world.is_new(pod)]
    out = [*new[1:], *old[1:]]
    if new and old and (not podutil.is_ready(old[0]) or world.available(new[0])):
        out.append(old[0])
    return out


def plan_update(world: World) -> Plan:
    """Pods of an older revision make place, within the limits of the update strategy."""
    if world.daemon_set.spec.update_strategy.type != "RollingUpdate":
        return Plan()
    surge, unavailable = limits(world)
    return _surge(world, surge) if surge else _replace(world, unavailable)


def _old_and_new(world: World, pods: Sequence[Pod]) -> tuple[Pod | None, Pod | None]:
    staying = in_age(pod for pod in pods if not pod.metadata.deletion_timestamp)
    old = next((pod for pod in staying if not world.is_new(pod)), None)
    return old, next((pod for pod in staying if world.is_new(pod)), None)


def _replace(world: World, most: int) -> Plan:
    missing = 0
    at_once: list[Pod] = []
    candidates: list[Pod] = []
    for pods in world.pods.values():
        old, new = _old_and_new(world, pods)
        if (old is None) == (new is None):
            missing += 1
        elif old is None:
            missing += not world.available(new)
        elif not world.available(old):
            at_once.append(old)
            missing += 1
        else:
            candidates.append(old)
    return Plan(delete=(*at_once, *candidates[: max(0, most - missing)]))


def _surge(world: World, most: int) -> Plan:
    busy = 0
    at_once: list[str] = []
    candidates: list[str] = []
    delete: list[Pod] = []
    for node, pods in world.pods.items():
        old, new = _old_and_new(world, pods)
        if old is None:
            continue
        if new is not None:
            busy += not world.available(new)
            delete += [old] if world.available(new) else []
        elif not world.fits.get(node, Fit(False, False)).run:
            delete += [] if world.available(old) else [old]
        else:
            (candidates if world.available(old) else at_once).append(node)
    return Plan((*at_once, *candidates[: max(0, most - busy)]), tuple(delete))


# -- status ------------------------------------------------------------------------------------------------------------


def plan_status(world: World, collisions: int) -> dict[str, Any]:
    """For a merge patch; None takes a field away."""
    scheduled = misscheduled = ready = updated = available = 0
    for node, one in world.fits.items():
        pods = in_age(world.pods.get(node, ()))
        if not one.run:
            misscheduled += bool(pods)
            continue
        if pods:
            scheduled += 1
            ready += podutil.is_ready(pods[0])
            available += podutil.is_ready(pods[0]) and world.available(pods[0])
            updated += world.is_new(pods[0])
    return {
        "currentNumberScheduled": scheduled,
        "numberMisscheduled": misscheduled,
        "desiredNumberScheduled": world.desired,
        "numberReady": ready,
        "observedGeneration": world.daemon_set.metadata.generation,
        "updatedNumberScheduled": updated or None,
        "numberAvailable": available or None,
        "numberUnavailable": world.desired - available or None,
        "collisionCount": collisions or None,
    }


def same_status(daemon_set: DaemonSet, status: Mapping[str, Any]) -> bool:
    old = daemon_set.status
    numbers = (
        old.current_number_scheduled,
        old.number_misscheduled,
        old.desired_number_scheduled,
        old.number_ready,
        old.observed_generation,
        old.updated_number_scheduled,
        old.number_available,
        old.number_unavailable,
        old.collision_count or 0,
    )
    return numbers == tuple(value or 0 for value in status.values())
