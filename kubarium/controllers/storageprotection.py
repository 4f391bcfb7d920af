"""Claims, volumes and volume attributes classes go only when nobody uses them: their finalizers are taken away then.

Source: https://kubernetes.io/docs/concepts/storage/persistent-volumes/#storage-object-in-use-protection
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kubarium.controllers.controller import BY_NAMESPACE, Context, Controller
from kubarium.controllers.refs import controller_uid
from kubarium.controllers.views import CLAIMS, VOLUMEATTRIBUTESCLASSES, VOLUMES, Claim, PartialObject, Volume
from kubarium.machinery.client import Api
from kubarium.machinery.errors import NotFound
from kubarium.machinery.objects import ObjectKey, Pod
from kubarium.machinery.resources import PODS, Resource

OF_CLAIMS = "kubernetes.io/pvc-protection"
OF_VOLUMES = "kubernetes.io/pv-protection"
OF_CLASSES = "kubernetes.io/vac-protection"


def waits(obj: Any, finalizer: str) -> bool:
    return bool(obj.metadata.deletion_timestamp) and finalizer in obj.metadata.finalizers


def lacks(obj: Any, finalizer: str) -> bool:
    """Made before its admission plugin was on, or robbed of its finalizer."""
    return not obj.metadata.deletion_timestamp and finalizer not in obj.metadata.finalizers


async def write_finalizer(api: Api, resource: Resource[Any], obj: Any, finalizer: str, *, keep: bool) -> None:
    meta = obj.metadata
    names = [name for name in meta.finalizers if name != finalizer] + ([finalizer] if keep else [])
    patch = {"metadata": {"resourceVersion": meta.resource_version, "finalizers": names or None}}
    try:
        await api.patch(resource, meta.name, patch, meta.namespace)
    except NotFound:
        return


def claims_of(pod: Pod) -> list[str]:
    """The names of the claims that a pod's volumes stand for."""
    names = []
    for volume in pod.spec.volumes:
        if volume.persistent_volume_claim is not None:
            names.append(volume.persistent_volume_claim.claim_name)
        elif volume.ephemeral is not None:
            names.append(f"{pod.metadata.name}-{volume.name}")
    return names


def uses(pod: Pod, claim: Claim) -> bool:
    """Whether a pod on a node needs the claim. A pod without a node will not be started with a claim that goes."""
    if not pod.spec.node_name:
        return False
    meta = claim.metadata
    if any(v.persistent_volume_claim and v.persistent_volume_claim.claim_name == meta.name for v in pod.spec.volumes):
        return True
    shut_down = pod.metadata.deletion_timestamp and pod.metadata.deletion_grace_period_seconds == 0
    own = controller_uid(claim) == pod.metadata.uid
    return own and not shut_down and meta.name in claims_of(pod)


class ClaimProtectionController(Controller[ObjectKey]):
    name = "persistentvolumeclaim-protection-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.claims = context.informers.of(CLAIMS)
        self.pods = context.informers.of(PODS)
        self.claims.on_change(self._claim_changed)
        self.pods.on_change(self._pod_changed)

    def _claim_changed(self, old: Claim | None, new: Claim | None) -> None:
        if new is not None and (waits(new, OF_CLAIMS) or lacks(new, OF_CLAIMS)):
            self.queue.add(new.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        pod = new or old
        assert pod is not None
        if new is None or not new.spec.node_name or new.status.phase in ("Succeeded", "Failed"):
            for name in claims_of(pod):
                self.queue.add(ObjectKey(pod.metadata.namespace, name))

    async def sync(self, key: ObjectKey) -> None:
        claim = self.claims.get(key)
        if claim is None:
            return
        if lacks(claim, OF_CLAIMS):
            await write_finalizer(self.api, CLAIMS, claim, OF_CLAIMS, keep=True)
        elif waits(claim, OF_CLAIMS) and not await self._is_used(claim):
            await write_finalizer(self.api, CLAIMS, claim, OF_CLAIMS, keep=False)

    async def _is_used(self, claim: Claim) -> bool:
        """By what the cache knows, and then, as a pod may be too new for it, by the API server itself."""
        namespace = claim.metadata.namespace
        if any(uses(pod, claim) for pod in self.pods.by_index(BY_NAMESPACE, namespace)):
            return True
        return any(uses(pod, claim) for pod in (await self.api.list(PODS, namespace)).items)


class VolumeProtectionController(Controller[ObjectKey]):
    name = "persistentvolume-protection-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.volumes = context.informers.of(VOLUMES)
        self.volumes.on_change(self._changed)

    def _changed(self, old: Volume | None, new: Volume | None) -> None:
        if new is not None and (waits(new, OF_VOLUMES) or lacks(new, OF_VOLUMES)):
            self.queue.add(new.key)

    async def sync(self, key: ObjectKey) -> None:
        volume = self.volumes.get(key)
        if volume is None:
            return
        if lacks(volume, OF_VOLUMES):
            await write_finalizer(self.api, VOLUMES, volume, OF_VOLUMES, keep=True)
        elif waits(volume, OF_VOLUMES) and volume.status.phase != "Bound":
            await write_finalizer(self.api, VOLUMES, volume, OF_VOLUMES, keep=False)


def classes_of(obj: Claim | Volume) -> set[str]:
    """The volume attributes classes that a claim or a volume has, had last or is to have."""
    names = {obj.spec.volume_attributes_class_name}
    if isinstance(obj, Claim):
        names.add(obj.status.current_volume_attributes_class_name)
        names.add(obj.status.modify_volume_status.target_volume_attributes_class_name)
    return names - {""}


class ClassProtectionController(Controller[str]):
    name = "volumeattributesclass-protection-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.classes = context.informers.of(VOLUMEATTRIBUTESCLASSES)
        self.claims = context.informers.of(CLAIMS)
        self.volumes = context.informers.of(VOLUMES)
        self.classes.on_change(self._class_changed)
        self.claims.on_change(self._user_changed)
        self.volumes.on_change(self._user_changed)

    def _class_changed(self, old: PartialObject | None, new: PartialObject | None) -> None:
        if new is not None and (waits(new, OF_CLASSES) or lacks(new, OF_CLASSES)):
            self.queue.add(new.metadata.name)

    def _user_changed(self, old: Claim | Volume | None, new: Claim | Volume | None) -> None:
        if old is not None:
            for name in classes_of(old) - (classes_of(new) if new else set()):
                self.queue.add(name)

    async def sync(self, name: str) -> None:
        found = self.classes.get(ObjectKey("", name))
        if found is None:
            return
        if lacks(found, OF_CLASSES):
            await write_finalizer(self.api, VOLUMEATTRIBUTESCLASSES, found, OF_CLASSES, keep=True)
        elif waits(found, OF_CLASSES) and not self._is_used(name, (*self.claims.all(), *self.volumes.all())):
            await write_finalizer(self.api, VOLUMEATTRIBUTESCLASSES, found, OF_CLASSES, keep=False)

    @staticmethod
    def _is_used(name: str, users: Iterable[Claim | Volume]) -> bool:
        return any(name in classes_of(user) for user in users)
