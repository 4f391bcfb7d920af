"""Port-forward at the kubelet's end: a client over a real WebSocket, a real server on loopback, nothing between."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from kubarium.machinery import netns, spdy
from kubarium.machinery.errors import ApiError, ContainerError
from kubarium.machinery.spdy import Data, Frame, GoAway, Ping, Reset, RstStream, SynReply, SynStream
from kubelet.runtimes.host import _loopback_up
from kubelet.server import relay, tunnel
from kubelet.server.portforward import PROTOCOLS, parse_ports, serve_ports
from kubelet.server.relay import Ports
from tests.kubelet.conftest import eventually

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.write(b"<end>")
    writer.close()


class Pod:
    """What listens, and what the kubelet still has open for clients."""

    def __init__(self) -> None:
        self.place, self.sandbox = "", "sandbox-1"
        self.handlers: set[asyncio.Task[object]] = set()
        self.url = ""
        self._servers: list[asyncio.Server] = []

    async def listen(self, serve: Serve) -> int:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def handle(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self.handlers.add(task)
        try:
            return await serve_ports(request, Ports("pod", self._place))
        except ApiError as err:
            return web.Response(status=err.status_code, text=err.message)
        finally:
            self.handlers.discard(task)

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[tuple[str, str]]:
        if not self.sandbox:
            raise ContainerError("sandbox container is not running")
        yield self.place, self.sandbox

    async def close(self) -> None:
        for server in self._servers:
            server.close()


@pytest.fixture
async def pod() -> AsyncIterator[Pod]:
    made = Pod()
    app = web.Application()
    app.router.add_get("/", made.handle)
    before = asyncio.all_tasks()
    async with TestServer(app, handler_cancellation=True) as server:
        made.url = str(server.make_url("/"))
        yield made
        await eventually(lambda: not made.handlers, what="a client has gone, its handler has not")
        await made.close()
        left = [t for t in asyncio.all_tasks() - before if t.get_name().startswith("portforward")]
        assert not left, left


class Client:
    """kubectl's end of a tunnel. What comes is kept by stream: data, whether it has ended, resets."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.encoder, self.decoder = spdy.Encoder(), spdy.Decoder()
        self.frames: list[Frame] = []
        self.data: dict[int, bytes] = {}
        self.ended: set[int] = set()
        self.next = 1

    async def send(self, *frames: Frame) -> None:
        await self.socket.send_bytes(b"".join(self.encoder.encode(frame) for frame in frames))

    async def open(self, port: int | str, kind: str, request: str = "", *, fin: bool = False) -> int:
        stream, self.next = self.next, self.next + 2
        headers = {"port": str(port), "streamtype": kind} | ({"requestid": request} if request else {})
        await self.send(SynStream(stream, headers, fin))
        return stream

    async def connect(self, port: int) -> tuple[int, int]:
        """The error stream and the data stream of a new connection."""
        request = str(self.next)
        return await self.open(port, "error", request, fin=True), await self.open(port, "data", request)

    async def until(self, check: Callable[[], object]) -> None:
        async with asyncio.timeout(20):
            while not check():
                message = await self.socket.receive()
                assert message.type is WSMsgType.BINARY, (message, self.frames)
                for frame in self.decoder.feed(message.data):
                    if isinstance(frame, Data):
                        self.data[frame.stream] = self.data.get(frame.stream, b"") + frame.data
                        self.ended |= {frame.stream} if frame.fin else set()
                    else:
                        self.frames.append(frame)

    def reset(self, stream: int) -> bool:
        return any(isinstance(frame, RstStream) and frame.stream == stream for frame in self.frames)


@asynccontextmanager
async def opened(
    pod: Pod, *protocols: str, query: str = "", limit: int = 0
) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(pod.url + query, protocols=protocols, max_msg_size=limit) as socket,
    ):
        yield socket


@pytest.fixture
async def client(pod: Pod) -> AsyncIterator[Client]:
    async with opened(pod, tunnel.PROTOCOL) as socket:
        yield Client(socket)


# -- tunnels -----------------------------------------------------------------------------------------------------------


async def test_both_streams_are_answered_and_each_direction_has_its_end(pod: Pod, client: Client) -> None:
    error, data = await client.connect(await pod.listen(echo))
    await client.send(Data(data, b"hello"))
    await client.until(lambda: client.data.get(data) == b"hello")
    await client.send(Data(data, b" again", fin=True))
    await client.until(lambda: {error, data} <= client.ended)
    assert client.data[data] == b"hello again<end>"
    assert not client.data.get(error)
    assert client.frames == [SynReply(error), SynReply(data)]


