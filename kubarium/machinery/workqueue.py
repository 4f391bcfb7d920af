"""The queue between "something changed" and "make it so": each key once, never to two workers, failures with back-off.

Source: client-go util/workqueue.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from typing import Generic, TypeVar

from kubarium.machinery.errors import Conflict, NotFound

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)


class WorkQueue(Generic[K]):
    """Keys waiting for a worker. `async for key in queue` hands them out; each must be given back with `done`."""

    def __init__(self, *, first_delay_s: float = 0.005, most_delay_s: float = 60.0) -> None:
        self._first_delay_s = first_delay_s
        self._most_delay_s = most_delay_s
        self._ready: deque[K] = deque()
        self._dirty: set[K] = set()  # to be processed: in _ready, or added again while in _processing
        self._processing: set[K] = set()
        self._failures: dict[K, int] = {}
        self._timers: dict[K, tuple[float, asyncio.Handle]] = {}  # when due; uvloop's handles of under 1 ms do not tell
        self._wake = asyncio.Event()
        self._closed = False

    def __len__(self) -> int:
        return len(self._ready)

    def add(self, key: K) -> None:
        """Have the key processed; a key that waits already is not added twice."""
        if self._closed or key in self._dirty:
            return
        self._dirty.add(key)
        if key not in self._processing:
            self._offer(key)

    def add_after(self, key: K, delay_s: float) -> None:
        """Add the key later; of several delays for one key the earliest counts."""
        if self._closed:
            return
        if delay_s <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + delay_s
        if (waiting := self._timers.get(key)) is not None:
            due, timer = waiting
            if due <= when:
                return
            timer.cancel()
        self._timers[key] = when, loop.call_at(when, self._due, key)

    def retry(self, key: K) -> None:
        """Add the key again after a delay that doubles with each failure, until `forget`."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.add_after(key, min(self._first_delay_s * 2 ** min(failures, 30), self._most_delay_s))

    def forget(self, key: K) -> None:
        """The key went well: its next failure starts with the shortest delay."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """How often the key failed since it last went well."""
        return self._failures.get(key, 0)

    def done(self, key: K) -> None:
        """The worker that took the key has finished; if it was added meanwhile it is ready again."""
        self._processing.discard(key)
        if key in self._dirty:
            self._offer(key)

    def close(self) -> None:
        """End every `async for`; what still waits is dropped (a restart finds it again from the caches)."""
        self._closed = True
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._wake.set()

    def __aiter__(self) -> AsyncIterator[K]:
        return self

    async def __anext__(self) -> K:
        while not self._ready and not self._closed:
            self._wake.clear()
            await self._wake.wait()
        if self._closed:
            raise StopAsyncIteration
        key = self._ready.popleft()
        self._dirty.discard(key)
        self._processing.add(key)
        return key

    def _offer(self, key: K) -> None:
        self._ready.append(key)
        self._wake.set()

    def _due(self, key: K) -> None:
        self._timers.pop(key, None)
        self.add(key)


async def run_workers(
    queue: WorkQueue[K], sync: Callable[[K], Awaitable[None]], *, count: int = 1, name: str = "worker"
) -> None:
    """Process the queue with `count` workers until it is closed. A failed key is tried again, others go on."""
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            group.create_task(_work(queue, sync, name), name=f"{name}/{number}")


async def _work(queue: WorkQueue[K], sync: Callable[[K], Awaitable[None]], name: str) -> None:
    async for key in queue:
        try:
            await sync(key)
            queue.forget(key)
        except (Conflict, NotFound) as err:  # our cache lags behind; it will have caught up
            log.debug("%s: sync of %s: %s; will retry", name, key, err)
            queue.retry(key)
        except Exception:
            log.warning("%s: sync of %s failed, will retry", name, key, exc_info=True)
            queue.retry(key)
        finally:
            queue.done(key)
