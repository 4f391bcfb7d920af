"""Compaction by the clock: old versions go, the newest state stays, an absent store is waited for."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from apiserver.compaction import compact_periodically
from apiserver.store.base import KeyValue
from apiserver.store.sqlite import SqliteStore
from kubarium.machinery.errors import Compacted, StoreUnavailable

KEY = "/registry/core/pods/default/web"
DEADLINE_S = 10.0


class SometimesAbsent(SqliteStore):
    """Refuses the first compaction, as a store does that is just starting again."""

    refused = False

    async def compact(self, revision: int) -> None:
        if not self.refused:
            self.refused = True
            raise StoreUnavailable("not now")
        await super().compact(revision)


async def test_old_versions_are_forgotten_and_the_newest_stay(tmp_path: Path) -> None:
    store = SometimesAbsent(tmp_path / "store.db")
    first = await store.create(KEY, b"1")
    second = await store.update(KEY, b"2", expected=first)
    task = asyncio.create_task(compact_periodically(store, interval_s=0.01))
    try:
        with pytest.raises(Compacted):
            async with asyncio.timeout(DEADLINE_S):
                while True:
                    await store.get(KEY, first)
        assert await store.get(KEY) == KeyValue(KEY, b"2", first, second)
        assert store.refused
    finally:
        task.cancel()
        await asyncio.wait([task])
        await store.close()
