"""Leases."""

from __future__ import annotations

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at, field
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_accessor, check_accessor_update, creating, keep_generation, updating

_ELECTION = ("strategy", "preferredHolder")  # of coordinated leader election, a feature that is off


def _prepare(obj: Object) -> None:
    for key in _ELECTION:
        at(obj, "spec", {}).pop(key, None)


def _prepare_update(new: Object, old: Object) -> None:
    keep_generation(new, old)
    for key in _ELECTION:
        if at(old, f"spec.{key}", None) is None:
            at(new, "spec", {}).pop(key, None)


def _check_spec(obj: Object, faults: Faults) -> None:
    if (duration := at(obj, "spec.leaseDurationSeconds", None)) is not None and duration <= 0:
        faults.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0")
    if (transitions := at(obj, "spec.leaseTransitions", None)) is not None and transitions < 0:
        faults.invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0")


def _check(obj: Object, faults: Faults) -> None:
    check_accessor(obj.get("metadata") or {}, True, names.name_is_subdomain, faults)
    _check_spec(obj, faults)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_accessor_update(new, old, faults)
    _check_spec(new, faults)


LEASES = ResourceDef(
    "coordination.k8s.io",
    "v1",
    "Lease",
    "leases",
    "lease",
    storage_version_hash="gqkMMb/YqFM=",
    columns=(NAME, Column("Holder", "string", "@LeaseSpec.holderIdentity", field("spec.holderIdentity")), AGE),
    strategy=Strategy(
        prepare_create=_prepare,
        validate=creating(_check),
        prepare_update=_prepare_update,
        validate_update=updating(_check_update),
        allow_create_on_update=True,
        allow_unconditional_update=False,
    ),
)
