"""Jobs as their controllers see them; the pod template and the policies stay wire-shaped."""

from __future__ import annotations

from typing import Any

import msgspec

from kubarium.machinery.objects import LabelSelector, ObjectKey, ObjectMeta, wire_name
from kubarium.machinery.resources import Resource


class _View(msgspec.Struct, frozen=True, kw_only=True, gc=False, omit_defaults=True, rename=wire_name):
    """As the views of kubarium.machinery.objects."""


class JobSpec(_View, frozen=True, kw_only=True):
    parallelism: int = 1
    completions: int | None = None
    active_deadline_seconds: int | None = None
    pod_failure_policy: dict[str, Any] | None = None
    success_policy: dict[str, Any] | None = None
    backoff_limit: int = 6
    backoff_limit_per_index: int | None = None
    max_failed_indexes: int | None = None
    selector: LabelSelector = LabelSelector()
    template: dict[str, Any] = {}
    ttl_seconds_after_finished: int | None = None
    completion_mode: str = "NonIndexed"
    suspend: bool = False
    pod_replacement_policy: str = ""
    managed_by: str = ""


class JobCondition(_View, frozen=True, kw_only=True):
    type: str = ""
    status: str = ""
    last_probe_time: str = ""
    last_transition_time: str = ""
    reason: str = ""
    message: str = ""


class Uncounted(_View, frozen=True, kw_only=True):
    """uids of pods that have ended, and are not in the numbers yet."""

    succeeded: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class JobStatus(_View, frozen=True, kw_only=True):
    conditions: tuple[JobCondition, ...] = ()
    start_time: str = ""
    completion_time: str = ""
    active: int = 0
    succeeded: int = 0
    failed: int = 0
    terminating: int | None = None
    completed_indexes: str = ""
    failed_indexes: str | None = None
    uncounted_terminated_pods: Uncounted = Uncounted()
    ready: int | None = None


class Job(_View, frozen=True, kw_only=True):
    api_version: str = "batch/v1"
    kind: str = "Job"
    metadata: ObjectMeta = ObjectMeta()
    spec: JobSpec = JobSpec()
    status: JobStatus = JobStatus()

    @property
    def key(self) -> ObjectKey:
        return ObjectKey(self.metadata.namespace, self.metadata.name)

    @property
    def indexed(self) -> bool:
        return self.spec.completion_mode == "Indexed"

    def condition(self, kind: str) -> JobCondition | None:
        """The condition of a type, if it is true."""
        return next((c for c in self.status.conditions if c.type == kind and c.status == "True"), None)

    @property
    def finished(self) -> bool:
        return bool(self.condition("Complete") or self.condition("Failed"))


JOBS: Resource[Job] = Resource("batch", "v1", "jobs", "Job", Job)
