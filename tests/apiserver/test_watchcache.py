"""The watch cache on a real SQLite store (and, where the store must go away, a real etcd)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from apiserver import watchcache
from apiserver.codec import Head, decode, head_reader, stored_form
from apiserver.store import open_store
from apiserver.store.base import Progress, Store
from apiserver.watchcache import Batch, Event, InitialEventsEnd, WatchCache, Watcher
from kubarium.machinery.errors import Compacted, StoreUnavailable
from tests.apiserver.etcd_server import answers, etcd_server

PODS = "/registry/core/pods/"
NODES = "/registry/core/nodes/"
DEADLINE_S = 15.0

read_head = head_reader(
    lambda prefix: {"spec.nodeName": lambda o: str(o["spec"].get("nodeName", ""))} if prefix == PODS else {}
)


def pod(name: str, *, node: str = "", namespace: str = "default", **labels: str) -> bytes:
    metadata = {"name": name, "namespace": namespace, "labels": labels}
    return stored_form({"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": {"nodeName": node}})


def on_node(node: str) -> Callable[[Head], bool]:
    return lambda head: head.fields["spec.nodeName"] == node


def brief(event: Event) -> tuple[str, str, int, str]:
    """Type, name, resourceVersion and node of an event, from its bytes."""
    obj: dict[str, Any] = decode(event.data)
    return event.type, obj["metadata"]["name"], int(obj["metadata"]["resourceVersion"]), obj["spec"]["nodeName"]


@asynccontextmanager
async def followed(cache: WatchCache) -> AsyncIterator[None]:
    """The cache runs."""
    task = asyncio.create_task(cache.run())
    try:
        await asyncio.wait_for(cache.synced(), DEADLINE_S)
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def running(store: Store, **settings: int) -> AsyncIterator[WatchCache]:
    cache = WatchCache(store, head=read_head, **settings)
    async with followed(cache):
        yield cache


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = open_store(f"sqlite://{tmp_path}/store.db")
    yield opened
    await opened.close()


@pytest.fixture
async def cache(store: Store) -> AsyncIterator[WatchCache]:
    async with running(store) as filled:
        yield filled


async def take(watcher: Watcher, count: int) -> list[Event]:
    """The next `count` events; bookmarks are passed over."""
    events: list[Event] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(events) < count:
            item = await anext(watcher)
            if isinstance(item, Batch):
                events += item
    assert len(events) == count, events
    return events


async def first_progress(watcher: Watcher) -> Progress:
    async with asyncio.timeout(DEADLINE_S):
        async for item in watcher:
            if isinstance(item, Progress):
                return item
    raise AssertionError("the watcher ended")


# -- reading -----------------------------------------------------------------------------------------------------------


async def test_what_was_written_is_read_with_its_version(store: Store, cache: WatchCache) -> None:
    created = await store.create(PODS + "default/web", pod("web", app="web"))
    await cache.wait_for(created)
    entry = cache.get(PODS + "default/web")
    assert entry is not None
    assert (entry.revision, entry.create_revision, entry.head.labels) == (created, created, {"app": "web"})
    assert decode(entry.data)["metadata"]["resourceVersion"] == str(created)
    gone, _ = await store.delete(PODS + "default/web", expected=created)
    await cache.wait_for(gone)
    assert cache.get(PODS + "default/web") is None


async def test_list_is_sorted_and_by_namespace(store: Store, cache: WatchCache) -> None:
    names = ["b/web", "a/web-2", "a/web-10", "a-b/web", "a/web"]
    for name in names:
        last = await store.create(PODS + name, pod(name.split("/")[1], namespace=name.split("/")[0]))
    await cache.wait_for(last)
    assert [entry.key for entry in cache.list(PODS)] == sorted(PODS + name for name in names)
    assert [entry.key for entry in cache.list(PODS + "a/")] == [PODS + n for n in ("a/web", "a/web-10", "a/web-2")]
    assert list(cache.list(NODES)) == []


async def test_a_list_is_not_changed_by_later_writes(store: Store, cache: WatchCache) -> None:
    await cache.wait_for(await store.create(PODS + "default/a", pod("a")))
    listed = cache.list(PODS)
    await cache.wait_for(await store.create(PODS + "default/b", pod("b")))
    assert [entry.head.name for entry in listed] == ["a"]
    assert [entry.head.name for entry in cache.list(PODS)] == ["a", "b"]


async def test_a_cache_started_later_holds_what_is_there(store: Store) -> None:
    for n in range(50):
        revision = await store.create(f"{PODS}default/{n:02}", pod(f"{n:02}"))
    await store.delete(f"{PODS}default/49", expected=revision)
    async with running(store) as cache:
        assert [entry.head.name for entry in cache.list(PODS)] == [f"{n:02}" for n in range(49)]
        assert cache.revision == await store.revision()


async def test_filling_pages_through_large_stores(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchcache, "PAGE", 7)
    monkeypatch.setattr(watchcache, "REPLAY", 0)
    await asyncio.gather(*(store.create(f"{PODS}default/{n:02}", pod(f"{n:02}")) for n in range(50)))
    async with running(store) as cache:
        assert [entry.head.name for entry in cache.list(PODS)] == [f"{n:02}" for n in range(50)]


async def test_bytes_that_are_no_object_are_left_out_and_logged(
    store: Store, cache: WatchCache, caplog: pytest.LogCaptureFixture
) -> None:
    bad = await store.create(PODS + "default/bad", b"rubbish")
    await cache.wait_for(await store.create(PODS + "default/good", pod("good")))
    await cache.wait_for((await store.delete(PODS + "default/bad", expected=bad))[0])
    assert [entry.head.name for entry in cache.list(PODS)] == ["good"]
    assert "default/bad" in caplog.text


async def test_waiting_for_a_revision_that_does_not_come_is_unavailable(cache: WatchCache) -> None:
    with pytest.raises(StoreUnavailable):
        await cache.wait_for(cache.revision + 1, timeout_s=0.01)


async def test_a_consistent_read_sees_every_acknowledged_write(store: Store, cache: WatchCache) -> None:
    for n in range(30):
        await store.create(f"{PODS}default/{n}", pod(str(n)))
        await cache.wait_for(await cache.consistent_revision())
        assert len(cache.list(PODS)) == n + 1


async def test_consistent_reads_share_reads_of_the_store_but_none_older_than_the_call(store: Store) -> None:
    begun: list[asyncio.Future[int]] = []

    async def slow() -> int:
        begun.append(asyncio.get_running_loop().create_future())
        return await begun[-1]

    async def has_begun(count: int) -> None:
        async with asyncio.timeout(DEADLINE_S):
            while len(begun) < count:
                await asyncio.sleep(0)

    shared = watchcache._SharedRead(slow)
    first = [asyncio.create_task(shared.result()) for _ in range(3)]
    await has_begun(1)
    later = [asyncio.create_task(shared.result()) for _ in range(3)]
    begun[0].set_result(1)
    assert await asyncio.gather(*first) == [1, 1, 1]
    await has_begun(2)
    begun[1].set_result(2)
    assert await asyncio.gather(*later) == [2, 2, 2]
    assert len(begun) == 2


# -- watching ----------------------------------------------------------------------------------------------------------


async def test_watch_tells_added_modified_deleted(store: Store, cache: WatchCache) -> None:
    watcher = cache.watch(PODS, after=cache.revision)
    one = await store.create(PODS + "default/web", pod("web"))
    two = await store.update(PODS + "default/web", pod("web", node="n1"), expected=one)
    three, _ = await store.delete(PODS + "default/web", expected=two)
    events = await take(watcher, 3)
    # The last state of a deleted object comes with the revision of its deletion.
    assert [brief(event) for event in events] == [
        ("ADDED", "web", one, ""),
        ("MODIFIED", "web", two, "n1"),
        ("DELETED", "web", three, "n1"),
    ]


async def test_entering_and_leaving_a_selector(store: Store, cache: WatchCache) -> None:
    watcher = cache.watch(PODS, after=cache.revision, predicate=on_node("n1"))
    one = await store.create(PODS + "default/web", pod("web"))
    two = await store.update(PODS + "default/web", pod("web", node="n1"), expected=one)
    three = await store.update(PODS + "default/web", pod("web", node="n1", app="x"), expected=two)
    four = await store.update(PODS + "default/web", pod("web", node="n2"), expected=three)
    five, _ = await store.delete(PODS + "default/web", expected=four)
    six = await store.create(PODS + "default/web", pod("web", node="n1"))
    seven, _ = await store.delete(PODS + "default/web", expected=six)
    assert [brief(event) for event in await take(watcher, 5)] == [
        ("ADDED", "web", two, "n1"),
        ("MODIFIED", "web", three, "n1"),
        ("DELETED", "web", four, "n1"),  # as it last matched, at the revision at which it ceased to
        ("ADDED", "web", six, "n1"),
        ("DELETED", "web", seven, "n1"),
    ]
    assert five < six


async def test_watch_of_a_namespace_or_another_resource(store: Store, cache: WatchCache) -> None:
    in_a = cache.watch(PODS + "a/", after=cache.revision)
    nodes = cache.watch(NODES, after=cache.revision)
    for key in (PODS + "a/1", PODS + "ab/1", PODS + "b/1", NODES + "n", PODS + "a/2"):
        await store.create(key, pod(key))
    assert [event.entry.key for event in await take(in_a, 2) if event.entry] == [PODS + "a/1", PODS + "a/2"]
    assert [event.entry.key for event in await take(nodes, 1) if event.entry] == [NODES + "n"]


async def test_all_watchers_get_the_same_bytes(store: Store, cache: WatchCache) -> None:
    everything = [cache.watch(PODS, after=cache.revision) for _ in range(3)]
    selected = [cache.watch(PODS, after=cache.revision, predicate=on_node("n1")) for _ in range(3)]
    await store.create(PODS + "default/web", pod("web", node="n1"))
    lines = [(await take(watcher, 1))[0].encoded_json_line for watcher in everything + selected]
    assert all(line is lines[0] for line in lines)


async def test_watch_from_the_past_then_live(store: Store, cache: WatchCache) -> None:
    revisions = [await store.create(f"{PODS}default/{n}", pod(str(n))) for n in range(5)]
    await cache.wait_for(revisions[-1])
    watcher = cache.watch(PODS, after=revisions[1])
    revisions.append(await store.create(f"{PODS}default/5", pod("5")))
    assert [brief(event)[2] for event in await take(watcher, 4)] == revisions[2:]


async def test_watch_after_a_revision_not_yet_reached(store: Store, cache: WatchCache) -> None:
    watcher = cache.watch(PODS, after=cache.revision + 2)
    revisions = [await store.create(f"{PODS}default/{n}", pod(str(n))) for n in range(4)]
    assert [brief(event)[2] for event in await take(watcher, 2)] == revisions[2:]


async def test_a_thousand_watchers_miss_and_double_nothing(store: Store, cache: WatchCache) -> None:
    start = cache.revision
    watchers = [cache.watch(PODS, after=start) for _ in range(1000)]
    tasks = [asyncio.create_task(take(watcher, 20)) for watcher in watchers]
    revisions = sorted(await asyncio.gather(*(store.create(f"{PODS}default/{n}", pod(str(n))) for n in range(20))))
    for events in await asyncio.gather(*tasks):
        assert [event.entry.revision for event in events if event.entry] == revisions


async def test_a_cancelled_read_loses_nothing(store: Store, cache: WatchCache) -> None:
    watcher = cache.watch(PODS, after=cache.revision)
    reading = asyncio.create_task(anext(watcher))
    await asyncio.wait([reading], timeout=0)
    reading.cancel()
    await asyncio.wait([reading])
    one = await store.create(PODS + "default/web", pod("web"))
    assert [brief(event)[2] for event in await take(watcher, 1)] == [one]


async def test_a_version_older_than_the_window_is_refused(store: Store) -> None:
    async with running(store, window=10) as cache:
        first = await store.create(f"{PODS}default/0", pod("0"))
        for n in range(1, 30):
            last = await store.create(f"{PODS}default/{n}", pod(str(n)))
        await cache.wait_for(last)
        with pytest.raises(Compacted):
            cache.watch(PODS, after=first)
        assert len(await take(cache.watch(PODS, after=last - 5), 5)) == 5
        cache.watch(NODES, after=first)  # another resource's window is not used up


async def test_the_window_is_also_bounded_in_bytes(store: Store) -> None:
    async with running(store, window_bytes=20_000) as cache:
        first = await store.create(f"{PODS}default/0", pod("0"))
        for n in range(1, 30):
            last = await store.create(f"{PODS}default/{n}", pod(str(n), filler="x" * 1500))
        await cache.wait_for(last)
        with pytest.raises(Compacted):
            cache.watch(PODS, after=first)


async def test_a_watcher_that_falls_behind_the_window_is_told_to_list_again(store: Store) -> None:
    async with running(store, window=10) as cache:
        slow = cache.watch(PODS, after=cache.revision)
        fast = cache.watch(PODS, after=cache.revision)
        fast_events = asyncio.create_task(take(fast, 30))
        for n in range(30):
            last = await store.create(f"{PODS}default/{n}", pod(str(n)))
        await cache.wait_for(last)
        assert len(await fast_events) == 30
        with pytest.raises(Compacted):
            await anext(slow)


async def test_bookmarks_come_when_nothing_happens_and_carry_the_newest_revision(
    store: Store, cache: WatchCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    watcher = cache.watch(PODS, after=cache.revision, bookmark_interval_s=0.05)
    other = await store.create(NODES + "n", pod("n"))
    await cache.wait_for(other)
    assert (await first_progress(watcher)).revision == other


# -- streaming lists ---------------------------------------------------------------------------------------------------


async def test_a_streaming_list_gives_the_state_its_end_and_then_every_change(store: Store, cache: WatchCache) -> None:
    for n in range(3):
        last = await store.create(f"{PODS}default/{n}", pod(str(n), node="n1" if n else ""))
    await cache.wait_for(last)
    watcher = cache.watch(PODS, after=None, predicate=on_node("n1"))
    changed = await store.update(f"{PODS}default/2", pod("2", node="n1", app="x"), expected=last)
    await cache.wait_for(changed)
    assert [brief(event)[:2] for event in await take(watcher, 2)] == [("ADDED", "1"), ("ADDED", "2")]
    end = await anext(watcher)
    assert isinstance(end, InitialEventsEnd) and end.revision == last
    assert [brief(event) for event in await take(watcher, 1)] == [("MODIFIED", "2", changed, "n1")]


async def test_a_streaming_list_of_nothing_ends_at_once(cache: WatchCache) -> None:
    end = await anext(cache.watch(PODS, after=None))
    assert isinstance(end, InitialEventsEnd) and end.revision == cache.revision


async def test_streaming_lists_opened_while_writes_go_on_agree_with_the_store(store: Store, cache: WatchCache) -> None:
    async def write(n: int) -> None:
        key = f"{PODS}default/{n}"
        revision = await store.create(key, pod(str(n)))
        for step in range(20):
            revision = await store.update(key, pod(str(n), node=str(step)), expected=revision)
        if n % 2:
            await store.delete(key, expected=revision)

    async def mirror(until: asyncio.Future[int]) -> dict[str, int]:
        """A client's cache of the pods, at the revision that `until` turns out to be."""
        watcher = cache.watch(PODS, after=None)
        state: dict[str, int] = {}
        reading = asyncio.ensure_future(anext(watcher))
        while True:
            both: list[asyncio.Future[Any]] = [reading, until]
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if not reading.done():
                reading.cancel()
                return state
            item = reading.result()
            for event in item if isinstance(item, Batch) else ():
                kind, name, revision, _ = brief(event)
                assert (name in state) == (kind != "ADDED")
                assert state.get(name, 0) < revision
                if kind == "DELETED":
                    del state[name]
                else:
                    state[name] = revision
            if until.done() and watcher.revision >= until.result():
                return state
            reading = asyncio.ensure_future(anext(watcher))

    finished: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    writers = [asyncio.create_task(write(n)) for n in range(12)]
    mirrors: list[asyncio.Task[dict[str, int]]] = []
    while not all(writer.done() for writer in writers):
        if len(mirrors) < 10:
            mirrors.append(asyncio.create_task(mirror(finished)))
        await asyncio.wait(writers, timeout=0.01, return_when=asyncio.FIRST_COMPLETED)
    last = await store.create(PODS + "default/last", pod("last"))
    await cache.wait_for(last)
    finished.set_result(last)
    expected = {entry.head.name: entry.revision for entry in cache.list(PODS)}
    for state in await asyncio.wait_for(asyncio.gather(*mirrors), DEADLINE_S):
        assert state == expected


