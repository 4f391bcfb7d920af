"""Addresses and ports of Services: over two servers on one store, over a gap in the watch, over writes in doubt."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest

from apiserver.allocators import Item, PortRange, ServiceAllocator
from apiserver.assembly import Server
from apiserver.codec import head_reader
from apiserver.pipeline import DeleteOptions
from apiserver.servicekeeper import DOUBT_S, ServiceKeeper
from apiserver.state import State, decoded
from apiserver.watchcache import WatchCache
from kubarium.machinery.errors import Invalid
from tests.apiserver.etcd_server import etcd_server
from tests.apiserver.servers import call, create, in_process, update

PORT = {"port": 80}
FLAGS = ("--service-cluster-ip-range", "10.96.0.0/26", "--service-node-port-range", "30000-30009")


@pytest.fixture
async def servers(tmp_path: Path) -> AsyncIterator[list[Server]]:
    """Two on one etcd, with few addresses and ports."""
    async with etcd_server(tmp_path) as etcd, AsyncExitStack() as stack:
        yield [await stack.enter_async_context(in_process(f"etcd://{etcd.endpoint}", *FLAGS)) for _ in range(2)]


def services_of(server: Server) -> list[dict[str, Any]]:
    return [decoded(entry) for entry in server.cache.list("/registry/core/services/")]


async def settled(servers: list[Server]) -> list[dict[str, Any]]:
    for server in servers:
        await server.pipeline.state.caught_up()
    assert services_of(servers[0]) == services_of(servers[1])
    return services_of(servers[0])


async def test_addresses_given_out_by_two_servers_at_once_are_different(servers: list[Server]) -> None:
    made = await asyncio.gather(
        *(create(servers[n % 2], "services", f"s{n}", spec={"ports": [PORT]}) for n in range(50))
    )
    found = {service["metadata"]["name"]: service["spec"]["clusterIP"] for service in await settled(servers)}
    assert len(found) == len(set(found.values())) == 51, found  # and the kubernetes Service
    assert {service["metadata"]["name"]: service["spec"]["clusterIP"] for service in made}.items() < found.items()


async def test_of_two_services_that_name_one_port_one_gets_it(servers: list[Server]) -> None:
    for number in range(10):
        spec = {"type": "NodePort", "ports": [PORT | {"nodePort": 30000 + number}]}
        results = await asyncio.gather(
            *(create(servers[n], "services", f"s{number}-{n}", spec=spec) for n in range(2)), return_exceptions=True
        )
        (refusal,) = [result for result in results if isinstance(result, BaseException)]
        assert isinstance(refusal, Invalid)
        assert "provided port is already allocated" in str(refusal)
    assert len(await settled(servers)) == 11


async def test_of_two_updates_that_ask_for_one_port_one_gets_it(servers: list[Server]) -> None:
    made = [await create(servers[0], "services", f"s{n}", spec={"ports": [PORT]}) for n in range(2)]
    await settled(servers)
    changed = [
        service | {"spec": service["spec"] | {"type": "NodePort", "ports": [PORT | {"nodePort": 30005}]}}
        for service in made
    ]
    results = await asyncio.gather(
        *(update(servers[n], "services", changed[n]) for n in range(2)), return_exceptions=True
    )
    assert sum(isinstance(result, dict) for result in results) == 1
    types = sorted(service["spec"]["type"] for service in await settled(servers))
    assert types == ["ClusterIP", "ClusterIP", "NodePort"]


async def test_a_service_deleted_in_a_gap_of_the_watch_holds_nothing(tmp_path: Path) -> None:
    async with in_process(f"sqlite://{tmp_path}/store.db") as server:
        store, head = server.pipeline.state.store, head_reader(lambda _: {})
        cache = WatchCache(store, head=head)
        keeper = ServiceKeeper(table(), State(store, cache, head), "/registry/core/services/")
        spec = {"type": "NodePort", "ports": [PORT | {"nodePort": 30003}]}
        await create(server, "services", "web", spec=spec)
        async with following(cache):
            keeper.catch_up()
        with pytest.raises(Invalid, match="already allocated"):
            keeper.allocate("/s/again", {"metadata": {"name": "again"}, "spec": dict(spec)})
        await server.pipeline.delete(call(server, "delete", "services", "web"), DeleteOptions())
        await store.compact(await create_and_revision(server))
        async with following(cache):
            assert keeper.allocate("/s/again", {"metadata": {"name": "again"}, "spec": dict(spec)}).items


async def create_and_revision(server: Server) -> int:
    return int((await create(server, "configmaps", "last"))["metadata"]["resourceVersion"])


@asynccontextmanager
async def following(cache: WatchCache) -> AsyncIterator[None]:
    """The cache follows the store, and has caught up with it."""
    task = asyncio.create_task(cache.run())
    try:
        async with asyncio.timeout(10):
            await cache.synced()
            await cache.wait_for(await cache.consistent_revision())
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def table() -> ServiceAllocator:
    return ServiceAllocator(ip_network("10.96.0.0/24"), PortRange(30000, 30009))


async def test_what_a_write_in_doubt_has_taken_stays_taken_for_a_while(tmp_path: Path) -> None:
    async with in_process(f"sqlite://{tmp_path}/store.db") as server:
        now = 0.0
        keeper = ServiceKeeper(table(), server.pipeline.state, "/registry/core/services/", lambda: now)
        spec = {"type": "ClusterIP", "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"], "ports": [PORT]}
        service = {"metadata": {"name": "a"}, "spec": spec}
        keeper.doubt(keeper.allocate("/s/a", service))
        with pytest.raises(Invalid, match="already allocated"):
            keeper.allocate("/s/b", {"metadata": {"name": "b"}, "spec": dict(spec)})
        now = DOUBT_S + 1
        assert keeper.allocate("/s/b", {"metadata": {"name": "b"}, "spec": dict(spec)}).items


def test_of_rivals_the_one_written_first_keeps_what_both_hold() -> None:
    taken = table()
    spec = {"type": "NodePort", "clusterIP": "None", "clusterIPs": ["None"]}
    mine = {"metadata": {"name": "mine"}, "spec": spec | {"ports": [PORT | {"nodePort": 30001}]}}
    reserved = taken.allocate("/s/mine", mine)
    assert reserved.items == [Item("port", 30001)]
    theirs = {"metadata": {"name": "theirs"}, "spec": spec | {"ports": [PORT | {"nodePort": 30001}]}}
    taken.observe("/s/theirs", 7, theirs)
    taken.observe("/s/mine", 9, mine)
    assert taken.is_disputed(reserved, 9)
    assert not taken.is_disputed(reserved, 6)
    taken.observe("/s/mine", 10, None)
    taken.cancel(reserved)
    with pytest.raises(Invalid, match="already allocated"):
        taken.allocate("/s/third", mine)
    taken.forget("/s/theirs", 11)
    assert taken.allocate("/s/third", mine).items


def test_the_end_of_a_service_that_has_been_made_again_frees_nothing() -> None:
    """Its own server knows of the new one before the watch tells of the end of the old one."""
    taken = table()
    spec = {"type": "NodePort", "clusterIP": "None", "clusterIPs": ["None"], "ports": [PORT | {"nodePort": 30001}]}
    mine = {"metadata": {"name": "mine"}, "spec": spec}
    reserved = taken.allocate("/s/mine", mine)
    taken.observe("/s/mine", 9, mine)
    taken.forget("/s/mine", 7)
    taken.observe("/s/theirs", 8, {"metadata": {"name": "theirs"}, "spec": spec})
    assert taken.is_disputed(reserved, 9)


def test_the_order_in_which_services_are_learnt_decides_nothing() -> None:
    taken = table()
    spec = {"type": "NodePort", "clusterIP": "None", "clusterIPs": ["None"], "ports": [PORT | {"nodePort": 30001}]}
    mine = {"metadata": {"name": "mine"}, "spec": spec}
    reserved = taken.allocate("/s/mine", mine)
    taken.observe("/s/mine", 9, mine)
    taken.forget_all(9)
    taken.observe("/s/a-theirs", 8, {"metadata": {"name": "theirs"}, "spec": spec})
    taken.observe("/s/mine", 9, mine)
    assert taken.is_disputed(reserved, 9)
