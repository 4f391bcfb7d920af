"""Nodes.

Source: k8s.io/kubernetes/pkg/registry/core/node and pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from apiserver import gojson
from apiserver.registry import addresses, names, resourcenames
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, NONE, UNKNOWN, at
from apiserver.registry.faults import Faults, inner, quoted
from apiserver.registry.meta import check_meta, check_meta_update, creating, keep_status, status_only, updating
from apiserver.registry.podspec_parts import check_effect

_AVOID_PODS = "scheduler.alpha.kubernetes.io/preferAvoidPods"
_CIDR_FIXED = 'node updates may not change podCIDR except from "" to valid'
_PROVIDER_FIXED = 'node updates may not change providerID except from "" to valid'
_LISTS = ("capacity", "allocatable")


def _default(obj: Object) -> None:
    """`podCIDR` is the first of `podCIDRs`; where they differ it is the one that counts."""
    spec, status = obj.setdefault("spec", {}), obj.setdefault("status", {})
    first, several = spec.get("podCIDR"), spec.get("podCIDRs")
    if first and (not several or several[0] != first):
        spec["podCIDRs"] = [first]
    elif several:
        spec["podCIDR"] = several[0]
    resourcenames.round_up(status, *_LISTS)
    if status.get("capacity") and not status.get("allocatable"):
        status["allocatable"] = dict(status["capacity"])


def _prepare(obj: Object) -> None:
    """The kubelet's configuration from the API server is a thing of the past."""
    at(obj, "spec", {}).pop("configSource", None)
    at(obj, "status", {}).pop("config", None)


def _prepare_update(new: Object, old: Object) -> None:
    keep_status(new, old)
    if at(old, "spec.configSource", None) is None:
        at(new, "spec", {}).pop("configSource", None)


def _prepare_status(new: Object, old: Object) -> None:
    status_only(new, old)
    if at(old, "status.config", None) is None:
        at(new, "status", {}).pop("config", None)


# --- validation

_MAX_FEATURE_NAME = 253
_FEATURE_NAME = re.compile(r"[A-Z][a-zA-Z0-9]*(/[a-zA-Z][a-zA-Z0-9]*)*").fullmatch
_FEATURE_TEXT = (
    "must start with an UpperCamelCase segment, with subsequent segments separated by '/' "
    "(e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
)


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    _check_annotations(obj, faults)
    _check_taints(at(obj, "spec.taints", []), "metadata.taints", faults)
    _check_amounts(obj, faults)
    _check_features(at(obj, "status.declaredFeatures", []), faults)
    cidrs = at(obj, "spec.podCIDRs", [])
    for i, text in enumerate(cidrs):
        faults.each(f"spec.podCIDRs[{i}]", text, names.cidr(text))
    if len(cidrs) > 1:
        _check_families(cidrs, faults)


def _check_taints(taints: list[Object], path: str, faults: Faults) -> None:
    seen = set()
    for i, taint in enumerate(taints):
        key, effect, value = taint.get("key", ""), taint.get("effect", ""), taint.get("value", "")
        faults.each(f"{path}[{i}].key", key, names.label_key(key))
        if wrong := names.label_value(value):
            faults.invalid(f"{path}[{i}].value", value, ";".join(wrong))
        check_effect(effect, f"{path}[{i}].effect", faults)
        if (key, effect) in seen:
            shown = inner("core.v1.Taint", taint)
            faults.duplicate(f"{path}[{i}]", shown, "taints must be unique by key and effect pair")
        seen.add((key, effect))


def _check_families(cidrs: list[str], faults: Faults) -> None:
    parsed = [addresses.parse_cidr(text) for text in cidrs]
    if None in parsed:
        i = parsed.index(None)
        fault = f"invalid CIDR[{i}]: <nil> (invalid CIDR address: {cidrs[i]})"
        text = f"invalid PodCIDRs. failed to check with dual stack with error:{fault}"
        faults.internal("spec.podCIDRs", text)
    families = {found[1].version for found in parsed if found}
    if len(families) < 2 or len(cidrs) > 2:
        faults.invalid("spec.podCIDRs", cidrs, "may specify no more than one CIDR for each IP family")


def _check_annotations(obj: Object, faults: Faults) -> None:
    if not (text := at(obj, "metadata.annotations", {}).get(_AVOID_PODS)):
        return
    path = "metadata.annotations"
    if wrong := gojson.syntax_error(text):
        faults.invalid(f"{path}.AvoidPods", _AVOID_PODS, wrong)
        return
    entries = json.loads(text)
    for i, entry in enumerate(entries.get("preferAvoidPods") or () if isinstance(entries, dict) else ()):
        where, controller = f"{path}.{_AVOID_PODS}[{i}]", at(entry, "podSignature.podController", None)
        if controller is None:
            faults.required(f"{where}.PodSignature")
        elif not controller.get("controller"):
            faults.invalid(f"{where}.PodSignature.PodController.Controller", False, "must point to a controller")


def _check_amounts(obj: Object, faults: Faults) -> None:
    for key in _LISTS:
        for name, amount in sorted(at(obj, f"status.{key}", {}).items()):
            resourcenames.check_amount(name, amount, f"status.{key}.{name}", faults)


