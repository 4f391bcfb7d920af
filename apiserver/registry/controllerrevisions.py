"""ControllerRevisions: the history that StatefulSets and DaemonSets keep."""

from __future__ import annotations

from apiserver.equality import same
from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, NONE, at, field
from apiserver.registry.faults import Faults, inner
from apiserver.registry.meta import check_meta, check_meta_update, creating, keep_generation, updating
from apiserver.registry.workloads import NOT_NEGATIVE


def _check_both(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    if (revision := obj.get("revision", 0)) < 0:
        faults.invalid("revision", revision, NOT_NEGATIVE)


def _check(obj: Object, faults: Faults) -> None:
    _check_both(obj, faults)
    data = obj.get("data")
    if data is None:
        faults.required("data", "data is mandatory")
    elif not isinstance(data, dict):
        faults.required("data", "data must be a valid JSON object")


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_both(new, faults)
    if not same(new.get("data"), old.get("data")):
        faults.invalid("data", inner("", new.get("data")), "field is immutable")


def _controller(obj: Object, _now: float) -> str:
    """`daemonset.apps/web`: the owner who controls the revision."""
    for owner in at(obj, "metadata.ownerReferences", []):
        if owner.get("controller"):
            group = owner.get("apiVersion", "").rpartition("/")[0]
            kind = f"{owner.get('kind', '')}.{group}" if group else owner.get("kind", "")
            return f"{kind.lower()}/{owner.get('name', '')}"
    return NONE


CONTROLLERREVISIONS = ResourceDef(
    "apps",
    "v1",
    "ControllerRevision",
    "controllerrevisions",
    "controllerrevision",
    storage_version_hash="85nkx63pcBU=",
    columns=(
        NAME,
        Column("Controller", "string", "Controller of the object", _controller),
        Column("Revision", "string", "@ControllerRevision.revision", field("revision", 0)),
        AGE,
    ),
    strategy=Strategy(
        validate=creating(_check),
        prepare_update=keep_generation,
        validate_update=updating(_check_update),
    ),
)
