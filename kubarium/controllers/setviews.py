"""StatefulSets, DaemonSets and their revisions as the controllers see them; pod templates stay wire-shaped."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

from kubarium.machinery.objects import Condition, LabelSelector, ObjectKey, ObjectMeta, wire_name
from kubarium.machinery.resources import Resource


class _View(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, rename=wire_name):
    """As the views of kubarium.machinery.objects."""


class _Object(_View, frozen=True, kw_only=True):
    api_version: str = "apps/v1"
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.metadata.namespace, self.metadata.name)


class ControllerRevision(_Object, frozen=True, kw_only=True):
    kind: str = "ControllerRevision"
    data: dict[str, Any] = {}
    revision: int = 0


class RollingUpdate(_View, frozen=True, kw_only=True):
    partition: int = 0
    max_unavailable: int | str = 1
    max_surge: int | str = 0


class UpdateStrategy(_View, frozen=True, kw_only=True):
    type: str = "RollingUpdate"
    rolling_update: RollingUpdate = RollingUpdate()


class Ordinals(_View, frozen=True, kw_only=True):
    start: int = 0


class RetentionPolicy(_View, frozen=True, kw_only=True):
    when_deleted: str = "Retain"
    when_scaled: str = "Retain"


class StatefulSetSpec(_View, frozen=True, kw_only=True):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: dict[str, Any] = {}
    volume_claim_templates: tuple[dict[str, Any], ...] = ()
    service_name: str = ""
    pod_management_policy: str = "OrderedReady"
    update_strategy: UpdateStrategy = UpdateStrategy()
    revision_history_limit: int = 10
    min_ready_seconds: int = 0
    persistent_volume_claim_retention_policy: RetentionPolicy = RetentionPolicy()
    ordinals: Ordinals = Ordinals()


class StatefulSetStatus(_View, frozen=True, kw_only=True):
    observed_generation: int = 0
    replicas: int = 0
    ready_replicas: int = 0
    current_replicas: int = 0
    updated_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""
    collision_count: int | None = None
    available_replicas: int = 0
    conditions: tuple[Condition, ...] = ()


class StatefulSet(_Object, frozen=True, kw_only=True):
    kind: str = "StatefulSet"
    spec: StatefulSetSpec = StatefulSetSpec()
    status: StatefulSetStatus = StatefulSetStatus()


class DaemonSetSpec(_View, frozen=True, kw_only=True):
    selector: LabelSelector = LabelSelector()
    template: dict[str, Any] = {}
    update_strategy: UpdateStrategy = UpdateStrategy()
    min_ready_seconds: int = 0
    revision_history_limit: int = 10


class DaemonSetStatus(_View, frozen=True, kw_only=True):
    current_number_scheduled: int = 0
    number_misscheduled: int = 0
    desired_number_scheduled: int = 0
    number_ready: int = 0
    observed_generation: int = 0
    updated_number_scheduled: int = 0
    number_available: int = 0
    number_unavailable: int = 0
    collision_count: int | None = None


class DaemonSet(_Object, frozen=True, kw_only=True):
    kind: str = "DaemonSet"
    spec: DaemonSetSpec = DaemonSetSpec()
    status: DaemonSetStatus = DaemonSetStatus()


class _SetSpec(Protocol):
    @property
    def selector(self) -> LabelSelector: ...
    @property
    def template(self) -> dict[str, Any]: ...


class _SetStatus(Protocol):
    @property
    def collision_count(self) -> int | None: ...


class PodSet(Protocol):
    """A StatefulSet or a DaemonSet."""

    @property
    def api_version(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def metadata(self) -> ObjectMeta: ...
    @property
    def spec(self) -> _SetSpec: ...
    @property
    def status(self) -> _SetStatus: ...


STATEFULSETS: Resource[StatefulSet] = Resource("apps", "v1", "statefulsets", "StatefulSet", StatefulSet)
DAEMONSETS: Resource[DaemonSet] = Resource("apps", "v1", "daemonsets", "DaemonSet", DaemonSet)
CONTROLLERREVISIONS: Resource[ControllerRevision] = Resource(
    "apps", "v1", "controllerrevisions", "ControllerRevision", ControllerRevision
)
