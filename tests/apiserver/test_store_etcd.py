"""The etcd store against a real etcd: the shared promises, absence and return, and foreign keys."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import grpc.aio
import pytest
from aetcd import rpc

from apiserver.store import open_store
from apiserver.store.base import Store
from apiserver.store.etcd import EtcdStore
from kubarium.machinery.errors import StoreUnavailable, ValueTooLarge
from tests.apiserver.etcd_server import EtcdServer, answers, etcd_server, free_port
from tests.apiserver.store_conformance import PODS, WEB, StoreConformance, progress, take


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EtcdServer]:
    async with etcd_server(tmp_path) as running:
        yield running


@pytest.fixture
async def store(server: EtcdServer) -> AsyncIterator[Store]:
    opened = open_store(f"etcd://{server.endpoint}")
    yield opened
    await opened.close()


class TestEtcdStore(StoreConformance):
    pass


async def test_an_absent_etcd_is_unavailable_and_its_return_is_noticed(server: EtcdServer, store: Store) -> None:
    created = await store.create(WEB, b"1")
    watching = asyncio.create_task(take(store.watch(PODS, after=created), 1))
    await server.stop()
    with pytest.raises(StoreUnavailable):
        await watching
    for call in (store.get(WEB), store.create(PODS + "other", b""), store.revision()):
        with pytest.raises(StoreUnavailable):
            await call
    await server.start()
    await answers(store)
    found = await store.get(WEB)
    assert found is not None and found.mod_revision == created
    updated = await store.update(WEB, b"2", expected=created)
    async with aclosing(store.watch(PODS, after=created)) as watch:
        assert [event.revision for event in await take(watch, 1)] == [updated]


async def test_the_next_endpoint_is_used_when_one_fails(server: EtcdServer) -> None:
    store = EtcdStore([f"127.0.0.1:{free_port()}", server.endpoint])
    try:
        with pytest.raises(StoreUnavailable):
            await store.create(WEB, b"1")
        assert await store.create(WEB, b"1") > 0
    finally:
        await store.close()


async def test_two_stores_on_one_etcd_agree(server: EtcdServer, store: Store) -> None:
    other = EtcdStore([server.endpoint])
    try:
        written = await store.create(WEB, b"1")
        assert await other.revision() >= written
        found = await other.get(WEB)
        assert found is not None and found.value == b"1"
    finally:
        await other.close()


async def test_a_foreign_key_of_any_bytes_counts_as_progress(server: EtcdServer, store: Store) -> None:
    start = await store.revision()
    async with aclosing(store.watch(PODS, after=start)) as watch, grpc.aio.insecure_channel(server.endpoint) as channel:
        written = await rpc.KVStub(channel).Put(rpc.PutRequest(key=b"\xff\xfe", value=b"\xff"))
        await progress(watch, written.header.revision)


async def test_keys_of_one_time_to_live_share_a_lease(store: Store) -> None:
    assert isinstance(store, EtcdStore)
    await asyncio.gather(*(store.create(f"{PODS}{n}", b"", ttl_s=3600) for n in range(50)))
    assert len(store._leases) == 1
    assert store._leases[3600].keys == 50


async def test_a_value_that_etcd_finds_too_large_is_no_absent_etcd(store: Store) -> None:
    with pytest.raises(ValueTooLarge, match="request is too large"):
        await store.create(WEB, b"x" * 2_000_000)
    assert await store.create(WEB, b"x" * 1_000_000) > 0


async def test_calls_beyond_what_the_windows_of_the_connection_hold(store: Store) -> None:
    """Each is many frames, and all together a hundred times what may be under way at first."""
    values = {f"{PODS}{n}": bytes([n]) * 300_000 for n in range(24)}
    await asyncio.gather(*(store.create(key, value) for key, value in values.items()))
    assert {item.key: item.value for item in (await store.list(PODS)).items} == values
