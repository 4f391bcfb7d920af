"""JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7396)."""

from __future__ import annotations

import copy
from typing import Any

import orjson

from apiserver.equality import same

MAX_OPERATIONS = 10_000
MAX_COPIED = 3 * 1024 * 1024  # bytes, of all that one patch copies. Source: k8s.io/apiserver, JSONPatchMaxCopyBytes


class JsonPatchError(ValueError):
    """An operation that cannot be carried out on this document."""


def merge(target: Any, patch: Any) -> Any:
    """The target with a merge patch applied: null deletes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return patch
    out = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            out.pop(key, None)
        else:
            out[key] = merge(out.get(key), value)
    return out


def apply(document: Any, operations: list[dict[str, Any]]) -> Any:
    """The document after all operations, which stays as it is. Raises JsonPatchError; then nothing is done."""
    out = copy.deepcopy(document)
    copied = 0
    for operation in operations:
        if operation.get("op") == "copy":
            copied += _size(_find_loosely(out, _path(operation, "from")))
            if copied > MAX_COPIED:
                raise JsonPatchError(f"unable to complete the copy: {copied} bytes, more than {MAX_COPIED}")
        out = _apply_one(out, operation)
    return out


def _size(value: Any) -> int:
    """Of the value as JSON, in bytes. Copied into itself again and again it becomes too deep to be written."""
    try:
        return len(orjson.dumps(value))
    except orjson.JSONEncodeError as err:
        raise JsonPatchError(f"unable to complete the copy: {err}") from err


def _apply_one(document: Any, operation: dict[str, Any]) -> Any:
    kind, path = operation.get("op"), _path(operation, "path")
    if kind in ("add", "copy", "move") and not path:
        raise JsonPatchError(f"{kind} operation cannot replace the whole document")
    if kind == "add":
        return _add(document, path, copy.deepcopy(_value(operation)))
    if kind == "remove":
        _remove(document, path)
    elif kind == "replace":
        if not path:
            return copy.deepcopy(_value(operation))
        parent, key = _find(document, path[:-1]), path[-1]
        if not isinstance(parent, list | dict):
            raise JsonPatchError(f"nothing at /{'/'.join(path)}")
        if isinstance(parent, list):
            parent[_index(parent, key)] = copy.deepcopy(_value(operation))
        else:
            parent[key] = copy.deepcopy(_value(operation))
    elif kind == "test":
        _test(document, path, operation.get("value"))
    elif kind == "copy":
        return _add(document, path, copy.deepcopy(_find_loosely(document, _path(operation, "from"))))
    elif kind == "move":
        source = _path(operation, "from")
        value = _find(document, source)
        _remove(document, source)
        return _add(document, path, value)
    else:
        raise JsonPatchError(f"Unexpected kind: {kind}")
    return document


def _value(operation: dict[str, Any]) -> Any:
    if "value" not in operation:
        raise JsonPatchError(f"{operation.get('op')} operation does not have a value")
    return operation["value"]


def _path(operation: dict[str, Any], member: str) -> list[str]:
    text = operation.get(member)
    if not isinstance(text, str) or (text and not text.startswith("/")):
        raise JsonPatchError(f"{member} is missing or no JSON pointer: {text!r}")
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _index(parent: list[Any], key: str, *, end: int = 0) -> int:
    """An index into a list, negative ones from its end; `end` is 1 where the place behind the last item counts."""
    try:
        index = int(key)
    except ValueError:
        raise JsonPatchError(f"no array index: {key!r}") from None
    size = len(parent) + end
    if not -size <= index < size:
        raise JsonPatchError(f"index {index} is out of bounds")
    return index + size if index < 0 else index


def _find(document: Any, path: list[str]) -> Any:
    value = document
    for key in path:
        if isinstance(value, list):
            value = value[_index(value, key)]
        elif isinstance(value, dict) and key in value:
            value = value[key]
        else:
            raise JsonPatchError(f"nothing at /{'/'.join(path)}")
    return value


def _find_loosely(document: Any, path: list[str]) -> Any:
    """A member that is not there is null, as in the library that upstream uses; that library also replaces it."""
    parent = _find(document, path[:-1])
    return parent.get(path[-1]) if path and isinstance(parent, dict) else _find(document, path)


def _add(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    parent, key = _find(document, path[:-1]), path[-1]
    if isinstance(parent, list):
        parent.insert(len(parent) if key == "-" else _index(parent, key, end=1), value)
    elif isinstance(parent, dict):
        parent[key] = value
    else:
        raise JsonPatchError(f"nothing can be added at /{'/'.join(path)}")
    return document


def _remove(document: Any, path: list[str]) -> None:
    _find(document, path)
    if not path:
        raise JsonPatchError("the whole document cannot be removed")
    parent, key = _find(document, path[:-1]), path[-1]
    del parent[_index(parent, key) if isinstance(parent, list) else key]


def _test(document: Any, path: list[str], expected: Any) -> None:
    try:
        found = _find(document, path)
    except JsonPatchError:
        if expected is None:
            return
        raise
    if not same(found, expected):
        raise JsonPatchError(f"testing value /{'/'.join(path)} failed")
