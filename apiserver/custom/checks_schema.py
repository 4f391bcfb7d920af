"""What may stand in the schemas of a CustomResourceDefinition, structural or not.

Source: k8s.io/apiextensions-apiserver pkg/apis/apiextensions/validation (order and texts).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from apiserver.custom import fieldpaths
from apiserver.custom.structural import NotStructural, structural
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults, inner

if TYPE_CHECKING:
    from apiserver.cel.definitions import RuleChecks

TYPES = ("array", "boolean", "integer", "number", "object", "string")
REASONS = ("FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired")
META_FIELDS = ("metadata", "kind", "apiVersion")
_UNSUPPORTED = (
    ("id", "id is not supported"),
    ("additionalItems", "additionalItems is not supported"),
    ("patternProperties", "patternProperties is not supported"),
    ("definitions", "definitions is not supported"),
    ("dependencies", "dependencies is not supported"),
    ("$ref", "$ref is not supported"),
)
_NEWLINES = re.compile(r"[\n\r]+").search


@dataclass(frozen=True, slots=True)
class Place:
    """Where a schema stands. `no_defaults`: why it may have none, None where it may; `old_forbidden`: the path of the
    schema above whose values cannot be told apart from their old ones.
    """

    no_defaults: str | None = None
    inside_meta: bool = False
    old_forbidden: str | None = None

    def without_defaults(self, why: str) -> Place:
        return replace(self, no_defaults=why)

    def without_old(self, path: str) -> Place:
        return self if self.old_forbidden is not None else replace(self, old_forbidden=path)


def check_schema(schema: Object, path: str, rules: RuleChecks | None) -> Faults:
    """Faults of the schema, then those of its rules; `rules` None: it is not structural, so no rules are compiled."""
    faults, rule_faults = Faults(), Faults()
    _check(schema, path, Place(), True, faults, rule_faults, rules)
    faults.extend(rule_faults)
    return faults


def _check(
    schema: Any, path: str, place: Place, root: bool, faults: Faults, late: Faults, rules: RuleChecks | None
) -> None:
    """`late` takes the faults of compiled rules."""
    if not isinstance(schema, dict):
        return
    before = len(faults)
    _check_keywords(schema, path, place, faults)
    if schema.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        faults.forbidden(f"{path}.uniqueItems", text)
    additional, properties = schema.get("additionalProperties"), schema.get("properties") or {}
    if additional is not None:
        if properties and additional is not True:
            faults.forbidden(f"{path}.additionalProperties", "additionalProperties and properties are mutual exclusive")
        inside = place
        if place.inside_meta:
            inside = place.without_defaults("inside additionalProperties applying to object metadata")
        below = rules.additional(additional) if rules and isinstance(additional, dict) else None
        _check(additional, f"{path}.additionalProperties", inside, False, faults, late, below)
    for name, value in sorted(properties.items()):
        inside = place
        if schema.get("x-kubernetes-map-type") not in (None, "granular", "atomic"):
            inside = inside.without_old(path)
        if (root or schema.get("x-kubernetes-embedded-resource")) and name in META_FIELDS:
            inside = replace(inside, inside_meta=True)
            if root:
                inside = inside.without_defaults(f"in top-level {name}")
        below = rules.property(name, value) if rules else None
        _check(value, f"{path}.properties[{name}]", inside, False, faults, late, below)
    _check(schema.get("not"), f"{path}.not", place, False, faults, late, None)
    for junctor in ("allOf", "oneOf", "anyOf"):
        for i, value in enumerate(schema.get(junctor) or ()):
            _check(value, f"{path}.{junctor}[{i}]", place, False, faults, late, None)
    for name, value in sorted((schema.get("definitions") or {}).items()):
        _check(value, f"{path}.definitions[{name}]", place, False, faults, late, None)
    _check_items(schema, path, place, faults, late, rules)
    for name, value in sorted((schema.get("dependencies") or {}).items()):
        _check(value, f"{path}.dependencies[{name}]", place, False, faults, late, None)
    _check_extensions(schema, path, faults)
    _check_rules(schema, path, faults)
    if schema.get("x-kubernetes-validations") and rules is not None and len(faults) == before:
        rules.check(schema, path, place.old_forbidden, late)


def _check_keywords(schema: Object, path: str, place: Place, faults: Faults) -> None:
    type_ = schema.get("type") or ""
    if type_ and type_ not in TYPES:
        faults.unsupported(f"{path}.type", type_, TYPES)
    if schema.get("default") is not None and place.no_defaults is not None:
        faults.forbidden(f"{path}.default", f"must not be set {place.no_defaults}".rstrip())
    for key, text in _UNSUPPORTED:
        if schema.get(key) not in ((None,) if key == "additionalItems" else (None, "", {})):
            faults.forbidden(f"{path}.{key}", text)
    if type_ == "null":
        faults.forbidden(f"{path}.type", "type cannot be set to null, use nullable as an alternative")
    if schema.get("items") and isinstance(schema["items"], list):
        faults.forbidden(f"{path}.items", "items must be a schema object and not an array")
    if place.inside_meta and schema.get("x-kubernetes-embedded-resource"):
        faults.forbidden(f"{path}.x-kubernetes-embedded-resource", "must not be used inside of resource meta")


def _check_items(
    schema: Object, path: str, place: Place, faults: Faults, late: Faults, rules: RuleChecks | None
) -> None:
    items = schema.get("items")
    inside = place if schema.get("x-kubernetes-list-type") == "map" else place.without_old(path)
    if isinstance(items, dict):
        _check(items, f"{path}.items", inside, False, faults, late, rules.items(items) if rules else None)
    for i, value in enumerate(items if isinstance(items, list) else ()):
        _check(value, f"{path}.items[{i}]", inside, False, faults, late, None)


def _check_extensions(schema: Object, path: str, faults: Faults) -> None:
    if schema.get("x-kubernetes-preserve-unknown-fields") is False:
        faults.invalid(f"{path}.x-kubernetes-preserve-unknown-fields", False, "must be true or undefined")
    type_, map_type = schema.get("type") or "", schema.get("x-kubernetes-map-type")
    if map_type is not None and type_ != "object":
        _wrong_type(type_, f"{path}.type", "must be object if x-kubernetes-map-type is specified", faults)
    if map_type not in (None, "atomic", "granular"):
        faults.unsupported(f"{path}.x-kubernetes-map-type", map_type, ("atomic", "granular"))
    list_type, keys = schema.get("x-kubernetes-list-type"), schema.get("x-kubernetes-list-map-keys") or []
    if list_type is not None and type_ != "array":
        _wrong_type(type_, f"{path}.type", "must be array if x-kubernetes-list-type is specified", faults)
    elif list_type == "set" and isinstance(schema.get("items"), dict):
        _check_set(schema["items"], path, faults)
    if list_type not in (None, "atomic", "set", "map"):
        faults.unsupported(f"{path}.x-kubernetes-list-type", list_type, ("atomic", "set", "map"))
    if keys and list_type != "map":
        text = "must be map if x-kubernetes-list-map-keys is non-empty"
        if list_type is None:
            faults.required(f"{path}.x-kubernetes-list-type", text)
        else:
            faults.invalid(f"{path}.x-kubernetes-list-type", list_type, text)
    if list_type == "map":
        _check_map(schema, keys, path, faults)
    if list_type in ("map", "set") and isinstance(schema.get("items"), dict):
        _check_keys(schema["items"], list_type, keys, path, faults)


def _wrong_type(type_: str, path: str, text: str, faults: Faults) -> None:
    if type_:
        faults.invalid(path, type_, text)
    else:
        faults.required(path, text)


def _check_set(items: Object, path: str, faults: Faults) -> None:
    text = "must be atomic as item of a list with x-kubernetes-list-type=set"
    if items.get("type") == "array" and items.get("x-kubernetes-list-type") not in (None, "atomic"):
        faults.invalid(f"{path}.items.x-kubernetes-list-type", items["x-kubernetes-list-type"], text)
    if items.get("type") == "object" and items.get("x-kubernetes-map-type") != "atomic":
        # upstream shows the list type here
        faults.invalid(f"{path}.items.x-kubernetes-map-type", items.get("x-kubernetes-list-type"), text)


def _check_map(schema: Object, keys: list[str], path: str, faults: Faults) -> None:
    items = schema.get("items")
    if not keys:
        faults.required(f"{path}.x-kubernetes-list-map-keys", "must not be empty if x-kubernetes-list-type is map")
    if items is None:
        faults.required(f"{path}.items", "must have a schema if x-kubernetes-list-type is map")
    elif isinstance(items, list):
        faults.invalid(f"{path}.items", items, "must only have a single schema if x-kubernetes-list-type is map")
    elif items.get("type") != "object":
        text = "must be object if parent array's x-kubernetes-list-type is map"
        faults.invalid(f"{path}.items.type", items.get("type") or "", text)
    else:
        seen: set[str] = set()
        at = f"{path}.x-kubernetes-list-map-keys"
        for key in keys:
            found = (items.get("properties") or {}).get(key)
            if found is None:
                faults.invalid(at, keys, "entries must all be names of item properties")
            elif found.get("type") in ("array", "object"):
                text = "must be a scalar type if parent array's x-kubernetes-list-type is map"
                faults.invalid(f"{path}.items.properties[{key}].type", items["type"], text)
            if key in seen:
                faults.invalid(at, keys, "must not contain duplicate entries")
            seen.add(key)


def _check_keys(items: Object, list_type: str, keys: Iterable[str], path: str, faults: Faults) -> None:
    if items.get("nullable"):
        faults.forbidden(f"{path}.items.nullable", f"cannot be nullable when x-kubernetes-list-type is {list_type}")
    if list_type != "map":
        return
    for key in keys:
        found = (items.get("properties") or {}).get(key)
        if found is None:
            continue
        at = f"{path}.items.properties[{key}]"
        if key not in (items.get("required") or ()) and found.get("default") is None:
            text = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            faults.required(f"{at}.default", text)
        if found.get("nullable"):
            text = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable"
            faults.forbidden(f"{at}.nullable", text)


def _check_rules(schema: Object, path: str, faults: Faults) -> None:
    for i, rule in enumerate(schema.get("x-kubernetes-validations") or ()):
        at = f"{path}.x-kubernetes-validations[{i}]"
        text, message = (rule.get("rule") or "").strip(), rule.get("message") or ""
        if not text:
            faults.required(f"{at}.rule", "rule is not specified")
        elif message and not message.strip():
            faults.invalid(f"{at}.message", message, "must be non-empty if specified")
        elif _NEWLINES(message.strip()):
            faults.invalid(f"{at}.message", message, "must not contain line breaks")
        elif _NEWLINES(text) and not message.strip():
            faults.required(f"{at}.message", "message must be specified if rule contains line breaks")
        expression, field = rule.get("messageExpression") or "", rule.get("fieldPath") or ""
        if expression and not expression.strip():
            faults.required(f"{at}.messageExpression", "messageExpression must be non-empty if specified")
        if rule.get("reason") is not None and rule["reason"] not in REASONS:
            faults.unsupported(f"{at}.reason", rule["reason"], REASONS)
        if field and not field.strip():
            faults.invalid(f"{at}.fieldPath", field, "must be non-empty if specified")
        if _NEWLINES(field):
            faults.invalid(f"{at}.fieldPath", field, "must not contain line breaks")
        if field and not _is_path(schema, field):
            faults.invalid(f"{at}.fieldPath", field, "must be a valid path")


def _is_path(schema: Object, path: str) -> bool:
    try:
        fieldpaths.resolve(path, structural(schema))
    except fieldpaths.BadFieldPath:
        return False
    except NotStructural:
        return True
    return True


def shown_rule(rule: Object) -> Any:
    """A rule as error texts show it."""
    return inner("apiextensions.v1.ValidationRule", rule)
