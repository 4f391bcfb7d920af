"""A real etcd for a test: free ports, a data folder of its own, killed and started again at will."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from apiserver.store.base import Store
from apiserver.store.etcd import EtcdStore
from kubarium.machinery.errors import StoreUnavailable

START_S = 20.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class EtcdServer:
    """One member; `endpoint` stays the same over restarts."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: asyncio.subprocess.Process | None = None
        self._port, self._peer_port = free_port(), free_port()
        self.endpoint = f"127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Returns when it answers."""
        client, peer = f"http://{self.endpoint}", f"http://127.0.0.1:{self._peer_port}"
        flags = {
            "data-dir": self._folder / "data",
            "log-outputs": self._folder / "etcd.log",
            "logger": "zap",
            "heartbeat-interval": 10,  # ms; a single member then elects itself at once
            "election-timeout": 100,
            "listen-client-urls": client,
            "advertise-client-urls": client,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }
        self._process = await asyncio.create_subprocess_exec("etcd", *(f"--{k}={v}" for k, v in flags.items()))
        store = EtcdStore([self.endpoint], timeout_s=1.0)
        try:
            await answers(store)
        finally:
            await store.close()

    async def stop(self, how: signal.Signals = signal.SIGKILL) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.send_signal(how)
            await self._process.wait()


@asynccontextmanager
async def etcd_server(folder: Path) -> AsyncIterator[EtcdServer]:
    if shutil.which("etcd") is None:
        pytest.skip("no etcd on PATH")
    server = EtcdServer(folder)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()


async def answers(store: Store) -> None:
    """Returns when the store does."""
    async with asyncio.timeout(START_S):
        while True:
            with suppress(StoreUnavailable):
                await store.revision()
                return
            await asyncio.sleep(0.05)
