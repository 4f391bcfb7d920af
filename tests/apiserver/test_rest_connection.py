"""HTTP as it comes over the wire: whole, in pieces, behind one another, too large, and what is no HTTP at all."""

from __future__ import annotations

import gzip
import json
import secrets
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest

from kubarium.testing.apiserver import ApiServer

MAPS = "/api/v1/namespaces/default/configmaps"


class Stream:
    """A TLS connection; answers are read one by one."""

    def __init__(self, server: ApiServer, plain: socket.socket) -> None:
        self._server = server
        self.tls: ssl.SSLSocket = server.tls.wrap_socket(plain, server_hostname="127.0.0.1")
        self._file = self.tls.makefile("rb")

    def head(self, method: str, path: str, *headers: str, version: str = "1.1") -> bytes:
        lines = [f"{method} {path} HTTP/{version}", "Host: x", f"Authorization: Bearer {self._server.token}", *headers]
        return "\r\n".join([*lines, "", ""]).encode()

    def ask(self, method: str, path: str, *headers: str) -> tuple[int, dict[str, str], bytes]:
        self.tls.sendall(self.head(method, path, *headers))
        return self.answer(method)

    def answer(self, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
        status = int(self._file.readline().split()[1])
        headers = {}
        while (line := self._file.readline().strip()) != b"":
            name, _, value = line.decode().partition(": ")
            headers[name.lower()] = value
        if method == "HEAD" or status in (204, 304):
            return status, headers, b""
        if headers.get("transfer-encoding") == "chunked":
            return status, headers, b"".join(self._chunks())
        if "content-length" in headers:
            return status, headers, self._file.read(int(headers["content-length"]))
        return status, headers, self._file.read()

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self._file.readline(), 16):
            yield self._file.read(size)
            self._file.readline()
        self._file.readline()

    def ended(self) -> bool:
        """Whether the server has closed; waits for it."""
        try:
            return self._file.read(1) == b""
        except (ssl.SSLError, ConnectionError):
            return True


@contextmanager
def connected(server: ApiServer) -> Iterator[Stream]:
    where = urlsplit(server.url)
    with socket.create_connection((where.hostname or "", where.port or 0), 20) as plain:
        stream = Stream(server, plain)
        with stream.tls:
            yield stream


@pytest.fixture
def stream(shared_apiserver: ApiServer) -> Iterator[Stream]:
    with connected(shared_apiserver) as found:
        yield found


def config_map(name: str = "", size: int = 1) -> bytes:
    name = name or f"m-{secrets.token_hex(4)}"
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "x" * size}}
    return json.dumps(body).encode()


def post(stream: Stream, body: bytes, *headers: str) -> bytes:
    return stream.head("POST", MAPS, "Content-Type: application/json", f"Content-Length: {len(body)}", *headers) + body


def test_requests_sent_behind_one_another_are_answered_in_order(stream: Stream) -> None:
    first, second = config_map("pipelined-1"), config_map("pipelined-2")
    whole = post(stream, first) + stream.head("GET", "/version") + post(stream, second) + stream.head("GET", MAPS)
    stream.tls.sendall(whole + stream.head("GET", f"{MAPS}/pipelined-1") * 40)
    answers = [stream.answer() for _ in range(44)]
    assert [status for status, _, _ in answers] == [201, 200, 201, *[200] * 41]
    assert json.loads(answers[0][2])["metadata"]["name"] == "pipelined-1"
    assert json.loads(answers[1][2])["minor"] == "36"
    names = [item["metadata"]["name"] for item in json.loads(answers[3][2])["items"]]
    assert {"pipelined-1", "pipelined-2"} <= set(names)
    assert {json.loads(body)["metadata"]["name"] for _, _, body in answers[4:]} == {"pipelined-1"}


def test_a_request_may_come_in_any_pieces(stream: Stream) -> None:
    for byte in post(stream, config_map("in-pieces")) + stream.head("GET", f"{MAPS}/in-pieces"):
        stream.tls.sendall(bytes([byte]))
    assert [stream.answer()[0], stream.answer()[0]] == [201, 200]


