"""The watch cache: every object of the store in memory, and the recent changes of each resource.

One watch over all of the store feeds it and nothing else changes it, so every reader sees the store's own order.
Changes of a resource stand in one log; a watcher is only a position in that log. It therefore costs the cache nothing
while it does not read, all watchers share the same encoded bytes, and one that falls behind the log's window is told so
(Compacted, on the wire 410 Expired) and lists again.

Everything here runs on one event loop; no method without `await` is interrupted, which makes `list` a snapshot.
"""

from __future__ import annotations

import asyncio
import logging
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import cached_property
from time import monotonic
from typing import Final, Literal

import msgspec

from apiserver.codec import Head, event_line, resource_prefix, with_revision
from apiserver.store.base import Progress, Store, StoreEvent, prefix_end
from kubarium.machinery.errors import Compacted, StoreError, StoreUnavailable

log = logging.getLogger(__name__)

Predicate = Callable[[Head], bool]
HeadReader = Callable[[str, bytes], Head]
_State = dict[str, "list[Entry]"]
ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]

ROOT: Final = "/registry/"
PAGE: Final = 2000  # keys asked of the store at once while filling
BATCH: Final = 500  # events handed to a watcher at once
BATCH_BYTES: Final = 128 << 10  # the same in bytes, at least one event
LONG_ROUND_S: Final = 0.002
WAKE: Final = 1000  # watchers told of a change before others have a turn
SHARED: Final = 16  # batches of a resource that are kept for watchers who come to the same place
HOT: Final = 1000  # newest changes of a resource that keep their encodings; older ones are encoded again if asked for
REPLAY: Final = 2000  # revisions replayed at start, so that watchers of before it can resume
TICK_S: Final = 1.0
RETRY_MIN_S: Final = 0.05
RETRY_MAX_S: Final = 2.0


class Entry(msgspec.Struct, gc=False, eq=False):
    """One object at one revision; `data` is its JSON with resourceVersion in place. Shared, never changed."""

    key: str
    revision: int
    create_revision: int
    data: bytes
    head: Head

    def __repr__(self) -> str:
        return f"Entry({self.key!r}, revision={self.revision})"


class Event:
    """What a watcher is told: ADDED, MODIFIED, DELETED; front ends also make BOOKMARK and ERROR, which have no entry.

    `data` is the object's JSON. Encodings are made when first asked for and then shared by all watchers.
    """

    __slots__ = ("_views", "data", "entry", "type")

    def __init__(self, type: str, entry: Entry | None = None, *, data: bytes = b"") -> None:  # noqa: A002
        self.type = type
        self.entry = entry
        self.data = data or (entry.data if entry else b"")
        self._views: dict[Hashable, bytes] | None = None

    def __repr__(self) -> str:
        return f"Event({self.type}, {self.entry or self.data!r})"

    def view(self, shape: Hashable, make: Callable[[Event], bytes]) -> bytes:
        """This event encoded in some shape (a Table, metadata only, protobuf), once for all watchers of the shape."""
        views = self._views
        if views is None:
            views = self._views = {}
        encoded = views.get(shape)
        if encoded is None:
            encoded = views[shape] = make(self)
        return encoded

    @property
    def encoded_json_line(self) -> bytes:
        """The line of a REST watch."""
        return self.view("json", _json_line)

    def forget_encodings(self) -> None:
        self._views = None


def _json_line(event: Event) -> bytes:
    return event_line(event.type, event.data)


class Batch(tuple[Event, ...]):
    """Events in order; watchers of one prefix without a filter at one position get the very same batch."""

    @cached_property
    def _encoded(self) -> dict[Hashable, tuple[bytes, bytes]]:
        return {}

    def joined(self, line: Callable[[Event], bytes]) -> bytes:
        return line(self[0]) if len(self) == 1 else b"".join([line(event) for event in self])

    def encoded(self, shape: Hashable, line: Callable[[Event], bytes]) -> tuple[bytes, bytes]:
        """All lines of the batch in some shape, and the same as one chunk of HTTP/1.1; made once for all watchers."""
        found = self._encoded.get(shape)
        if found is None:
            lines = self.joined(line)
            found = self._encoded[shape] = lines, b"%x\r\n%b\r\n" % (len(lines), lines)
        return found


