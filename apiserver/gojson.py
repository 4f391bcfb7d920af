"""What Go's JSON scanner says of a text that is not JSON, and duplicate keys: both only on the way to an error.

Source: golang encoding/json scanner.go (the texts).
"""

from __future__ import annotations

import json
import re
from typing import Any

from apiserver.registry.faults import quoted

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?")
_SPACE = re.compile(r"[ \t\r\n]*")
_NESTING = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]')
MAX_DEPTH = 200  # of what decodes a body; upstream's is 10,000
_END = "unexpected end of JSON input"
_LITERALS = {"t": "true", "f": "false", "n": "null"}


class _Fault(Exception):
    pass


def quote_char(c: str) -> str:
    """A character as Go's scanner prints it."""
    return {"'": r"'\''", '"': "'\"'"}.get(c) or f"'{quoted(c)[1:-1]}'"


def syntax_error(text: str) -> str:
    """The first thing that keeps `text` from being one JSON value; "" where it is one."""
    try:
        end = _space(text, _value(text, _space(text, 0), "looking for beginning of value"))
        if end < len(text):
            _bad(text, end, "after top-level value")
    except _Fault as fault:
        return str(fault)
    except RecursionError:
        return too_deep(text)
    return ""


def too_deep(text: str) -> str:
    """Of a value that nests deeper than anybody decodes: the bracket that is the first one too many."""
    depth = 0
    for found in _NESTING.finditer(text):
        c = found.group()[0]
        depth += 1 if c in "[{" else -1 if c in "]}" else 0
        if depth > MAX_DEPTH:
            return f"invalid character {quote_char(c)} exceeded max depth"
    return "exceeded max depth"


def _bad(text: str, at: int, context: str) -> None:
    if at >= len(text):
        raise _Fault(_END)
    raise _Fault(f"invalid character {quote_char(text[at])} {context}")


def _space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _value(text: str, at: int, context: str) -> int:
    c = text[at : at + 1]
    if c == "{":
        return _members(text, at + 1, "}", "object")
    if c == "[":
        return _members(text, at + 1, "]", "array")
    if c == '"':
        return _string(text, at + 1)
    if c in _LITERALS and c:
        return _literal(text, at, _LITERALS[c])
    if c == "-" or c.isdigit():
        return _number(text, at)
    _bad(text, at, context)
    return at


def _members(text: str, at: int, close: str, kind: str) -> int:
    at = _space(text, at)
    if text[at : at + 1] == close:
        return at + 1
    while True:
        at = _space(text, at)
        if kind == "object":
            at = _key(text, at)
        at = _space(text, _value(text, _space(text, at), "looking for beginning of value"))
        c = text[at : at + 1]
        if c == close:
            return at + 1
        if c != ",":
            _bad(text, at, "after object key:value pair" if kind == "object" else "after array element")
        at += 1


def _key(text: str, at: int) -> int:
    if text[at : at + 1] != '"':
        _bad(text, at, "looking for beginning of object key string")
    at = _space(text, _string(text, at + 1))
    if text[at : at + 1] != ":":
        _bad(text, at, "after object key")
    return at + 1


def _string(text: str, at: int) -> int:
    while True:
        c = text[at : at + 1]
        if c == '"':
            return at + 1
        if c == "\\":
            at = _escape(text, at + 1)
            continue
        if not c or ord(c) < 0x20:
            _bad(text, at, "in string literal")
        at += 1


def _escape(text: str, at: int) -> int:
    c = text[at : at + 1]
    if c == "u":
        for i in range(1, 5):
            if text[at + i : at + i + 1] not in "0123456789abcdefABCDEF" or at + i >= len(text):
                _bad(text, at + i, "in \\u hexadecimal character escape")
        return at + 5
    if not c or c not in 'bfnrt\\/"':
        _bad(text, at, "in string escape code")
    return at + 1


def _literal(text: str, at: int, word: str) -> int:
    for i, expected in enumerate(word):
        if text[at + i : at + i + 1] != expected:
            _bad(text, at + i, f"in literal {word} (expecting {quote_char(expected)})")
    return at + len(word)


def _number(text: str, at: int) -> int:
    match = _NUMBER.match(text, at)
    if not match:
        _bad(text, at + 1, "in numeric literal")
        return at
    following = text[match.end() : match.end() + 1]
    if following == ".":
        _bad(text, match.end() + 1, "after decimal point in numeric literal")
    if following in ("e", "E") and following:
        _bad(text, match.end() + 1, "in exponent of numeric literal")
    return match.end()


class Pairs(list[tuple[str, Any]]):
    """An object with all its pairs, in order, repeated keys included."""


def with_duplicates(text: str) -> tuple[Any, list[str]]:
    """The value (the last of repeated keys wins) and the paths of the keys that come again: `spec.ports[0].port`."""
    found: list[str] = []

    def plain(value: Any, path: str) -> Any:
        if isinstance(value, Pairs):
            out: dict[str, Any] = {}
            for key, item in value:
                inner = f"{path}.{key}" if path else key
                if key in out and inner not in found:
                    found.append(inner)
                out[key] = plain(item, inner)
            return out
        if isinstance(value, list):
            return [plain(item, f"{path}[{i}]") for i, item in enumerate(value)]
        return value

    return plain(json.loads(text, object_pairs_hook=Pairs), ""), found
