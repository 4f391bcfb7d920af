"""Answers that are sent piece by piece, as fast as the client reads: large lists, and watches."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol

from apiserver.reads import WatchSession
from apiserver.watchcache import Batch

log = logging.getLogger(__name__)

PIECE: Final = 256 << 10  # bytes made at once
TURN: Final = 1 << 20  # bytes written before others have a turn
GZIP_ABOVE: Final = 128 << 10  # smaller answers are not worth it. Source: apiserver, responsewriters/writers.go
GZIP_LEVEL: Final = 1


class Sink(Protocol):
    """The connection, as a stream sees it. `paused`: the client does not read fast enough."""

    paused: bool

    def write(self, data: bytes) -> None:
        """Bytes of the body, which the sink frames."""
        ...

    def write_framed(self, data: bytes, chunk: bytes) -> None:
        """The same, where the framed form is at hand already."""
        ...

    def end(self) -> None:
        """The body is complete."""
        ...

    def fail(self) -> None:
        """The body cannot be completed."""
        ...


class Stream(Protocol):
    def start(self, sink: Sink) -> None: ...

    def resume(self) -> None:
        """The sink takes more."""
        ...

    def close(self) -> None:
        """The sink is gone. May be called twice, also after the end."""
        ...


class Pieces:
    """A stream of bytes that are made while they are sent."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces: Iterator[bytes] = iter(pieces)
        self._sink: Sink | None = None
        self._turn: asyncio.Handle | None = None

    def through(self, change: Callable[[Iterable[bytes]], Iterable[bytes]]) -> Pieces:
        """The same, changed on its way; instead of this one, before it has started."""
        return Pieces(change(self._pieces))

    def start(self, sink: Sink) -> None:
        self._sink = sink
        self.resume()

    def resume(self) -> None:
        if self._turn is None:
            self._write()

    def close(self) -> None:
        self._sink = None
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _write(self) -> None:
        self._turn, written = None, 0
        while self._sink is not None and not self._sink.paused:
            piece = self._next()
            if piece is None:
                sink, self._sink = self._sink, None
                sink.end()
                return
            self._sink.write(piece)
            written += len(piece)
            if written >= TURN:
                self._turn = asyncio.get_running_loop().call_soon(self._write)
                return

    def _next(self) -> bytes | None:
        try:
            return next(self._pieces, None)
        except Exception:
            log.exception("an answer could not be completed")
            if self._sink is not None:
                self._sink.fail()
            raise


def cut(data: bytes) -> Iterator[bytes]:
    """One large body in pieces."""
    view = memoryview(data)
    for start in range(0, len(data), PIECE):
        yield bytes(view[start : start + PIECE])


def gzipped(pieces: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(GZIP_LEVEL, zlib.DEFLATED, 16 + zlib.MAX_WBITS)
    for piece in pieces:
        if packed := packer.compress(piece):
            yield packed
    yield packer.flush()


class WatchStream:
    """The events of a watch. Nothing runs for it while nothing happens; it is called when there is news."""

    def __init__(
        self, session: WatchSession, encode: Callable[[Batch], tuple[bytes, bytes]], closed: Callable[[], None]
    ) -> None:
        """`encode`: a batch's lines, and the same framed as one chunk; `closed` is called once."""
        self._session = session
        self._encode = encode
        self._closed: Callable[[], None] | None = closed
        self._sink: Sink | None = None

    def start(self, sink: Sink) -> None:
        self._sink = sink
        self._session.listen(self.resume)
        self.resume()

    def resume(self) -> None:
        sink, session = self._sink, self._session
        if sink is None:
            return
        try:
            while not sink.paused:
                if (batch := session.poll()) is not None:
                    sink.write_framed(*self._encode(batch))
                elif session.ended:
                    self.close()
                    sink.end()
                    return
                else:
                    return
        except Exception:
            log.exception("a watch failed")
            self.close()
            sink.fail()

    def close(self) -> None:
        self._sink = None
        self._session.close()
        if (closed := self._closed) is not None:
            self._closed = None
            closed()
