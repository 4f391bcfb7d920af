"""The embedded store: one SQLite file, one writer thread with group commit, readers on threads of their own.

Every write is a row of `log`, keyed by its revision; the newest row of a key is its value, an older one is kept until
compaction. A watch reads what is past from the table and what comes from the writer, after each commit; one that falls
far behind goes back to the table, so that it costs bounded memory and still loses nothing.
Source: https://sqlite.org/wal.html; https://sqlite.org/pragma.html#pragma_synchronous (FULL: on disk after COMMIT).
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sqlite3
import threading
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Final, TypeVar

from apiserver.store import sqlite_queries as queries
from apiserver.store.base import KeyValue, Page, Progress, StoreEvent
from apiserver.store.sqlite_writer import Job, Outcome, Write, Writer
from kubarium.machinery.errors import FutureRevision, StoreError, StoreUnavailable

T = TypeVar("T")

FEED: Final = 4096  # events a watch may lag behind in memory; beyond it reads the table instead
READERS: Final = 2


@dataclass(slots=True, eq=False)
class _Feed:
    """The live end of one watch; touched only on its event loop."""

    prefix: str
    loop: asyncio.AbstractEventLoop
    revision: int  # everything up to it has been fed
    lost: bool = True  # the table has what is missing: at first all, later what did not fit
    closed: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    events: list[StoreEvent] = field(default_factory=list)

    def push(self, events: Sequence[StoreEvent], revision: int) -> None:
        self.revision = revision
        if not self.lost:
            self.events += [event for event in events if event.key.startswith(self.prefix)]
            if len(self.events) > FEED:
                self.events.clear()
                self.lost = True
        self.wake.set()

    def take(self) -> list[StoreEvent]:
        taken, self.events = self.events, []
        return taken

    def close(self) -> None:
        self.closed = True
        self.wake.set()


class SqliteStore:
    """A Store in one file. One process at a time; a second one is refused with StoreUnavailable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock_file = _lock(path)
        self._lock = threading.Lock()  # guards _feeds, and _revision against a subscription in between
        self._feeds: set[_Feed] = set()
        self._closed = False
        self._local = threading.local()
        self._connections: list[sqlite3.Connection] = []  # the readers'
        self._gathered: dict[asyncio.AbstractEventLoop, list[Write]] = {}  # of this turn of each loop
        try:
            self._writer = Writer(path, self._publish, _settle)
        except StoreError:
            self._lock_file.close()
            raise
        self._revision = self._writer.revision  # the newest on disk
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="store/reader")

    async def revision(self) -> int:
        return self._revision

    def revision_now(self) -> int | None:
        return self._revision

    async def get(self, key: str, revision: int = 0) -> KeyValue | None:
        return await self._read(partial(queries.get_at, key=key, revision=revision))

    async def list(self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0) -> Page:
        return await self._read(partial(queries.list_at, prefix=prefix, start=start, limit=limit, revision=revision))

    async def count(self, prefix: str) -> int:
        return await self._read(partial(queries.count_at, prefix=prefix))

    async def create(self, key: str, value: bytes, *, ttl_s: int = 0) -> int:
        return (await self._write(key, value, None, ttl_s)).revision

    async def update(self, key: str, value: bytes, *, expected: int, ttl_s: int = 0) -> int:
        return (await self._write(key, value, expected, ttl_s)).revision

    async def delete(self, key: str, *, expected: int) -> tuple[int, KeyValue]:
        done = await self._write(key, None, expected)
        assert done.previous is not None
        return done.revision, KeyValue(key, done.previous, done.create_revision, done.previous_revision)

    async def compact(self, revision: int) -> None:
        if revision > self._revision:
            raise FutureRevision(f"cannot compact at {revision}: the store is at {self._revision}")
        await self._job(partial(queries.set_compaction, revision=revision))
        low = 0
        while low < revision:
            low = await self._job(partial(queries.forget, low=low, revision=revision))

    async def watch(self, prefix: str, *, after: int) -> AsyncGenerator[tuple[StoreEvent, ...] | Progress, None]:
        feed = self._subscribe(prefix)
        position, told = after, 0
        try:
            while True:
                feed.wake.clear()
                if feed.closed:
                    raise StoreUnavailable("the store was closed")
                if feed.lost:
                    feed.lost = False  # from here on the feed keeps what the table does not have up to `until`
                    until = feed.revision
                    more = True
                    while more:
                        read = partial(queries.history, prefix=prefix, after=position, until=until)
                        events, position, more = await self._read(read)
                        if events:
                            yield events
                elif fresh := tuple(event for event in feed.take() if event.revision > position):
                    told = position = fresh[-1].revision
                    yield fresh
                elif told < (position := max(position, feed.revision)) == feed.revision:
                    told = position
                    yield Progress(position)
                else:
                    await feed.wake.wait()
        finally:
            with self._lock:
                self._feeds.discard(feed)

    async def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            feeds, self._feeds = self._feeds, set()
        for feed in feeds:
            _call(feed.loop, feed.close)
        for loop in list(self._gathered):
            self._submit(loop)
        await asyncio.to_thread(self._writer.stop)
        await asyncio.to_thread(self._readers.shutdown)
        for db in self._connections:
            db.close()
        self._lock_file.close()

    def _subscribe(self, prefix: str) -> _Feed:
        """A feed of everything above its `revision`; everything up to it is in the table."""
        with self._lock:
            self._check_open()
            feed = _Feed(prefix, asyncio.get_running_loop(), self._revision)
            self._feeds.add(feed)
        return feed

    def _check_open(self) -> None:
        if self._closed:
            raise StoreUnavailable("the store is closed")

    async def _write(self, key: str, value: bytes | None, expected: int | None, ttl_s: int = 0) -> Write:
        """The write, done. It is done even if the caller is cancelled."""
        self._check_open()
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        write = Write(key, value, expected, time.time() + ttl_s if ttl_s else 0.0, done)
        gathered = self._gathered.get(loop)
        if gathered is None:
            self._gathered[loop] = [write]
            loop.call_soon(self._submit, loop)  # together with what else comes in this turn
        else:
            gathered.append(write)
        await done
        return write

    def _submit(self, loop: asyncio.AbstractEventLoop) -> None:
        if gathered := self._gathered.pop(loop, None):
            self._writer.submit(gathered)

    async def _job(self, run: Job) -> int:
        self._check_open()
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._writer.submit_job(run, done)
        return await done

    async def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._run_query, query)

    def _run_query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """In a reader's thread: one query in one transaction, hence on one snapshot."""
        try:
            db: sqlite3.Connection | None = getattr(self._local, "db", None)
            if db is None:
                db = self._local.db = queries.connect(self._path)
                self._connections.append(db)
            db.execute("BEGIN")
            try:
                return query(db)
            finally:
                db.execute("COMMIT")
        except sqlite3.Error as err:
            raise StoreUnavailable(f"{self._path}: {err}") from err

    def _publish(self, events: Sequence[StoreEvent], writes: Sequence[Write]) -> None:
        """In the writer's thread: the watches first, then those who wait for an answer, loop by loop."""
        feeds: Sequence[_Feed] = ()
        if events:
            with self._lock:
                self._revision = events[-1].revision
                feeds = [*self._feeds]
        revision = self._revision
        waiting: dict[asyncio.AbstractEventLoop, list[Write]] = {feed.loop: [] for feed in feeds}
        for write in writes:
            if write.done is not None:
                waiting.setdefault(write.done.get_loop(), []).append(write)
        for loop, mine in waiting.items():
            _call(loop, partial(_deliver, [feed for feed in feeds if feed.loop is loop], events, revision, mine))


def _deliver(feeds: Sequence[_Feed], events: Sequence[StoreEvent], revision: int, writes: Sequence[Write]) -> None:
    for feed in feeds:
        feed.push(events, revision)
    for write in writes:
        done = write.done
        if done is None or done.done():  # its caller has gone
            continue
        if write.error is None:
            done.set_result(None)
        else:
            done.set_exception(write.error)


def _settle(outcome: Outcome) -> None:
    """In the writer's thread: what became of a job."""
    _call(outcome.done.get_loop(), partial(_answer, outcome))


def _answer(outcome: Outcome) -> None:
    done, result = outcome
    if done.done():  # its caller has gone
        return
    if isinstance(result, StoreError):
        done.set_exception(result)
    else:
        done.set_result(result)


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has been closed: nobody waits any more
        loop.call_soon_threadsafe(function)


def _lock(path: Path) -> IO[str]:
    """Make sure that no other process has the file open; the lock goes with the process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock_file = path.with_name(path.name + ".lock").open("w")
    except OSError as err:
        raise StoreUnavailable(f"{path} cannot be opened: {err.strerror}") from err
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock_file.close()
        raise StoreUnavailable(f"{path} is in use by another process; only one API server may open it") from None
    return lock_file
