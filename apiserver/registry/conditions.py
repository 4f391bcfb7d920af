"""Conditions of metav1: their types, states, reasons.

Source: k8s.io/apimachinery/pkg/apis/meta/v1/validation.
"""

from __future__ import annotations

import re

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults

_STATUSES = ("False", "True", "Unknown")
_MAX_REASON_B, _MAX_MESSAGE_B = 1024, 32 * 1024
_REASON = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_is_reason = re.compile(_REASON).fullmatch
_REASON_TEXT = (
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric "
    "characters or '_,:', and must end with an alphanumeric character or '_' (e.g. 'my_name',  or 'MY_NAME',  or "
    f"'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for validation is '{_REASON}')"
)


def check_conditions(conditions: list[Object], path: str, faults: Faults) -> None:
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        kind = condition.get("type", "")
        if kind in seen:
            faults.duplicate(f"{path}[{i}].type", kind)
        seen.add(kind)
        _check_condition(condition, f"{path}[{i}]", faults)


def _check_condition(condition: Object, path: str, faults: Faults) -> None:
    kind, status, reason = (condition.get(key, "") for key in ("type", "status", "reason"))
    faults.each(f"{path}.type", kind, names.label_key(kind))
    if status not in _STATUSES:
        faults.unsupported(f"{path}.status", status, _STATUSES)
    if (generation := condition.get("observedGeneration", 0)) < 0:
        faults.invalid(f"{path}.observedGeneration", generation, "must be greater than or equal to zero")
    if not condition.get("lastTransitionTime"):
        faults.required(f"{path}.lastTransitionTime")
    if not reason:
        faults.required(f"{path}.reason")
    else:
        if not _is_reason(reason):
            faults.invalid(f"{path}.reason", reason, _REASON_TEXT)
        if len(reason.encode()) > _MAX_REASON_B:
            faults.too_long(f"{path}.reason", _MAX_REASON_B)
    if len(condition.get("message", "").encode()) > _MAX_MESSAGE_B:
        faults.too_long(f"{path}.message", _MAX_MESSAGE_B)
