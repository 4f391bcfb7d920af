"""The SQLite store's one writer: a thread that commits in groups.

It takes whatever writes queued up while the last commit was on its way to the disk, checks each against its index in
memory, and inserts all that passed with one statement, which is its own transaction. Each write gets its own answer,
and a refused one does not disturb its neighbours. Expired keys are deleted the same way, as writes that nobody waits
for.

The thread shares the interpreter with a busy event loop, and each time it gives the interpreter away it may wait for it
as long as all the rest of a commit takes. Hence one statement a group, planned before and answered after in one go.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol, TypeAlias

from apiserver.store.base import StoreEvent
from apiserver.store.sqlite_queries import GROUP, SCHEMA, connect, insert, live_keys, snapshot_revision, values_of
from kubarium.machinery.errors import KeyExists, KeyMissing, RevisionMismatch, StoreError, StoreUnavailable

log = logging.getLogger(__name__)

Job: TypeAlias = Callable[[sqlite3.Connection], int]


class Write:
    """A write that waits. `value` None deletes; `expected` None creates; `done` None: nobody waits.

    The writer fills in `revision`, `create_revision`, what the key held before (`previous`, at `previous_revision`), or
    `error`. `done` belongs to an event loop: settle it there.
    """

    __slots__ = (
        "create_revision",
        "done",
        "error",
        "expected",
        "expires",
        "key",
        "previous",
        "previous_revision",
        "revision",
        "value",
    )

    def __init__(
        self, key: str, value: bytes | None, expected: int | None, expires: float, done: asyncio.Future[None] | None
    ) -> None:
        self.key = key
        self.value = value
        self.expected = expected
        self.expires = expires
        self.done = done
        self.error: StoreError | None = None
        self.revision = 0
        self.create_revision = 0
        self.previous: bytes | None = None
        self.previous_revision = 0


class Outcome(NamedTuple):
    """What became of a job. `done` belongs to an event loop: settle it there."""

    done: asyncio.Future[int]
    result: int | StoreError


class Publish(Protocol):
    """Called in the writer's thread, in commit order, when the events are on disk and each write is filled in."""

    def __call__(self, events: list[StoreEvent], writes: list[Write], /) -> None: ...


class _Queued(NamedTuple):
    """Other work than writes, done between two groups."""

    run: Job
    done: asyncio.Future[int]


_STOP: Final = object()
_Version: TypeAlias = tuple[int, int]  # revision, create_revision


