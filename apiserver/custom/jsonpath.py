"""Paths of printer columns and selectable fields: `.spec.replicas`, `.status.conditions[?(@.type=="Ready")].status`.

Source: Kubernetes documentation, "JSONPath Support"; k8s.io/client-go/util/jsonpath (what is text and what a path).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from apiserver.custom.findings import go_number

Step = Callable[[Any], Iterator[Any]]

_NAME = re.compile(r"[^\s.\[\]()=!<>{}'\"|,:@?&*]+|\*")
_FILTER = re.compile(r"\s*(.+?)\s*(==|!=|<=|>=|<|>|=~)\s*(.+?)\s*$")
_FILTER_END = re.compile(r"\)\s*\]")


class BadPath(ValueError):
    """Not a path."""


def parse(text: str) -> Callable[[Any], list[Any]]:
    """From a path to a function that gives every value found at it; keys that are missing find nothing.

    Raises BadPath.
    """
    steps = list(_steps(text))

    def find(value: Any) -> list[Any]:
        values = [value]
        for step in steps:
            values = [found for one in values for found in step(one)]
        return values

    return find


def _steps(text: str) -> Iterator[Step]:
    at, end = 0, len(text)
    if text[:1] in ("$", "@"):
        at = 1
    while at < end:
        if text.startswith("..", at):
            at += 2
            yield _descend
            if (match := _NAME.match(text, at)) is not None:
                at = match.end()
                yield _field(match.group())
        elif text[at] == ".":
            at += 1
            name, at = _name(text, at)
            if name:
                yield _field(name)
        elif text[at] == "[":
            step, at = _bracket(text, at + 1)
            yield step
        else:
            name, at = _name(text, at)
            if not name:
                raise BadPath(f"unrecognized character in action: {text[at]!r}")
            yield _field(name)


def _name(text: str, at: int) -> tuple[str, int]:
    """A name; a backslash takes away the meaning of the dot after it."""
    out = ""
    while at < len(text):
        if text[at] == "\\" and at + 1 < len(text):
            out += text[at + 1]
            at += 2
        elif (match := re.compile(r"[^\s.\[\]()=!<>{}'\"|,\\]").match(text, at)) is not None:
            out += match.group()
            at += 1
        else:
            break
    return out, at


def _field(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if name == "*":
            yield from value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        elif isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _descend(value: Any) -> Iterator[Any]:
    yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _descend(inner)


def _bracket(text: str, at: int) -> tuple[Step, int]:
    if text.startswith("?(", at):
        match = _FILTER_END.search(text, at)
        if match is None:
            raise BadPath("unterminated filter")
        return _filter(text[at + 2 : match.start()]), match.end()
    if text[at : at + 1] in ("'", '"'):
        quote = text[at]
        close = text.find(quote, at + 1)
        if close < 0 or text[close + 1 : close + 2] != "]":
            raise BadPath("unterminated quoted string")
        return _field(text[at + 1 : close]), close + 2
    close = text.find("]", at)
    if close < 0:
        raise BadPath("unterminated array")
    return _index(text[at:close].strip()), close + 1


def _index(text: str) -> Step:
    if text == "*":
        return _field("*")
    if re.fullmatch(r"-?\d+(,-?\d+)*", text):
        wanted = [int(part) for part in text.split(",")]

        def pick(value: Any) -> Iterator[Any]:
            for i in wanted:
                if isinstance(value, list) and -len(value) <= i < len(value):
                    yield value[i]

        return pick
    if not re.fullmatch(r"-?\d*:-?\d*(:-?\d*)?", text):
        raise BadPath(f"invalid array index {text}")
    cut = slice(*(int(part) if part else None for part in text.split(":")))
    return lambda value: iter(value[cut] if isinstance(value, list) else ())


def _filter(text: str) -> Step:
    match = _FILTER.match(text)
    if match is None:
        path = parse(text.strip())
        return lambda value: (one for one in value if path(one)) if isinstance(value, list) else iter(())
    left, operator, right = _operand(match[1]), match[2], _operand(match[3])

    def step(value: Any) -> Iterator[Any]:
        for one in value if isinstance(value, list) else ():
            a, b = left(one), right(one)
            if len(a) == 1 and len(b) == 1 and _holds(a[0], operator, b[0]):
                yield one

    return step


def _operand(text: str) -> Callable[[Any], list[Any]]:
    if text[:1] in ("@", "$"):
        return parse(text)
    if text[:1] in ("'", '"') and text[-1:] == text[:1]:
        literal: Any = text[1:-1]
    else:
        try:
            literal = json.loads(text)
        except ValueError as err:
            raise BadPath(f"unrecognized character in filter: {text}") from err
    return lambda _: [literal]


def _holds(a: Any, operator: str, b: Any) -> bool:
    if operator in ("==", "!="):
        return bool((type(a) is type(b) or _numeric(a, b)) and a == b) is (operator == "==")
    if not (_numeric(a, b) or (isinstance(a, str) and isinstance(b, str))):
        return False
    return bool({"<": a < b, ">": a > b, "<=": a <= b, ">=": a >= b}[operator])


def _numeric(a: Any, b: Any) -> bool:
    return all(isinstance(x, int | float) and not isinstance(x, bool) for x in (a, b))


def printed(value: Any) -> str:
    """A value as a column of strings shows it."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return go_number(value)
    return "<nil>" if value is None else json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
