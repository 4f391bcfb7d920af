"""Validation of where pods may run: affinity to nodes and to other pods, and how they spread.

Source: k8s.io/kubernetes/pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

from apiserver.registry import labels, names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.nodeselector import check_node_selector, check_node_term

_REQUIRED, _PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)
_WHEN = ("DoNotSchedule", "ScheduleAnyway")
_POLICIES = ("Honor", "Ignore")
_WITHOUT_SELECTOR = "must not be specified when labelSelector is not set"


def check_affinity(affinity: Object, path: str, faults: Faults) -> None:
    if node := affinity.get("nodeAffinity"):
        _check_node_affinity(node, f"{path}.nodeAffinity", faults)
    for kind in ("podAffinity", "podAntiAffinity"):
        if pod := affinity.get(kind):
            _check_pod_affinity(pod, f"{path}.{kind}", faults)


def _check_weight(preferred: Object, path: str, faults: Faults) -> None:
    if not 1 <= (weight := preferred.get("weight", 0)) <= 100:
        faults.invalid(f"{path}.weight", weight, "must be in the range 1-100")


def _check_node_affinity(affinity: Object, path: str, faults: Faults) -> None:
    if (required := affinity.get(_REQUIRED)) is not None:
        check_node_selector(required, f"{path}.{_REQUIRED}", faults)
    for i, preferred in enumerate(affinity.get(_PREFERRED) or ()):
        where = f"{path}.{_PREFERRED}[{i}]"
        _check_weight(preferred, where, faults)
        check_node_term(preferred.get("preference") or {}, f"{where}.preference", faults, bad_values=True)


def _check_pod_affinity(affinity: Object, path: str, faults: Faults) -> None:
    for i, term in enumerate(affinity.get(_REQUIRED) or ()):
        _check_pod_term(term, f"{path}.{_REQUIRED}[{i}]", faults)
    for i, preferred in enumerate(affinity.get(_PREFERRED) or ()):
        where = f"{path}.{_PREFERRED}[{i}]"
        _check_weight(preferred, where, faults)
        _check_pod_term(preferred.get("podAffinityTerm") or {}, f"{where}.podAffinityTerm", faults)


def _check_pod_term(term: Object, path: str, faults: Faults) -> None:
    for key in ("labelSelector", "namespaceSelector"):
        if selector := term.get(key):
            labels.check_selector(selector, f"{path}.{key}", faults)
    for namespace in term.get("namespaces") or ():
        faults.each(f"{path}.namespace", namespace, names.name_is_label(namespace))
    _check_label_keys(term, path, faults)
    if not (key := term.get("topologyKey", "")):
        faults.required(f"{path}.topologyKey", "can not be empty")
    faults.each(f"{path}.topologyKey", key, names.label_key(key))


def _check_label_keys(term: Object, path: str, faults: Faults) -> None:
    """matchLabelKeys and mismatchLabelKeys; the selector has what was made of the former in it already."""
    selector, keys = term.get("labelSelector"), term.get("matchLabelKeys") or []
    for field in ("matchLabelKeys", "mismatchLabelKeys"):
        if (wanted := term.get(field)) and selector is None:
            faults.forbidden(f"{path}.{field}", _WITHOUT_SELECTOR)
        elif wanted:
            for i, key in enumerate(wanted):
                faults.each(f"{path}.{field}[{i}]", key, names.label_key(key))
    if selector is not None:
        places, seen = {key: i for i, key in enumerate(keys)}, set(selector.get("matchLabels") or {})
        for need in selector.get("matchExpressions") or ():
            if (key := need.get("key", "")) in places and key in seen:
                faults.invalid(f"{path}[{places[key]}]", key, "exists in both matchLabelKeys and labelSelector")
            seen.add(key)
    for i, key in enumerate(keys):
        if key in (term.get("mismatchLabelKeys") or ()):
            faults.invalid(f"{path}.matchLabelKeys[{i}]", key, "exists in both matchLabelKeys and mismatchLabelKeys")


def check_spread(constraints: list[Object], path: str, faults: Faults) -> None:
    kinds = [(c.get("topologyKey", ""), c.get("whenUnsatisfiable", "")) for c in constraints]
    for i, constraint in enumerate(constraints):
        where, (key, when) = f"{path}[{i}]", kinds[i]
        if (skew := constraint.get("maxSkew", 0)) <= 0:
            faults.invalid(f"{where}.maxSkew", skew, "must be greater than zero")
        if not key:
            faults.required(f"{where}.topologyKey", "can not be empty")
        if when not in _WHEN:
            faults.unsupported(f"{where}.whenUnsatisfiable", when, _WHEN)
        if kinds[i] in kinds[i + 1 :]:
            faults.duplicate(f"{where}.{{topologyKey, whenUnsatisfiable}}", f"{{{key}, {when}}}")
        if (least := constraint.get("minDomains")) is not None:
            _check_min_domains(least, when, f"{where}.minDomains", faults)
        for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if (policy := constraint.get(field)) is not None and policy not in _POLICIES:
                faults.unsupported(f"{where}.{field}", policy, _POLICIES)
        _check_label_keys(constraint, where, faults)
        if selector := constraint.get("labelSelector"):
            labels.check_selector(selector, f"{where}.labelSelector", faults)


def _check_min_domains(least: int, when: str, path: str, faults: Faults) -> None:
    if least <= 0:
        faults.invalid(path, least, "must be greater than zero")
    if when != "DoNotSchedule":
        faults.invalid(path, least, f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {when}")
