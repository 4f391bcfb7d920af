"""Checked expressions as trees, read from the serialized form that the CEL library gives.

Source: https://github.com/google/cel-spec proto/cel/expr/syntax.proto and checked.proto (field numbers).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from apiserver.protobuf.wire import LEN, VARINT, records


@dataclass(frozen=True, slots=True)
class Expr:
    """`id` numbers the nodes of one expression."""

    id: int


@dataclass(frozen=True, slots=True)
class Const(Expr):
    value: Any


@dataclass(frozen=True, slots=True)
class Ident(Expr):
    name: str


@dataclass(frozen=True, slots=True)
class Select(Expr):
    """`test`: has(operand.field)."""

    operand: Expr
    field: str
    test: bool = False


@dataclass(frozen=True, slots=True)
class Call(Expr):
    function: str
    target: Expr | None
    args: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class ListOf(Expr):
    items: tuple[Expr, ...]
    optional: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class MapOf(Expr):
    """Key, value, and whether the value is an optional one. `message` names a type whose fields the keys are."""

    entries: tuple[tuple[Expr | str, Expr, bool], ...]
    message: str = ""


@dataclass(frozen=True, slots=True)
class Fold(Expr):
    """A comprehension; `second` is the name of the value where the first is the key."""

    range: Expr
    variable: str
    accumulator: str
    start: Expr
    condition: Expr
    step: Expr
    result: Expr
    second: str = ""


@dataclass(frozen=True, slots=True)
class UInt:
    value: int


@dataclass(frozen=True, slots=True)
class Tree:
    """`overloads`: of calls, by node. `names`: what identifiers and qualified names stand for."""

    root: Expr
    overloads: dict[int, tuple[str, ...]] = field(default_factory=dict)
    names: dict[int, str] = field(default_factory=dict)
    types: dict[int, bytes] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)  # in the text, in characters from its start


_CHECKED, _PARSED = "cel.expr.CheckedExpr", "cel.expr.ParsedExpr"


def read(data: bytes) -> Tree:
    """Of a serialized expression, checked or only parsed."""
    url, body = "", (0, 0)
    for number, _, start, end in records(data, 0, len(data), "Any"):
        if number == 1:
            url = data[start:end].decode()
        elif number == 2:
            body = (start, end)
    reader = _Reader(data)
    return reader.parsed(*body) if url.endswith(_PARSED) else reader.checked(*body)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def _records(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        return records(self._data, at, end, "Expr")

    def _text(self, at: int, end: int) -> str:
        return self._data[at:end].decode()

    def parsed(self, at: int, end: int) -> Tree:
        for number, _, start, stop in self._records(at, end):
            if number == 2:
                return Tree(self.expr(start, stop))
        raise ValueError("a parsed expression without an expression")

    def checked(self, at: int, end: int) -> Tree:
        root: Expr | None = None
        overloads: dict[int, tuple[str, ...]] = {}
        names: dict[int, str] = {}
        types: dict[int, bytes] = {}
        places: dict[int, int] = {}
        for number, _, start, stop in self._records(at, end):
            if number == 2:
                node, (begin, finish) = self._entry(start, stop)
                name, found = self._reference(begin, finish)
                if found:
                    overloads[node] = found
                if name:
                    names[node] = name
            elif number == 3:
                node, (begin, finish) = self._entry(start, stop)
                types[node] = self._data[begin:finish]
            elif number == 4:
                root = self.expr(start, stop)
            elif number == 5:
                places = self._places(start, stop)
        if root is None:
            raise ValueError("a checked expression without an expression")
        return Tree(root, overloads, names, types, places)

    def _places(self, at: int, end: int) -> dict[int, int]:
        found = {}
        for number, _, start, stop in self._records(at, end):
            if number == 4:
                parts = {inner: value for inner, _, value, _ in self._records(start, stop)}
                found[parts.get(1, 0)] = parts.get(2, 0)
        return found

    def _entry(self, at: int, end: int) -> tuple[int, tuple[int, int]]:
        key, value = 0, (at, at)
        for number, _, start, stop in self._records(at, end):
            if number == 1:
                key = start
            else:
                value = (start, stop)
        return key, value

    def _reference(self, at: int, end: int) -> tuple[str, tuple[str, ...]]:
        name, overloads = "", []
        for number, _, start, stop in self._records(at, end):
            if number == 1:
                name = self._text(start, stop)
            elif number == 3:
                overloads.append(self._text(start, stop))
        return name, tuple(overloads)

    def expr(self, at: int, end: int) -> Expr:
        node, kind, place = 0, 0, (at, at)
        for number, _, start, stop in self._records(at, end):
            if number == 2:
                node = start
            else:
                kind, place = number, (start, stop)
        match kind:
            case 3:
                return Const(node, self._constant(*place))
            case 4:
                return Ident(node, self._only_text(*place))
            case 5:
                return self._select(node, *place)
            case 6:
                return self._call(node, *place)
            case 7:
                return self._list(node, *place)
            case 8:
                return self._map(node, *place)
            case 9:
                return self._fold(node, *place)
        raise ValueError(f"an expression of an unknown kind: {kind}")

    def _only_text(self, at: int, end: int) -> str:
        for _, _, start, stop in self._records(at, end):
            return self._text(start, stop)
        return ""

    def _constant(self, at: int, end: int) -> Any:
        for number, kind, start, stop in self._records(at, end):
            match number:
                case 1:
                    return None
                case 2:
                    return bool(start)
                case 3:
                    return start - (1 << 64) if start >> 63 else start
                case 4:
                    return UInt(start)
                case 5:
                    return struct.unpack("<d", self._data[start:stop])[0]
                case 6:
                    return self._text(start, stop)
                case 7:
                    return self._data[start:stop]
            assert kind in (VARINT, LEN)
        return None

    def _select(self, node: int, at: int, end: int) -> Expr:
        operand, name, test = Const(0, None), "", False
        found: Expr = operand
        for number, _, start, stop in self._records(at, end):
            if number == 1:
                found = self.expr(start, stop)
            elif number == 2:
                name = self._text(start, stop)
            else:
                test = bool(start)
        return Select(node, found, name, test)

    def _call(self, node: int, at: int, end: int) -> Expr:
        target, function, args = None, "", []
        for number, _, start, stop in self._records(at, end):
            if number == 1:
                target = self.expr(start, stop)
            elif number == 2:
                function = self._text(start, stop)
            else:
                args.append(self.expr(start, stop))
        return Call(node, function, target, tuple(args))

    def _list(self, node: int, at: int, end: int) -> Expr:
        items, optional = [], set()
        for number, kind, start, stop in self._records(at, end):
            if number == 1:
                items.append(self.expr(start, stop))
            elif kind == VARINT:
                optional.add(start)
            else:
                optional |= set(self._data[start:stop])  # packed; indices above 127 do not come
        return ListOf(node, tuple(items), frozenset(optional))

    def _map(self, node: int, at: int, end: int) -> Expr:
        message, entries = "", []
        for number, _, start, stop in self._records(at, end):
            if number == 1:
                message = self._text(start, stop)
            else:
                entries.append(self._map_entry(start, stop))
        return MapOf(node, tuple(entries), message)

    def _map_entry(self, at: int, end: int) -> tuple[Expr | str, Expr, bool]:
        key: Expr | str = ""
        value: Expr = Const(0, None)
        optional = False
        for number, _, start, stop in self._records(at, end):
            if number == 2:
                key = self._text(start, stop)
            elif number == 3:
                key = self.expr(start, stop)
            elif number == 4:
                value = self.expr(start, stop)
            elif number == 5:
                optional = bool(start)
        return key, value, optional

    def _fold(self, node: int, at: int, end: int) -> Expr:
        names: dict[int, str] = {}
        parts: dict[int, Expr] = {}
        for number, _, start, stop in self._records(at, end):
            if number in (1, 3, 8):
                names[number] = self._text(start, stop)
            else:
                parts[number] = self.expr(start, stop)
        return Fold(node, parts[2], names[1], names[3], parts[4], parts[5], parts[6], parts[7], names.get(8, ""))
