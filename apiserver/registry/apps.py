"""Deployments and ReplicaSets."""

from __future__ import annotations

import re
from typing import Any

from apiserver.registry import labels, names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at, containers, field
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_immutable,
    check_meta,
    check_meta_update,
    creating,
    keep_status,
    next_generation,
    status_only,
    updating,
)
from apiserver.registry.podspec import check_pod_template
from apiserver.registry.podspec_defaults import default_pod_spec

_PERCENT = re.compile("[0-9]+%").fullmatch
_PERCENT_TEXT = (
    "a valid percent string must be a numeric string followed by an ending '%' "
    "(e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
)
_NOT_NEGATIVE = "must be greater than or equal to 0"


def default_template(spec: Object) -> None:
    """The pod template of a workload's spec."""
    default_pod_spec(spec.setdefault("template", {}).setdefault("spec", {}))


def check_not_negative(obj: Object, key: str, path: str, faults: Faults) -> None:
    if (value := obj.get(key, 0)) < 0:
        faults.invalid(f"{path}.{key}", value, _NOT_NEGATIVE)


def check_int_or_percent(value: Any, path: str, faults: Faults) -> None:
    if isinstance(value, str):
        if not _PERCENT(value):
            faults.invalid(path, value, _PERCENT_TEXT)
    elif value < 0:
        faults.invalid(path, value, _NOT_NEGATIVE)


def check_selector_and_template(spec: Object, path: str, kind: str, faults: Faults) -> None:
    """The selector of a ReplicaSet or Deployment, and that its template's labels match it."""
    selector = spec.get("selector")
    if selector is None:
        faults.required(f"{path}.selector")
    else:
        labels.check_selector(selector, f"{path}.selector", faults)
        if labels.is_empty(selector):
            faults.invalid(f"{path}.selector", selector, f"empty selector is invalid for {kind}")


def check_replicated_template(spec: Object, path: str, faults: Faults) -> None:
    selector, template = spec.get("selector"), spec.get("template") or {}
    found = at(template, "metadata.labels", {})
    if selector and not labels.is_empty(selector) and not labels.matches(selector, found):
        text = "`selector` does not match template `labels`"
        faults.invalid(f"{path}.metadata.labels", found or None, text)
    check_pod_template(template, path, faults)
    pod = template.get("spec") or {}
    if (policy := pod.get("restartPolicy")) != "Always":
        faults.unsupported(f"{path}.spec.restartPolicy", policy, ("Always",))
    if pod.get("activeDeadlineSeconds") is not None:
        faults.forbidden(f"{path}.spec.activeDeadlineSeconds", "activeDeadlineSeconds in ReplicaSet is not Supported")


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


def _prepare_deployment(obj: Object) -> None:
    obj["status"] = {}
    obj["metadata"]["generation"] = 1


def _prepare_deployment_update(new: Object, old: Object) -> None:
    """Annotations count as a change, too: the controller copies them to ReplicaSets."""
    keep_status(new, old)
    next_generation(new, old, "spec")
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


def _check_deployment_spec(spec: Object, faults: Faults) -> None:
    check_not_negative(spec, "replicas", "spec", faults)
    check_selector_and_template(spec, "spec", "deployment", faults)
    check_replicated_template(spec, "spec.template", faults)
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
        faults.unsupported("spec.strategy.type", kind, ("Recreate", "RollingUpdate"))


def _check_rolling(rolling: Object, path: str, faults: Faults) -> None:
    unavailable, surge = rolling.get("maxUnavailable", 0), rolling.get("maxSurge", 0)
    check_int_or_percent(unavailable, f"{path}.maxUnavailable", faults)
    check_int_or_percent(surge, f"{path}.maxSurge", faults)
    if unavailable in (0, "0%") and surge in (0, "0%"):
        faults.invalid(f"{path}.maxUnavailable", unavailable, "may not be 0 when `maxSurge` is 0")
    if isinstance(unavailable, str) and _PERCENT(unavailable) and int(unavailable[:-1]) > 100:
        faults.invalid(f"{path}.maxUnavailable", unavailable, "must not be greater than 100%")


def _check_selected_update(new: Object, old: Object, faults: Faults) -> None:
    check_immutable(at(new, "spec.selector", None), at(old, "spec.selector", None), "spec.selector", faults)


def _check_deployment_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_deployment_spec(new.get("spec") or {}, faults)
    _check_selected_update(new, old, faults)


def _check_counts(status: Object, keys: tuple[str, ...], limits: tuple[tuple[str, str], ...], faults: Faults) -> None:
    for key in keys:
        check_not_negative(status, key, "status", faults)
    for key, limit in limits:
        if status.get(key, 0) > status.get(limit, 0):
            name = "status.replicas" if limit == "replicas" else limit
            faults.invalid(f"status.{key}", status.get(key, 0), f"cannot be greater than {name}")


def _check_deployment_status(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    counts = ("replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "unavailableReplicas")
    limits = (
        ("updatedReplicas", "replicas"),
        ("readyReplicas", "replicas"),
        ("availableReplicas", "replicas"),
        ("availableReplicas", "readyReplicas"),
    )
    _check_counts(new.get("status") or {}, ("observedGeneration", *counts), limits, faults)


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
        prepare_create=_prepare_deployment,
        validate=creating(_check_deployment),
        prepare_update=_prepare_deployment_update,
        validate_update=updating(_check_deployment_update),
        prepare_status_update=_prepare_deployment_status,
        validate_status_update=updating(_check_deployment_status),
    ),
)


# --- ReplicaSet


def _default_replica_set(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    default_template(spec)
    spec.setdefault("replicas", 1)


def _prepare_replica_set(obj: Object) -> None:
    obj["status"] = {"replicas": 0}
    obj["metadata"]["generation"] = 1


def _prepare_replica_set_update(new: Object, old: Object) -> None:
    keep_status(new, old)
    next_generation(new, old, "spec")


def _check_replica_set_spec(spec: Object, faults: Faults) -> None:
    check_not_negative(spec, "replicas", "spec", faults)
    check_not_negative(spec, "minReadySeconds", "spec", faults)
    check_selector_and_template(spec, "spec", "deployment", faults)
    check_replicated_template(spec, "spec.template", faults)


def _check_replica_set(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    _check_replica_set_spec(obj.get("spec") or {}, faults)


def _check_replica_set_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_replica_set_spec(new.get("spec") or {}, faults)
    _check_selected_update(new, old, faults)


def _check_replica_set_status(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    counts = ("replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "observedGeneration")
    limits = (
        ("fullyLabeledReplicas", "replicas"),
        ("readyReplicas", "replicas"),
        ("availableReplicas", "replicas"),
        ("availableReplicas", "readyReplicas"),
    )
    _check_counts(new.get("status") or {}, counts, limits, faults)


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
        prepare_create=_prepare_replica_set,
        validate=creating(_check_replica_set),
        prepare_update=_prepare_replica_set_update,
        validate_update=updating(_check_replica_set_update),
        prepare_status_update=status_only,
        validate_status_update=updating(_check_replica_set_status),
    ),
)