def test_a_body_in_chunks(stream: Stream) -> None:
    body = config_map("in-chunks", 5000)
    stream.tls.sendall(stream.head("POST", MAPS, "Content-Type: application/json", "Transfer-Encoding: chunked"))
    for at in range(0, len(body), 1000):
        part = body[at : at + 1000]
        stream.tls.sendall(b"%x;ext=1\r\n%b\r\n" % (len(part), part))
    stream.tls.sendall(b"0\r\nTrailer: ignored\r\n\r\n")
    assert stream.answer()[0] == 201
    assert stream.ask("GET", f"{MAPS}/in-chunks")[0] == 200


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x00\x05hello\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_ends(shared_apiserver: ApiServer, head: bytes) -> None:
    with connected(shared_apiserver) as stream:
        stream.tls.sendall(head)
        status, headers, body = stream.answer()
        assert (status, headers["connection"]) == (400, "close"), body
        assert body.startswith(b"400 Bad Request")
        assert stream.ended()
    assert shared_apiserver.get("/readyz").status == 200


def test_a_head_without_end_is_refused(stream: Stream) -> None:
    with pytest.raises(OSError):  # the server closes while we still write
        stream.tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
        for number in range(4000):
            stream.tls.sendall(b"X-%d: %b\r\n" % (number, b"x" * 1000))
        assert stream.answer()[0] == 431
        raise OSError


def test_a_large_head_is_taken(stream: Stream) -> None:
    """Upstream takes a megabyte; long selectors and tokens are real."""
    assert stream.ask("GET", f"{MAPS}?labelSelector=a%20in%20({'x,' * 20000}x)", f"X-Long: {'y' * 50000}")[0] in (
        200,
        400,
    )


def test_head_has_the_length_and_no_body(stream: Stream) -> None:
    whole = stream.ask("GET", "/livez")
    status, headers, _ = stream.ask("HEAD", "/livez")
    assert (status, headers["content-length"]) == (200, str(len(whole[2])))
    assert stream.ask("HEAD", "/api/v1/namespaces/default")[0] == 405  # as upstream
    assert stream.ask("GET", "/version")[0] == 200


def test_a_client_of_the_first_version_gets_its_answer_and_the_end(stream: Stream) -> None:
    stream.tls.sendall(stream.head("GET", f"{MAPS}?watch=1&timeoutSeconds=1", version="1.0"))
    status, headers, body = stream.answer()
    assert (status, headers.get("transfer-encoding")) == (200, None)
    assert all(json.loads(line)["type"] == "ADDED" for line in body.splitlines())


def test_connection_close_is_honoured(stream: Stream) -> None:
    status, headers, _ = stream.ask("GET", "/version", "Connection: close")
    assert (status, headers["connection"]) == (200, "close")
    assert stream.ended()


