"""Objects as the API server's own, unversioned types print them: upstream shows them in some error texts.

A LabelSelector is the same everywhere, but a pod template or a volume source has other keys there, and shows every
field that it could have: `{"MinAvailable":1,"Selector":{"matchLabels":{"a":"b"}},"MaxUnavailable":null,...}`.
Source: encoding/json on k8s.io/kubernetes/pkg/apis (facts in `internal.txt`); k8s.io/apimachinery/pkg/util/diff.
"""

from __future__ import annotations

import difflib
import json
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

Json = dict[str, Any]
_EMPTY: dict[str, Any] = {"string": "", "bool": False, "int": 0, "quantity": "0", "intorstring": 0, "time": None}
_ESCAPES = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
_ESCAPED = str.maketrans(_ESCAPES)


class _Field(NamedTuple):
    key: str  # "" where the fields of `type` stand among the own ones
    source: tuple[str, ...]  # where the API's object has it; ".." is what holds the object
    type: str
    optional: bool = False
    fixed: Any = None


def text(type_name: str, value: Any) -> str:
    """`value` (as the API has it, of the type `core.v1.PodTemplateSpec` and the like) on one line."""
    return dumps(shown(type_name, value))


def dumps(value: Any) -> str:
    """JSON as Go writes it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPED)


def difference(type_name: str, old: Any, new: Any) -> str:
    """The changes from old to new, as a unified diff of both on many lines."""
    before, after = (_lines(shown(type_name, value)) for value in (old, new))
    return "".join(difflib.unified_diff(before, after, n=3)).replace("--- \n+++ \n", "", 1)


def _lines(value: Any) -> list[str]:
    pretty = json.dumps(value, ensure_ascii=False, indent=1).translate(_ESCAPED)
    return [line + "\n" for line in pretty.split("\n")]


def shown(type_name: str, value: Any, parent: Any = None) -> Any:
    """The value with the keys, order and empty values of the unversioned type."""
    if type_name.startswith("*"):
        return None if value is None else shown(type_name[1:], value, parent)
    if type_name.startswith("[]"):
        return None if not value else [shown(type_name[2:], item, value) for item in value]
    if type_name.startswith("{}"):
        return None if not value else {key: shown(type_name[2:], value[key], value) for key in sorted(value)}
    if type_name in _EMPTY:
        return _EMPTY[type_name] if value is None else value
    fields = _types().get(type_name)
    return value if fields is None else _struct(fields, value or {}, parent)


def _struct(fields: tuple[_Field, ...], value: Json, parent: Any) -> Json:
    out: Json = {}
    for field in fields:
        if not field.source:
            out[field.key] = field.fixed
            continue
        found = shown(field.type, _at(field.source, value, parent), value)
        if not field.key:
            out.update(found)
        elif not field.optional or found not in (None, "", 0, False):
            out[field.key] = found
    return out


def _at(source: tuple[str, ...], value: Json, parent: Any) -> Any:
    if source[0] == "..":
        return (parent or {}).get(source[1])
    return value.get(source[0])


@cache
def _types() -> dict[str, tuple[_Field, ...]]:
    lines = Path(__file__).with_name("internal.txt").read_text().splitlines()
    found = (line.split(" ") for line in lines if not line.startswith("#"))
    return {name: tuple(map(_field, fields)) for name, *fields in found}


def _field(entry: str) -> _Field:
    head, colon, type_name = entry.partition(":")
    if not colon:
        key, _, fixed = entry.partition("=")
        return _Field(key, (), "", fixed=json.loads(fixed))
    key, _, source = head.partition("<")
    bare = key.rstrip("?")
    path = source or bare[:1].lower() + bare[1:]
    return _Field(bare.strip("+"), tuple(path.split("/")), type_name, key.endswith("?"))
