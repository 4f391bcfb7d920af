"""The CronJob controller: makes Jobs when their time comes, follows them, and clears away the old ones."""

from __future__ import annotations

from typing import Any

from kubarium.controllers.controller import BY_OWNER, Context, Controller, namespace_is_going
from kubarium.controllers.cronjobs.plan import (
    CRONJOBS,
    CronJob,
    job_name,
    job_of,
    last_success,
    plan_due,
    reference_to,
    surplus,
    wire_reference,
)
from kubarium.controllers.cronjobs.schedule import Schedule, parse_schedule
from kubarium.controllers.jobs.views import JOBS, Job
from kubarium.controllers.refs import controller_of, controller_uid
from kubarium.machinery.errors import AlreadyExists, ApiError, NotFound
from kubarium.machinery.objects import ObjectKey
from kubarium.machinery.times import format_timestamp

LITTLE_LATER_S = 0.1
"""A clock that is read at the very time might show the moment before."""


class CronJobController(Controller[ObjectKey]):
    name = "cronjob-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.cron_jobs = context.informers.of(CRONJOBS)
        self.jobs = context.informers.of(JOBS)
        self.cron_jobs.on_change(self._cron_job_changed)
        self.jobs.on_change(self._job_changed)

    def _cron_job_changed(self, old: CronJob | None, new: CronJob | None) -> None:
        if new is not None:
            self.queue.add(new.key)

    def _job_changed(self, old: Job | None, new: Job | None) -> None:
        for job in filter(None, (old, new)):
            ref = controller_of(job)
            if ref is not None and ref.kind == CRONJOBS.kind:
                self.queue.add(ObjectKey(job.metadata.namespace, ref.name))

    async def sync(self, key: ObjectKey) -> None:
        found = self.cron_jobs.get(key)
        if found is None:
            return
        jobs = list(self.jobs.by_index(BY_OWNER, found.metadata.uid))
        active = await self._active(found, jobs)
        status: dict[str, Any] = {"active": active or None, "lastSuccessfulTime": last_success(found, jobs) or None}
        for job in surplus(found, jobs):
            await self._delete(found, job)
        if not found.metadata.deletion_timestamp and not found.spec.suspend:
            status |= await self._run(found, jobs, active)
        await self._write_status(found, status)

    async def _active(self, found: CronJob, jobs: list[Job]) -> list[dict[str, str]]:
        """The Jobs that are at work, by what the status says and what there is."""
        known = {job.metadata.uid: job for job in jobs}
        active: list[dict[str, str]] = []
        for ref in found.status.active:
            job = known.get(ref.uid)
            if job is None and await self._is_there(found, ref.name, ref.uid):
                active.append(wire_reference(ref))  # too new for the cache
            elif job is None:
                text = f"Active job went missing: {ref.name}"
                self.events.event(found, "Normal", "MissingJob", text)
            elif job.finished:
                ended = next(
                    c.type for c in job.status.conditions if c.type in ("Complete", "Failed") and c.status == "True"
                )
                text = f"Saw completed job: {ref.name}, condition: {ended}"
                self.events.event(found, "Normal", "SawCompletedJob", text)
            else:
                active.append(wire_reference(ref))
        listed = {ref.uid for ref in found.status.active}
        new = (job for job in jobs if not job.finished and job.metadata.uid not in listed)
        return [*active, *map(reference_to, new)]

    async def _is_there(self, found: CronJob, name: str, uid: str) -> bool:
        try:
            job = await self.api.get(JOBS, name, found.metadata.namespace)
        except NotFound:
            return False
        return job.metadata.uid == uid and not job.finished

    def _schedule(self, found: CronJob) -> Schedule | None:
        try:
            return parse_schedule(found.spec.schedule, found.spec.time_zone or "")
        except ValueError as err:
            reason = "UnknownTimeZone" if "time zone" in str(err) else "UnparseableSchedule"
            text = f"unparseable schedule: {found.spec.schedule!r} : {err}"
            self.events.event(found, "Warning", reason, text)
            return None

    async def _run(self, found: CronJob, jobs: list[Job], active: list[dict[str, str]]) -> dict[str, Any]:
        """Make the Job that is due, if one is; what this changes in the status."""
        schedule = self._schedule(found)
        if schedule is None:
            return {}
        now = self.clock()
        due = plan_due(found, schedule, now)
        if due.next_at is not None:
            self.queue.add_after(found.key, max(LITTLE_LATER_S, due.next_at - now + LITTLE_LATER_S))
        if due.at is None:
            return {}
        if due.missed > 100:
            text = "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew"
            self.events.event(found, "Warning", "TooManyMissedTimes", text)
        if due.late:
            text = f"Missed scheduled time to start a job: {format_timestamp(due.at)}"
            self.events.event(found, "Warning", "MissSchedule", text)
            return {}
        stamp = format_timestamp(due.at)
        if stamp == found.status.last_schedule_time:
            return {}
        if active and found.spec.concurrency_policy == "Forbid":
            text = "Not starting job because prior execution is running and concurrency policy is Forbid"
            self.events.event(found, "Normal", "JobAlreadyActive", text)
            return {}
        if found.spec.concurrency_policy == "Replace":
            known = {job.metadata.uid: job for job in jobs}
            for ref in active:
                if (job := known.get(ref["uid"])) is not None:
                    await self._delete(found, job)
            active = []
        made = await self._create(found, due.at)
        if made is None:
            return {}
        listed = [ref for ref in active if ref["uid"] != made.metadata.uid]
        return {"active": [*listed, *([] if made.finished else [reference_to(made)])], "lastScheduleTime": stamp}

    async def _create(self, found: CronJob, at: float) -> Job | None:
        name, namespace = job_name(found, at), found.metadata.namespace
        try:
            job = await self.api.create(JOBS, job_of(found, at), namespace)
        except AlreadyExists:
            job = await self.api.get(JOBS, name, namespace)
            if controller_uid(job) == found.metadata.uid:
                return job  # made by us before, and not written down
            self.events.event(found, "Warning", "FailedCreate", f"Error creating job: {name} belongs to another")
            return None
        except ApiError as err:
            if namespace_is_going(err):
                return None
            self.events.event(found, "Warning", "FailedCreate", f"Error creating job: {err}")
            raise
        self.events.event(found, "Normal", "SuccessfulCreate", f"Created job {name}")
        return job

    async def _delete(self, found: CronJob, job: Job) -> None:
        meta = job.metadata
        try:
            await self.api.delete(JOBS, meta.name, meta.namespace, uid=meta.uid, propagation="Background")
        except NotFound:
            return
        self.events.event(found, "Normal", "SuccessfulDelete", f"Deleted job {meta.name}")

    async def _write_status(self, found: CronJob, status: dict[str, Any]) -> None:
        old = found.status
        same = (
            [ref["uid"] for ref in status["active"] or ()] == [ref.uid for ref in old.active]
            and (status["lastSuccessfulTime"] or "") == old.last_successful_time
            and status.get("lastScheduleTime", old.last_schedule_time) == old.last_schedule_time
        )
        if not same:
            meta = found.metadata
            patch = {"metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid}, "status": status}
            await self.api.patch(CRONJOBS, meta.name, patch, meta.namespace, subresource="status")
