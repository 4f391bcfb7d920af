"""Namespace deletion: what is in a namespace goes, pods first, then its finalizer `kubernetes`, then the namespace.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/, KEP-5080 (ordered deletion).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kubarium.controllers.controller import Context, Controller, NotYet
from kubarium.controllers.kinds import resource_of
from kubarium.controllers.views import Owned
from kubarium.machinery.discovery import Discovered
from kubarium.machinery.errors import ApiError, MethodNotAllowed, NotFound
from kubarium.machinery.objects import Namespace, ObjectKey
from kubarium.machinery.resources import NAMESPACES, PODS, Resource
from kubarium.machinery.times import format_timestamp, parse_timestamp

FINALIZER = "kubernetes"
AT_ONCE = 8
"""So many kinds of a namespace are emptied at a time."""
INCOMPLETE = "unable to retrieve the complete list of server APIs"
OVER = ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class Remaining:
    """What a namespace still holds: objects by resource (`pods.` or `deployments.apps`), and by finalizer."""

    objects: Mapping[str, int] = field(default_factory=dict)
    finalizers: Mapping[str, int] = field(default_factory=dict)
    failures: Sequence[str] = ()
    undiscovered: str = ""  # what went wrong with discovery

    @property
    def nothing(self) -> bool:
        return not self.objects and not self.failures and not self.undiscovered


def needs_work(namespace: Namespace) -> bool:
    return bool(namespace.metadata.deletion_timestamp) and FINALIZER in namespace.spec.finalizers


def plan_conditions(namespace: Namespace, remaining: Remaining, now: float) -> list[dict[str, str]]:
    """The conditions that say what the deletion waits for, with upstream's reasons and messages."""
    content = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(remaining.objects.items()))
    held = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(remaining.finalizers.items()))
    failed = ", ".join(sorted(remaining.failures))
    number = len(remaining.failures)

    def condition(kind: str, fine: tuple[str, str], reason: str, trouble: str, *, is_true: bool) -> dict[str, str]:
        return _condition(namespace, kind, (reason, trouble) if is_true else None, fine, now)

    return [
        condition(
            "NamespaceDeletionDiscoveryFailure",
            ("ResourcesDiscovered", "All resources successfully discovered"),
            "DiscoveryFailed",
            remaining.undiscovered,
            is_true=bool(remaining.undiscovered),
        ),
        condition(
            "NamespaceDeletionGroupVersionParsingFailure",
            ("ParsedGroupVersions", "All legacy kube types successfully parsed"),
            "GroupVersionParsingFailed",
            "",
            is_true=False,
        ),
        condition(
            "NamespaceDeletionContentFailure",
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
            "ContentDeletionFailed",
            f"Failed to delete all resource types, {number} remaining: {failed}",
            is_true=bool(failed),
        ),
        condition(
            "NamespaceContentRemaining",
            ("ContentRemoved", "All content successfully removed"),
            "SomeResourcesRemain",
            f"Some resources are remaining: {content}",
            is_true=bool(content),
        ),
        condition(
            "NamespaceFinalizersRemaining",
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            "SomeFinalizersRemain",
            f"Some content in the namespace has finalizers remaining: {held}",
            is_true=bool(held),
        ),
    ]


def _condition(
    namespace: Namespace, kind: str, trouble: tuple[str, str] | None, fine: tuple[str, str], now: float
) -> dict[str, str]:
    reason, message = trouble or fine
    status = "True" if trouble else "False"
    old = next((c for c in namespace.status.conditions if c.type == kind), None)
    since = old.last_transition_time if old is not None and old.status == status else format_timestamp(now)
    return {"type": kind, "status": status, "lastTransitionTime": since, "reason": reason, "message": message}


def group_resource(resource: Resource[Any]) -> str:
    """`pods.` and `deployments.apps`, as the conditions print it."""
    return f"{resource.plural}.{resource.group}"


def stubborn(namespace: str, resource: Resource[Any], left: Iterable[Any], *, in_grace: bool) -> str:
    """What to say of objects that are there though nothing holds them; "" where something does."""
    if in_grace or not left or any(obj.metadata.finalizers for obj in left):
        return ""
    where = f"{resource.api_version if resource.group else '/' + resource.version}, Resource={resource.plural}"
    return f"unexpected items still remain in namespace: {namespace} for gvr: {where}"


