"""Who owns which field of a custom object: the nodes of field management, made from a structural schema.

Source: Kubernetes documentation, "Server-Side Apply", "Custom resources and server-side apply"; k8s.io/kube-openapi
pkg/schemaconv (which schema is owned how).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from apiserver.custom.structural import META_FIELDS, Node
from apiserver.fieldmanager.fieldsets import MEMBER, SELF, Fields, is_member, member
from apiserver.fieldmanager.schema import Atomic, Found, Items, ListMap, ListSet, Map, Scalar, Struct
from apiserver.fieldmanager.schema import Node as Owned

_ABSENT: Any = object()
_SCALARS = {"integer": "int64", "number": "float", "string": "string", "boolean": "bool"}


class Deduced(Owned):
    """A value of which nothing is known: maps are owned field by field, all else as a whole."""

    __slots__ = ()

    def compare(self, old: Any, new: Any) -> Found:
        if isinstance(old, dict) and isinstance(new, dict):
            return _ANY_MAP.compare(old, new)
        return MEMBER, None

    def everything(self, value: Any) -> Fields:
        return _ANY_MAP.everything(value) if isinstance(value, dict) else MEMBER

    def claimed(self, value: Any) -> Fields | None:
        return _ANY_MAP.claimed(value) if isinstance(value, dict) else MEMBER

    def merge(self, live: Any, config: Any) -> Any:
        if isinstance(live, dict) and isinstance(config, dict):
            return _ANY_MAP.merge(live, config)
        return config

    def remove(self, value: Any, fields: Fields) -> Any:
        return _ANY_MAP.remove(value, fields) if isinstance(value, dict) else value


DEDUCED = Deduced()
_ANY_MAP = Map(DEDUCED)


class Record(Owned):
    """A map with named fields; `rest` is what others may hold, None where there are no others. Nobody owns `ignored`
    fields, but they are merged like the others.
    """

    __slots__ = ("_fields", "_ignored", "_rest")

    def __init__(self, fields: Mapping[str, Owned], rest: Owned | None, ignored: frozenset[str] = frozenset()) -> None:
        self._fields = fields
        self._rest = rest
        self._ignored = ignored

    def _tracked(self, key: str) -> Owned | None:
        return None if key in self._ignored else self._fields.get(key) or self._rest

    def compare(self, old: Any, new: Any) -> Found:
        if not isinstance(old, dict) or not isinstance(new, dict) or (not old and not new):
            return MEMBER, None
        changed: Fields = {}
        removed: Fields = {}
        for key, value in new.items():
            was = old.get(key, _ABSENT)
            if was == value or (node := self._tracked(key)) is None:
                continue
            if was is _ABSENT:
                changed[f"f:{key}"] = node.everything(value)
                continue
            more, less = node.compare(was, value)
            if more is not None:
                changed[f"f:{key}"] = more
            if less is not None:
                removed[f"f:{key}"] = less
        for key in old.keys() - new.keys():
            if (node := self._tracked(key)) is not None:
                removed[f"f:{key}"] = node.everything(old[key])
        return changed or None, removed or None

    def everything(self, value: Any) -> Fields:
        out: Fields = {SELF: MEMBER}
        for key, item in value.items() if isinstance(value, dict) else ():
            if (node := self._tracked(key)) is not None:
                out[f"f:{key}"] = node.everything(item)
        return out if len(out) > 1 else MEMBER

    def claimed(self, value: Any) -> Fields | None:
        out: Fields = {}
        for key, item in value.items() if isinstance(value, dict) else ():
            if (node := self._tracked(key)) is None:
                continue
            inner = MEMBER if item is None or item in ({}, []) else node.claimed(item)
            if key not in self._fields:
                inner = member(inner or MEMBER)
            if inner is not None:
                out[f"f:{key}"] = inner
        return out or None

    def merge(self, live: Any, config: Any) -> Any:
        if not isinstance(live, dict) or not isinstance(config, dict) or not live or not config:
            return config if config or not isinstance(live, dict) else live
        out = dict(live)
        for key, value in config.items():
            node = self._fields.get(key) or self._rest
            out[key] = node.merge(live[key], value) if key in live and node is not None else value
        return out

    def remove(self, value: Any, fields: Fields) -> Any:
        out = {}
        for key, item in (value or MEMBER).items():
            inner = fields.get(f"f:{key}")
            if inner is None:
                out[key] = item
            elif not is_member(inner):
                node = self._fields.get(key) or self._rest
                out[key] = node.remove(item, inner) if node is not None else item
        return out or None

    def named(self, fields: Fields) -> Fields:
        out: Fields = {}
        for label, inner in fields.items():
            key = label[2:]
            found = self._fields.get(key)
            if found is not None and inner:
                out[label] = member(found.named(inner))
            else:
                out[label] = self._rest.named(inner) if self._rest is not None and label != SELF else inner
        return out

    def check(self, value: Any, path: str, faults: list[str]) -> None:
        if not isinstance(value, dict):
            _ANY_MAP.check(value, path, faults)
            return
        for key, item in value.items():
            node = self._fields.get(key) or self._rest
            if node is None:
                faults.append(f"{path}.{key}: field not declared in schema")
            else:
                node.check(item, f"{path}.{key}", faults)


class KeyedList(ListMap):
    """A list-map as it may be stored: with items that are no maps, from before there was that schema."""

    __slots__ = ()

    def label(self, item: Any) -> str:
        return super().label(item) if isinstance(item, dict) else f"v:{orjson.dumps(item).decode()}"


def owned(node: Node, preserve: bool = False) -> Owned:
    """`preserve`: a node above keeps unknown fields."""
    preserve = preserve or node.preserve
    if node.type in _SCALARS:
        return Scalar(_SCALARS[node.type])
    if node.type == "array":
        return _list(node, preserve)
    if node.int_or_string:
        return Scalar("any")
    if node.type != "object" and not node.properties:
        return DEDUCED
    return _record(node, preserve)


def _list(node: Node, preserve: bool) -> Owned:
    item = owned(node.items, preserve) if node.items is not None else DEDUCED
    if node.list_type == "set":
        return ListSet(item)
    if node.list_type == "map" and node.list_keys and node.items is not None:
        fields = node.items.properties
        defaults = {key: fields[key].default for key in node.list_keys if key in fields}
        return KeyedList(item, node.list_keys, {key: value for key, value in defaults.items() if value is not None})
    return Atomic(Items(item))


def _record(node: Node, preserve: bool, ignored: frozenset[str] = frozenset()) -> Owned:
    fields = {name: owned(inner, preserve) for name, inner in node.properties.items()}
    if node.embedded:
        fields |= {"apiVersion": Scalar("string"), "kind": Scalar("string"), "metadata": Struct("meta.v1.ObjectMeta")}
    rest: Owned | None = None
    if node.additional is not None:
        rest = owned(node.additional, preserve)
    elif node.wire.get("additionalProperties") or (not node.has_additional and (preserve or not fields)):
        rest = DEDUCED
    found = Record(fields, rest, ignored)
    return Atomic(found) if node.map_type == "atomic" else found


def root(node: Node, ignored: frozenset[str], metadata_ignored: frozenset[str]) -> Owned:
    """The node of a whole object; nobody owns its type and what a write through this path leaves alone."""
    fields: dict[str, Owned] = {
        name: owned(inner, node.preserve) for name, inner in node.properties.items() if name not in META_FIELDS
    }
    fields |= {"apiVersion": Scalar("string"), "kind": Scalar("string")}
    fields["metadata"] = Struct("meta.v1.ObjectMeta", metadata_ignored)
    return Record(fields, DEDUCED if node.preserve else None, ignored)
