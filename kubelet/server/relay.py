"""A connection to a port of a pod: made inside the pod's network namespace, joined with one stream of a client.

Source: Kubernetes documentation, "Use Port Forwarding to Access Applications in a Cluster".
"""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from kubarium.machinery.errors import ContainerError, NetworkError
from kubarium.machinery.netns import socket_in_netns
from kubelet.pods import Pods
from kubelet.runtimes.base import PodUid, State

log = logging.getLogger(__name__)

CONNECT_TIMEOUT_S = 30.0
STALL_S = 60.0  # how long a pod may read nothing while its client's data waits
INBOX_LIMIT = 256 * 1024
PIECE = 64 * 1024
LOOPBACK = ((socket.AF_INET, "127.0.0.1", "tcp4 127.0.0.1"), (socket.AF_INET6, "::1", "tcp6 [::1]"))


def parse_port(text: str) -> int:
    """Raises ValueError in upstream's words."""
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f'unable to parse "{text}" as a port: strconv.ParseUint: parsing "{text}": invalid syntax')
    if (port := int(text[:9])) > 65535:
        raise ValueError(f'unable to parse "{text}" as a port: strconv.ParseUint: parsing "{text}": value out of range')
    if port < 1:
        raise ValueError(f'port "{text}" must be > 0')
    return port


class StreamReset(ConnectionError):
    """The client has broken the stream off."""


class ClientStream(Protocol):
    """One stream of a client, as a connection's other end."""

    async def read(self) -> bytes:
        """The next piece, b"" at the end. Raises StreamReset."""
        ...

    async def broken(self) -> None:
        """Return when the client has broken it off."""
        ...

    async def write(self, data: bytes) -> None:
        """Raises ConnectionError where the client has gone."""
        ...

    async def end(self) -> None:
        """No more will be written (idempotent)."""
        ...


class Inbox:
    """A client's data on its way to one reader. Who puts it in waits while there is more than INBOX_LIMIT."""

    def __init__(self) -> None:
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._news, self._room, self._broken = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @property
    def ended(self) -> bool:
        """Nothing more will be put in."""
        return self._ended or self._broken.is_set()

    async def put(self, data: bytes) -> None:
        """Raises TimeoutError when the reader has taken nothing for STALL_S."""
        if self.ended or not data:
            return
        self._pieces.append(data)
        self._size += len(data)
        self._news.set()
        while self._size > INBOX_LIMIT and not self._broken.is_set():
            self._room.clear()
            async with asyncio.timeout(STALL_S):
                await self._room.wait()

    def end(self) -> None:
        self._ended = True
        self._news.set()

    def reset(self) -> None:
        """What has not been read is dropped."""
        self._broken.set()
        self._pieces.clear()
        self._size = 0
        self._news.set()
        self._room.set()

    async def broken(self) -> None:
        """Return when it has been reset."""
        await self._broken.wait()

    async def read(self) -> bytes:
        """The next piece, b"" at the end. Raises StreamReset."""
        while not self._pieces:
            if self._broken.is_set():
                raise StreamReset
            if self._ended:
                return b""
            self._news.clear()
            await self._news.wait()
        data = self._pieces.popleft()
        self._size -= len(data)
        self._room.set()
        return data


Place = Callable[[], AbstractAsyncContextManager[tuple[str, str]]]


class Ports:
    """The ports of one pod. `place` gives the path of its network namespace ("": our own) and its sandbox."""

    def __init__(self, pod: str, place: Place) -> None:
        self._pod, self._place = pod, place

    async def forward(self, port: int, stream: ClientStream, *, half_close: bool) -> str:
        """Connect and pass on both ways until both have ended: "", or what the client is told went wrong.

        Without `half_close` a client cannot say that it has sent all: then the pod's end is the end.
        """
        shown = self._pod
        try:
            async with self._place() as (netns, shown):
                connected = await _dial(port, netns, shown)
        except (ContainerError, NetworkError, OSError) as err:
            return f"error forwarding port {port} to pod {shown}, uid : {err}"
        await _relay(connected, stream, half_close=half_close)
        return ""


