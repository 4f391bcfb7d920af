"""Namespace deletion: what is in a namespace goes, then its finalizer `kubernetes`, then the namespace.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/namespaces/, API conventions on finalizers.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kubarium.controllers.controller import Context, Controller, NotYet
from kubarium.controllers.views import ALL, PartialObject, metadata_only
from kubarium.machinery.errors import ApiError, NotFound
from kubarium.machinery.objects import Namespace, ObjectKey
from kubarium.machinery.resources import EVENTS, NAMESPACES, Resource
from kubarium.machinery.times import format_timestamp

FINALIZER = "kubernetes"
CONTENT = tuple(metadata_only(resource) for resource in ALL if resource.namespaced)
WATCHED = tuple(resource for resource in CONTENT if resource.plural != EVENTS.plural)
"""Content whose end we wait for; Events go at once."""


@dataclass(frozen=True, slots=True)
class Remaining:
    """What a namespace still holds: objects by resource (`pods.` or `deployments.apps`), and by finalizer."""

    objects: Mapping[str, int]
    finalizers: Mapping[str, int]
    failures: Sequence[str] = ()

    @property
    def nothing(self) -> bool:
        return not self.objects and not self.failures


def needs_work(namespace: Namespace) -> bool:
    return bool(namespace.metadata.deletion_timestamp) and FINALIZER in namespace.spec.finalizers


def plan_conditions(namespace: Namespace, remaining: Remaining, now: float) -> list[dict[str, str]]:
    """The conditions that say what the deletion waits for, with upstream's reasons and messages."""
    content = ", ".join(f"{name} has {count} resource instances" for name, count in sorted(remaining.objects.items()))
    held = ", ".join(f"{name} in {count} resource instances" for name, count in sorted(remaining.finalizers.items()))
    failures, failed = len(remaining.failures), ", ".join(remaining.failures)
    return [
        _condition(
            namespace,
            "NamespaceDeletionContentFailure",
            ("ContentDeletionFailed", f"Failed to delete all resource types, {failures} remaining: {failed}")
            if failed
            else None,
            ("ContentDeleted", "All content successfully deleted, may be waiting on finalization"),
            now,
        ),
        _condition(
            namespace,
            "NamespaceContentRemaining",
            ("SomeResourcesRemain", f"Some resources are remaining: {content}") if content else None,
            ("ContentRemoved", "All content successfully removed"),
            now,
        ),
        _condition(
            namespace,
            "NamespaceFinalizersRemaining",
            ("SomeFinalizersRemain", f"Some content in the namespace has finalizers remaining: {held}")
            if held
            else None,
            ("ContentHasNoFinalizers", "All content-preserving finalizers finished"),
            now,
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


class NamespaceController(Controller[str]):
    """Keys are names of namespaces. An object that goes from a namespace being deleted brings it up again."""

    name = "namespace-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.namespaces = context.informers.of(NAMESPACES)
        self.namespaces.on_change(self._namespace_changed)
        for resource in WATCHED:
            context.informers.of(resource).on_change(self._content_changed)

    def _namespace_changed(self, old: Namespace | None, new: Namespace | None) -> None:
        if new is not None and needs_work(new):
            self.queue.add(new.metadata.name)

    def _content_changed(self, old: Any, new: Any) -> None:
        if new is not None or old is None:
            return
        namespace = self.namespaces.get(ObjectKey("", old.metadata.namespace))
        if namespace is not None and needs_work(namespace):
            self.queue.add(namespace.metadata.name)

    async def sync(self, name: str) -> None:
        namespace = self.namespaces.get(ObjectKey("", name))
        if namespace is None or not needs_work(namespace):
            return
        remaining = await self._empty(name)
        if remaining.nothing:
            await self._finalize(namespace)
            return
        await self._write_conditions(namespace, plan_conditions(namespace, remaining, self.clock()))
        raise NotYet(f"namespace {name} still holds {dict(remaining.objects) or remaining.failures}")

    async def _empty(self, name: str) -> Remaining:
        """Ask for the deletion of everything; then count, from the API server itself, what is left."""
        results = await asyncio.gather(*(self._empty_resource(name, resource) for resource in CONTENT))
        objects: Counter[str] = Counter()
        finalizers: Counter[str] = Counter()
        failures: list[str] = []
        for resource, (left, failure) in zip(CONTENT, results, strict=True):
            objects.update({group_resource(resource): len(left)} if left else {})
            finalizers.update(finalizer for obj in left for finalizer in obj.metadata.finalizers)
            failures += [failure] if failure else []
        return Remaining(objects, finalizers, failures)

    async def _empty_resource(
        self, namespace: str, resource: Resource[PartialObject]
    ) -> tuple[Sequence[PartialObject], str]:
        try:
            found = (await self.api.list(resource, namespace)).items
            for obj in found:
                if not obj.metadata.deletion_timestamp:
                    await self._delete(resource, obj)
            return (await self.api.list(resource, namespace)).items if found else (), ""
        except NotFound:
            return (), ""  # a resource that this API server does not serve
        except ApiError as err:
            return (), f"{group_resource(resource)}: {err}"

    async def _delete(self, resource: Resource[PartialObject], obj: PartialObject) -> None:
        try:
            await self.api.delete(
                resource, obj.metadata.name, obj.metadata.namespace, uid=obj.metadata.uid, propagation="Background"
            )
        except NotFound:
            return

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
