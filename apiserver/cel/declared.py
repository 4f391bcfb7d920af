"""The types that values of a schema have in expressions, with how large they can become.

Source: k8s.io/apiserver/pkg/cel/common (SchemaDeclType: which type, and the sizes that costs are estimated by).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from apiserver.cel.escaping import escape
from apiserver.custom.structural import Node

MAX_REQUEST_B = 3 * 1024 * 1024
MAX_DURATION_B, MAX_DATE_TIME_B, DATE_B = 32, 32, 12
MIN_STRING_B, MIN_BOOL_B, MIN_NUMBER_B, MIN_DURATION_B, MIN_DATE_TIME_B = 2, 4, 1, 3, 21


@dataclass(frozen=True, slots=True, eq=False)
class Declared:
    """`kind`: object, list, map, or the name of a simple type; `min_size` in bytes of JSON; `most`: elements or
    characters. `names` maps the names of fields in expressions to those in objects.
    """

    kind: str
    min_size: int = 0
    most: int = 0
    fields: Mapping[str, Declared] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)
    items: Declared | None = None


STRING = Declared("string", MIN_STRING_B, MAX_REQUEST_B - 2)
BOOL = Declared("bool", MIN_BOOL_B)
INT = Declared("int", MIN_NUMBER_B)
DOUBLE = Declared("double", MIN_NUMBER_B)


def declared(node: Node, *, root: bool = False) -> Declared | None:
    """None for values that expressions cannot look at. `root`: a whole object, which has kind and metadata."""
    wire = node.wire
    if node.int_or_string:
        return Declared("dyn", 1, wire["maxLength"] * 4 if "maxLength" in wire else MAX_REQUEST_B - 2)
    if root:
        node = with_meta(node)
    match node.type:
        case "array":
            return _list(node)
        case "object":
            return _map(node) if node.additional is not None else _object(node)
        case "string":
            return _string(wire)
        case "boolean":
            return BOOL
        case "number":
            return DOUBLE
        case "integer":
            return INT
    return None


def with_meta(node: Node) -> Node:
    """The schema of a whole object with the fields of metadata that expressions see."""
    text = Node({"type": "string"}, "string")
    metadata = Node({"type": "object"}, "object", properties={"name": text, "generateName": text})
    properties = {**node.properties, "kind": text, "apiVersion": text, "metadata": metadata}
    return replace(node, properties=properties)


def _list(node: Node) -> Declared | None:
    if node.items is None or (items := declared(node.items, root=node.items.embedded)) is None:
        return None
    most = max(0, node.wire["maxItems"]) if "maxItems" in node.wire else (MAX_REQUEST_B - 2) // (items.min_size + 1)
    return Declared("list", 2, most, items=items)


def _map(node: Node) -> Declared | None:
    assert node.additional is not None
    items = declared(node.additional, root=node.additional.embedded)
    if items is None:
        return None
    limit = node.wire.get("maxProperties")
    most = max(0, limit) if limit is not None else (MAX_REQUEST_B - 2) // (items.min_size + 6)
    return Declared("map", 2, most, items=items)


def _object(node: Node) -> Declared:
    fields, names, size = {}, {}, 2
    required = node.wire.get("required") or ()
    for name, inner in node.properties.items():
        found = declared(inner, root=inner.embedded)
        if found is None:
            continue
        if (escaped := escape(name)) is not None:
            fields[escaped], names[escaped] = found, name
        if name in required and inner.default is None:
            size += len(name) + found.min_size + 4
    return Declared("object", size, 0, fields, names)


def _string(wire: dict[str, Any]) -> Declared:
    most = wire.get("maxLength")
    match wire.get("format"):
        case "byte":
            return Declared("bytes", MIN_STRING_B, MAX_REQUEST_B - 2 if most is None else max(0, most))
        case "duration":
            return Declared("duration", MIN_DURATION_B, MAX_DURATION_B)
        case "date":
            return Declared("timestamp", DATE_B, DATE_B)
        case "date-time":
            return Declared("timestamp", MIN_DATE_TIME_B, MAX_DATE_TIME_B)
    if most is not None:
        return Declared("string", MIN_STRING_B, max(0, most) * 4)
    if enum := wire.get("enum"):
        return Declared("string", MIN_STRING_B, max((len(v.encode()) for v in enum if isinstance(v, str)), default=0))
    return STRING