async def test_a_server_that_speaks_first_and_closes_ends_the_connection(pod: Pod, client: Client) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready")
        writer.close()

    error, data = await client.connect(await pod.listen(greet))
    await client.until(lambda: data in client.ended)
    assert error not in client.ended  # the client may still send
    await client.send(RstStream(data, Reset.CANCEL))
    await client.until(lambda: error in client.ended)
    assert client.data[data] == b"220 ready"


async def test_many_connections_at_once_keep_their_data_apart(pod: Pod, client: Client) -> None:
    port = await pod.listen(echo)
    sent = {}
    for _ in range(50):
        _, data = await client.connect(port)
        sent[data] = os.urandom(40_000)
    for part in range(0, 40_000, 10_000):
        await client.send(*(Data(stream, piece[part : part + 10_000]) for stream, piece in sent.items()))
    await client.send(*(Data(stream, b"", fin=True) for stream in sent))
    await client.until(lambda: set(sent) <= client.ended)
    assert {stream: client.data[stream] for stream in sent} == {s: d + b"<end>" for s, d in sent.items()}


async def test_a_refused_connection_is_told_in_the_words_of_upstream(pod: Pod, client: Client) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    error, data = await client.connect(port)
    await client.until(lambda: error in client.ended and client.reset(data))
    text = client.data[error].decode()
    assert text.startswith(f"error forwarding port {port} to pod sandbox-1, uid : failed to execute portforward in ")
    assert f"IPv4: dial tcp4 127.0.0.1:{port}: connect: connection refused" in text
    again, _ = await client.connect(port)  # and the tunnel goes on
    await client.until(lambda: again in client.ended)


async def test_a_pod_without_a_sandbox(pod: Pod, client: Client) -> None:
    pod.sandbox = ""
    error, _ = await client.connect(80)
    await client.until(lambda: error in client.ended)
    assert client.data[error] == b"error forwarding port 80 to pod pod, uid : sandbox container is not running"


async def test_a_connection_that_the_pod_breaks_off_takes_no_other_along(pod: Pod, client: Client) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        sock = writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    error, data = await client.connect(await pod.listen(break_off))
    _, other = await client.connect(await pod.listen(echo))
    for _ in range(100):
        await client.send(Data(data, b"x"))
    await client.until(lambda: error in client.ended and client.reset(data))
    await client.send(Data(data, b"late"), Data(other, b"still there", fin=True))
    await client.until(lambda: other in client.ended)
    assert client.data[other] == b"still there<end>"


async def test_pods_that_break_off_while_data_comes_take_no_other_along(pod: Pod, client: Client) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(random.randrange(1, 200))
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        writer.transport.abort()

    port = await pod.listen(break_off)
    pairs = [await client.connect(port) for _ in range(60)]
    _, other = await client.connect(await pod.listen(echo))
    for _ in range(300):
        await client.send(*(Data(data, b"x") for _, data in pairs))
    await client.until(lambda: client.ended >= {error for error, _ in pairs})
    await client.send(Data(other, b"still there", fin=True))
    await client.until(lambda: other in client.ended)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"streamtype": "data"}, Reset.CANCEL, id="no port"),
        pytest.param({"port": "0", "streamtype": "data"}, Reset.CANCEL, id="port 0"),
        pytest.param({"port": "65536", "streamtype": "data"}, Reset.CANCEL, id="port too high"),
        pytest.param({"port": "http", "streamtype": "data"}, Reset.CANCEL, id="no number"),
        pytest.param({"port": "80"}, Reset.CANCEL, id="no type"),
        pytest.param({"port": "80", "streamtype": "stdin"}, Reset.CANCEL, id="another type"),
    ],
)
async def test_a_stream_that_is_none_of_ours_is_reset(client: Client, headers: dict[str, str], status: Reset) -> None:
    await client.send(SynStream(1, headers))
    await client.until(lambda: client.frames)
    assert client.frames == [RstStream(1, status)]


