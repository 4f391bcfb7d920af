"""What the kinds of dynamic resource allocation share: names of devices and pools, selectors, configurations, sets.

Source: k8s.io/kubernetes/pkg/apis/resource/validation (order and texts); KEP-4381.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.deviceselectors import selector_fault
from apiserver.registry.faults import Faults
from apiserver.registry.pv_sources import check_driver_name

GROUP = "resource.k8s.io"
MAX_POOL_NAME, MAX_ID = 253, 32
MAX_SELECTORS, MAX_CONFIGS, MAX_EXPRESSION_B, MAX_PARAMETERS_B = 32, 32, 10 * 1024, 10 * 1024
EFFECTS = ("NoExecute", "NoSchedule", "None")
_IDENTIFIER = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_IDENTIFIER_TEXT = (
    "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric characters "
    "or '_' (e.g. 'my_name',  or 'MY_NAME',  or 'MyName', regex used for validation is '[A-Za-z_][A-Za-z0-9_]*')"
)

ItemCheck = Callable[[Any, str, Faults], None]


def check_items(items: Sequence[Any], limit: int, check: ItemCheck, path: str, faults: Faults) -> None:
    """Each item, unless there are too many (a `limit` below zero is none)."""
    if 0 <= limit < len(items):
        faults.too_many(path, len(items), limit)
        return
    for i, item in enumerate(items):
        check(item, f"{path}[{i}]", faults)


def check_set(
    items: Sequence[Any],
    limit: int,
    check: ItemCheck,
    key: Callable[[Any], Hashable],
    path: str,
    faults: Faults,
    *,
    shown: Callable[[Any], Any] | None = None,
) -> None:
    """Items of which no two may have the same key; `shown` is the key as errors print it."""
    check_items(items, limit, check, path, faults)
    if 0 <= limit < len(items):
        return
    seen: set[Hashable] = set()
    for i, item in enumerate(items):
        if (found := key(item)) in seen:
            faults.duplicate(f"{path}[{i}]", shown(item) if shown else found)
        seen.add(found)


def check_map(
    items: Mapping[str, Any],
    limit: int,
    longest: int,
    check_key: ItemCheck,
    check: ItemCheck,
    path: str,
    faults: Faults,
) -> None:
    """Keys above `longest` characters are cut in the middle where they stand in a path."""
    if 0 <= limit < len(items):
        faults.too_many(path, len(items), limit)
        return
    for key in sorted(items):
        check_key(key, path, faults)
        check(items[key], f"{path}[{_cut(key, max(longest, 16))}]", faults)


def _cut(text: str, limit: int) -> str:
    left = limit - 3
    return text if len(text) <= limit else text[: (left + 1) // 2] + "..." + text[len(text) - left // 2 :]


# --- names


def check_label(name: str, path: str, faults: Faults) -> None:
    faults.each(path, name, names.dns1123_label(name))


def check_pool_name(name: str, path: str, faults: Faults) -> None:
    """Parts separated by slashes."""
    if not name:
        faults.required(path)
        return
    if len(name) > MAX_POOL_NAME:
        faults.too_long(path, MAX_POOL_NAME)
    for part in name.split("/"):
        faults.each(path, part, names.dns1123_subdomain(part))


def _check_identifier(value: str, path: str, faults: Faults) -> None:
    if len(value) > MAX_ID:
        faults.too_long(path, MAX_ID)
    if not _IDENTIFIER.fullmatch(value):
        faults.invalid(path, value, _IDENTIFIER_TEXT)


def check_attribute_name(name: str, path: str, faults: Faults) -> None:
    """`model` or `gpu.example.com/model`; of names with more slashes upstream looks at nothing."""
    parts = name.split("/")
    if len(parts) == 1:
        _check_identifier(name, path, faults)
    elif len(parts) == 2:
        domain, identifier = parts
        if domain:
            check_driver_name(domain, path, faults)
        else:
            faults.invalid(path, "", "the domain must not be empty")
        if identifier:
            _check_identifier(identifier, path, faults)
        else:
            faults.invalid(path, "", "the name must not be empty")


def check_full_attribute_name(name: str, path: str, faults: Faults) -> None:
    check_attribute_name(name, path, faults)
    if "/" not in name:
        faults.invalid(path, name, "a fully qualified name must be a domain and a name separated by a slash")


def check_uid(uid: str, path: str, faults: Faults) -> None:
    if len(uid) not in (32, 36, 38, 45):
        faults.invalid(path, uid, f"error validating uid: invalid UUID length: {len(uid)}")
    elif not re.fullmatch("[0-9A-Fa-f]{8}(-?[0-9A-Fa-f]{4}){3}-?[0-9A-Fa-f]{12}", uid):
        faults.invalid(path, uid, "error validating uid: invalid UUID format")
    elif len(uid) != 36 or uid != uid.lower():
        text = (
            "uid must be in RFC 4122 normalized form, `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase "
            "hexadecimal characters"
        )
        faults.invalid(path, uid, text)


# --- selectors and configurations


def check_selectors(selectors: list[Object], path: str, faults: Faults) -> None:
    check_items(selectors, MAX_SELECTORS, _check_selector, path, faults)


def _check_selector(selector: Object, path: str, faults: Faults) -> None:
    if (cel := selector.get("cel")) is None:
        faults.required(f"{path}.cel")
        return
    expression = cel.get("expression", "")
    if len(expression.encode()) > MAX_EXPRESSION_B:
        faults.too_long(f"{path}.cel.expression", MAX_EXPRESSION_B)
    elif wrong := selector_fault(expression):
        faults.invalid(f"{path}.cel.expression", expression, wrong)


def check_configuration(config: Object, path: str, faults: Faults) -> None:
    if (opaque := config.get("opaque")) is None:
        faults.required(f"{path}.opaque")
        return
    check_driver_name(opaque.get("driver", ""), f"{path}.opaque.driver", faults)
    check_raw(opaque.get("parameters"), f"{path}.opaque.parameters", faults)


def check_raw(value: Any, path: str, faults: Faults) -> None:
    """JSON of somebody else's: an object, not too large."""
    if value is None:
        faults.required(path)
    elif len(json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()) > MAX_PARAMETERS_B:
        faults.too_long(path, MAX_PARAMETERS_B)
    elif not isinstance(value, dict):
        faults.invalid(path, "<value omitted>", "must be a valid JSON object")


