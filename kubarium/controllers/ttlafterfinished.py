"""Finished Jobs that ask for it go after their time.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/ttlafterfinished/
"""

from __future__ import annotations

from kubarium.controllers.controller import Context, Controller
from kubarium.controllers.jobs.views import JOBS, Job
from kubarium.machinery.errors import NotFound
from kubarium.machinery.objects import ObjectKey
from kubarium.machinery.times import parse_timestamp


def expires_at(job: Job) -> float | None:
    """When a Job is to go, in seconds since the epoch; None while it works, or where it stays."""
    ttl_s = job.spec.ttl_seconds_after_finished
    if ttl_s is None or job.metadata.deletion_timestamp:
        return None
    ends = (c for c in job.status.conditions if c.type in ("Complete", "Failed") and c.status == "True")
    finished = next((parse_timestamp(condition.last_transition_time) for condition in ends), None)
    return None if finished is None else finished + ttl_s


class TtlAfterFinishedController(Controller[ObjectKey]):
    name = "ttl-after-finished-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.jobs = context.informers.of(JOBS)
        self.jobs.on_change(self._changed)

    def _changed(self, old: Job | None, new: Job | None) -> None:
        if new is not None and expires_at(new) is not None:
            self.queue.add(new.key)

    async def sync(self, key: ObjectKey) -> None:
        job = self.jobs.get(key)
        if job is None or not self._is_due(job):
            return
        try:
            fresh = await self.api.get(JOBS, key.name, key.namespace)
            if self._is_due(fresh):  # its time may have been changed just now
                await self.api.delete(JOBS, key.name, key.namespace, uid=fresh.metadata.uid, propagation="Foreground")
        except NotFound:
            return

    def _is_due(self, job: Job) -> bool:
        """Looked at again when its time comes, where that is still to come."""
        expires = expires_at(job)
        if expires is None:
            return False
        left_s = expires - self.clock()
        if left_s > 0:
            self.queue.add_after(job.key, left_s)
        return left_s <= 0
