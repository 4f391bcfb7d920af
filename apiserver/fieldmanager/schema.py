"""How the values of a type are owned: one class for each way, compiled from the API's types when first asked for.

Scalars and what the definitions call atomic have one owner; structs and maps are owned field by field, lists of the
types `map` and `set` item by item. Each class answers the same questions about a value of its type; `None` for a set
means that it is empty. Values are decoded JSON in written form (see `apiserver.schemas.shape`). Pure, no input is
changed.
Source: Kubernetes documentation, "Server-Side Apply", "Merge strategy"; KEP-555.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, Final

import orjson

from apiserver import schemas
from apiserver.fieldmanager.fieldsets import MEMBER, SELF, Fields, element_text, is_member, member
from apiserver.registry.faults import quoted

Found = tuple[Fields | None, Fields | None]
"""What differs between two versions: paths that are new or have another value, and paths that are gone."""
_NOTHING: Final[Found] = (None, None)
_CHANGED: Final[Found] = (MEMBER, None)
_ABSENT: Final = object()

# List-map keys that an item may leave out.
_KEY_DEFAULTS = {"protocol": "TCP"}
_NAMELESS = "core.v1.LocalObjectReference"  # the only one whose name may be left out and yet is a key


class UnkeyedItem(Exception):
    """An item of a list has none of the fields that tell it apart: nobody can own anything in such an object."""


_NUMERIC, _TEXT, _BOOLEAN = ("int32", "int64", "float"), ("string", "bytes"), ("bool",)
_SCALARS = ("time", "microtime", "quantity")  # any scalar will do


class Node:
    """A value with one owner."""

    __slots__ = ()

    def compare(self, old: Any, new: Any) -> Found:
        """Both versions have the value, and it differs."""
        return _CHANGED

    def everything(self, value: Any) -> Fields:
        """Every path of a value that is new or gone, its own included."""
        return MEMBER

    def claimed(self, value: Any) -> Fields | None:
        """The paths that somebody who applies this value wants to own."""
        return MEMBER

    def merge(self, live: Any, config: Any) -> Any:
        """The live value with an applied one on top."""
        return config

    def remove(self, value: Any, fields: Fields) -> Any:
        """The value without these paths (they are below it)."""
        return value

    def named(self, fields: Fields) -> Fields:
        """The set with every named field that leads to one of its paths: these fields come and go with them."""
        return fields

    def check(self, value: Any, path: str, faults: list[str]) -> None:
        """Whether an applied value fits the type, with the texts of upstream's typed objects."""


class Scalar(Node):
    __slots__ = ("_kind",)

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def check(self, value: Any, path: str, faults: list[str]) -> None:
        if value is None or self._kind in ("any", "intorstring"):
            return
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if self._kind in _NUMERIC and not number:
            faults.append(f"{path}: expected numeric (int or float), got {_go_type(value)}")
        elif self._kind in _TEXT and not isinstance(value, str):
            faults.append(f"{path}: expected string, got &value.valueUnstructured{{Value:{_go_syntax(value)}}}")
        elif self._kind in _BOOLEAN and not isinstance(value, bool):
            faults.append(f"{path}: expected boolean, got &{{{_go_text(value)}}}")
        elif isinstance(value, dict | list):
            faults.append(f"{path}: expected any scalar, got &{{{_go_text(value)}}}")


class Atomic(Node):
    """A struct, map or list that is replaced as a whole."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Node) -> None:
        self._inner = inner

    def check(self, value: Any, path: str, faults: list[str]) -> None:
        self._inner.check(value, path, faults)


class Items(Node):
    """An atomic list's type, for checks only."""

    __slots__ = ("_item",)

    def __init__(self, item: Node) -> None:
        self._item = item

    def check(self, value: Any, path: str, faults: list[str]) -> None:
        for i, item in enumerate(_list(value, path, faults)):
            self._item.check(item, f"{path}[{i}]", faults)


