"""A cache of one collection, kept true by list and watch: what a component reads instead of asking the API server.

Every change reaches the handlers once, in order, across broken connections, restarts of the server and expired
revisions: a watch resumes after the last revision seen; where that is gone, a new list is compared with the cache, so
that what was deleted meanwhile is reported too. An object that was deleted and made again under its name (another uid)
shows as a deletion and an addition.
Source: client-go tools/cache (Reflector, DeltaFIFO), API concepts "Efficient detection of changes".
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from contextlib import aclosing
from typing import Any, Generic, TypeVar

from kubarium.machinery.backoff import Backoff
from kubarium.machinery.client import Api, WatchEvent
from kubarium.machinery.errors import ApiError, Expired, NotFound, ServiceUnavailable, TooManyRequests
from kubarium.machinery.objects import ObjectKey
from kubarium.machinery.resources import Resource

log = logging.getLogger(__name__)

T = TypeVar("T")

PAGE = 1000
WATCH_S = 300

Handler = Callable[[T | None, T | None], None]


class Informer(Generic[T]):
    """The objects of `resource` (one namespace or all), by key and by index. They are shared: read, never change."""

    def __init__(
        self,
        api: Api,
        resource: Resource[T],
        *,
        namespace: str = "",
        label_selector: str = "",
        field_selector: str = "",
        indexers: Mapping[str, Callable[[T], Iterable[str]]] = {},
    ) -> None:
        self._api = api
        self._resource = resource
        self._namespace = namespace
        self._label_selector = label_selector
        self._field_selector = field_selector
        self._cache: dict[ObjectKey, T] = {}
        self._indexers = dict(indexers)
        self._indices: dict[str, dict[str, dict[ObjectKey, T]]] = {name: {} for name in indexers}
        self._handlers: list[Handler[T]] = []
        self._synced = asyncio.Event()
        self._revision = ""

    def get(self, key: ObjectKey) -> T | None:
        return self._cache.get(key)

    def all(self) -> tuple[T, ...]:
        return tuple(self._cache.values())

    def by_index(self, index: str, value: str) -> tuple[T, ...]:
        return tuple(self._indices[index].get(value, {}).values())

    def on_change(self, handler: Callable[[T | None, T | None], None]) -> None:
        """Call `handler(old, new)` for every change, and once for what is already there. It must only enqueue."""
        self._handlers.append(handler)
        for obj in self.all():
            handler(None, obj)

    async def synced(self) -> None:
        """Return once the first list is in the cache."""
        await self._synced.wait()

    @property
    def has_synced(self) -> bool:
        return self._synced.is_set()

    @property
    def resource_version(self) -> str:
        """Everything up to here is in the cache; "" before the first list and after the revision expired."""
        return self._revision

    async def run(self) -> None:
        """Keep the cache true, forever."""
        backoff = Backoff()
        failing = False
        while True:
            try:
                if not self._revision:
                    await self._relist()
                    backoff.reset()
                if await self._follow():
                    backoff.reset()
                    failing = False
                    continue
            except Expired as err:
                log.debug("%s: watch expired, listing again: %s", self._resource.plural, err)
                self._revision = ""
            except (
                NotFound
            ) as err:  # a kind that is gone, not there yet, or not known to this server: it has no objects
                log.log(logging.DEBUG if failing else logging.INFO, "%s: %s; trying again", self._resource.plural, err)
                failing, self._revision = True, ""
                self._synced.set()
            except (ServiceUnavailable, TooManyRequests) as err:
                log.log(logging.DEBUG if failing else logging.INFO, "%s: %s; trying again", self._resource.plural, err)
                failing = True
            except ApiError as err:
                log.warning("%s: list or watch failed, will list again: %s", self._resource.plural, err)
                self._revision = ""
            await asyncio.sleep(backoff.next_s())

    async def _relist(self) -> None:
        """Bring the cache to one consistent list; it changes only after the last page has come."""
        fresh: dict[ObjectKey, T] = {}
        token, revision = "", ""
        while True:
            page = await self._api.list(
                self._resource,
                self._namespace,
                label_selector=self._label_selector,
                field_selector=self._field_selector,
                limit=PAGE,
                continue_token=token,
            )
            fresh |= {_meta_key(item): item for item in page.items}
            token, revision = page.continue_token, page.resource_version
            if not token:
                break
        for key in [key for key in self._cache if key not in fresh]:
            self._drop(key, None)
        for key, obj in fresh.items():
            self._put(key, obj)
        self._revision = revision
        self._synced.set()

    async def _follow(self) -> bool:
        """Apply one watch until it ends; True if it was of use (else the caller waits before the next)."""
        useful = False
        watch_s = int(WATCH_S * random.uniform(1.0, 2.0))  # so that many watches do not end together
        loop = asyncio.get_running_loop()
        started = loop.time()
        events = self._api.watch(
            self._resource,
            self._namespace,
            resource_version=self._revision,
            label_selector=self._label_selector,
            field_selector=self._field_selector,
            timeout_s=watch_s,
        )
        async with aclosing(events):
            async for event in events:
                self._apply(event)
                useful = True
        return useful or loop.time() - started > 1.0

    def _apply(self, event: WatchEvent[T]) -> None:
        obj = event.object
        if obj is not None:
            key = _meta_key(obj)
            if event.type == "DELETED":
                self._drop(key, obj)
            else:
                self._put(key, obj)
        self._revision = event.resource_version or self._revision

    def _put(self, key: ObjectKey, obj: T) -> None:
        old = self._cache.get(key)
        if old is not None:
            if _meta(old).uid != _meta(obj).uid:
                self._drop(key, None)
                old = None
            elif _meta(old).resource_version == _meta(obj).resource_version:
                return  # seen already: a list after a watch shows much that did not change
        self._index(key, old, obj)
        self._cache[key] = obj
        self._tell(old, obj)

    def _drop(self, key: ObjectKey, last: T | None) -> None:
        """Forget an object. `last` is its state at deletion, where the watch told it."""
        old = self._cache.get(key)
        if old is None:
            return
        self._index(key, old, None)
        del self._cache[key]
        self._tell(last if last is not None and _meta(last).uid == _meta(old).uid else old, None)

    def _index(self, key: ObjectKey, old: T | None, new: T | None) -> None:
        for name, indexer in self._indexers.items():
            index = self._indices[name]
            for value in indexer(old) if old is not None else ():
                entries = index.get(value, {})
                entries.pop(key, None)
                if not entries:
                    index.pop(value, None)
            for value in indexer(new) if new is not None else ():
                index.setdefault(value, {})[key] = new  # type: ignore[assignment]

    def _tell(self, old: T | None, new: T | None) -> None:
        for handler in self._handlers:
            handler(old, new)


def _meta(obj: Any) -> Any:
    return obj.metadata


def _meta_key(obj: Any) -> ObjectKey:
    meta = obj.metadata
    return ObjectKey(meta.namespace, meta.name)