# -- restarts, absence, compaction -------------------------------------------------------------------------------------


async def test_watchers_resume_over_a_restart(tmp_path: Path) -> None:
    url = f"sqlite://{tmp_path}/store.db"
    store = open_store(url)
    async with running(store):
        revisions = [await store.create(f"{PODS}default/{n}", pod(str(n))) for n in range(10)]
        gone, _ = await store.delete(f"{PODS}default/0", expected=revisions[0])
    await store.close()
    store = open_store(url)
    try:
        async with running(store) as cache:
            events = await take(cache.watch(PODS, after=revisions[7]), 3)
            assert [brief(event)[:3] for event in events] == [
                ("ADDED", "8", revisions[8]),
                ("ADDED", "9", revisions[9]),
                ("DELETED", "0", gone),
            ]
    finally:
        await store.close()


async def test_a_cache_of_a_compacted_store_starts_at_the_compaction(store: Store) -> None:
    revisions = [await store.create(f"{PODS}default/{n}", pod(str(n))) for n in range(10)]
    await store.compact(revisions[5])
    async with running(store) as cache:
        assert len(cache.list(PODS)) == 10
        with pytest.raises(Compacted):
            cache.watch(PODS, after=revisions[4])
        assert [brief(e)[2] for e in await take(cache.watch(PODS, after=revisions[5]), 4)] == revisions[6:]