def pod_ports(pods: Pods, namespace: str, name: str, uid: PodUid) -> Ports:
    """Of a pod of this node, as long as it is the one of this UID."""

    @asynccontextmanager
    async def place() -> AsyncIterator[tuple[str, str]]:
        found = pods.find(namespace, name)
        if found is None or found[0].metadata.uid != uid:
            raise ContainerError(f'pod not found ("{name}_{namespace}")')
        _, runtime, record = found
        sandbox = record.sandbox if record is not None else None
        if sandbox is None or sandbox.state is not State.RUNNING:
            raise ContainerError("sandbox container is not running")
        if sandbox.host_network:
            yield "", sandbox.id
        else:
            async with runtime.netns(sandbox.id) as netns:
                yield netns, sandbox.id

    return Ports(name, place)


async def _dial(port: int, netns: str, sandbox: str) -> socket.socket:
    """Raises ContainerError in containerd's words."""
    refusals = []
    for family, address, shown in LOOPBACK:
        sock = await asyncio.to_thread(_socket, netns, family)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().sock_connect(sock, (address, port))
        except TimeoutError:
            sock.close()
            refusals.append(f"dial {shown}:{port}: i/o timeout")
        except OSError as err:
            sock.close()
            refusals.append(f"dial {shown}:{port}: connect: {os.strerror(err.errno or 0).lower()}")
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise ContainerError(
        f'failed to execute portforward in network namespace "{netns or "host"}": failed to connect to '
        f'localhost:{port} inside namespace "{sandbox}", IPv4: {refusals[0]} IPv6 {refusals[1]} '
    )


def _socket(netns: str, family: int) -> socket.socket:
    return socket_in_netns(netns, family) if netns else socket.socket(family, socket.SOCK_STREAM)


async def _relay(connected: socket.socket, stream: ClientStream, *, half_close: bool) -> None:
    """Both ways; a connection that the pod or the client breaks off ends quietly."""
    reader, writer = await asyncio.open_connection(sock=connected, limit=PIECE)

    async def up() -> None:
        while data := await stream.read():
            _check_open(writer)
            writer.write(data)
            await writer.drain()
        _check_open(writer)
        writer.write_eof()

    async def down() -> None:
        while data := await reader.read(PIECE):
            await stream.write(data)
        await stream.end()

    async def broken() -> None:
        await stream.broken()
        raise StreamReset

    try:
        rising = asyncio.create_task(up(), name="portforward/up")
        falling = asyncio.create_task(down(), name="portforward/down")
        breaking = asyncio.create_task(broken(), name="portforward/broken")
        await _joined(rising, falling, breaking, half_close=half_close)
        writer.close()
        async with asyncio.timeout(STALL_S):  # for what the pod has not read yet
            await writer.wait_closed()
    except OSError as err:  # a TimeoutError too
        log.debug("kubelet: port-forward: connection broken off: %r", err)
    finally:
        writer.transport.abort()


def _check_open(writer: asyncio.StreamWriter) -> None:
    """Raises ConnectionResetError where the pod has broken off; uvloop would make a RuntimeError of it."""
    if writer.is_closing():
        raise ConnectionResetError("the pod has broken the connection off")


async def _joined(
    rising: asyncio.Task[None], falling: asyncio.Task[None], breaking: asyncio.Task[None], *, half_close: bool
) -> None:
    """Until both directions have ended. Raises what the first task to fail raises; leaves none running."""
    tasks = (rising, falling, breaking)
    try:
        while not (rising.done() and falling.done()):
            done, _ = await asyncio.wait([t for t in tasks if not t.done()], return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            if falling in done and not half_close:
                return
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.exception()  # looked at: the first one has been raised
