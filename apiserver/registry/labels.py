"""Label selectors as objects hold them (LabelSelector of meta/v1): checks, matching, and their text form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apiserver.registry import names
from apiserver.registry.faults import Faults

Selector = Mapping[str, Any]
_OPERATORS = ("In", "NotIn", "Exists", "DoesNotExist")


def check_selector(selector: Selector, path: str, faults: Faults, *, allow_bad_values: bool = False) -> None:
    """Source: k8s.io/apimachinery/pkg/apis/meta/v1/validation.ValidateLabelSelector."""
    for key, value in (selector.get("matchLabels") or {}).items():
        faults.each(f"{path}.matchLabels", key, names.label_key(key))
        if not allow_bad_values:
            faults.each(f"{path}.matchLabels", value, names.label_value(value))
    for i, term in enumerate(selector.get("matchExpressions") or ()):
        check_requirement(term, f"{path}.matchExpressions[{i}]", faults, allow_bad_values)


def check_requirement(term: Mapping[str, Any], path: str, faults: Faults, allow_bad_values: bool = False) -> None:
    operator, values = term.get("operator", ""), term.get("values") or []
    if operator in ("In", "NotIn") and not values:
        faults.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist") and values:
        faults.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif operator not in _OPERATORS:
        faults.invalid(f"{path}.operator", operator, "not a valid selector operator")
    faults.each(f"{path}.key", term.get("key", ""), names.label_key(term.get("key", "")))
    if not allow_bad_values:
        for i, value in enumerate(values):
            faults.each(f"{path}.values[{i}]", value, names.label_value(value))


def is_valid(selector: Selector) -> bool:
    """Whether it can be matched against labels at all."""
    faults = Faults()
    check_selector(selector, "", faults)
    return not faults


def is_empty(selector: Selector | None) -> bool:
    return not selector or not (selector.get("matchLabels") or selector.get("matchExpressions"))


def matches(selector: Selector, labels: Mapping[str, str]) -> bool:
    """Whether all of the selector's requirements hold; an empty selector matches everything."""
    if any(labels.get(k) != v for k, v in (selector.get("matchLabels") or {}).items()):
        return False
    for term in selector.get("matchExpressions") or ():
        key, operator, values = term.get("key"), term.get("operator"), term.get("values") or []
        holds = {
            "In": labels.get(key) in values,
            "NotIn": key not in labels or labels[key] not in values,
            "Exists": key in labels,
            "DoesNotExist": key not in labels,
        }
        if not holds.get(operator, False):
            return False
    return True


def to_text(selector: Selector | None) -> str:
    """`a=b,c in (d,e),!f`, sorted by key, as Scale's status and printer columns show it; `<none>` for no selector."""
    if selector is None:
        return "<none>"
    terms = [(k, f"{k}={v}") for k, v in (selector.get("matchLabels") or {}).items()]
    for term in selector.get("matchExpressions") or ():
        key, values = term.get("key", ""), ",".join(sorted(term.get("values") or ()))
        forms = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        terms.append((key, forms.get(term.get("operator", ""), "<error>")))
    return ",".join(text for _, text in sorted(terms)) or "<none>"
