"""Node selectors outside of pods: of volumes, DRA allocations and slices; and labels of nodes that are deprecated.

Source: k8s.io/kubernetes/pkg/apis/core/validation (ValidateNodeSelector), pkg/api/node (the warnings).
"""

from __future__ import annotations

from collections.abc import Iterator

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults

DEPRECATED_LABELS = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region": 'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone": 'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type": 'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods": "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}


def check_node_selector(selector: Object, path: str, faults: Faults) -> None:
    terms = selector.get("nodeSelectorTerms") or []
    if not terms:
        faults.required(f"{path}.nodeSelectorTerms", "must have at least one node selector term")
    for i, term in enumerate(terms):
        check_node_term(term, f"{path}.nodeSelectorTerms[{i}]", faults)


def check_node_term(term: Object, path: str, faults: Faults, *, bad_values: bool = False) -> None:
    """`bad_values`: values that no label can have are let pass."""
    for i, need in enumerate(term.get("matchExpressions") or ()):
        _check_expression(need, f"{path}.matchExpressions[{i}]", bad_values, faults)
    for i, need in enumerate(term.get("matchFields") or ()):
        _check_field(need, f"{path}.matchFields[{i}]", faults)


def _check_expression(need: Object, path: str, bad_values: bool, faults: Faults) -> None:
    operator, values, key = need.get("operator", ""), need.get("values") or [], need.get("key", "")
    if operator in ("In", "NotIn"):
        if not values:
            faults.required(f"{path}.values", "must be specified when `operator` is 'In' or 'NotIn'")
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            faults.forbidden(f"{path}.values", "may not be specified when `operator` is 'Exists' or 'DoesNotExist'")
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            faults.required(f"{path}.values", "must be specified single value when `operator` is 'Lt' or 'Gt'")
    else:
        faults.invalid(f"{path}.operator", operator, "not a valid selector operator")
    faults.each(f"{path}.key", key, names.label_key(key))
    for i, value in enumerate(() if bad_values else values):
        faults.each(f"{path}.values[{i}]", value, names.label_value(value))


def _check_field(need: Object, path: str, faults: Faults) -> None:
    """Fields are selected by metadata.name alone, one name at a time."""
    operator, values, key = need.get("operator", ""), need.get("values") or [], need.get("key", "")
    if operator in ("In", "NotIn"):
        if len(values) != 1:
            text = "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            faults.required(f"{path}.values", text)
    else:
        faults.invalid(f"{path}.operator", operator, "not a valid selector operator")
    if key != "metadata.name":
        faults.invalid(f"{path}.key", key, "not a valid field selector key")
        return
    for i, value in enumerate(values):
        faults.each(f"{path}.values[{i}]", value, names.name_is_subdomain(value))


def selector_warnings(selector: Object, path: str) -> Iterator[str]:
    """Warnings about deprecated labels in the expressions of a node selector."""
    for i, term in enumerate(selector.get("nodeSelectorTerms") or ()):
        for j, need in enumerate(term.get("matchExpressions") or ()):
            if text := DEPRECATED_LABELS.get(need.get("key", "")):
                where = f"{path}.nodeSelectorTerms[{i}].matchExpressions[{j}].key"
                yield f"{where}: {need['key']} is {text}"


def label_warnings(labels: Object, path: str) -> Iterator[str]:
    """Warnings about deprecated labels in a plain node selector."""
    for key in sorted(labels):
        if text := DEPRECATED_LABELS.get(key):
            yield f"{path}: {text}"


_GA_LABELS = {
    "beta.kubernetes.io/arch": "kubernetes.io/arch",
    "beta.kubernetes.io/os": "kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region": "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone": "topology.kubernetes.io/zone",
    "beta.kubernetes.io/instance-type": "node.kubernetes.io/instance-type",
}


def renamed_labels(affinity: Object) -> Object:
    """A volume's node affinity with the new names of labels in place of the old ones."""

    def renamed(term: Object) -> Object:
        needs = [
            need | {"key": _GA_LABELS.get(need["key"], need["key"])} for need in term.get("matchExpressions") or ()
        ]
        return term | {"matchExpressions": needs} if needs else term

    required = affinity.get("required") or {}
    terms = [renamed(term) for term in required.get("nodeSelectorTerms") or ()]
    return affinity | {"required": required | {"nodeSelectorTerms": terms}}


def label_selector_warnings(selector: Object, path: str) -> Iterator[str]:
    """Warnings about deprecated labels in a LabelSelector of nodes."""
    for i, need in enumerate(selector.get("matchExpressions") or ()):
        if text := DEPRECATED_LABELS.get(need.get("key", "")):
            yield f"{path}.matchExpressions[{i}].key: {need['key']} is {text}"
    for key in sorted(selector.get("matchLabels") or {}):
        if text := DEPRECATED_LABELS.get(key):
            yield f"{path}.matchLabels.{key}: {text}"
