"""LimitRanges and ResourceQuotas; what they do to others is admission's work.

Source: Kubernetes API reference, LimitRange v1 and ResourceQuota v1; k8s.io/kubernetes/pkg/apis/core/validation (order
and texts).
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from decimal import Decimal

from apiserver.registry import names, resourcenames
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, CREATED_AT, NAME, at
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_meta,
    check_meta_update,
    creating,
    keep_generation,
    keep_status,
    status_only,
    updating,
)
from apiserver.schemas import internal
from kubarium.machinery.quantity import read_quantity

_LIMIT_TYPES = ("Container", "PersistentVolumeClaim", "Pod")
_AMOUNTS = ("max", "min", "default", "defaultRequest", "maxLimitRequestRatio")


# --- LimitRange


def _default_limits(obj: Object) -> None:
    """A container's default limit is the maximum; its default request is the default limit, else the minimum."""
    for limit in at(obj, "spec.limits", []):
        resourcenames.round_up(limit, *_AMOUNTS)
        if limit.get("type") != "Container":
            continue
        limits = {**(limit.get("max") or {}), **(limit.get("default") or {})}
        requests = {**(limit.get("min") or {}), **limits, **(limit.get("defaultRequest") or {})}
        limit.update({key: value for key, value in (("default", limits), ("defaultRequest", requests)) if value})


def _name_limits(obj: Object) -> None:
    if not obj["metadata"].get("name") and not obj["metadata"].get("generateName"):
        obj["metadata"]["name"] = str(uuid.uuid4())


