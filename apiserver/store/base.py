"""What every store promises; `tests/apiserver/store_conformance.py` is the same in tests.

A store maps keys (`/registry/pods/default/web`) to bytes and numbers every write with a revision of its own, larger
than every earlier one, never reused, not even after a restart or a restore. Acknowledged means on disk.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Protocol

import msgspec


class KeyValue(msgspec.Struct, frozen=True, gc=False):
    """A value and the revisions of its creation and of its last write."""

    key: str
    value: bytes
    create_revision: int
    mod_revision: int


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: `revision` is the snapshot's, `remaining` counts the keys behind the last item."""

    items: tuple[KeyValue, ...]
    revision: int
    remaining: int = 0


class StoreEvent(msgspec.Struct, frozen=True, gc=False):
    """One write. `previous` is the value before it (None on creation), `value` None on deletion."""

    key: str
    revision: int
    value: bytes | None
    previous: bytes | None
    create_revision: int


@dataclass(frozen=True, slots=True)
class Progress:
    """Every event up to `revision` has been delivered on this watch."""

    revision: int


def prefix_end(prefix: str) -> str:
    """The first string behind all that begin with `prefix`, in byte order."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else chr(0x10FFFF)


class Store(Protocol):
    """Raises KeyExists, KeyMissing, RevisionMismatch, Compacted, FutureRevision, StoreUnavailable."""

    async def revision(self) -> int:
        """The current revision, linearizable: at least that of every write acknowledged before the call."""
        ...

    def revision_now(self) -> int | None:
        """The same, where this process knows it without asking anybody; else None."""
        ...

    async def get(self, key: str, revision: int = 0) -> KeyValue | None:
        """The value now (0) or as it stood at `revision`."""
        ...

    async def list(self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0) -> Page:
        """Keys under `prefix` in byte order, from `start` on (inclusive), at one revision (0: now)."""
        ...

    async def create(self, key: str, value: bytes, *, ttl_s: int = 0) -> int:
        """The new revision; the key goes by itself after `ttl_s` seconds (0: never)."""
        ...

    async def update(self, key: str, value: bytes, *, expected: int, ttl_s: int = 0) -> int:
        """Replace the value if its mod_revision is `expected`."""
        ...

    async def delete(self, key: str, *, expected: int) -> tuple[int, KeyValue]:
        """Delete if the mod_revision is `expected`; the deletion's revision, and what was deleted."""
        ...

    async def count(self, prefix: str) -> int: ...

    async def compact(self, revision: int) -> None:
        """Forget versions older than `revision`; later reads and watches below it raise Compacted."""
        ...

    def watch(self, prefix: str, *, after: int) -> AsyncGenerator[tuple[StoreEvent, ...] | Progress, None]:
        """Every write under `prefix` with a revision above `after`, in order, none twice, none left out.

        Yields batches, and Progress when idle. Ends only by an error or by being closed.
        """
        ...

    async def close(self) -> None: ...
