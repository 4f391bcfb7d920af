"""Port-forward as kubectl does it: SPDY/3.1 inside a WebSocket, two streams for each connection.

A connection's error stream and data stream have one request ID. Data goes both ways, each with its own end; what went
wrong goes down the error stream.
Sources: KEP-4006 (tunnels), k8s.io/cri-streaming (streams, headers, words).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic

from aiohttp import WSMsgType, web

from kubarium.machinery import spdy
from kubarium.machinery.spdy import Data, Frame, Reset, RstStream, SpdyError, SynReply, SynStream
from kubelet.server.relay import Inbox, Ports, StreamReset, parse_port

log = logging.getLogger(__name__)

PROTOCOL = "SPDY/3.1+portforward.k8s.io"
MESSAGE_LIMIT = (1 << 24) + 1024  # a whole Data frame
PAIR_TIMEOUT_S = 30.0  # how long one stream waits for its sister
IDLE_S = 4 * 3600.0
MAX_STREAMS = 2000


class TunnelStream:
    """A stream that the client has opened. Implements relay.ClientStream."""

    def __init__(self, tunnel: Tunnel, number: int) -> None:
        self._tunnel, self.id = tunnel, number
        self.inbox = Inbox()
        self.read, self.broken = self.inbox.read, self.inbox.broken
        self._ended = self._reset = False

    @property
    def over(self) -> bool:
        return self._reset or (self._ended and self.inbox.ended)

    async def write(self, data: bytes) -> None:
        if self._ended or self._reset:
            raise StreamReset
        await self._tunnel.send(Data(self.id, data))

    async def end(self) -> None:
        if not (self._ended or self._reset):
            self._ended = True
            self._tunnel.forget_if_over(self)
            await self._tunnel.send(Data(self.id, b"", fin=True))

    async def close(self) -> None:
        """Leave nothing of it: what the client still sends is for nobody."""
        await self.end()
        if not self.over:
            self.reset()
            await self._tunnel.send(RstStream(self.id, Reset.CANCEL))

    def reset(self) -> None:
        self._reset = True
        self.inbox.reset()
        self._tunnel.forget_if_over(self)


@dataclass(slots=True)
class Pair:
    """The streams of one connection, as they come."""

    port: int
    streams: dict[str, TunnelStream] = field(default_factory=dict)
    complete: asyncio.Event = field(default_factory=asyncio.Event)

    async def fail(self, text: str) -> None:
        """Tell the client, and have done with it."""
        if (error := self.streams.get("error")) is not None:
            await error.write(text.encode())
        for stream in self.streams.values():
            await stream.close()


class Tunnel:
    """One client."""

    def __init__(self, socket: web.WebSocketResponse, ports: Ports) -> None:
        self._socket, self._ports = socket, ports
        self._encoder, self._decoder = spdy.Encoder(), spdy.Decoder()
        self._streams: dict[int, TunnelStream] = {}
        self._pairs: dict[str, Pair] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._last, self._sent_at = 0, monotonic()

    async def run(self) -> None:
        """Until the client has gone, or nothing has come or gone for IDLE_S."""
        async with asyncio.TaskGroup() as group:
            try:
                await self._receive(group)
            except SpdyError as err:
                log.info("kubelet: port-forward: %s", err)
                await self.send(spdy.GoAway(self._last, 1))
            except ConnectionError as err:
                log.debug("kubelet: port-forward: client has gone: %s", err)
            finally:
                for stream in tuple(self._streams.values()):
                    stream.reset()
                for task in tuple(self._connections):
                    task.cancel()

    async def send(self, frame: Frame) -> None:
        """Waits while the client takes nothing. Raises ConnectionError where it has gone."""
        self._sent_at = monotonic()
        # Encoded and queued without a pause: header blocks must go out in the order in which they were packed.
        await self._socket.send_bytes(self._encoder.encode(frame))

    def forget_if_over(self, stream: TunnelStream) -> None:
        if stream.over:
            self._streams.pop(stream.id, None)

    # -- what comes in -------------------------------------------------------------------------------------------------

    async def _receive(self, group: asyncio.TaskGroup) -> None:
        while True:
            try:
                message = await self._socket.receive(timeout=IDLE_S)
            except TimeoutError:
                if monotonic() - self._sent_at >= IDLE_S:
                    return
                continue
            if message.type is WSMsgType.TEXT:
                raise SpdyError("a WebSocket message of text, expected bytes")
            if message.type is not WSMsgType.BINARY:
                return
            for frame in self._decoder.feed(message.data):
                if isinstance(frame, spdy.GoAway):
                    return
                await self._take(group, frame)

    async def _take(self, group: asyncio.TaskGroup, frame: Frame) -> None:
        match frame:
            case SynStream():
                await self._open(group, frame)
            case Data(number, data, fin):
                await self._put(number, data, fin=fin)
            case RstStream(number):
                if (stream := self._streams.get(number)) is not None:
                    stream.reset()
            case spdy.Ping(number) if number % 2:
                await self.send(frame)
            case _:
                pass  # settings, windows and more headers: nothing here depends on them

    async def _put(self, number: int, data: bytes, *, fin: bool) -> None:
        stream = self._streams.get(number)
        if stream is None:
            if number > self._last or not number % 2:
                await self.send(RstStream(number, Reset.INVALID_STREAM))
            return  # else it has been closed here before the client knew
        try:
            await stream.inbox.put(data)
        except TimeoutError:
            log.info("kubelet: port-forward: the pod does not read, connection broken off")
            stream.reset()
            await self.send(RstStream(number, Reset.CANCEL))
        if fin:
            stream.inbox.end()
            self.forget_if_over(stream)

    async def _open(self, group: asyncio.TaskGroup, frame: SynStream) -> None:
        if frame.stream % 2 == 0 or frame.stream <= self._last:
            await self.send(RstStream(frame.stream, Reset.PROTOCOL_ERROR))
            return
        self._last = frame.stream
        try:
            port, kind = parse_stream(frame.headers)
        except ValueError as err:
            log.info("kubelet: port-forward: stream rejected: %s", err)
            await self.send(RstStream(frame.stream, Reset.CANCEL))
            return
        if len(self._streams) >= MAX_STREAMS:
            await self.send(RstStream(frame.stream, Reset.REFUSED_STREAM))
            return
        stream = self._streams[frame.stream] = TunnelStream(self, frame.stream)
        if frame.fin:
            stream.inbox.end()
        await self.send(SynReply(frame.stream))
        request = request_id(frame, kind)
        pair = self._pairs.get(request)
        if pair is None:
            pair = self._pairs[request] = Pair(port)
            connection = group.create_task(self._serve(request, pair), name=f"portforward/{port}")
            self._connections.add(connection)
            connection.add_done_callback(self._connections.discard)
        if kind in pair.streams:
            await stream.close()
            await pair.fail(f"error processing stream for request {request}: {kind} stream already assigned")
            return
        pair.streams[kind] = stream
        if len(pair.streams) == 2:
            pair.port = port
            pair.complete.set()

    # -- one connection ------------------------------------------------------------------------------------------------

    async def _serve(self, request: str, pair: Pair) -> None:
        with suppress(ConnectionError):  # the client has gone
            try:
                async with asyncio.timeout(PAIR_TIMEOUT_S):
                    await pair.complete.wait()
            except TimeoutError:
                await pair.fail(f"(request={request}) timed out waiting for streams")
                return
            finally:
                del self._pairs[request]
            text = await self._ports.forward(pair.port, pair.streams["data"], half_close=True)
            if text:
                log.info("kubelet: port-forward: %s", text)
                await pair.fail(text)
                return
            for stream in pair.streams.values():
                await stream.close()


def parse_stream(headers: Mapping[str, str]) -> tuple[int, str]:
    """The port, and `error` or `data`. Raises ValueError."""
    if not (text := headers.get("port", "")):
        raise ValueError('"port" header is required')
    port = parse_port(text)
    if not (kind := headers.get("streamtype", "")):
        raise ValueError('"streamType" header is required')
    if kind not in ("error", "data"):
        raise ValueError(f'invalid stream type "{kind}"')
    return port, kind


def request_id(frame: SynStream, kind: str) -> str:
    """Clients that give none open the error stream and then, as the next one, the data stream."""
    return frame.headers.get("requestid", "") or str(frame.stream - (2 if kind == "data" else 0))