def _check_limit_range(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    seen: set[str] = set()
    for i, limit in enumerate(at(obj, "spec.limits", [])):
        path, kind = f"spec.limits[{i}]", limit.get("type", "")
        found = names.qualified_name(kind)
        faults.each(f"{path}.type", kind, found)
        if not found and "/" not in kind and kind not in _LIMIT_TYPES:
            faults.invalid(f"{path}.type", kind, "must be a standard limit type or fully qualified")
        if kind in seen:
            faults.duplicate(f"{path}.type", kind)
        seen.add(kind)
        _check_limit(limit, kind, path, faults)


def _check_limit(limit: Object, kind: str, path: str, faults: Faults) -> None:
    known: dict[str, Mapping[str, str]] = {}

    def take(key: str) -> None:
        known[key] = limit.get(key) or {}
        check = resourcenames.check_container_name if kind in ("Pod", "Container") else resourcenames.check_name
        for name in known[key]:
            check(name, f"{path}.{key}[{name}]", faults)

    take("max")
    take("min")
    for key in ("default", "defaultRequest"):
        if kind != "Pod":
            take(key)
        elif limit.get(key):
            faults.forbidden(f"{path}.{key}", "may not be specified when `type` is 'Pod'")
    if kind == "PersistentVolumeClaim" and "storage" not in {*known["min"], *known["max"]}:
        text = "either minimum or maximum storage value is required, but neither was provided"
        faults.required(f"{path}.limits", text)
    take("maxLimitRequestRatio")
    for name in sorted({name for amounts in known.values() for name in amounts}):
        _check_amounts(name, {key: amounts[name] for key, amounts in known.items() if name in amounts}, path, faults)


# (what is too large, than what it may not be, where it is told, which value is shown, words)
_ORDER = (
    ("min", "max", "min", "min", "min value {} is greater than max value {}"),
    (
        "min",
        "defaultRequest",
        "defaultRequest",
        "defaultRequest",
        "min value {} is greater than default request value {}",
    ),
    (
        "defaultRequest",
        "max",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than max value {}",
    ),
    (
        "defaultRequest",
        "default",
        "defaultRequest",
        "defaultRequest",
        "default request value {} is greater than default limit value {}",
    ),
    ("min", "default", "default", "min", "min value {} is greater than default value {}"),
    ("default", "max", "default", "max", "default value {} is greater than max value {}"),
)


def _check_amounts(name: str, amounts: Mapping[str, str], path: str, faults: Faults) -> None:
    """How the amounts of one resource stand to one another."""
    value = {key: read_quantity(amount).value for key, amount in amounts.items()}
    for larger, smaller, where, shown, words in _ORDER:
        if larger in value and smaller in value and value[larger] > value[smaller]:
            text = words.format(amounts[larger], amounts[smaller])
            faults.invalid(f"{path}.{where}[{name}]", amounts[shown], text)
    if (ratio := value.get("maxLimitRequestRatio")) is not None:
        _check_ratio(ratio, amounts["maxLimitRequestRatio"], value, f"{path}.maxLimitRequestRatio[{name}]", faults)
    limit, request = amounts.get("default"), amounts.get("defaultRequest")
    if not resourcenames.overcommit_allowed(name) and limit and request and value["default"] != value["defaultRequest"]:
        text = f"default value {limit} must equal to defaultRequest value {request} in {name}"
        faults.invalid(f"{path}.defaultRequest[{name}]", request, text)


def _check_ratio(ratio: Decimal, shown: str, value: Mapping[str, Decimal], path: str, faults: Faults) -> None:
    if ratio < 1:
        faults.invalid(path, shown, f"ratio {shown} is less than 1")
    if "min" in value and "max" in value:
        limit = float(value["max"]) / float(value["min"]) if value["min"] else float("inf")
        if float(ratio) > limit:
            faults.invalid(path, shown, f"ratio {shown} is greater than max/min = {limit:f}")


def _check_limit_range_update(new: Object, _old: Object, faults: Faults) -> None:
    _check_limit_range(new, faults)


LIMITRANGES = ResourceDef(
    "",
    "v1",
    "LimitRange",
    "limitranges",
    "limitrange",
    short_names=("limits",),
    storage_version_hash="EBKMFVe6cwo=",
    columns=(NAME, CREATED_AT),
    strategy=Strategy(
        default=_default_limits,
        prepare_create=_name_limits,
        validate=creating(_check_limit_range),
        prepare_update=keep_generation,
        validate_update=updating(_check_limit_range_update),
        allow_create_on_update=True,
    ),
)


# --- ResourceQuota

SCOPES = (
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "VolumeAttributesClass",
    "CrossNamespacePodAffinity",
)
_POD_COMPUTE = frozenset({"cpu", "memory", "limits.cpu", "limits.memory", "requests.cpu", "requests.memory"})
_OF_SCOPE = {
    **dict.fromkeys(SCOPES, _POD_COMPUTE | {"pods"}),
    "BestEffort": frozenset({"pods"}),
    "VolumeAttributesClass": frozenset({"persistentvolumeclaims", "requests.storage"}),
}
_CONFLICTS = (("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating"))
_ONLY_EXISTS = frozenset({"BestEffort", "NotBestEffort", "Terminating", "NotTerminating", "CrossNamespacePodAffinity"})


def _default_quota(obj: Object) -> None:
    resourcenames.round_up(obj.setdefault("spec", {}), "hard")
    resourcenames.round_up(obj.setdefault("status", {}), "hard", "used")


def _prepare_quota(obj: Object) -> None:
    obj["status"] = {}


def _check_hard(amounts: Object, path: str, faults: Faults) -> None:
    for name, amount in amounts.items():
        where = f"{path}[{name}]"
        resourcenames.check_name(name, where, faults)
        if "/" not in name and not resourcenames.is_quota_resource(name):
            faults.invalid(where, name, "must be a standard resource for quota")
        resourcenames.check_amount(name, amount, where, faults)


def _unfit(scope: str, name: str) -> bool:
    return resourcenames.is_quota_resource(name) and scope in _OF_SCOPE and name not in _OF_SCOPE[scope]


def _check_quota_spec(spec: Object, faults: Faults) -> None:
    hard, scopes = spec.get("hard") or {}, spec.get("scopes") or []
    _check_hard(hard, "spec.hard", faults)
    for scope in scopes:
        if scope not in SCOPES:
            faults.invalid("spec.scopes", scopes, "unsupported scope")
        for name in sorted(hard):
            if _unfit(scope, name):
                faults.invalid("spec.scopes", scopes, "unsupported scope applied to resource")
    _check_conflicts(set(scopes), scopes, "spec.scopes", faults)
    if (selector := spec.get("scopeSelector")) is not None:
        _check_scope_selector(selector, spec, "spec.scopeSelector.matchExpressions", faults)


def _check_conflicts(found: set[str], scopes: list[str], path: str, faults: Faults) -> None:
    for pair in _CONFLICTS:
        if found.issuperset(pair):
            faults.invalid(path, scopes or None, "conflicting scopes")


def _check_scope_selector(selector: Object, spec: Object, path: str, faults: Faults) -> None:
    needs = selector.get("matchExpressions") or []
    for need in needs:
        scope, operator, values = need.get("scopeName", ""), need.get("operator", ""), need.get("values") or []
        if scope not in SCOPES:
            faults.invalid(f"{path}.scopeName", scope, "unsupported scope")
        for name in sorted(spec.get("hard") or {}):
            if _unfit(scope, name):
                shown = internal.shown("core.v1.ScopeSelector", selector)
                faults.invalid(path, shown, "unsupported scope applied to resource")
        if scope in _ONLY_EXISTS and operator != "Exists":
            text = (
                "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, "
                "ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or "
                "ResourceQuotaScopeCrossNamespacePodAffinity"
            )
            faults.invalid(f"{path}.operator", operator, text)
        _check_scope_values(operator, values, path, faults)
    _check_conflicts({need.get("scopeName", "") for need in needs}, spec.get("scopes") or [], path, faults)


def _check_scope_values(operator: str, values: list[str], path: str, faults: Faults) -> None:
    if operator in ("In", "NotIn"):
        if not values:
            text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector"
            faults.required(f"{path}.values", text)
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector"
            faults.invalid(f"{path}.values", values, text)
    else:
        faults.invalid(f"{path}.operator", operator, "not a valid selector operator")


def _check_quota(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    _check_quota_spec(obj.get("spec") or {}, faults)


def _check_quota_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_quota_spec(new.get("spec") or {}, faults)
    scopes = at(new, "spec.scopes", [])
    if set(scopes) != set(at(old, "spec.scopes", [])):
        faults.invalid("spec.scopes", scopes or None, "field is immutable")


def _check_quota_status(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    for key in ("hard", "used"):
        _check_hard(at(new, f"status.{key}", {}), f"status.{key}", faults)


def _quota_warnings(new: Object, old: Object | None) -> list[str]:
    """Requests above limits, told when a quota is made."""
    hard, found = at(new, "spec.hard", {}), []
    for name in ("cpu", "memory", "storage", "ephemeral-storage") if old is None else ():
        request, limit = f"requests.{name}", f"limits.{name}"
        if request not in hard and name in ("cpu", "memory"):
            request = name
        if request in hard and limit in hard and read_quantity(hard[request]).value > read_quantity(hard[limit]).value:
            found.append(f"ResourceQuota {request} ({hard[request]}) should be less than {limit} ({hard[limit]})")
    return found


def _used(limits: bool) -> Column:
    """`cpu: 1/2, pods: 3/10`: what is used of what may be."""

    def cell(obj: Object, _now: float) -> str:
        hard, used = at(obj, "status.hard", {}), at(obj, "status.used", {})
        shown = [name for name in sorted(hard) if name.startswith("limits.") == limits]
        return ", ".join(f"{name}: {used.get(name, '0')}/{hard[name]}" for name in shown)

    if limits:
        text = (
            "Limits control the maximum amount of cpu/memory that a container may use independent of contention on the "
            "node."
        )
        return Column("Limit", "string", text, cell)
    text = "Request represents a minimum amount of cpu/memory that a container may consume."
    return Column("Request", "string", text, cell)


RESOURCEQUOTAS = ResourceDef(
    "",
    "v1",
    "ResourceQuota",
    "resourcequotas",
    "resourcequota",
    short_names=("quota",),
    subresources=("status",),
    storage_version_hash="8uhSgffRX6w=",
    columns=(NAME, _used(False), _used(True), AGE),
    strategy=Strategy(
        default=_default_quota,
        prepare_create=_prepare_quota,
        validate=creating(_check_quota),
        prepare_update=keep_status,
        validate_update=updating(_check_quota_update),
        prepare_status_update=status_only,
        validate_status_update=updating(_check_quota_status),
        warnings=_quota_warnings,
    ),
)
