"""Probes: is a container started, alive, ready? And the requests that lifecycle hooks make in the same way.

HTTP, TCP and gRPC probes come from the kubelet's own network namespace, the node's. One task a probe; results go to a
callback. `Tally` is the pure part: single results -> a verdict that changes only at its thresholds.
Source: https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from kubarium.machinery import objects
from kubarium.machinery.errors import ContainerError
from kubelet.runtimes.base import ContainerId, Runtime, exec_sync

USER_AGENT = "kube-probe/1.36"
BODY_LIMIT = 10 * 1024
MAX_REDIRECTS = 10
EAGER_FIRST_S = 0.05
EXTRA_EXEC_S = 1.0


class Kind(StrEnum):
    STARTUP = "Startup"
    LIVENESS = "Liveness"
    READINESS = "Readiness"


@dataclass(frozen=True, slots=True)
class Outcome:
    """One try: whether it went well, and what was seen."""

    good: bool
    message: str = ""


@dataclass(frozen=True, slots=True)
class Tally:
    """Results of one probe so far. `verdict` is None until a threshold has been reached for the first time."""

    success_threshold: int
    failure_threshold: int
    verdict: bool | None = None
    run: int = 0
    last: bool | None = None

    def add(self, good: bool) -> Tally:
        run = self.run + 1 if good == self.last else 1
        threshold = self.success_threshold if good else self.failure_threshold
        return replace(self, verdict=good if run >= threshold else self.verdict, run=run, last=good)


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a probe goes: the container, its ports by name, the pod's address."""

    runtime: Runtime
    container: ContainerId
    ports: Mapping[str, int]
    pod_ip: str
    started_at: float


async def watch(
    kind: Kind,
    probe: objects.Probe,
    target: Target,
    *,
    on_verdict: Callable[[bool, str], None],
    on_failure: Callable[[Outcome], None],
) -> None:
    """Probe for as long as the container runs; a startup probe ends with its first verdict.

    `on_verdict(good, message)` hears each verdict that differs from the last, `on_failure` each failed try. A container
    that is not ready yet is asked more often than its period between the periodic tries, as the documentation allows:
    extra tries that fail count for nothing.
    """
    tally = Tally(probe.success_threshold, probe.failure_threshold)
    await asyncio.sleep(max(0.0, target.started_at + probe.initial_delay_seconds - time.time()))
    eager_s = EAGER_FIRST_S
    while True:
        due = time.monotonic() + probe.period_seconds
        outcome = await try_once(probe, target)
        if not outcome.good:
            on_failure(outcome)
        before, tally = tally.verdict, tally.add(outcome.good)
        if tally.verdict is not None and tally.verdict != before:
            on_verdict(tally.verdict, outcome.message)
            if kind is Kind.STARTUP:
                return
        eager = kind is not Kind.LIVENESS and before is None and not outcome.good and probe.exec is None
        while eager and time.monotonic() + eager_s < due and tally.verdict is not True:
            await asyncio.sleep(eager_s)
            eager_s = min(eager_s * 1.5, probe.period_seconds)
            if (await try_once(probe, target)).good:
                tally = tally.add(True)
                if tally.verdict:
                    on_verdict(True, "")
                    if kind is Kind.STARTUP:
                        return
        await asyncio.sleep(max(0.0, due - time.monotonic()))


async def try_once(probe: objects.Probe, target: Target) -> Outcome:
    """One try within the probe's time limit; whatever goes wrong is a failed try."""
    limit_s = float(probe.timeout_seconds)
    if probe.exec is not None:
        return await run_command(target.runtime, target.container, probe.exec.command, limit_s)
    if probe.http_get is not None:
        return await get_http(probe.http_get, target, limit_s)
    if probe.tcp_socket is not None:
        return await connect_tcp(probe.tcp_socket, target, limit_s)
    if probe.grpc is not None:
        return await check_grpc(probe.grpc, target, limit_s)
    return Outcome(False, "missing probe handler")


async def run_command(runtime: Runtime, container: ContainerId, command: tuple[str, ...], limit_s: float) -> Outcome:
    try:
        async with asyncio.timeout(limit_s):
            code, output = await exec_sync(runtime, container, command)
    except TimeoutError:
        return Outcome(False, f"command timed out: {' '.join(command)!r} timed out after {limit_s:g}s")
    except ContainerError as err:
        return Outcome(False, str(err))
    return Outcome(code == 0, output.decode(errors="replace").rstrip("\n"))


