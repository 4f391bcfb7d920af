"""What every Store promises. Subclasses give the `store` fixture: an empty store, closed by the fixture."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from apiserver.store.base import KeyValue, Progress, Store, StoreEvent
from kubarium.machinery.errors import Compacted, FutureRevision, KeyExists, KeyMissing, RevisionMismatch

DEADLINE_S = 15.0
PODS = "/registry/core/pods/"
WEB = PODS + "default/web"


async def take(watch: AsyncGenerator[tuple[StoreEvent, ...] | Progress, None], count: int) -> list[StoreEvent]:
    """The next `count` events of a watch."""
    events: list[StoreEvent] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(events) < count:
            item = await anext(watch)
            if not isinstance(item, Progress):
                events += item
    return events


async def progress(watch: AsyncGenerator[tuple[StoreEvent, ...] | Progress, None], revision: int) -> None:
    """Returns when the watch says that everything up to `revision` is delivered; events before that are an error."""
    async with asyncio.timeout(DEADLINE_S):
        while True:
            item = await anext(watch)
            assert isinstance(item, Progress), f"unexpected events {item}"
            if item.revision >= revision:
                return


class StoreConformance:
    # -- single keys ---------------------------------------------------------------------------------------------------

    async def test_create_then_get_gives_value_and_revisions(self, store: Store) -> None:
        revision = await store.create(WEB, b"1")
        assert await store.get(WEB) == KeyValue(WEB, b"1", revision, revision)

    async def test_missing_key_is_none(self, store: Store) -> None:
        assert await store.get(WEB) is None

    async def test_an_empty_store_has_a_revision_above_zero(self, store: Store) -> None:
        assert await store.revision() >= 1

    async def test_second_create_is_refused(self, store: Store) -> None:
        await store.create(WEB, b"1")
        with pytest.raises(KeyExists):
            await store.create(WEB, b"2")
        found = await store.get(WEB)
        assert found is not None and found.value == b"1"

    async def test_update_keeps_the_create_revision(self, store: Store) -> None:
        created = await store.create(WEB, b"1")
        updated = await store.update(WEB, b"2", expected=created)
        assert updated > created
        assert await store.get(WEB) == KeyValue(WEB, b"2", created, updated)

    async def test_update_of_another_revision_is_refused_and_tells_the_current_one(self, store: Store) -> None:
        created = await store.create(WEB, b"1")
        updated = await store.update(WEB, b"2", expected=created)
        with pytest.raises(RevisionMismatch) as refused:
            await store.update(WEB, b"3", expected=created)
        assert refused.value.current == updated

    async def test_update_and_delete_of_a_missing_key_are_refused(self, store: Store) -> None:
        with pytest.raises(KeyMissing):
            await store.update(WEB, b"2", expected=1)
        with pytest.raises(KeyMissing):
            await store.delete(WEB, expected=1)

    async def test_delete_gives_its_revision_and_what_was_there(self, store: Store) -> None:
        created = await store.create(WEB, b"1")
        updated = await store.update(WEB, b"2", expected=created)
        revision, deleted = await store.delete(WEB, expected=updated)
        assert revision > updated
        assert deleted == KeyValue(WEB, b"2", created, updated)
        assert await store.get(WEB) is None

    async def test_delete_of_another_revision_is_refused(self, store: Store) -> None:
        created = await store.create(WEB, b"1")
        updated = await store.update(WEB, b"2", expected=created)
        with pytest.raises(RevisionMismatch) as refused:
            await store.delete(WEB, expected=created)
        assert refused.value.current == updated

    async def test_a_key_made_again_has_a_new_create_revision(self, store: Store) -> None:
        first = await store.create(WEB, b"1")
        await store.delete(WEB, expected=first)
        second = await store.create(WEB, b"2")
        assert await store.get(WEB) == KeyValue(WEB, b"2", second, second)

    async def test_values_may_be_empty_or_hold_any_byte(self, store: Store) -> None:
        for name, value in {"empty": b"", "all": bytes(range(256)), "long": b"x" * 1_000_000}.items():
            await store.create(PODS + name, value)
            found = await store.get(PODS + name)
            assert found is not None and found.value == value

    # -- revisions -----------------------------------------------------------------------------------------------------

    async def test_every_write_has_a_revision_of_its_own(self, store: Store) -> None:
        revisions = await asyncio.gather(*(store.create(f"{PODS}default/{n}", b"x") for n in range(200)))
        assert len(set(revisions)) == 200

    async def test_revision_is_at_least_that_of_every_acknowledged_write(self, store: Store) -> None:
        for n in range(20):
            written = await store.create(f"{PODS}default/{n}", b"x")
            assert await store.revision() >= written

    async def test_refused_writes_do_not_disturb_their_neighbours(self, store: Store) -> None:
        await store.create(WEB, b"1")
        writes = [store.create(WEB if n % 2 else f"{PODS}default/{n}", b"x") for n in range(60)]
        results = await asyncio.gather(*writes, return_exceptions=True)
        assert [isinstance(result, KeyExists) for result in results] == [bool(n % 2) for n in range(60)]
        assert await store.count(PODS) == 31

    async def test_of_concurrent_guarded_updates_one_wins_each_round(self, store: Store) -> None:
        revision = await store.create(WEB, b"0")
        for n in range(10):
            tries = [store.update(WEB, b"%d" % (10 * n + k), expected=revision) for k in range(5)]
            results = await asyncio.gather(*tries, return_exceptions=True)
            (revision,) = [result for result in results if isinstance(result, int)]
            assert sum(isinstance(result, RevisionMismatch) for result in results) == 4

    async def test_counters_raised_by_many_lose_no_step(self, store: Store) -> None:
        await store.create(WEB, b"0")

        async def raise_it(times: int) -> None:
            done = 0
            while done < times:
                found = await store.get(WEB)
                assert found is not None
                try:
                    await store.update(WEB, b"%d" % (int(found.value) + 1), expected=found.mod_revision)
                except RevisionMismatch:
                    continue
                done += 1

        await asyncio.gather(*(raise_it(15) for _ in range(6)))
        found = await store.get(WEB)
        assert found is not None and found.value == b"90"

    async def test_get_at_an_old_revision(self, store: Store) -> None:
        created = await store.create(WEB, b"1")
        updated = await store.update(WEB, b"2", expected=created)
        gone, _ = await store.delete(WEB, expected=updated)
        assert await store.get(WEB, created) == KeyValue(WEB, b"1", created, created)
        assert await store.get(WEB, updated) == KeyValue(WEB, b"2", created, updated)
        assert await store.get(WEB, gone) is None

    async def test_a_revision_not_reached_is_refused(self, store: Store) -> None:
        future = await store.revision() + 100
        with pytest.raises(FutureRevision):
            await store.get(WEB, future)
        with pytest.raises(FutureRevision):
            await store.list(PODS, revision=future)
        with pytest.raises(FutureRevision):
            await store.compact(future)

    # -- lists ---------------------------------------------------------------------------------------------------------

    async def test_list_is_in_key_order_and_keeps_to_its_prefix(self, store: Store) -> None:
        names = ["b/1", "a/2", "a/10", "a-b/1", "a/1"]
        for name in names:
            await store.create(PODS + name, name.encode())
        await store.create("/registry/core/podsx/a/1", b"other")
        await store.create("/registry/core/nodes/n", b"other")
        page = await store.list(PODS)
        assert [item.key for item in page.items] == sorted(PODS + name for name in names)
        assert [item.key for item in (await store.list(PODS + "a/")).items] == [
            PODS + n for n in ("a/1", "a/10", "a/2")
        ]
        assert page.remaining == 0
        assert page.revision == await store.revision()

    async def test_list_of_nothing_has_a_revision(self, store: Store) -> None:
        page = await store.list(PODS)
        assert page.items == () and page.revision >= 1

    async def test_pages_follow_each_other_at_one_revision(self, store: Store) -> None:
        for n in range(10):
            await store.create(f"{PODS}default/{n}", b"old")
        first = await store.list(PODS, limit=4)
        assert (len(first.items), first.remaining) == (4, 6)
        await store.update(first.items[0].key, b"new", expected=first.items[0].mod_revision)
        last = await store.create(f"{PODS}default/55", b"new")
        await store.delete(f"{PODS}default/9", expected=(await store.list(PODS)).items[-1].mod_revision)
        keys = [item.key for item in first.items]
        page = first
        while page.remaining:
            page = await store.list(PODS, start=page.items[-1].key + "\0", limit=4, revision=first.revision)
            keys += [item.key for item in page.items]
            assert page.revision == first.revision
            assert {item.value for item in page.items} == {b"old"}
        assert keys == [f"{PODS}default/{n}" for n in range(10)]
        assert last > first.revision

    async def test_start_is_inclusive(self, store: Store) -> None:
        for name in "abc":
            await store.create(PODS + name, b"")
        page = await store.list(PODS, start=PODS + "b", limit=1)
        assert [item.key for item in page.items] == [PODS + "b"]
        assert page.remaining == 1

    async def test_list_at_an_old_revision(self, store: Store) -> None:
        first = await store.create(PODS + "a", b"1")
        second = await store.create(PODS + "b", b"1")
        await store.update(PODS + "a", b"2", expected=first)
        await store.delete(PODS + "b", expected=second)
        page = await store.list(PODS, revision=second)
        assert [(item.key, item.value) for item in page.items] == [(PODS + "a", b"1"), (PODS + "b", b"1")]
        assert page.revision == second

    async def test_count(self, store: Store) -> None:
        for n in range(5):
            revision = await store.create(f"{PODS}default/{n}", b"x")
        await store.delete(f"{PODS}default/4", expected=revision)
        assert await store.count(PODS) == 4
        assert await store.count("/registry/core/nodes/") == 0

    # -- watches -------------------------------------------------------------------------------------------------------

    async def test_watch_tells_each_write_with_the_value_before(self, store: Store) -> None:
        start = await store.revision()
        async with aclosing(store.watch(PODS, after=start)) as watch:
            created = await store.create(WEB, b"1")
            updated = await store.update(WEB, b"2", expected=created)
            gone, _ = await store.delete(WEB, expected=updated)
            assert await take(watch, 3) == [
                StoreEvent(WEB, created, b"1", None, created),
                StoreEvent(WEB, updated, b"2", b"1", created),
                StoreEvent(WEB, gone, None, b"2", created),
            ]

    async def test_watch_from_the_past_gives_history_then_live_events(self, store: Store) -> None:
        first = await store.create(f"{PODS}default/0", b"0")
        for n in range(1, 10):
            await store.create(f"{PODS}default/{n}", b"%d" % n)
        async with aclosing(store.watch(PODS, after=first)) as watch:
            history = await take(watch, 9)
            await store.create(f"{PODS}default/10", b"10")
            live = await take(watch, 1)
        assert [event.value for event in history + live] == [b"%d" % n for n in range(1, 11)]

    async def test_watch_keeps_to_its_prefix_and_reports_progress_past_other_keys(self, store: Store) -> None:
        start = await store.revision()
        async with aclosing(store.watch(PODS, after=start)) as watch:
            other = await store.create("/registry/core/nodes/n", b"x")
            await progress(watch, other)
            mine = await store.create(WEB, b"1")
            assert [event.revision for event in await take(watch, 1)] == [mine]

    async def test_watch_after_a_revision_not_yet_reached_waits_for_what_follows_it(self, store: Store) -> None:
        start = await store.revision()
        async with aclosing(store.watch(PODS, after=start + 2)) as watch:
            revisions = [await store.create(f"{PODS}default/{n}", b"x") for n in range(4)]
            assert [event.revision for event in await take(watch, 2)] == revisions[2:]

    async def test_watches_opened_while_writes_go_on_miss_and_double_nothing(self, store: Store) -> None:
        start = await store.revision()
        counter = itertools.count()

        async def write(times: int) -> None:
            for _ in range(times):
                await store.create(f"{PODS}default/{next(counter):05}", b"x")

        async def follow() -> list[int]:
            async with aclosing(store.watch(PODS, after=start)) as watch:
                return [event.revision for event in await take(watch, 600)]

        async with asyncio.TaskGroup() as tasks:
            writers = [tasks.create_task(write(100)) for _ in range(6)]
            watches: list[asyncio.Task[list[int]]] = []
            while not all(writer.done() for writer in writers):
                if len(watches) < 12:
                    watches.append(tasks.create_task(follow()))
                await asyncio.wait(writers, timeout=0.02, return_when=asyncio.FIRST_COMPLETED)
        page = await store.list(PODS)
        expected = sorted(item.mod_revision for item in page.items)
        assert len(expected) == 600
        assert all(watch.result() == expected for watch in watches)

    async def test_a_slow_watch_still_gets_everything_in_order(self, store: Store) -> None:
        start = await store.revision()
        async with aclosing(store.watch(PODS, after=start)) as watch:
            await store.create(WEB, b"first")
            assert len(await take(watch, 1)) == 1
            await asyncio.gather(*(store.create(f"{PODS}many/{n}", b"x" * 10) for n in range(6000)))
            revisions = [event.revision for event in await take(watch, 6000)]
            last = await store.create(PODS + "last", b"")
            assert [event.revision for event in await take(watch, 1)] == [last]
        assert revisions == sorted(set(revisions))
        assert len(revisions) == 6000

    # -- compaction ----------------------------------------------------------------------------------------------------

    async def test_compaction_forgets_what_is_older(self, store: Store) -> None:
        first = await store.create(WEB, b"1")
        second = await store.update(WEB, b"2", expected=first)
        third = await store.update(WEB, b"3", expected=second)
        await store.compact(second)
        assert await store.get(WEB, second) == KeyValue(WEB, b"2", first, second)
        assert await store.get(WEB) == KeyValue(WEB, b"3", first, third)
        for read in (store.get(WEB, first), store.list(PODS, revision=first)):
            with pytest.raises(Compacted) as refused:
                await read
            assert refused.value.compact_revision == second

    async def test_watch_from_before_the_compaction_is_refused(self, store: Store) -> None:
        first = await store.create(WEB, b"1")
        second = await store.update(WEB, b"2", expected=first)
        third, _ = await store.delete(WEB, expected=second)
        await store.compact(third)
        for after in (0, first, second):
            async with aclosing(store.watch(PODS, after=after)) as watch:
                with pytest.raises(Compacted) as refused:
                    await take(watch, 1)
                assert refused.value.compact_revision == third

    async def test_watch_from_the_compaction_on_gets_everything(self, store: Store) -> None:
        first = await store.create(WEB, b"1")
        await store.compact(first)
        second = await store.update(WEB, b"2", expected=first)
        async with aclosing(store.watch(PODS, after=first)) as watch:
            assert await take(watch, 1) == [StoreEvent(WEB, second, b"2", b"1", first)]

    async def test_compacting_again_at_or_below_is_no_error(self, store: Store) -> None:
        first = await store.create(WEB, b"1")
        second = await store.update(WEB, b"2", expected=first)
        await store.compact(second)
        await store.compact(second)
        await store.compact(first)
        with pytest.raises(Compacted):
            await store.get(WEB, first)

    async def test_a_list_can_go_on_at_the_compacted_revision(self, store: Store) -> None:
        for n in range(6):
            last = await store.create(f"{PODS}default/{n}", b"x")
        await store.compact(last)
        page = await store.list(PODS, start=f"{PODS}default/3", limit=2, revision=last)
        assert [item.key[-1] for item in page.items] == ["3", "4"]

    # -- time to live --------------------------------------------------------------------------------------------------

    async def test_an_expired_key_is_deleted_as_an_event(self, store: Store) -> None:
        start = await store.revision()
        async with aclosing(store.watch(PODS, after=start)) as watch:
            created = await store.create(WEB, b"1", ttl_s=1)
            kept = await store.create(PODS + "kept", b"1")
            events = await take(watch, 3)
        assert [event.revision for event in events[:2]] == [created, kept]
        assert (events[2].key, events[2].value, events[2].previous) == (WEB, None, b"1")
        assert await store.get(WEB) is None
        assert await store.get(PODS + "kept") is not None

    async def test_an_update_renews_or_ends_the_time_to_live(self, store: Store) -> None:
        start = await store.revision()
        for name in ("renewed", "for ever", "expires"):
            created = await store.create(PODS + name, b"1", ttl_s=1)
            if name == "renewed":
                await store.update(PODS + name, b"2", expected=created, ttl_s=600)
            elif name == "for ever":
                await store.update(PODS + name, b"2", expected=created)
        async with aclosing(store.watch(PODS, after=start)) as watch:
            deletions = [event for event in await take(watch, 6) if event.value is None]
        assert [event.key for event in deletions] == [PODS + "expires"]
        assert [item.key for item in (await store.list(PODS)).items] == [PODS + "for ever", PODS + "renewed"]
