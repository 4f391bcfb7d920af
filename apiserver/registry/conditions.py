"""Conditions of meta/v1, as many kinds have them in their status.

Source: k8s.io/apimachinery/pkg/apis/meta/v1/validation (order and texts).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults

STATUSES = ("False", "True", "Unknown")
_MAX_REASON_B, _MAX_MESSAGE_B = 1024, 32 * 1024
_REASON = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_reason = re.compile(_REASON).fullmatch
_EXAMPLES = ("my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB")
_REASON_TEXT = (
    "a condition reason must start with alphabetic character, optionally followed by a string of alphanumeric "
    "characters or '_,:', and must end with an alphanumeric character or '_' (e.g. "
    + " or ".join(f"'{example}', " for example in _EXAMPLES)
    + f"regex used for validation is '{_REASON}')"
)


def check_conditions(conditions: Sequence[Object], path: str, faults: Faults) -> None:
    """All of them, each of a type of its own."""
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        kind = condition.get("type", "")
        if kind in seen:
            faults.duplicate(f"{path}[{i}].type", kind)
        seen.add(kind)
        check_condition(condition, f"{path}[{i}]", faults)


def check_condition(condition: Object, path: str, faults: Faults) -> None:
    kind, status, reason = (condition.get(field, "") for field in ("type", "status", "reason"))
    faults.each(f"{path}.type", kind, names.qualified_name(kind))
    if status not in STATUSES:
        faults.unsupported(f"{path}.status", status, STATUSES)
    if (generation := condition.get("observedGeneration", 0)) < 0:
        faults.invalid(f"{path}.observedGeneration", generation, "must be greater than or equal to zero")
    if not condition.get("lastTransitionTime"):
        faults.required(f"{path}.lastTransitionTime")
    if not reason:
        faults.required(f"{path}.reason")
    elif not _reason(reason):
        faults.invalid(f"{path}.reason", reason, _REASON_TEXT)
    if len(reason.encode()) > _MAX_REASON_B:
        faults.too_long(f"{path}.reason", _MAX_REASON_B)
    if len(condition.get("message", "").encode()) > _MAX_MESSAGE_B:
        faults.too_long(f"{path}.message", _MAX_MESSAGE_B)