class Writer:
    """Raises StoreUnavailable when the file cannot be opened. `submit` may be called from any thread, `stop` ends it
    after all that was submitted before."""

    def __init__(self, path: Path, publish: Publish, settle: Callable[[Outcome], None]) -> None:
        """`settle` is called in the writer's thread after each job."""
        self._path = path
        self._publish = publish
        self._settle = settle
        self._queue: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._index: dict[str, _Version] = {}
        self._expiries: list[tuple[float, int, str]] = []  # a heap of (when, revision, key)
        try:
            db = connect(path)
            db.executescript(SCHEMA)
            self.revision = snapshot_revision(db, 0)  # the newest given out; only the thread changes it
            self._load(db)
        except sqlite3.Error as err:
            raise StoreUnavailable(f"{path} cannot be opened: {err}") from err
        self._thread = threading.Thread(target=self._run_or_exit, args=(db,), name="store/writer", daemon=True)
        self._thread.start()

    def submit(self, writes: list[Write]) -> None:
        self._queue.put(writes)

    def submit_job(self, run: Job, done: asyncio.Future[int]) -> None:
        self._queue.put(_Queued(run, done))

    def stop(self) -> None:
        """Blocks until the last commit is done."""
        self._queue.put(_STOP)
        self._thread.join()

    def _load(self, db: sqlite3.Connection) -> None:
        for key, revision, create_revision, expires in live_keys(db):
            self._index[key] = (revision, create_revision)
            if expires:
                self._expiries.append((expires, revision, key))
        heapq.heapify(self._expiries)

    def _run_or_exit(self, db: sqlite3.Connection) -> None:
        """A server without its writer must end, not hang: what was acknowledged is on disk, the rest is tried again."""
        try:
            self._run(db)
        except BaseException:
            log.critical("store: the writer was stopped by an error; the process ends", exc_info=True)
            os._exit(1)

    def _run(self, db: sqlite3.Connection) -> None:
        held: object = None
        while True:
            item, held = held or self._next_item(), None
            if item is _STOP:
                break
            if isinstance(item, _Queued):
                self._run_job(db, item)
                continue
            writes = item if isinstance(item, list) else self._expired()
            while len(writes) < GROUP and not self._queue.empty():
                held = self._queue.get()  # nobody else takes from it
                if not isinstance(held, list):
                    break
                writes += held
                held = None
            for start in range(0, len(writes), GROUP):
                self._commit(db, writes[start : start + GROUP])
        db.close()

    def _next_item(self) -> object:
        """The next thing to do; None when a key has expired."""
        if not self._expiries:
            return self._queue.get()
        wait_s = self._expiries[0][0] - time.time()
        if wait_s <= 0:
            return None
        try:
            return self._queue.get(timeout=min(wait_s, 60.0))  # the clock may be set meanwhile
        except queue.Empty:
            return None

    def _expired(self) -> list[Write]:
        """Deletions of what has expired; one that has been written again since is refused by its revision."""
        now = time.time()
        gone: list[Write] = []
        while self._expiries and self._expiries[0][0] <= now and len(gone) < GROUP:
            _, revision, key = heapq.heappop(self._expiries)
            gone.append(Write(key, None, revision, 0.0, None))
        return gone

    def _run_job(self, db: sqlite3.Connection, job: _Queued) -> None:
        result: int | StoreError
        try:
            result = job.run(db)
        except sqlite3.Error as err:
            result = StoreUnavailable(f"{self._path}: {err}")
        self._settle(Outcome(job.done, result))

    def _commit(self, db: sqlite3.Connection, group: list[Write]) -> None:
        fresh = self._plan(group)
        passed = [write for write in group if write.error is None]
        if not passed:
            self._publish([], group)
            return
        try:
            _fill_in_previous(db, passed)
            insert(
                db,
                [
                    column
                    for w in passed
                    for column in (
                        w.revision,
                        w.key,
                        w.value is None,
                        w.create_revision,
                        w.previous_revision,
                        w.expires,
                        w.value,
                    )
                ],
            )
        except sqlite3.Error as err:
            log.error("store: a commit of %d writes failed: %s", len(passed), err)
            for write in passed:
                write.error = StoreUnavailable(f"{self._path}: {err}")
            self._publish([], group)
            return
        self._remember(passed, fresh)
        self._publish([StoreEvent(w.key, w.revision, w.value, w.previous, w.create_revision) for w in passed], group)

    def _plan(self, group: list[Write]) -> dict[str, _Version | None]:
        """Give each write its revision or its error; what the keys are then (None: deleted).

        A revision is kept even if the commit fails: it is never used twice.
        """
        index, revision = self._index, self.revision
        fresh: dict[str, _Version | None] = {}
        for write in group:
            key = write.key
            current = fresh[key] if key in fresh else index.get(key)
            if (error := _refusal(write, current)) is not None:
                write.error = error
                continue
            revision += 1
            write.revision = write.create_revision = revision
            if current is not None:
                write.previous_revision, write.create_revision = current
            fresh[key] = None if write.value is None else (revision, write.create_revision)
        self.revision = revision
        return fresh

    def _remember(self, passed: list[Write], fresh: dict[str, _Version | None]) -> None:
        for key, version in fresh.items():
            if version is None:
                self._index.pop(key, None)
            else:
                self._index[key] = version
        for write in passed:
            if write.expires and write.value is not None:
                heapq.heappush(self._expiries, (write.expires, write.revision, write.key))


def _refusal(write: Write, current: _Version | None) -> StoreError | None:
    """Why a write may not be, given the version that its key has."""
    expected = write.expected
    if expected is None:
        return None if current is None else KeyExists(f"{write.key} exists")
    if current is None:
        return KeyMissing(f"{write.key} does not exist")
    if current[0] != expected:
        return RevisionMismatch(f"{write.key} is at revision {current[0]}, not {expected}", current[0])
    return None


def _fill_in_previous(db: sqlite3.Connection, passed: list[Write]) -> None:
    """The values that the writes replace: those of the group itself are not in the table yet."""
    replacing = [write for write in passed if write.previous_revision]
    if not replacing:
        return
    made = {write.revision: write.value for write in passed}
    found = values_of(db, [w.previous_revision for w in replacing if w.previous_revision not in made])
    for write in replacing:
        before = write.previous_revision
        write.previous = made[before] if before in made else found.get(before)
