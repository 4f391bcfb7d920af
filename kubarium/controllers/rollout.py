"""The plan of a Deployment: how many pods each of its ReplicaSets shall have, and what its status says. Pure.

A rollout is a fixpoint: each sync takes at most one step (make the new ReplicaSet, scale it up, scale old ones down,
clean up), and the status changes of the ReplicaSets bring the next.
Source: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubarium.controllers.names import template_hash
from kubarium.controllers.refs import controller_reference
from kubarium.controllers.views import Deployment, ReplicaSet
from kubarium.machinery.objects import DeploymentCondition
from kubarium.machinery.times import format_timestamp, parse_timestamp

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
HASH_LABEL = "pod-template-hash"
NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED,
        MAXIMUM,
        "deprecated.deployment.rollback.to",
    }
)
NO_DEADLINE = 2**31 - 1


@dataclass(slots=True)
class Replica:
    """One ReplicaSet while the plan is made; `size` and `annotations` are what it shall have."""

    rs: ReplicaSet
    size: int
    annotations: dict[str, str]
    min_ready_seconds: int

    @classmethod
    def of(cls, rs: ReplicaSet) -> Replica:
        return cls(rs, rs.spec.replicas, dict(rs.metadata.annotations), rs.spec.min_ready_seconds)

    @property
    def name(self) -> str:
        return self.rs.metadata.name

    @property
    def available(self) -> int:
        return self.rs.status.available_replicas

    @property
    def changed(self) -> bool:
        spec = self.rs.spec
        return (self.size, self.min_ready_seconds) != (spec.replicas, spec.min_ready_seconds) or (
            self.annotations != self.rs.metadata.annotations
        )


@dataclass(frozen=True, slots=True)
class Plan:
    """What one sync does, in this order: create, change, delete, annotate the Deployment, write its status."""

    create: dict[str, Any] | None = None
    changes: tuple[Replica, ...] = ()
    delete: tuple[ReplicaSet, ...] = ()
    annotations: dict[str, str] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    requeue_after_s: float | None = None


def plan_deployment(deployment: Deployment, owned: Sequence[ReplicaSet], *, old_pods_running: bool, now: float) -> Plan:
    """The next step. `owned` are its ReplicaSets; `old_pods_running` matters to strategy Recreate only: whether a pod
    of another template than today's is still there (also one being deleted)."""
    return _Rollout(deployment, owned, old_pods_running, now).plan()


