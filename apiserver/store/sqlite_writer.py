"""The SQLite store's one writer: a thread that commits in groups.

It takes whatever writes queued up while the last commit was on its way to the disk, checks each against its index in
memory, inserts all that passed with one statement and commits once. Each write gets its own answer, and a refused one
does not disturb its neighbours. Expired keys are deleted the same way, as writes that nobody waits for.
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
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from apiserver.store.base import KeyValue, StoreEvent
from apiserver.store.sqlite_queries import GROUP, SCHEMA, Row, connect, insert, live_keys, snapshot_revision
from kubarium.machinery.errors import KeyExists, KeyMissing, RevisionMismatch, StoreError, StoreUnavailable

log = logging.getLogger(__name__)

Answer: TypeAlias = tuple[int, KeyValue | None]  # the revision of a write, and what a deletion deleted
Job: TypeAlias = Callable[[sqlite3.Connection], int]


@dataclass(frozen=True, slots=True)
class Write:
    """A write that waits. `value` None deletes; `expected` None creates; `done` None: nobody waits."""

    key: str
    value: bytes | None
    expected: int | None
    expires: float
    done: asyncio.Future[Answer] | None


class Outcome(NamedTuple):
    """What became of a write or a job. `done` belongs to an event loop: settle it there."""

    done: asyncio.Future[Any]
    result: Answer | int | StoreError


class Publish(Protocol):
    def __call__(self, events: list[StoreEvent], outcomes: list[Outcome]) -> None:
        """Called in the writer's thread, in commit order, when the events are on disk."""
        ...


@dataclass(frozen=True, slots=True)
class _Queued:
    """Other work than a write, done between two groups."""

    run: Job
    done: asyncio.Future[int]


class _Version(NamedTuple):
    revision: int
    create_revision: int


_STOP: Final = object()
_Verdict: TypeAlias = Row | StoreError


class Writer:
    """Raises StoreUnavailable when the file cannot be opened. `submit` may be called from any thread, `stop` ends it
    after all that was submitted before."""

    def __init__(self, path: Path, publish: Publish) -> None:
        self._path = path
        self._publish = publish
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

    def submit(self, write: Write) -> None:
        self._queue.put(write)

    def submit_job(self, run: Job, done: asyncio.Future[int]) -> None:
        self._queue.put(_Queued(run, done))

    def stop(self) -> None:
        """Blocks until the last commit is done."""
        self._queue.put(_STOP)
        self._thread.join()

    def _load(self, db: sqlite3.Connection) -> None:
        for key, revision, create_revision, expires in live_keys(db):
            self._index[key] = _Version(revision, create_revision)
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
            group = [item] if isinstance(item, Write) else self._expired()
            while len(group) < GROUP and not self._queue.empty():
                held = self._queue.get()  # nobody else takes from it
                if not isinstance(held, Write):
                    break
                group.append(held)
                held = None
            self._commit(db, group)
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
        self._publish([], [Outcome(job.done, result)])

    def _commit(self, db: sqlite3.Connection, group: list[Write]) -> None:
        rows, verdicts = self._plan_group(group)
        try:
            previous = insert(db, rows) if rows else {}
        except sqlite3.Error as err:
            log.error("store: a commit of %d writes failed: %s", len(rows), err)
            failure = StoreUnavailable(f"{self._path}: {err}")
            self._publish([], _outcomes(group, [v if isinstance(v, StoreError) else failure for v in verdicts]))
            return
        self._remember(rows)
        events = [
            StoreEvent(row.key, row.revision, row.value, previous.get(row.previous), row.create_revision)
            for row in rows
        ]
        self._publish(events, _outcomes(group, [_answer(verdict, previous) for verdict in verdicts]))

    def _plan_group(self, group: list[Write]) -> tuple[list[Row], list[_Verdict]]:
        """The rows to insert, and for each write its row or its refusal."""
        fresh: dict[str, Row] = {}  # the newest row of each key that the group has written so far
        verdicts: list[_Verdict] = []
        for write in group:
            verdict = self._plan(write, fresh.get(write.key))
            if isinstance(verdict, Row):
                self.revision = verdict.revision  # kept even if the commit fails: a revision is never used twice
                fresh[verdict.key] = verdict
            verdicts.append(verdict)
        return [verdict for verdict in verdicts if isinstance(verdict, Row)], verdicts

    def _plan(self, write: Write, earlier: Row | None) -> _Verdict:
        """The row a write adds, given the index and what its group has done to the key before it."""
        current = self._index.get(write.key)
        if earlier is not None:
            current = None if earlier.deleted else _Version(earlier.revision, earlier.create_revision)
        key, revision = write.key, self.revision + 1
        if write.expected is None:
            if current is not None:
                return KeyExists(f"{key} exists")
            return Row(revision, key, False, revision, 0, write.expires, write.value)
        if current is None:
            return KeyMissing(f"{key} does not exist")
        if current.revision != write.expected:
            return RevisionMismatch(f"{key} is at revision {current.revision}, not {write.expected}", current.revision)
        gone = write.value is None
        return Row(revision, key, gone, current.create_revision, current.revision, write.expires, write.value)

    def _remember(self, rows: list[Row]) -> None:
        for row in rows:
            if row.deleted:
                self._index.pop(row.key, None)
                continue
            self._index[row.key] = _Version(row.revision, row.create_revision)
            if row.expires:
                heapq.heappush(self._expiries, (row.expires, row.revision, row.key))


def _answer(verdict: _Verdict, previous: Mapping[int, bytes]) -> Answer | StoreError:
    if isinstance(verdict, StoreError):
        return verdict
    if not verdict.deleted:
        return verdict.revision, None
    deleted = KeyValue(verdict.key, previous[verdict.previous], verdict.create_revision, verdict.previous)
    return verdict.revision, deleted


def _outcomes(group: list[Write], answers: list[Answer | StoreError]) -> list[Outcome]:
    return [Outcome(w.done, answer) for w, answer in zip(group, answers, strict=True) if w.done is not None]
