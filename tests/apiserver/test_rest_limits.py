"""Who is next when a server is full."""

from __future__ import annotations

import asyncio

import pytest

from apiserver.rest.limits import MUTATING, READ_ONLY, Limits
from apiserver.rest.metrics import Metrics
from kubarium.machinery.errors import TooManyRequests


def limits(number: int, wait_s: float = 10.0) -> tuple[Limits, Metrics]:
    metrics = Metrics()
    return Limits(metrics, read_only=number, mutating=number, wait_s=wait_s), metrics


async def test_a_busy_user_does_not_starve_another() -> None:
    found, metrics = limits(8)
    assert all(found.enter(MUTATING) for _ in range(8))
    assert not found.enter(MUTATING)
    assert found.enter(READ_ONLY)  # counted apart
    order: list[str] = []

    async def call(user: str) -> None:
        await found.turn(MUTATING, user)
        order.append(user)

    async with asyncio.TaskGroup() as tasks:
        for user in ("busy", "busy", "quiet", "other"):
            tasks.create_task(call(user))
        await asyncio.sleep(0)
        for _ in range(4):
            found.leave(MUTATING)
            await asyncio.sleep(0)
    assert order == ["busy", "quiet", "other", "busy"]
    assert metrics.in_flight[MUTATING] == 8
    for _ in range(8):
        found.leave(MUTATING)
    assert metrics.in_flight[MUTATING] == 0


async def test_what_does_not_fit_into_the_queue_is_refused_at_once() -> None:
    found, metrics = limits(4)
    assert all(found.enter(MUTATING) for _ in range(4))
    waiting = asyncio.create_task(found.turn(MUTATING, "busy"))
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests) as refused:
        await found.turn(MUTATING, "busy")
    assert refused.value.to_status()["details"] == {"retryAfterSeconds": 1}
    assert metrics.rejected == 1
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    found.leave(MUTATING)  # to nobody: who waited has gone
    assert metrics.in_flight[MUTATING] == 3


async def test_nobody_waits_for_ever() -> None:
    found, metrics = limits(1, wait_s=0.01)
    assert found.enter(MUTATING)
    with pytest.raises(TooManyRequests):
        await found.turn(MUTATING, "a")
    found.leave(MUTATING)
    assert metrics.in_flight[MUTATING] == 0
    assert found.enter(MUTATING)


async def test_a_place_given_at_the_last_moment_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    found, metrics = limits(1, wait_s=60.0)
    scopes: list[asyncio.Timeout] = []
    timeout = asyncio.timeout

    def kept(delay_s: float) -> asyncio.Timeout:
        scopes.append(timeout(delay_s))
        return scopes[-1]

    monkeypatch.setattr(asyncio, "timeout", kept)
    assert found.enter(MUTATING)
    waiting = asyncio.create_task(found.turn(MUTATING, "a"))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_soon(found.leave, MUTATING)
    scopes[0].reschedule(0.0)  # in the same turn of the loop, but behind it
    await waiting
    assert metrics.in_flight[MUTATING] == 1
    found.leave(MUTATING)
    assert metrics.in_flight[MUTATING] == 0


async def test_a_limit_of_zero_is_none() -> None:
    found, _ = limits(0)
    assert all(found.enter(READ_ONLY) for _ in range(1000))


async def test_a_place_that_was_given_to_someone_who_has_gone_is_not_lost() -> None:
    found, metrics = limits(1)
    assert found.enter(MUTATING)
    waiting = asyncio.create_task(found.turn(MUTATING, "a"))
    await asyncio.sleep(0)
    found.leave(MUTATING)
    waiting.cancel()  # before it has noticed
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert metrics.in_flight[MUTATING] == 0
