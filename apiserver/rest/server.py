"""The HTTPS server: listens, keeps the connections and their time, stops gracefully.

`connection` parses and writes, `dispatch` finds the answers; streams to kubelets are `passing`.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from email.utils import formatdate
from typing import TYPE_CHECKING, Final

from apiserver.rest.answers import Answer, error_answer
from apiserver.rest.connection import Connection
from apiserver.rest.dispatch import Dispatcher, Doors
from apiserver.rest.exchange import Exchange, timed_out
from apiserver.rest.limits import Limits
from apiserver.rest.metrics import Metrics

if TYPE_CHECKING:
    from aiohttp import web

    from apiserver.rest.passing import Passing

__all__ = ["Doors", "RestServer"]

log = logging.getLogger(__name__)

TICK_S: Final = 0.5  # how exact deadlines are
HANDSHAKE_S: Final = 10.0
BACKLOG: Final = 1024


class RestServer:
    """`start` it on sockets; `stop` ends watches, lets other requests finish, and closes. A `connection.Front`."""

    def __init__(self, doors: Doors, limits: Limits, metrics: Metrics, *, request_timeout_s: float) -> None:
        self._doors = doors
        self._dispatcher = Dispatcher(doors, limits, metrics)
        self._listeners: list[asyncio.Server] = []
        self._passing: Passing | None = None
        self._ticker: asyncio.TimerHandle | None = None
        self.answer = self._dispatcher.answer
        self.timeout_s = request_timeout_s
        self.connections: set[Connection] = set()
        self.tasks = doors.pipeline.lasting
        self.stopping = False
        self._alone = asyncio.Event()  # the last connection has gone, while stopping
        self.date = b""
        self.loop: asyncio.AbstractEventLoop = None  # type: ignore[assignment]

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext) -> None:
        self.loop = asyncio.get_running_loop()
        self._tick()
        for sock in sockets:
            self._listeners.append(
                await self.loop.create_server(
                    lambda: Connection(self), sock=sock, ssl=tls, backlog=BACKLOG, ssl_handshake_timeout=HANDSHAKE_S
                )
            )

    async def stop(self, grace_s: float = 5.0) -> None:
        self.stopping = True
        for listener in self._listeners:
            listener.close()
        self._doors.pipeline.end_watches()
        for connection in tuple(self.connections):
            connection.stop(hard=False)
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._doors.pipeline.finish_writes()
                if self.connections:
                    await self._alone.wait()
        for connection in tuple(self.connections):
            connection.stop(hard=True)
        if self._passing is not None:
            await self._passing.stop(grace_s)
        if self._ticker is not None:
            self._ticker.cancel()
        await self._doors.kubelets.close()

    def _tick(self) -> None:
        self.date = f"Date: {formatdate(time.time(), usegmt=True)}\r\n".encode()
        now = time.monotonic()
        for connection in [one for one in self.connections if one.deadline < now]:
            connection.overdue()
        self._ticker = self.loop.call_later(TICK_S, self._tick)

    # -- what connections ask for --------------------------------------------------------------------------------------

    def late(self, exchange: Exchange) -> Answer:
        return error_answer(timed_out(), exchange.warnings)

    def done(self, exchange: Exchange, status: int) -> None:
        self._dispatcher.count(exchange, status, time.monotonic())

    def lost(self, connection: Connection) -> None:
        self.connections.discard(connection)
        if self.stopping and not self.connections:
            self._alone.set()

    def take_over(self, transport: asyncio.Transport, data: bytes) -> None:
        if self._passing is None:
            from apiserver.rest.passing import Passing

            self._passing = Passing(self._passed)
        self._passing.take_over(transport, data)

    async def _passed(self, exchange: Exchange) -> Answer | web.StreamResponse:
        answer = await self._dispatcher.passed(exchange, self.timeout_s)
        self.done(exchange, answer.status)
        return answer
