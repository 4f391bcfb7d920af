"""Defaults of a schema filled into an object, in place.

Laws: defaulting twice is defaulting once; a value that is there (and allowed to be null where it is) stays.
Source: Kubernetes documentation, "Defaulting", "Defaulting and Nullable".
"""

from __future__ import annotations

from typing import Any

from apiserver.custom.structural import Node


def copied(value: Any) -> Any:
    """A copy that shares nothing."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if isinstance(value, list) else value


def fill(value: Any, node: Node | None) -> None:
    if node is None:
        return
    if isinstance(value, dict):
        _fill_map(value, node)
    elif isinstance(value, list) and node.items is not None:
        for i, item in enumerate(value):
            if item is None and not node.items.nullable:
                value[i] = copied(node.items.default)
            fill(value[i], node.items)


def _fill_map(value: dict[str, Any], node: Node) -> None:
    for key, inner in node.properties.items():
        if inner.default is not None and (key not in value or (value[key] is None and not inner.nullable)):
            value[key] = copied(inner.default)
    for key in value:
        field = node.properties.get(key)
        if field is None and node.additional is not None and value[key] is None and not node.additional.nullable:
            value[key] = copied(node.additional.default)
        fill(value[key], field or node.additional)