class _Rollout:
    """The working state of one plan."""

    def __init__(self, d: Deployment, owned: Sequence[ReplicaSet], old_pods_running: bool, now: float) -> None:
        self.d = d
        self.now = now
        self.old_pods_running = old_pods_running
        self.max_surge, self.max_unavailable = fenceposts(d)
        found = find_new(d, owned)
        self.new = Replica.of(found) if found else None
        self.old = [Replica.of(rs) for rs in sorted(owned, key=_age) if rs is not found]
        self.create: dict[str, Any] | None = None
        self.delete: list[ReplicaSet] = []
        self.annotations: dict[str, str] = {}
        self.conditions = {c.type: c for c in d.status.conditions}

    @property
    def all(self) -> list[Replica]:
        return [*self.old, *([self.new] if self.new else [])]

    def plan(self) -> Plan:
        if not self.d.metadata.deletion_timestamp:
            self._note_paused()
            self._step()
        status = self._status()
        return Plan(
            self.create,
            tuple(replica for replica in self.all if replica.changed),
            tuple(self.delete),
            self.annotations,
            status,
            self._requeue_after(),
        )

    def _step(self) -> None:
        if self.d.spec.paused or self._was_scaled():
            self._sync_revision(create=False)
            self._scale()
            if self.d.spec.paused:
                self._clean_up()
        elif self.d.spec.strategy.type == "Recreate":
            self._recreate()
        else:
            self._roll()

    # -- the new ReplicaSet and revisions

    def _sync_revision(self, *, create: bool) -> None:
        """Number the new ReplicaSet one above the old ones; make it if it is missing and `create`."""
        revision = str(max((revision_of(old.rs) for old in self.old), default=0) + 1)
        if self.new is not None:
            _annotate(self.new, self.d, revision)
            self.new.min_ready_seconds = self.d.spec.min_ready_seconds
            self._set_deployment_revision(self.new.annotations[REVISION])
            if "Progressing" not in self.conditions and has_deadline(self.d):
                text = f'Found new replica set "{self.new.name}"'
                self._condition("Progressing", "True", "FoundNewReplicaSet", text)
        elif create:
            size = self._new_size(0)
            self.create = new_replicaset(self.d, revision, size, self.max_surge)
            self._set_deployment_revision(revision)
            if has_deadline(self.d):
                text = f'Created new replica set "{self.create["metadata"]["name"]}"'
                self._condition("Progressing", "True", "NewReplicaSetCreated", text)

    def _set_deployment_revision(self, revision: str) -> None:
        if self.d.metadata.annotations.get(REVISION) != revision:
            self.annotations[REVISION] = revision

    def _new_size(self, current: int) -> int:
        """Pods that the new ReplicaSet, which has `current`, may have now."""
        wanted = self.d.spec.replicas
        if self.d.spec.strategy.type == "Recreate":
            return wanted
        room = wanted + self.max_surge - sum(replica.size for replica in self.all)
        return current if room <= 0 else current + min(room, wanted - current)

    # -- strategies

    def _roll(self) -> None:
        self._sync_revision(create=True)
        if self.new is None or self._scale_new_up():
            return
        if self._scale_old_down():
            return
        if self._complete():
            self._clean_up()

    def _scale_new_up(self) -> bool:
        assert self.new is not None
        wanted = self.d.spec.replicas
        if self.new.size == wanted:
            return False
        return self._resize(self.new, wanted if self.new.size > wanted else self._new_size(self.new.size))

    def _scale_old_down(self) -> bool:
        """Take pods from old ReplicaSets, those that are not available first, and never below the minimum available."""
        assert self.new is not None
        if not any(old.size for old in self.old):
            return False
        at_least = self.d.spec.replicas - self.max_unavailable
        total = sum(replica.size for replica in self.all)
        spare = total - at_least - (self.new.size - self.new.available)
        if spare <= 0:
            return False
        return self._drop_unhealthy(spare) | self._drop_healthy(at_least)

    def _drop_unhealthy(self, spare: int) -> bool:
        changed = False
        for old in self.old:
            unhealthy = old.size - old.available
            if old.size and unhealthy > 0 and spare > 0:
                dropped = min(spare, unhealthy)
                spare -= dropped
                changed |= self._resize(old, old.size - dropped)
        return changed

    def _drop_healthy(self, at_least: int) -> bool:
        spare = sum(replica.available for replica in self.all) - at_least
        changed = False
        for old in self.old:
            if old.size and spare > 0:
                dropped = min(spare, old.size)
                spare -= dropped
                changed |= self._resize(old, old.size - dropped)
        return changed

    def _recreate(self) -> None:
        self._sync_revision(create=False)
        resized = [self._resize(old, 0) for old in self.old]
        if any(resized) or self.old_pods_running:
            return
        self._sync_revision(create=True)
        if self.new is not None and not self._resize(self.new, self.d.spec.replicas) and self._complete():
            self._clean_up()

    # -- scaling

    def _was_scaled(self) -> bool:
        wanted = str(self.d.spec.replicas)
        return any(r.size and r.annotations.get(DESIRED, wanted) != wanted for r in self.all)

    def _scale(self) -> None:
        """Spread a new number of replicas over the ReplicaSets in proportion to their sizes."""
        wanted = self.d.spec.replicas
        active = [replica for replica in self.all if replica.size]
        if len(active) <= 1:
            if one := (active[0] if active else self.new or (self.old[-1] if self.old else None)):
                self._resize(one, wanted)
        elif self._saturated():
            for old in self.old:
                self._resize(old, 0)
        elif self.d.spec.strategy.type != "Recreate":
            self._scale_in_proportion(active)

    def _saturated(self) -> bool:
        new, wanted = self.new, self.d.spec.replicas
        return new is not None and new.size == wanted == new.available and new.annotations.get(DESIRED) == str(wanted)

    def _scale_in_proportion(self, active: list[Replica]) -> None:
        wanted = self.d.spec.replicas
        allowed = wanted + self.max_surge if wanted else 0
        to_add = allowed - sum(replica.size for replica in active)
        newest_first = sorted(active, key=lambda r: _age(r.rs), reverse=True)
        order = sorted(newest_first if to_add > 0 else reversed(newest_first), key=lambda r: r.size, reverse=True)
        sizes, added = [], 0
        for replica in order:
            share = self._share(replica, to_add, to_add - added) if to_add else 0
            sizes.append(replica.size + share)
            added += share
        if to_add:
            sizes[0] = max(0, sizes[0] + to_add - added)
        for replica, size in zip(order, sizes, strict=True):
            self._resize(replica, size, force_annotations=True)

    def _share(self, replica: Replica, to_add: int, left: int) -> int:
        """What of `to_add` falls to one ReplicaSet: its part of the size that the Deployment had before."""
        if not left:
            return 0
        if self.d.spec.replicas == 0:
            fraction = -replica.size
        else:
            before = _number(replica.annotations.get(MAXIMUM)) or self.d.status.replicas
            if not before:
                return 0
            fraction = _round(replica.size * (self.d.spec.replicas + self.max_surge) / before) - replica.size
        return min(fraction, left) if to_add > 0 else max(fraction, left)

    def _resize(self, replica: Replica, size: int, *, force_annotations: bool = False) -> bool:
        """Set a size; True if that changes it. The annotations let the next change be spread in proportion."""
        changed = size != replica.size
        if changed or force_annotations or self._was_resized_elsewhere(replica):
            replica.size = size
            replica.annotations |= _sizes(self.d, self.max_surge)
        return changed

    def _was_resized_elsewhere(self, replica: Replica) -> bool:
        return replica.size > 0 and not _sizes(self.d, self.max_surge).items() <= replica.annotations.items()

    # -- cleaning up, conditions, status

    def _clean_up(self) -> None:
        """Delete the oldest empty ReplicaSets beyond the history limit."""
        limit = self.d.spec.revision_history_limit
        if limit is None or limit == NO_DEADLINE:
            return
        alive = [old.rs for old in self.old if not old.rs.metadata.deletion_timestamp]
        excess = sorted(alive, key=revision_of)[: max(0, len(alive) - limit)]
        self.delete = [rs for rs in excess if _is_empty(rs)]

    def _complete(self) -> bool:
        s, wanted = self._counts(), self.d.spec.replicas
        return s["updatedReplicas"] == s["replicas"] == s["availableReplicas"] == wanted

    def _counts(self) -> dict[str, int]:
        statuses = [replica.rs.status for replica in self.all]
        available = sum(status.available_replicas for status in statuses)
        size = sum(replica.size for replica in self.all) + (self.create["spec"]["replicas"] if self.create else 0)
        return {
            "replicas": sum(status.replicas for status in statuses),
            "updatedReplicas": self.new.rs.status.replicas if self.new else 0,
            "readyReplicas": sum(status.ready_replicas for status in statuses),
            "availableReplicas": available,
            "unavailableReplicas": max(0, size - available),
        }

    def _note_paused(self) -> None:
        """Pausing and resuming restart the clock of the progress deadline."""
        if not has_deadline(self.d):
            return
        current = self.conditions.get("Progressing")
        if current is not None and current.reason == "ProgressDeadlineExceeded":
            return
        was_paused = current is not None and current.reason == "DeploymentPaused"
        if self.d.spec.paused and not was_paused:
            self._condition("Progressing", "Unknown", "DeploymentPaused", "Deployment is paused")
        elif not self.d.spec.paused and was_paused:
            self._condition("Progressing", "Unknown", "DeploymentResumed", "Deployment is resumed")

    def _status(self) -> dict[str, Any]:
        counts = self._counts()
        self._note_available(counts["availableReplicas"])
        if not self.d.metadata.deletion_timestamp and not self.d.spec.paused:
            self._note_progress(counts)
        self._note_failure()
        return {
            "observedGeneration": self.d.metadata.generation,
            **{name: count or None for name, count in counts.items()},
            "collisionCount": self.d.status.collision_count or None,
            "conditions": [wire_condition(condition) for condition in self.conditions.values()] or None,
        }

    def _note_available(self, available: int) -> None:
        if available >= self.d.spec.replicas - self.max_unavailable:
            text = "Deployment has minimum availability."
            self._condition("Available", "True", "MinimumReplicasAvailable", text)
        else:
            text = "Deployment does not have minimum availability."
            self._condition("Available", "False", "MinimumReplicasUnavailable", text)

    def _note_progress(self, counts: Mapping[str, int]) -> None:
        if not has_deadline(self.d):
            self.conditions.pop("Progressing", None)
            return
        current = self.conditions.get("Progressing")
        settled = counts["replicas"] == counts["updatedReplicas"] and (
            current is not None and current.reason == "NewReplicaSetAvailable"
        )
        if settled:
            return
        name = self.new.name if self.new else self.create["metadata"]["name"] if self.create else ""
        what = f'ReplicaSet "{name}"' if name else f'Deployment "{self.d.metadata.name}"'
        if self._complete():
            text = f"{what} has successfully progressed."
            self._condition("Progressing", "True", "NewReplicaSetAvailable", text)
        elif self._progressing(counts):
            self._renew_condition("Progressing", "True", "ReplicaSetUpdated", f"{what} is progressing.")
        elif self._timed_out():
            text = f"{what} has timed out progressing."
            self._condition("Progressing", "False", "ProgressDeadlineExceeded", text)

    def _progressing(self, counts: Mapping[str, int]) -> bool:
        old = self.d.status
        return (
            counts["updatedReplicas"] > old.updated_replicas
            or counts["replicas"] - counts["updatedReplicas"] < old.replicas - old.updated_replicas
            or counts["readyReplicas"] > old.ready_replicas
            or counts["availableReplicas"] > old.available_replicas
        )

    def _timed_out(self) -> bool:
        current = self.conditions.get("Progressing")
        if current is None or current.reason == "NewReplicaSetAvailable":
            return False
        return current.reason == "ProgressDeadlineExceeded" or self._deadline_in(current) < 0

    def _deadline_in(self, progressing: DeploymentCondition) -> float:
        since = parse_timestamp(progressing.last_update_time)
        return (self.now if since is None else since) + (self.d.spec.progress_deadline_seconds or 0) - self.now

    def _note_failure(self) -> None:
        conditions = (c for replica in reversed(self.all) for c in replica.rs.status.conditions)
        failures = [c for c in conditions if c.type == "ReplicaFailure"]
        if failures:
            self._condition("ReplicaFailure", failures[0].status, failures[0].reason, failures[0].message)
        else:
            self.conditions.pop("ReplicaFailure", None)

    def _condition(self, kind: str, status: str, reason: str, message: str) -> None:
        """Set a condition; the same status and reason leave it as it is."""
        old = self.conditions.get(kind)
        if old is None or (old.status, old.reason) != (status, reason):
            self._renew_condition(kind, status, reason, message)

    def _renew_condition(self, kind: str, status: str, reason: str, message: str) -> None:
        """Set a condition with the time of now; the transition time stays where the status stays."""
        stamp = format_timestamp(self.now)
        old = self.conditions.get(kind)
        since = old.last_transition_time if old is not None and old.status == status else stamp
        self.conditions[kind] = DeploymentCondition(
            type=kind, status=status, reason=reason, message=message, last_update_time=stamp, last_transition_time=since
        )

    def _requeue_after(self) -> float | None:
        """When to look again whether the progress deadline has passed, if nothing else happens."""
        current = self.conditions.get("Progressing")
        if self.d.spec.paused or current is None or not has_deadline(self.d) or self._complete():
            return None
        if current.reason in ("NewReplicaSetAvailable", "ProgressDeadlineExceeded"):
            return None
        return max(0.0, self._deadline_in(current)) + 1.0


