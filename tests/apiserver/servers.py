"""API servers in this process, without sockets: everything behind the front ends, on a store of the test's choice."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from apiserver.assembly import Server, assemble
from apiserver.config import parse_config
from apiserver.pipeline import Request, User, WriteOptions
from apiserver.store import open_store

ADMIN = User("admin", ("system:masters", "system:authenticated"))
JSON = "application/json"


@asynccontextmanager
async def in_process(store_url: str, *flags: str) -> AsyncIterator[Server]:
    config = parse_config(["--store", store_url, "--disable-admission-plugins", "ServiceAccount", *flags])
    store = open_store(config.store)
    server = assemble(config, store, 6443)
    cache = asyncio.create_task(server.cache.run())
    await server.cache.synced()
    bootstrap = asyncio.create_task(server.bootstrap.run())
    try:
        await server.bootstrap.done.wait()
        yield server
    finally:
        for task in (bootstrap, cache):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await store.close()


def call(server: Server, verb: str, plural: str, name: str = "") -> Request:
    """A call on a core resource in the namespace default."""
    resource = server.registry.get("", "v1", plural)
    assert resource is not None
    return Request(ADMIN, verb, resource, "default" if resource.namespaced else "", name)


async def create(server: Server, plural: str, name: str, **body: Any) -> dict[str, Any]:
    data = json.dumps({"metadata": {"name": name}, **body}).encode()
    written = await server.pipeline.create(call(server, "create", plural), data, JSON, WriteOptions())
    return dict(json.loads(written.body))


async def update(server: Server, plural: str, obj: dict[str, Any]) -> dict[str, Any]:
    request = call(server, "update", plural, obj["metadata"]["name"])
    written = await server.pipeline.update(request, json.dumps(obj).encode(), JSON, WriteOptions())
    return dict(json.loads(written.body))


async def get(server: Server, plural: str, name: str) -> dict[str, Any]:
    return dict(json.loads(await server.pipeline.get(call(server, "get", plural, name))))
