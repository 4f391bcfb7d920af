"""What the work queue promises to controllers."""

from __future__ import annotations

import asyncio
import logging

import pytest
import uvloop

from kubarium.machinery.errors import Conflict
from kubarium.machinery.workqueue import WorkQueue, run_workers


async def _take(queue: WorkQueue[str]) -> str:
    async with asyncio.timeout(5):
        return await anext(queue)


async def test_a_waiting_key_is_there_once() -> None:
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert [await _take(queue), await _take(queue), len(queue)] == ["a", "b", 0]


async def test_a_key_added_while_processed_comes_again_after_done() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await _take(queue) == "a"
    queue.add("a")
    assert len(queue) == 0, "a second worker must not get it"
    queue.done("a")
    assert await _take(queue) == "a"
    queue.done("a")
    assert len(queue) == 0


async def test_the_earliest_of_several_delays_counts() -> None:
    queue: WorkQueue[str] = WorkQueue()
    queue.add_after("a", 30)
    queue.add_after("a", 0.01)
    queue.add_after("a", 60)
    assert await _take(queue) == "a"
    queue.close()


def test_delays_below_a_millisecond_on_the_loop_of_components() -> None:
    """uvloop gives such calls a handle that cannot say when it is due."""

    async def add_twice() -> str:
        queue: WorkQueue[str] = WorkQueue()
        queue.add_after("a", 0.0001)
        queue.add_after("a", 0.0002)
        return await _take(queue)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(add_twice()) == "a"


async def test_failures_wait_longer_each_time_until_forgotten() -> None:
    queue: WorkQueue[str] = WorkQueue(first_delay_s=0.005, most_delay_s=60)
    loop = asyncio.get_running_loop()
    started = loop.time()
    for _ in range(4):
        queue.retry("a")
        assert await _take(queue) == "a"
        queue.done("a")
    assert loop.time() - started >= 0.005 + 0.01 + 0.02 + 0.04 - 0.005
    assert queue.failures("a") == 4
    queue.forget("a")
    assert queue.failures("a") == 0


async def test_close_ends_the_workers() -> None:
    queue: WorkQueue[str] = WorkQueue()

    async def sync(key: str) -> None:
        queue.close()

    queue.add("a")
    async with asyncio.timeout(5):
        await run_workers(queue, sync, count=3)


async def test_two_workers_never_hold_one_key_and_none_is_lost() -> None:
    queue: WorkQueue[int] = WorkQueue()
    held: set[int] = set()
    wanted = [0] * 10
    seen = [0] * 10

    async def sync(key: int) -> None:
        assert key not in held
        held.add(key)
        target = wanted[key]
        await asyncio.sleep(0)
        seen[key] = target
        held.discard(key)
        if seen == wanted and wanted == [50] * 10:
            queue.close()

    async def feed() -> None:
        for step in range(500):
            wanted[step % 10] += 1
            queue.add(step % 10)
            if step % 3 == 0:
                await asyncio.sleep(0)

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        group.create_task(run_workers(queue, sync, count=4))
        group.create_task(feed())
    assert seen == wanted


async def test_a_failing_key_is_tried_again_and_only_surprises_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    queue: WorkQueue[str] = WorkQueue()
    failures = iter([Conflict("the object has been modified"), ValueError("boom")])
    done: list[str] = []

    async def sync(key: str) -> None:
        if (failure := next(failures, None)) is not None:
            raise failure
        done.append(key)
        queue.close()

    queue.add("ns/a")
    with caplog.at_level(logging.INFO):
        async with asyncio.timeout(5):
            await run_workers(queue, sync, name="test")
    assert done == ["ns/a"]
    assert [record.getMessage() for record in caplog.records] == ["test: sync of ns/a failed, will retry"]
