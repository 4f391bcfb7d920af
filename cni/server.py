"""The agent's two sockets: JSON for CNI, gRPC for whoever wants addresses alone."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

from cni.agent import Agent
from cni.ipam import Allocation, Owner, PodRef
from cni.protocol import CniError, Code, parse_request
from kubarium.machinery.errors import PoolExhausted
from kubarium.machinery.pb import ipam_pb2, ipam_pb2_grpc
from kubarium.machinery.unixsocket import make_way, root_only, serving_grpc

log = logging.getLogger("cni")

LINE_BYTES = 1 << 20
REQUEST_TIMEOUT_S = 10.0  # from connection to the whole request


class Metrics:
    """Calls by command and code (0: fine), their time, and the addresses in use."""

    def __init__(self, agent: Agent, registry: CollectorRegistry = REGISTRY) -> None:
        self.calls = Counter("kubarium_cni_calls", "CNI calls answered", ["command", "code"], registry=registry)
        self.seconds = Histogram("kubarium_cni_call_seconds", "Time of a CNI call", ["command"], registry=registry)
        used = Gauge("kubarium_ipam_addresses_used", "Addresses held on this node", registry=registry)
        used.set_function(lambda: sum(pool.taken for pool in agent.addresses.pools))
        capacity = Gauge("kubarium_ipam_addresses_capacity", "Addresses that this node can give", registry=registry)
        capacity.set_function(lambda: sum(pool.capacity for pool in agent.addresses.pools))


class CniServer:
    """One request a connection. A client that goes away does not stop what it asked for."""

    def __init__(self, agent: Agent, metrics: Metrics) -> None:
        self._agent = agent
        self._metrics = metrics

    @asynccontextmanager
    async def listening(self, path: Path) -> AsyncIterator[None]:
        make_way(path)
        server = await asyncio.start_unix_server(self._connection, str(path), limit=LINE_BYTES)
        root_only(path)
        async with server:
            yield

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                line = await reader.readline()
            answer = await self._answer(line)
            writer.write(json.dumps(answer, separators=(",", ":")).encode() + b"\n")
            await writer.drain()
        except (OSError, TimeoutError, ValueError) as err:  # the client's trouble: it went, or sent a line without end
            log.warning("cni: connection dropped: %s", err or type(err).__name__)
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        started = time.monotonic()
        command, code = "unknown", 0
        try:
            request = parse_request(_decoded(line))
            command = request.command.value
            return await self._agent.handle(request)
        except CniError as err:
            code = int(err.code)
            level = logging.DEBUG if err.code is Code.NOT_AVAILABLE else logging.WARNING
            log.log(level, "cni: %s refused: code %d: %s", command, code, err)
            return err.to_json()
        except Exception as err:
            code = int(Code.IO_FAILURE)
            log.exception("cni: %s failed", command)
            return CniError(Code.IO_FAILURE, f"internal error: {err}").to_json()
        finally:
            self._metrics.calls.labels(command, code).inc()
            self._metrics.seconds.labels(command).observe(time.monotonic() - started)


class IpamService(ipam_pb2_grpc.IpamServicer):
    """protos/kubarium/v1/ipam.proto."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def Allocate(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's spelling
        owner = Owner(request.owner, request.interface or "eth0")
        if not request.owner:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "owner: must be given")
        pod = PodRef(request.pod_namespace, request.pod_name, request.pod_uid)
        try:
            return _message(await self._agent.allocate(owner, pod))
        except PoolExhausted as err:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(err))
        except CniError as err:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(err))

    async def Release(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's spelling
        await self._agent.release(Owner(request.owner, request.interface or "eth0"))
        return ipam_pb2.ReleaseReply()

    async def List(self, request: Any, context: Any) -> Any:  # noqa: N802 - gRPC's spelling
        addresses = self._agent.addresses
        return ipam_pb2.ListAllocationsReply(
            pod_cidrs=[str(pool.cidr) for pool in addresses.pools],
            allocations=[_message(a) for a in addresses.allocations.values()],
        )


def ipam_listening(agent: Agent, path: Path) -> AbstractAsyncContextManager[None]:
    """Serve gRPC IPAM on a Unix socket."""
    return serving_grpc(path, lambda server: ipam_pb2_grpc.add_IpamServicer_to_server(IpamService(agent), server))


def _decoded(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError as err:
        raise CniError(Code.DECODING_FAILURE, f"request: not JSON: {err}") from err


def _message(allocation: Allocation) -> Any:
    return ipam_pb2.Allocation(
        owner=allocation.owner.container_id,
        interface=allocation.owner.interface,
        addresses=[str(a) for a in allocation.addresses],
        pod_uid=allocation.pod.uid,
        pod_namespace=allocation.pod.namespace,
        pod_name=allocation.pod.name,
    )
