"""Events and leader election against the API fake."""

from __future__ import annotations

import asyncio

import pytest

from kubarium.machinery.election import Election, lead
from kubarium.machinery.errors import ServiceUnavailable
from kubarium.machinery.events import EventRecorder
from kubarium.machinery.objects import Pod, convert
from kubarium.machinery.resources import EVENTS, LEASES
from tests.machinery.fakeapi import FakeApi

POD = convert(Pod, {"metadata": {"name": "web", "namespace": "ns", "uid": "u1"}})


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


async def test_the_same_event_again_only_counts(api: FakeApi) -> None:
    recorder = EventRecorder(api, "kubelet", "node-1")
    for _ in range(3):
        recorder.event(POD, "Warning", "BackOff", "Back-off restarting failed container")
    recorder.event(POD, "Normal", "Started", "Started container web")
    await recorder.flush()
    found = {event.reason: event for event in (await api.list(EVENTS)).items}
    assert {reason: event.count for reason, event in found.items()} == {"BackOff": 3, "Started": 1}
    backoff = found["BackOff"]
    assert (backoff.involved_object.kind, backoff.involved_object.uid, backoff.metadata.namespace) == (
        "Pod",
        "u1",
        "ns",
    )
    assert (backoff.source.component, backoff.source.host, backoff.type) == ("kubelet", "node-1", "Warning")


async def test_an_event_that_has_expired_is_told_anew(api: FakeApi) -> None:
    recorder = EventRecorder(api, "scheduler")
    recorder.event(POD, "Warning", "FailedScheduling", "no nodes")
    await recorder.flush()
    (event,) = (await api.list(EVENTS)).items
    await api.delete(EVENTS, event.metadata.name, "ns")
    recorder.event(POD, "Warning", "FailedScheduling", "no nodes")
    await recorder.flush()
    (event,) = (await api.list(EVENTS)).items
    assert event.count == 1


async def test_a_server_that_is_down_costs_events_but_nothing_else(api: FakeApi) -> None:
    api.down = True
    recorder = EventRecorder(api, "kubelet")
    recorder.event(POD, "Normal", "Pulled", "lost")
    await recorder.flush()
    api.down = False
    recorder.event(POD, "Normal", "Started", "kept")
    await recorder.flush()
    assert [event.reason for event in (await api.list(EVENTS)).items] == ["Started"]


def election(identity: str) -> Election:
    return Election("test", identity, lease_s=0.6, renew_deadline_s=0.4, retry_s=0.05)


async def test_one_leads_at_a_time_and_the_next_takes_over(api: FakeApi) -> None:
    leading: list[str] = []
    stop = {name: asyncio.Event() for name in ("a", "b")}

    async def work(name: str) -> None:
        leading.append(name)
        assert len(leading) == 1
        try:
            await stop[name].wait()
        finally:
            leading.remove(name)

    async def until(names: list[str]) -> None:
        async with asyncio.timeout(10):
            while leading != names:
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        group.create_task(lead(api, election("a"), lambda: work("a")))
        await until(["a"])
        group.create_task(lead(api, election("b"), lambda: work("b")))
        await asyncio.sleep(0.3)
        assert leading == ["a"]
        stop["a"].set()
        await until(["b"])
        stop["b"].set()
    lease = await api.get(LEASES, "test", "kube-system")
    assert lease.spec.holder_identity == "" and lease.spec.lease_transitions >= 1


async def test_who_cannot_renew_stops_before_another_may_begin(api: FakeApi) -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    leader = asyncio.create_task(lead(api, election("a"), work))
    async with asyncio.timeout(10):
        while not api.objects:
            await asyncio.sleep(0.01)
        api.down = True
        with pytest.raises(TimeoutError, match="no longer the leader"):
            await leader
    assert ended.is_set()


async def test_a_last_try_that_hangs_does_not_prolong_the_leadership(
    api: FakeApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    ended: list[float] = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(loop.time())

    leader = asyncio.create_task(lead(api, election("a"), work))
    async with asyncio.timeout(10):
        while not api.objects:
            await asyncio.sleep(0.01)
        began = loop.time()

        async def refused_then_silent(*_: object) -> None:
            if loop.time() < began + 0.3:
                raise ServiceUnavailable("connection refused")
            await asyncio.Event().wait()

        monkeypatch.setattr(api, "get", refused_then_silent)
        with pytest.raises(TimeoutError, match="no longer the leader"):
            await leader
    assert ended[0] - began < 0.6  # the Lease's duration: from then on another may lead