def test_an_upgrade_that_nobody_knows_is_ignored(stream: Stream) -> None:
    upgrade = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__")
    assert stream.ask("GET", "/version", *upgrade)[0] == 200
    assert stream.ask("GET", "/version")[0] == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_refused_though_the_client_goes_on(stream: Stream, chunked: bool) -> None:
    size = 4 << 20
    kind = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {size}"
    stream.tls.sendall(stream.head("POST", MAPS, "Content-Type: application/json", kind))
    part = b"x" * 65536
    for _ in range(size // len(part)):
        stream.tls.sendall(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)
    if chunked:
        stream.tls.sendall(b"0\r\n\r\n")
    status, headers, body = stream.answer()
    assert (status, json.loads(body)["reason"], headers["connection"]) == (413, "RequestEntityTooLarge", "close")
    assert stream.ended()


def test_a_client_that_asks_first_is_not_asked_for_a_body_too_large(stream: Stream) -> None:
    stream.tls.sendall(stream.head("POST", MAPS, "Expect: 100-continue", f"Content-Length: {4 << 20}"))
    assert stream.answer()[0] == 413
    assert stream.ended()


def test_a_stream_into_a_container_may_follow_other_requests(stream: Stream) -> None:
    """The connection is handed over to aiohttp, which gives the answer and ends it."""
    assert stream.ask("GET", "/version")[0] == 200
    status, headers, body = stream.ask("GET", "/api/v1/namespaces/default/pods/none/log")
    assert (status, json.loads(body)["message"]) == (404, 'pods "none" not found')
    assert headers.get("connection") == "close"
    assert stream.ended()


@pytest.mark.parametrize("tail", ["body", "head"])
def test_the_end_of_another_request_is_never_taken_for_one(stream: Stream, tail: str) -> None:
    """Bytes of a body that look like a request, in one piece with a request for a stream behind it."""
    looks, log = stream.head("GET", "/version"), stream.head("GET", "/api/v1/namespaces/default/pods/none/log")
    if tail == "body":  # an answer that is there as soon as the body is
        rest, wrong = b"x" + looks, stream.head("POST", "/nothing").replace(b"Bearer ", b"Bearer no-")
        first = wrong[:-2] + b"Content-Length: %d\r\n\r\n" % len(rest)
    else:
        first, rest = stream.head("GET", "/livez")[:-4] + b"\r\nX-Rest: ", b"\r\n\r\n"
    stream.tls.sendall(first)
    time.sleep(0.1)  # so that they come apart
    stream.tls.sendall(rest + log)
    assert stream.answer()[0] == (401 if tail == "body" else 200)
    assert stream.ended()


def test_a_trailer_without_end_is_refused(stream: Stream) -> None:
    stream.tls.sendall(stream.head("POST", MAPS, "Content-Type: application/json", "Transfer-Encoding: chunked"))
    stream.tls.sendall(b"0\r\nEndless: ")
    with suppress(ConnectionError, ssl.SSLError):
        for _ in range(40):
            stream.tls.sendall(b"x" * 65_536)
    assert stream.answer()[0] == 431


def test_many_upgrades_in_one_piece_are_ignored(stream: Stream) -> None:
    many = 1200  # more than Python's stack is deep
    stream.tls.sendall(stream.head("GET", "/livez", "Connection: Upgrade", "Upgrade: h2c") * many)
    assert {stream.answer()[0] for _ in range(many)} == {200}


def test_a_stream_behind_others_has_to_be_asked_for_again(stream: Stream) -> None:
    stream.tls.sendall(stream.head("GET", "/version") + stream.head("GET", "/api/v1/namespaces/default/pods/none/log"))
    assert stream.answer()[0] == 200
    assert stream.ended()


@pytest.fixture(scope="module")
def many(shared_apiserver: ApiServer) -> int:
    """So many ConfigMaps that their list is made in pieces; they are 1.3 MB."""
    for number in range(320):
        assert shared_apiserver.post(MAPS, config_map(f"many-{number:03}", 4000)).status == 201
    return 320


@pytest.mark.parametrize("accept", ["application/json", "application/json;as=Table;v=v1;g=meta.k8s.io"])
def test_a_large_list_comes_in_pieces_and_packed_where_wanted(
    shared_apiserver: ApiServer, stream: Stream, many: int, accept: str
) -> None:
    plain = stream.ask("GET", MAPS, f"Accept: {accept}")
    packed = stream.ask("GET", MAPS, f"Accept: {accept}", "Accept-Encoding: gzip")
    assert plain[1]["transfer-encoding"] == packed[1]["transfer-encoding"] == "chunked"
    assert "content-encoding" not in plain[1]
    assert packed[1]["content-encoding"] == "gzip"
    found, unpacked = json.loads(plain[2]), json.loads(gzip.decompress(packed[2]))
    assert len(found.get("items") or found["rows"]) >= many
    if "items" in found:
        assert found == unpacked
        names = [item["metadata"]["name"] for item in found["items"]]
        assert names == sorted(names)
        assert all("kind" not in item for item in found["items"])
    small = stream.ask("GET", f"{MAPS}/many-000", "Accept-Encoding: gzip")
    assert "content-encoding" not in small[1]


def test_metadata_of_a_large_list(stream: Stream, many: int) -> None:
    accept = "Accept: application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    found = json.loads(stream.ask("GET", MAPS, accept)[2])
    assert found["kind"] == "PartialObjectMetadataList"
    assert len(found["items"]) >= many
    for item in found["items"]:
        assert (item["kind"], item["apiVersion"]) == ("PartialObjectMetadata", "meta.k8s.io/v1")
        assert set(item) == {"kind", "apiVersion", "metadata"}


def rss(server: ApiServer) -> int:
    with open(f"/proc/{server.process.pid}/statm") as file:  # noqa: PTH123
        return int(file.read().split()[1]) * 4096


def test_watchers_that_do_not_read_cost_little_and_the_others_go_on(shared_apiserver: ApiServer, many: int) -> None:
    """Forty of them with 1.3 MB each to come, whose sockets take nothing any more."""
    where = urlsplit(shared_apiserver.url)
    sockets: list[Any] = []
    before = rss(shared_apiserver)
    try:
        for _ in range(40):
            plain = socket.socket()
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.connect((where.hostname or "", where.port or 0))
            tls = shared_apiserver.tls.wrap_socket(plain, server_hostname="127.0.0.1")
            sockets.append(tls)
            head = f"GET {MAPS}?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {shared_apiserver.token}\r\n\r\n"
            tls.sendall(head.encode())
            tls.recv(100)
        assert len(shared_apiserver.watch(f"{MAPS}?watch=1&timeoutSeconds=1")) >= many
        assert rss(shared_apiserver) - before < 40 * (600 << 10)
    finally:
        for one in sockets:
            one.close()


def test_a_deadline_that_has_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a slow client is told, on a connection whose time is looked at by hand."""
    front = StandIn()
    for sent, said in (
        (b"GET / HT", b"HTTP/1.1 408 "),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nhalf", b"HTTP/1.1 408 "),
    ):
        connection, transport = front.connect()
        connection.data_received(sent)
        connection.overdue()
        assert transport.written.startswith(said)
        assert transport.closed == "close"
    connection, transport = front.connect()
    connection.overdue()
    assert (transport.written, transport.closed) == (b"", "close")
    connection, transport = front.connect()
    connection.data_received(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    connection.pause_writing()
    assert 29 < connection.deadline - time.monotonic() <= 30
    connection.overdue()
    assert transport.closed == "abort"


class Transport:
    def __init__(self) -> None:
        self.written = b""
        self.closed = ""

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = self.closed or "close"

    def abort(self) -> None:
        self.closed = "abort"

    def is_closing(self) -> bool:
        return bool(self.closed)

    def get_extra_info(self, name: str) -> None:
        return None

    def set_write_buffer_limits(self, high: int) -> None: ...


class StandIn:
    """A front end that answers everything with an empty object."""

    date = b"Date: now\r\n"
    stopping = False
    timeout_s = 60.0

    def __init__(self) -> None:
        self.connections: set[Any] = set()
        self.loop = self
        self.done: Callable[..., None] = lambda *_: None

    def connect(self) -> tuple[Any, Transport]:
        from apiserver.rest.connection import Connection

        connection, transport = Connection(self), Transport()  # type: ignore[arg-type]
        connection.connection_made(transport)  # type: ignore[arg-type]
        return connection, transport

    def answer(self, exchange: Any) -> Any:
        from apiserver.rest.answers import Answer

        return Answer(b"{}")


def test_a_write_goes_on_when_its_client_goes_away(shared_apiserver: ApiServer) -> None:
    for number in range(10):
        with connected(shared_apiserver) as stream:
            stream.tls.sendall(post(stream, config_map(f"gone-{number}")))
    deadline = time.monotonic() + 10
    wanted = {f"gone-{number}" for number in range(10)}
    while time.monotonic() < deadline:
        found = {item["metadata"]["name"] for item in shared_apiserver.get(MAPS).body["items"]}
        if wanted <= found:
            return
    raise AssertionError(f"not written: {wanted - found}")
