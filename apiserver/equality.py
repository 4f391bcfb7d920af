"""Whether two JSON values are the same. Python takes true for 1, and false for 0; a store of JSON may not."""

from __future__ import annotations

from typing import Any


def same(a: Any, b: Any) -> bool:
    """Deep equality of JSON values; true is not 1."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(value, b[key]) for key, value in a.items())
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)