@dataclass(frozen=True, slots=True)
class InitialEventsEnd(Progress):
    """Stands behind the last ADDED event of a watch's initial state, which was the state at `revision`."""


class Change(msgspec.Struct, gc=False, eq=False):
    """One write to one object: the entry after it (None: deleted) and before it (None: created)."""

    key: str
    revision: int
    before: Entry | None
    after: Entry | None
    events: dict[ChangeType, Event] | None = None  # made when first asked for

    @property
    def type(self) -> ChangeType:
        """What a watcher without a filter is told."""
        if self.after is None:
            return "DELETED"
        return "ADDED" if self.before is None else "MODIFIED"

    def type_for(self, predicate: Predicate) -> ChangeType | None:
        """What a filtering watcher is told: an object that comes to match is ADDED, one that ceases to is DELETED."""
        now = self.after is not None and predicate(self.after.head)
        was = self.before is not None and predicate(self.before.head)
        if now:
            return "MODIFIED" if was else "ADDED"
        return "DELETED" if was else None

    def event(self, event_type: ChangeType) -> Event:
        """The event, shared by all who are told the same of this change."""
        events = self.events
        if events is None:
            events = self.events = {}
        event = events.get(event_type)
        if event is None:
            event = events[event_type] = Event(event_type, self._entry(event_type))
        return event

    def _entry(self, event_type: ChangeType) -> Entry:
        if event_type != "DELETED":
            assert self.after is not None
            return self.after
        # The object as it last matched, at the revision at which it ceased to, as kube-apiserver sends it.
        last = self.before
        assert last is not None
        data = with_revision(last.data, self.revision)
        return Entry(self.key, self.revision, last.create_revision, data, last.head)

    @property
    def size(self) -> int:
        """Bytes that the log keeps alive for this change, at most."""
        return len(self.after.data) if self.after else len(self.before.data) if self.before else 0

    def forget_encodings(self) -> None:
        for event in (self.events or {}).values():
            event.forget_encodings()


