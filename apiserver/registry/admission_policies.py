"""ValidatingAdmissionPolicies and MutatingAdmissionPolicies (group admissionregistration.k8s.io).

Source: k8s.io/kubernetes/pkg/apis/admissionregistration/{v1,validation} (defaults, order and texts).
"""

from __future__ import annotations

import re

from apiserver.registry import names
from apiserver.registry.admission_expressions import Expressions
from apiserver.registry.admission_rules import (
    FAILURE_POLICIES,
    REINVOCATION_POLICIES,
    check_conditions,
    check_match_resources,
    check_mutable_operations,
    default_match_resources,
    warnings,
)
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, UNSET, at
from apiserver.registry.conditions import check_conditions as check_status_conditions
from apiserver.registry.faults import Faults, inner
from apiserver.registry.meta import (
    check_accessor,
    counting,
    creating,
    first_generation,
    next_generation,
    status_alone,
    updating,
)

_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_PATCH_TYPES = ("ApplyConfiguration", "JSONPatch")
_PATCH_FIELDS = {
    "ApplyConfiguration": ("applyConfiguration", "jsonPatch"),
    "JSONPatch": ("jsonPatch", "applyConfiguration"),
}
_MAX_ANNOTATIONS, _MAX_ANNOTATION_EXPRESSION_B = 20, 5 * 1024
_IDENTIFIER = re.compile("[_a-zA-Z][_a-zA-Z0-9]*").fullmatch
_RESERVED = re.compile(
    "true|false|null|in|as|break|const|continue|else|for|function|if|import|let|loop|package|namespace|return|var|void|while"
).fullmatch
_NOTHING_TO_DO = "validations or auditAnnotations must contain at least one item"


def _default(obj: Object) -> None:
    obj["spec"].setdefault("failurePolicy", "Fail")
    default_match_resources(obj["spec"].get("matchConstraints"))


# --- what both kinds have


def _check_matching(obj: Object, old: Object | None, expressions: Expressions, faults: Faults) -> None:
    """Everything in front of what the policy does: failure policy, parameters, rules, conditions, variables."""
    check_accessor(obj.get("metadata") or {}, False, names.name_is_subdomain, faults)
    spec = obj["spec"]
    if (policy := spec.get("failurePolicy")) is None:
        faults.required("spec.failurePolicy")
    elif policy not in FAILURE_POLICIES:
        faults.unsupported("spec.failurePolicy", policy, FAILURE_POLICIES)
    if (kind := spec.get("paramKind")) is not None:
        _check_param_kind(kind, "spec.paramKind", faults)
    if (match := spec.get("matchConstraints")) is None:
        faults.required("spec.matchConstraints")
    else:
        check_match_resources(match, "spec.matchConstraints", faults)
        if not match.get("resourceRules"):
            faults.required("spec.matchConstraints.resourceRules")
        if obj["kind"] == "MutatingAdmissionPolicy":
            check_mutable_operations(match, "spec.matchConstraints", faults)
    was = old["spec"] if old else None
    if was is None or any(was.get(field) != spec.get(field) for field in ("paramKind", "matchConditions")):
        conditions = spec.get("matchConditions") or []
        check_conditions(conditions, "spec.matchConditions", faults, expressions.condition)
    for i, variable in enumerate(spec.get("variables") or ()):
        _check_variable(variable, f"spec.variables[{i}]", expressions, faults)


def _check_param_kind(param: Object, path: str, faults: Faults) -> None:
    api_version, kind = param.get("apiVersion", ""), param.get("kind", "")
    if not api_version:
        faults.required(f"{path}.apiVersion")
    elif api_version.count("/") > 1:
        faults.invalid(f"{path}.apiVersion", api_version, f"unexpected GroupVersion string: {api_version}")
    else:
        group, _, version = api_version.rpartition("/")
        if group and (found := names.dns1123_subdomain(group)):
            faults.invalid(f"{path}.apiVersion", group, ",".join(found))
        if not version:
            faults.invalid(f"{path}.apiVersion", api_version, "version must be specified")
        elif found := names.dns1035_label(version):
            faults.invalid(f"{path}.apiVersion", version, ",".join(found))
    if not kind:
        faults.required(f"{path}.kind")
    elif found := names.dns1035_label(kind.lower()):
        faults.invalid(f"{path}.kind", kind, f"may have mixed case, but should otherwise match: {','.join(found)}")


