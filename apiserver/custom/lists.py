"""Lists that are sets or maps: no item may come twice.

Source: Kubernetes documentation, "Server-Side Apply", "Merge strategy" (x-kubernetes-list-type).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from apiserver.custom.structural import Node
from apiserver.registry.faults import Faults


def check_lists(value: Any, node: Node, path: str, faults: Faults) -> None:
    """Every list below a value; `path` is "" at the root."""
    if isinstance(value, dict):
        if node.additional is not None:
            for key, item in value.items():
                check_lists(item, node.additional, f"{path}[{key}]", faults)
        for key, item in value.items():
            if (inner := node.properties.get(key)) is not None:
                check_lists(item, inner, f"{path}.{key}" if path else key, faults)
    elif isinstance(value, list):
        if node.list_type == "set":
            for i in repeated(value):
                faults.duplicate(f"{path}[{i}]", value[i])
        elif node.list_type == "map":
            _check_map(value, node, path, faults)
        if node.items is not None:
            for i, item in enumerate(value):
                check_lists(item, node.items, f"{path}[{i}]", faults)


def _check_map(value: list[Any], node: Node, path: str, faults: Faults) -> None:
    for i, item in enumerate(value):
        if item is not None and not isinstance(item, dict):
            faults.invalid(f"{path}[{i}]", item, "must be an object for an array of list-type map")
            return
    keys = [{key: item[key] for key in node.list_keys if key in item} if item else {} for item in value]
    for i in repeated(keys):
        faults.duplicate(f"{path}[{i}]", keys[i])


def repeated(items: Sequence[Any]) -> list[int]:
    """The index of each second occurrence; items are equal where their JSON is."""
    seen: dict[bytes, int] = {}
    found = []
    for i, item in enumerate(items):
        text = orjson.dumps(item, option=orjson.OPT_SORT_KEYS)
        seen[text] = seen.get(text, 0) + 1
        if seen[text] == 2:
            found.append(i)
    return found


def by_keys(items: Any, keys: Sequence[str]) -> dict[bytes, Any]:
    """The items of a list-map by their keys; what lacks one is left out."""
    found: dict[bytes, Any] = {}
    for item in items if isinstance(items, list) else ():
        label = key_of(item, keys)
        if label is not None:
            found.setdefault(label, item)
    return found


def key_of(item: Any, keys: Sequence[str]) -> bytes | None:
    if not isinstance(item, dict) or not keys:
        return None
    found = [item.get(key) for key in keys]
    if any(value is None or isinstance(value, dict | list) for value in found):
        return None
    return orjson.dumps(found)
