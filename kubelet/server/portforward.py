"""Port-forward: kubectl's tunnel, or a WebSocket with two channels for each port of the query.

Channel 2i carries the data of the i-th port, 2i+1 what went wrong with it; each begins with its port in two bytes,
little end first. A client closes all at once or nothing.
Source: k8s.io/cri-streaming, k8s.io/streaming (channel protocols).
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import logging
from collections.abc import Sequence
from contextlib import suppress

from aiohttp import WSMsgType, web

from kubarium.machinery.errors import BadRequest
from kubelet.server import tunnel
from kubelet.server.relay import Inbox, Ports, parse_port

log = logging.getLogger(__name__)

BINARY, BASE64 = "v4.channel.k8s.io", "v4.base64.channel.k8s.io"
PROTOCOLS = (tunnel.PROTOCOL, BINARY, BASE64)
MAX_PORTS = 100


async def serve_ports(request: web.Request, ports: Ports) -> web.StreamResponse:
    """Raises BadRequest before the upgrade."""
    offered = [p.strip() for p in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
    tunnelled = next((p for p in offered if p in PROTOCOLS), "") == tunnel.PROTOCOL
    numbers = () if tunnelled else parse_ports(request.query.getall("port", ()))
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=tunnel.MESSAGE_LIMIT, compress=False)
    try:
        await socket.prepare(request)
        if tunnelled:
            await tunnel.Tunnel(socket, ports).run()
        else:
            await Channels(socket, ports, numbers).run()
        await socket.close()
    except ConnectionError as err:
        log.debug("kubelet: port-forward: client has gone: %s", err)
    return socket


def parse_ports(texts: Sequence[str]) -> tuple[int, ...]:
    """Raises BadRequest."""
    if not texts:
        raise BadRequest('query parameter "port" is required')
    if not all(texts):
        raise BadRequest('query parameter "port" cannot be empty')
    try:
        ports = tuple(parse_port(part) for text in texts for part in text.split(","))
    except ValueError as err:
        raise BadRequest(str(err)) from err
    if len(ports) > MAX_PORTS:
        raise BadRequest(f"{len(ports)} ports, at most {MAX_PORTS} can be forwarded at a time")
    return ports


class Channel:
    """The data of one port. Implements relay.ClientStream."""

    def __init__(self, channels: Channels, number: int) -> None:
        self._channels, self._number = channels, number
        self.inbox = Inbox()
        self.read, self.broken = self.inbox.read, self.inbox.broken

    async def write(self, data: bytes) -> None:
        await self._channels.send(self._number, data)

    async def end(self) -> None:
        """There is no frame for it: the WebSocket closes once all ports have ended."""


class Channels:
    """One client and its ports."""

    def __init__(self, socket: web.WebSocketResponse, ports: Ports, numbers: Sequence[int]) -> None:
        self._socket, self._ports, self._numbers = socket, ports, numbers
        self._base64 = socket.ws_protocol == BASE64
        self._channels = [Channel(self, 2 * i) for i in range(len(numbers))]

    async def run(self) -> None:
        """Until the client has gone, or the last connection has ended."""
        for i, port in enumerate(self._numbers):
            for channel in (2 * i, 2 * i + 1):
                await self.send(channel, port.to_bytes(2, "little"))
        receiving = asyncio.create_task(self._receive(), name="portforward/receive")
        forwarding = asyncio.create_task(self._forward_all(), name="portforward/forward")
        try:
            await asyncio.wait({receiving, forwarding}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            receiving.cancel()
            forwarding.cancel()
            await asyncio.wait({receiving, forwarding})
        for task in (receiving, forwarding):
            if not task.cancelled():
                task.result()

    async def send(self, channel: int, data: bytes) -> None:
        """Raises ConnectionError where the client has gone."""
        if self._base64:
            await self._socket.send_str(chr(ord("0") + channel) + base64.b64encode(data).decode())
        else:
            await self._socket.send_bytes(bytes([channel]) + data)

    async def _forward_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            for i, port in enumerate(self._numbers):
                group.create_task(self._forward(i, port), name=f"portforward/{port}")

    async def _forward(self, index: int, port: int) -> None:
        with suppress(ConnectionError):
            channel = self._channels[index]
            text = await self._ports.forward(port, channel, half_close=False)
            channel.inbox.reset()
            if text:
                log.info("kubelet: port-forward: %s", text)
                await self.send(2 * index + 1, text.encode())

    async def _receive(self) -> None:
        async for message in self._socket:
            channel, data = self._opened(message.type, message.data)
            if data and channel % 2 == 0 and 0 <= channel // 2 < len(self._channels):
                inbox = self._channels[channel // 2].inbox
                try:
                    await inbox.put(data)
                except TimeoutError:
                    log.info("kubelet: port-forward: the pod does not read, connection broken off")
                    inbox.reset()

    def _opened(self, kind: WSMsgType, data: bytes | str) -> tuple[int, bytes]:
        """A message's channel and data; nothing where it is none of the protocol's."""
        if not data:
            return 0, b""
        if kind is WSMsgType.TEXT and isinstance(data, str):
            with suppress(binascii.Error, ValueError):
                return ord(data[0]) - ord("0"), base64.b64decode(data[1:], validate=True)
        if kind is WSMsgType.BINARY and isinstance(data, bytes):
            return data[0], data[1:]
        return 0, b""
