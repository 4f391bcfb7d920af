"""Connections whose answer somebody else streams (logs, exec, port-forward, proxied paths): aiohttp serves them.

The connection of such a request is handed over with what was read of it; after the answer it is closed, so that the
next request is one of ours again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

from aiohttp import web

from apiserver.auth.authenticator import peer_certificate, subject_of
from apiserver.rest.answers import Answer
from apiserver.rest.exchange import BODY_LIMIT, Exchange, too_large
from kubarium.machinery.errors import BadRequest

Handler = Callable[[Exchange], Awaitable["Answer | web.StreamResponse"]]


class PassedExchange(Exchange):
    """A request of aiohttp's; its body has not been read yet."""

    __slots__ = ()

    async def body(self) -> bytes:
        """Raises RequestEntityTooLarge, BadRequest where the client stops."""
        assert self.http is not None
        chunks, size = [], 0
        try:
            while chunk := await self.http.content.readany():
                size += len(chunk)
                if size > BODY_LIMIT:
                    raise too_large()
                chunks.append(chunk)
        except (web.RequestPayloadError, ConnectionError) as err:
            raise BadRequest(f"the body of the request could not be read: {err}") from err
        return b"".join(chunks)


class Passing:
    """aiohttp's server for connections that are handed over. `handler` raises nothing but ConnectionError."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._server = web.Server(self._handle, handler_cancellation=True, access_log=None)

    def take_over(self, transport: asyncio.Transport, data: bytes) -> None:
        protocol = self._server()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)

    async def stop(self, grace_s: float) -> None:
        self._server.pre_shutdown()  # without it, idle connections are waited for as long as busy ones
        await self._server.shutdown(grace_s)

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        answer = await self._handler(exchange_of(http))
        if isinstance(answer, Answer):
            answer = plain(answer)
        answer.force_close()
        return answer


def exchange_of(http: web.BaseRequest) -> Exchange:
    headers: dict[bytes, bytes] = {}
    repeated: list[tuple[bytes, bytes]] = []
    for name, value in http.raw_headers:
        if (key := name.lower()) in headers:
            repeated.append((key, value))
        else:
            headers[key] = value
    subject = subject_of(peer_certificate(http.transport)) if http.transport is not None else None
    begun = monotonic()
    url = http.raw_path.encode("utf-8", "surrogateescape")
    exchange = PassedExchange(http.method, url, headers, repeated, subject=subject, begun=begun)
    exchange.http = http
    return exchange


def plain(answer: Answer) -> web.Response:
    """An answer that is no stream."""
    response = web.Response(body=answer.body, status=answer.status)
    for name, value in answer.headers:
        if name == "Content-Type":
            response.headers[name] = value
        else:
            response.headers.add(name, value)
    return response
