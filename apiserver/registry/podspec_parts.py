"""Parts of pod specs and nodes that are checked alike in several places: taints, tolerations, resources, paths."""

from __future__ import annotations

from apiserver.registry import labels, names, quantity
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults

TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
_STANDARD_RESOURCES = ("cpu", "memory", "ephemeral-storage")
_NODE_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt")
_MAX_MODE = 0o777


def check_effect(effect: str, path: str, faults: Faults, *, empty_allowed: bool = False) -> None:
    if not effect and not empty_allowed:
        faults.required(path)
    elif effect and effect not in TAINT_EFFECTS:
        faults.unsupported(path, effect, TAINT_EFFECTS)


def check_taints(taints: list[Object], path: str, faults: Faults) -> None:
    seen: dict[str, set[str]] = {}
    for i, taint in enumerate(taints):
        key, effect = taint.get("key", ""), taint.get("effect", "")
        faults.each(f"{path}[{i}].key", key, names.label_key(key))
        faults.each(f"{path}[{i}].value", taint.get("value", ""), names.label_value(taint.get("value", "")))
        check_effect(effect, f"{path}[{i}].effect", faults)
        if key in seen.setdefault(effect, set()):
            faults.duplicate(f"{path}[{i}]", taint)
        seen[effect].add(key)


def check_tolerations(tolerations: list[Object], path: str, faults: Faults) -> None:
    for i, toleration in enumerate(tolerations):
        _check_toleration(toleration, f"{path}[{i}]", faults)


