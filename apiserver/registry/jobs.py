"""Jobs: defaults, the selector and labels that the server makes, what an update may change."""

from __future__ import annotations

import copy
from datetime import datetime
from typing import Any

from apiserver.registry import labels, names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at, containers, human_duration
from apiserver.registry.faults import Faults, inner
from apiserver.registry.jobs_spec import INDEXED, check_spec
from apiserver.registry.jobs_status import check_status_update, is_true
from apiserver.registry.meta import check_immutable, check_meta, check_meta_update, creating, status_only, updating
from apiserver.registry.podspec_warnings import template_warnings
from apiserver.registry.workloads import (
    check_selected,
    default_template,
    is_selected,
    name_warnings,
    prepare_update,
    template_labels,
)

UNLIMITED_BACKOFF = 2147483647
_PREFIX = "batch.kubernetes.io/"
_UID, _NAME = f"{_PREFIX}controller-uid", f"{_PREFIX}job-name"
_TRACKING_TEXT = (
    "In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes "
    "might not be able to track completedIndexes when a big number of indexes fail"
)
_DELETE_TEXT = (
    "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set "
    "propagationPolicy=Orphan to suppress this warning"
)
_IMMUTABLE = (
    ("completionMode", "*string"),
    ("podFailurePolicy", "*batch.v1.PodFailurePolicy"),
    ("backoffLimitPerIndex", "*int"),
    ("managedBy", "*string"),
    ("successPolicy", "*batch.v1.SuccessPolicy"),
)


def default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    default_template(spec)
    for rule in at(spec, "podFailurePolicy.rules", []):
        for pattern in rule.get("onPodConditions") or ():
            pattern["status"] = pattern.get("status") or "True"
    if spec.get("parallelism") is None:
        spec["parallelism"] = 1
        if spec.get("completions") is None:
            spec["completions"] = 1
    spec.setdefault("backoffLimit", 6 if spec.get("backoffLimitPerIndex") is None else UNLIMITED_BACKOFF)
    metadata = obj.setdefault("metadata", {})
    if (found := at(spec, "template.metadata.labels", None)) and not metadata.get("labels"):
        metadata["labels"] = found  # the same ones: the labels that prepare_create adds come to both
    spec.setdefault("completionMode", "NonIndexed")
    spec.setdefault("suspend", False)
    policy = "TerminatingOrFailed" if spec.get("podFailurePolicy") is None else "Failed"
    spec.setdefault("podReplacementPolicy", policy)
    spec.setdefault("manualSelector", False)


def _prepare_create(obj: Object) -> None:
    if not obj["spec"].get("manualSelector"):
        _generate_selector(obj)
    obj["status"] = {}
    obj["metadata"]["generation"] = 1


def _generate_selector(obj: Object) -> None:
    """Pods carry the Job's name and uid, under the old names of these labels, too; the uid selects them."""
    spec, metadata = obj["spec"], obj["metadata"]
    template = spec["template"].setdefault("metadata", {})
    found = template["labels"] = template.get("labels") or {}
    for key, value in (("job-name", metadata.get("name", "")), ("controller-uid", metadata["uid"])):
        found.setdefault(key, value)
        found.setdefault(_PREFIX + key, value)
    selector = spec.setdefault("selector", {})
    chosen = selector["matchLabels"] = selector.get("matchLabels") or {}
    chosen.setdefault(_UID, metadata["uid"])


# --- validation


