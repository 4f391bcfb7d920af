"""A patched document as the error about it quotes it: the object as it is written, with the patched parts sorted.

Only errors need it. The object's fields come in the order of their types, keys of maps sorted; what a patch has gone
through comes sorted, what it has brought along as the client sent it.
Source: golang encoding/json (order, escapes); evanphx/json-patch (objects that a patch touches become maps).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from apiserver import jsonpatch, schemas

_ESCAPES = (("<", "\\u003c"), (">", "\\u003e"), ("&", "\\u0026"), ("\u2028", "\\u2028"), ("\u2029", "\\u2029"))


def merged(original: Any, patch: dict[str, Any], type_name: str) -> str:
    """Of an object of a type and a JSON merge patch."""
    return _text(_merge(ordered(original, ["struct", type_name]), patch))


def patched(original: Any, operations: list[dict[str, Any]], type_name: str) -> str:
    """Of an object of a type and the operations of a JSON patch, which can be applied to it."""
    result = jsonpatch.apply(ordered(original, ["struct", type_name]), operations)
    touched: set[tuple[str, ...]] = {()}
    for operation in operations:
        for member in ("path", "from"):
            touched |= set(_parents(str(operation.get(member, ""))))
    return _text(_sorted_at(result, touched, ()))


def ordered(value: Any, type_: list[Any]) -> Any:
    """The value with the fields of its structs in the order of their types; `type_` as the schemas have it."""
    kind = type_[0]
    if kind == "struct" and isinstance(value, dict):
        fields = schemas.types()["structs"].get(type_[1], {})
        known = {
            key: sorted_deep(value[key]) if key == "fieldsV1" else ordered(value[key], field["t"])
            for key, field in fields.items()
            if key in value
        }
        return known | {key: value[key] for key in sorted(value) if key not in known}
    if kind == "map" and isinstance(value, dict):
        return {key: ordered(value[key], type_[1]) for key in sorted(value)}
    if kind == "list" and isinstance(value, list):
        return [ordered(item, type_[1]) for item in value]
    return value


def sorted_deep(value: Any) -> Any:
    return {key: sorted_deep(value[key]) for key in sorted(value)} if isinstance(value, dict) else value


def _merge(document: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    out = dict(document)
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        elif isinstance(value, dict):
            known = out.get(key)
            out[key] = _merge(known, value) if isinstance(known, dict) else _without_nulls(value)
        else:
            out[key] = value if isinstance(out.get(key), dict) else _without_nulls(value)
    return dict(sorted(out.items()))


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in sorted(value.items()) if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _parents(pointer: str) -> Iterable[tuple[str, ...]]:
    parts = tuple(part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:])
    return (parts[:length] for length in range(len(parts)))


def _sorted_at(value: Any, touched: set[tuple[str, ...]], path: tuple[str, ...]) -> Any:
    if path not in touched:
        return value
    if isinstance(value, dict):
        return {key: _sorted_at(value[key], touched, (*path, key)) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted_at(item, touched, (*path, str(i))) for i, item in enumerate(value)]
    return value


def _text(value: Any) -> str:
    text = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    for plain, escaped in _ESCAPES:
        text = text.replace(plain, escaped)
    return text
