"""The SQLite store's table and every statement on it. Synchronous; each function is one query on one connection.

Readers call these inside a read transaction, so that all statements of a function see one snapshot.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from apiserver.store.base import KeyValue, Page, StoreEvent, prefix_end
from kubarium.machinery.errors import Compacted, FutureRevision

COLUMNS: Final = 7  # of `log`
GROUP: Final = 64  # writes in one commit, at most; also the rows of one INSERT
HISTORY: Final = 500  # events read from the table at once
COMPACT_STEP: Final = 1000  # versions that one compaction step looks at; writes go in between
FIRST_REVISION: Final = 1  # of an empty store, as in etcd: resourceVersion 0 means "any" in Kubernetes

SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS log (
    revision INTEGER PRIMARY KEY,
    key TEXT NOT NULL,
    deleted INTEGER NOT NULL,          -- in the index, so that lists and counts need not touch the rows
    create_revision INTEGER NOT NULL,
    previous INTEGER NOT NULL,         -- revision of the version before, 0 for none
    expires REAL NOT NULL,             -- seconds since the epoch, 0 for never
    value BLOB                         -- NULL: deleted; last, because long values spill into pages of their own
);
CREATE INDEX IF NOT EXISTS log_by_key ON log (key, revision, deleted);
CREATE TABLE IF NOT EXISTS compaction (id INTEGER PRIMARY KEY CHECK (id = 1), revision INTEGER NOT NULL);
INSERT OR IGNORE INTO compaction VALUES (1, 0);
"""


def connect(path: Path) -> sqlite3.Connection:
    """A connection with no transaction of its own making, whose commits are on disk when they return."""
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=4 * GROUP)
    db.execute("PRAGMA busy_timeout = 10000")
    db.execute("PRAGMA journal_mode = WAL")
    db.execute("PRAGMA synchronous = FULL")
    db.execute("PRAGMA journal_size_limit = 67108864")
    return db


@cache
def _insert_statement(rows: int) -> str:
    return "INSERT INTO log VALUES " + ",".join(["(?,?,?,?,?,?,?)"] * rows)


def insert(db: sqlite3.Connection, columns: list[object]) -> None:
    """Commit rows: the columns of all of them, one after the other, in the order of the table.

    One statement, which is a transaction of its own: between statements the interpreter can be lost to a busy event
    loop. (`executemany`, because `execute` gives the interpreter away once more, to ask for the last row.)
    """
    db.executemany(_insert_statement(len(columns) // COLUMNS), (columns,))


def values_of(db: sqlite3.Connection, revisions: list[int]) -> dict[int, bytes]:
    """The values written at these revisions."""
    if not revisions:
        return {}
    marks = ",".join("?" * len(revisions))
    return dict(db.execute(f"SELECT revision, value FROM log WHERE revision IN ({marks})", revisions))


def snapshot_revision(db: sqlite3.Connection, revision: int) -> int:
    """The revision a read is to see: the one asked for, or (0) this snapshot's newest."""
    newest, compacted = db.execute(
        "SELECT max(coalesce((SELECT max(revision) FROM log), 0), revision, ?), revision FROM compaction",
        (FIRST_REVISION,),
    ).fetchone()
    if revision > newest:
        raise FutureRevision(f"revision {revision} has not been reached: the store is at {newest}")
    if revision and revision < compacted:
        raise Compacted(f"revision {revision} has been compacted; the oldest is {compacted}", compacted)
    return revision or int(newest)


def get_at(db: sqlite3.Connection, *, key: str, revision: int) -> KeyValue | None:
    at = snapshot_revision(db, revision)
    row = db.execute(
        "SELECT value, create_revision, revision FROM log WHERE key = ? AND revision <= ?"
        " ORDER BY revision DESC LIMIT 1",
        (key, at),
    ).fetchone()
    return None if row is None or row[0] is None else KeyValue(key, *row)


_LIVE: Final = (
    "SELECT key, max(revision) AS newest, deleted FROM log WHERE key >= ? AND key < ? AND revision <= ?"
    " GROUP BY key HAVING deleted = 0"
)


class Live(NamedTuple):
    """What there is to know of a live key besides its value."""

    key: str
    revision: int
    create_revision: int
    expires: float


def live_keys(db: sqlite3.Connection) -> Iterator[Live]:
    """Every key that has a value now."""
    rows = db.execute(
        f"SELECT log.key, log.revision, log.create_revision, log.expires FROM ({_LIVE})"
        " JOIN log ON log.revision = newest",
        ("", prefix_end(""), snapshot_revision(db, 0)),
    )
    return map(Live._make, rows)


def list_at(db: sqlite3.Connection, *, prefix: str, start: str, limit: int, revision: int) -> Page:
    at = snapshot_revision(db, revision)
    rows = db.execute(
        f"SELECT log.key, log.value, log.create_revision, log.revision FROM ({_LIVE} ORDER BY key LIMIT ?)"
        " JOIN log ON log.revision = newest ORDER BY log.key",
        (max(start, prefix), prefix_end(prefix), at, limit + 1 if limit else -1),
    ).fetchall()
    if not limit or len(rows) <= limit:
        return Page(tuple(KeyValue(*row) for row in rows), at)
    items = tuple(KeyValue(*row) for row in rows[:limit])
    return Page(items, at, count_at(db, prefix=prefix, start=rows[limit][0], revision=at))


def count_at(db: sqlite3.Connection, *, prefix: str, start: str = "", revision: int = 0) -> int:
    """The number of keys under a prefix, from `start` on."""
    at = snapshot_revision(db, revision)
    counted = db.execute(f"SELECT count(*) FROM ({_LIVE})", (max(start, prefix), prefix_end(prefix), at))
    return int(counted.fetchone()[0])


def history(db: sqlite3.Connection, *, prefix: str, after: int, until: int) -> tuple[tuple[StoreEvent, ...], int, bool]:
    """Events under a prefix after a revision, at most HISTORY of them; how far they reach; whether there may be more.

    Raises Compacted when some of them are gone.
    """
    snapshot_revision(db, min(after, until) or FIRST_REVISION)
    rows = db.execute(
        "SELECT new.key, new.revision, new.value, old.value, new.create_revision FROM log AS new"
        " LEFT JOIN log AS old ON old.revision = new.previous"
        " WHERE new.revision > ? AND new.revision <= ? AND new.key >= ? AND new.key < ? ORDER BY new.revision LIMIT ?",
        (after, until, prefix, prefix_end(prefix), HISTORY),
    ).fetchall()
    events = tuple(StoreEvent(*row) for row in rows)
    if len(events) == HISTORY:
        return events, events[-1].revision, True
    return events, max(after, until), False


def set_compaction(db: sqlite3.Connection, *, revision: int) -> int:
    db.execute("UPDATE compaction SET revision = max(revision, ?)", (revision,))
    return revision


def forget(db: sqlite3.Connection, *, low: int, revision: int) -> int:
    """Delete what nobody can ask for any more among the next COMPACT_STEP versions above `low`; how far that went."""
    (high,) = db.execute(
        "SELECT max(revision) FROM"
        " (SELECT revision FROM log WHERE revision > ? AND revision <= ? ORDER BY revision LIMIT ?)",
        (low, revision, COMPACT_STEP),
    ).fetchone()
    if high is None:
        return revision
    db.execute(
        "DELETE FROM log WHERE revision > ? AND revision <= ? AND (deleted OR EXISTS (SELECT 1 FROM log AS newer"
        " WHERE newer.key = log.key AND newer.revision > log.revision AND newer.revision <= ?))",
        (low, high, revision),
    )
    return int(high)
