"""The kubelet's side of CNI: one request a connection to the node's CNI agent, JSON on a Unix socket.

The same protocol that the CNI plugin executable speaks. Answers are CNI results; refusals are CNI errors.
Source: CNI specification 1.1, https://www.cni.dev/docs/spec/
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import orjson

from kubarium.machinery.errors import NetworkError

UNREACHABLE = 5  # CNI: I/O failure
ANSWER_S = 30.0
LINE_BYTES = 1 << 20


class CniError(NetworkError):
    """The agent refused: `code` as in the CNI specification, 11 meaning that a later try may succeed."""

    def __init__(self, code: int, message: str, details: str = "") -> None:
        super().__init__(f"CNI error {code}: {message}" + (f": {details}" if details else ""))
        self.code = code
        self.details = details


async def add(
    socket: str | Path,
    *,
    container_id: str,
    netns: str,
    ifname: str = "eth0",
    args: Mapping[str, str],
    labels: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Wire a sandbox; the CNI result has `ips` ([{"address": "10.244.1.5/24", ...}]), `interfaces`, `routes`.

    `args` names the pod: K8S_POD_NAMESPACE, K8S_POD_NAME, K8S_POD_UID. Repeating it gives the same addresses.
    """
    return await _ask(socket, _request("ADD", container_id, netns, ifname, args, config, labels or {}))


async def delete(
    socket: str | Path,
    *,
    container_id: str,
    netns: str = "",
    ifname: str = "eth0",
    args: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Unwire a sandbox and free its addresses; one that was never wired is no error."""
    await _ask(socket, _request("DEL", container_id, netns, ifname, args or {}, config))


async def check(
    socket: str | Path,
    *,
    container_id: str,
    netns: str,
    ifname: str = "eth0",
    args: Mapping[str, str] | None = None,
    config: Mapping[str, Any] | None = None,
) -> None:
    """Raises CniError where the sandbox is not wired as it was."""
    await _ask(socket, _request("CHECK", container_id, netns, ifname, args or {}, config))


async def gc(socket: str | Path, valid: Iterable[str], *, ifname: str = "eth0") -> None:
    """Free what belongs to no sandbox in `valid` (container IDs)."""
    attachments = [{"containerID": container_id, "ifname": ifname} for container_id in valid]
    await _ask(socket, {"command": "GC", "config": {"cni.dev/valid-attachments": attachments}})


async def status(socket: str | Path) -> None:
    """Raises CniError while the agent cannot serve ADD."""
    await _ask(socket, {"command": "STATUS", "config": {}})


def _request(
    command: str,
    container_id: str,
    netns: str,
    ifname: str,
    args: Mapping[str, str],
    config: Mapping[str, Any] | None,
    labels: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    request: dict[str, Any] = {
        "command": command,
        "containerID": container_id,
        "netns": netns,
        "ifname": ifname,
        "args": dict(args),
        "config": dict(config or {}),
    }
    return request if labels is None else request | {"labels": dict(labels)}


async def _ask(socket: str | Path, request: Mapping[str, Any]) -> dict[str, Any]:
    try:
        async with asyncio.timeout(ANSWER_S):
            line = await _exchange(socket, orjson.dumps(request) + b"\n")
    except (OSError, TimeoutError) as err:
        reason = f"no answer in {ANSWER_S:.0f} s" if isinstance(err, TimeoutError) else err.strerror or str(err)
        raise CniError(UNREACHABLE, f"CNI agent at {socket}: {reason}") from err
    try:
        answer = orjson.loads(line or b"{}")
    except ValueError as err:
        raise CniError(UNREACHABLE, f"CNI agent at {socket}: answer is not JSON") from err
    if not line:
        raise CniError(UNREACHABLE, f"CNI agent at {socket}: connection closed without an answer")
    if "code" in answer:
        raise CniError(int(answer["code"]), str(answer.get("msg") or ""), str(answer.get("details") or ""))
    result: dict[str, Any] = answer
    return result


async def _exchange(socket: str | Path, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(socket), limit=LINE_BYTES)
    try:
        writer.write(request)
        await writer.drain()
        return await reader.readline()
    finally:
        writer.close()
