"""Errors of expressions in the words of cel-go, which Kubernetes shows; the library has some others.

Source: cel-go checker/errors.go, parser, common/error.go (the form), cel/validator.go (checks of literals).
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from apiserver.cel import formatting, macros, times, tree
from apiserver.cel.values import CelError

_BLOCK = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)", re.DOTALL)
_NOT_SELECTABLE = re.compile(r"expression of type '(.*)' cannot be the operand of a select operation")
_NO_MATCH = re.compile(r"found no matching overload for '([^']*)' applied to '\((.*)\)'")
_OPTIONAL = re.compile(r"optional_type<(?:[^<>]|<[^<>]*>)*>\(")
_UNKNOWN_NAME = re.compile(r"undeclared reference to '(\w+)((?:\.\w+)+)'").match
_PRIMITIVES = {1: "bool", 2: "int", 3: "uint", 4: "double", 5: "string", 6: "bytes"}
_WELL_KNOWN = {1: "any", 2: "timestamp", 3: "duration"}


def at(source: str, offset: int, text: str) -> str:
    """One error with the line and a mark below it."""
    line = source.count("\n", 0, offset) + 1
    column = offset - (source.rfind("\n", 0, offset) + 1)
    shown = source.split("\n")[line - 1]
    return f"ERROR: <input>:{line}:{column + 1}: {text}\n | {shown}\n | {'.' * column}^"


def translated(text: str, source: str) -> str:
    """What the library says, in order of places and without repetition."""
    text = text.removeprefix("INVALID_ARGUMENT: ").removesuffix(" [INVALID_ARGUMENT]")
    blocks: dict[str, tuple[int, int]] = {}
    for block in re.split(r"\n(?=ERROR: )", text):
        match = _BLOCK.match(block)
        if match is None:
            return text
        line, column = int(match[1]), int(match[2])
        if "'*error*'" in match[3]:
            continue  # follows from another one
        message, _, rest = match[3].partition("\n")
        shown = source.split("\n")[line - 1] if line else ""
        if (unknown := _UNKNOWN_NAME(message)) is not None:
            # of a name with dots, cel-go names the first part, and shows where that begins
            begin = column - 1 - len(unknown[1]) - len(unknown[2].rpartition(".")[0])
            if shown[begin : begin + len(unknown[1])] == unknown[1]:
                column, rest = begin + 1, f" | {shown}\n | {'.' * begin}^"
                message = f"undeclared reference to '{unknown[1]}' (in container '')"
        message = _message(message, shown[: column - 1])
        blocks.setdefault(f"ERROR: <input>:{line}:{column}: {message}\n{rest}", (line, column))
    return "\n".join(sorted(blocks, key=lambda block: blocks[block]))


def _message(text: str, before: str) -> str:
    """`before`: the line up to the place of the error."""
    text = _OPTIONAL.sub("optional_type(", text)
    text = re.sub(r" not found in struct '[^']*'", "", text).replace("'\\u003F'", "'?'")
    if (match := _NOT_SELECTABLE.search(text)) is not None:
        return f"type '{match[1]}' does not support field selection"
    if text == "has() argument must be a field selection":
        return "invalid argument to has() macro"
    match = _NO_MATCH.search(text)
    if match is not None and re.search(rf"\.\s*{re.escape(match[1])}\s*$", before):
        target, *args = _split(match[2])
        return f"found no matching overload for '{match[1]}' applied to '{target}.({', '.join(args)})'"
    return text


def _split(text: str) -> list[str]:
    parts, depth = [""], 0
    for char in text:
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts]


# --- literals


def literal_faults(found: tree.Tree, source: str) -> str:
    """Patterns, durations and times that are none, and lists and maps of mixed types; "" where all is well."""
    faults = dict(_faults(found, found.root, mixed=False))
    return "\n".join(at(source, found.places.get(node, 0), faults[node]) for node in sorted(faults))


def _faults(found: tree.Tree, expr: tree.Expr, *, mixed: bool) -> Iterator[tuple[int, str]]:
    """`mixed`: elements may be of several types, because they are to be formatted."""
    match expr:
        case tree.Call():
            yield from _call_faults(expr)
            if expr.function == "format":
                yield from formatting.faults(found, expr)
            mixed = mixed or expr.function == "format"
        case tree.ListOf() if not mixed:
            yield from _mixed(found, expr.items)
        case tree.MapOf() if not mixed and not expr.message:
            yield from _mixed(found, [key for key, _, _ in expr.entries if isinstance(key, tree.Expr)])
            yield from _mixed(found, [value for _, value, _ in expr.entries])
    for inner in macros.children(expr):
        yield from _faults(found, inner, mixed=mixed)


def _call_faults(expr: tree.Call) -> Iterator[tuple[int, str]]:
    from apiserver.custom import patterns

    last = expr.args[-1] if expr.args else None
    if not isinstance(last, tree.Const) or not isinstance(last.value, str):
        return
    try:
        if expr.function == "matches":
            patterns.compiled(last.value)
        elif expr.function == "duration" and expr.target is None:
            times.parse_duration(last.value)
        elif expr.function == "timestamp" and expr.target is None:
            times.parse_time(last.value)
    except (CelError, patterns.BadPattern):
        yield last.id, f"invalid {expr.function} argument"


def _mixed(found: tree.Tree, items: list[tree.Expr] | tuple[tree.Expr, ...]) -> Iterator[tuple[int, str]]:
    wanted: bytes | None = None
    for item in items:
        type_ = found.types.get(item.id)
        if type_ is None or type_name(type_) == "dyn":
            continue
        if wanted is None:
            wanted = type_
        elif type_ != wanted:
            yield item.id, f"expected type '{type_name(wanted)}' but found '{type_name(type_)}'"


def type_name(type_: bytes) -> str:
    """The name of a serialized type, as cel-go has it: `list(string)`."""
    from apiserver.protobuf.wire import records

    for number, _, value, end in records(type_, 0, len(type_), "Type"):
        match number:
            case 1:
                return "dyn"
            case 2:
                return "null"
            case 3:
                return _PRIMITIVES.get(value, "dyn")
            case 5:
                return _WELL_KNOWN.get(value, "dyn")
            case 6:
                inner = [type_name(type_[start:stop]) for _, _, start, stop in records(type_, value, end, "Type")]
                return f"list({', '.join(inner)})"
            case 7:
                inner = [type_name(type_[start:stop]) for _, _, start, stop in records(type_, value, end, "Type")]
                return f"map({', '.join(inner)})"
            case 9:
                return type_[value:end].decode()
            case 14:
                parts = [(number, start, stop) for number, _, start, stop in records(type_, value, end, "Type")]
                inner = [type_name(type_[start:stop]) for number, start, stop in parts if number == 2]
                name = "".join(type_[start:stop].decode() for number, start, stop in parts if number == 1)
                return f"{name}({', '.join(inner)})"
    return "dyn"
