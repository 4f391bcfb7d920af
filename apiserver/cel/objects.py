"""Values of a schema as values of expressions.

Source: k8s.io/apiserver/pkg/cel/common (UnstructuredToVal).
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

from apiserver.cel import times
from apiserver.cel.declared import with_meta
from apiserver.cel.escaping import escape
from apiserver.cel.values import CelError, Listed, Mapped
from apiserver.custom.structural import Node


def to_value(raw: Any, node: Node, *, root: bool = False) -> Any:
    """`root`: a whole object, whose kind and metadata can be seen."""
    if raw is None:
        return None
    if node.int_or_string:
        return raw
    match node.type:
        case "object" if isinstance(raw, dict):
            return _map(raw, node, root)
        case "array" if isinstance(raw, list):
            items = node.items
            return Listed(
                raw,
                lambda item: item if items is None else to_value(item, items, root=items.embedded),
                node.list_type if node.list_type in ("set", "map") else "",
                node.list_keys,
            )
        case "string" if isinstance(raw, str):
            return _string(raw, node.wire.get("format") or "")
        case "number" if isinstance(raw, int) and not isinstance(raw, bool):
            return float(raw)
    return raw


def _map(raw: dict[str, Any], node: Node, root: bool) -> Mapped:
    additional = node.additional
    if additional is not None:
        return Mapped(raw, lambda _, item: to_value(item, additional, root=additional.embedded))
    if root or node.embedded:
        node = with_meta(node)
    names = {escaped: name for name in node.properties if (escaped := escape(name)) is not None}

    def convert(name: str, item: Any) -> Any:
        inner = node.properties[name]
        return to_value(item, inner, root=inner.embedded)

    return Mapped(raw, convert, names)


def _string(text: str, format_: str) -> Any:
    try:
        match format_:
            case "byte":
                return base64.b64decode(text, validate=True)
            case "duration":
                return times.parse_duration(text)
            case "date":
                return times.parse_time(f"{text}T00:00:00Z")
            case "date-time":
                return times.parse_time(text)
    except (binascii.Error, CelError) as err:
        raise CelError(f"failed to convert {format_}: {err}") from err
    return text
