"""Records of a protobuf message: field numbers with numbers or stretches of bytes. Nothing is known of their meaning.

Source: protobuf.dev "Encoding"; the texts of errors are those of the Go code that the API server has for its messages.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, LEN, GROUP, END_GROUP, FIXED32 = range(6)
_WIDTHS = {FIXED64: 8, FIXED32: 4}
_MAX_NUMBER = (1 << 29) - 1
_NEGATIVE = 1 << 63

Record = tuple[int, int, int, int]
"""(field number, wire type, value, 0) of a varint, (field number, wire type, start, end) of anything else."""


class Malformed(ValueError):
    """The bytes are no message, or not the one they should be."""


def varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """An unsigned number of 64 bits, and where it ends. Raises Malformed."""
    value = shift = 0
    while True:
        if shift >= 64:
            raise Malformed("proto: integer overflow")
        if at >= end:
            raise Malformed("unexpected EOF")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
        shift += 7


def records(data: bytes, at: int, end: int, message: str) -> Iterator[Record]:
    """The records of `data[at:end]` in their order. Raises Malformed, naming `message` (`core.v1.Pod`)."""
    while at < end:
        tag, at = varint(data, at, end)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == END_GROUP:
            raise Malformed(f"proto: {_short(message)}: wiretype end group for non-group")
        if not 0 < number <= _MAX_NUMBER:
            raise Malformed(f"proto: {_short(message)}: illegal tag {number} (wire type {wire_type})")
        if wire_type == VARINT:
            value, at = varint(data, at, end)
            yield number, wire_type, value, 0
        else:
            start, stop = _stretch(data, at, end, wire_type)
            yield number, wire_type, start, stop
            at = stop


def _stretch(data: bytes, at: int, end: int, wire_type: int) -> tuple[int, int]:
    """Where the bytes of a record start and end, its length left aside. Raises Malformed."""
    if wire_type == GROUP:
        return at, _end_of_group(data, at, end)
    if wire_type == LEN:
        length, at = varint(data, at, end)
        if length >= _NEGATIVE:
            raise Malformed("proto: negative length found during unmarshaling")
    elif wire_type in _WIDTHS:
        length = _WIDTHS[wire_type]
    else:
        raise Malformed(f"proto: illegal wireType {wire_type}")
    if length > end - at:
        raise Malformed("unexpected EOF")
    return at, at + length


def _end_of_group(data: bytes, at: int, end: int) -> int:
    """Past the tag that closes the group whose first record is at `at`. Raises Malformed."""
    open_groups = 1
    while open_groups:
        tag, at = varint(data, at, end)
        wire_type = tag & 7
        if wire_type == GROUP:
            open_groups += 1
        elif wire_type == END_GROUP:
            open_groups -= 1
        elif wire_type == VARINT:
            _, at = varint(data, at, end)
        else:
            _, at = _stretch(data, at, end, wire_type)
    return at


def _short(message: str) -> str:
    return message.rpartition(".")[2]
