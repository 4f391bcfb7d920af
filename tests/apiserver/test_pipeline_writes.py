"""The pipeline on a real SQLite store, without a front end: races, cut-off clients, what a plugin sees."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from apiserver.assembly import Server, assemble
from apiserver.config import parse_config
from apiserver.pipeline import DeleteOptions, ListOptions, Request, User, WriteOptions
from apiserver.registry import ResourceDef
from apiserver.store import open_store
from kubarium.machinery.errors import Conflict, Forbidden, NotFound

ADMIN = User("admin", ("system:masters", "system:authenticated"))
JSON, MERGE = "application/json", "application/merge-patch+json"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """Everything but sockets."""
    config = parse_config(["--store", f"sqlite://{tmp_path}/store.db", "--disable-admission-plugins", "ServiceAccount"])
    store = open_store(config.store)
    found = assemble(config, store, 6443)
    cache = asyncio.create_task(found.cache.run())
    await found.cache.synced()
    bootstrap = asyncio.create_task(found.bootstrap.run())
    await found.bootstrap.done.wait()
    yield found
    for task in (bootstrap, cache):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await store.close()


def resource(server: Server, plural: str, group: str = "") -> ResourceDef:
    found = server.registry.get(group, "v1", plural)
    assert found is not None
    return found


def call(server: Server, verb: str, name: str = "", plural: str = "configmaps", user: User = ADMIN) -> Request:
    return Request(user, verb, resource(server, plural), "default", name)


async def create(server: Server, name: str, plural: str = "configmaps", **body: Any) -> dict[str, Any]:
    kind = resource(server, plural).kind
    data = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name}, **body}
    written = await server.pipeline.create(call(server, "create", plural=plural), _bytes(data), JSON, WriteOptions())
    return dict(json.loads(written.body))


async def get(server: Server, name: str) -> dict[str, Any]:
    return dict(json.loads(await server.pipeline.get(call(server, "get", name))))


async def patch(server: Server, name: str, body: dict[str, Any]) -> None:
    await server.pipeline.patch(call(server, "patch", name), _bytes(body), MERGE, WriteOptions())


def _bytes(body: dict[str, Any]) -> bytes:
    return json.dumps(body).encode()


async def test_a_read_after_a_write_sees_it(server: Server) -> None:
    for number in range(50):
        made = await create(server, f"c{number}")
        assert await get(server, f"c{number}") == made
        await patch(server, f"c{number}", {"data": {"n": str(number)}})
        assert (await get(server, f"c{number}"))["data"] == {"n": str(number)}
        await server.pipeline.delete(call(server, "delete", f"c{number}"), DeleteOptions())
        with pytest.raises(NotFound):
            await get(server, f"c{number}")


async def test_patches_of_one_object_at_once_all_take_effect(server: Server) -> None:
    await create(server, "a")
    await asyncio.gather(*(patch(server, "a", {"data": {f"k{n}": "x"}}) for n in range(40)))
    assert len((await get(server, "a"))["data"]) == 40


async def test_of_guarded_updates_at_once_one_wins(server: Server) -> None:
    version = (await create(server, "a"))["metadata"]["resourceVersion"]
    body = {"metadata": {"resourceVersion": version}}
    results = await asyncio.gather(
        *(patch(server, "a", body | {"data": {"k": str(n)}}) for n in range(10)), return_exceptions=True
    )
    assert results.count(None) == 1
    assert all(isinstance(r, Conflict) for r in results if r is not None)


async def test_a_write_goes_on_when_its_client_goes_away(server: Server) -> None:
    for number in range(10):
        write = create(server, f"s{number}", "services", spec={"ports": [{"port": 80}]})
        task = asyncio.create_task(server.pipeline.unbroken(write))
        await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    await server.pipeline.finish_writes()
    listed = await server.pipeline.list(call(server, "list", plural="services"), ListOptions())
    addresses = [json.loads(entry.data)["spec"]["clusterIP"] for entry in listed.entries]
    assert len(addresses) == len(set(addresses)) == 11  # and the kubernetes Service
    assert server.services.allocate("/probe", {"metadata": {}, "spec": {"type": "ClusterIP"}}).items


async def test_of_many_creates_of_one_name_one_wins(server: Server) -> None:
    results = await asyncio.gather(*(create(server, "one") for _ in range(20)), return_exceptions=True)
    assert sum(isinstance(r, dict) for r in results) == 1


async def test_a_delete_and_updates_at_once_leave_nothing_half_done(server: Server) -> None:
    for number in range(10):
        name = f"c{number}"
        await create(server, name)
        delete = server.pipeline.delete(call(server, "delete", name), DeleteOptions())
        await asyncio.gather(
            delete, *(patch(server, name, {"data": {"k": str(n)}}) for n in range(5)), return_exceptions=True
        )
        with pytest.raises(NotFound):
            await get(server, name)


async def test_every_watcher_sees_the_same_order(server: Server) -> None:
    await create(server, "first")
    version = str(server.cache.revision)
    wanted = ListOptions(resource_version=version, timeout_s=1)

    async def watch() -> list[tuple[str, str]]:
        seen = []
        async for batch in server.pipeline.watch(call(server, "watch"), wanted):
            for event in batch:
                assert event.entry is not None
                seen.append((event.type, event.entry.head.name))
        return seen

    watchers = [asyncio.create_task(watch()) for _ in range(5)]
    await asyncio.gather(*(create(server, f"c{n}") for n in range(30)))
    seen = await asyncio.gather(*watchers)
    assert len(seen[0]) == 30
    assert all(one == seen[0] for one in seen)


async def test_ending_the_watches_ends_them(server: Server) -> None:
    batches = server.pipeline.watch(call(server, "watch"), ListOptions())
    assert len(await anext(batches)) == 0
    waiting = asyncio.create_task(_drain(batches))
    await asyncio.sleep(0)
    server.pipeline.end_watches()
    await asyncio.wait_for(waiting, 5)


async def _drain(batches: AsyncIterator[Any]) -> None:
    async for _ in batches:
        pass


async def test_whoever_is_not_known_may_do_nothing(server: Server) -> None:
    nobody = User("nobody", ("system:unauthenticated",))
    with pytest.raises(Forbidden):
        await server.pipeline.get(call(server, "get", "a", user=nobody))
    with pytest.raises(Forbidden):
        await server.pipeline.create(call(server, "create", user=nobody), b"{}", JSON, WriteOptions())
    with pytest.raises(Forbidden):
        await anext(server.pipeline.watch(call(server, "watch", user=nobody), ListOptions()))
