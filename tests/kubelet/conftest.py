"""Docker, images and runtimes for the kubelet's tests: real ones, each test under a cluster name of its own."""

from __future__ import annotations

import asyncio
import io
import os
import secrets
import shutil
import tarfile
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import docker
import docker.errors
import pytest
import uvloop

from kubelet.runtimes import cgroups
from kubelet.runtimes.base import LABEL_CLUSTER, Runtime, Scope
from kubelet.runtimes.docker import DockerRuntime

DOCKER_SOCKET = os.environ.get("DOCKER_HOST", "unix:///run/kubarium/docker.sock")
BUSYBOX = "kubarium/busybox:latest"
PAUSE = "kubarium/pause:latest"
PAUSE_ENTRYPOINT = """["/bin/sh","-c","trap 'exit 0' TERM INT; while :; do sleep 2147483 & wait $!; done"]"""
APPLETS = ("sh", "sleep", "cat", "echo", "true", "false", "id", "env", "ls", "mkdir", "touch", "nc", "httpd", "ip",
           "wget", "ps", "pwd", "hostname", "stty", "head", "kill", "nslookup", "mount", "grep", "yes", "printenv",
           "stat", "dd", "readlink")  # fmt: skip


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Streams are tested on the kubelet's own event loop: it differs from asyncio's where connections break."""
    if item.path.name == "test_portforward.py":
        return {"uvloop": uvloop.new_event_loop}
    return {"asyncio": asyncio.new_event_loop}


async def eventually(check: Callable[[], object], *, limit_s: float = 20.0, what: str = "") -> None:
    """Poll until `check` is true; the assertion names what was waited for."""
    deadline = time.monotonic() + limit_s
    while not check():
        assert time.monotonic() < deadline, what or f"not true within {limit_s} s"
        await asyncio.sleep(0.01)


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.DockerClient(DOCKER_SOCKET, version="1.41")
    try:
        client.ping()
    except Exception as err:
        pytest.skip(f"no Docker engine at {DOCKER_SOCKET}: {err}")
    _ensure_image(client, BUSYBOX, ['CMD ["/bin/sh"]'])
    _ensure_image(client, PAUSE, [f"ENTRYPOINT {PAUSE_ENTRYPOINT}"])
    yield client
    client.close()


def _ensure_image(client: docker.DockerClient, image: str, changes: list[str]) -> None:
    """A stand-in of busybox-static where the real one has not been made (`make images`)."""
    with suppress(docker.errors.ImageNotFound):
        client.images.get(image)
        return
    busybox = shutil.which("busybox")
    if busybox is None:
        pytest.skip("no busybox to make test images of: apt-get install busybox-static")
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as tar:
        for folder in ("bin", "tmp", "etc", "proc", "sys", "dev"):
            info = tarfile.TarInfo(folder)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            tar.addfile(info)
        tar.add(busybox, "bin/busybox")
        for applet in APPLETS:
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
    repository, tag = image.split(":")
    client.api.import_image_from_data(layer.getvalue(), repository=repository, tag=tag, changes=changes)


@pytest.fixture
def scope(engine: docker.DockerClient) -> Iterator[Scope]:
    """A cluster name of this test's own; all that carries it is removed at the end."""
    scope = Scope(f"t{secrets.token_hex(4)}", "node-1")
    yield scope
    for container in engine.containers.list(all=True, filters={"label": f"{LABEL_CLUSTER}={scope.cluster}"}):
        with suppress(docker.errors.APIError):
            container.remove(force=True)
    cgroups.kill(f"/kubarium/{scope.cluster}")
    cgroups.remove(f"/kubarium/{scope.cluster}")


@pytest.fixture
async def docker_runtime(engine: docker.DockerClient, scope: Scope) -> AsyncIterator[DockerRuntime]:
    async with running(DockerRuntime(scope, socket=DOCKER_SOCKET, pause_image=PAUSE)) as runtime:
        yield runtime


class running:  # noqa: N801  (reads as a verb)
    """`async with running(runtime)`: its loop runs inside."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    async def __aenter__(self) -> Runtime:
        self._task = asyncio.create_task(self._runtime.run(), name="runtime")
        await asyncio.wait_for(self._runtime.synced(), 10)
        return self._runtime

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._runtime.close()


@pytest.fixture
def pod_root(tmp_path: Path) -> Path:
    return tmp_path / "kubelet"
