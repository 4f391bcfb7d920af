"""Functions of strings: cel-go's strings library (version 2) and Kubernetes' regular expressions.

Source: cel-go ext/strings.go and formatting.go; Kubernetes documentation, "Kubernetes regex library".
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from math import isfinite, isnan
from typing import Any

from apiserver.cel import conversions, formatting
from apiserver.cel.values import CelError, UInt, is_list, is_map, type_name
from apiserver.registry.faults import quoted


def _text(*values: Any) -> None:
    if not all(isinstance(value, str) for value in values):
        raise TypeError


def char_at(text: str, at: int) -> str:
    _text(text)
    if at < 0 or at > len(text):
        raise CelError(f"index out of range: {at}")
    return text[at : at + 1]


def index_of(text: str, part: str, start: int = 0) -> int:
    _text(text, part)
    if not part:
        return start
    if start < 0:
        raise CelError(f"index out of range: {start}")
    return text.find(part, start)


def last_index_of(text: str, part: str, end: int | None = None) -> int:
    _text(text, part)
    if not part:
        return len(text) if end is None else end
    if end is not None and end < 0:
        raise CelError(f"index out of range: {end}")
    if end is not None and end >= len(text):
        return -1
    return text.rfind(part) if end is None else text.rfind(part, 0, end + len(part))


def join(items: Any, separator: str = "") -> str:
    if not is_list(items):
        raise TypeError
    parts = list(items)
    if not all(isinstance(part, str) for part in parts):
        raise CelError(f"join: invalid input: {parts}")
    return separator.join(parts)


def replace(text: str, old: str, new: str, count: int = -1) -> str:
    _text(text, old, new)
    return text if count == 0 else text.replace(old, new, count)


def split(text: str, separator: str, count: int = -1) -> list[str]:
    _text(text, separator)
    if count == 0:
        return []
    if not separator:
        parts = list(text)
        return parts if count < 0 or len(parts) <= count else [*parts[: count - 1], "".join(parts[count - 1 :])]
    return text.split(separator) if count < 0 else text.split(separator, count - 1)


def substring(text: str, start: int, end: int | None = None) -> str:
    _text(text)
    stop = len(text) if end is None else end
    if start < 0 or start > len(text):
        raise CelError(f"index out of range: {start}")
    if stop < 0 or stop > len(text):
        raise CelError(f"index out of range: {stop}")
    if start > stop:
        raise CelError(f"invalid substring range. start: {start}, end: {stop}")
    return text[start:stop]


def _ascii(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: "".join(change(c) if c.isascii() else c for c in text)


def quote(text: str) -> str:
    escapes = {7: "\\a", 8: "\\b", 12: "\\f", 10: "\\n", 13: "\\r", 9: "\\t", 11: "\\v", 92: "\\\\", 34: '\\"'}
    return f'"{text.translate(escapes)}"'


def find(text: str, pattern: str) -> str:
    found = _compiled(pattern).search(text)
    return str(found.group(0)) if found is not None else ""


def find_all(text: str, pattern: str, count: int = -1) -> list[str]:
    found = [match.group(0) for match in _compiled(pattern).finditer(text)]
    return found if count < 0 else found[:count]


def _compiled(pattern: str) -> Any:
    from apiserver.custom import patterns

    try:
        return patterns.compiled(pattern)
    except patterns.BadPattern as err:
        raise CelError(f"Illegal regex: {err}") from err


# --- format


def format_(text: str, args: Any) -> str:
    """`"%s is %d".format(["a", 1])`."""
    _text(text)
    values, out, at, used = list(args), "", 0, 0
    while at < len(text):
        if text[at] != "%":
            out += text[at]
            at += 1
            continue
        at += 1
        if text[at : at + 1] == "%":
            out += "%"
            at += 1
            continue
        if used >= len(values):
            raise CelError(f"index {used} out of range")
        precision, at = _precision(text, at)
        clause = text[at : at + 1]
        at += 1
        out += _clause(clause, values[used], precision)
        used += 1
    return out


def _precision(text: str, at: int) -> tuple[int, int]:
    if text[at : at + 1] != ".":
        return 6, at
    end = at + 1
    while text[end : end + 1].isdigit():
        end += 1
    return int(text[at + 1 : end] or 0), end


def _clause(clause: str, value: Any, precision: int) -> str:
    known = formatting.CLAUSES.get(clause)
    if known is None:
        text = f'could not parse formatting clause: unrecognized formatting clause "{clause}"'
        raise CelError(f"error during formatting: {text}")
    whole = isinstance(value, int) and not isinstance(value, bool)
    match clause:
        case "s":
            return shown(value)
        case "d" if whole:
            return shown(value)
        case "f" | "e" if isinstance(value, float):
            return _number(value, precision, scientific=clause == "e")
        case "b" if isinstance(value, int):
            return f"{int(value):b}"
        case "o" if whole:
            return f"{value:o}"
        case "x" | "X" if whole or isinstance(value, str | bytes):
            found = f"{value:x}" if whole else (value.encode() if isinstance(value, str) else value).hex()
            return found.upper() if clause == "X" else found
    raise CelError(f"error during formatting: {known.text}, was given {type_name(value)}")


def shown(value: Any) -> str:
    """A value as `%s` has it."""
    if is_list(value):
        return f"[{', '.join(map(_literal, value))}]"
    if is_map(value):
        pairs = sorted((_literal(key), _literal(value[key])) for key in value)
        return "{" + ", ".join(f"{key}:{item}" for key, item in pairs) + "}"
    if value is None:
        return "null"
    if isinstance(value, bool | str | int | float | bytes | datetime | timedelta | UInt):
        return conversions.to_string(value)
    return type_name(value) if not hasattr(value, "name") else str(value.name)


def _literal(value: Any) -> str:
    """An element of a list or map, as CEL writes it."""
    text = shown(value)
    if isinstance(value, str):
        return quoted(text)
    if isinstance(value, bytes):
        return f"b{quoted(text)}"
    if isinstance(value, float):
        return f"{value:.6f}" if isfinite(value) else quoted(text)
    if isinstance(value, datetime):
        return f"timestamp({quoted(text)})"
    return f"duration({quoted(text)})" if isinstance(value, timedelta) else text


def _number(value: float, precision: int, *, scientific: bool) -> str:
    """As in American English: `1,234.50`, `1.050000×10⁰³`; the precision of the latter is always 6."""
    if not isfinite(value):
        return "NaN" if isnan(value) else "∞" if value > 0 else "-∞"
    if not scientific:
        return f"{value:,.{precision}f}"
    mantissa, _, exponent = f"{value:.6e}".partition("e")
    raised = exponent.removeprefix("+").translate(_RAISED)
    return f"{mantissa}×10{raised}"


_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "charAt": char_at,
    "indexOf": index_of,
    "lastIndexOf": last_index_of,
    "join": join,
    "lowerAscii": _ascii(str.lower),
    "upperAscii": _ascii(str.upper),
    "replace": replace,
    "split": split,
    "substring": substring,
    "trim": lambda text: text.strip(),
    "format": format_,
    "strings.quote": quote,
    "find": find,
    "findAll": find_all,
}
