"""The objects of a resource, taken from the watch cache when somebody needs them and not when they change."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

from apiserver.watchcache import Batch, Entry, WatchCache, Watcher
from kubarium.machinery.errors import Compacted


class Changes:
    """The changes of one resource since they were last taken. `dirty` costs an attribute look-up; `take` costs what
    has changed.
    """

    def __init__(self, cache: WatchCache, prefix: str, told: Callable[[], None] | None = None) -> None:
        """`prefix` is a resource's own; `told` is called at each change, inside the cache: it may only set a flag."""
        self._cache = cache
        self._prefix = prefix
        self._watcher: Watcher | None = None
        self._told = told
        self.dirty = True
        cache.observe(prefix, self._changed)

    def _changed(self) -> None:
        self.dirty = True
        if self._told is not None:
            self._told()

    def take(self, reset: Callable[[], None]) -> Iterator[tuple[str, Entry | None]]:
        """(key, the object now; None where it is gone), in order. `reset` is called first where all begins anew."""
        self.dirty = False
        if self._watcher is None:
            reset()
            self._watcher = self._cache.watch(self._prefix, after=None, bookmark_interval_s=math.inf)
        try:
            while (item := self._watcher.poll()) is not None:
                if isinstance(item, Batch):
                    for event in item:
                        if event.entry is not None:
                            yield event.entry.key, None if event.type == "DELETED" else event.entry
        except Compacted:
            self._watcher = None
            yield from self.take(reset)