def _check_generated(obj: Object, faults: Faults, *, prefixed: bool) -> None:
    """Where the server made the selector, nothing that the client sent may have been in its way."""
    spec, metadata = obj.get("spec") or {}, obj["metadata"]
    if spec.get("manualSelector") or spec.get("selector") is None:
        return
    wanted = {"controller-uid": metadata.get("uid", ""), "job-name": metadata.get("name", "")}
    if prefixed:
        wanted |= {_PREFIX + key: value for key, value in wanted.items()}
    found = template_labels(spec.get("template") or {})
    for key, value in wanted.items():
        path, has = f"spec.template.metadata.labels[{key}]", (found or {}).get(key)
        if has is None:
            faults.required(path, f"must be '{value}'")
        elif has != value:
            faults.invalid(path, found, f"must be '{value}'")
    if labels.is_valid(spec["selector"]) and not labels.matches(spec["selector"], wanted):
        faults.invalid(
            "spec.selector", inner("meta.v1.LabelSelector", spec["selector"]), "`selector` not auto-generated"
        )


def _check_job_spec(spec: Object, faults: Faults, *, before: Object | None = None) -> None:
    check_spec(spec, "spec", faults, before=before)
    selector = spec.get("selector")
    if selector is None:
        faults.required("spec.selector")
    else:
        labels.check_selector(selector, "spec.selector", faults)
    if selector is None or labels.is_valid(selector):
        template = spec.get("template") or {}
        check_selected(is_selected(selector, template), template, "spec.template", faults)


def _check(obj: Object, faults: Faults, *, before: Object | None = None) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    was = at(before or {}, "template.metadata.labels", {})
    _check_generated(obj, faults, prefixed=before is None or (_NAME in was and _UID in was))
    spec = obj.get("spec") or {}
    _check_job_spec(spec, faults, before=before)
    completions, name = spec.get("completions") or 0, obj["metadata"].get("name", "")
    if spec.get("completionMode") == INDEXED and completions > 0:
        longest = f"{name}-{completions - 1}"
        if names.dns1123_label(longest):
            faults.invalid("metadata.name", name, f"will not able to create pod with invalid DNS label: {longest}")


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    _check(new, faults, before=was)
    check_meta_update(new, old, faults)
    _check_job_spec(spec, faults, before=was)
    _check_completions(spec, was, faults)
    check_immutable(spec.get("selector"), was.get("selector"), "spec.selector", faults)
    _check_template_update(spec, old, faults)
    for key, type_name in _IMMUTABLE:
        if spec.get(key) != was.get(key):
            faults.invalid(f"spec.{key}", inner(type_name, spec.get(key)), "field is immutable")


def _check_completions(spec: Object, was: Object, faults: Faults) -> None:
    """An indexed Job may be made longer or shorter, as long as all of it runs at once."""
    completions = spec.get("completions")
    if completions == was.get("completions"):
        return
    if spec.get("completionMode") != INDEXED:
        faults.invalid("spec.completions", completions, "field is immutable")
    elif completions is not None and completions != spec.get("parallelism"):
        faults.invalid("spec.completions", completions, "can only be modified in tandem with spec.parallelism")


def _check_template_update(spec: Object, old: Object, faults: Faults) -> None:
    """The template is fixed, but while a Job is suspended, where its pods may run and what they need may change."""
    was, status = old.get("spec") or {}, old.get("status") or {}
    suspended = bool(was.get("suspend"))
    idle = status.get("startTime") is None or is_true(status, "Suspended")
    mutable = suspended and idle and not status.get("active")
    template, before = spec.get("template") or {}, copy.deepcopy(was.get("template") or {})
    if mutable:
        _take_scheduling(template, before)
    if not mutable:
        if template != before:
            faults.invalid("spec.template", inner("core.v1.PodTemplateSpec", template), "field is immutable")
        return
    pod, pod_before = template.get("spec") or {}, before.get("spec") or {}
    for kind in ("containers", "initContainers"):
        _take_resources(pod.get(kind) or [], pod_before.get(kind) or [])
    if pod != pod_before:
        faults.invalid("spec.template.spec", inner("core.v1.PodSpec", pod), "field is immutable")


