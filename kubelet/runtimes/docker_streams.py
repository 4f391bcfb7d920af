"""The Docker Engine's streams (events, logs, exec), without a thread each: one connection a stream, on the event loop.

The Docker SDK hands out an exec's raw socket after its buffered reader may have swallowed the first output, and blocks
a thread for each stream; so streams go over aiohttp and, where the engine upgrades the connection, a plain socket.
Source: https://docs.docker.com/reference/api/engine/version/v1.41/
"""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson

from kubarium.machinery.errors import ContainerError
from kubelet.runtimes.base import STDERR, STDOUT, ContainerMissing, LogOptions, RuntimeUnavailable

API = "/v1.41"
CONNECT_TIMEOUT_S = 5.0


class EngineStreams:
    """Streams of the engine behind one Unix socket."""

    def __init__(self, socket_path: str) -> None:
        self._path = socket_path
        self._session: aiohttp.ClientSession | None = None

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.UnixConnector(self._path, limit=0, force_close=True)
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S)
            self._session = aiohttp.ClientSession(f"http://docker{API}/", connector=connector, timeout=timeout)
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def open(self, path: str, params: dict[str, str]) -> aiohttp.ClientResponse:
        """Begin a GET whose body is a stream; the caller closes the response."""
        try:
            response = await self._http().get(path, params=params)
        except (aiohttp.ClientError, OSError, TimeoutError) as err:
            raise RuntimeUnavailable(f"docker engine at {self._path} does not answer: {err}") from err
        if response.status >= 400:
            text = _message(await response.read())
            response.close()
            raise ContainerMissing(text) if response.status == 404 else ContainerError(text)
        return response

    async def logs(self, container: str, options: LogOptions, *, tty: bool) -> AsyncIterator[bytes]:
        """Log bytes of both streams in the order written, as the engine frames them."""
        params = {"stdout": "1", "stderr": "1", "follow": str(int(options.follow))}
        params |= {"timestamps": "1"} if options.timestamps else {}
        params |= {"tail": str(options.tail_lines)} if options.tail_lines is not None else {}
        params |= {"since": f"{options.since:.9f}"} if options.since else {}
        response = await self.open(f"containers/{container}/logs", params)
        left = options.limit_bytes
        try:
            async for _, data in _frames(response.content, tty=tty):
                piece = data if left is None else data[:left]
                if piece:
                    yield piece
                if left is not None and (left := left - len(piece)) <= 0:
                    return
        except aiohttp.ClientError as err:
            raise RuntimeUnavailable(f"docker engine ended the log stream: {err}") from err
        finally:
            response.close()

    async def hijack(self, path: str, body: dict[str, Any], *, tty: bool) -> HijackedStream:
        """POST and take over the connection, as `docker exec` and `docker attach` do."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                reader, writer = await asyncio.open_unix_connection(self._path)
        except (OSError, TimeoutError) as err:
            raise RuntimeUnavailable(f"docker engine at {self._path} does not answer: {err}") from err
        payload = orjson.dumps(body)
        head = (
            f"POST {API}/{path} HTTP/1.1\r\nHost: docker\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(payload)}\r\n\r\n"
        )
        try:
            writer.write(head.encode() + payload)
            async with asyncio.timeout(30):
                answer = await reader.readuntil(b"\r\n\r\n")
                status = int(answer.split(b" ", 2)[1])
                if status not in (101, 200):
                    text = _message(await reader.read(65536))
                    raise ContainerMissing(text) if status == 404 else ContainerError(text)
        except BaseException as err:
            writer.close()
            if isinstance(err, OSError | TimeoutError | asyncio.IncompleteReadError):
                raise RuntimeUnavailable(f"docker engine broke off {path}: {err}") from err
            raise
        return HijackedStream(reader, writer, tty=tty)


class HijackedStream:
    """Both directions of an exec or attach: output frames in, stdin bytes out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, tty: bool) -> None:
        self._writer = writer
        self._frames = _frames(reader, tty=tty)

    async def read(self) -> tuple[int, bytes] | None:
        try:
            return await anext(self._frames)
        except StopAsyncIteration:
            return None

    async def write(self, data: bytes) -> None:
        try:
            self._writer.write(data)
            await self._writer.drain()
        except OSError as err:
            raise ContainerError(f"the process has closed its input: {err}") from err

    async def close_stdin(self) -> None:
        if self._writer.can_write_eof() and not self._writer.is_closing():
            self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()


async def _frames(
    reader: asyncio.StreamReader | aiohttp.StreamReader, *, tty: bool
) -> AsyncIterator[tuple[int, bytes]]:
    """Undo the engine's multiplexing: 8 bytes (stream, 0, 0, 0, length big-endian), then data; a TTY has no frames."""
    if tty:
        while data := await reader.read(65536):
            yield STDOUT, data
        return
    while True:
        try:
            stream, length = struct.unpack(">BxxxI", await reader.readexactly(8))
            data = await reader.readexactly(length)
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        yield (STDERR if stream == STDERR else STDOUT), data


def _message(body: bytes) -> str:
    """The engine's own words: {"message": ...}, in HTTP chunks or not."""
    start, end = body.find(b"{"), body.rfind(b"}")
    try:
        return str(orjson.loads(body[start : end + 1])["message"])
    except (orjson.JSONDecodeError, KeyError):
        return body.decode(errors="replace").strip() or "the docker engine gave no reason"
