"""What a write costs inside the API server: CPU of a create by stage, of whole creates in process, without HTTP."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from apiserver import codec, decode
from apiserver.assembly import Server, assemble, spare_the_collector
from apiserver.config import parse_config
from apiserver.fieldmanager import updates
from apiserver.pipeline import Request, User, WriteOptions
from apiserver.registry import REGISTRY
from apiserver.registry.base import ResourceDef
from apiserver.stamps import Uids
from apiserver.store import open_store
from benchmarks.lab import Row

ADMIN = User("admin", ("system:masters", "system:authenticated"))
JSON = "application/json"
WRITERS = 32
CREATES, SERVICES = 20_000, 9_000
ETCD_PORT = 18379
DATA = "x" * 800
NOTES = """The stages are timed in a tight loop, where the processor has all of it at hand; on the way of a request they
take about twice that. `all threads` counts the store's writer, too: of its 20 microseconds SQLite has 15 (pages, WAL,
fdatasync), whose interpreter lock is free meanwhile. On etcd the difference is the calls: frames out and in for one
transaction and one event of the watch; etcd's own process takes 100 to 150 more.
"""


def config_map(name: str) -> bytes:
    metadata = {"name": name}
    return json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"k": DATA}}).encode()


def service(name: str) -> bytes:
    spec = {"selector": {"app": name}, "ports": [{"port": 80}]}
    return json.dumps({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}).encode()


def cpu_us(call: Callable[[], Any], times: int = 20_000) -> float:
    begun = time.thread_time()
    for _ in range(times):
        call()
    return (time.thread_time() - begun) / times * 1e6


def stages() -> list[Row]:
    resource = next(found for found in REGISTRY if found.plural == "configmaps")
    body = config_map("one")
    obj, _ = decode.decode(body, JSON, resource)
    obj["metadata"] |= {"namespace": "default", "uid": Uids()(), "creationTimestamp": "2026-01-01T00:00:00Z"}

    def track() -> None:
        obj["metadata"].pop("managedFields", None)
        updates.track_create(resource, obj, "wrk", "2026-01-01T00:00:00Z")

    track()
    data = codec.stored_form(obj)
    head = codec.head_reader(lambda _: {})
    calls: dict[str, Callable[[], Any]] = {
        "decode, with unknown and repeated fields": lambda: decode.decode(body, JSON, resource),
        "managedFields": track,
        "validate": lambda: resource.strategy.validate(obj),
        "encode for the store": lambda: codec.stored_form(obj),
        "fill in the resourceVersion (answer, cache)": lambda: codec.with_revision(data, 123456),
        "head for filters": lambda: head("/registry/core/configmaps/default/one", data),
        "uid": Uids(),
    }
    return [Row(f"create, stage: {name}", f"{cpu_us(call):.1f} us") for name, call in calls.items()]


@asynccontextmanager
async def in_process(store_url: str) -> AsyncIterator[Server]:
    """Everything of a server but its front ends."""
    config = parse_config(["--store", store_url, "--disable-admission-plugins", "ServiceAccount"])
    store = open_store(config.store)
    server = assemble(config, store, 6443)
    tasks = [asyncio.create_task(server.cache.run())]
    await server.cache.synced()
    tasks.append(asyncio.create_task(server.bootstrap.run()))
    await server.bootstrap.done.wait()
    spare_the_collector()
    try:
        yield server
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        await store.close()


async def create_many(server: Server, resource: ResourceDef, body: Callable[[str], bytes], names: list[str]) -> str:
    """The rate, and CPU a create."""
    request, options, left = Request(ADMIN, "create", resource, "default"), WriteOptions(user_agent="wrk"), iter(names)

    async def writer() -> None:
        for name in left:
            await server.pipeline.create(request, body(name), JSON, options)

    begun, cpu, own = time.perf_counter(), time.process_time(), time.thread_time()
    await asyncio.gather(*(writer() for _ in range(WRITERS)))
    took, each = time.perf_counter() - begun, 1e6 / len(names)
    return (
        f"{len(names) / took:,.0f}/s; CPU a create {(time.thread_time() - own) * each:.0f} us on the loop, "
        f"{(time.process_time() - cpu) * each:.0f} us on all threads"
    )


async def creates(store_url: str, where: str) -> list[Row]:
    async with in_process(store_url) as server:
        resource = server.registry.get("", "v1", "configmaps")
        assert resource is not None
        await create_many(server, resource, config_map, [f"warm-{n}" for n in range(500)])
        figure = await create_many(server, resource, config_map, [f"c-{n}" for n in range(CREATES)])
    return [Row(f"create ConfigMap 1 KB, 32 at a time, no HTTP, {where}", figure)]


async def services(store_url: str) -> list[Row]:
    rows = []
    async with in_process(store_url) as server:
        resource = server.registry.get("", "v1", "services")
        assert resource is not None
        for first in range(0, SERVICES, 1000):
            figure = await create_many(server, resource, service, [f"s-{n}" for n in range(first, first + 1000)])
            if first in (0, SERVICES - 1000):
                target = "1,000/s at any size"
                rows.append(Row(f"create Services {first:,} to {first + 1000:,}, no HTTP, sqlite", figure, target))
    return rows


def measure() -> list[Row]:
    import uvloop

    rows = stages()
    with tempfile.TemporaryDirectory() as folder:
        rows += uvloop.run(creates(f"sqlite://{folder}/configmaps.db", "sqlite"))
        rows += uvloop.run(services(f"sqlite://{folder}/services.db"))
        if shutil.which("etcd"):
            rows += with_etcd(Path(folder))
    return rows


def with_etcd(folder: Path) -> list[Row]:
    import uvloop

    client, peer = f"http://127.0.0.1:{ETCD_PORT}", f"http://127.0.0.1:{ETCD_PORT + 1}"
    flags = {"data-dir": folder / "etcd", "log-outputs": folder / "etcd.log", "logger": "zap"}
    flags |= {"listen-client-urls": client, "advertise-client-urls": client, "listen-peer-urls": peer}
    flags |= {"initial-advertise-peer-urls": peer, "initial-cluster": f"default={peer}"}
    server = subprocess.Popen(["etcd", *(f"--{name}={value}" for name, value in flags.items())])
    try:
        return list(uvloop.run(creates(f"etcd://127.0.0.1:{ETCD_PORT}", "etcd")))
    finally:
        server.terminate()
        server.wait()
