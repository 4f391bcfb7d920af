"""What the server knows of the stored objects: the watch cache, and how to be sure that it is new enough."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from apiserver import codec, replies
from apiserver.registry.base import Object, ResourceDef
from apiserver.store.base import KeyValue, Store
from apiserver.watchcache import Entry, HeadReader, WatchCache
from kubarium.machinery.errors import ServiceUnavailable, StoreUnavailable

READ_TIMEOUT_S = 3.0


class State:
    """Reads of single objects, cached or consistent. Raises ServiceUnavailable while the store does not answer."""

    def __init__(self, store: Store, cache: WatchCache, head: HeadReader) -> None:
        self.store = store
        self.cache = cache
        self._head = head

    def peek(self, resource: ResourceDef, namespace: str, name: str) -> Entry | None:
        """The object as the cache has it: perhaps a moment old."""
        return self.cache.get(resource.key(namespace, name))

    def is_current(self) -> bool:
        """Whether the cache is known to hold every write acknowledged so far, without asking the store."""
        revision = self.store.revision_now()
        return revision is not None and revision <= self.cache.revision and self.cache.has_synced

    async def current(self, resource: ResourceDef, namespace: str, name: str) -> Entry | None:
        """The object at a revision at least that of every write acknowledged before the call."""
        await self.caught_up()
        return self.cache.get(resource.key(namespace, name))

    async def found(self, resource: ResourceDef, namespace: str, name: str) -> Entry | None:
        """The object if the cache has it; a consistent read where the cache has none."""
        return self.peek(resource, namespace, name) or await self.current(resource, namespace, name)

    async def caught_up(self) -> None:
        """Returns when the cache holds every write acknowledged before the call."""
        if self.is_current():
            return
        try:
            revision = await self.cache.consistent_revision()
            if self.cache.revision < revision:
                await self.cache.wait_for(revision, READ_TIMEOUT_S)
        except StoreUnavailable as err:
            raise unavailable(err) from err

    async def wait_for(self, revision: int, timeout_s: float = READ_TIMEOUT_S) -> None:
        """Returns when the cache is not older than `revision`; Timeout (504) when that revision does not come."""
        try:
            await self.cache.wait_for(revision, timeout_s)
        except StoreUnavailable as err:
            raise replies.version_too_large(revision, self.cache.revision) from err

    def entry_of(self, item: KeyValue) -> Entry:
        """An entry out of what the store itself gave."""
        data = codec.with_revision(item.value, item.mod_revision)
        return Entry(item.key, item.mod_revision, item.create_revision, data, self._head(item.key, item.value))


def unavailable(err: StoreUnavailable) -> ServiceUnavailable:
    """503; the client may try again in a second."""
    return ServiceUnavailable(f"the store does not answer: {err}", details={"retryAfterSeconds": 1})


def matching(entries: Sequence[Entry], predicate: Callable[[codec.Head], bool] | None) -> Sequence[Entry]:
    return entries if predicate is None else [entry for entry in entries if predicate(entry.head)]


def decoded(entry: Entry) -> Object:
    """A dict of the caller's own."""
    return codec.decode(entry.data)