# -- parts that stand alone


def fenceposts(d: Deployment) -> tuple[int, int]:
    """maxSurge and maxUnavailable as numbers: percentages round surge up and unavailability down; not both are 0."""
    rolling = d.spec.strategy.rolling_update
    if d.spec.strategy.type == "Recreate" or rolling is None:
        return 0, 0
    surge = _scaled(rolling.max_surge, d.spec.replicas, math.ceil)
    unavailable = _scaled(rolling.max_unavailable, d.spec.replicas, math.floor)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, d.spec.replicas)


def _scaled(value: int | str | None, of: int, rounding: Any) -> int:
    if value is None:
        return 0
    if isinstance(value, str) and value.endswith("%"):
        return int(rounding(int(value[:-1]) * of / 100))
    return int(value)


def find_new(d: Deployment, owned: Iterable[ReplicaSet]) -> ReplicaSet | None:
    """The oldest ReplicaSet whose template is the Deployment's, but for the hash label."""
    wanted = comparable(d.spec.template)
    return next((rs for rs in sorted(owned, key=_age) if comparable(rs.spec.template) == wanted), None)


def comparable(template: Mapping[str, Any]) -> dict[str, Any]:
    """A template without its hash label and without what is as good as absent."""
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {k: v for k, v in (metadata.get("labels") or {}).items() if k != HASH_LABEL}
    pruned: dict[str, Any] = _pruned({**template, "metadata": metadata})
    return pruned