def _check_variable(variable: Object, path: str, expressions: Expressions, faults: Faults) -> None:
    name, expression = variable.get("name", ""), variable.get("expression", "")
    if not name.strip():
        faults.required(f"{path}.name", "name is not specified")
    elif not _IDENTIFIER(name) or _RESERVED(name):
        faults.invalid(f"{path}.name", name, "must be a valid CEL identifier")
    if not expression.strip():
        faults.required(f"{path}.expression", "expression is not specified")
    else:
        expressions.variable(name, expression, f"{path}.expression", faults)


# --- validating


def _check_validating(obj: Object, old: Object | None, faults: Faults) -> None:
    spec = obj["spec"]
    composes = bool(spec.get("variables"))
    expressions = Expressions(with_params=spec.get("paramKind") is not None, composes=composes)
    _check_matching(obj, old, expressions, faults)
    validations, annotations = spec.get("validations") or [], spec.get("auditAnnotations") or []
    if not validations and not annotations:
        faults.required("spec.validations", _NOTHING_TO_DO)
        faults.required("spec.auditAnnotations", _NOTHING_TO_DO)
        return
    for i, validation in enumerate(validations):
        _check_validation(validation, f"spec.validations[{i}]", expressions, faults)
    if len(annotations) > _MAX_ANNOTATIONS:
        shown = inner("[]admissionregistration.v1.AuditAnnotation", annotations)
        text = f"must not have more than {_MAX_ANNOTATIONS} auditAnnotations"
        faults.invalid("spec.auditAnnotations", shown, text)
    seen: set[str] = set()
    for i, annotation in enumerate(annotations):
        path, key = f"spec.auditAnnotations[{i}]", annotation.get("key", "")
        _check_annotation(annotation, obj["metadata"].get("name", ""), path, expressions, faults)
        if key in seen:
            faults.duplicate(f"{path}.key", key)
        seen.add(key)


def _check_validation(validation: Object, path: str, expressions: Expressions, faults: Faults) -> None:
    expression, message = validation.get("expression", ""), validation.get("message", "")
    shown = validation.get("messageExpression", "")
    if not expression.strip():
        faults.required(f"{path}.expression", "expression is not specified")
    else:
        expressions.validation(expression, f"{path}.expression", faults)
    if shown and not shown.strip():
        faults.invalid(f"{path}.messageExpression", shown, "must be non-empty if specified")
    elif shown:
        expressions.message(shown, f"{path}.messageExpression", faults)
    if message and not message.strip():
        faults.invalid(f"{path}.message", message, "must be non-empty if specified")
    elif "\n" in message.strip() or "\r" in message.strip():
        faults.invalid(f"{path}.message", message, "must not contain line breaks")
    if (reason := validation.get("reason")) is not None and reason not in _REASONS:
        faults.unsupported(f"{path}.reason", reason, _REASONS)


def _check_annotation(annotation: Object, name: str, path: str, expressions: Expressions, faults: Faults) -> None:
    key, expression = annotation.get("key", ""), annotation.get("valueExpression", "")
    if name:
        whole = f"{name}/{key}"
        faults.each(f"{path}.key", whole, names.qualified_name(whole))
    else:
        faults.invalid(f"{path}.key", key, "requires metadata.name be non-empty")
    if not expression.strip():
        faults.required(f"{path}.valueExpression", "valueExpression is not specified")
    elif len(expression.strip().encode()) > _MAX_ANNOTATION_EXPRESSION_B:
        text = f"must not exceed {_MAX_ANNOTATION_EXPRESSION_B} bytes in length"
        faults.required(f"{path}.valueExpression", text)
    else:
        expressions.annotation(expression, f"{path}.valueExpression", faults)


# --- mutating


def _check_mutating(obj: Object, old: Object | None, faults: Faults) -> None:
    spec = obj["spec"]
    expressions = Expressions(with_params=spec.get("paramKind") is not None, composes=True)
    _check_matching(obj, old, expressions, faults)
    if not (mutations := spec.get("mutations")):
        faults.required("spec.mutations", "mutations must contain at least one item")
    for i, mutation in enumerate(mutations or ()):
        _check_mutation(mutation, f"spec.mutations[{i}]", expressions, faults)
    if not (policy := spec.get("reinvocationPolicy")):
        faults.required("spec.reinvocationPolicy")
    elif policy not in REINVOCATION_POLICIES:
        faults.unsupported("spec.reinvocationPolicy", policy, REINVOCATION_POLICIES)