async def get_http(action: objects.HTTPGetAction, target: Target, limit_s: float) -> Outcome:
    """200 to 399 is good; redirects to other hosts are good too and not followed."""
    import aiohttp
    from yarl import URL

    try:
        port = resolve_port(action.port, target.ports)
    except ValueError as err:
        return Outcome(False, str(err))
    host = action.host or target.pod_ip
    scheme = (action.scheme or "HTTP").lower()
    path = action.path if action.path.startswith("/") else f"/{action.path}"
    url = URL(f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}{path}", encoded=True)
    headers = {"User-Agent": USER_AGENT, "Accept": "*/*"} | {h.name: h.value for h in action.http_headers}
    shown = f'Get "{url}"'
    try:
        async with (
            asyncio.timeout(limit_s),
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False, force_close=True)) as session,
        ):
            for _ in range(MAX_REDIRECTS):
                async with session.get(url, headers=headers, allow_redirects=False) as answer:
                    body = (await answer.content.read(BODY_LIMIT)).decode(errors="replace")
                    location = answer.headers.get("Location", "")
                    if not (300 <= answer.status < 400 and location):
                        break
                    following = url.join(URL(location))
                    if following.host != url.host:
                        break
                    url = following
    except TimeoutError:
        return Outcome(False, f"{shown}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)")
    except aiohttp.ClientConnectorError as err:
        reason = (err.os_error.strerror or str(err.os_error)).lower()
        return Outcome(False, f"{shown}: dial tcp {host}:{port}: connect: {reason}")
    except (aiohttp.ClientError, OSError, ValueError) as err:
        return Outcome(False, f"{shown}: {err}")
    good = 200 <= answer.status < 400
    return Outcome(good, body if good else f"HTTP probe failed with statuscode: {answer.status}")


async def connect_tcp(action: objects.TCPSocketAction, target: Target, limit_s: float) -> Outcome:
    host = action.host or target.pod_ip
    try:
        port = resolve_port(action.port, target.ports)
        async with asyncio.timeout(limit_s):
            _, writer = await asyncio.open_connection(host, port)
        writer.close()
    except TimeoutError:
        return Outcome(False, f"dial tcp {host}:{port}: i/o timeout")
    except OSError as err:
        return Outcome(False, f"dial tcp {host}:{port}: connect: {(err.strerror or str(err)).lower()}")
    except ValueError as err:
        return Outcome(False, str(err))
    return Outcome(True)


async def check_grpc(action: objects.GRPCAction, target: Target, limit_s: float) -> Outcome:
    """grpc.health.v1.Health/Check; its messages are one field each, so they are written out by hand."""
    import grpc

    name = action.service.encode()
    request = b"\x0a" + bytes([len(name)]) + name if name else b""
    async with grpc.aio.insecure_channel(f"{target.pod_ip}:{action.port}") as channel:
        check = channel.unary_unary("/grpc.health.v1.Health/Check", bytes, bytes)
        try:
            answer: Any = await check(request, timeout=limit_s)
        except grpc.aio.AioRpcError as err:
            return Outcome(False, f"error: {err.code().name.lower()}: {err.details()}")
    serving = bytes(answer) == b"\x08\x01"
    return Outcome(serving, "" if serving else "service unhealthy (responded with NOT_SERVING)")


def resolve_port(port: int | str, ports: Mapping[str, int]) -> int:
    """A port by number or by the name that a container port has. Raises ValueError."""
    if isinstance(port, int):
        return port
    if port in ports:
        return ports[port]
    if port.isdigit():
        return int(port)
    raise ValueError(f"couldn't find port: {port}")


async def run_hook(handler: objects.LifecycleHandler, target: Target) -> Outcome:
    """A postStart or preStop hook, without a time limit of its own."""
    if handler.exec is not None:
        try:
            code, output = await exec_sync(target.runtime, target.container, handler.exec.command)
        except ContainerError as err:
            return Outcome(False, str(err))
        text = output.decode(errors="replace").rstrip("\n")
        return Outcome(code == 0, f"command '{' '.join(handler.exec.command)}' exited with {code}: {text}")
    if handler.http_get is not None:
        return await get_http(handler.http_get, target, 30.0)
    if handler.sleep is not None:
        await asyncio.sleep(handler.sleep.seconds)
    return Outcome(True)


class Probers:
    """The probes of one pod: started with a container, ended with it."""

    def __init__(self) -> None:
        self._tasks: dict[ContainerId, list[asyncio.Task[None]]] = {}

    def watches(self, container: ContainerId) -> bool:
        return container in self._tasks

    def add(self, container: ContainerId, *tasks: asyncio.Task[None]) -> None:
        self._tasks.setdefault(container, []).extend(tasks)

    def keep_only(self, running: Collection[ContainerId]) -> None:
        """End the probes of containers that no longer run."""
        for container in [c for c in self._tasks if c not in running]:
            for task in self._tasks.pop(container):
                task.cancel()