async def test_numbers_of_streams_are_odd_and_grow(client: Client) -> None:
    headers = {"port": "80", "streamtype": "error", "requestid": "1"}
    await client.send(SynStream(2, headers), SynStream(5, headers), SynStream(3, headers), Data(9, b"x"))
    await client.until(lambda: len(client.frames) == 4)
    assert client.frames == [
        RstStream(2, Reset.PROTOCOL_ERROR), SynReply(5), RstStream(3, Reset.PROTOCOL_ERROR),
        RstStream(9, Reset.INVALID_STREAM),
    ]  # fmt: skip


async def test_clients_without_request_ids_are_paired_by_the_order_of_their_streams(pod: Pod, client: Client) -> None:
    port = await pod.listen(echo)
    streams = [await client.open(port, kind) for kind in ("error", "data", "error", "data")]
    await client.send(Data(streams[1], b"one", fin=True), Data(streams[3], b"two", fin=True))
    await client.until(lambda: set(streams) <= client.ended)
    assert (client.data[streams[1]], client.data[streams[3]]) == (b"one<end>", b"two<end>")


async def test_a_stream_without_its_sister_is_told_so(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "PAIR_TIMEOUT_S", 0.05)
    error = await client.open(80, "error", "7")
    await client.until(lambda: error in client.ended)
    assert client.data[error] == b"(request=7) timed out waiting for streams"


async def test_a_second_data_stream_of_one_connection_is_refused(client: Client) -> None:
    first, second = await client.open(80, "data", "7"), await client.open(80, "data", "7")
    await client.until(lambda: client.reset(first) and client.reset(second))


async def test_too_many_streams_are_refused(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "MAX_STREAMS", 2)
    streams = [await client.open(80, "error", str(i)) for i in range(3)]
    await client.until(lambda: len(client.frames) == 3)
    assert client.frames[-1] == RstStream(streams[2], Reset.REFUSED_STREAM)


async def test_pings_come_back(client: Client) -> None:
    await client.send(Ping(1), Ping(2), Ping(3))
    await client.until(lambda: Ping(3) in client.frames)
    assert client.frames == [Ping(1), Ping(3)]


async def test_what_is_no_spdy_ends_the_tunnel(client: Client) -> None:
    await client.socket.send_bytes(b"\x80" * 100)
    await client.until(lambda: client.frames)
    assert client.frames[-1] == GoAway(0, 1)
    assert (await client.socket.receive(timeout=10)).type is WSMsgType.CLOSE


async def test_the_clients_goodbye_ends_its_connections(pod: Pod, client: Client) -> None:
    gone = asyncio.Event()

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"here")
        with contextlib.suppress(ConnectionError):
            await reader.read()
        gone.set()
        writer.close()

    _, data = await client.connect(await pod.listen(wait))
    await client.until(lambda: client.data.get(data))
    await client.send(GoAway(0))
    await asyncio.wait_for(gone.wait(), 10)
    assert (await client.socket.receive(timeout=10)).type is WSMsgType.CLOSE


async def test_a_client_that_vanishes_leaves_nothing(pod: Pod) -> None:
    gone = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
        gone.set()

    async with opened(pod, tunnel.PROTOCOL) as socket:
        client = Client(socket)
        _, data = await client.connect(await pod.listen(talk))
        await client.until(lambda: len(client.data.get(data, b"")) > 1_000_000)
        connection = socket._conn
        assert connection is not None and connection.transport is not None
        connection.transport.abort()
        await asyncio.wait_for(gone.wait(), 10)


async def test_a_client_that_does_not_read_holds_the_pod_up(pod: Pod) -> None:
    sent = 0

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        with contextlib.suppress(ConnectionError):
            while True:
                writer.write(b"x" * 65536)
                await writer.drain()
                sent += 65536

    async with opened(pod, tunnel.PROTOCOL) as socket:
        client = Client(socket)
        await client.connect(await pod.listen(talk))
        await eventually(lambda: sent > 0)
        seen = -1
        while seen != sent:  # until it stands still
            seen = sent
            await asyncio.sleep(0.3)
        assert sent < 40_000_000


