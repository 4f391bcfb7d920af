"""The whole server killed with -9 under writes, on both stores: what it answered for is there afterwards, whole, and a
watch goes on from what it had told, without gap or double."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from kubarium.testing.apiserver import ApiServer, api_server
from tests.apiserver.etcd_server import etcd_server

WRITERS, ENOUGH, ROUNDS = 8, 300, 2
PATH = "/api/v1/namespaces/default/configmaps"
DATA = "x" * 2000


class Writer(threading.Thread):
    """Creates, and changes what it has created, until the server is gone; `acknowledged`: name -> last version."""

    def __init__(self, server: ApiServer, prefix: str, enough: threading.Event) -> None:
        super().__init__(daemon=True)
        self._server = server
        self._prefix = prefix
        self._enough = enough
        self.acknowledged: dict[str, int] = {}

    def run(self) -> None:
        host = self._server.url.removeprefix("https://")
        connection = http.client.HTTPSConnection(host, context=self._server.tls, timeout=10)
        with suppress(OSError, http.client.HTTPException):
            for number in range(10_000):
                name = f"{self._prefix}-{number}"
                self._write(connection, "POST", PATH, name, {})
                if number % 3 == 0:
                    self._write(connection, "PUT", f"{PATH}/{name}", name, {"again": "1"})

    def _write(self, connection: http.client.HTTPSConnection, method: str, path: str, name: str, more: Any) -> None:
        body = {"metadata": {"name": name}, "data": {"k": DATA, **more}}
        headers = {"Authorization": f"Bearer {self._server.token}", "Content-Type": "application/json"}
        connection.request(method, path, json.dumps(body), headers)
        answer = connection.getresponse()
        obj = json.loads(answer.read())
        assert answer.status in (200, 201), obj
        self.acknowledged[name] = int(obj["metadata"]["resourceVersion"])
        if len(self.acknowledged) * WRITERS >= ENOUGH:
            self._enough.set()


def watched(lines: Iterator[bytes], told: list[tuple[str, int]]) -> None:
    with suppress(OSError, http.client.HTTPException, ValueError, AttributeError):
        for line in lines:
            metadata = json.loads(line)["object"]["metadata"]
            told.append((metadata["name"], int(metadata["resourceVersion"])))


def killed_under_writes(
    folder: Path, flags: tuple[str, ...], turn: int
) -> tuple[dict[str, int], list[tuple[str, int]]]:
    """What was answered for, and what a watch was told, before the server was killed."""
    told: list[tuple[str, int]] = []
    with api_server(folder, *flags, kill=True) as server:
        start = server.get(PATH + "?limit=1").body["metadata"]["resourceVersion"]
        host = server.url.removeprefix("https://")
        watch = http.client.HTTPSConnection(host, context=server.tls, timeout=30)
        watch.request(
            "GET", f"{PATH}?watch=1&resourceVersion={start}", headers={"Authorization": f"Bearer {server.token}"}
        )
        following = threading.Thread(target=watched, args=(iter(watch.getresponse().readline, b""), told), daemon=True)
        following.start()
        enough = threading.Event()
        writers = [Writer(server, f"r{turn}-{n}", enough) for n in range(WRITERS)]
        for writer in writers:
            writer.start()
        assert enough.wait(60)
    for thread in (*writers, following):
        thread.join(20)
    return {name: version for writer in writers for name, version in writer.acknowledged.items()}, told


def check(folder: Path, flags: tuple[str, ...]) -> None:
    for turn in range(ROUNDS):
        acknowledged, told = killed_under_writes(folder, flags, turn)
        assert len(acknowledged) > ENOUGH / 2
        assert told
        with api_server(folder, *flags) as server:
            items = {item["metadata"]["name"]: item for item in server.get(PATH).body["items"]}
            for name, version in acknowledged.items():
                found = items[name]
                # A change that was on its way when the server died may have happened; none that was answered is lost.
                assert int(found["metadata"]["resourceVersion"]) >= version
                assert found["data"]["k"] == DATA
            last = told[-1][1]
            resumed = server.watch(f"{PATH}?watch=1&resourceVersion={last}&timeoutSeconds=1")
            versions = [version for _, version in told]
            versions += [int(event["object"]["metadata"]["resourceVersion"]) for event in resumed]
            assert versions == sorted(set(versions))
            missing = set(acknowledged.values()) - set(versions)
            assert not missing, "a watch that was resumed has missed changes"


def test_on_sqlite(tmp_path: Path) -> None:
    check(tmp_path, ())


@pytest.fixture
async def etcd(tmp_path: Path) -> AsyncIterator[str]:
    async with etcd_server(tmp_path) as server:
        yield f"etcd://{server.endpoint}"


async def test_on_etcd(etcd: str, tmp_path: Path) -> None:
    await asyncio.to_thread(check, tmp_path / "api", ("--store", etcd))