async def test_an_absent_etcd_leaves_reads_and_watches_resume(tmp_path: Path) -> None:
    async with etcd_server(tmp_path) as server:
        store = open_store(f"etcd://{server.endpoint}")
        try:
            async with running(store) as cache:
                watcher = cache.watch(PODS, after=cache.revision)
                one = await store.create(PODS + "default/web", pod("web"))
                await cache.wait_for(one)
                await server.stop()
                with pytest.raises(StoreUnavailable):
                    await cache.consistent_revision()
                assert len(cache.list(PODS)) == 1
                assert cache.trouble is not None
                await server.start()
                await answers(store)
                async with asyncio.timeout(DEADLINE_S):
                    while cache.trouble is not None:  # also while nothing is written
                        await asyncio.sleep(0.01)
                two = await store.update(PODS + "default/web", pod("web", node="n1"), expected=one)
                await cache.wait_for(two, timeout_s=DEADLINE_S)
                assert [brief(event)[2] for event in await take(watcher, 2)] == [one, two]
        finally:
            await store.close()


async def test_a_cache_that_the_store_has_left_behind_is_filled_anew(store: Store) -> None:
    cache = WatchCache(store, head=read_head)
    async with followed(cache):
        first = await store.create(PODS + "default/a", pod("a"))
        await cache.wait_for(first)
        watcher = cache.watch(PODS, after=first)
    for n in range(10):
        last = await store.create(f"{PODS}default/{n}", pod(str(n)))
    last, _ = await store.delete(PODS + "default/a", expected=first)
    await store.compact(last)
    async with followed(cache):
        await cache.wait_for(last, DEADLINE_S)
        assert [entry.head.name for entry in cache.list(PODS)] == [str(n) for n in range(10)]
        with pytest.raises(Compacted):
            await take(watcher, 1)