class Struct(Node):
    """A type with named fields; `ignored` fields are merged like others, but nobody owns them."""

    __slots__ = ("_fields", "_ignored", "_name", "_tracked", "_within")

    def __init__(self, name: str, ignored: frozenset[str] = frozenset(), within: dict[str, Node] | None = None) -> None:
        """`name` is the type's (`core.v1.Pod`); `within` are fields with nodes of their own."""
        self._name = name
        self._ignored = ignored
        self._within = within or {}
        self._fields: dict[str, tuple[str, Node]] = {}
        self._tracked: dict[str, tuple[str, Node]] = {}

    def _load(self) -> dict[str, tuple[str, Node]]:
        """The fields; not before somebody asks, because types refer to themselves."""
        for field, entry in schemas.types()["structs"][self._name].items():
            node = self._within.get(field) or field_node(entry)
            self._fields[field] = (f"f:{field}", node)
        self._tracked = {field: found for field, found in self._fields.items() if field not in self._ignored}
        return self._tracked

    def compare(self, old: Any, new: Any) -> Found:
        if not old and not new:
            return _CHANGED  # null and {}
        old, new = old or MEMBER, new or MEMBER
        fields = self._tracked or self._load()
        changed: Fields = {}
        removed: Fields = {}
        left = len(old)
        for key, value in new.items():
            was = old.get(key, _ABSENT)
            if was is not _ABSENT:
                left -= 1
            if was == value or (found := fields.get(key)) is None:
                continue
            label, node = found
            if was is _ABSENT:
                changed[label] = node.everything(value)
                continue
            more, less = node.compare(was, value)
            if more is not None:
                changed[label] = more
            if less is not None:
                removed[label] = less
        for key in old.keys() - new.keys() if left else ():
            if found := fields.get(key):
                removed[found[0]] = found[1].everything(old[key])
        return changed or None, removed or None

    def everything(self, value: Any) -> Fields:
        if not value:
            return MEMBER
        fields = self._tracked or self._load()
        out: Fields = {SELF: MEMBER}
        for key, item in value.items():
            if found := fields.get(key):
                out[found[0]] = found[1].everything(item)
        return out if len(out) > 1 else MEMBER

    def claimed(self, value: Any) -> Fields | None:
        fields = self._tracked or self._load()
        out: Fields = {}
        for key, item in (value or MEMBER).items():
            if found := fields.get(key):
                inner = MEMBER if item is None or item == {} else found[1].claimed(item)
                if inner is not None:
                    out[found[0]] = inner
        return out or None

    def _node(self, key: str) -> Node:
        if not self._fields:
            self._load()
        return self._fields[key][1]

    def merge(self, live: Any, config: Any) -> Any:
        if not live or not config:
            return config or live  # an empty map takes nothing away
        out = dict(live)
        for key, value in config.items():
            out[key] = self._node(key).merge(live[key], value) if key in live else value
        return out

    def remove(self, value: Any, fields: Fields) -> Any:
        out = {}
        for key, item in (value or MEMBER).items():
            inner = fields.get(f"f:{key}")
            if inner is None:
                out[key] = item
            elif not is_member(inner):
                out[key] = self._node(key).remove(item, inner)
        return out or None

    def named(self, fields: Fields) -> Fields:
        if not self._fields:
            self._load()
        out: Fields = {}
        for label, inner in fields.items():
            found = self._fields.get(label[2:])
            out[label] = member(found[1].named(inner)) if found and inner else inner
        return out

    def check(self, value: Any, path: str, faults: list[str]) -> None:
        if not self._fields:
            self._load()
        for key, item in _map(value, path, faults).items():
            if found := self._fields.get(key):
                found[1].check(item, f"{path}.{key}", faults)
            else:
                faults.append(f"{path}.{key}: field not declared in schema")


class Map(Node):
    """A map with keys of the user's choice; each key has its owners."""

    __slots__ = ("_item",)

    def __init__(self, item: Node) -> None:
        self._item = item

    def compare(self, old: Any, new: Any) -> Found:
        if not old and not new:
            return _CHANGED
        old, new = old or MEMBER, new or MEMBER
        changed: Fields = {}
        removed: Fields = {}
        for key, value in new.items():
            was = old.get(key, _ABSENT)
            if was == value:
                continue
            if was is _ABSENT:
                changed[f"f:{key}"] = self._item.everything(value)
                continue
            more, less = self._item.compare(was, value)
            if more is not None:
                changed[f"f:{key}"] = more
            if less is not None:
                removed[f"f:{key}"] = less
        for key in old.keys() - new.keys():
            removed[f"f:{key}"] = self._item.everything(old[key])
        return changed or None, removed or None

    def everything(self, value: Any) -> Fields:
        out: Fields = {SELF: MEMBER}
        for key, item in (value or MEMBER).items():
            out[f"f:{key}"] = self._item.everything(item)
        return out if len(out) > 1 else MEMBER

    def claimed(self, value: Any) -> Fields | None:
        return {f"f:{k}": member(self._item.claimed(v) or MEMBER) for k, v in (value or MEMBER).items()} or None

    def merge(self, live: Any, config: Any) -> Any:
        if not live or not config:
            return config or live
        merged = {k: self._item.merge(live[k], v) if k in live else v for k, v in config.items()}
        return live | merged

    def remove(self, value: Any, fields: Fields) -> Any:
        out = {}
        for key, item in (value or MEMBER).items():
            inner = fields.get(f"f:{key}")
            if inner is None:
                out[key] = item
            elif not is_member(inner):
                out[key] = self._item.remove(item, inner)
        return out or None

    def named(self, fields: Fields) -> Fields:
        return {label: self._item.named(inner) for label, inner in fields.items()}

    def check(self, value: Any, path: str, faults: list[str]) -> None:
        for key, item in _map(value, path, faults).items():
            self._item.check(item, f"{path}.{key}", faults)


