"""Whether a CronJob is to make a Job now, what it keeps of the old ones, and its status. Pure.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from kubarium.controllers.cronjobs.schedule import Schedule, most_recent
from kubarium.controllers.jobs.views import Job
from kubarium.controllers.refs import controller_reference
from kubarium.machinery.objects import ObjectKey, ObjectMeta, ObjectReference, wire_name
from kubarium.machinery.resources import Resource
from kubarium.machinery.times import format_timestamp, parse_timestamp

SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"


class _View(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, rename=wire_name):
    """As the views of kubarium.machinery.objects."""


class CronJobSpec(_View, frozen=True, kw_only=True):
    schedule: str = ""
    time_zone: str | None = None
    starting_deadline_seconds: int | None = None
    concurrency_policy: str = "Allow"
    suspend: bool = False
    job_template: dict[str, Any] = {}
    successful_jobs_history_limit: int = 3
    failed_jobs_history_limit: int = 1


class CronJobStatus(_View, frozen=True, kw_only=True):
    active: tuple[ObjectReference, ...] = ()
    last_schedule_time: str = ""
    last_successful_time: str = ""


class CronJob(_View, frozen=True, kw_only=True):
    api_version: str = "batch/v1"
    kind: str = "CronJob"
    metadata: ObjectMeta = ObjectMeta()
    spec: CronJobSpec = CronJobSpec()
    status: CronJobStatus = CronJobStatus()

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.metadata.namespace, self.metadata.name)


CRONJOBS: Resource[CronJob] = Resource("batch", "v1", "cronjobs", "CronJob", CronJob)


@dataclass(frozen=True, slots=True)
class Due:
    """`at`: the time to make a Job for now, None for none. `next_at`: when to look again. `missed`: times since the
    last one (101: more than 100). `late`: `at` is over, by startingDeadlineSeconds."""

    at: float | None
    next_at: float | None
    missed: int = 0
    late: bool = False


def plan_due(cron_job: CronJob, schedule: Schedule, now: float) -> Due:
    created = parse_timestamp(cron_job.metadata.creation_timestamp) or now
    last = parse_timestamp(cron_job.status.last_schedule_time) if cron_job.status.last_schedule_time else None
    earliest = max(created, last) if last is not None else created
    deadline_s = cron_job.spec.starting_deadline_seconds
    if deadline_s is not None:
        earliest = max(earliest, now - deadline_s)
    at, missed = most_recent(schedule, earliest, now)
    late = at is not None and deadline_s is not None and at + deadline_s < now
    return Due(at, schedule(now), missed, late)


def job_name(cron_job: CronJob, at: float) -> str:
    """By the minute, so that one time makes one Job however often it is tried."""
    return f"{cron_job.metadata.name}-{int(at) // 60}"


def job_of(cron_job: CronJob, at: float) -> dict[str, Any]:
    """The Job, as sent to the API server."""
    template = cron_job.spec.job_template
    given = template.get("metadata") or {}
    annotations = {**(given.get("annotations") or {}), SCHEDULED: format_timestamp(at)}
    meta = {
        "name": job_name(cron_job, at),
        "labels": dict(given.get("labels") or {}),
        "annotations": annotations,
        "ownerReferences": [controller_reference(cron_job)],
    }
    return {"metadata": meta, "spec": template.get("spec") or {}}


def surplus(cron_job: CronJob, jobs: Iterable[Job]) -> list[Job]:
    """Finished Jobs beyond the history, the oldest first."""
    out: list[Job] = []
    for kind, limit in (
        ("Complete", cron_job.spec.successful_jobs_history_limit),
        ("Failed", cron_job.spec.failed_jobs_history_limit),
    ):
        found = sorted((j for j in jobs if j.condition(kind)), key=lambda j: (j.status.start_time, j.metadata.name))
        out += found[: max(0, len(found) - limit)]
    return out


def reference_to(job: Job) -> dict[str, str]:
    meta = job.metadata
    return {
        "kind": "Job",
        "namespace": meta.namespace,
        "name": meta.name,
        "uid": meta.uid,
        "apiVersion": "batch/v1",
        "resourceVersion": meta.resource_version,
    }


def wire_reference(ref: ObjectReference) -> dict[str, str]:
    found = {
        "kind": ref.kind,
        "namespace": ref.namespace,
        "name": ref.name,
        "uid": ref.uid,
        "apiVersion": ref.api_version,
        "resourceVersion": ref.resource_version,
    }
    return {key: value for key, value in found.items() if value}


def last_success(cron_job: CronJob, jobs: Sequence[Job]) -> str:
    """When a Job was last completed."""
    done = (job.status.completion_time for job in jobs if job.condition("Complete"))
    return max((cron_job.status.last_successful_time, *filter(None, done)))
