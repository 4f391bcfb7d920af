"""Structural schemas: an OpenAPI v3 schema of a CustomResourceDefinition as a tree of nodes, one for each value.

Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions", "Specifying a structural
schema".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Json = dict[str, Any]

META_FIELDS = ("apiVersion", "kind", "metadata")
_UNSUPPORTED = (
    ("id", "id"),
    ("$schema", "schema"),
    ("$ref", "$ref"),
    ("patternProperties", "patternProperties"),
    ("dependencies", "dependencies"),
    ("additionalItems", "additionalItems"),
    ("definitions", "definitions"),
)


class NotStructural(ValueError):
    """The schema has parts that no structural schema can have."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """The schema of one value. `wire` is the schema as it was written; `default` is None where there is none.

    `additional` None with `has_additional`: `additionalProperties` is a boolean.
    """

    wire: Json
    type: str = ""
    nullable: bool = False
    default: Any = None
    properties: Mapping[str, Node] = field(default_factory=dict)
    has_additional: bool = False
    additional: Node | None = None
    items: Node | None = None
    preserve: bool = False
    embedded: bool = False
    int_or_string: bool = False
    list_type: str = ""
    list_keys: tuple[str, ...] = ()
    map_type: str = ""
    rules: tuple[Json, ...] = ()

    def child(self, key: str) -> Node | None:
        """The schema of a field's value, if there is one."""
        return self.properties.get(key) or self.additional

    def as_root(self) -> Node:
        """The node as that of a whole object, which has kind, apiVersion and metadata without saying so."""
        return self if self.embedded else replace(self, embedded=True)

    def walk(self) -> Iterator[Node]:
        """This node and all below."""
        yield self
        for node in self.properties.values():
            yield from node.walk()
        for inner in (self.additional, self.items):
            if inner is not None:
                yield from inner.walk()


def structural(wire: Json) -> Node:
    """Raises NotStructural with the text that upstream has for it."""
    check_supported(wire)
    for junctor in ("allOf", "anyOf", "oneOf"):
        for clause in wire.get(junctor) or ():
            check_nested(clause)
    if "not" in wire:
        check_nested(wire["not"])
    if wire.get("x-kubernetes-preserve-unknown-fields") is False:
        raise NotStructural("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined")
    items, additional = wire.get("items"), wire.get("additionalProperties")
    if items and isinstance(items, list):
        raise NotStructural("OpenAPIV3Schema 'items' must be a schema, but is an array")
    return Node(
        wire,
        wire.get("type") or "",
        bool(wire.get("nullable")),
        wire.get("default"),
        {name: structural(inner) for name, inner in sorted((wire.get("properties") or {}).items())},
        additional is not None,
        structural(additional) if isinstance(additional, dict) else None,
        structural(items) if isinstance(items, dict) else None,
        bool(wire.get("x-kubernetes-preserve-unknown-fields")),
        bool(wire.get("x-kubernetes-embedded-resource")),
        bool(wire.get("x-kubernetes-int-or-string")),
        wire.get("x-kubernetes-list-type") or "",
        tuple(wire.get("x-kubernetes-list-map-keys") or ()),
        wire.get("x-kubernetes-map-type") or "",
        tuple(wire.get("x-kubernetes-validations") or ()),
    )


def check_supported(wire: Json) -> None:
    for key, name in _UNSUPPORTED:
        if wire.get(key) not in (None, "", {}):
            raise NotStructural(f"OpenAPIV3Schema '{name}' is not supported")


def check_nested(wire: Json) -> None:
    """A schema within allOf, anyOf, oneOf or not."""
    check_supported(wire)
    if wire.get("x-kubernetes-preserve-unknown-fields") is False:
        raise NotStructural("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined")
    items = wire.get("items")
    if items and isinstance(items, list):
        raise NotStructural("OpenAPIV3Schema 'items' must be a schema, but is an array")
    for inner in nested(wire):
        check_nested(inner)


def nested(wire: Json) -> Iterator[Json]:
    """The schemas directly within one, whatever they are for."""
    for junctor in ("allOf", "anyOf", "oneOf"):
        yield from wire.get(junctor) or ()
    for key in ("not", "items", "additionalProperties"):
        if isinstance(inner := wire.get(key), dict):
            yield inner
    if isinstance(items := wire.get("items"), list):
        yield from items
    yield from (wire.get("properties") or {}).values()
