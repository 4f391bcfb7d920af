"""SPDY frames: what is encoded comes back however it is cut, no SPDY is refused, nothing is held without end."""

from __future__ import annotations

import hashlib
import struct
import zlib
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubarium.machinery import spdy
from kubarium.machinery.spdy import Data, Decoder, Encoder, Frame, SpdyError

streams = st.integers(1, spdy.STREAM_MASK)
words = st.integers(0, 2**32 - 1)
headers = st.dictionaries(st.text(st.characters(codec="utf-8", exclude_categories=["Lu", "Lt"])), st.text(), max_size=5)
lowered = headers.map(lambda h: {k.lower(): v for k, v in h.items()})
fins = st.booleans()
frames: st.SearchStrategy[Frame] = st.one_of(
    st.builds(spdy.SynStream, streams, lowered, fins, st.integers(0, 7)),
    st.builds(spdy.SynReply, streams, lowered, fins),
    st.builds(spdy.Headers, streams, lowered, fins),
    st.builds(spdy.RstStream, streams, words),
    st.builds(spdy.Settings, st.dictionaries(st.integers(1, 2**24 - 1), words, max_size=4)),
    st.builds(spdy.Ping, words),
    st.builds(spdy.GoAway, streams, words),
    st.builds(spdy.WindowUpdate, streams, st.integers(1, spdy.STREAM_MASK)),
    st.builds(Data, streams, st.binary(max_size=300), fins),
)


def joined(found: list[Frame]) -> list[Frame]:
    """The pieces of a Data frame put together again (a frame ends where the next one is of another kind or stream)."""
    result: list[Frame] = []
    for frame in found:
        last = result[-1] if result else None
        if isinstance(frame, Data) and isinstance(last, Data) and last.stream == frame.stream and not last.fin:
            result[-1] = Data(frame.stream, last.data + frame.data, frame.fin)
        else:
            result.append(frame)
    return result


@given(st.lists(frames, max_size=8), st.lists(st.integers(0, 2000), max_size=8))
def test_frames_come_back_however_they_are_cut(sent: list[Frame], cuts: list[int]) -> None:
    encoder, decoder = Encoder(), Decoder()
    wire = b"".join(encoder.encode(frame) for frame in sent)
    edges = sorted({0, len(wire), *(cut for cut in cuts if cut < len(wire))})
    found = [frame for start, end in pairwise(edges) for frame in decoder.feed(wire[start:end])]
    assert joined(found) == joined(sent)


@given(st.lists(st.binary(max_size=400), max_size=5))
def test_noise_is_taken_or_refused_and_never_kept(pieces: list[bytes]) -> None:
    decoder = Decoder()
    try:
        for piece in pieces:
            for _ in decoder.feed(piece):
                pass
    except SpdyError:
        return
    assert len(decoder._buffer) <= spdy.CONTROL_LIMIT + 8


@given(st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_a_spoilt_frame_is_refused_or_read_as_another(at: int, noise: bytes) -> None:
    wire = bytearray(Encoder().encode(spdy.SynStream(1, {"streamtype": "data", "port": "80"})))
    wire[at : at + len(noise)] = noise
    try:
        for _ in Decoder().feed(bytes(wire)):
            pass
    except SpdyError:
        pass


def test_the_dictionary_is_that_of_the_protocol() -> None:
    assert hashlib.sha256(spdy.DICTIONARY).hexdigest().startswith("51d27341373f923f3cd88e1eb7162aea")


def test_a_frame_as_other_implementations_send_it() -> None:
    block = zlib.compressobj(9, zdict=spdy.DICTIONARY)
    pairs = struct.pack(">II4sI2s", 1, 4, b"port", 2, b"80")
    body = struct.pack(">IIBB", 3, 0, 0, 0) + block.compress(pairs) + block.flush(zlib.Z_SYNC_FLUSH)
    wire = b"\x80\x03\x00\x01\x01" + len(body).to_bytes(3, "big") + body
    assert list(Decoder().feed(wire)) == [spdy.SynStream(3, {"port": "80"}, fin=True)]


def test_data_is_given_as_it_comes() -> None:
    decoder, wire = Decoder(), Encoder().encode(Data(1, b"x" * 1_000_000, fin=True))
    assert list(decoder.feed(wire[:1000])) == [Data(1, b"x" * 992)]
    assert not decoder._buffer
    assert list(decoder.feed(wire[1000:])) == [Data(1, b"x" * 999_008, fin=True)]


def bomb() -> bytes:
    block = zlib.compressobj(9, zdict=spdy.DICTIONARY)
    body = struct.pack(">IIBB", 1, 0, 0, 0) + block.compress(b"\0" * 10_000_000) + block.flush(zlib.Z_SYNC_FLUSH)
    return b"\x80\x03\x00\x01\x00" + len(body).to_bytes(3, "big") + body


@pytest.mark.parametrize(
    ("wire", "text"),
    [
        pytest.param(b"\x80\x02\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01", "version 2", id="SPDY/2"),
        pytest.param(b"\x80\x03\x00\x01\x00\xff\xff\xff", "16777215 bytes", id="control frame too long"),
        pytest.param(b"\x80\x03\x00\x06\x00\x00\x00\x02\x00\x00", "type 6 ends too early", id="short ping"),
        pytest.param(b"\x80\x03\x00\x01\x00\x00\x00\x0e" + b"\x01" * 14, "cannot be unpacked", id="no zlib"),
        pytest.param(bomb(), "headers of more than", id="bomb"),
        pytest.param(b"\x80\x03\x00\x04\x00\x00\x00\x04\xff\xff\xff\xff", "type 4 ends", id="settings that lack"),
    ],
)
def test_what_is_no_spdy_is_refused(wire: bytes, text: str) -> None:
    with pytest.raises(SpdyError, match=text):
        list(Decoder().feed(wire))


def test_unknown_frames_are_passed_over() -> None:
    wire = b"\x80\x03\x00\x63\x00\x00\x00\x02xx" + Encoder().encode(spdy.Ping(1))
    assert list(Decoder().feed(wire)) == [spdy.Ping(1)]
