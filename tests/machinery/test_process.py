"""How components start and stop, as processes; their health port; the CNI client's socket."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from kubarium.machinery import cniclient
from kubarium.machinery.errors import ConfigError
from kubarium.machinery.process import serve_health

PROGRAM = """
import asyncio, logging, sys
from kubarium.machinery.errors import ConfigError
from kubarium.machinery.process import run_component

async def waits():
    logging.getLogger("x").info("up")
    await asyncio.Event().wait()

async def refuses():
    async with asyncio.TaskGroup() as group:
        group.create_task(bad())

async def bad():
    raise ConfigError("--port x: expected a number")

async def breaks():
    raise RuntimeError("boom")

sys.exit(run_component("thing", {main}, log_level="{level}"))
"""


def start(main: str, level: str = "info") -> subprocess.Popen[str]:
    program = PROGRAM.replace("{main}", main).replace("{level}", level)
    return subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_component_with_zero(number: signal.Signals) -> None:
    with start("waits") as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.split(" ", 1)[1] == "INFO thing up\n" and line[10] == "T" and line.split()[0].endswith("Z")
        process.send_signal(number)
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("main", "level", "code", "text"),
    [
        ("refuses", "info", 2, "thing: --port x: expected a number\n"),
        ("waits", "loud", 2, "thing: --log-level loud: expected debug, info, warning or error\n"),
    ],
)
def test_a_bad_setting_is_one_line_and_exit_code_two(main: str, level: str, code: int, text: str) -> None:
    with start(main, level) as process:
        assert process.communicate(timeout=10)[1] == text
        assert process.returncode == code


def test_a_crash_shows_where_and_ends_with_one() -> None:
    with start("breaks") as process:
        err = process.communicate(timeout=10)[1]
    assert process.returncode == 1 and "RuntimeError: boom" in err and "Traceback" in err


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


async def test_health_port() -> None:
    state = {"informers": False}
    port = free_port()
    serving = asyncio.create_task(serve_health("127.0.0.1", port, ready={"informers": lambda: state["informers"]}))
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http, asyncio.timeout(10):

            async def get(path: str) -> tuple[int, str]:
                while True:
                    try:
                        async with http.get(path) as response:
                            return response.status, await response.text()
                    except aiohttp.ClientConnectorError:
                        await asyncio.sleep(0.01)

            assert await get("/healthz") == (200, "ok")
            assert await get("/readyz") == (503, "[-]informers failed: reason withheld\nreadyz check failed\n")
            state["informers"] = True
            assert await get("/readyz") == (200, "ok")
            assert "process_resident_memory_bytes" in (await get("/metrics"))[1]
        with pytest.raises(ConfigError, match=f"health port 127.0.0.1:{port} of thing"):
            await serve_health("127.0.0.1", port, ready=lambda: True, name="thing")
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)


async def _agent(path: Path, answer: Callable[[dict[str, object]], Awaitable[bytes]]) -> asyncio.Server:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await answer(json.loads(await reader.readline())))
        writer.close()

    return await asyncio.start_unix_server(serve, str(path))


async def test_cni_client_speaks_to_the_agent(tmp_path: Path) -> None:
    asked: list[dict[str, object]] = []

    async def answer(request: dict[str, object]) -> bytes:
        asked.append(request)
        if request["command"] == "STATUS":
            return b'{"cniVersion":"1.1.0","code":50,"msg":"not ready","details":"no podCIDR"}\n'
        return b'{"cniVersion":"1.1.0","ips":[{"address":"10.244.1.5/24"}]}\n'

    path = tmp_path / "cni.sock"
    async with await _agent(path, answer):
        result = await cniclient.add(path, container_id="c1", netns="/proc/1/ns/net", args={"K8S_POD_NAME": "p"})
        assert result["ips"] == [{"address": "10.244.1.5/24"}]
        assert asked[0] == {
            "command": "ADD",
            "containerID": "c1",
            "netns": "/proc/1/ns/net",
            "ifname": "eth0",
            "args": {"K8S_POD_NAME": "p"},
            "config": {},
            "labels": {},
        }
        with pytest.raises(cniclient.CniError, match="CNI error 50: not ready: no podCIDR"):
            await cniclient.status(path)


@pytest.mark.parametrize("reply", [b"", b"rubbish\n"])
async def test_an_agent_that_answers_nothing_useful_is_an_error(tmp_path: Path, reply: bytes) -> None:
    async def answer(_: dict[str, object]) -> bytes:
        return reply

    path = tmp_path / "cni.sock"
    async with await _agent(path, answer):
        with pytest.raises(cniclient.CniError, match=r"CNI agent at .*cni\.sock"):
            await cniclient.gc(path, ["c1"])


async def test_an_agent_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(cniclient.CniError, match="No such file"):
        await cniclient.delete(tmp_path / "none.sock", container_id="c1")
