"""Sets of fields in the form they have on the wire, FieldsV1, and their algebra. Pure; no input is changed.

A set is a tree of dicts: `{"f:spec": {"f:replicas": {}}}`. Keys are `f:` and a field's name, `k:` and the JSON of a
list item's keys, `v:` and the JSON of a set's item. A path is in the set where its node is empty or has the key `.`; a
node without it only leads to others. The root is no path: `{}` is the empty set.

Every function gives back its first argument, the very object, where the result would equal it.
Source: Kubernetes API reference, FieldsV1; KEP-555.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import orjson

Fields = dict[str, Any]

SELF: Final = "."
MEMBER: Final[Fields] = {}
"""A path that is in the set, with nothing below. Shared by all sets: never to be changed."""
MAX_DEPTH = 100
_RANK = {"f": 0, "k": 1, "v": 2, "i": 3}


def is_member(node: Fields) -> bool:
    return not node or SELF in node


def member(node: Fields) -> Fields:
    """The node with its own path in the set."""
    return node if is_member(node) else {SELF: MEMBER, **node}


def tidy(node: Fields) -> Fields | None:
    """A node from which something was taken: None where nothing is left, MEMBER where only its own path is."""
    if not node:
        return None
    return MEMBER if len(node) == 1 and SELF in node else node


def is_set(value: Any, depth: int = MAX_DEPTH) -> bool:
    """Whether a value from outside is a set of fields that is no deeper than `depth`."""
    if not isinstance(value, dict) or depth == 0:
        return False
    return all(_is_element(key) and is_set(node, depth - 1) for key, node in value.items())


def _is_element(key: str) -> bool:
    kind, text = key[:2], key[2:]
    if key == SELF or kind == "f:":
        return True
    if kind not in ("k:", "v:", "i:"):
        return False
    try:
        value = orjson.loads(text)
    except ValueError:
        return False
    return kind != "k:" or isinstance(value, dict)


def union(a: Fields, b: Fields) -> Fields:
    out: Fields | None = None
    for key, theirs in b.items():
        mine = a.get(key)
        merged = theirs if mine is None else _union(mine, theirs)
        if merged is mine:
            continue
        if out is None:
            out = dict(a)
        out[key] = merged
    return a if out is None else out


def _union(a: Fields, b: Fields) -> Fields:
    if not b:
        return member(a)
    return member(b) if not a else union(a, b)


def difference(a: Fields, b: Fields) -> Fields:
    """The paths of `a` that are not in `b`; what is below a path of `b` stays unless it is in `b` itself."""
    out: Fields | None = None
    for key, theirs in b.items():
        mine = a.get(key)
        if mine is None:
            continue
        kept = _difference(mine, theirs)
        if kept is mine:
            continue
        if out is None:
            out = dict(a)
        if kept is None:
            del out[key]
        else:
            out[key] = kept
    return a if out is None else out


def _difference(a: Fields, b: Fields) -> Fields | None:
    if not a:
        return None if is_member(b) else a
    kept = difference(a, b or {SELF: MEMBER})
    return a if kept is a else tidy(kept)


def without(a: Fields, b: Fields) -> Fields:
    """The paths of `a` that are neither in `b` nor below one that is."""
    out: Fields | None = None
    for key, theirs in b.items():
        mine = a.get(key)
        if mine is None:
            continue
        kept = None if is_member(theirs) else tidy(without(mine, theirs)) if mine else mine
        if kept == mine:
            continue
        if out is None:
            out = dict(a)
        if kept is None:
            del out[key]
        else:
            out[key] = kept
    return a if out is None else out


def intersection(a: Fields, b: Fields) -> Fields:
    out: Fields = {}
    for key, mine in a.items():
        theirs = b.get(key)
        if theirs is None:
            continue
        if not mine or not theirs:
            both = MEMBER if is_member(mine) and is_member(theirs) else None
        else:
            both = tidy(intersection(mine, theirs))
        if both is not None:
            out[key] = both
    return a if len(out) == len(a) and out == a else out


Path = tuple[str, ...]


def paths(fields: Fields, prefix: Path = ()) -> Iterator[Path]:
    """Every path of the set: at each level first those that end there; fields, keys, values, each sorted."""
    ordered = sorted((key for key in fields if key != SELF), key=lambda key: (_RANK.get(key[0], 4), key))
    for key in ordered:
        if is_member(fields[key]):
            yield (*prefix, key)
    for key in ordered:
        if fields[key]:
            yield from paths(fields[key], (*prefix, key))


def path_text(path: Path) -> str:
    """A path as messages have it: `.spec.containers[name="c"].image`, `.metadata.finalizers["a.example.com/b"]`."""
    return "".join(element_text(key) for key in path)


def element_text(key: str) -> str:
    kind, text = key[:1], key[2:]
    if kind == "f":
        return f".{text}"
    if kind == "k":
        items = orjson.loads(text).items()
        return "[" + ",".join(f"{name}={_key_text(value)}" for name, value in items) + "]"
    return f"[={text}]" if kind == "v" else f"[{text}]"


def _key_text(value: Any) -> str:
    """Nothing for a key that is no scalar."""
    return "" if value is None or isinstance(value, dict | list) else orjson.dumps(value).decode()