class NamespaceController(Controller[str]):
    """Keys are names of namespaces. An object that goes from a namespace being deleted brings it up again."""

    name = "namespace-controller"
    workers = 10

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.kinds = context.all_kinds
        self.namespaces = context.informers.of(NAMESPACES)
        self.namespaces.on_change(self._namespace_changed)
        self.kinds.on_change(self._content_changed)

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None and needs_work(new):
            self.queue.add(new.metadata.name)

    def _content_changed(self, resource: Resource[Owned], old: Any, new: Any) -> None:
        if new is not None or old is None or not old.metadata.namespace:
            return
        namespace = self.namespaces.get(ObjectKey("", old.metadata.namespace))
        if namespace is not None and needs_work(namespace):
            self.queue.add(namespace.metadata.name)

    async def sync(self, name: str) -> None:
        namespace = self.namespaces.get(ObjectKey("", name))
        if namespace is None or not needs_work(namespace):
            return
        remaining = await self._empty(namespace)
        if remaining.nothing:
            await self._finalize(namespace)
            return
        await self._write_conditions(namespace, plan_conditions(namespace, remaining, self.clock()))
        raise NotYet(f"namespace {name} still holds {dict(remaining.objects) or remaining.failures}")

    async def _empty(self, namespace: Namespace) -> Remaining:
        """Ask for the deletion of everything; then count, from the API server itself, what is left.

        While there are pods nothing else is touched: they may need their Secrets, Services and policies to the end.
        """
        trouble = ""
        try:
            discovered = await self.kinds.refreshed()
            if discovered.stale:
                groups = ", ".join(f"{each}: stale GroupVersion discovery: {each}" for each in discovered.stale)
                trouble = f"Discovery failed for some groups, {len(discovered.stale)} failing: {INCOMPLETE}: {groups}"
        except ApiError as err:
            discovered, trouble = self.kinds.discovered, str(err)
        pods, others = content_of(discovered)
        first = await self._empty_kinds(namespace, pods)
        remaining = first if first.objects else await self._empty_kinds(namespace, others)
        failures = remaining.failures if remaining is first else (*first.failures, *remaining.failures)
        return replace(remaining, failures=failures, undiscovered=trouble)

    async def _empty_kinds(self, namespace: Namespace, kinds: Sequence[Resource[Owned]]) -> Remaining:
        gate = asyncio.Semaphore(AT_ONCE)
        results = await asyncio.gather(*(self._empty_kind(namespace, kind, gate) for kind in kinds))
        objects: Counter[str] = Counter()
        finalizers: Counter[str] = Counter()
        failures: list[str] = []
        for resource, (left, failure) in zip(kinds, results, strict=True):
            objects.update({group_resource(resource): len(left)} if left else {})
            finalizers.update(finalizer for obj in left for finalizer in obj.metadata.finalizers)
            failures += [failure] if failure else []
        return Remaining(objects, finalizers, failures)

    async def _empty_kind(
        self, namespace: Namespace, resource: Resource[Owned], gate: asyncio.Semaphore
    ) -> tuple[Sequence[Owned], str]:
        name = namespace.metadata.name
        async with gate:
            try:
                found = (await self.api.list(resource, name)).items
                if not found:
                    return (), ""
                in_grace = resource.plural == PODS.plural and await self._pods_have_time(namespace)
                for obj in found:
                    if not obj.metadata.deletion_timestamp:
                        await self._delete(resource, obj)
                left = (await self.api.list(resource, name)).items
                return left, stubborn(name, resource, left, in_grace=in_grace)
            except (NotFound, MethodNotAllowed):
                return (), ""  # gone since discovery, or nothing that can be listed
            except ApiError as err:
                return (), str(err)

    async def _delete(self, resource: Resource[Owned], obj: Owned) -> None:
        try:
            await self.api.delete(
                resource, obj.metadata.name, obj.metadata.namespace, uid=obj.metadata.uid, propagation="Background"
            )
        except NotFound:
            return

    async def _pods_have_time(self, namespace: Namespace) -> bool:
        """Whether a pod may still be at its work, as long as its grace lasts."""
        pods = (await self.api.list(PODS, namespace.metadata.name)).items
        working = (pod.spec for pod in pods if pod.status.phase not in OVER)
        grace_s = max((spec.termination_grace_period_seconds or 0 for spec in working), default=0)
        since = parse_timestamp(namespace.metadata.deletion_timestamp) or 0
        return self.clock() - since < grace_s

    async def _finalize(self, namespace: Namespace) -> None:
        raw = await self.api.get_raw(NAMESPACES, namespace.metadata.name)
        if raw["metadata"].get("uid") != namespace.metadata.uid:
            return
        finalizers = [name for name in raw["spec"].get("finalizers", []) if name != FINALIZER]
        await self.api.update(
            NAMESPACES, {**raw, "spec": {**raw["spec"], "finalizers": finalizers}}, subresource="finalize"
        )

    async def _write_conditions(self, namespace: Namespace, conditions: list[dict[str, str]]) -> None:
        old = [
            {
                "type": c.type,
                "status": c.status,
                "lastTransitionTime": c.last_transition_time,
                "reason": c.reason,
                "message": c.message,
            }
            for c in namespace.status.conditions
        ]
        if conditions != old:
            patch = {
                "metadata": {"resourceVersion": namespace.metadata.resource_version},
                "status": {"conditions": conditions},
            }
            await self.api.patch(NAMESPACES, namespace.metadata.name, patch, subresource="status")


def content_of(discovered: Discovered) -> tuple[list[Resource[Owned]], list[Resource[Owned]]]:
    """The kinds that a namespace can hold: pods, and all others."""
    kinds = [resource_of(kind) for kind in discovered.preferred("delete", "list") if kind.namespaced]
    pods = [kind for kind in kinds if (kind.group, kind.plural) == ("", PODS.plural)]
    return pods, [kind for kind in kinds if kind not in pods]
