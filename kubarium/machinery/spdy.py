"""SPDY/3.1: bytes to frames and back. Pure: it knows nothing of sockets, and keeps no state of streams.

Kubernetes carries port-forward in it (KEP-4006, inside a WebSocket). Flow control is told (`WindowUpdate`) and left to
the caller; Kubernetes' clients neither send nor heed it.
Source: https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

VERSION = 3
FIN = 1
CONTROL_LIMIT = 64 * 1024  # bytes of a control frame; a Data frame may be as long as it can be told (16 MB)
HEADERS_LIMIT = 64 * 1024  # bytes of a header block, unpacked
STREAM_MASK = 0x7FFFFFFF
_HEAD = struct.Struct(">II")
_WORD = struct.Struct(">I")

_WORDS = (
    "options head post put delete trace accept accept-charset accept-encoding accept-language accept-ranges age allow "
    "authorization cache-control connection content-base content-encoding content-language content-length "
    "content-location content-md5 content-range content-type date etag expect expires from host if-match "
    "if-modified-since if-none-match if-range if-unmodified-since last-modified location max-forwards pragma "
    "proxy-authenticate proxy-authorization range referer retry-after server te trailer transfer-encoding upgrade "
    "user-agent vary via warning www-authenticate method get status 200_OK version HTTP/1.1 url public set-cookie "
    "keep-alive origin"
)
_TAIL = (
    "100101201202205206300302303304305306307402405406407408409410411412413414415416417502504505203 Non-Authoritative "
    "Information204 No Content301 Moved Permanently400 Bad Request401 Unauthorized403 Forbidden404 Not Found500 "
    "Internal Server Error501 Not Implemented503 Service UnavailableJan Feb Mar Apr May Jun Jul Aug Sept Oct Nov Dec "
    "00:00:00 Mon, Tue, Wed, Thu, Fri, Sat, Sun, GMTchunked,text/html,image/png,image/jpg,image/gif,application/xml,"
    "application/xhtml+xml,text/plain,text/javascript,publicprivatemax-age=gzip,deflate,sdchcharset=utf-8charset="
    "iso-8859-1,utf-,*,enq=0."
)
DICTIONARY = b"".join(
    _WORD.pack(len(word)) + word.replace("_", " ").encode() for word in _WORDS.split()
) + _TAIL.encode()  # fmt: skip


class SpdyError(Exception):
    """What came is no SPDY/3.1, or more than is taken; the session is over."""


class Type(IntEnum):
    SYN_STREAM = 1
    SYN_REPLY = 2
    RST_STREAM = 3
    SETTINGS = 4
    PING = 6
    GOAWAY = 7
    HEADERS = 8
    WINDOW_UPDATE = 9


class Reset(IntEnum):
    """Why a stream is broken off."""

    PROTOCOL_ERROR = 1
    INVALID_STREAM = 2
    REFUSED_STREAM = 3
    UNSUPPORTED_VERSION = 4
    CANCEL = 5
    INTERNAL_ERROR = 6
    FLOW_CONTROL_ERROR = 7
    STREAM_IN_USE = 8
    STREAM_ALREADY_CLOSED = 9
    INVALID_CREDENTIALS = 10
    FRAME_TOO_LARGE = 11


@dataclass(frozen=True, slots=True)
class Data:
    """A piece of a stream's data. A decoder gives the pieces of a frame as they come, `fin` with the last one."""

    stream: int
    data: bytes
    fin: bool = False


@dataclass(frozen=True, slots=True)
class SynStream:
    """A stream begins. Values of a header that stands several times are joined by NUL."""

    stream: int
    headers: Mapping[str, str]
    fin: bool = False
    priority: int = 0


@dataclass(frozen=True, slots=True)
class SynReply:
    stream: int
    headers: Mapping[str, str] = field(default_factory=dict)
    fin: bool = False


@dataclass(frozen=True, slots=True)
class Headers:
    """More headers of a stream that is under way."""

    stream: int
    headers: Mapping[str, str]
    fin: bool = False


@dataclass(frozen=True, slots=True)
class RstStream:
    stream: int
    status: int


@dataclass(frozen=True, slots=True)
class Settings:
    """Values by their number."""

    values: Mapping[int, int]


@dataclass(frozen=True, slots=True)
class Ping:
    """Odd numbers are a client's; the other side sends it back as it is."""

    id: int


@dataclass(frozen=True, slots=True)
class GoAway:
    last_stream: int
    status: int = 0


@dataclass(frozen=True, slots=True)
class WindowUpdate:
    stream: int
    delta: int


Frame = Data | SynStream | SynReply | Headers | RstStream | Settings | Ping | GoAway | WindowUpdate


