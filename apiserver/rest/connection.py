"""One connection: requests out of bytes by httptools, one answered at a time, answers in one write each.

Deadlines are not timers but a number that the front end looks at twice a second (`Connection.overdue`).
Sources: RFC 9112 (messages, pipelining, closing); net/http of Go for the answers to what is no HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Coroutine
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol

import httptools

from apiserver.auth.authenticator import Subject, peer_certificate, subject_of
from apiserver.rest.answers import Answer, encode_head
from apiserver.rest.exchange import BODY_LIMIT, Exchange
from apiserver.rest.paths import PARTS, parse_path

if TYPE_CHECKING:
    from apiserver.rest.streams import Stream

log = logging.getLogger(__name__)

HEAD_LIMIT: Final = 1 << 20  # bytes of request line and headers. Source: net/http, DefaultMaxHeaderBytes
HEAD_S: Final = 32.0  # from the first byte to the end of the headers. Source: apiserver, pkg/server/secure_serving.go
IDLE_S: Final = 180.0
READ_S: Final = 30.0  # a client that reads nothing for so long is given up
LINGER_S: Final = 10.0  # how long the rest of a refused body is read and dropped
PIPELINED: Final = 16  # requests of a connection that may wait behind the one being answered
BUFFER: Final = 64 << 10  # bytes written and not yet taken by the client, above which nothing more is made
GONE: Final = 499  # counted for a client that has gone before its answer. Source: nginx
BODILESS: Final = (204, 304)
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

Work = Coroutine[Any, Any, Answer]


class Front(Protocol):
    """What stands behind the connections. `date` is the Date header, with its line end."""

    date: bytes
    stopping: bool
    timeout_s: float
    connections: set[Connection]
    tasks: set[asyncio.Task[None]]  # those that are cancelled while they read at most
    loop: asyncio.AbstractEventLoop

    def answer(self, exchange: Exchange) -> Answer | Work:
        """At once where that needs no waiting. Raises nothing, and neither does the coroutine."""
        ...

    def late(self, exchange: Exchange) -> Answer:
        """For a request that took too long."""
        ...

    def done(self, exchange: Exchange, status: int) -> None:
        """The answer has been given; of a stream, its end. Counted once, however often it is called."""
        ...

    def lost(self, connection: Connection) -> None:
        """It is served no more."""
        ...

    def take_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """The connection goes on with another protocol, beginning with `data`."""
        ...


class _TakenOver(Exception):
    """Raised into the parser, which then lets go of the connection."""


class Connection(asyncio.Protocol):
    """See `Front` for what it talks to."""

    __slots__ = (
        "_begun", "_body", "_chunked", "_current", "_fed", "_front", "_headers", "_held", "_incoming", "_lingering",
        "_parser", "_raw", "_read", "_repeated", "_serving", "_size", "_stream", "_subject", "_task", "_transport",
        "_url", "_waiting", "deadline", "paused",
    )  # fmt: skip

    def __init__(self, front: Front) -> None:
        self._front = front
        self._transport: asyncio.Transport = None  # type: ignore[assignment]
        self._parser = httptools.HttpRequestParser(self)
        self._subject: Subject | None = None
        self.deadline = monotonic() + HEAD_S
        self.paused = False
        # the message being read
        self._fed = b""  # the bytes that came last, until a message has begun in them
        self._begun = False  # some of its head is read
        self._raw = b""  # that head as it came, unless it came behind another message
        self._read = 0  # bytes of it that came in later pieces; behind the head, of what is no body
        self._url = b""
        self._headers: dict[bytes, bytes] = {}
        self._repeated: list[tuple[bytes, bytes]] = []
        self._incoming: Exchange | None = None  # its head is read, its body is not
        self._body: list[bytes] = []
        self._size = 0
        # the message being answered, and those behind it
        self._current: Exchange | None = None
        self._task: asyncio.Task[None] | None = None
        self._stream: Stream | None = None
        self._chunked = False
        self._waiting: deque[Exchange] = deque()
        self._serving = False
        self._held = False  # nothing more is read for the moment
        self._lingering = False  # what still comes is read and dropped

    # -- the transport -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._transport.set_write_buffer_limits(high=BUFFER)
        self._subject = subject_of(peer_certificate(transport))
        self._front.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._front.lost(self)
        self._waiting.clear()
        if self._stream is not None:
            self._stream.close()
            self._stream = None
            self._finish()
        elif self._task is not None and self._current is not None and self._current.method in ("GET", "HEAD"):
            self._task.cancel()  # a write goes on to its end: cut off half way, nobody would know what it had done
        self._current = None

    def pause_writing(self) -> None:
        self.paused = True
        self.deadline = monotonic() + READ_S

    def resume_writing(self) -> None:
        self.paused = False
        self._set_deadline()
        if self._stream is not None:
            self._stream.resume()
        elif self._waiting:
            self._serve()

    def data_received(self, data: bytes) -> None:
        if self._lingering and self._incoming is None:
            return
        # What begins behind the end of another message cannot be handed over: the bytes that came are not all its own.
        self._fed = b"" if self._begun or self._incoming is not None else data
        if self._begun:
            self._read += len(data)
            if self._raw:
                self._raw += data
        size = self._size
        try:
            self._parse(data)
        except httptools.HttpParserError as err:
            self._unreadable(err)
            return
        if self._incoming is not None and self._size == size:  # no body: sizes of chunks, or a trailer
            self._read += len(data)
        if self._read > HEAD_LIMIT:
            self._refuse(431, "Request Header Fields Too Large")

    def _parse(self, data: bytes) -> None:
        """An upgrade that nobody here knows (h2c) is ignored, as RFC 9110 7.8 allows; what follows is HTTP again."""
        rest = memoryview(data)
        while rest and not (self._lingering and self._incoming is None):
            try:
                self._parser.feed_data(rest)
            except httptools.HttpParserUpgrade as err:
                self._parser = httptools.HttpRequestParser(self)
                self._fed, rest = b"", rest[err.args[0] :]
            else:
                return

    def eof_received(self) -> bool:
        return False

    # -- the parser ----------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._begun = True
        self._raw, self._fed = self._fed, b""
        if self._current is None and not self.paused:
            self.deadline = monotonic() + HEAD_S

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._incoming is not None:
            return  # of a trailer
        name = name.lower()
        if name in self._headers:
            self._repeated.append((name, value))
        else:
            self._headers[name] = value

    def on_headers_complete(self) -> None:
        parser, headers = self._parser, self._headers
        exchange = Exchange(
            parser.get_method().decode("ascii"),
            self._url,
            headers,
            self._repeated,
            subject=self._subject,
            begun=monotonic(),
        )
        if b"host" not in headers and parser.get_http_version() == "1.1":
            raise ValueError("missing required Host header")
        if (target := parse_path(exchange.path)) is not None and target.subresource in PARTS:
            self._hand_over(exchange)
        self._url, self._headers = b"", {}
        if self._repeated:
            self._repeated = []
        self._begun, self._raw, self._read, self._incoming = False, b"", 0, exchange
        if b"content-length" in headers or b"transfer-encoding" in headers:
            self._expect_body(exchange, headers)

    def _expect_body(self, exchange: Exchange, headers: dict[bytes, bytes]) -> None:
        if self._current is None:
            self.deadline = exchange.begun + self._front.timeout_s
        asked = headers.get(b"expect", b"").lower() == b"100-continue"
        if int(headers.get(b"content-length", b"0")) > BODY_LIMIT:
            self._refuse_body(exchange)
            if asked:
                self._incoming = None  # it will not come
        elif asked and self._current is None:
            self._transport.write(CONTINUE)

    def on_body(self, chunk: bytes) -> None:
        self._size += len(chunk)
        if self._lingering:
            return
        if self._size > BODY_LIMIT:
            assert self._incoming is not None
            self._refuse_body(self._incoming)
        else:
            self._body.append(chunk)

    def on_message_complete(self) -> None:
        exchange, self._incoming = self._incoming, None
        if self._lingering:
            self._close_if_answered()
            return
        assert exchange is not None
        if self._body:
            exchange.content = self._body[0] if len(self._body) == 1 else b"".join(self._body)
            self._body, self._size = [], 0
        if not self._parser.should_keep_alive():
            exchange.closes = True
        if self._parser.get_http_version() != "1.1":
            exchange.http_10 = exchange.closes = True
        self._waiting.append(exchange)
        if not self._serving:
            self._serve()

    def _refuse_body(self, exchange: Exchange) -> None:
        """Answer before the body has come; its rest is read and dropped, because a client that is still sending would
        lose the answer if the connection were cut."""
        exchange.content, exchange.closes = None, True
        self._body, self._lingering = [], True
        self._waiting.append(exchange)
        if not self._serving:
            self._serve()

    def _hand_over(self, exchange: Exchange) -> None:
        """Somebody else serves this connection from here on."""
        if not self._raw or self._current is not None or self._waiting:
            # Sent behind others without waiting for their answers: the client has to ask again on a connection of
            # its own, which RFC 9112 9.3.2 expects of it.
            self._lingering = True
            if self._waiting:
                self._waiting[-1].closes = True
            elif self._current is not None:
                self._current.closes = True
        raise _TakenOver

    def _unreadable(self, err: httptools.HttpParserError) -> None:
        cause = err.__context__
        if isinstance(cause, _TakenOver):
            if not self._lingering:
                self._front.lost(self)
                self._front.take_over(self._transport, self._raw)
            elif self._current is None and not self._waiting:
                self._transport.close()
            return
        if isinstance(cause, Exception) and not isinstance(cause, ValueError):
            log.error("a request could not be read", exc_info=cause)
        self._refuse(400, f"Bad Request: {cause}" if isinstance(cause, ValueError) else "Bad Request")

    def _refuse(self, status: int, text: str) -> None:
        """For what is no request; the connection ends."""
        self._lingering = True
        if self._current is not None or self._waiting:  # the answer to the one before is still owed, and the last
            (self._waiting[-1] if self._waiting else self._current).closes = True  # type: ignore[union-attr]
            return
        head = encode_head(status, (("Content-Type", "text/plain; charset=utf-8"), ("Connection", "close")))
        self._transport.write(head + b"Content-Length: %d\r\n\r\n%d %s" % (len(text) + 4, status, text.encode()))
        self._transport.close()

    # -- answers -------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Answer what waits, as long as that needs no waiting."""
        self._serving = True
        try:
            while self._waiting and self._current is None and not self.paused and not self._transport.is_closing():
                exchange = self._waiting.popleft()
                self._current = exchange
                answer = self._front.answer(exchange)
                if isinstance(answer, Answer):
                    self._send(exchange, answer)
                else:
                    self.deadline = exchange.begun + self._front.timeout_s
                    self._task = self._front.loop.create_task(self._work(exchange, answer))
        finally:
            self._serving = False
        if len(self._waiting) >= PIPELINED and not self._held:
            self._held = True
            self._transport.pause_reading()

    async def _work(self, exchange: Exchange, work: Work) -> None:
        front, task = self._front, self._task
        assert task is not None
        front.tasks.add(task)
        try:
            answer = await work
        except asyncio.CancelledError:
            front.done(exchange, GONE)
            raise
        finally:
            front.tasks.discard(task)
        if exchange is not self._current:  # its client has gone, or was told that it took too long
            if answer.stream is not None:
                answer.stream.close()
            front.done(exchange, answer.status)
            return
        self._send(exchange, answer)
        if self._waiting:
            self._serve()

    def _send(self, exchange: Exchange, answer: Answer) -> None:
        front = self._front
        status = answer.status
        head = encode_head(status, answer.headers)
        if exchange.closes or front.stopping:
            exchange.closes = True
            head += b"Connection: close\r\n"
        if answer.stream is not None:
            if exchange.method != "HEAD":
                self._start(exchange, answer.stream, head)
                return
            answer.stream.close()
        body = answer.body
        if status in BODILESS:
            data = b"".join((head, front.date, b"\r\n"))
        elif exchange.method == "HEAD":
            data = b"".join((head, front.date, b"Content-Length: %d\r\n\r\n" % len(body)))
        else:
            data = b"".join((head, front.date, b"Content-Length: %d\r\n\r\n" % len(body), body))
        self._transport.write(data)
        front.done(exchange, status)
        self._answered(exchange)

    def _start(self, exchange: Exchange, stream: Stream, head: bytes) -> None:
        self._chunked = not exchange.http_10
        framing = b"Transfer-Encoding: chunked\r\n\r\n" if self._chunked else b"\r\n"
        self._transport.write(b"".join((head, self._front.date, framing)))
        self._stream = stream
        if not self.paused:
            self.deadline = inf
        stream.start(self)

    def write(self, data: bytes) -> None:
        if self._chunked:
            self._transport.writelines((b"%x\r\n" % len(data), data, b"\r\n"))
        else:
            self._transport.write(data)

    def write_framed(self, data: bytes, chunk: bytes) -> None:
        self._transport.write(chunk if self._chunked else data)

    def fail(self) -> None:
        """The stream cannot go on: the client sees that it is not complete."""
        self._transport.abort()

    def end(self) -> None:
        """The stream is complete."""
        exchange = self._current
        self._stream = None
        if self._chunked:
            self._transport.write(b"0\r\n\r\n")
        self._finish()
        if exchange is not None:
            self._answered(exchange)
            if self._waiting and not self._serving:
                self._serve()

    def _finish(self) -> None:
        if self._current is not None:
            self._front.done(self._current, 200)

    def _answered(self, exchange: Exchange) -> None:
        self._current = self._task = None
        if exchange.closes or self._front.stopping:
            self._waiting.clear()
            if self._lingering and self._incoming is not None:
                self.deadline = monotonic() + LINGER_S
            else:
                self.deadline = monotonic() + READ_S
                self._transport.close()
            return
        if not self.paused:
            self._set_deadline()
        if self._held and len(self._waiting) < PIPELINED:
            self._held = False
            self._transport.resume_reading()

    def _close_if_answered(self) -> None:
        """The rest of a refused body has come."""
        if self._current is None and not self._waiting:
            self._transport.close()

    # -- time ----------------------------------------------------------------------------------------------------------

    def _set_deadline(self) -> None:
        """After an answer, or when the client reads again."""
        now = monotonic()
        if self._stream is not None:
            self.deadline = inf
        elif self._current is not None:
            self.deadline = self._current.begun + self._front.timeout_s
        elif self._incoming is not None:
            self.deadline = self._incoming.begun + self._front.timeout_s
        else:
            self.deadline = now + (HEAD_S if self._begun else IDLE_S)

    @property
    def idle(self) -> bool:
        return self._current is None and not self._waiting and self._incoming is None and not self._begun

    def overdue(self) -> None:
        """The deadline has passed."""
        exchange = self._current
        if self.paused or self._lingering or self._transport.is_closing():
            self._transport.abort()
        elif exchange is not None:
            task = self._task
            exchange.closes = True
            self._send(exchange, self._front.late(exchange))
            if task is not None and exchange.method in ("GET", "HEAD"):
                task.cancel()
        elif self._incoming is not None or self._begun:
            self._refuse(408, "Request Timeout")
        else:
            self._transport.close()

    def stop(self, *, hard: bool) -> None:
        """The server stops: an idle connection is closed, one in use after its answer; `hard`: now."""
        if hard:
            self._transport.abort()
        elif self.idle:
            self.deadline = 0.0  # a client that does not say goodbye in turn is not waited for
            self._transport.close()
