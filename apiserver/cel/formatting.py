"""Format strings that are written out, checked against the types of what they format.

Source: cel-go ext/formatting.go (clauses, texts).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from apiserver.cel import tree

_CLAUSE = re.compile(r"%(?:%|(?:\.\d+)?(.?))", re.DOTALL)
_WHOLE = ("int", "uint")
_ANYTHING = (*_WHOLE, "string", "double", "bool", "timestamp", "bytes", "duration", "type", "null", "list", "map")


class Clause(NamedTuple):
    """The types that a clause takes, and what is said of others."""

    types: tuple[str, ...]
    text: str


CLAUSES = {
    "s": Clause(
        _ANYTHING,
        "string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and "
        "timestamps",
    ),
    "d": Clause(_WHOLE, "decimal clause can only be used on integers"),
    "f": Clause(("double", "string"), "fixed-point clause can only be used on doubles"),
    "e": Clause(("double", "string"), "scientific clause can only be used on doubles"),
    "b": Clause((*_WHOLE, "bool"), "only integers and bools can be formatted as binary"),
    "x": Clause((*_WHOLE, "string", "bytes"), "only integers, byte buffers, and strings can be formatted as hex"),
    "o": Clause(_WHOLE, "octal clause can only be used on integers"),
}
CLAUSES["X"] = CLAUSES["x"]


def faults(found: tree.Tree, expr: tree.Call) -> Iterator[tuple[int, str]]:
    """The first fault of `'...'.format([...])`, with the node it is at."""
    from apiserver.cel.texts import type_name

    target, args = expr.target, expr.args
    if not isinstance(target, tree.Const) or not isinstance(target.value, str) or len(args) != 1:
        return
    if not isinstance(args[0], tree.ListOf):
        return
    items, used = args[0].items, 0
    for match in _CLAUSE.finditer(target.value):
        if match[0] == "%%":
            continue
        clause = CLAUSES.get(match[1] or "")
        if clause is None:
            text = f'could not parse formatting clause: unrecognized formatting clause "{match[1] or ""}"'
            yield expr.id, text
            return
        if used >= len(items):
            yield expr.id, f"index {used} out of range"
            return
        for part in _parts(items[used]) if match[1] == "s" else (items[used],):
            name = type_name(found.types.get(part.id, b"")).partition("(")[0]
            if name != "dyn" and name not in clause.types:
                yield part.id, f"error during formatting: {clause.text}, was given {name}"
                return
        used += 1
    if used < len(items):
        yield expr.id, f"too many arguments supplied to string.format (expected {used}, got {len(items)})"


def _parts(expr: tree.Expr) -> Iterator[tree.Expr]:
    """A value, and what is in it where it is written out."""
    yield expr
    if isinstance(expr, tree.ListOf):
        for item in expr.items:
            yield from _parts(item)
    elif isinstance(expr, tree.MapOf):
        for key, value, _ in expr.entries:
            if isinstance(key, tree.Expr):
                yield from _parts(key)
            yield from _parts(value)
