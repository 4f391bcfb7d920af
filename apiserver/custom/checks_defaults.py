"""Defaults in a schema must be valid by it, and have no fields that it does not know.

Source: k8s.io/apiextensions-apiserver pkg/apiserver/schema/defaulting (texts).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from apiserver.custom import embedded, pruning, values
from apiserver.custom.defaulting import copied
from apiserver.custom.structural import META_FIELDS, Node
from apiserver.equality import same
from apiserver.registry.faults import Faults


def check_defaults(node: Node, path: str, *, pruned: bool = True) -> Faults:
    """`pruned`: unknown fields are faults (an old definition may have some)."""
    faults = Faults()
    _check(node.as_root(), path, (), node.as_root(), False, faults, pruned)
    return faults


def _check(
    node: Node, path: str, steps: tuple[str, ...], root: Node, inside_meta: bool, faults: Faults, pruned: bool
) -> None:
    """`steps` lead from the nearest whole object (`root`) to the value; "" is an item of a list."""
    if node.embedded:
        inside_meta, steps, root = False, (), node
    if node.default is not None:
        at = f"{path}.default"
        if inside_meta:
            _check_meta_default(node, at, steps, root, faults)
        else:
            _check_default(node, at, node is root, faults, pruned)
    if node.items is not None:
        _check(node.items, f"{path}.items", (*steps, ""), root, inside_meta, faults, pruned)
    for name, inner in node.properties.items():
        below = inside_meta or (node.embedded and name in META_FIELDS)
        _check(inner, f"{path}.properties[{name}]", (*steps, name), root, below, faults, pruned)


def _check_default(node: Node, path: str, is_root: bool, faults: Faults, pruned: bool) -> None:
    value = copied(node.default)
    if pruned:
        pruning.prune(value, replace(node, embedded=node.embedded), root=node.embedded)
        if not same(value, node.default):
            faults.invalid(path, node.default, "must not have unknown fields")
    value = copied(node.default)
    found = Faults()
    try:
        embedded.coerce(value, node, path, [])
    except embedded.BadEmbedded as err:
        faults.append(err.cause)
        return
    embedded.check(value, node, path, found)
    if not found:
        _check_value(node, node.default, path, found, is_root)
    faults.extend(found)


def _check_meta_default(node: Node, path: str, steps: tuple[str, ...], root: Node, faults: Faults) -> None:
    """A default within metadata: the metadata that it makes must be valid."""
    value: Any = copied(node.default)
    for step in reversed(steps):
        value = {step: value} if step else [value]
    obj = {"kind": "Validation", "apiVersion": "validation/v1", **value}
    found = Faults()
    try:
        embedded.coerce(obj, root, "", [])
        embedded.check(obj, root, "", found)
    except embedded.BadEmbedded as err:
        faults.invalid(path, node.default, f"must result in valid metadata: {err}")
        return
    if found:
        from apiserver.custom.conditions import aggregate

        faults.invalid(path, node.default, f"must result in valid metadata: {aggregate(found)}")
        return
    _check_value(node, node.default, path, faults, False)


def _check_value(node: Node, value: Any, path: str, faults: Faults, is_root: bool) -> None:
    before = len(faults)
    values.check(value, node.wire, faults, path=path)
    if len(faults) == before and any(inner.rules for inner in node.walk()):
        from apiserver.cel.rules import Rules

        rules = Rules(node, root=is_root)
        rules.check(value, value, None, faults, [], path=path)
        if len(faults) == before:
            rules.check(value, None, None, faults, [], path=path)
