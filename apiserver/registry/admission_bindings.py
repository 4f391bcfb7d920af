"""ValidatingAdmissionPolicyBindings and MutatingAdmissionPolicyBindings (group admissionregistration.k8s.io).

Source: k8s.io/kubernetes/pkg/apis/admissionregistration/{v1,validation} (defaults, order and texts).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apiserver.registry import names
from apiserver.registry.admission_rules import (
    check_match_resources,
    check_mutable_operations,
    default_match_resources,
    warnings,
)
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, UNSET, at, field
from apiserver.registry.faults import Faults
from apiserver.registry.labels import check_selector
from apiserver.registry.meta import check_accessor, counting, creating, first_generation, updating

_ACTIONS = ("Audit", "Deny", "Warn")
_NOT_FOUND_ACTIONS = ("Deny", "Allow")
_BOTH = "name and selector are mutually exclusive"


def _default(obj: Object) -> None:
    default_match_resources(obj["spec"].get("matchResources"))


def _check_common(obj: Object, faults: Faults) -> None:
    check_accessor(obj.get("metadata") or {}, False, names.name_is_subdomain, faults)
    spec = obj["spec"]
    if policy := spec.get("policyName"):
        faults.each("spec.policyName", policy, names.name_is_subdomain(policy))
    else:
        faults.required("spec.policyName")
    if (ref := spec.get("paramRef")) is not None:
        _check_param_ref(ref, "spec.paramRef", faults)
    check_match_resources(spec.get("matchResources"), "spec.matchResources", faults)


def _check_param_ref(ref: Object, path: str, faults: Faults) -> None:
    name, selector, action = ref.get("name", ""), ref.get("selector"), ref.get("parameterNotFoundAction")
    if name:
        faults.each(f"{path}.name", name, names.path_segment_name(name))
        if selector is not None:
            faults.forbidden(f"{path}.name", _BOTH)
    if selector is not None:
        check_selector(selector, f"{path}.selector", faults)
        if name:
            faults.forbidden(f"{path}.selector", _BOTH)
    if not name and selector is None:
        faults.required(path, "one of name or selector must be specified")
    if not action:
        faults.required(f"{path}.parameterNotFoundAction")
    elif action not in _NOT_FOUND_ACTIONS:
        faults.unsupported(f"{path}.parameterNotFoundAction", action, _NOT_FOUND_ACTIONS)


def _check_validating(obj: Object, faults: Faults) -> None:
    _check_common(obj, faults)
    path, actions = "spec.validationActions", obj["spec"].get("validationActions") or []
    seen: set[str] = set()
    for i, action in enumerate(actions):
        if action not in _ACTIONS:
            faults.unsupported(f"{path}[{i}]", action, _ACTIONS)
        if action in seen:
            faults.duplicate(f"{path}[{i}]", action)
        seen.add(action)
    if {"Deny", "Warn"} <= seen:
        text = "repeating the same validation failure information in the API response and headers serves no purpose"
        faults.invalid(path, actions, f"must not contain both Deny and Warn ({text})")
    if not actions:
        faults.required(path, "at least one validation action is required")


def _check_mutating(obj: Object, faults: Faults) -> None:
    _check_common(obj, faults)
    check_mutable_operations(obj["spec"].get("matchResources") or {}, "spec.matchResources", faults)


# --- tables


def _param_cell(obj: Object, _now: float) -> str:
    ref = at(obj, "spec.paramRef", None)
    if ref is None:
        return UNSET
    if name := ref.get("name"):
        return f"{ref.get('namespace') or '*'}/{name}"
    return _selector_text(ref["selector"]) if ref.get("selector") is not None else UNSET


def _selector_text(selector: Mapping[str, Any]) -> str:
    """A selector as Go's protobuf types print themselves."""
    labels = "".join(f"{key}: {value}," for key, value in sorted((selector.get("matchLabels") or {}).items()))
    terms = "".join(
        f"LabelSelectorRequirement{{Key:{t.get('key', '')},Operator:{t.get('operator', '')},"
        f"Values:[{' '.join(t.get('values') or ())}],}},"
        for t in selector.get("matchExpressions") or ()
    )
    body = f"MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement{{{terms}}},"
    return f"&LabelSelector{{{body}}}"


_POLICY_TEXT = "PolicyName indicates the policy definition which the policy binding binded to"
_PARAM_TEXT = "ParamRef indicates the param resource which sets the configuration param"
_COLUMNS = (
    NAME,
    Column("PolicyName", "string", _POLICY_TEXT, field("spec.policyName")),
    Column("ParamRef", "string", _PARAM_TEXT, _param_cell),
    AGE,
)

VALIDATINGADMISSIONPOLICYBINDINGS = ResourceDef(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicyBinding",
    "validatingadmissionpolicybindings",
    "validatingadmissionpolicybinding",
    namespaced=False,
    categories=("api-extensions",),
    storage_version_hash="v9715VZqakg=",
    columns=_COLUMNS,
    strategy=Strategy(
        default=_default,
        prepare_create=first_generation,
        validate=creating(_check_validating),
        prepare_update=counting("spec"),
        validate_update=updating(lambda new, old, faults: _check_validating(new, faults), namespaced=False),
        warnings=warnings,
        allow_unconditional_update=False,
    ),
)

MUTATINGADMISSIONPOLICYBINDINGS = ResourceDef(
    "admissionregistration.k8s.io",
    "v1",
    "MutatingAdmissionPolicyBinding",
    "mutatingadmissionpolicybindings",
    "mutatingadmissionpolicybinding",
    namespaced=False,
    categories=("api-extensions",),
    storage_version_hash="90V5FRZZ3Zg=",
    columns=_COLUMNS,
    strategy=Strategy(
        default=_default,
        prepare_create=first_generation,
        validate=creating(_check_mutating),
        prepare_update=counting("spec"),
        validate_update=updating(lambda new, old, faults: _check_mutating(new, faults), namespaced=False),
        warnings=warnings,
        allow_unconditional_update=False,
    ),
)
