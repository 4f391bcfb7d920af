"""DaemonSets."""

from __future__ import annotations

import re
from typing import Any

from apiserver.registry import labels, names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at, comma_pairs, containers, field
from apiserver.registry.faults import Faults, inner
from apiserver.registry.meta import check_meta, check_meta_update, creating, status_only, updating
from apiserver.registry.podspec import check_pod_template
from apiserver.registry.workloads import (
    amount,
    check_at_most_all,
    check_collisions,
    check_counts,
    check_endless,
    check_fixed_selector,
    check_int_or_percent,
    check_not_negative,
    check_selected,
    default_template,
    is_selected,
    prepare_update,
    starting,
    warnings_of_template,
)

GENERATION = "deprecated.daemonset.template.generation"
_COUNTS = (
    "currentNumberScheduled",
    "numberMisscheduled",
    "desiredNumberScheduled",
    "numberReady",
    "observedGeneration",
    "updatedNumberScheduled",
    "numberAvailable",
    "numberUnavailable",
    "collisionCount",
)
_FIRST_STATUS = dict.fromkeys(
    ("currentNumberScheduled", "desiredNumberScheduled", "numberMisscheduled", "numberReady"), 0
)


def template_generation(obj: Object) -> int:
    """How often the template has changed; old clients know it as an annotation. 0 where there is none."""
    text = at(obj, "metadata.annotations", {}).get(GENERATION, "0")
    return int(text) if re.fullmatch("[+-]?[0-9]+", text) else 0


def _set_template_generation(obj: Object, value: int) -> None:
    metadata = obj["metadata"]
    metadata["annotations"] = {**(metadata.get("annotations") or {}), GENERATION: str(value)}


def _prepare_create(obj: Object) -> None:
    starting(_FIRST_STATUS)(obj)
    _set_template_generation(obj, max(template_generation(obj), 1))


def _prepare_update(new: Object, old: Object) -> None:
    prepare_update(new, old)
    changed = at(new, "spec.template", {}) != at(old, "spec.template", {})
    _set_template_generation(new, template_generation(old) + changed)


def _prepare_status_update(new: Object, old: Object) -> None:
    status_only(new, old)
    _set_template_generation(new, template_generation(old))


def without_generation(obj: Object) -> Object:
    """What a Table's row shows of it: the annotation is not part of the object as the server holds it."""
    annotations = {k: v for k, v in at(obj, "metadata.annotations", {}).items() if k != GENERATION}
    metadata = {k: v for k, v in obj["metadata"].items() if k != "annotations"}
    return obj | {"metadata": metadata | ({"annotations": annotations} if annotations else {})}


def _default(obj: Object) -> None:
    """Upstream has the annotation on every object that it reads, whoever made it; who writes one owns it."""
    if GENERATION not in at(obj, "metadata.annotations", {}):
        _set_template_generation(obj, 0)
    spec = obj.setdefault("spec", {})
    default_template(spec)
    strategy = spec.setdefault("updateStrategy", {})
    strategy["type"] = strategy.get("type") or "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        rolling.setdefault("maxUnavailable", 1)
        rolling.setdefault("maxSurge", 0)
    spec.setdefault("revisionHistoryLimit", 10)


def _check_strategy(strategy: Object, faults: Faults) -> None:
    path, kind = "spec.updateStrategy", strategy.get("type", "")
    if kind == "RollingUpdate":
        _check_rolling(strategy.get("rollingUpdate") or {}, f"{path}.rollingUpdate", faults)
    elif kind != "OnDelete":
        shown = inner("apps.v1.DaemonSetUpdateStrategy", strategy)
        faults.unsupported(path, shown, ("RollingUpdate", "OnDelete"))


def _check_rolling(rolling: Object, path: str, faults: Faults) -> None:
    limits: dict[str, Any] = {key: rolling.get(key, 0) for key in ("maxUnavailable", "maxSurge")}
    for check in (check_int_or_percent, check_at_most_all):
        for key, value in limits.items():
            check(value, f"{path}.{key}", faults)
    unavailable, surge = (amount(value) for value in limits.values())
    if unavailable and surge:
        faults.invalid(f"{path}.maxSurge", limits["maxSurge"], "may not be set when maxUnavailable is non-zero")
    elif not unavailable and not surge:
        faults.required(f"{path}.maxUnavailable", "cannot be 0 when maxSurge is 0")


def _check_spec(spec: Object, faults: Faults, *, before: Object | None = None) -> None:
    selector, template = spec.get("selector"), spec.get("template") or {}
    if selector is not None:
        labels.check_selector(selector, "spec.selector", faults)
    if selector is None or labels.is_valid(selector):
        check_selected(is_selected(selector, template), template, "spec.template", faults)
    if selector is not None and labels.is_empty(selector):
        shown = inner("meta.v1.LabelSelector", selector)
        faults.invalid("spec.selector", shown, "empty selector is invalid for daemonset")
    check_pod_template(template, "spec.template", faults)
    check_endless(template, "spec.template", "DaemonSet", faults)
    check_not_negative(spec, "minReadySeconds", "spec", faults)
    _check_strategy(spec.get("updateStrategy") or {}, faults)
    check_not_negative(spec, "revisionHistoryLimit", "spec", faults)


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    _check_spec(obj.get("spec") or {}, faults)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    check_fixed_selector(spec, was, faults)
    _check_spec(spec, faults, before=was.get("template"))


def _check_status(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    check_counts(new.get("status") or {}, _COUNTS, faults)
    check_collisions(new, old, faults)


def _warnings(new: Object, old: Object | None) -> list[str]:
    """Only where the template is another one."""
    if old is not None and at(new, "spec.template", {}) == at(old, "spec.template", {}):
        return []
    return warnings_of_template(new, None)


DAEMONSETS = ResourceDef(
    "apps",
    "v1",
    "DaemonSet",
    "daemonsets",
    "daemonset",
    short_names=("ds",),
    categories=("all",),
    subresources=("status",),
    storage_version_hash="dd7pWHUlMKQ=",
    row_object=without_generation,
    columns=(
        NAME,
        *(
            Column(name, "integer", f"@DaemonSetStatus.{key}", field(f"status.{key}", 0))
            for name, key in (
                ("Desired", "desiredNumberScheduled"),
                ("Current", "currentNumberScheduled"),
                ("Ready", "numberReady"),
                ("Up-to-date", "updatedNumberScheduled"),
                ("Available", "numberAvailable"),
            )
        ),
        Column(
            "Node Selector",
            "string",
            "@PodSpec.nodeSelector",
            lambda o, _: comma_pairs(at(o, "spec.template.spec.nodeSelector", {})),
        ),
        AGE,
        *containers("spec.template.spec"),
        Column(
            "Selector",
            "string",
            "@DaemonSetSpec.selector",
            lambda o, _: labels.to_text(at(o, "spec.selector", None)),
            priority=1,
        ),
    ),
    strategy=Strategy(
        default=_default,
        prepare_create=_prepare_create,
        validate=creating(_check),
        prepare_update=_prepare_update,
        validate_update=updating(_check_update),
        prepare_status_update=_prepare_status_update,
        validate_status_update=updating(_check_status),
        warnings=_warnings,
    ),
)