class _ResourceLog:
    """One resource: its objects now, and its changes in order. Position n is the n-th change since the start."""

    def __init__(self, floor: int, window: int, window_bytes: int) -> None:
        self.floor = floor  # the revision up to which changes are no longer here
        self.entries: dict[str, Entry] = {}
        self.waiting: set[Watcher] = set()
        self.observers: tuple[Callable[[], None], ...] = ()
        self._ordered: tuple[list[str], tuple[Entry, ...]] | None = None  # keys and entries in key order
        self._window = window
        self._window_bytes = window_bytes
        self._changes: list[Change] = []
        self._base = 0  # the position of _changes[0]
        self._bytes = 0
        # the last batches without a filter, by prefix and span, with the position behind them
        self._shared: dict[tuple[str, int, int], tuple[Batch, int]] = {}
        self._told: deque[Watcher] = deque()  # woken, but not yet told
        self._round: asyncio.TimerHandle | None = None  # the next telling, while it waits for more changes
        self._took_s = 0.0  # the last one
        self._again = False  # there were changes while they were told
        self.closed = False  # replaced by a new log: its watchers must list again

    @property
    def end(self) -> int:
        return self._base + len(self._changes)

    def put(self, entry: Entry) -> None:
        self.entries[entry.key] = entry
        self._ordered = None

    def remove(self, key: str) -> None:
        del self.entries[key]
        self._ordered = None

    def fill(self, entries: Iterable[Entry]) -> None:
        """Take a whole state, in key order."""
        self.entries = {entry.key: entry for entry in entries}
        self._ordered = None

    def snapshot(self, prefix: str) -> tuple[Entry, ...]:
        """The entries under a prefix (the resource's own, or one of its namespaces) in key order."""
        keys, entries = self._ordered or self._put_in_order()
        first = bisect_left(keys, prefix)
        last = bisect_left(keys, prefix_end(prefix), first)
        return entries[first:last]

    def _put_in_order(self) -> tuple[list[str], tuple[Entry, ...]]:
        """Writes only add to the end; the order is made when somebody reads, and kept, so that little is left to sort
        the next time."""
        keys = list(self.entries)
        ordered = sorted(keys)  # of what is nearly sorted, hence in linear time
        if ordered != keys:
            self.entries = {key: self.entries[key] for key in ordered}
        self._ordered = ordered, tuple(self.entries.values())
        return self._ordered

    def append(self, change: Change) -> None:
        changes = self._changes
        changes.append(change)
        self._bytes += change.size
        if len(changes) > HOT and (old := changes[-HOT - 1]).events:
            old.forget_encodings()
        if len(changes) > self._window or self._bytes > self._window_bytes:
            self._trim()

    def _trim(self) -> None:
        """Drop the older quarter at once: cutting one at a time would move the whole list each time."""
        drop = max(1, len(self._changes) // 4)
        self.floor = self._changes[drop - 1].revision
        self._bytes -= sum(change.size for change in self._changes[:drop])
        del self._changes[:drop]
        self._base += drop

    def position_after(self, revision: int) -> int:
        """Where a watcher starts that has seen everything up to `revision`. Raises Compacted below the floor."""
        if revision < self.floor:
            raise Compacted(f"too old resource version: {revision} ({self.floor + 1})", self.floor)
        return self._base + bisect_right(self._changes, revision, key=_revision_of)

    def since(self, position: int) -> list[Change]:
        """At most BATCH changes from a position on. Raises Compacted when some of them are gone."""
        start = position - self._base
        if start < 0:
            raise Compacted(f"the watcher is too slow: changes up to {self.floor} are gone", self.floor)
        return self._changes[start : start + BATCH]

    def shared_batch(self, prefix: str, position: int) -> tuple[Batch, int]:
        """The events under a prefix from a position on, and the position behind them: made once for all watchers that
        stand there. The batch is empty where nothing is under the prefix."""
        key = prefix, position, self.end
        if (found := self._shared.get(key)) is not None:
            return found
        changes, size, count = self.since(position), 0, 0
        whole = prefix == resource_prefix(prefix)
        events = []
        for change in changes:
            if size >= BATCH_BYTES:
                break
            count += 1
            if whole or change.key.startswith(prefix):
                size += change.size
                events.append(change.event(change.type))
        if len(self._shared) >= SHARED:
            self._shared.clear()
        made = self._shared[key] = Batch(events), position + count
        return made

    def revision_at(self, position: int) -> int:
        """The revision of the last change before a position."""
        index = position - self._base
        return self._changes[index - 1].revision if index > 0 else self.floor

    def wake(self) -> None:
        for changed in self.observers:
            changed()
        self._wake_waiting()

    def _wake_waiting(self) -> None:
        if self._told:
            self._again = True
        elif self.waiting and self._round is None:
            if self._took_s < LONG_ROUND_S:
                self._begin_round()
            else:
                self._round = asyncio.get_running_loop().call_later(self._took_s / 8, self._begin_round)

    def _begin_round(self) -> None:
        """Tell those who wait. Where telling takes long because they are many, a round waits an eighth of that: changes
        that come at nearly the same time are then told together, which costs server and clients little more than one.
        """
        self._round = None
        self._told.extend(self.waiting)
        self.waiting.clear()
        begun = monotonic()
        self._tell()
        self._took_s = monotonic() - begun

    def _tell(self) -> None:
        """In the usual case all at once, and thereby mostly before the answers to the writes that they are told of:
        whoever writes does not get ahead of a thousand watchers. Still more are told in several turns."""
        told = self._told
        for _ in range(min(WAKE, len(told))):
            told.popleft().wake()
        if told:
            asyncio.get_running_loop().call_soon(self._tell)
        elif self._again:
            self._again = False
            self._wake_waiting()


def _revision_of(change: Change) -> int:
    return change.revision


class Watcher:
    """One watch: an async iterator of Batch (events in order), InitialEventsEnd, and Progress when nothing happened for
    `bookmark_interval_s`.

    Raises Compacted when it falls behind the window or the cache had to start anew: list again. It may be dropped at
    any time without being closed, and a cancelled read loses nothing.
    """

    def __init__(
        self, cache: WatchCache, prefix: str, after: int | None, predicate: Predicate | None, interval_s: float
    ) -> None:
        self._cache = cache
        self._log = cache.log_of(prefix)
        self._prefix = prefix
        self._predicate = predicate
        self._loop = asyncio.get_running_loop()
        self._interval_s = interval_s
        self._future: asyncio.Future[None] | None = None
        self._initial: Iterator[Batch | Progress] | None = None
        if after is None:
            self._after = cache.revision
            self._initial = self._initial_events(cache.list(prefix), cache.revision)
            self._position = self._log.end
        else:
            self._after = after
            self._position = self._log.position_after(after)
        # A version not yet reached is waited for: what comes before it is left out, change by change.
        self._unfiltered = self._after <= cache.revision and predicate is None
        self._listener: Callable[[], None] | None = None
        self.due = self._loop.time() + interval_s

    @property
    def revision(self) -> int:
        """Everything up to it has been handed out (once the initial state has)."""
        done = self._position == self._log.end and not self._log.closed
        return max(self._after, self._cache.revision if done else self._log.revision_at(self._position))

    def __aiter__(self) -> Watcher:
        return self

    async def __anext__(self) -> Batch | Progress:
        while True:
            if (item := self.poll()) is not None:
                return item
            self._future = self._loop.create_future()
            self._log.waiting.add(self)
            try:
                await self._future
            finally:
                self._future = None
                self._log.waiting.discard(self)

    def wake(self) -> None:
        if self._listener is not None:
            self._listener()
        elif self._future is not None and not self._future.done():
            self._future.set_result(None)

    def listen(self, listener: Callable[[], None]) -> None:
        """`listener` is called once after each `poll` that gave nothing, when there may be something; it raises
        nothing. For those who `poll` instead of iterating."""
        self._listener = listener

    def close(self) -> None:
        """The listener is called no more."""
        self._listener = None
        self._log.waiting.discard(self)

    def poll(self) -> Batch | Progress | None:
        """The next thing to tell, without waiting; None when there is nothing. Raises Compacted."""
        if (item := self._next()) is not None:
            self.due = self._loop.time() + self._interval_s
        elif self._listener is not None:
            self._log.waiting.add(self)
        return item

    def _next(self) -> Batch | Progress | None:
        if self._initial is not None:
            if (item := next(self._initial, None)) is not None:
                return item
            self._initial = None
        while self._position != self._log.end:
            if batch := self._take():
                return batch
        if self._log.closed:
            raise Compacted("the watch cache was filled anew: list again", self._cache.revision)
        if self._loop.time() >= self.due:
            return Progress(self.revision)
        return None

    def _take(self) -> Batch:
        """Move past the next changes; what of them is for this watcher."""
        if self._unfiltered:
            batch, self._position = self._log.shared_batch(self._prefix, self._position)
            return batch
        changes = self._log.since(self._position)
        self._position += len(changes)
        return Batch(self._select(changes))

    def _select(self, changes: Sequence[Change]) -> Iterator[Event]:
        for change in changes:
            if change.revision <= self._after or not change.key.startswith(self._prefix):
                continue
            kind = change.type if self._predicate is None else change.type_for(self._predicate)
            if kind is not None:
                yield change.event(kind)

    def _initial_events(self, entries: Sequence[Entry], revision: int) -> Iterator[Batch | Progress]:
        events, size = [], 0
        for entry in entries:
            if self._predicate is None or self._predicate(entry.head):
                events.append(Event("ADDED", entry))
                size += len(entry.data)
                if size >= BATCH_BYTES or len(events) == BATCH:
                    yield Batch(events)
                    events, size = [], 0
        if events:
            yield Batch(events)
        yield InitialEventsEnd(revision)


class WatchCache:
    """All objects under /registry/ and their recent changes.

    `head` decodes what filters need; it raises ValueError for bytes that are no object, which are logged and left out.
    Per resource the last `window` changes are kept, fewer where they hold more than `window_bytes` of objects.
    """

    def __init__(self, store: Store, *, head: HeadReader, window: int = 20_000, window_bytes: int = 64 << 20) -> None:
        self._store = store
        self._head = head
        self._window = window
        self._window_bytes = window_bytes
        self._logs: dict[str, _ResourceLog] = {}
        self._observers: dict[str, tuple[Callable[[], None], ...]] = {}
        self._floor = 0
        self._target: int | None = None  # filled once this revision is reached; None: there is nothing to go on from
        self._filled = asyncio.Event()
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._consistent = _SharedRead(store.revision)
        self.revision = 0
        self.trouble: StoreError | None = None

    # -- reading -------------------------------------------------------------------------------------------------------

    async def synced(self) -> None:
        """Returns when the cache holds the store's state."""
        await self._filled.wait()

    @property
    def has_synced(self) -> bool:
        return self._filled.is_set()

    def get(self, key: str) -> Entry | None:
        return self.log_of(key).entries.get(key)

    def list(self, prefix: str) -> Sequence[Entry]:
        """Everything under a resource's prefix, or a namespace's in it, in key order, as of `self.revision`."""
        return self.log_of(prefix).snapshot(prefix)

    def watch(
        self,
        prefix: str,
        *,
        after: int | None,
        predicate: Predicate | None = None,
        bookmark_interval_s: float = 60.0,
    ) -> Watcher:
        """Changes under a prefix after a revision. With `after=None` (streaming lists, watches from version 0) first
        the state now, as ADDED events at one revision, then InitialEventsEnd, then every change after it.

        Raises Compacted when changes after `after` are no longer held.
        """
        return Watcher(self, prefix, after, predicate, bookmark_interval_s)

    async def wait_for(self, revision: int, timeout_s: float = 3.0) -> None:
        """Returns when everything up to `revision` is applied. Raises StoreUnavailable after `timeout_s`."""
        if self.revision >= revision:
            return
        future = asyncio.get_running_loop().create_future()
        waiter = (revision, future)
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await future
        except TimeoutError:
            raise StoreUnavailable(
                f"the watch cache is at revision {self.revision} and did not reach {revision} within {timeout_s:g} s"
            ) from None
        finally:
            if waiter in self._waiters:
                self._waiters.remove(waiter)

    async def consistent_revision(self) -> int:
        """A revision at least that of every write acknowledged before the call: wait for it, then read the cache.

        Callers that come while a read of the store is under way share the next one, as that one may be older than they.
        """
        return await self._consistent.result()

    def log_of(self, key: str) -> _ResourceLog:
        """The log of the resource that a key or prefix belongs to."""
        prefix = resource_prefix(key)
        found = self._logs.get(prefix)
        if found is None:  # nothing of this resource has changed since the cache was filled
            found = self._logs[prefix] = _ResourceLog(self._floor, self._window, self._window_bytes)
            found.observers = self._observers.get(prefix, ())
        return found

    def observe(self, prefix: str, changed: Callable[[], None]) -> None:
        """Call `changed` each time when changes of a resource have come, and when the cache was filled anew."""
        self._observers[prefix] = (*self._observers.get(prefix, ()), changed)
        self.log_of(prefix).observers = self._observers[prefix]

    # -- following the store -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Fill the cache and follow the store, for ever; survives its absence and its compactions. May be run again."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._wake_for_bookmarks(), name="watchcache/bookmarks")
            tasks.create_task(self._keep_following(), name="watchcache/follow")

    async def _keep_following(self) -> None:
        delay_s = RETRY_MIN_S
        while True:
            before = self.revision
            try:
                if self._target is None:
                    self._target = await self._fill()
                await self._follow(self._target)
            except Compacted:
                log.warning("watchcache: the store forgot changes after revision %d; filling anew", self.revision)
                self._filled.clear()
                self._target = None
            except StoreUnavailable as err:
                if self.trouble is None:
                    log.warning("watchcache: lost the store at revision %d: %s", self.revision, err)
                self.trouble = err
                delay_s = RETRY_MIN_S if self.revision > before else min(2 * delay_s, RETRY_MAX_S)
                await asyncio.sleep(delay_s)

    async def _fill(self) -> int:
        """Take the store's state of REPLAY revisions ago, so that watchers of before a restart can resume; the changes
        since come through the watch. Returns the revision at which the cache counts as filled."""
        target = await self._store.revision()
        try:
            base, entries = await self._state_at(max(target - REPLAY, 1))
        except Compacted as err:
            base, entries = await self._state_at(err.compact_revision or target)
        old, self._logs, self._floor, self.revision = self._logs, {}, base, base
        for prefix, found in entries.items():
            self.log_of(prefix).fill(found)
        for resource in old.values():
            resource.closed = True
            resource.wake()
        return target

    async def _state_at(self, revision: int) -> tuple[int, _State]:
        """Every object as it stood at a revision, by resource, in key order."""
        found: _State = {}
        start = ""
        while True:
            page = await self._store.list(ROOT, start=start, limit=PAGE, revision=revision)
            for item in page.items:
                entry = self._entry(item.key, item.mod_revision, item.create_revision, item.value)
                if entry is not None:
                    found.setdefault(resource_prefix(item.key), []).append(entry)
            if not page.remaining:
                return revision, found
            start = page.items[-1].key + "\0"

    async def _follow(self, target: int) -> None:
        async with aclosing(self._store.watch(ROOT, after=self.revision)) as changes:
            self._check_filled(target)
            async for item in changes:
                self.trouble = None
                if isinstance(item, Progress):
                    self.revision = max(self.revision, item.revision)
                else:
                    self._apply(item)
                self._check_filled(target)
                self._release_waiters()
        raise StoreUnavailable("the store ended the watch")

    def _check_filled(self, target: int) -> None:
        if self.revision >= target:
            self._filled.set()

    def _entry(self, key: str, revision: int, create_revision: int, value: bytes) -> Entry | None:
        try:
            data = with_revision(value, revision)
            return Entry(key, revision, create_revision, data, self._head(key, data))
        except ValueError as err:  # msgspec's decoding errors are ValueErrors
            log.error("watchcache: %s at revision %d is no stored object and is left out: %s", key, revision, err)
            return None

    def _apply(self, events: Sequence[StoreEvent]) -> None:
        touched: set[_ResourceLog] = set()
        prefix, resource = "", None
        for event in events:
            if resource is None or not event.key.startswith(prefix):  # mostly of one resource
                resource, prefix = self.log_of(event.key), resource_prefix(event.key)
                touched.add(resource)
            before = resource.entries.get(event.key)
            after = None
            if event.value is not None:
                after = self._entry(event.key, event.revision, event.create_revision, event.value)
            if after is not None:
                resource.put(after)
            elif before is not None:
                resource.remove(event.key)
            if after is not None or before is not None:
                resource.append(Change(event.key, event.revision, before, after))
            self.revision = event.revision
        for resource in touched:
            resource.wake()

    def _release_waiters(self) -> None:
        if not self._waiters:
            return
        for revision, future in self._waiters:
            if revision <= self.revision and not future.done():
                future.set_result(None)
        self._waiters = [waiter for waiter in self._waiters if not waiter[1].done()]

    async def _wake_for_bookmarks(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(TICK_S)
            now = loop.time()
            for resource in tuple(self._logs.values()):
                for watcher in [one for one in resource.waiting if one.due <= now]:
                    resource.waiting.discard(watcher)
                    watcher.wake()


class _SharedRead:
    """A read that callers share, each getting one that began after its call: newcomers await the next one."""

    def __init__(self, read: Callable[[], Awaitable[int]]) -> None:
        self._read = read
        self._waiting: list[asyncio.Future[int]] = []
        self._task: asyncio.Task[None] | None = None

    async def result(self) -> int:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name="watchcache/revision")
        return await future

    async def _run(self) -> None:
        """Read as long as somebody waits. An error is that of all who shared the read."""
        waiting: list[asyncio.Future[int]] = []
        try:
            while self._waiting:
                waiting, self._waiting = self._waiting, []
                try:
                    revision = await self._read()
                except Exception as err:  # theirs, all of them
                    for future in waiting:
                        if not future.done():
                            future.set_exception(err)
                else:
                    for future in waiting:
                        if not future.done():
                            future.set_result(revision)
        finally:
            self._task = None
            for future in (*waiting, *self._waiting):
                future.cancel()