# --- taints and binding conditions


def check_taint(taint: Object, path: str, faults: Faults) -> None:
    key, value, effect = taint.get("key", ""), taint.get("value", ""), taint.get("effect", "")
    faults.each(f"{path}.key", key, names.label_key(key))
    if value:
        faults.each(f"{path}.value", value, names.label_value(value))
    if not effect:
        faults.required(f"{path}.effect")
    elif effect not in EFFECTS:
        faults.unsupported(f"{path}.effect", effect, EFFECTS)


def check_toleration(toleration: Object, path: str, faults: Faults) -> None:
    key, value, operator = toleration.get("key", ""), toleration.get("value", ""), toleration.get("operator", "")
    if key:
        faults.each(f"{path}.key", key, names.label_key(key))
    if operator == "Exists":
        if value:
            faults.invalid(f"{path}.value", value, "must be empty for operator `Exists`")
    elif operator == "Equal":
        faults.each(f"{path}.value", value, names.label_value(value))
    elif not operator:
        faults.required(f"{path}.operator")
    else:
        faults.unsupported(f"{path}.operator", operator, ("Equal", "Exists"))
    if (effect := toleration.get("effect", "")) and effect not in EFFECTS:
        faults.unsupported(f"{path}.effect", effect, EFFECTS)


MAX_BINDING_CONDITIONS = 4


def _check_label_key(key: str, path: str, faults: Faults) -> None:
    faults.each(path, key, names.label_key(key))


def check_binding_conditions(holder: Object, path: str, faults: Faults) -> None:
    """What a device waits for before its pod is bound, and what means that it never will."""
    good, bad = holder.get("bindingConditions") or [], holder.get("bindingFailureConditions") or []
    good_path, bad_path = f"{path}.bindingConditions", f"{path}.bindingFailureConditions"
    check_items(good, MAX_BINDING_CONDITIONS, _check_label_key, good_path, faults)
    check_items(bad, MAX_BINDING_CONDITIONS, _check_label_key, bad_path, faults)
    for i, condition in enumerate(good):
        if condition in good[:i]:
            faults.duplicate(f"{good_path}[{i}]", condition)
    for i, condition in enumerate(bad):
        if condition in bad[:i]:
            faults.duplicate(f"{bad_path}[{i}]", condition)
        if condition in good:
            text = "bindingFailureConditions must not overlap with bindingConditions"
            faults.invalid(f"{bad_path}[{i}]", condition, text)
    if bad and not good:
        faults.invalid(good_path, None, "bindingConditions are required to use bindingFailureConditions")
    if good and not bad:
        faults.invalid(bad_path, None, "bindingFailureConditions are required to use bindingConditions")