async def test_a_pod_that_does_not_read_loses_its_connection(
    pod: Pod, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relay, "STALL_S", 0.3)
    stalled, done = asyncio.Event(), asyncio.Event()

    async def stall(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        stalled.set()
        await done.wait()
        writer.close()

    try:
        error, data = await client.connect(await pod.listen(stall))
        await asyncio.wait_for(stalled.wait(), 10)
        _, other = await client.connect(await pod.listen(echo))

        async def flood() -> None:
            for _ in range(400):
                await client.send(Data(data, b"x" * 65536))
            await client.send(Data(other, b"after", fin=True))

        async with asyncio.TaskGroup() as group:
            group.create_task(flood())
            await client.until(lambda: client.reset(data) and {error, other} <= client.ended)
        assert client.data[other] == b"after<end>"
    finally:
        done.set()


# -- channels ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", ""])
async def test_channels_begin_with_their_port(pod: Pod, protocol: str) -> None:
    coded = "base64" in protocol

    def wire(channel: int, data: bytes) -> bytes | str:
        return f"{channel}{base64.b64encode(data).decode()}" if coded else bytes([channel]) + data

    ports = [await pod.listen(echo), await pod.listen(echo)]
    query = f"?port={ports[0]}&port={ports[1]}"
    async with opened(pod, *([protocol] if protocol else []), query=query) as socket:
        assert (socket.protocol or "") == protocol
        for channel, data in ((0, b"first"), (2, b"second"), (1, b"channels of errors take nothing")):
            message = wire(channel, data)
            await (socket.send_str(message) if isinstance(message, str) else socket.send_bytes(message))
        got = [(await socket.receive(timeout=10)).data for _ in range(6)]
        greetings = [wire(channel, ports[channel // 2].to_bytes(2, "little")) for channel in range(4)]
        assert got[:4] == greetings
        assert set(got[4:]) == {wire(0, b"first"), wire(2, b"second")}


async def test_channels_tell_an_error_and_close(pod: Pod) -> None:
    pod.sandbox = ""
    async with opened(pod, "v5.channel.k8s.io", "v4.channel.k8s.io", query="?port=80,81") as socket:
        messages = [message.data async for message in socket]
    texts = {f"error forwarding port {p} to pod pod, uid : sandbox container is not running" for p in (80, 81)}
    assert {m[1:].decode() for m in messages[4:]} == texts
    assert {m[0] for m in messages[4:]} == {1, 3}
    assert socket.close_code == 1000


async def test_channels_close_when_the_pod_has_sent_all(pod: Pod) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * 1_000_000)
        writer.close()

    port = await pod.listen(greet)
    async with opened(pod, "v4.channel.k8s.io", query=f"?port={port}") as socket:
        messages = [message.data async for message in socket]
    assert b"".join(m[1:] for m in messages[2:]) == b"x" * 1_000_000


@pytest.mark.parametrize(
    ("texts", "error"),
    [
        pytest.param([], 'query parameter "port" is required', id="none"),
        pytest.param([""], 'query parameter "port" cannot be empty', id="empty"),
        pytest.param(["80,x"], 'unable to parse "x" as a port', id="no number"),
        pytest.param(["0"], 'port "0" must be > 0', id="zero"),
        pytest.param(["99999999999"], "value out of range", id="too high"),
        pytest.param(["1"] * 200, "200 ports, at most 100", id="too many"),
    ],
)
def test_ports_that_cannot_be_read(texts: list[str], error: str) -> None:
    with pytest.raises(ApiError, match=error):
        parse_ports(texts)


async def test_a_bad_query_is_answered_before_the_upgrade(pod: Pod) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as failure:
        async with opened(pod, "v4.channel.k8s.io", query="?port=x"):
            pass
    assert failure.value.status == 400


# -- namespaces --------------------------------------------------------------------------------------------------------


async def test_connections_are_made_inside_the_pods_namespace(pod: Pod) -> None:
    if os.geteuid() != 0:
        pytest.skip("network namespaces need root")
    name = f"pf-{os.getpid()}"
    path = netns.create(name)
    try:
        netns.run_in_netns(path, _loopback_up)
        listening = netns.run_in_netns(path, socket.create_server, ("127.0.0.1", 7000))
        server = await asyncio.start_server(echo, sock=listening)
        pod.place = str(path)
        async with opened(pod, tunnel.PROTOCOL) as socket_:
            client = Client(socket_)
            _, data = await client.connect(7000)
            await client.send(Data(data, b"inside", fin=True))
            await client.until(lambda: data in client.ended)
            assert client.data[data] == b"inside<end>"
        server.close()
    finally:
        netns.delete(name)


def test_the_tunnel_is_the_first_choice() -> None:
    assert PROTOCOLS[0] == "SPDY/3.1+portforward.k8s.io"
