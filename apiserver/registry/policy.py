"""PodDisruptionBudgets."""

from __future__ import annotations

from apiserver.registry import labels, names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at, field
from apiserver.registry.conditions import check_conditions
from apiserver.registry.faults import Faults, inner
from apiserver.registry.meta import check_accessor, creating, status_only, updating
from apiserver.registry.workloads import (
    check_at_most_all,
    check_counts,
    check_int_or_percent,
    prepare_update,
    starting,
)

_COUNTS = ("disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods")
_FIRST_STATUS = {"currentHealthy": 0, "desiredHealthy": 0, "disruptionsAllowed": 0, "expectedPods": 0}
_POLICIES = ("AlwaysAllow", "IfHealthyBudget")


def _check_spec(spec: Object, faults: Faults, *, bad_values: bool = False) -> None:
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        shown = inner("policy.v1.PodDisruptionBudgetSpec", spec)
        faults.invalid("spec", shown, "minAvailable and maxUnavailable cannot be both set")
    for key in ("minAvailable", "maxUnavailable"):
        if (value := spec.get(key)) is not None:
            check_int_or_percent(value, f"spec.{key}", faults)
            check_at_most_all(value, f"spec.{key}", faults)
    if (selector := spec.get("selector")) is not None:
        labels.check_selector(selector, "spec.selector", faults, allow_bad_values=bad_values)
    policy = spec.get("unhealthyPodEvictionPolicy")
    if policy is not None and policy not in _POLICIES:
        faults.unsupported("spec.unhealthyPodEvictionPolicy", policy, _POLICIES)


def _check(obj: Object, faults: Faults) -> None:
    """The spec alone, then what holds for the metadata of every kind."""
    _check_spec(obj.get("spec") or {}, faults)
    if not faults:
        check_accessor(obj["metadata"], True, names.path_segment_name, faults)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    selector = at(old, "spec.selector", None)
    bad = selector is not None and not labels.is_valid(selector)
    _check_spec(new.get("spec") or {}, faults, bad_values=bad)


def _check_status(new: Object, _old: Object, faults: Faults) -> None:
    status = new.get("status") or {}
    check_conditions(status.get("conditions") or [], "status.conditions", faults)
    check_counts(status, _COUNTS, faults)


PODDISRUPTIONBUDGETS = ResourceDef(
    "policy",
    "v1",
    "PodDisruptionBudget",
    "poddisruptionbudgets",
    "poddisruptionbudget",
    short_names=("pdb",),
    subresources=("status",),
    storage_version_hash="EVWiDmWqyJw=",
    columns=(
        NAME,
        Column(
            "Min Available",
            "string",
            "The minimum number of pods that must be available.",
            lambda o, _: str(at(o, "spec.minAvailable", "N/A")),
        ),
        Column(
            "Max Unavailable",
            "string",
            "The maximum number of pods that may be unavailable.",
            lambda o, _: str(at(o, "spec.maxUnavailable", "N/A")),
        ),
        Column(
            "Allowed Disruptions",
            "integer",
            "Calculated number of pods that may be disrupted at this time.",
            field("status.disruptionsAllowed", 0),
        ),
        AGE,
    ),
    strategy=Strategy(
        prepare_create=starting(_FIRST_STATUS),
        validate=creating(_check),
        prepare_update=prepare_update,
        validate_update=updating(_check_update),
        prepare_status_update=status_only,
        validate_status_update=updating(_check_status),
        allow_unconditional_update=False,
    ),
)