def _check_toleration(toleration: Object, path: str, faults: Faults) -> None:
    key, operator = toleration.get("key", ""), toleration.get("operator", "")
    effect, value = toleration.get("effect", ""), toleration.get("value", "")
    if key:
        faults.each(f"{path}.key", key, names.label_key(key))
    elif operator != "Exists":
        text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        faults.invalid(f"{path}.operator", operator, text)
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        faults.invalid(f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
    if operator in ("Equal", ""):
        if found := names.label_value(value):
            faults.invalid(f"{path}.operator", value, ";".join(found))
    elif operator == "Exists":
        if value:
            faults.invalid(f"{path}.operator", toleration, "value must be empty when `operator` is 'Exists'")
    else:
        faults.unsupported(f"{path}.operator", operator, ("Equal", "Exists"))
    check_effect(effect, f"{path}.effect", faults, empty_allowed=True)


def check_mode(source: Object, key: str, path: str, faults: Faults) -> None:
    """Permission bits of a file in a volume."""
    mode = source.get(key)
    if mode is not None and not 0 <= mode <= _MAX_MODE:
        faults.invalid(f"{path}.{key}", mode, "must be a number between 0 and 0777 (octal), both inclusive")


def check_relative_path(value: str, path: str, faults: Faults, *, reserved: bool = False) -> None:
    """A path inside a volume; with `reserved`, names that start with two dots are the kubelet's own."""
    if value.startswith("/"):
        faults.invalid(path, value, "must be a relative path")
    if ".." in value.split("/"):
        faults.invalid(path, value, "must not contain '..'")
    elif reserved and value.startswith(".."):
        faults.invalid(path, value, "must not start with '..'")


def check_resource_list(resources: Object, path: str, faults: Faults) -> None:
    """Names and amounts of a container's requests or limits."""
    for name, amount in resources.items():
        where = f"{path}[{name}]"
        if "/" not in name:
            if name not in _STANDARD_RESOURCES and not name.startswith("hugepages-"):
                faults.invalid(where, name, "must be a standard resource type or fully qualified")
                faults.invalid(where, name, "must be a standard resource for containers")
        else:
            faults.each(where, name, names.qualified_name(name))
        value = quantity.parse(amount)
        if value < 0:
            faults.invalid(where, amount, "must be greater than or equal to 0")
        elif "/" in name and value != value.to_integral_value():
            faults.invalid(where, amount, "must be an integer")


def check_resources(resources: Object, path: str, faults: Faults) -> None:
    """A container's requests stay below its limits; what cannot be overcommitted has both, and equal."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    check_resource_list(limits, f"{path}.limits", faults)
    for name, amount in requests.items():
        check_resource_list({name: amount}, f"{path}.requests", faults)
        extended = "/" in name or name.startswith("hugepages-")
        if name not in limits:
            if extended:
                faults.required(f"{path}.limits", "Limit must be set for non overcommitable resources")
            continue
        wanted, allowed = quantity.parse(amount), quantity.parse(limits[name])
        if extended and wanted != allowed:
            faults.invalid(f"{path}.requests", amount, f"must be equal to {name} limit of {limits[name]}")
        elif wanted > allowed:
            faults.invalid(f"{path}.requests", amount, f"must be less than or equal to {name} limit of {limits[name]}")


# --- scheduling


def check_affinity(affinity: Object, path: str, faults: Faults) -> None:
    if node := affinity.get("nodeAffinity"):
        _check_node_affinity(node, f"{path}.nodeAffinity", faults)
    for kind in ("podAffinity", "podAntiAffinity"):
        if pod := affinity.get(kind):
            _check_pod_affinity(pod, f"{path}.{kind}", faults)


def _check_node_affinity(affinity: Object, path: str, faults: Faults) -> None:
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is not None:
        where = f"{path}.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
        terms = required.get("nodeSelectorTerms") or []
        if not terms:
            faults.required(where, "must have at least one node selector term")
        for i, term in enumerate(terms):
            _check_node_term(term, f"{where}[{i}]", faults)
    for i, preferred in enumerate(affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        where = f"{path}.preferredDuringSchedulingIgnoredDuringExecution[{i}]"
        if not 1 <= preferred.get("weight", 0) <= 100:
            faults.invalid(f"{where}.weight", preferred.get("weight", 0), "must be in the range 1-100")
        _check_node_term(preferred.get("preference") or {}, f"{where}.preference", faults)


def _check_node_term(term: Object, path: str, faults: Faults) -> None:
    for i, need in enumerate(term.get("matchExpressions") or ()):
        where, operator, values = f"{path}.matchExpressions[{i}]", need.get("operator"), need.get("values") or []
        if operator in ("In", "NotIn") and not values:
            faults.required(f"{where}.values", "must be specified when `operator` is 'In' or 'NotIn'")
        elif operator in ("Exists", "DoesNotExist") and values:
            faults.forbidden(f"{where}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
        elif operator in ("Gt", "Lt") and len(values) != 1:
            faults.required(f"{where}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
        elif operator not in _NODE_OPERATORS:
            faults.invalid(f"{where}.operator", operator, "not a valid selector operator")
        faults.each(f"{where}.key", need.get("key", ""), names.label_key(need.get("key", "")))


def _check_pod_affinity(affinity: Object, path: str, faults: Faults) -> None:
    for i, term in enumerate(affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or ()):
        _check_pod_term(term, f"{path}.requiredDuringSchedulingIgnoredDuringExecution[{i}]", faults)
    for i, preferred in enumerate(affinity.get("preferredDuringSchedulingIgnoredDuringExecution") or ()):
        where = f"{path}.preferredDuringSchedulingIgnoredDuringExecution[{i}]"
        if not 1 <= preferred.get("weight", 0) <= 100:
            faults.invalid(f"{where}.weight", preferred.get("weight", 0), "must be in the range 1-100")
        _check_pod_term(preferred.get("podAffinityTerm") or {}, f"{where}.podAffinityTerm", faults)


def _check_pod_term(term: Object, path: str, faults: Faults) -> None:
    for key in ("labelSelector", "namespaceSelector"):
        if selector := term.get(key):
            labels.check_selector(selector, f"{path}.{key}", faults)
    for namespace in term.get("namespaces") or ():
        faults.each(f"{path}.namespace", namespace, names.name_is_label(namespace))
    if not (key := term.get("topologyKey", "")):
        faults.required(f"{path}.topologyKey", "can not be empty")
    faults.each(f"{path}.topologyKey", key, names.label_key(key))


def check_spread(constraints: list[Object], path: str, faults: Faults) -> None:
    seen = set()
    for i, constraint in enumerate(constraints):
        where, key = f"{path}[{i}]", constraint.get("topologyKey", "")
        when = constraint.get("whenUnsatisfiable", "")
        if (skew := constraint.get("maxSkew", 0)) <= 0:
            faults.invalid(f"{where}.maxSkew", skew, "must be greater than zero")
        if not key:
            faults.required(f"{where}.topologyKey", "can not be empty")
        else:
            faults.each(f"{where}.topologyKey", key, names.label_key(key))
        if when not in ("DoNotSchedule", "ScheduleAnyway"):
            faults.unsupported(f"{where}.whenUnsatisfiable", when, ("DoNotSchedule", "ScheduleAnyway"))
        if (key, when) in seen:
            faults.duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {when}}}")
        seen.add((key, when))
        if selector := constraint.get("labelSelector"):
            labels.check_selector(selector, f"{where}.labelSelector", faults)
