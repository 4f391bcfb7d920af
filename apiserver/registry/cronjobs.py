"""CronJobs."""

from __future__ import annotations

from apiserver.registry import cron, names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, NONE, UNSET, at, containers, field, since
from apiserver.registry.faults import Faults, inner
from apiserver.registry.jobs import selector_cell, spec_warnings
from apiserver.registry.jobs_spec import check_spec
from apiserver.registry.meta import check_meta, check_meta_update, creating, status_only, updating
from apiserver.registry.workloads import (
    check_not_negative,
    default_template,
    name_warnings,
    prepare_update,
    starting,
)

_POLICIES = ("Allow", "Forbid", "Replace")
_MAX_NAME = 52  # a Job of it has 11 characters more
_NO_ZONE_TEXT = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
_ZONE_WARNING = (
    "cannot use TZ or CRON_TZ in spec.spec.schedule, use timeZone instead, see "
    "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more details"
)


def _default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    job = spec.setdefault("jobTemplate", {}).setdefault("spec", {})
    default_template(job)
    for rule in at(job, "podFailurePolicy.rules", []):
        for pattern in rule.get("onPodConditions") or ():
            pattern["status"] = pattern.get("status") or "True"
    spec["concurrencyPolicy"] = spec.get("concurrencyPolicy") or "Allow"
    spec.setdefault("suspend", False)
    spec.setdefault("successfulJobsHistoryLimit", 3)
    spec.setdefault("failedJobsHistoryLimit", 1)


def _check_schedule(spec: Object, was: Object | None, faults: Faults) -> None:
    path, schedule = "spec.schedule", spec.get("schedule", "")
    if not schedule:
        faults.required(path)
        return
    if fault := cron.schedule_fault(schedule):
        faults.invalid(path, schedule, fault)
    zoned_before = was is not None and "TZ" in was.get("schedule", "")
    if "TZ" in schedule:
        if not zoned_before:
            faults.invalid(path, schedule, _NO_ZONE_TEXT)
        elif spec.get("timeZone") is not None:
            faults.invalid(path, schedule, "cannot use both timeZone field and TZ or CRON_TZ in schedule")


def _check_spec(spec: Object, was: Object | None, faults: Faults) -> None:
    _check_schedule(spec, was, faults)
    check_not_negative(spec, "startingDeadlineSeconds", "spec", faults)
    zone = spec.get("timeZone")
    if zone is not None and (was is None or was.get("timeZone") != zone):
        faults.each("spec.timeZone", zone, cron.zone_faults(zone))
    if (policy := spec.get("concurrencyPolicy", "")) not in _POLICIES:
        faults.unsupported("spec.concurrencyPolicy", policy, _POLICIES)
    _check_job_template(at(spec, "jobTemplate.spec", {}), at(was or {}, "jobTemplate.spec", None), faults)
    for key in ("successfulJobsHistoryLimit", "failedJobsHistoryLimit"):
        check_not_negative(spec, key, "spec", faults)


def _check_job_template(job: Object, before: Object | None, faults: Faults) -> None:
    """The selector is made for each Job: none can be given."""
    path = "spec.jobTemplate.spec"
    check_spec(job, path, faults, before=before)
    if (selector := job.get("selector")) is not None:
        shown = inner("meta.v1.LabelSelector", selector)
        faults.invalid(f"{path}.selector", shown, "`selector` will be auto-generated")
    if job.get("manualSelector"):
        faults.unsupported(f"{path}.manualSelector", True, ("nil", "false"))


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    _check_spec(obj.get("spec") or {}, None, faults)
    if len(name := obj["metadata"].get("name", "")) > _MAX_NAME:
        faults.invalid("metadata.name", name, f"must be no more than {_MAX_NAME} characters")


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_spec(new.get("spec") or {}, old.get("spec") or {}, faults)


def _check_nothing(_new: Object, _old: Object, _faults: Faults) -> None:
    """A CronJob's status is taken as it is."""


def _warnings(new: Object, old: Object | None) -> list[str]:
    job = at(new, "spec.jobTemplate.spec", {})
    if old is None:
        return name_warnings(new) + spec_warnings(job, "spec.jobTemplate.spec")
    changed = new["metadata"].get("generation") != old["metadata"].get("generation")
    found = spec_warnings(job, "spec.jobTemplate.spec") if changed else []
    return found + ([_ZONE_WARNING] if "TZ" in at(new, "spec.schedule") else [])


def _last_schedule(obj: Object, now: float) -> str:
    moment = at(obj, "status.lastScheduleTime")
    return since(moment, now) if moment else NONE


def _suspended(obj: Object, _now: float) -> str:
    value = at(obj, "spec.suspend", None)
    return UNSET if value is None else str(value)


CRONJOBS = ResourceDef(
    "batch",
    "v1",
    "CronJob",
    "cronjobs",
    "cronjob",
    short_names=("cj",),
    categories=("all",),
    subresources=("status",),
    storage_version_hash="sd5LIXh4Fjs=",
    columns=(
        NAME,
        Column("Schedule", "string", "@CronJobSpec.schedule", field("spec.schedule")),
        Column("Timezone", "string", "@CronJobSpec.timeZone", field("spec.timeZone", NONE)),
        Column("Suspend", "boolean", "@CronJobSpec.suspend", _suspended),
        Column("Active", "integer", "@CronJobStatus.active", lambda o, _: len(at(o, "status.active", []))),
        Column("Last Schedule", "string", "@CronJobStatus.lastScheduleTime", _last_schedule),
        AGE,
        *containers("spec.jobTemplate.spec.template.spec"),
        Column("Selector", "string", "@JobSpec.selector", selector_cell("spec.jobTemplate.spec.selector"), priority=1),
    ),
    strategy=Strategy(
        default=_default,
        prepare_create=starting({}),
        validate=creating(_check),
        prepare_update=prepare_update,
        validate_update=updating(_check_update),
        prepare_status_update=status_only,
        validate_status_update=updating(_check_nothing),
        warnings=_warnings,
    ),
)