def _check_features(features: list[str], faults: Faults) -> None:
    path = "status.declaredFeatures"
    for i, feature in enumerate(features):
        if wrong := _feature_fault(feature):
            faults.invalid(f"{path}[{i}]", feature, f"invalid feature name {quoted(feature)}: {wrong}")
        following = features[i + 1] if i + 1 < len(features) else None
        if feature == following:
            faults.duplicate(f"{path}[{i + 1}]", following)
        elif following is not None and feature > following:
            faults.invalid(f"{path}[{i + 1}]", following, "list must be sorted alphabetically")


def _feature_fault(name: str) -> str:
    if len(name) > _MAX_FEATURE_NAME:
        return f"must be no more than {_MAX_FEATURE_NAME} characters"
    return "" if _FEATURE_NAME(name) else _FEATURE_TEXT


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    _check(new, faults)
    _check_change(new, old, faults)


def _check_change(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_annotations(new, faults)
    _check_amounts(new, faults)
    _check_features(at(new, "status.declaredFeatures", []), faults)
    _check_addresses(at(new, "status.addresses", []), faults)
    cidrs, before = at(new, "spec.podCIDRs", []), at(old, "spec.podCIDRs", [])
    if before and len(before) != len(cidrs):
        faults.forbidden("spec.podCIDRs", _CIDR_FIXED)
    else:
        for was, now in zip(before, cidrs, strict=False):
            if was != now:
                faults.forbidden("spec.podCIDRs", _CIDR_FIXED)
    if (provider := at(old, "spec.providerID")) and at(new, "spec.providerID") != provider:
        faults.forbidden("spec.providerID", _PROVIDER_FIXED)
    _check_taints(at(new, "spec.taints", []), "metadata.taints", faults)
    if at(new, "spec.externalID") != at(old, "spec.externalID"):
        faults.forbidden("spec.externalID", "may not be updated")


def _check_addresses(found: list[Object], faults: Faults) -> None:
    seen = set()
    for i, address in enumerate(found):
        key = (address.get("type", ""), address.get("address", ""))
        if key in seen:
            faults.duplicate(f"status.addresses[{i}]", inner("core.v1.NodeAddress", address))
        seen.add(key)


def _warnings(new: Object, _old: Object | None) -> list[str]:
    return list(_each_warning(new.get("spec") or {}))


def _each_warning(spec: Object) -> Iterator[str]:
    if spec.get("configSource") is not None:
        yield "spec.configSource: the feature is removed"
    if spec.get("externalID"):
        yield "spec.externalID: this field is deprecated, and is unused by Kubernetes"
    for i, text in enumerate(spec.get("podCIDRs") or ()):
        yield from addresses.cidr_warnings(text, f"spec.podCIDRs[{i}]")


# --- columns


def _state(obj: Object, _now: float) -> str:
    conditions = {c.get("type"): c.get("status") for c in at(obj, "status.conditions", [])}
    state = {"True": "Ready"}.get(conditions["Ready"], "NotReady") if "Ready" in conditions else "Unknown"
    return state + (",SchedulingDisabled" if at(obj, "spec.unschedulable", False) else "")


def _roles(obj: Object, _now: float) -> str:
    prefix, roles = "node-role.kubernetes.io/", set()
    for key, value in at(obj, "metadata.labels", {}).items():
        if key.startswith(prefix) and len(key) > len(prefix):
            roles.add(key.removeprefix(prefix))
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    return ",".join(sorted(roles)) or NONE


def _address(kind: str) -> Column:
    def cell(obj: Object, _now: float) -> str:
        found = (a.get("address", "") for a in at(obj, "status.addresses", []) if a.get("type") == kind)
        return next(found, NONE)

    return Column(kind.replace("IP", "-IP"), "string", "@NodeStatus.addresses", cell, priority=1)


def _info(name: str, key: str, priority: int = 1) -> Column:
    def cell(obj: Object, _now: float) -> str:
        return at(obj, f"status.nodeInfo.{key}") or (UNKNOWN if priority else "")

    return Column(name, "string", f"@NodeSystemInfo.{key}", cell, priority=priority)


NODES = ResourceDef(
    "",
    "v1",
    "Node",
    "nodes",
    "node",
    namespaced=False,
    short_names=("no",),
    subresources=("proxy", "status"),
    storage_version_hash="XwShjMxG9Fs=",
    field_selectors={"spec.unschedulable": lambda o: str(bool(at(o, "spec.unschedulable", False))).lower()},
    columns=(
        NAME,
        Column("Status", "string", "The status of the node", _state),
        Column("Roles", "string", "The roles of the node", _roles),
        AGE,
        _info("Version", "kubeletVersion", 0),
        _address("InternalIP"),
        _address("ExternalIP"),
        _info("OS-Image", "osImage"),
        _info("Kernel-Version", "kernelVersion"),
        _info("Container-Runtime", "containerRuntimeVersion"),
    ),
    strategy=Strategy(
        default=_default,
        prepare_create=_prepare,
        validate=creating(_check),
        prepare_update=_prepare_update,
        validate_update=updating(_check_update, namespaced=False),
        prepare_status_update=_prepare_status,
        validate_status_update=updating(_check_change, namespaced=False),
        warnings=_warnings,
    ),
)
