"""DefaultStorageClass, StorageObjectInUseProtection and PersistentVolumeClaimResize.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/, .../storage-classes/#default-storageclass
"""

from __future__ import annotations

from apiserver.admission.chain import CREATE, UPDATE, Attributes, Plugin, is_claims
from apiserver.admission.policies import Policies, newest_default
from apiserver.registry.base import Object, Registry, ResourceDef
from apiserver.state import State
from kubarium.machinery.quantity import Quantity
from kubarium.machinery.resourcelists import NOTHING, amounts

OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
IS_DEFAULT = ("storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class")
FINALIZERS = {
    ("", "persistentvolumes"): "kubernetes.io/pv-protection",
    ("", "persistentvolumeclaims"): "kubernetes.io/pvc-protection",
    ("storage.k8s.io", "volumeattributesclasses"): "kubernetes.io/vac-protection",
}


def class_of(claim: Object) -> str | None:
    """The storage class that a claim names, by annotation or field; None where it names none ("" is a name)."""
    annotations = claim["metadata"].get("annotations") or {}
    if OLD_CLASS in annotations:
        return str(annotations[OLD_CLASS])
    name = (claim.get("spec") or {}).get("storageClassName")
    return None if name is None else str(name)


class DefaultStorageClass(Plugin):
    """A claim that names no class gets the default one, the newest where several say they are it."""

    def __init__(self, state: State, registry: Registry) -> None:
        self._classes = Policies(state, registry, "storage.k8s.io", "storageclasses")

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return is_claims(resource) and not subresource and operation == CREATE

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        if class_of(attributes.obj) is None and (name := newest_default(self._classes.all(), *IS_DEFAULT)):
            attributes.obj.setdefault("spec", {})["storageClassName"] = name


class StorageObjectInUseProtection(Plugin):
    """Volumes, claims and classes get a finalizer: a controller takes it away when nothing uses them any more."""

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return (resource.group, resource.plural) in FINALIZERS and not subresource and operation == CREATE

    async def admit(self, attributes: Attributes) -> None:
        assert attributes.obj is not None
        metadata = attributes.obj["metadata"]
        finalizer = FINALIZERS[attributes.resource.group, attributes.resource.plural]
        finalizers = metadata.get("finalizers") or []
        if finalizer not in finalizers:
            metadata["finalizers"] = [*finalizers, finalizer]


class PersistentVolumeClaimResize(Plugin):
    """Only a bound claim grows, and only where its class lets it."""

    def __init__(self, state: State, registry: Registry) -> None:
        self._classes = Policies(state, registry, "storage.k8s.io", "storageclasses")

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        return is_claims(resource) and not subresource and operation == UPDATE

    async def validate(self, attributes: Attributes) -> None:
        new, old = attributes.obj, attributes.old
        assert new is not None
        assert old is not None
        if _size(new).value <= _size(old).value:
            return
        if (old.get("status") or {}).get("phase") != "Bound":
            raise attributes.forbidden("Only bound persistent volume claims can be expanded")
        name = class_of(new)
        found = await self._classes.get(name) if name and name == class_of(old) else None
        if found is None or not found.get("allowVolumeExpansion"):
            raise attributes.forbidden(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must "
                "support resize"
            )


def _size(claim: Object) -> Quantity:
    requests = ((claim.get("spec") or {}).get("resources") or {}).get("requests")
    return amounts(requests).get("storage", NOTHING)