def _check_mutation(mutation: Object, path: str, expressions: Expressions, faults: Faults) -> None:
    if not (kind := mutation.get("patchType")):
        faults.required(f"{path}.patchType")
        return
    if kind not in _PATCH_TYPES:
        faults.unsupported(f"{path}.patchType", kind, _PATCH_TYPES)
        return
    wanted, other = _PATCH_FIELDS[kind]
    if (patch := mutation.get(wanted)) is None:
        faults.required(f"{path}.{wanted}", f"must be specified when patchType is {kind}")
    elif not (expression := patch.get("expression", "").strip()):
        faults.required(f"{path}.{wanted}.expression")
    else:
        expressions.mutation(kind, expression, f"{path}.{wanted}.expression", faults)
    if mutation.get(other) is not None:
        text = f"must not be specified when patchType is {kind}"
        faults.invalid(f"{path}.{other}", f"{{{other}}}", text)


# --- status


def _prepare(obj: Object) -> None:
    obj["status"] = {}
    first_generation(obj)


def _prepare_update(new: Object, old: Object) -> None:
    next_generation(new, old, "spec")
    new["status"] = old.get("status", {})


def _check_status(new: Object, _old: Object, faults: Faults) -> None:
    for i, warning in enumerate(at(new, "status.typeChecking.expressionWarnings", ())):
        path = f"status.typeChecking.expressionWarnings[{i}]"
        if not warning.get("warning"):
            faults.required(f"{path}.warning")
        if not warning.get("fieldRef", "").strip():
            faults.required(f"{path}.fieldRef")
    check_status_conditions(at(new, "status.conditions", []), "status.conditions", faults)


# --- tables


def _count(path: str, text: str, name: str) -> Column:
    return Column(name, "integer", text, lambda obj, _now: len(at(obj, path, ())))


def _kind_cell(obj: Object, _now: float) -> str:
    kind = at(obj, "spec.paramKind", None)
    return UNSET if kind is None else f"{kind.get('apiVersion', '')}/{kind.get('kind', '')}"


_KIND = Column(
    "ParamKind", "string", "ParamKind specifies the kind of resources used to parameterize this policy", _kind_cell
)
_VALIDATIONS = "Validations indicates the number of validation rules defined in this configuration"
_MUTATIONS = "Mutation indicates the number of mutations rules defined in this configuration"

VALIDATINGADMISSIONPOLICIES = ResourceDef(
    "admissionregistration.k8s.io",
    "v1",
    "ValidatingAdmissionPolicy",
    "validatingadmissionpolicies",
    "validatingadmissionpolicy",
    namespaced=False,
    categories=("api-extensions",),
    subresources=("status",),
    storage_version_hash="6OxvlMmQ6is=",
    columns=(NAME, _count("spec.validations", _VALIDATIONS, "Validations"), _KIND, AGE),
    strategy=Strategy(
        default=_default,
        prepare_create=_prepare,
        validate=creating(lambda obj, faults: _check_validating(obj, None, faults)),
        prepare_update=_prepare_update,
        validate_update=updating(_check_validating, namespaced=False),
        prepare_status_update=status_alone,
        validate_status_update=updating(_check_status, namespaced=False),
        warnings=warnings,
        allow_unconditional_update=False,
    ),
)

MUTATINGADMISSIONPOLICIES = ResourceDef(
    "admissionregistration.k8s.io",
    "v1",
    "MutatingAdmissionPolicy",
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicy",
    namespaced=False,
    categories=("api-extensions",),
    storage_version_hash="LYmCf+UMVdg=",
    columns=(NAME, _count("spec.mutations", _MUTATIONS, "Mutations"), _KIND, AGE),
    strategy=Strategy(
        default=_default,
        prepare_create=first_generation,
        validate=creating(lambda obj, faults: _check_mutating(obj, None, faults)),
        prepare_update=counting("spec"),
        validate_update=updating(_check_mutating, namespaced=False),
        warnings=warnings,
        allow_unconditional_update=False,
    ),
)
