"""Guarded updates and reads by many at once, on both stores and over two servers, could have happened one at a time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from apiserver.assembly import Server
from kubarium.machinery.errors import Conflict, ServiceUnavailable
from tests.apiserver.etcd_server import EtcdServer, etcd_server
from tests.apiserver.histories import Call, faults
from tests.apiserver.servers import create, get, in_process, update

CLIENTS, CALLS = 12, 60
OBJECT = "one"


class Recorder:
    """Calls on one ConfigMap, written down."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.under_way = asyncio.Event()

    async def read(self, server: Server) -> dict[str, Any]:
        begun = time.monotonic()
        found = await get(server, "configmaps", OBJECT)
        version, value = int(found["metadata"]["resourceVersion"]), found["data"]["v"]
        self.calls.append(Call("read", begun, time.monotonic(), version, value))
        if len(self.calls) > CALLS:
            self.under_way.set()
        return found

    async def write(self, server: Server, obj: dict[str, Any], value: str) -> None:
        expected, begun = int(obj["metadata"]["resourceVersion"]), time.monotonic()
        try:
            made = await update(server, "configmaps", obj | {"data": {"v": value}})
        except Conflict:
            self.calls.append(Call("write", begun, time.monotonic(), expected=expected, done=False))
        except ServiceUnavailable:
            self.calls.append(Call("write", begun, time.monotonic(), value=value, expected=expected, done=None))
        else:
            version = int(made["metadata"]["resourceVersion"])
            self.calls.append(Call("write", begun, time.monotonic(), version, value, expected))

    async def client(self, number: int, servers: Sequence[Server]) -> None:
        rng = random.Random(number)
        for turn in range(CALLS):
            try:
                found = await self.read(rng.choice(servers))
            except ServiceUnavailable:
                await asyncio.sleep(0.05)
                continue
            if rng.random() < 0.7:
                await self.write(rng.choice(servers), found, f"{number}-{turn}")


async def record(servers: Sequence[Server], recorder: Recorder) -> list[Call]:
    made = await create(servers[0], "configmaps", OBJECT, data={"v": "first"})
    now = time.monotonic()
    recorder.calls.append(Call("write", now - 1, now, int(made["metadata"]["resourceVersion"]), "first"))
    await asyncio.gather(*(recorder.client(number, servers) for number in range(CLIENTS)))
    return recorder.calls


@pytest.fixture
async def etcd(tmp_path: Path) -> AsyncIterator[EtcdServer]:
    async with etcd_server(tmp_path) as server:
        yield server


def check(calls: list[Call]) -> None:
    assert faults(calls) == []
    writes = [call for call in calls if call.kind == "write"]
    assert sum(call.done is True for call in writes) > CALLS / 2
    assert any(call.done is False for call in writes), "nobody was in anybody's way"


async def test_one_server_on_sqlite(tmp_path: Path) -> None:
    async with in_process(f"sqlite://{tmp_path}/store.db") as server:
        check(await record([server], Recorder()))


async def test_two_servers_on_one_etcd(etcd: EtcdServer) -> None:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(in_process(f"etcd://{etcd.endpoint}")) for _ in range(2)]
        check(await record(servers, Recorder()))


async def test_two_servers_whose_etcd_is_killed_meanwhile(etcd: EtcdServer) -> None:
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(in_process(f"etcd://{etcd.endpoint}")) for _ in range(2)]
        recorder = Recorder()
        recording = asyncio.create_task(record(servers, recorder))
        await recorder.under_way.wait()
        await etcd.stop()
        await etcd.start()
        async with asyncio.timeout(60):
            assert faults(await recording) == []


FIRST = Call("write", 0, 1, 5, "a")


@pytest.mark.parametrize(
    ("calls", "fault"),
    [
        pytest.param([FIRST, Call("read", 2, 3, 5, "a")], "", id="a read after a write"),
        pytest.param([FIRST, Call("write", 2, 4, 7, "b", 5), Call("read", 3, 5, 5, "a")], "", id="a read meanwhile"),
        pytest.param(
            [FIRST, Call("write", 2, 3, 7, "b", 5), Call("read", 4, 5, 5, "a")], "older than", id="stale read"
        ),
        pytest.param([FIRST, Call("read", 2, 3, 6, "x")], "nobody wrote", id="a value from nowhere"),
        pytest.param([FIRST, Call("read", 2, 3, 5, "x")], "nobody wrote", id="another value"),
        pytest.param(
            [FIRST, Call("write", 2, 3, 7, "b", 5), Call("write", 2, 3, 8, "c", 5)], "replaced twice", id="lost update"
        ),
        pytest.param(
            [FIRST, Call("write", 2, 3, expected=5, done=False)], "nothing had changed", id="refused for nothing"
        ),
        pytest.param(
            [FIRST, Call("write", 2, 5, 7, "b", 5), Call("write", 3, 4, expected=5, done=False)],
            "",
            id="refused rightly",
        ),
        pytest.param(
            [FIRST, Call("write", 2, 3, value="b", expected=5, done=None), Call("read", 4, 5, 6, "b")],
            "",
            id="a write that may have happened has",
        ),
    ],
)
def test_the_checker_finds_what_cannot_be(calls: list[Call], fault: str) -> None:
    found = faults(calls)
    assert (fault in found[0]) if fault else not found