class ListNode(Node):
    """A list whose items have owners, each told apart by a label. Subclasses say which label an item has."""

    __slots__ = ("_item",)

    def __init__(self, item: Node) -> None:
        self._item = item

    def label(self, item: Any) -> str:
        raise NotImplementedError

    def _index(self, items: Sequence[Any]) -> dict[str, Any]:
        """Label -> item; items that share a label are taken together, as a list."""
        out: dict[str, Any] = {}
        for item in items:
            label = self.label(item)
            if label in out:
                out[label] = _Repeated([*(out[label] if isinstance(out[label], _Repeated) else [out[label]]), item])
            else:
                out[label] = item
        return out

    def compare(self, old: Any, new: Any) -> Found:
        if not old and not new:
            return _CHANGED  # null and []
        before, after = self._index(old or ()), self._index(new or ())
        changed: Fields = {}
        removed: Fields = {}
        for label, value in after.items():
            was = before.get(label, _ABSENT)
            if was == value:
                continue
            if was is _ABSENT:
                changed[label] = self._of_item(value)
            elif isinstance(was, _Repeated) or isinstance(value, _Repeated):
                changed[label] = MEMBER
            else:
                more, less = self._item.compare(was, value)
                if more is not None:
                    changed[label] = more
                if less is not None:
                    removed[label] = less
        for label in before.keys() - after.keys():
            removed[label] = self._of_item(before[label])
        return changed or None, removed or None

    def _of_item(self, item: Any) -> Fields:
        return MEMBER if isinstance(item, _Repeated) else self._item.everything(item)

    def everything(self, value: Any) -> Fields:
        out: Fields = {SELF: MEMBER}
        for label, item in self._index(value or ()).items():
            out[label] = self._of_item(item)
        return out if len(out) > 1 else MEMBER

    def claimed(self, value: Any) -> Fields | None:
        return {self.label(item): member(self._item.claimed(item) or MEMBER) for item in value or ()} or None

    def merge(self, live: Any, config: Any) -> Any:
        """Applied items stand in the order in which they are applied, the others keep their place among them."""
        if not live or not config:
            return config or live
        wanted = {self.label(item): item for item in config}
        present = self._index(live)
        queue = list(wanted)
        shared = [label for label in queue if label in present]
        out = []
        for item in live:
            label = self.label(item)
            if label not in wanted:
                out.append(item)
            elif shared and label == shared[0]:
                end = queue.index(label) + 1
                out += [self._merge_item(present.get(name), wanted[name]) for name in queue[:end]]
                del queue[:end], shared[0]
        return out + [self._merge_item(present.get(name), wanted[name]) for name in queue]

    def _merge_item(self, live: Any, config: Any) -> Any:
        return config if live is None or isinstance(live, _Repeated) else self._item.merge(live, config)

    def remove(self, value: Any, fields: Fields) -> Any:
        out = []
        for item in value or ():
            inner = fields.get(self.label(item))
            if inner is None:
                out.append(item)
            elif not is_member(inner):
                out.append(self._item.remove(item, inner))
        return out or None

    def named(self, fields: Fields) -> Fields:
        return {label: self._item.named(inner) for label, inner in fields.items()}

    def check(self, value: Any, path: str, faults: list[str]) -> None:
        seen: set[str] = set()
        for i, item in enumerate(_list(value, path, faults)):
            if fault := self._unlabelled(item):
                faults.append(f"{path}: element {i}: {fault}")
                continue
            label = self.label(item)
            if label in seen:
                faults.append(f"{path}: duplicate entries for key {element_text(label)}")
            seen.add(label)
            self._item.check(item, path + element_text(label), faults)

    def _unlabelled(self, item: Any) -> str:
        """Why an item can have no label, "" where it can."""
        if item is None:
            return "associative list without keys has an element that's an explicit null"
        if isinstance(item, dict):
            return "associative list without keys has an element that's a map type"
        return "not supported: associative list with lists as elements" if isinstance(item, list) else ""


class _Repeated(list[Any]):
    """Items of one label: invalid, but some lists are stored with them."""


class ListSet(ListNode):
    __slots__ = ()

    def label(self, item: Any) -> str:
        return "v:" + orjson.dumps(item).decode()


