"""An API server in memory, with the faults that a client meets: broken watches, expired revisions, no answer."""

from __future__ import annotations

import asyncio
import copy
import itertools
from collections.abc import AsyncGenerator, Mapping
from typing import Any, TypeVar

from kubarium.machinery import selectors
from kubarium.machinery.client import ListResult, PatchType, WatchEvent
from kubarium.machinery.errors import AlreadyExists, Conflict, Expired, NotFound, ServiceUnavailable
from kubarium.machinery.objects import ObjectKey, convert
from kubarium.machinery.resources import Resource

T = TypeVar("T")
Wire = dict[str, Any]


class FakeApi:
    """Satisfies `Api`. Objects are wire dicts by (plural, key); `events` is the log that watches read."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, ObjectKey], Wire] = {}
        self.events: list[tuple[int, str, str, Wire]] = []  # revision, plural, type, object
        self.revision = 1
        self.compacted = 0
        self.down = False
        self.lists = 0
        self.watches = 0
        self._uids = itertools.count(1)
        self._changed = asyncio.Event()
        self._breaks = 0

    def break_watches(self) -> None:
        """Every open watch fails as if the connection had been cut."""
        self._breaks += 1
        self._wake()

    def compact(self) -> None:
        """Revisions up to now can no longer be watched from."""
        self.compacted = self.revision
        self.break_watches()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _reachable(self) -> None:
        if self.down:
            raise ServiceUnavailable("API server at fake: connection refused")

    def put(self, plural: str, kind: str, obj: Wire) -> Wire:
        """Store and log an object: ADDED or MODIFIED, DELETED for kind DELETED."""
        self.revision += 1
        obj = copy.deepcopy(obj)
        obj["metadata"]["resourceVersion"] = str(self.revision)
        key = (plural, ObjectKey(obj["metadata"].get("namespace", ""), obj["metadata"]["name"]))
        if kind == "DELETED":
            del self.objects[key]
        else:
            self.objects[key] = obj
        self.events.append((self.revision, plural, kind, obj))
        self._wake()
        return obj

    def _found(self, resource: Resource[Any], name: str, namespace: str) -> Wire:
        self._reachable()
        try:
            return self.objects[resource.plural, ObjectKey(namespace, name)]
        except KeyError:
            raise NotFound(f'{resource.plural} "{name}" not found') from None

    async def get(self, resource: Resource[T], name: str, namespace: str = "") -> T:
        return convert(resource.view, self._found(resource, name, namespace))

    async def get_raw(self, resource: Resource[Any], name: str, namespace: str = "", subresource: str = "") -> Wire:
        return copy.deepcopy(self._found(resource, name, namespace))

    def _selected(self, resource: Resource[Any], obj: Wire, namespace: str, label_selector: str) -> bool:
        meta = obj["metadata"]
        labels = selectors.parse_labels(label_selector)
        return (not namespace or meta.get("namespace") == namespace) and labels.matches(meta.get("labels") or {})

    async def list(
        self,
        resource: Resource[T],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
    ) -> ListResult[T]:
        self._reachable()
        self.lists += 1
        await asyncio.sleep(0)
        items = tuple(
            convert(resource.view, obj)
            for (plural, _), obj in sorted(self.objects.items())
            if plural == resource.plural and self._selected(resource, obj, namespace, label_selector)
        )
        return ListResult(items, str(self.revision))

    async def watch(
        self,
        resource: Resource[T],
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        send_initial_events: bool = False,
        timeout_s: int = 300,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        self._reachable()
        self.watches += 1
        position, breaks = int(resource_version), self._breaks
        if position < self.compacted:
            raise Expired("too old resource version")
        while True:
            for revision, plural, kind, obj in list(self.events):
                if revision <= position:
                    continue
                position = revision
                if plural == resource.plural and self._selected(resource, obj, namespace, label_selector):
                    yield WatchEvent(kind, convert(resource.view, obj), str(revision))
                    if breaks != self._breaks:
                        raise ServiceUnavailable("connection reset")
                else:
                    yield WatchEvent("BOOKMARK", None, str(revision))
            if breaks != self._breaks or self.down:
                raise ServiceUnavailable("connection reset")
            changed = self._changed
            if self.revision == position:
                await changed.wait()

    async def create(
        self,
        resource: Resource[T],
        obj: Mapping[str, Any],
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
    ) -> T:
        return convert(resource.view, await self.create_raw(resource, obj, namespace))

    async def create_raw(
        self,
        resource: Resource[Any],
        obj: Mapping[str, Any],
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
    ) -> Wire:
        self._reachable()
        made = copy.deepcopy(dict(obj))
        made.setdefault("metadata", {})
        if namespace:
            made["metadata"]["namespace"] = namespace
        made["metadata"]["uid"] = f"uid-{next(self._uids)}"
        if (resource.plural, ObjectKey(namespace, made["metadata"]["name"])) in self.objects:
            raise AlreadyExists(f'{resource.plural} "{made["metadata"]["name"]}" already exists')
        return self.put(resource.plural, "ADDED", made)

    async def update(
        self, resource: Resource[T], obj: Mapping[str, Any], namespace: str = "", *, subresource: str = ""
    ) -> T:
        meta = obj["metadata"]
        old = self._found(resource, meta["name"], namespace or meta.get("namespace", ""))
        self._guard(meta, old)
        wanted = copy.deepcopy(dict(obj))
        wanted["metadata"]["uid"] = old["metadata"]["uid"]
        return convert(resource.view, self.put(resource.plural, "MODIFIED", wanted))

    async def patch(
        self,
        resource: Resource[T],
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
    ) -> T:
        old = self._found(resource, name, namespace)
        self._guard(patch.get("metadata") or {}, old)
        return convert(resource.view, self.put(resource.plural, "MODIFIED", _merged(old, patch)))

    async def delete(
        self,
        resource: Resource[Any],
        name: str,
        namespace: str = "",
        *,
        grace_period_s: int | None = None,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "",
    ) -> None:
        self.put(resource.plural, "DELETED", self._found(resource, name, namespace))

    @staticmethod
    def _guard(meta: Mapping[str, Any], old: Wire) -> None:
        for key in ("uid", "resourceVersion"):
            if meta.get(key) and meta[key] != old["metadata"][key]:
                raise Conflict("the object has been modified")

    async def close(self) -> None:
        """Nothing is held."""


def _merged(old: Any, patch: Any) -> Any:
    """JSON merge patch (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    base = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            base.pop(key, None)
        else:
            base[key] = _merged(base.get(key), value)
    return base
