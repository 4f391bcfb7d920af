"""The SQLite store: the shared promises, and what is its own: one process, restarts, its file."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from pathlib import Path

import pytest

from apiserver.store import open_store
from apiserver.store.base import Store
from apiserver.store.sqlite import SqliteStore
from kubarium.machinery.errors import Compacted, ConfigError, StoreUnavailable
from tests.apiserver.store_conformance import PODS, WEB, StoreConformance, take


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store(f"sqlite://{tmp_path}/store.db")
    yield opened
    await opened.close()


class TestSqliteStore(StoreConformance):
    pass


async def test_a_second_process_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="in use"):
        SqliteStore(tmp_path / "store.db")


async def test_state_revision_and_compaction_survive_a_restart(store: Store, tmp_path: Path) -> None:
    first = await store.create(WEB, b"1")
    second = await store.update(WEB, b"2", expected=first)
    gone, _ = await store.delete(WEB, expected=second)
    await store.compact(gone)
    await store.close()
    again = SqliteStore(tmp_path / "store.db")
    try:
        assert await again.revision() == gone
        with pytest.raises(Compacted):
            await again.get(WEB, second)
        assert await again.create(WEB, b"3") == gone + 1
    finally:
        await again.close()


async def test_a_watch_resumes_over_a_restart(store: Store, tmp_path: Path) -> None:
    first = await store.create(PODS + "a", b"1")
    second = await store.create(PODS + "b", b"1")
    await store.close()
    again = SqliteStore(tmp_path / "store.db")
    try:
        async with aclosing(again.watch(PODS, after=first)) as watch:
            third = await again.create(PODS + "c", b"1")
            assert [event.revision for event in await take(watch, 2)] == [second, third]
    finally:
        await again.close()


async def test_keys_that_expired_while_it_was_closed_go_after_the_restart(store: Store, tmp_path: Path) -> None:
    created = await store.create(WEB, b"1", ttl_s=1)
    await store.close()
    again = SqliteStore(tmp_path / "store.db")
    try:
        async with aclosing(again.watch(PODS, after=created)) as watch:
            (event,) = await take(watch, 1)
        assert (event.key, event.value) == (WEB, None)
    finally:
        await again.close()


async def test_compaction_leaves_one_row_a_live_key(store: Store, tmp_path: Path) -> None:
    for n in range(30):
        revision = await store.create(f"{PODS}{n}", b"1")
        revision = await store.update(f"{PODS}{n}", b"2", expected=revision)
        if n % 3 == 0:
            await store.delete(f"{PODS}{n}", expected=revision)
    await store.compact(await store.revision())
    with sqlite3.connect(tmp_path / "store.db") as db:
        assert db.execute("SELECT count(*) FROM log").fetchone() == (20,)
    db.close()
    assert await store.count(PODS) == 20


async def test_closing_ends_watches_and_refuses_calls(store: Store) -> None:
    reading = asyncio.create_task(take(store.watch(PODS, after=await store.revision()), 2))
    await store.create(WEB, b"1")
    await store.close()
    with pytest.raises(StoreUnavailable):
        await reading
    for call in (store.get(WEB), store.create(WEB, b""), store.compact(1), store.count(PODS)):
        with pytest.raises(StoreUnavailable):
            await call


async def test_a_write_whose_caller_went_away_still_happens(store: Store) -> None:
    writing = asyncio.create_task(store.create(WEB, b"1"))
    await asyncio.wait([writing], timeout=0)
    writing.cancel()
    async with aclosing(store.watch(PODS, after=0)) as watch:
        assert [event.key for event in await take(watch, 1)] == [WEB]


@pytest.mark.parametrize("url", ["", "sqlite://", "sqlite:///", "postgres://x/y", "etcd://", "/var/lib/x"])
def test_other_urls_are_refused_with_an_example(url: str) -> None:
    with pytest.raises(ConfigError, match="sqlite:///"):
        open_store(url)


def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        SqliteStore(path)
    path.unlink()
    reopened = SqliteStore(path)  # the refusal has left no lock behind
    asyncio.run(reopened.close())


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], capture_output=True)
    if mounted.returncode:
        pytest.skip(f"no right to mount a tmpfs: {mounted.stderr.decode().strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


async def test_a_full_disk_refuses_writes_keeps_what_is_there_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    store = SqliteStore(small_disk / "store.db")
    try:
        watch = store.watch(PODS, after=await store.revision())
        written: dict[str, int] = {}
        with pytest.raises(StoreUnavailable):
            for n in range(1000):
                written[f"{PODS}{n:04}"] = await store.create(f"{PODS}{n:04}", b"x" * 20_000)
        assert len(written) > 5
        page = await store.list(PODS)
        assert {item.key: item.mod_revision for item in page.items} == written
        assert await store.revision() == page.revision == max(written.values())
        subprocess.run(["mount", "-o", "remount,size=8m", small_disk], check=True)
        after = await store.create(PODS + "last", b"x")
        assert after > max(written.values())
        assert [event.revision for event in await take(watch, len(written) + 1)] == [*written.values(), after]
        await watch.aclose()
    finally:
        await store.close()


def test_a_writer_that_breaks_ends_the_process(tmp_path: Path) -> None:
    """Anything else would leave every later write hanging."""
    script = (
        "import asyncio, sys\n"
        "from apiserver.store import open_store\n"
        "from apiserver.store.sqlite_writer import Writer\n"
        "async def main():\n"
        "    store = open_store(sys.argv[1])\n"
        "    Writer._commit = lambda *_: 1 / 0\n"
        "    await store.create('/registry/core/pods/a/x', b'1')\n"
        "asyncio.run(main())\n"
    )
    argv = [sys.executable, "-c", script, f"sqlite://{tmp_path}/store.db"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
