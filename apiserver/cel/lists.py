"""Functions of lists and sets: Kubernetes' list library, cel-go's lists (version 3) and sets.

Source: Kubernetes documentation, "Kubernetes list library"; cel-go ext/lists.go and ext/sets.go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import cmp_to_key
from typing import Any

from apiserver.cel import operators
from apiserver.cel.values import CelError, Maybe, UInt, equal, is_list

_less = operators.comparison(lambda a, b: a < b)
_at_most = operators.comparison(lambda a, b: a <= b)
MAX_RANGE = 1 << 20


def _items(value: Any) -> Sequence[Any]:
    if not is_list(value):
        raise TypeError
    found: Sequence[Any] = value
    return found


def is_sorted(items: Any) -> bool:
    found = _items(items)
    return all(_at_most(found[i], found[i + 1]) for i in range(len(found) - 1))


def total(items: Any) -> Any:
    found = _items(items)
    if not found:
        return 0
    zero: Any = timedelta() if isinstance(found[0], timedelta) else type(found[0])(0)
    out = UInt(zero) if isinstance(found[0], UInt) else zero
    for item in found:
        out = operators.add(out, item)
    return out


def _extreme(name: str, better: Callable[[Any, Any], bool]) -> Callable[[Any], Any]:
    def find(items: Any) -> Any:
        found = _items(items)
        if not found:
            raise CelError(f"{name} called on empty list")
        best = found[0]
        for item in found[1:]:
            if better(item, best):
                best = item
        return best

    return find


def index_of(items: Any, wanted: Any) -> int:
    return next((i for i, item in enumerate(_items(items)) if equal(item, wanted)), -1)


def last_index_of(items: Any, wanted: Any) -> int:
    found = _items(items)
    return next((i for i in range(len(found) - 1, -1, -1) if equal(found[i], wanted)), -1)


def distinct(items: Any) -> list[Any]:
    out: list[Any] = []
    for item in _items(items):
        if not any(equal(item, one) for one in out):
            out.append(item)
    return out


def flatten(items: Any, depth: int = 1) -> list[Any]:
    if depth < 0:
        raise CelError("level must be non-negative")
    out: list[Any] = []
    for item in _items(items):
        if is_list(item) and depth > 0:
            out.extend(flatten(item, depth - 1))
        else:
            out.append(item)
    return out


def slice_(items: Any, start: int, end: int) -> list[Any]:
    found = _items(items)
    if start < 0 or end < 0:
        raise CelError(f"cannot slice({start}, {end}), negative indexes not supported")
    if start > end:
        raise CelError(f"cannot slice({start}, {end}), start index must be less than or equal to end index")
    if end > len(found):
        raise CelError(f"cannot slice({start}, {end}), list is length {len(found)}")
    return list(found[start:end])


def sort(items: Any) -> list[Any]:
    def order(a: Any, b: Any) -> int:
        return -1 if _less(a, b) else 1 if _less(b, a) else 0

    return sorted(_items(items), key=cmp_to_key(order))


def range_(count: int) -> list[int]:
    if count > MAX_RANGE:
        raise CelError(f"lists.range({count}): at most {MAX_RANGE} items")
    return list(range(count))


def contains(a: Any, b: Any) -> bool:
    return all(any(equal(x, y) for y in _items(a)) for x in _items(b))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "isSorted": is_sorted,
    "sum": total,
    "max": _extreme("max", lambda a, b: _less(b, a)),
    "min": _extreme("min", _less),
    "indexOf": index_of,
    "lastIndexOf": last_index_of,
    "distinct": distinct,
    "flatten": flatten,
    "reverse": lambda items: list(reversed(_items(items))),
    "slice": slice_,
    "sort": sort,
    "first": lambda items: Maybe(_items(items)[0]) if len(items) else Maybe(),
    "last": lambda items: Maybe(_items(items)[-1]) if len(items) else Maybe(),
    "lists.range": range_,
    "sets.contains": contains,
    "sets.equivalent": lambda a, b: contains(a, b) and contains(b, a),
    "sets.intersects": lambda a, b: any(equal(x, y) for x in _items(a) for y in _items(b)),
}
