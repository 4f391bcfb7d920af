"""Paths of fields in a schema, as `fieldPath` of rules and `selectableFields` have them: `.spec.labels['a.b']`.

Source: k8s.io/apiextensions-apiserver pkg/apiserver/schema/cel (ValidFieldPath: texts).
"""

from __future__ import annotations

import re

from apiserver.custom.structural import Node

_TOKEN = re.compile(r"'(?:[^'\\]|\\.)*'|[.\[\]]|[^.\[\]']+|'")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "'": "'", "\\": "\\"}


class BadFieldPath(ValueError):
    """Not the path of a field."""


def resolve(path: str, node: Node, *, brackets: bool = True) -> tuple[str, Node | None, str]:
    """The path in the form of error texts (`spec.labels[a.b]`), the schema there, and the name of its first field.

    Raises BadFieldPath.
    """
    tokens = _TOKEN.findall(path)
    text, first, at = "", "", 0
    found: Node | None = node

    def next_token() -> str:
        nonlocal at
        if at >= len(tokens):
            raise BadFieldPath("unexpected end of JSON path")
        at += 1
        token: str = tokens[at - 1]
        return token

    while at < len(tokens):
        token = next_token()
        if token == ".":
            name = next_token()
        elif token == "[":
            if not brackets:
                raise BadFieldPath("array notation is not allowed")
            name = _quoted(next_token())
            if (closing := next_token()) != "]":
                raise BadFieldPath(f"expected ] but got {closing}")
        else:
            raise BadFieldPath(f"expected [ or . but got: {token}")
        named = bool(found is not None and found.properties)
        found = _step(found, name)
        text = (f"{text}.{name}" if text else name) if named else f"{text}[{name}]"
        first = first or name
    return text, found, first


def _quoted(token: str) -> str:
    if len(token) < 2 or token[0] != "'" or token[-1] != "'":
        raise BadFieldPath(f"expected single quoted string but got {token}")

    def unescaped(match: re.Match[str]) -> str:
        char = match.group()[1]
        if char not in _ESCAPES:
            raise BadFieldPath(f"invalid string literal: invalid escape char {match.group()}")
        return _ESCAPES[char]

    return re.sub(r"\\.", unescaped, token[1:-1])


def _step(node: Node | None, name: str) -> Node | None:
    if node is not None and node.properties:
        found = node.properties.get(name)
        if found is None:
            raise BadFieldPath("does not refer to a valid field")
        return found
    if node is None or not node.has_additional:
        raise BadFieldPath("does not refer to a valid field")
    return node.additional