def _pruned(value: Any) -> Any:
    if isinstance(value, dict):
        pruned = {key: _pruned(item) for key, item in value.items()}
        return {key: item for key, item in pruned.items() if item is not None and item != {} and item != []}
    return [_pruned(item) for item in value] if isinstance(value, list) else value


def new_replicaset(d: Deployment, revision: str, size: int, max_surge: int) -> dict[str, Any]:
    """The ReplicaSet, on the wire, for the Deployment's template. Its name is determined by the template."""
    word = template_hash(comparable(d.spec.template), d.status.collision_count)
    template = dict(d.spec.template)
    metadata = dict(template.get("metadata") or {})
    labels = {**(metadata.get("labels") or {}), HASH_LABEL: word}
    template["metadata"] = {**metadata, "labels": labels}
    selector: dict[str, Any] = {"matchLabels": {**d.spec.selector.match_labels, HASH_LABEL: word}}
    if d.spec.selector.match_expressions:
        selector["matchExpressions"] = [
            {"key": e.key, "operator": e.operator, **({"values": list(e.values)} if e.values else {})}
            for e in d.spec.selector.match_expressions
        ]
    return {
        "metadata": {
            "name": f"{d.metadata.name}-{word}",
            "labels": labels,
            "annotations": {**copied_annotations(d), REVISION: revision, **_sizes(d, max_surge)},
            "ownerReferences": [controller_reference(d)],
        },
        "spec": {
            "replicas": size,
            "selector": selector,
            "template": template,
            **({"minReadySeconds": d.spec.min_ready_seconds} if d.spec.min_ready_seconds else {}),
        },
    }


