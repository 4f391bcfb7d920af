"""A process's streams over one WebSocket: each message is a channel byte and data.

0 stdin, 1 stdout, 2 stderr, 3 the final Status, 4 terminal size; with v5 also 255: that channel is closed.
Source: KEP-4006 (remotecommand over WebSockets), k8s.io/apimachinery pkg/util/remotecommand.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Any

import orjson
from aiohttp import WSMsgType, web

from kubarium.machinery.errors import ContainerError
from kubelet.runtimes.base import ExecProcess

log = logging.getLogger(__name__)

PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")
STDIN, ERROR, RESIZE, CLOSE = 0, 3, 4, 255
MESSAGE_LIMIT = 32 << 20


async def serve_process(request: web.Request, process: ExecProcess, *, stdin: bool) -> web.StreamResponse:
    """Join the client and the process until the process's output ends; then its exit code as a Status."""
    socket = web.WebSocketResponse(protocols=PROTOCOLS, max_msg_size=MESSAGE_LIMIT)
    try:
        await socket.prepare(request)
        incoming = asyncio.create_task(_receive(socket, process, stdin=stdin), name="exec/stdin")
        outgoing = asyncio.create_task(_send(socket, process), name="exec/output")
        try:
            await asyncio.wait({incoming, outgoing}, return_when=asyncio.FIRST_COMPLETED)
            if outgoing.done() and not socket.closed:
                outgoing.result()
                await _finish(socket, process)
        finally:
            for task in (incoming, outgoing):
                task.cancel()
            await asyncio.wait({incoming, outgoing})
    except ConnectionError as err:
        log.debug("kubelet: exec: client has gone: %s", err)
    finally:
        await process.close()
    return socket


async def _send(socket: web.WebSocketResponse, process: ExecProcess) -> None:
    while (piece := await process.read()) is not None:
        await socket.send_bytes(bytes([piece[0]]) + piece[1])


async def _finish(socket: web.WebSocketResponse, process: ExecProcess) -> None:
    try:
        status = exit_status(await process.wait())
    except ContainerError as err:
        status = {"metadata": {}, "status": "Failure", "reason": "InternalError", "message": str(err), "code": 500}
    await socket.send_bytes(bytes([ERROR]) + orjson.dumps(status))
    await socket.close()


def exit_status(code: int) -> dict[str, Any]:
    """The Status that kubectl takes a command's exit code from."""
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with non-zero exit code: exit status {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


async def _receive(socket: web.WebSocketResponse, process: ExecProcess, *, stdin: bool) -> None:
    """What the client sends; ends when it closes the connection."""
    async for message in socket:
        if message.type is not WSMsgType.BINARY or not message.data:
            continue
        channel, data = message.data[0], message.data[1:]
        with suppress(ContainerError):  # the process has closed its input: the rest is for nobody
            if channel == STDIN and stdin and data:
                await process.write(data)
            elif channel == RESIZE:
                size = orjson.loads(data)
                await process.resize(int(size["Width"]), int(size["Height"]))
            elif channel == CLOSE and data[:1] == bytes([STDIN]):
                await process.close_stdin()
