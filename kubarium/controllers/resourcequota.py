"""ResourceQuotas: what is used is counted again whenever something goes, and all of it now and then.

The API server charges quotas as objects come and grow; this controller gives back what is no longer used, and sets the
limits that the spec asks for. Objects are counted from the API server itself, not from caches, so that a count is never
older than the event that asked for it.
Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kubarium.controllers.controller import BY_NAMESPACE, Context, Controller
from kubarium.controllers.views import RESOURCEQUOTAS, Owned, ResourceQuota
from kubarium.machinery.errors import MethodNotAllowed, NotFound
from kubarium.machinery.objects import ObjectKey
from kubarium.machinery.quota import counted, rule_of
from kubarium.machinery.quotarules import Rule
from kubarium.machinery.resourcelists import Amounts, add, amounts, only, same, wire_list
from kubarium.machinery.resources import PODS, SERVICES, Resource

PAGE = 500
RESYNC_S = 300.0
SETTLE_S = 1.0
WHOLE = frozenset(
    {("", "pods"), ("", "services"), ("", "persistentvolumeclaims"), ("resource.k8s.io", "resourceclaims")}
)
"""Kinds that are counted by what is in them; of the others only their number counts."""
OVER = ("Succeeded", "Failed")


def plan_status(quota: ResourceQuota, usage: Amounts) -> dict[str, Any] | None:
    """The status that a quota shall have, with what was counted just now; None where it has it already.

    Limits that nobody counts keep what they had.
    """
    hard = amounts(quota.hard)
    used = only({**amounts(quota.status.used), **usage}, hard)
    if same(hard, amounts(quota.status.hard)) and quota.status.hard and same(used, amounts(quota.status.used)):
        return None
    return {"hard": dict(quota.hard), "used": wire_list(used)}


def _lists(quota: ResourceQuota) -> dict[str, dict[str, str]]:
    return {"hard": quota.status.hard, "used": quota.status.used}


def concerned(quota: ResourceQuota, rule: Rule) -> bool:
    """Whether objects of a kind count against a quota."""
    return bool(rule.names(quota.status.hard) or rule.names(quota.hard))


class ResourceQuotaController(Controller[ObjectKey]):
    name = "resourcequota-controller"
    workers = 5

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.kinds = context.all_kinds
        self.quotas = context.informers.of(RESOURCEQUOTAS)
        self.quotas.on_change(self._quota_changed)
        context.informers.of(PODS).on_change(self._pod_changed)
        context.informers.of(SERVICES).on_change(self._service_changed)
        self.kinds.on_change(self._changed)
        self.kinds.on_kinds(self._kinds_changed)

    # -- what happens --------------------------------------------------------------------------------------------------

    def _quota_changed(self, old: ResourceQuota | None, new: ResourceQuota | None) -> None:
        if new is None:
            return
        if old is None or old.spec != new.spec:
            self.queue.add(new.key)
        elif new.hard != new.status.hard or new.hard.keys() - new.status.used.keys():
            self.queue.add_after(new.key, SETTLE_S)  # somebody else has written the status

    def _changed(self, resource: Resource[Owned], old: Any, new: Any) -> None:
        if new is None and old is not None:
            self._count_again(resource.group, resource.plural, old.metadata.namespace)
        elif old is not None and (resource.group, resource.plural) == ("", "persistentvolumeclaims"):
            self._count_again("", resource.plural, new.metadata.namespace)

    def _pod_changed(self, old: Any, new: Any) -> None:
        """A pod whose work is over uses nothing any more."""
        if old is not None and new is not None and (new.status.phase in OVER) != (old.status.phase in OVER):
            self._count_again("", "pods", new.metadata.namespace)

    def _service_changed(self, old: Any, new: Any) -> None:
        if old is not None and new is not None and (old.spec.type, old.spec.ports) != (new.spec.type, new.spec.ports):
            self._count_again("", "services", new.metadata.namespace)

    def _kinds_changed(self, gone: Iterable[tuple[str, str]]) -> None:
        for quota in self.quotas.all():
            self.queue.add(quota.key)

    def _count_again(self, group: str, plural: str, namespace: str) -> None:
        quotas = self.quotas.by_index(BY_NAMESPACE, namespace)
        rule = rule_of(group, plural) if quotas else None
        for quota in quotas:
            if rule is not None and concerned(quota, rule):
                self.queue.add(quota.key)

    # -- counting ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        await self.kinds.synced()
        await super().run()

    async def sync(self, key: ObjectKey) -> None:
        quota = self.quotas.get(key)
        if quota is None:
            return
        self.queue.add_after(key, RESYNC_S)
        fresh = await self.api.get(RESOURCEQUOTAS, key.name, key.namespace)
        usage = await self._usage(fresh)
        if status := plan_status(fresh, usage):
            await self._write(fresh, status)
            self.queue.add_after(key, SETTLE_S)  # what was charged but not stored yet when we counted is there by then

    async def _write(self, quota: ResourceQuota, status: dict[str, Any]) -> None:
        """Guarded by the revision that was counted for. Limits that the spec has dropped go from the status too."""
        meta = quota.metadata
        gone = {kind: dict.fromkeys(was.keys() - status[kind].keys()) for kind, was in _lists(quota).items()}
        merged = {kind: {**gone[kind], **status[kind]} for kind in gone}
        patch = {"metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid}, "status": merged}
        await self.api.patch(RESOURCEQUOTAS, meta.name, patch, meta.namespace, subresource="status")

    async def _usage(self, quota: ResourceQuota) -> Amounts:
        """What is used of the limits in the quota's spec, by kinds that are served."""
        hard = tuple(quota.hard)
        wire = {"spec": quota.spec}
        total: Amounts = {}
        for kind in self.kinds.discovered.preferred("create", "list"):
            rule = rule_of(kind.group, kind.plural) if kind.namespaced else None
            if rule is not None and rule.names(hard):
                resource = self.kinds.served[kind.api_version, kind.kind]
                objects = await self._objects(resource, quota.metadata.namespace)
                add(total, counted(wire, rule, objects, hard, self.clock()))
        return total

    async def _objects(self, resource: Resource[Owned], namespace: str) -> Sequence[Mapping[str, Any]]:
        whole = (resource.group, resource.plural) in WHOLE
        wanted: Resource[dict[str, Any]] = Resource(
            resource.group, resource.version, resource.plural, resource.kind, dict, metadata_only=not whole
        )
        found: list[Mapping[str, Any]] = []
        token = ""
        try:
            while True:
                page = await self.api.list(wanted, namespace, limit=PAGE, continue_token=token)
                found += page.items
                token = page.continue_token
                if not token:
                    return found
        except (NotFound, MethodNotAllowed):
            return found  # gone since discovery