def _take_scheduling(template: Object, before: Object) -> None:
    """Put into `before` (changed in place) what of the template says where pods may run, and how they are marked."""
    pod, was = template.get("spec") or {}, before.setdefault("spec", {})
    for key in ("nodeSelector", "tolerations", "schedulingGates"):
        _take(pod, was, key)
    affinity = pod.get("affinity")
    if affinity is None:
        (was.get("affinity") or {}).pop("nodeAffinity", None)
        if not was.get("affinity"):
            was.pop("affinity", None)
    else:
        _take(affinity, was.setdefault("affinity", {}), "nodeAffinity")
    metadata = before.setdefault("metadata", {})
    for key in ("annotations", "labels"):
        _take(template.get("metadata") or {}, metadata, key)


def _take(source: Object, target: Object, key: str) -> None:
    target.pop(key, None)
    if source.get(key) is not None:
        target[key] = source[key]


def _take_resources(containers_now: list[Object], before: list[Object]) -> None:
    if len(containers_now) == len(before):
        for container, was in zip(containers_now, before, strict=True):
            if container.get("name") == was.get("name"):
                _take(container, was, "resources")


# --- warnings and columns


def spec_warnings(spec: Object, path: str) -> list[str]:
    """About a Job's spec, also that of a CronJob's template."""
    found = []
    many = (spec.get("completions") or 0) > 100_000 and (spec.get("parallelism") or 0) > 10_000
    if spec.get("completionMode") == INDEXED and many:
        found.append(f"{path}: {_TRACKING_TEXT}")
    return found + template_warnings(spec.get("template") or {}, f"{path}.template")


def _warnings(new: Object, old: Object | None) -> list[str]:
    if old is None:
        return name_warnings(new) + spec_warnings(new["spec"], "spec")
    changed = new["metadata"].get("generation") != old["metadata"].get("generation")
    return spec_warnings(new["spec"], "spec") if changed else []


def _state(job: Object, _now: float) -> str:
    status = job.get("status") or {}
    for kind in ("Complete", "Failed"):
        if is_true(status, kind):
            return kind
    if at(job, "metadata.deletionTimestamp"):
        return "Terminating"
    for kind in ("Suspended", "FailureTarget", "SuccessCriteriaMet"):
        if is_true(status, kind):
            return kind
    return "Running"


def _completions(job: Object, _now: float) -> str:
    succeeded, wanted = at(job, "status.succeeded", 0), at(job, "spec.completions", None)
    if wanted is not None:
        return f"{succeeded}/{wanted}"
    parallelism = at(job, "spec.parallelism", 0)
    return f"{succeeded}/1 of {parallelism}" if parallelism > 1 else f"{succeeded}/1"


def _duration(job: Object, now: float) -> str:
    start, end = at(job, "status.startTime"), at(job, "status.completionTime")
    if not start:
        return ""
    until = datetime.fromisoformat(end).timestamp() if end else now
    return human_duration(until - datetime.fromisoformat(start).timestamp())


def selector_cell(path: str) -> Any:
    return lambda obj, _now: labels.to_text(at(obj, path, None))


JOBS = ResourceDef(
    "batch",
    "v1",
    "Job",
    "jobs",
    "job",
    categories=("all",),
    subresources=("status",),
    storage_version_hash="mudhfqk/qZY=",
    field_selectors={"status.successful": lambda o: str(at(o, "status.succeeded", 0))},
    columns=(
        NAME,
        Column("Status", "string", "Status of the job.", _state),
        Column("Completions", "string", "@JobStatus.succeeded", _completions),
        Column("Duration", "string", "Time required to complete the job.", _duration),
        AGE,
        *containers("spec.template.spec"),
        Column("Selector", "string", "@JobSpec.selector", selector_cell("spec.selector"), priority=1),
    ),
    strategy=Strategy(
        default=default,
        prepare_create=_prepare_create,
        validate=creating(_check),
        prepare_update=prepare_update,
        validate_update=updating(_check_update),
        prepare_status_update=status_only,
        validate_status_update=updating(check_status_update),
        warnings=_warnings,
        orphans=True,
        delete_warning=_DELETE_TEXT,
    ),
)
