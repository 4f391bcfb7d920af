"""Views that only controllers need: objects whose pod template stays wire-shaped, and objects read for metadata only.

A template is copied on (Deployment to ReplicaSet to Pod), so it must keep fields that no view knows: it stays a dict.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from kubarium.machinery import objects, resources
from kubarium.machinery.objects import LabelSelector, ObjectKey, ObjectMeta, wire_name
from kubarium.machinery.resources import Resource


class _View(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, rename=wire_name):
    """As the views of kubarium.machinery.objects."""


class _Object(_View, frozen=True, kw_only=True):
    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.metadata.namespace, self.metadata.name)


class PartialObject(_Object, frozen=True, kw_only=True):
    """Any object, of which only the metadata is kept."""


class OwnedMeta(_View, frozen=True, kw_only=True):
    """What of an object's metadata says who owns it and whether it goes: every object of a cluster is kept so."""

    name: str = ""
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    deletion_timestamp: str = ""
    owner_references: tuple[objects.OwnerReference, ...] = ()
    finalizers: tuple[str, ...] = ()


class Owned(_View, frozen=True, kw_only=True):
    metadata: OwnedMeta = OwnedMeta()


class ReplicaSetSpec(_View, frozen=True, kw_only=True):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: dict[str, Any] = {}
    min_ready_seconds: int = 0


class ReplicaSet(_Object, frozen=True, kw_only=True):
    api_version: str = "apps/v1"
    kind: str = "ReplicaSet"
    spec: ReplicaSetSpec = ReplicaSetSpec()
    status: objects.ReplicaSetStatus = objects.ReplicaSetStatus()


class ReplicationControllerSpec(_View, frozen=True, kw_only=True):
    replicas: int = 1
    labels: dict[str, str] = msgspec.field(default_factory=dict, name="selector")
    template: dict[str, Any] = {}
    min_ready_seconds: int = 0

    @property
    def selector(self) -> LabelSelector:
        return LabelSelector(match_labels=self.labels)


class ReplicationController(_Object, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "ReplicationController"
    spec: ReplicationControllerSpec = ReplicationControllerSpec()
    status: objects.ReplicaSetStatus = objects.ReplicaSetStatus()


class DeploymentSpec(_View, frozen=True, kw_only=True):
    replicas: int = 1
    selector: LabelSelector = LabelSelector()
    template: dict[str, Any] = {}
    strategy: objects.DeploymentStrategy = objects.DeploymentStrategy()
    min_ready_seconds: int = 0
    revision_history_limit: int | None = None
    paused: bool = False
    progress_deadline_seconds: int | None = None


class Deployment(_Object, frozen=True, kw_only=True):
    api_version: str = "apps/v1"
    kind: str = "Deployment"
    spec: DeploymentSpec = DeploymentSpec()
    status: objects.DeploymentStatus = objects.DeploymentStatus()


class ResourceQuotaStatus(_View, frozen=True, kw_only=True):
    hard: dict[str, str] = {}
    used: dict[str, str] = {}


class ResourceQuota(_Object, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "ResourceQuota"
    spec: dict[str, Any] = {}
    status: ResourceQuotaStatus = ResourceQuotaStatus()

    @property
    def hard(self) -> dict[str, str]:
        """The limits that are asked for; those in force are in the status."""
        return self.spec.get("hard") or {}


class ClaimSpec(_View, frozen=True, kw_only=True):
    volume_attributes_class_name: str = ""


class ModifyVolumeStatus(_View, frozen=True, kw_only=True):
    target_volume_attributes_class_name: str = ""


class ClaimStatus(_View, frozen=True, kw_only=True):
    current_volume_attributes_class_name: str = ""
    modify_volume_status: ModifyVolumeStatus = ModifyVolumeStatus()


class Claim(_Object, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "PersistentVolumeClaim"
    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()


class PhaseStatus(_View, frozen=True, kw_only=True):
    phase: str = ""


class Volume(_Object, frozen=True, kw_only=True):
    api_version: str = "v1"
    kind: str = "PersistentVolume"
    spec: ClaimSpec = ClaimSpec()
    status: PhaseStatus = PhaseStatus()


class BudgetSpec(_View, frozen=True, kw_only=True):
    min_available: int | str | None = None
    max_unavailable: int | str | None = None
    selector: LabelSelector | None = None


class BudgetStatus(_View, frozen=True, kw_only=True):
    observed_generation: int = 0
    disrupted_pods: dict[str, str] = {}
    disruptions_allowed: int = 0
    current_healthy: int = 0
    desired_healthy: int = 0
    expected_pods: int = 0
    conditions: tuple[objects.Condition, ...] = ()


class Budget(_Object, frozen=True, kw_only=True):
    api_version: str = "policy/v1"
    kind: str = "PodDisruptionBudget"
    spec: BudgetSpec = BudgetSpec()
    status: BudgetStatus = BudgetStatus()


CLAIMS: Resource[Claim] = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim", Claim)
VOLUMES: Resource[Volume] = Resource("", "v1", "persistentvolumes", "PersistentVolume", Volume, namespaced=False)
VOLUMEATTRIBUTESCLASSES: Resource[PartialObject] = Resource(
    "storage.k8s.io", "v1", "volumeattributesclasses", "VolumeAttributesClass", PartialObject, namespaced=False
)
BUDGETS: Resource[Budget] = Resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", Budget)
RESOURCEQUOTAS: Resource[ResourceQuota] = Resource("", "v1", "resourcequotas", "ResourceQuota", ResourceQuota)
REPLICASETS: Resource[ReplicaSet] = Resource("apps", "v1", "replicasets", "ReplicaSet", ReplicaSet)
REPLICATIONCONTROLLERS: Resource[ReplicationController] = Resource(
    "", "v1", "replicationcontrollers", "ReplicationController", ReplicationController
)
DEPLOYMENTS: Resource[Deployment] = Resource("apps", "v1", "deployments", "Deployment", Deployment)

ALL: tuple[Resource[Any], ...] = tuple(value for value in vars(resources).values() if isinstance(value, Resource))
"""Every resource that the machinery names: what the garbage collector watches and what a namespace's end empties."""


def metadata_only(resource: Resource[Any]) -> Resource[PartialObject]:
    """The same collection, decoded to metadata."""
    return replace(resource, view=PartialObject)