class Encoder:
    """Of one direction of a session: header blocks build on the ones before, so frames go out in the order made."""

    def __init__(self) -> None:
        self._zip = zlib.compressobj(zdict=DICTIONARY)

    def encode(self, frame: Frame) -> bytes:
        match frame:
            case Data(stream, data, fin):
                return _HEAD.pack(stream & STREAM_MASK, fin << 24 | len(data)) + data
            case SynStream(stream, headers, fin, priority):
                body = struct.pack(">IIBB", stream, 0, priority << 5, 0) + self._block(headers)
                return _control(Type.SYN_STREAM, body, fin)
            case SynReply(stream, headers, fin):
                return _control(Type.SYN_REPLY, _WORD.pack(stream) + self._block(headers), fin)
            case Headers(stream, headers, fin):
                return _control(Type.HEADERS, _WORD.pack(stream) + self._block(headers), fin)
            case RstStream(stream, status):
                return _control(Type.RST_STREAM, _HEAD.pack(stream, status))
            case Settings(values):
                entries = b"".join(_HEAD.pack(number, value) for number, value in values.items())
                return _control(Type.SETTINGS, _WORD.pack(len(values)) + entries)
            case Ping(number):
                return _control(Type.PING, _WORD.pack(number))
            case GoAway(last, status):
                return _control(Type.GOAWAY, _HEAD.pack(last, status))
            case WindowUpdate(stream, delta):
                return _control(Type.WINDOW_UPDATE, _HEAD.pack(stream, delta))

    def _block(self, headers: Mapping[str, str]) -> bytes:
        pairs = [_WORD.pack(len(headers))]
        for name, value in headers.items():
            for text in (name.lower(), value):
                raw = text.encode("utf-8", "surrogateescape")
                pairs += [_WORD.pack(len(raw)), raw]
        return self._zip.compress(b"".join(pairs)) + self._zip.flush(zlib.Z_SYNC_FLUSH)


def _control(kind: Type, body: bytes, fin: bool = False) -> bytes:
    return _HEAD.pack(1 << 31 | VERSION << 16 | kind, fin << 24 | len(body)) + body


class Decoder:
    """Of one direction of a session. It holds one control frame at most, and no data."""

    def __init__(self) -> None:
        self._zip = zlib.decompressobj(zdict=DICTIONARY)
        self._buffer = bytearray()
        self._stream, self._left, self._fin = 0, 0, False  # of the Data frame that is coming

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are whole now, and the data that has come; take all of them. Raises SpdyError."""
        self._buffer += data
        while True:
            if self._left:
                if not self._buffer:
                    return
                piece = bytes(self._buffer[: self._left])
                del self._buffer[: len(piece)]
                self._left -= len(piece)
                yield Data(self._stream, piece, self._fin and not self._left)
                continue
            if len(self._buffer) < _HEAD.size:
                return
            first, second = _HEAD.unpack_from(self._buffer)
            flags, length = second >> 24, second & 0xFFFFFF
            if not first >> 31:
                del self._buffer[: _HEAD.size]
                self._stream, self._left, self._fin = first, length, bool(flags & FIN)
                if not length:
                    yield Data(first, b"", self._fin)
                continue
            if first >> 16 & 0x7FFF != VERSION:
                raise SpdyError(f"version {first >> 16 & 0x7FFF} of SPDY, expected {VERSION}")
            if length > CONTROL_LIMIT:
                raise SpdyError(f"a control frame of {length} bytes, at most {CONTROL_LIMIT} are taken")
            if len(self._buffer) < _HEAD.size + length:
                return
            body = bytes(self._buffer[_HEAD.size : _HEAD.size + length])
            del self._buffer[: _HEAD.size + length]
            if (frame := self._control(first & 0xFFFF, flags, body)) is not None:
                yield frame

    def _control(self, kind: int, flags: int, body: bytes) -> Frame | None:
        """None for a type that is not known: such are passed over."""
        fin = bool(flags & FIN)
        try:
            match kind:
                case Type.SYN_STREAM:
                    stream, _, priority, _ = struct.unpack_from(">IIBB", body)
                    return SynStream(stream & STREAM_MASK, self._headers(body[10:]), fin, priority >> 5)
                case Type.SYN_REPLY:
                    return SynReply(_stream(body), self._headers(body[4:]), fin)
                case Type.HEADERS:
                    return Headers(_stream(body), self._headers(body[4:]), fin)
                case Type.RST_STREAM:
                    return RstStream(_stream(body), _HEAD.unpack_from(body)[1])
                case Type.SETTINGS:
                    count = _WORD.unpack_from(body)[0]
                    pairs = [_HEAD.unpack_from(body, 4 + 8 * i) for i in range(count)]
                    return Settings({number & 0xFFFFFF: value for number, value in pairs})
                case Type.PING:
                    return Ping(_WORD.unpack_from(body)[0])
                case Type.GOAWAY:
                    return GoAway(_stream(body), _HEAD.unpack_from(body)[1])
                case Type.WINDOW_UPDATE:
                    return WindowUpdate(_stream(body), _HEAD.unpack_from(body)[1] & STREAM_MASK)
                case _:
                    return None
        except struct.error as err:
            raise SpdyError(f"a control frame of type {kind} ends too early") from err

    def _headers(self, block: bytes) -> dict[str, str]:
        try:
            raw = self._zip.decompress(block, HEADERS_LIMIT + 1)
        except zlib.error as err:
            raise SpdyError(f"headers cannot be unpacked: {err}") from err
        if len(raw) > HEADERS_LIMIT:
            raise SpdyError(f"headers of more than {HEADERS_LIMIT} bytes")
        headers: dict[str, str] = {}
        at, left = _WORD.size, _WORD.unpack_from(raw)[0]
        while left:
            texts = []
            for _ in range(2):
                length = _WORD.unpack_from(raw, at)[0]
                at += _WORD.size + length
                if at > len(raw):
                    raise SpdyError("a header is longer than its block")
                texts.append(raw[at - length : at].decode("utf-8", "surrogateescape"))
            headers[texts[0]] = texts[1]
            left -= 1
        return headers


def _stream(body: bytes) -> int:
    number: int = _WORD.unpack_from(body)[0]
    return number & STREAM_MASK