class ListMap(ListNode):
    __slots__ = ("_defaults", "_head", "_keys")

    def __init__(self, item: Node, keys: Iterable[str], defaults: Mapping[str, Any] | None = None) -> None:
        """`defaults`: what keys are that an item leaves out."""
        super().__init__(item)
        self._keys = tuple(sorted(keys))
        self._defaults = defaults or {}
        self._head = f'k:{{"{self._keys[0]}":'

    def label(self, item: Any) -> str:
        keys = self._keys
        if len(keys) == 1:
            value = item.get(keys[0], _ABSENT)
            if type(value) is str and value.isalnum():
                return f'{self._head}"{value}"}}'
            if value is _ABSENT:
                value = self._defaults.get(keys[0], _ABSENT)
            if value is _ABSENT:
                raise UnkeyedItem
            return f"{self._head}{orjson.dumps(value).decode()}}}"
        found = {key: item.get(key, self._defaults.get(key, _ABSENT)) for key in keys}
        given = {k: v for k, v in found.items() if v is not _ABSENT}
        if not given:
            raise UnkeyedItem
        return "k:" + orjson.dumps(given).decode()

    def _unlabelled(self, item: Any) -> str:
        if item is None:
            return "associative list with keys may not have a null element"
        if not isinstance(item, dict):
            return "associative list with keys may not have non-map elements"
        if any(key in item or key in self._defaults for key in self._keys):
            return ""
        names = ",".join(f'"{key}"' for key in self._keys)
        return (
            f"associative list with keys has an element that omits all key fields [{names}] "
            "(and doesn't have default values for any key fields)"
        )


# --- checks


def _map(value: Any, path: str, faults: list[str]) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    if value is not None:
        faults.append(f"{path}: expected map, got &{{{_go_text(value)}}}")
    return {}


def _list(value: Any, path: str, faults: list[str]) -> list[Any]:
    if isinstance(value, list):
        return value
    if value is not None:
        faults.append(f"{path}: expected list, got &{{{_go_text(value)}}}")
    return []


def _go_type(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    return "map[string]interface {}" if isinstance(value, dict) else "[]interface {}"


def _go_text(value: Any) -> str:
    from apiserver.strategic import go_text

    return go_text(value)


def _go_syntax(value: Any) -> str:
    """A decoded JSON value as Go's %#v prints it."""
    if isinstance(value, dict):
        members = (f"{quoted(key)}:{_go_syntax(item)}" for key, item in sorted(value.items()))
        return "map[string]interface {}{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[]interface {}{" + ", ".join(map(_go_syntax, value)) + "}"
    if isinstance(value, str):
        return quoted(value)
    return "interface {}(nil)" if value is None else _go_text(value)


# --- from the definitions

_LEAVES = {kind: Scalar(kind) for kind in (*_NUMERIC, *_TEXT, *_BOOLEAN, *_SCALARS, "intorstring", "any")}


def field_node(entry: dict[str, Any]) -> Node:
    """The node of a struct's field, as the data file describes it."""
    type_ = entry["t"]
    if entry.get("a") == "atomic":
        return Atomic(type_node(type_))
    if entry.get("a") == "granular" and type_[0] == "struct":
        return Struct(type_[1])  # owned field by field here, whatever holds for the type
    if type_[0] != "list":
        return type_node(type_)
    item = type_node(type_[1])
    match entry.get("l"):
        case "map":
            return ListMap(item, entry["m"], _key_zeros(type_[1], entry["m"]))
        case "set":
            return ListSet(item)
        case _:
            return Atomic(Items(item))


def _key_zeros(item: list[Any], keys: Iterable[str]) -> dict[str, Any]:
    """What keys are that an item leaves out: zero values of fields that have no other default, as names have none."""
    fields = schemas.types()["structs"].get(item[1], {}) if item[0] == "struct" else {}
    zeros = {"string": "", "int32": 0, "int64": 0}
    out: dict[str, Any] = {}
    for key in keys:
        field = fields.get(key, {"t": [""]})
        if key in _KEY_DEFAULTS:
            out[key] = _KEY_DEFAULTS[key]
        elif field["t"][0] in zeros and ("w" in field or item[1] == _NAMELESS):
            out[key] = zeros[field["t"][0]]
    return out


def type_node(type_: list[Any]) -> Node:
    match type_[0]:
        case "struct":
            return struct_node(type_[1])
        case "map":
            return Map(type_node(type_[1]))
        case "list":
            return Atomic(Items(type_node(type_[1])))
        case kind:
            return _LEAVES[kind]


@cache
def struct_node(name: str) -> Node:
    """The node of a type; one for each type of the API."""
    node = Struct(name)
    return Atomic(node) if name in schemas.types()["atomic"] else node
