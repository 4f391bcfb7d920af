"""The addresses and ports of Services, given out by one server among several on one store.

The table of what is taken (`apiserver.allocators`) follows the Services through the watch cache and is brought up to
date when something is asked of it. Two servers can still give out the same at the same moment, each before it knows of
the other's Service. The store's order decides between them, and costs nothing while nobody disputes anything: a server
waits until the watch has told of its own write, and takes the write back where an earlier one has the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

from apiserver.allocators import Reservation, ServiceAllocator
from apiserver.registry.base import Object
from apiserver.state import State, decoded
from apiserver.watchcache import Batch, Watcher
from kubarium.machinery.errors import Compacted, StoreUnavailable

DOUBT_S = 60.0  # a write that was not answered has happened by then, and the watch has told of it, or it never does


class ServiceKeeper:
    """One per server; `prefix` is that of the Services' keys."""

    def __init__(
        self, table: ServiceAllocator, state: State, prefix: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.table = table
        self._state = state
        self._prefix = prefix
        self._watcher: Watcher | None = None
        self._changed = True
        state.cache.observe(prefix, self._tell)
        self._clock = clock
        self._doubtful: list[tuple[float, Reservation]] = []  # the oldest first

    def _tell(self) -> None:
        self._changed = True

    @property
    def shared(self) -> bool:
        """Whether other servers write to the store."""
        return self._state.store.revision_now() is None

    def allocate(self, key: str, service: Object, old: Object | None = None, *, dry_run: bool = False) -> Reservation:
        """See `ServiceAllocator.allocate`."""
        self.catch_up()
        return self.table.allocate(key, service, old, dry_run=dry_run)

    def observe(self, key: str, revision: int, service: Object | None) -> None:
        self.table.observe(key, revision, service)

    def cancel(self, reservation: Reservation) -> None:
        self.table.cancel(reservation)

    def doubt(self, reservation: Reservation) -> None:
        """Nobody can tell whether the write has happened: what it took stays taken until the watch must have told."""
        if reservation.items:
            self._doubtful.append((self._clock() + DOUBT_S, reservation))

    def catch_up(self) -> None:
        """Learn what the watch cache has to tell."""
        if self._changed:
            self._changed = False
            try:
                self._take_changes()
            except Compacted:  # or the cache was filled anew
                self._watcher = None
                self._take_changes()
        while self._doubtful and self._doubtful[0][0] <= self._clock() and self._state.cache.trouble is None:
            self.table.cancel(self._doubtful.pop(0)[1])

    def _take_changes(self) -> None:
        if self._watcher is None:
            cache = self._state.cache
            self.table.forget_all(cache.revision)
            self._watcher = cache.watch(self._prefix, after=None, bookmark_interval_s=math.inf)
        while (item := self._watcher.poll()) is not None:
            for event in item if isinstance(item, Batch) else ():
                entry = event.entry
                if entry is None:
                    continue
                if event.type == "DELETED":
                    self.table.forget(entry.key, entry.revision)
                else:
                    self.table.observe(entry.key, entry.revision, decoded(entry))

    async def is_lost(self, reservation: Reservation, revision: int) -> bool:
        """Whether what a write took, that has this revision, belongs to an earlier one of another server."""
        if not reservation.items or not self.shared:
            return False
        try:
            await self._state.cache.wait_for(revision)
        except StoreUnavailable:
            return False  # nobody can tell now; the write stands
        self.catch_up()
        return self.table.is_disputed(reservation, revision)

    def addresses(self) -> list[tuple[int, str]]:
        """The number of each address that a Service has, and the Service's key."""
        self.catch_up()
        return self.table.addresses()
