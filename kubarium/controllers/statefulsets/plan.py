"""Which pods of a StatefulSet to make, delete and mend now, and its status. Pure.

In order (OrderedReady) nothing happens to a pod before all pods of lower numbers are available, and nothing is taken
away before those of higher numbers are gone; Parallel does all at once.
Source: https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubarium.controllers import pods as podutil
from kubarium.controllers.refs import controller_reference
from kubarium.controllers.setviews import StatefulSet
from kubarium.machinery.objects import Pod

REVISION = "controller-revision-hash"
POD_NAME = "statefulset.kubernetes.io/pod-name"
POD_INDEX = "apps.kubernetes.io/pod-index"


@dataclass(frozen=True, slots=True)
class Revisions:
    """Names of the revision that pods have by default, and of the one that they shall have."""

    current: str
    update: str


@dataclass(frozen=True, slots=True)
class Plan:
    """`create`: (ordinal, name of its revision); `mend`: pods whose identity is not what it should be."""

    create: tuple[tuple[int, str], ...] = ()
    delete: tuple[Pod, ...] = ()
    mend: tuple[Pod, ...] = ()
    updating: int = 0  # of the deleted, those that make place for a new revision


def ordinal_of(stateful_set: StatefulSet, pod: Pod) -> int | None:
    """The number at the end of the pod's name; None where the name is not one of the set's."""
    prefix, _, number = pod.metadata.name.rpartition("-")
    return int(number) if prefix == stateful_set.metadata.name and number.isdigit() else None


def ordinals(stateful_set: StatefulSet) -> range:
    start = stateful_set.spec.ordinals.start
    return range(start, start + stateful_set.spec.replicas)


def revision_of(pod: Pod) -> str:
    return pod.metadata.labels.get(REVISION, "")


def is_available(pod: Pod, min_ready_s: int, now: float) -> bool:
    return podutil.available_in(pod, min_ready_s, now) == 0


def needs_current(stateful_set: StatefulSet, ordinal: int) -> bool:
    """Whether a pod that is made now gets the old revision: below the partition it does."""
    strategy = stateful_set.spec.update_strategy
    if strategy.type != "RollingUpdate":
        return False
    return ordinal < stateful_set.spec.ordinals.start + strategy.rolling_update.partition


def plan_set(stateful_set: StatefulSet, pods: Sequence[Pod], revisions: Revisions, now: float) -> Plan:
    if stateful_set.metadata.deletion_timestamp:
        return Plan()
    in_order = stateful_set.spec.pod_management_policy != "Parallel"
    wanted = ordinals(stateful_set)
    there, condemned = sort_pods(stateful_set, pods)
    create: list[tuple[int, str]] = []
    delete: list[Pod] = []
    mend: list[Pod] = []

    def unavailable(pod: Pod | None) -> bool:
        if pod is None or pod.metadata.deletion_timestamp:
            return True
        return not is_available(pod, stateful_set.spec.min_ready_seconds, now)

    for ordinal in wanted:
        pod = there.get(ordinal)
        if pod is None:
            create.append((ordinal, revisions.current if needs_current(stateful_set, ordinal) else revisions.update))
        elif podutil.is_terminal(pod):
            if not pod.metadata.deletion_timestamp:
                delete.append(pod)
        elif not in_order or not unavailable(pod):
            if not has_identity(pod, ordinal):
                mend.append(pod)
            continue
        if in_order:
            return Plan(tuple(create), tuple(delete), tuple(mend))
    first_bad = next((p for p in (*(there.get(o) for o in wanted), *reversed(condemned)) if unavailable(p)), None)
    for pod in condemned:
        if not pod.metadata.deletion_timestamp:
            if in_order and unavailable(pod) and pod is not first_bad:
                return Plan(tuple(create), tuple(delete), tuple(mend))
            delete.append(pod)
        if in_order:
            return Plan(tuple(create), tuple(delete), tuple(mend))
    outdated = _outdated(stateful_set, there, revisions.update, unavailable)
    if outdated is not None:
        delete.append(outdated)
    return Plan(tuple(create), tuple(delete), tuple(mend), updating=outdated is not None)


def _outdated(stateful_set: StatefulSet, there: Mapping[int, Pod], update: str, unavailable: Any) -> Pod | None:
    """The next pod to make place for its new revision: the highest number first, each when the ones above are well."""
    strategy = stateful_set.spec.update_strategy
    if strategy.type != "RollingUpdate":
        return None
    wanted = ordinals(stateful_set)
    for ordinal in reversed(wanted[strategy.rolling_update.partition :]):
        pod = there.get(ordinal)
        if pod is not None and revision_of(pod) != update and not pod.metadata.deletion_timestamp:
            return None if podutil.is_terminal(pod) else pod
        if unavailable(pod):
            return None
    return None


def sort_pods(stateful_set: StatefulSet, pods: Sequence[Pod]) -> tuple[dict[int, Pod], list[Pod]]:
    """Those that shall be, by ordinal, and those that shall not, the highest ordinal first."""
    wanted = ordinals(stateful_set)
    known = {ordinal: pod for pod in pods if (ordinal := ordinal_of(stateful_set, pod)) is not None}
    others = sorted((ordinal for ordinal in known if ordinal not in wanted), reverse=True)
    return {o: pod for o, pod in known.items() if o in wanted}, [known[ordinal] for ordinal in others]


def has_identity(pod: Pod, ordinal: int) -> bool:
    labels = pod.metadata.labels
    return labels.get(POD_NAME) == pod.metadata.name and labels.get(POD_INDEX) == str(ordinal)


# -- what is made ------------------------------------------------------------------------------------------------------


def claim_name(stateful_set: StatefulSet, template: Mapping[str, Any], ordinal: int) -> str:
    return f"{template['metadata']['name']}-{stateful_set.metadata.name}-{ordinal}"


def pod_of(stateful_set: StatefulSet, template: Mapping[str, Any], ordinal: int, revision: str) -> dict[str, Any]:
    """The pod of a number, as sent to the API server."""
    given = template.get("metadata") or {}
    name = f"{stateful_set.metadata.name}-{ordinal}"
    labels = {**(given.get("labels") or {}), REVISION: revision, POD_NAME: name, POD_INDEX: str(ordinal)}
    metadata = {key: given[key] for key in ("annotations", "finalizers") if given.get(key)}
    metadata |= {"name": name, "labels": labels, "ownerReferences": [controller_reference(stateful_set)]}
    spec = {**(template.get("spec") or {}), "hostname": name}
    if stateful_set.spec.service_name:
        spec["subdomain"] = stateful_set.spec.service_name
    if claims := stateful_set.spec.volume_claim_templates:
        names = {claim["metadata"]["name"]: claim_name(stateful_set, claim, ordinal) for claim in claims}
        own = [volume for volume in spec.get("volumes") or () if volume.get("name") not in names]
        claimed = [{"name": n, "persistentVolumeClaim": {"claimName": claim}} for n, claim in names.items()]
        spec["volumes"] = [*claimed, *own]
    return {"metadata": metadata, "spec": spec}


def claims_of(stateful_set: StatefulSet, ordinal: int) -> list[dict[str, Any]]:
    """The claims of a number, as sent to the API server."""
    found = []
    for template in stateful_set.spec.volume_claim_templates:
        meta = template["metadata"]
        labels = {**(meta.get("labels") or {}), **stateful_set.spec.selector.match_labels}
        metadata: dict[str, Any] = {"name": claim_name(stateful_set, template, ordinal), "labels": labels}
        metadata |= {"annotations": meta["annotations"]} if meta.get("annotations") else {}
        found.append({"metadata": metadata, "spec": template.get("spec") or {}})
    return found


def keeper_of(stateful_set: StatefulSet, pod: Pod | None, *, condemned: bool) -> dict[str, Any] | None:
    """Whom the claims of a pod go with: the set, the pod that is scaled away, or nobody."""
    policy = stateful_set.spec.persistent_volume_claim_retention_policy
    if condemned and policy.when_scaled == "Delete" and pod is not None:
        meta = pod.metadata
        return {"apiVersion": "v1", "kind": "Pod", "name": meta.name, "uid": meta.uid}
    return controller_reference(stateful_set) if policy.when_deleted == "Delete" else None


# -- status ------------------------------------------------------------------------------------------------------------


def plan_status(
    stateful_set: StatefulSet, pods: Sequence[Pod], revisions: Revisions, plan: Plan, collisions: int, now: float
) -> dict[str, Any]:
    """The status for a merge patch; an update that is complete makes its revision the current one."""
    mine = [pod for pod in pods if ordinal_of(stateful_set, pod) is not None]
    ready = [pod for pod in mine if pod.status.phase == "Running" and podutil.is_ready(pod)]
    staying = [pod for pod in mine if not pod.metadata.deletion_timestamp]
    available = sum(1 for pod in ready if is_available(pod, stateful_set.spec.min_ready_seconds, now))
    current = sum(1 for pod in staying if revision_of(pod) == revisions.current) - plan.updating
    updated = sum(1 for pod in staying if revision_of(pod) == revisions.update)
    count = stateful_set.spec.replicas
    current_revision = revisions.current
    rolling = stateful_set.spec.update_strategy.type == "RollingUpdate"
    if rolling and updated == len(mine) == len(ready) == count:
        current, current_revision = updated, revisions.update
    return {
        "observedGeneration": stateful_set.metadata.generation,
        "replicas": len(mine),
        "readyReplicas": len(ready) or None,
        "availableReplicas": available,
        "currentReplicas": max(0, current) or None,
        "updatedReplicas": updated or None,
        "currentRevision": current_revision,
        "updateRevision": revisions.update,
        "collisionCount": collisions,
    }


def same_status(stateful_set: StatefulSet, status: Mapping[str, Any]) -> bool:
    old = stateful_set.status
    return (
        old.observed_generation == status["observedGeneration"]
        and old.replicas == status["replicas"]
        and old.ready_replicas == (status["readyReplicas"] or 0)
        and old.available_replicas == status["availableReplicas"]
        and old.current_replicas == (status["currentReplicas"] or 0)
        and old.updated_replicas == (status["updatedReplicas"] or 0)
        and (old.current_revision, old.update_revision) == (status["currentRevision"], status["updateRevision"])
        and old.collision_count == status["collisionCount"]
    )
