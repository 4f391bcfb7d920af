"""Deployments and ReplicaSets."""

from __future__ import annotations

from typing import Any

from apiserver.registry import labels, names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at, containers, field
from apiserver.registry.faults import Faults, inner
from apiserver.registry.meta import check_meta, check_meta_update, creating, status_only, updating
from apiserver.registry.workloads import (
    amount,
    check_at_most_all,
    check_collisions,
    check_counts,
    check_fixed_selector,
    check_int_or_percent,
    check_limits,
    check_not_negative,
    check_replicated_template,
    check_selector,
    default_template,
    prepare_update,
    starting,
    warnings,
)

# --- Deployment


def _default_deployment(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    default_template(spec)
    spec.setdefault("replicas", 1)
    strategy = spec.setdefault("strategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", "25%")
        rolling.setdefault("maxSurge", "25%")
    spec.setdefault("revisionHistoryLimit", 10)
    spec.setdefault("progressDeadlineSeconds", 600)


def _prepare_deployment_update(new: Object, old: Object) -> None:
    """Annotations count as a change, too: the controller copies them to ReplicaSets."""
    prepare_update(new, old)
    changed = (new["metadata"].get("annotations") or {}) != (old["metadata"].get("annotations") or {})
    if changed and new["metadata"]["generation"] == old["metadata"].get("generation", 0):
        new["metadata"]["generation"] += 1


def _prepare_deployment_status(new: Object, old: Object) -> None:
    status_only(new, old)
    new["metadata"].pop("labels", None)
    if kept := old["metadata"].get("labels"):
        new["metadata"]["labels"] = kept


def _check_deployment(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    _check_deployment_spec(obj.get("spec") or {}, faults)


def _check_deployment_spec(spec: Object, faults: Faults, *, before: Object | None = None) -> None:
    check_not_negative(spec, "replicas", "spec", faults)
    check_selector(spec, "deployment", faults)
    check_replicated_template(spec, "ReplicaSet", faults, before=before)
    _check_strategy(spec.get("strategy") or {}, faults)
    check_not_negative(spec, "minReadySeconds", "spec", faults)
    check_not_negative(spec, "revisionHistoryLimit", "spec", faults)
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        check_not_negative(spec, "progressDeadlineSeconds", "spec", faults)
        if deadline <= spec.get("minReadySeconds", 0):
            faults.invalid("spec.progressDeadlineSeconds", deadline, "must be greater than minReadySeconds")


def _check_strategy(strategy: Object, faults: Faults) -> None:
    kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate")
    if kind == "Recreate":
        if rolling is not None:
            faults.forbidden("spec.strategy.rollingUpdate", "may not be specified when strategy `type` is 'Recreate'")
    elif kind == "RollingUpdate":
        _check_rolling(rolling or {}, "spec.strategy.rollingUpdate", faults)
    else:
        faults.unsupported(
            "spec.strategy", inner("apps.v1.DeploymentStrategy", strategy), ("Recreate", "RollingUpdate")
        )


def _check_rolling(rolling: Object, path: str, faults: Faults) -> None:
    unavailable: Any = rolling.get("maxUnavailable", 0)
    surge: Any = rolling.get("maxSurge", 0)
    check_int_or_percent(unavailable, f"{path}.maxUnavailable", faults)
    check_int_or_percent(surge, f"{path}.maxSurge", faults)
    if amount(unavailable) == 0 and amount(surge) == 0:
        faults.invalid(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0")
    check_at_most_all(unavailable, f"{path}.maxUnavailable", faults)


def _check_deployment_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    _check_deployment_spec(spec, faults, before=was.get("template"))
    check_fixed_selector(spec, was, faults)


def _check_deployment_status(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    status, counted = new.get("status") or {}, ("updatedReplicas", "readyReplicas", "availableReplicas")
    more = ("unavailableReplicas", "terminatingReplicas", "collisionCount")
    check_counts(status, ("observedGeneration", "replicas", *counted, *more), faults)
    check_limits(status, counted, faults)
    check_collisions(new, old, faults)


def _selector_cell(obj: Object, _now: float) -> str:
    return labels.to_text(at(obj, "spec.selector", None))


_SELECTOR = Column("Selector", "string", "@DeploymentSpec.selector", _selector_cell, priority=1)

DEPLOYMENTS = ResourceDef(
    "apps",
    "v1",
    "Deployment",
    "deployments",
    "deployment",
    short_names=("deploy",),
    categories=("all",),
    subresources=("scale", "status"),
    storage_version_hash="8aSe+NMegvE=",
    columns=(
        NAME,
        Column(
            "Ready",
            "string",
            "Number of the pod with ready state",
            lambda o, _: f"{at(o, 'status.readyReplicas', 0)}/{at(o, 'spec.replicas', 0)}",
        ),
        Column("Up-to-date", "string", "@DeploymentStatus.updatedReplicas", field("status.updatedReplicas", 0)),
        Column("Available", "string", "@DeploymentStatus.availableReplicas", field("status.availableReplicas", 0)),
        AGE,
        *containers("spec.template.spec"),
        _SELECTOR,
    ),
    strategy=Strategy(
        default=_default_deployment,
        prepare_create=starting({}),
        validate=creating(_check_deployment),
        prepare_update=_prepare_deployment_update,
        validate_update=updating(_check_deployment_update),
        prepare_status_update=_prepare_deployment_status,
        validate_status_update=updating(_check_deployment_status),
        warnings=warnings,
    ),
)


# --- ReplicaSet


def _default_replica_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    default_template(spec)
    spec.setdefault("replicas", 1)


def _check_replica_set_spec(spec: Object, faults: Faults, *, before: Object | None = None) -> None:
    check_not_negative(spec, "replicas", "spec", faults)
    check_not_negative(spec, "minReadySeconds", "spec", faults)
    check_selector(spec, "deployment", faults)
    check_replicated_template(spec, "ReplicaSet", faults, before=before)


def _check_replica_set(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    _check_replica_set_spec(obj.get("spec") or {}, faults)


def _check_replica_set_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    _check_replica_set_spec(spec, faults, before=was.get("template"))
    check_fixed_selector(spec, was, faults)


def _check_replica_set_status(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    status, counted = new.get("status") or {}, ("fullyLabeledReplicas", "readyReplicas", "availableReplicas")
    check_counts(status, ("replicas", *counted, "observedGeneration", "terminatingReplicas"), faults)
    check_limits(status, counted, faults)


REPLICASETS = ResourceDef(
    "apps",
    "v1",
    "ReplicaSet",
    "replicasets",
    "replicaset",
    short_names=("rs",),
    categories=("all",),
    subresources=("scale", "status"),
    storage_version_hash="P1RzHs8/mWQ=",
    field_selectors={"status.replicas": lambda o: str(at(o, "status.replicas", 0))},
    columns=(
        NAME,
        Column("Desired", "integer", "@ReplicaSetSpec.replicas", field("spec.replicas", 0)),
        Column("Current", "integer", "@ReplicaSetStatus.replicas", field("status.replicas", 0)),
        Column("Ready", "integer", "@ReplicaSetStatus.readyReplicas", field("status.readyReplicas", 0)),
        AGE,
        *containers("spec.template.spec"),
        Column("Selector", "string", "@ReplicaSetSpec.selector", _selector_cell, priority=1),
    ),
    strategy=Strategy(
        default=_default_replica_set,
        prepare_create=starting({"replicas": 0}),
        validate=creating(_check_replica_set),
        prepare_update=prepare_update,
        validate_update=updating(_check_replica_set_update),
        prepare_status_update=status_only,
        validate_status_update=updating(_check_replica_set_status),
        warnings=warnings,
    ),
)
