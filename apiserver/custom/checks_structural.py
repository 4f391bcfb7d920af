"""Whether a schema is structural: a type for every value, and value checks that say nothing of types.

Source: Kubernetes documentation, "Specifying a structural schema"; k8s.io/apiextensions-apiserver pkg/apiserver/schema
(texts).
"""

from __future__ import annotations

from typing import Any

from apiserver.custom import patterns
from apiserver.custom.structural import Node
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults

ROOT, ITEM, FIELD = "at the root", "for specified array items", "for specified object fields"
_INT_OR_STRING = [{"type": "integer"}, {"type": "string"}]
_FORBIDDEN_TEXTS = (
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    ("x-kubernetes-preserve-unknown-fields", "must be false to be structural"),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
)


def check_structural(node: Node, path: str) -> Faults:
    """Sorted by their texts, as upstream has them."""
    faults = Faults()
    _check(node, ROOT, path, faults)
    _complete_values(node.wire, node, path, path, faults)
    faults.sort(key=lambda cause: f"{cause.field}: {cause.message}")
    return faults


def _check(node: Node, level: str, path: str, faults: Faults) -> None:
    if node.type == "array" and node.items is None:
        faults.required(f"{path}.items", "must be specified")
    if node.items is not None:
        _check(node.items, ITEM, f"{path}.items", faults)
    for name, inner in node.properties.items():
        _check(inner, FIELD, f"{path}.properties[{name}]", faults)
    if node.has_additional and level == ROOT:
        faults.forbidden(f"{path}.additionalProperties", "must not be used at the root")
    if node.additional is not None:
        _check(node.additional, FIELD, f"{path}.additionalProperties", faults)
    if node.int_or_string and node.preserve:
        text = "must be false if x-kubernetes-int-or-string is true"
        faults.invalid(f"{path}.x-kubernetes-preserve-unknown-fields", True, text)
    if node.int_or_string and node.embedded:
        text = "must be false if x-kubernetes-int-or-string is true"
        faults.invalid(f"{path}.x-kubernetes-embedded-resource", True, text)
    wire = node.wire
    skip_any = wire.get("anyOf") == _INT_OR_STRING
    first = (wire.get("allOf") or [{}])[0]
    _check_values(wire, skip_any, first.get("anyOf") == _INT_OR_STRING, path, faults, rules=False)
    _check_type(node, level, path, faults)
    _check_meta(node, level, path, faults)


def _check_type(node: Node, level: str, path: str, faults: Faults) -> None:
    if node.embedded and node.type != "object":
        text = "must be object if x-kubernetes-embedded-resource is true"
        if node.type:
            faults.invalid(f"{path}.type", node.type, text)
        else:
            faults.required(f"{path}.type", text)
    elif not node.type and not node.int_or_string and not node.preserve:
        faults.required(f"{path}.type", f"must not be empty {level}")
    if node.embedded and node.has_additional:
        faults.forbidden(f"{path}.additionalProperties", "must not be used if x-kubernetes-embedded-resource is set")
    if level == ROOT and node.type and node.type != "object":
        faults.invalid(f"{path}.type", node.type, "must be object at the root")
    if node.embedded and not node.preserve and not node.properties:
        text = "must not be empty if x-kubernetes-embedded-resource is true without"
        faults.required(f"{path}.properties", f"{text} x-kubernetes-preserve-unknown-fields")


def _check_meta(node: Node, level: str, path: str, faults: Faults) -> None:
    if level != ROOT and not node.embedded:
        return
    for name in ("kind", "apiVersion"):
        inner = node.properties.get(name)
        if inner is not None and inner.type != "string":
            faults.invalid(f"{path}.properties[{name}].type", inner.type, "must be string")
    metadata = node.properties.get("metadata")
    if metadata is None:
        return
    at = f"{path}.properties[metadata]"
    if metadata.type != "object":
        faults.invalid(f"{at}.type", metadata.type, "must be object")
    if level == ROOT:
        rest = {key: value for key, value in metadata.wire.items() if key not in ("type", "default")}
        names = set(rest.get("properties") or ())
        if names and names <= {"name", "generateName"}:
            rest.pop("properties")
        if rest:
            text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
            faults.forbidden(at, text)


def _check_values(wire: Object, skip_any: bool, skip_first: bool, path: str, faults: Faults, *, rules: bool) -> None:
    """Junctors and the pattern; int-or-string may have its types in an `anyOf`."""
    if not skip_any:
        for i, inner in enumerate(wire.get("anyOf") or ()):
            _check_nested(inner, False, f"{path}.anyOf[{i}]", faults, rules=False)
    for i, inner in enumerate(wire.get("allOf") or ()):
        _check_nested(inner, skip_first and i == 0, f"{path}.allOf[{i}]", faults, rules=rules)
    for i, inner in enumerate(wire.get("oneOf") or ()):
        _check_nested(inner, False, f"{path}.oneOf[{i}]", faults, rules=False)
    if isinstance(wire.get("not"), dict):
        _check_nested(wire["not"], False, f"{path}.not", faults, rules=False)
    if pattern := wire.get("pattern"):
        try:
            patterns.compiled(pattern)
        except patterns.BadPattern as err:
            text = f"must be a valid regular expression, but isn't: {err}"
            faults.invalid(f"{path}.pattern", pattern, text)


def _check_nested(wire: Object, skip_any: bool, path: str, faults: Faults, *, rules: bool) -> None:
    _check_values(wire, skip_any, False, path, faults, rules=rules)
    if isinstance(wire.get("items"), dict):
        _check_nested(wire["items"], False, f"{path}.items", faults, rules=rules)
    for name, inner in sorted((wire.get("properties") or {}).items()):
        _check_nested(inner, False, f"{path}.properties[{name}]", faults, rules=rules)
    for key, text in _FORBIDDEN_TEXTS:
        if wire.get(key) not in (None, "", False, [], {}) and not (rules and key == "x-kubernetes-validations"):
            faults.forbidden(f"{path}.{key}", text)
    if "metadata" in (wire.get("properties") or {}):
        faults.forbidden(f"{path}.properties[metadata]", "must not be specified in a nested context")


# --- what junctors speak of must be there


def _complete_values(wire: Object, node: Node, at: str, path: str, faults: Faults) -> None:
    if isinstance(wire.get("not"), dict):
        _complete(wire["not"], node, at, f"{path}.not", faults)
    for junctor in ("allOf", "anyOf", "oneOf"):
        for i, inner in enumerate(wire.get(junctor) or ()):
            _complete(inner, node, at, f"{path}.{junctor}[{i}]", faults)


def _complete(wire: Any, node: Node | None, at: str, path: str, faults: Faults) -> None:
    if not isinstance(wire, dict):
        return
    if node is None:
        faults.required(at, f"because it is defined in {path}")
        return
    _complete_values(wire, node, at, path, faults)
    _complete(wire.get("items"), node.items, f"{at}.items", f"{path}.items", faults)
    for name, inner in sorted((wire.get("properties") or {}).items()):
        there, here = f"{path}.properties[{name}]", f"{at}.properties[{name}]"
        found = node.properties.get(name)
        if found is None:
            faults.required(here, f"because it is defined in {there}")
        else:
            _complete(inner, found, here, there, faults)
