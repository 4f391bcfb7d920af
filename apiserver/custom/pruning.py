"""What of an object its schema does not know goes, and so do nulls that it does not allow. Changes the object in place.

Laws: pruning twice is pruning once; what is left is described by the schema or lies below a node that preserves.
Source: Kubernetes documentation, "Field pruning", "Controlling pruning", "Defaulting and Nullable".
"""

from __future__ import annotations

from typing import Any

from apiserver.custom.structural import META_FIELDS, Node


def prune(value: Any, node: Node, *, root: bool = True) -> list[str]:
    """Remove unknown fields. The paths of what was removed, sorted (`spec.ports[0].x`)."""
    unknown: list[str] = []
    _prune(value, node.as_root() if root else node, "", unknown)
    unknown.sort()
    return unknown


def _prune(value: Any, node: Node | None, path: str, unknown: list[str]) -> None:
    if node is not None and node.preserve:
        _skip(value, node, path, unknown)
    elif isinstance(value, dict):
        _prune_map(value, node, path, unknown)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _prune(item, node.items if node else None, f"{path}[{i}]", unknown)


def _prune_map(value: dict[str, Any], node: Node | None, path: str, unknown: list[str]) -> None:
    for key in list(value):
        inner = f"{path}.{key}" if path else key
        if node is not None:
            if node.embedded and key in META_FIELDS:
                continue
            if (field := node.properties.get(key)) is not None or node.has_additional:
                _prune(value[key], field or node.additional, inner, unknown)
                continue
        if node is None or path or key not in META_FIELDS:
            unknown.append(inner)
        del value[key]


def _skip(value: Any, node: Node | None, path: str, unknown: list[str]) -> None:
    """Below a node that preserves: only what has a schema of its own is pruned again."""
    if node is None:
        return
    if isinstance(value, dict):
        for key, item in value.items():
            if node.embedded and key in META_FIELDS:
                continue
            if (field := node.properties.get(key)) is not None or node.has_additional:
                _prune(item, field or node.additional, f"{path}.{key}" if path else key, unknown)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            _skip(item, node.items, f"{path}[{i}]", unknown)


def drop_nulls(value: Any, node: Node | None) -> None:
    """Remove null fields that are neither nullable nor get a default."""
    if isinstance(value, dict):
        for key in list(value):
            inner = node.child(key) if node else None
            if value[key] is None and inner is not None and not inner.nullable and inner.default is None:
                del value[key]
            else:
                drop_nulls(value[key], inner)
    elif isinstance(value, list):
        for item in value:
            drop_nulls(item, node.items if node else None)
