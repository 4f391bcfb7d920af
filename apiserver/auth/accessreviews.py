"""The SubjectAccessReview family: what is wrong with a review, and the question that it puts. Pure.

Source: kubernetes/pkg/apis/authorization/validation and pkg/registry/authorization/util (order and texts).
"""

from __future__ import annotations

from collections.abc import Callable

from apiserver.auth.decision import Asked
from apiserver.registry import labels
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.request import User
from kubarium.machinery.selectors import parse_fields, parse_labels

LOCAL, SELF = "LocalSubjectAccessReview", "SelfSubjectAccessReview"
_METADATA = (
    "name",
    "generateName",
    "namespace",
    "resourceVersion",
    "generation",
    "labels",
    "annotations",
    "ownerReferences",
    "finalizers",
    "managedFields",
)
_RESOURCE, _OTHER = "resourceAttributes", "nonResourceAttributes"
_FIELD_OPERATORS = {"In": "=", "NotIn": "!="}
_LABEL_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def check_review(kind: str, review: Object, faults: Faults) -> None:
    spec = review.get("spec") or {}
    resource, other = spec.get(_RESOURCE), spec.get(_OTHER)
    if resource is not None and other is not None:
        text = "cannot be specified in combination with resourceAttributes"
        faults.invalid(f"spec.{_OTHER}", _shown(other), text)
    if resource is None and other is None:
        text = "exactly one of nonResourceAttributes or resourceAttributes must be specified"
        faults.invalid(f"spec.{_RESOURCE}", None, text)
    if kind != SELF and not spec.get("user") and not spec.get("groups"):
        faults.invalid("spec.user", "", "at least one of user or group must be specified")
    for name, check in (("fieldSelector", _check_field), ("labelSelector", _check_label)):
        if (selector := (resource or {}).get(name)) is not None:
            _check_selector(selector, f"spec.{_RESOURCE}.{name}", check, faults)
    _check_metadata(kind, review, faults)
    if kind == LOCAL:
        namespace = (resource or {}).get("namespace", "")
        if resource is not None and namespace != review["metadata"].get("namespace", ""):
            faults.invalid(f"spec.{_RESOURCE}.namespace", namespace, "must match metadata.namespace")
        if other is not None:
            faults.invalid(f"spec.{_OTHER}", _shown(other), "disallowed on this kind of request")


def _shown(attributes: Object) -> Object:
    """As the server's own type prints it."""
    return {"Path": attributes.get("path", ""), "Verb": attributes.get("verb", "")}


def _check_metadata(kind: str, review: Object, faults: Faults) -> None:
    metadata = review["metadata"]
    text = "must be empty except for namespace" if kind == LOCAL else "must be empty"
    allowed = {"managedFields", "namespace"} if kind == LOCAL else {"managedFields"}
    if any(value for key, value in metadata.items() if key not in allowed):
        ordered = {key: metadata[key] for key in _METADATA if metadata.get(key)}
        ordered |= {key: dict(sorted(ordered[key].items())) for key in ("labels", "annotations") if key in ordered}
        if entries := ordered.get("managedFields"):
            ordered["managedFields"] = [{**entry, "fieldsV1": _sorted(entry["fieldsV1"])} for entry in entries]
        faults.invalid("metadata", ordered, text)


def _sorted(fields: Object) -> Object:
    return {key: _sorted(fields[key]) for key in sorted(fields)}


def _check_selector(selector: Object, path: str, check: Callable[[Object, str, Faults], None], faults: Faults) -> None:
    raw, requirements = selector.get("rawSelector", ""), selector.get("requirements") or ()
    if raw and requirements:
        faults.invalid(f"{path}.rawSelector", raw, "may not specified at the same time as requirements")
    if not raw and not requirements:
        text = f"when {path} is specified, requirements or rawSelector is required"
        faults.required(f"{path}.requirements", text)
    for i, requirement in enumerate(requirements):
        check(requirement, f"{path}.requirements[{i}]", faults)


def _check_field(requirement: Object, path: str, faults: Faults) -> None:
    """Operators that this server does not know are ignored later: newer clients may have them."""
    operator, values = requirement.get("operator", ""), requirement.get("values") or ()
    if not requirement.get("key"):
        faults.required(f"{path}.key", "must be specified")
    if operator in ("In", "NotIn") and not values:
        faults.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist") and values:
        faults.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")


def _check_label(requirement: Object, path: str, faults: Faults) -> None:
    known = requirement.get("operator") in _LABEL_OPERATORS
    checked = requirement if known else {**requirement, "operator": "Exists", "values": []}
    labels.check_requirement(checked, path, faults)


# -- the question ------------------------------------------------------------------------------------------------------


def subject_of(spec: Object) -> User:
    """Whom a review is about, where it is not the asker."""
    extra = {key: tuple(values or ()) for key, values in (spec.get("extra") or {}).items()}
    return User(spec.get("user", ""), tuple(spec.get("groups") or ()), spec.get("uid", ""), extra)


def question_of(attributes: Object) -> tuple[Asked, str]:
    """The call that is asked about, and what of its selectors could not be read."""
    fields, fields_trouble = _fields_text(attributes.get("fieldSelector") or {})
    asked = Asked(
        attributes.get("verb", ""),
        attributes.get("group", ""),
        attributes.get("resource", ""),
        attributes.get("subresource", ""),
        attributes.get("namespace", ""),
        attributes.get("name", ""),
        fields,
    )
    troubles = [
        f"spec.{_RESOURCE}.{name} {trouble} due to parse error"
        for name, trouble in (
            ("fieldSelector", fields_trouble),
            ("labelSelector", _labels_trouble(attributes.get("labelSelector") or {})),
        )
        if trouble
    ]
    return asked, "; ".join(troubles)


def _fields_text(selector: Object) -> tuple[str, str]:
    """(field selector as a query has it, "ignored" or "partially ignored" where not all of it could be read)."""
    if raw := selector.get("rawSelector"):
        try:
            parse_fields(raw)
        except ValueError:
            return "", "ignored"
        return raw, ""
    requirements = selector.get("requirements") or ()
    good = [
        f"{one['key']}{_FIELD_OPERATORS[one['operator']]}{one['values'][0]}"
        for one in requirements
        if one.get("operator") in _FIELD_OPERATORS and len(one.get("values") or ()) == 1
    ]
    trouble = "" if len(good) == len(requirements) else "partially ignored" if good else "ignored"
    return ",".join(good), trouble


def _labels_trouble(selector: Object) -> str:
    if raw := selector.get("rawSelector"):
        try:
            parse_labels(raw)
        except ValueError:
            return "ignored"
        return ""
    requirements = selector.get("requirements") or ()
    good = [one for one in requirements if one.get("operator") in _LABEL_OPERATORS]
    return "" if len(good) == len(requirements) else "partially ignored" if good else "ignored"
