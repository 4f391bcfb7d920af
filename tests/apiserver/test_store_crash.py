"""Killed with -9 while it writes: what was acknowledged is there, whole; revisions go on; a watch resumes exactly."""

from __future__ import annotations

import asyncio
import random
import sys
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from apiserver.store import open_store
from apiserver.store.base import Progress, Store, StoreEvent
from kubarium.machinery.errors import StoreUnavailable
from tests.apiserver.etcd_server import answers, etcd_server
from tests.apiserver.store_writer import PREFIX, WRITERS, write

ROUNDS = 4
LINES = 1500  # heard from the writer before it is killed
DEADLINE_S = 30.0


@dataclass
class Heard:
    """What a writer had time to say."""

    acknowledged: dict[int, tuple[str, str]] = field(default_factory=dict)  # revision -> key, value ("-": deleted)
    events: list[int] = field(default_factory=list)

    def hear(self, line: bytes) -> None:
        match line.decode().split():
            case ["ack", revision, key, value]:
                self.acknowledged[int(revision)] = key, value
            case ["event", revision]:
                self.events.append(int(revision))


async def run_until_killed(url: str, seed: int, after: int, lines: int) -> Heard:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.apiserver.store_writer", url, str(seed), str(after)),
        stdout=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    assert process.stdout is not None
    heard = Heard()
    try:
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(lines):
                line = await process.stdout.readline()
                assert line, "the writer ended by itself"
                heard.hear(line)
    finally:
        process.kill()
        rest = await process.stdout.read()
        await process.wait()
    for line in rest.split(b"\n")[:-1]:  # the last one may be cut off
        heard.hear(line)
    return heard


async def history(store: Store, after: int) -> list[StoreEvent]:
    """Every event up to the store's revision now."""
    target = await store.revision()
    events: list[StoreEvent] = []
    async with asyncio.timeout(DEADLINE_S), aclosing(store.watch(PREFIX, after=after)) as watch:
        reached = after
        while reached < target:
            item = await anext(watch)
            if isinstance(item, Progress):
                reached = item.revision
            else:
                events += item
                reached = item[-1].revision
    return events


def check_whole(events: list[StoreEvent], state: dict[str, bytes]) -> None:
    """Each event follows from the state before it; `state` is brought up to date."""
    revisions = [event.revision for event in events]
    assert revisions == sorted(set(revisions))
    for event in events:
        assert event.previous == state.get(event.key)
        if event.value is None:
            del state[event.key]
        else:
            text = event.value.decode()
            assert text == text[: len(event.key) + 17] * (len(text) // (len(event.key) + 17)), "a torn value"
            state[event.key] = event.value


async def test_sqlite_writer_killed_again_and_again(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    state: dict[str, bytes] = {}
    known = 0
    for seed in range(ROUNDS):
        heard = await run_until_killed(url, seed, known, LINES + random.Random(seed).randrange(200))
        store = open_store(url)
        try:
            revision = await store.revision()
            assert revision >= max(heard.acknowledged) > known
            events = await history(store, known)
            check_whole(events, state)
            written = {event.revision: (event.key, event.value.decode() if event.value else "-") for event in events}
            assert heard.acknowledged.items() <= written.items()
            assert len(written) - len(heard.acknowledged) <= WRITERS, "more was written than was on its way"
            # What the killed watch had told, and a watch resumed behind it, are together the whole log.
            resumed = await history(store, heard.events[-1])
            assert heard.events + [event.revision for event in resumed] == list(written)
            page = await store.list(PREFIX)
            assert {item.key: item.value for item in page.items} == state
            assert await store.create(f"/registry/core/nodes/{seed}", b"x") == revision + 1
            if seed % 2:
                await store.compact(revision)
            known = await store.revision()
        finally:
            await store.close()


async def test_etcd_killed_under_writes(tmp_path: Path) -> None:
    async with etcd_server(tmp_path) as server:
        store = open_store(f"etcd://{server.endpoint}")
        heard = Heard()
        enough = asyncio.Event()

        def note(revision: int, key: str, value: str) -> None:
            heard.acknowledged[revision] = key, value
            if len(heard.acknowledged) % LINES == 0:
                enough.set()

        async def write_until_refused(n: int) -> None:
            with suppress(StoreUnavailable):
                await write(store, f"{PREFIX}default/{n}", random.Random(n), note)

        async def follow_until_refused(after: int) -> None:
            with suppress(StoreUnavailable):
                async for item in store.watch(PREFIX, after=after):
                    if not isinstance(item, Progress):
                        heard.events += [event.revision for event in item]

        try:
            known = await store.revision()
            async with asyncio.timeout(DEADLINE_S), asyncio.TaskGroup() as tasks:
                tasks.create_task(follow_until_refused(known))
                for n in range(WRITERS):
                    tasks.create_task(write_until_refused(n))
                await enough.wait()
                await server.stop()
            await server.start()
            await answers(store)
            events = await history(store, known)
            check_whole(events, {})
            written = {event.revision: (event.key, event.value.decode() if event.value else "-") for event in events}
            assert heard.acknowledged.items() <= written.items()
            resumed = await history(store, heard.events[-1])
            assert heard.events + [event.revision for event in resumed] == list(written)
        finally:
            await store.close()
