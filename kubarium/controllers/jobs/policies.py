"""What the end of a pod means for its Job: pod failure policy, success policy, and how long to wait after failures.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-failure-policy, #success-policy
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kubarium.controllers.jobs.indexes import parse_indexes
from kubarium.controllers.jobs.views import Job
from kubarium.machinery.objects import ContainerStatus, Pod
from kubarium.machinery.times import parse_timestamp

BACKOFF_S = 10.0
BACKOFF_MOST_S = 600.0


def is_failed(pod: Pod, job: Job) -> bool:
    """A pod that is being deleted counts as failed, unless the Job replaces failed pods only."""
    if pod.status.phase == "Failed":
        return True
    if replaces_failed_only(job):
        return False
    return bool(pod.metadata.deletion_timestamp) and pod.status.phase != "Succeeded"


def replaces_failed_only(job: Job) -> bool:
    return job.spec.pod_replacement_policy == "Failed" or job.spec.pod_failure_policy is not None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a failure means: the rule's action ("" where none matched), whether it counts, why it fails the Job."""

    action: str = ""
    counts: bool = True
    message: str = ""


def judge_failure(job: Job, pod: Pod) -> Verdict:
    """By the first rule of the pod failure policy that matches."""
    for number, rule in enumerate((job.spec.pod_failure_policy or {}).get("rules") or ()):
        action = rule.get("action", "")
        where = f"{pod.metadata.namespace}/{pod.metadata.name}"
        if rule.get("onExitCodes") is not None:
            status = _with_exit_code(pod, rule["onExitCodes"])
            if status is None or status.state.terminated is None:
                continue
            code = status.state.terminated.exit_code
            text = f"Container {status.name} for pod {where} failed with exit code {code}"
        else:
            kind = _matching_condition(pod, rule.get("onPodConditions") or ())
            if kind is None:
                continue
            text = f"Pod {where} has condition {kind}"
        message = f"{text} matching {action} rule at index {number}" if action == "FailJob" else ""
        return Verdict(action, action != "Ignore", message)
    return Verdict()


def _with_exit_code(pod: Pod, wanted: dict[str, Any]) -> ContainerStatus | None:
    name, values = wanted.get("containerName"), wanted.get("values") or ()
    for status in (*pod.status.container_statuses, *pod.status.init_container_statuses):
        ended = status.state.terminated
        if ended is None or not ended.exit_code or (name is not None and name != status.name):
            continue
        if (ended.exit_code in values) == (wanted.get("operator") == "In"):
            return status
    return None


def _matching_condition(pod: Pod, patterns: Iterable[dict[str, Any]]) -> str | None:
    wanted = {(pattern.get("type"), pattern.get("status", "True")) for pattern in patterns}
    return next((c.type for c in pod.status.conditions if (c.type, c.status) in wanted), None)


def succeeded_by(job: Job, succeeded: set[int]) -> str:
    """The rule of the success policy that is met, in words; "" for none."""
    completions = job.spec.completions or 0
    for number, rule in enumerate((job.spec.success_policy or {}).get("rules") or ()):
        count, listed = rule.get("succeededCount"), rule.get("succeededIndexes")
        if listed is None:
            met = count is not None and len(succeeded) >= count
        else:
            wanted = parse_indexes(listed, completions)
            there = len(wanted & succeeded)
            met = bool(wanted) and (there == len(wanted) or (count is not None and there >= count))
        if met and succeeded:
            return f"Matched rules at index {number}"
    return ""


# -- back-off ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Backoff:
    """Failures since the last success, and when the last of them was (seconds since the epoch)."""

    failures: int = 0
    last: float = 0.0

    def after(self, succeeded: Iterable[Pod], failed: Iterable[Pod], now: float) -> Backoff:
        """With what has ended since."""
        success = max((ended_at(pod, now) for pod in succeeded), default=None)
        times = sorted(ended_at(pod, now) for pod in failed)
        if success is not None:
            since = [when for when in times if when > success]
            return Backoff(len(since), since[-1] if since else 0.0)
        return Backoff(self.failures + len(times), max([self.last, *times]))

    def left_s(self, now: float) -> float:
        return wait_s(self.failures, self.last, now)


def wait_s(failures: int, last: float, now: float) -> float:
    """Seconds until the next pod: 10, 20, 40, ... after the last failure, ten minutes at most."""
    if not failures:
        return 0.0
    pause_s: float = min(BACKOFF_S * 2 ** min(failures - 1, 30), BACKOFF_MOST_S)
    return max(0.0, last + pause_s - now)


def ended_at(pod: Pod, now: float) -> float:
    """When a pod ended: by its containers, its readiness, its deletion; else when it was made."""
    ends = [
        status.state.terminated.finished_at if status.state.terminated else ""
        for status in pod.status.container_statuses
    ]
    if ends and all(ends):
        return max(parse_timestamp(end) or now for end in ends)
    ready = next((c for c in pod.status.conditions if c.type == "Ready" and c.status == "False"), None)
    if ready is not None and ready.last_transition_time:
        return parse_timestamp(ready.last_transition_time) or now
    if pod.metadata.deletion_timestamp:
        deadline = parse_timestamp(pod.metadata.deletion_timestamp) or now
        return deadline - (pod.metadata.deletion_grace_period_seconds or 0)
    return parse_timestamp(pod.metadata.creation_timestamp) or now
