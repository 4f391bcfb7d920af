"""The sockets: datagrams in bursts straight from the socket, connections by asyncio streams, forwarding upstream."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from kubarium.clusterdns.answers import Responder
from kubarium.machinery.errors import ConfigError

log = logging.getLogger(__name__)

BURST = 64
BUFFER = 4096
TCP_IDLE_S = 10.0
UPSTREAM_S = 2.0
FORWARDED_AT_ONCE = 512

Address = tuple[str, int]


def udp_socket(address: Address) -> socket.socket:
    """Bound, non-blocking. Raises ConfigError where the address cannot be had."""
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        sock.setblocking(False)
        sock.bind(address)
    except OSError as err:
        sock.close()
        raise ConfigError(f"--listen {address[0]}:{address[1]} (UDP): {err.strerror}") from err
    return sock


class UdpServer:
    """Serves one UDP socket on the running loop."""

    def __init__(self, sock: socket.socket, responder: Responder, forwarder: Forwarder | None) -> None:
        self._sock = sock
        self._responder = responder
        self._forwarder = forwarder

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(self._sock.fileno(), self._readable)
        try:
            await asyncio.Event().wait()
        finally:
            loop.remove_reader(self._sock.fileno())
            self._sock.close()

    def _readable(self) -> None:
        receive, send, respond = self._sock.recvfrom, self._sock.sendto, self._responder.udp
        for _ in range(BURST):
            try:
                packet, client = receive(BUFFER)
            except (BlockingIOError, InterruptedError):
                return
            except OSError as err:  # an ICMP error of an earlier answer
                log.debug("udp: %s", err)
                continue
            response = respond(packet)
            if response is None:
                self._forward(packet, client)
            elif response:
                try:
                    send(response, client)
                except OSError as err:
                    log.debug("udp: answer to %s not sent: %s", client, err)

    def _forward(self, packet: bytes, client: Address) -> None:
        if self._forwarder is not None:
            self._forwarder.udp(packet, lambda response: self._sock.sendto(response, client))


async def serve_tcp(address: Address, responder: Responder, forwarder: Forwarder | None) -> None:
    """Serve connections until cancelled. Raises ConfigError where the address cannot be had."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await _converse(reader, writer, responder, forwarder)
        except (asyncio.IncompleteReadError, TimeoutError, OSError):
            pass  # the client is done, or idle for too long
        finally:
            writer.close()

    try:
        server = await asyncio.start_server(connected, *address, reuse_address=True)
    except OSError as err:
        raise ConfigError(f"--listen {address[0]}:{address[1]} (TCP): {err.strerror}") from err
    async with server:
        await server.serve_forever()


async def _converse(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, responder: Responder, forwarder: Forwarder | None
) -> None:
    while True:
        async with asyncio.timeout(TCP_IDLE_S):
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            packet = await reader.readexactly(length)
        response = responder.tcp(packet)
        if response is None:
            response = await forwarder.tcp(packet) if forwarder is not None else b""
        if not response:
            return
        writer.write(struct.pack("!H", len(response)) + response)
        await writer.drain()


class Forwarder:
    """Asks upstream servers about names that are not the cluster's, one after another until one answers."""

    def __init__(self, servers: Sequence[Address], responder: Responder) -> None:
        self._servers = tuple(servers)
        self._responder = responder
        self._waiting: set[asyncio.Task[None]] = set()

    def udp(self, packet: bytes, reply: Sender) -> None:
        """Answer later through `reply`; beyond what can be under way at once, questions are dropped."""
        if len(self._waiting) < FORWARDED_AT_ONCE:
            task = asyncio.get_running_loop().create_task(self._udp(packet, reply), name="forward")
            self._waiting.add(task)
            task.add_done_callback(self._waiting.discard)

    async def _udp(self, packet: bytes, reply: Sender) -> None:
        for server in self._servers:
            try:
                reply(await ask_udp(server, packet))
            except (TimeoutError, OSError) as err:
                log.debug("upstream %s: %r", server, err)
            else:
                return
        reply(self._responder.failed(packet))

    async def tcp(self, packet: bytes) -> bytes:
        for server in self._servers:
            try:
                return await ask_tcp(server, packet)
            except (TimeoutError, OSError, asyncio.IncompleteReadError) as err:
                log.debug("upstream %s over TCP: %r", server, err)
        return self._responder.failed(packet)


class Sender(Protocol):
    """Called with the response."""

    def __call__(self, response: bytes, /) -> object: ...


async def ask_udp(server: Address, packet: bytes) -> bytes:
    """From a port of its own, so that an answer cannot be guessed from outside. Raises TimeoutError or OSError."""
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET6 if ":" in server[0] else socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(server)
        async with asyncio.timeout(UPSTREAM_S):
            await loop.sock_sendall(sock, packet)
            while True:
                response = await loop.sock_recv(sock, 65535)
                if response[:2] == packet[:2]:
                    return response


async def ask_tcp(server: Address, packet: bytes) -> bytes:
    async with asyncio.timeout(UPSTREAM_S):
        reader, writer = await asyncio.open_connection(*server)
        try:
            writer.write(struct.pack("!H", len(packet)) + packet)
            (length,) = struct.unpack("!H", await reader.readexactly(2))
            return await reader.readexactly(length)
        finally:
            writer.close()


def upstream_servers(resolv_conf: Path = Path("/etc/resolv.conf")) -> list[Address]:
    """The name servers of this machine. Raises ConfigError where there are none."""
    try:
        lines = resolv_conf.read_text().splitlines()
    except OSError as err:
        raise ConfigError(f"--forward: {resolv_conf}: {err.strerror}") from err
    words = [line.split() for line in lines]
    servers = [(each[1], 53) for each in words if len(each) > 1 and each[0] == "nameserver"]
    if not servers:
        raise ConfigError(f"--forward: {resolv_conf} names no nameserver")
    return servers
