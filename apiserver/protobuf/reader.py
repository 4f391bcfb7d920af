"""Messages into the dicts that JSON bodies would give, by the tables of `table.py`.

What is on the wire is there, zero values too: whether those are written is the business of the type (`schemas.shape`),
as for JSON. Repeated scalars may be packed or not, unknown fields are skipped, a message that comes twice is merged.
Source: protobuf.dev "Encoding".
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Callable, Iterator
from typing import Any

import jiter

from apiserver.protobuf import wire
from apiserver.protobuf.special import SPECIAL
from apiserver.protobuf.table import Field, fields
from apiserver.protobuf.wire import Malformed

Json = dict[str, Any]

MAX_DEPTH = 200  # of the JSON form, as for JSON bodies
MAX_VALUES = 500_000  # in one body: few bytes can stand for very many empty messages

_INTEGRAL = 1e21  # from here on Go writes numbers with an exponent


def _integer(bits: int) -> Callable[[int], int]:
    mask, half = (1 << bits) - 1, 1 << (bits - 1)
    return lambda value: ((value & mask) ^ half) - half


_VARINTS: dict[str, Callable[[int], Any]] = {"int32": _integer(32), "int64": _integer(64), "bool": bool}


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _double(data: bytes) -> float | int:
    (value,) = struct.unpack("<d", data)
    if not math.isfinite(value):
        raise Malformed(f"json: unsupported value: {value}")
    return int(value) if value.is_integer() and abs(value) < _INTEGRAL else float(value)


_BYTES: dict[str, Callable[[bytes], Any]] = {"string": _text, "bytes": _base64, "raw": bytes, "double": _double}
_ZEROS: dict[str, Any] = {"string": "", "bytes": "", "raw": b"", "double": 0, "int32": 0, "int64": 0, "bool": False}


def read(message: str, data: bytes) -> Json:
    """A message of that name (`core.v1.Pod`). Raises Malformed; KeyError where there is no such message."""
    return _Reader(data).message(message, 0, len(data), 1, {})


class _Reader:
    """One walk over the bytes of a body. Positions are offsets in them; `depth` is that of the JSON form."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._values = 0

    def message(self, name: str, at: int, end: int, depth: int, into: Json) -> Json:
        """`into`, with what the message has: it may come in pieces."""
        if depth > MAX_DEPTH:
            raise Malformed("exceeded max depth")
        known = fields(name)
        for number, wire_type, start, stop in wire.records(self._data, at, end, name):
            self._count(1)
            field = known.get(number)
            if field is not None:
                self._put(field, wire_type, start, stop, depth, into)
        return into

    def _count(self, values: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise Malformed(f"too many values: limit is {MAX_VALUES}")

    def _put(self, field: Field, wire_type: int, start: int, stop: int, depth: int, into: Json) -> None:
        name = field.name
        if field.repeated:
            into.setdefault(name, []).extend(self._items(field, wire_type, start, stop, depth + 2))
        elif field.mapped:
            key, value = self._entry(field, wire_type, start, stop, depth + 2)
            into.setdefault(name, {})[key] = value
        elif not name:
            _expect(field, wire_type, wire.LEN)
            self.message(field.type, start, stop, depth + 1, into)
        elif (value := self._value(field, wire_type, start, stop, depth + 1, into.get(name))) is not None:
            into[name] = value

    def _items(self, field: Field, wire_type: int, start: int, stop: int, depth: int) -> Iterator[Any]:
        if field.type in _VARINTS and wire_type == wire.LEN:
            while start < stop:
                value, start = wire.varint(self._data, start, stop)
                self._count(1)
                yield _VARINTS[field.type](value)
        else:
            yield self._value(field, wire_type, start, stop, depth)

    def _entry(self, field: Field, wire_type: int, start: int, stop: int, depth: int) -> tuple[str, Any]:
        """A map's entry is a message of a key and a value; either may be left out where it is empty."""
        _expect(field, wire_type, wire.LEN)
        key, value = "", self._nothing(field)
        for number, inner_type, inner_start, inner_stop in wire.records(self._data, start, stop, field.name):
            if number == 1:
                _expect(field, inner_type, wire.LEN)
                key = _text(self._data[inner_start:inner_stop])
            elif number == 2:
                value = self._value(field, inner_type, inner_start, inner_stop, depth)
        return key, value

    def _nothing(self, field: Field) -> Any:
        if field.type in _ZEROS:
            return _ZEROS[field.type]
        return SPECIAL[field.type]({}) if field.type in SPECIAL else {}

    def _value(self, field: Field, wire_type: int, start: int, stop: int, depth: int, before: Any = None) -> Any:
        """One value, None where JSON has null. `before` is what came of the field until now."""
        if field.type in _VARINTS:
            _expect(field, wire_type, wire.VARINT)
            return _VARINTS[field.type](start)
        _expect(field, wire_type, wire.FIXED64 if field.type == "double" else wire.LEN)
        if field.type in _BYTES:
            return _BYTES[field.type](self._data[start:stop])
        if field.type == "json":
            return self._document(start, stop, depth)
        if field.type in SPECIAL:
            return SPECIAL[field.type](self.message(field.type, start, stop, depth, {}))
        return self.message(field.type, start, stop, depth, {} if before is None else before)

    def _document(self, start: int, stop: int, depth: int) -> Any:
        """A JSON document inside a message, None where there is none."""
        if start == stop:
            return None
        try:
            document = jiter.from_json(self._data[start:stop], allow_inf_nan=False)
        except ValueError as err:
            raise Malformed(f"{err}: expected a JSON document") from err
        _check_depth(document, MAX_DEPTH - depth)
        return document


def _expect(field: Field, wire_type: int, expected: int) -> None:
    if wire_type != expected:
        raise Malformed(f"proto: wrong wireType = {wire_type} for field {field.name or field.type}")


def _check_depth(document: Any, limit: int) -> None:
    """Level by level, so that the check itself cannot go too deep."""
    level = [document]
    while level := [item for inner in level for item in _inside(inner)]:
        limit -= 1
        if limit < 0:
            raise Malformed("exceeded max depth")


def _inside(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value