def copied_annotations(d: Deployment) -> dict[str, str]:
    """What the newest ReplicaSet takes over (the change cause above all), for a rollback to show and restore."""
    return {key: value for key, value in d.metadata.annotations.items() if key not in NOT_COPIED}


def _annotate(new: Replica, d: Deployment, revision: str) -> None:
    new.annotations |= copied_annotations(d)
    old = new.annotations.get(REVISION)
    if _number(old) < _number(revision):
        if old:
            history = new.annotations.get(REVISION_HISTORY)
            new.annotations[REVISION_HISTORY] = f"{history},{old}" if history else old
        new.annotations[REVISION] = revision


def _sizes(d: Deployment, max_surge: int) -> dict[str, str]:
    return {DESIRED: str(d.spec.replicas), MAXIMUM: str(d.spec.replicas + max_surge)}


def revision_of(rs: ReplicaSet) -> int:
    """0 where the annotation is missing or no number."""
    return _number(rs.metadata.annotations.get(REVISION))


def has_deadline(d: Deployment) -> bool:
    return d.spec.progress_deadline_seconds is not None and d.spec.progress_deadline_seconds != NO_DEADLINE


def _number(text: str | None) -> int:
    return int(text) if text and text.isdecimal() else 0


def _round(value: float) -> int:
    return math.floor(value + 0.5)


def _age(rs: ReplicaSet) -> tuple[str, str]:
    return rs.metadata.creation_timestamp, rs.metadata.name


def _is_empty(rs: ReplicaSet) -> bool:
    observed = rs.metadata.generation <= rs.status.observed_generation
    return observed and not rs.spec.replicas and not rs.status.replicas and not rs.metadata.deletion_timestamp


def wire_condition(c: DeploymentCondition) -> dict[str, str]:
    """A condition as the API has it."""
    return {
        "type": c.type,
        "status": c.status,
        "lastUpdateTime": c.last_update_time,
        "lastTransitionTime": c.last_transition_time,
        "reason": c.reason,
        "message": c.message,
    }
