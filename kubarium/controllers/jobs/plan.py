"""What a Job needs next: pods to make and to delete, ends to write down, conditions to set. Pure.

Source: https://kubernetes.io/docs/concepts/workloads/controllers/job/; k8s.io/kubernetes/pkg/controller/job (order).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from kubarium.controllers import pods as podutil
from kubarium.controllers.jobs.indexes import (
    all_failures_of,
    failures_of,
    first_pending,
    format_indexes,
    index_of,
    parse_indexes,
)
from kubarium.controllers.jobs.policies import (
    Backoff,
    ended_at,
    is_failed,
    judge_failure,
    replaces_failed_only,
    succeeded_by,
    wait_s,
)
from kubarium.controllers.jobs.views import Job
from kubarium.controllers.replicaset import rank_for_deletion
from kubarium.machinery.objects import Pod
from kubarium.machinery.times import format_timestamp, parse_timestamp

FINALIZER = "batch.kubernetes.io/job-tracking"
BURST = 500
UNCOUNTED_MOST = 500

Condition = dict[str, str]


@dataclass(frozen=True, slots=True)
class View:
    """A Job with its pods. `released`: uids of pods whose finalizer we have removed though the cache shows it."""

    job: Job
    pods: Sequence[Pod]
    released: Collection[str]
    now: float

    def tracked(self, pod: Pod) -> bool:
        return FINALIZER in pod.metadata.finalizers and pod.metadata.uid not in self.released

    @property
    def active(self) -> list[Pod]:
        return [pod for pod in self.pods if podutil.is_active(pod)]

    @property
    def terminating(self) -> list[Pod]:
        return [pod for pod in self.pods if pod.metadata.deletion_timestamp and not podutil.is_terminal(pod)]

    def index(self, pod: Pod) -> int | None:
        return index_of(pod, self.job.spec.completions or 0)

    def belongs(self, pod: Pod) -> bool:
        """Whether the end of the pod matters: in indexed Jobs only that of a pod with an index."""
        return not self.job.indexed or self.index(pod) is not None

    def ended(self, uncounted: Collection[str], *, failed: bool) -> list[Pod]:
        """Pods that have ended and are written down nowhere yet."""
        return [
            pod
            for pod in self.pods
            if self.tracked(pod)
            and pod.metadata.uid not in uncounted
            and self.belongs(pod)
            and (is_failed(pod, self.job) if failed else pod.status.phase == "Succeeded")
        ]


@dataclass(frozen=True, slots=True)
class Numbers:
    """How far the Job is, with the ends that are not written down yet."""

    succeeded: int
    failed: int
    completed: set[int] = field(default_factory=set)
    lost: set[int] | None = None  # indexes that have failed for good, where each has a limit of its own
    delayed: Mapping[int, Pod] = field(default_factory=dict)  # failed pods kept until their index gets another


@dataclass(frozen=True, slots=True)
class Plan:
    """`create`: the index of each pod to make (None: without). `release`: pods that lose their finalizer once `status`
    (all of it, for the status subresource) is written. `finish`: the condition that ends the Job after that."""

    status: dict[str, Any]
    create: tuple[int | None, ...] = ()
    delete: tuple[Pod, ...] = ()
    release: tuple[Pod, ...] = ()
    finish: Condition | None = None
    again_s: float | None = None
    backoff: Backoff = field(default_factory=Backoff)
    numbers: Numbers = field(default_factory=lambda: Numbers(0, 0))
    suspended: bool | None = None  # changed to that just now


def condition(kind: str, reason: str, message: str, now: float, status: str = "True") -> Condition:
    stamp = format_timestamp(now)
    return {
        "type": kind,
        "status": status,
        "lastProbeTime": stamp,
        "lastTransitionTime": stamp,
        "reason": reason,
        "message": message,
    }


# -- how far it is -----------------------------------------------------------------------------------------------------


def numbers_of(view: View) -> Numbers:
    job, status = view.job, view.job.status
    uncounted = status.uncounted_terminated_pods
    new_failed = [p for p in view.ended(uncounted.failed, failed=True) if judge_failure(job, p).counts]
    new_succeeded = view.ended(uncounted.succeeded, failed=False)
    failed = status.failed + len(new_failed) + len(uncounted.failed)
    if not job.indexed:
        return Numbers(status.succeeded + len(new_succeeded) + len(uncounted.succeeded), failed)
    completions = job.spec.completions or 0
    completed = parse_indexes(status.completed_indexes, completions)
    completed |= {
        i for p in view.pods if p.status.phase == "Succeeded" and view.tracked(p) and (i := view.index(p)) is not None
    }
    lost = _lost(view) if job.spec.backoff_limit_per_index is not None else None
    found = Numbers(len(completed), failed, completed, lost)
    return found if lost is None else replace(found, delayed=_delayed(view, completed | lost))


def _lost(view: View) -> set[int]:
    job = view.job
    lost = parse_indexes(job.status.failed_indexes or "", job.spec.completions or 0)
    limit = job.spec.backoff_limit_per_index or 0
    for pod in view.pods:
        index = view.index(pod)
        if index is None or not view.tracked(pod) or not is_failed(pod, job):
            continue
        verdict = judge_failure(job, pod)
        if verdict.action == "FailIndex" or (verdict.counts and failures_of(pod) >= limit):
            lost.add(index)
    return lost


def _delayed(view: View, done: set[int]) -> dict[int, Pod]:
    """The last failed pod of each index that is to be tried again: it tells how often that has happened."""
    busy = {view.index(pod) for pod in view.active}
    last: dict[int, Pod] = {}
    for pod in view.ended((), failed=True):
        index = view.index(pod)
        if index is None or index in done or index in busy:
            continue
        known = last.get(index)
        if known is None or (all_failures_of(known), ended_at(known, view.now)) <= (
            all_failures_of(pod),
            ended_at(pod, view.now),
        ):
            last[index] = pod
    return last


# -- whether it ends ---------------------------------------------------------------------------------------------------


def ending(view: View, numbers: Numbers) -> Condition | None:
    """FailureTarget, SuccessCriteriaMet or Failed, where the Job is about to end; None where it goes on."""
    job, now = view.job, view.now
    if (met := job.condition("SuccessCriteriaMet")) is not None:
        return condition(met.type, met.reason, met.message, now)
    if (failing := job.condition("FailureTarget")) is not None:
        return condition("Failed", failing.reason, failing.message, now)
    for pod in view.pods:
        if is_failed(pod, job) and (message := judge_failure(job, pod).message):
            return condition("FailureTarget", "PodFailurePolicy", message, now)
    if reason := _failure(view, numbers):
        return condition("FailureTarget", *reason, now)
    if job.indexed and (message := succeeded_by(job, numbers.completed)):
        return condition("SuccessCriteriaMet", "SuccessPolicy", message, now)
    return None


def _failure(view: View, numbers: Numbers) -> tuple[str, str] | None:
    job, spec = view.job, view.job.spec
    if numbers.failed > spec.backoff_limit or _restarted_too_often(view):
        return "BackoffLimitExceeded", "Job has reached the specified backoff limit"
    if (left := deadline_left_s(job, view.now)) is not None and left <= 0:
        return "DeadlineExceeded", "Job was active longer than specified deadline"
    if numbers.lost is None:
        return None
    if spec.max_failed_indexes is not None and len(numbers.lost) > spec.max_failed_indexes:
        return "MaxFailedIndexesExceeded", "Job has exceeded the specified maximal number of failed indexes"
    if numbers.lost and len(numbers.lost) + len(numbers.completed) >= (spec.completions or 0):
        return "FailedIndexes", "Job has failed indexes"
    return None


def _restarted_too_often(view: View) -> bool:
    job = view.job
    if (job.spec.template.get("spec") or {}).get("restartPolicy") != "OnFailure":
        return False
    running = (pod.status for pod in view.pods if pod.status.phase in ("Running", "Pending"))
    restarts = sum(one.restart_count for s in running for one in (*s.container_statuses, *s.init_container_statuses))
    return restarts > 0 if not job.spec.backoff_limit else restarts >= job.spec.backoff_limit


def deadline_left_s(job: Job, now: float) -> float | None:
    """Seconds until activeDeadlineSeconds are over; None where the clock does not run."""
    if job.spec.active_deadline_seconds is None or job.spec.suspend or not job.status.start_time:
        return None
    return (parse_timestamp(job.status.start_time) or now) + job.spec.active_deadline_seconds - now


# -- the plan ----------------------------------------------------------------------------------------------------------


def plan_job(view: View, backoff: Backoff, *, settled: bool) -> Plan:
    """`settled`: the cache shows all pods that were made and deleted; only then are there new ones."""
    job, now = view.job, view.now
    numbers = numbers_of(view)
    uncounted = job.status.uncounted_terminated_pods
    new_failed = view.ended(uncounted.failed, failed=True)
    backoff = backoff.after(view.ended(uncounted.succeeded, failed=False), new_failed, now)
    end = ending(view, numbers)
    active = view.active
    create: tuple[int | None, ...] = ()
    delete: tuple[Pod, ...] = ()
    again_s = deadline_left_s(job, now)
    left = len(active)
    if end is not None:
        delete = tuple(active)
        left = 0
        if not settled:
            end = None
    else:
        if settled and not job.metadata.deletion_timestamp:
            create, delete, wait = plan_pods(view, numbers, backoff)
            again_s = min((each for each in (again_s, wait) if each is not None), default=None)
            left = left - len(delete) + len(create)
        if is_complete(job, numbers, left):
            end = condition(
                "SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods", now
            )
    status, release, finish = plan_status(view, numbers, end)
    gone = {pod.metadata.uid for pod in delete}
    status |= {
        "active": left,
        "ready": sum(1 for pod in active if podutil.is_ready(pod) and pod.metadata.uid not in gone),
        "terminating": len(view.terminating) + len(delete),
    }
    suspended = None
    if end is None and settled and not job.metadata.deletion_timestamp:
        suspended = _suspension(job, status, now)
    return Plan(status, create, delete, release, finish, again_s, backoff, numbers, suspended)


def is_complete(job: Job, numbers: Numbers, active: int) -> bool:
    if job.spec.completions is None:
        return numbers.succeeded > 0 and not active
    return numbers.succeeded >= job.spec.completions and not active


def plan_pods(
    view: View, numbers: Numbers, backoff: Backoff
) -> tuple[tuple[int | None, ...], tuple[Pod, ...], float | None]:
    """Pods to make, pods to delete, seconds to wait before there may be more."""
    job, active = view.job, view.active
    if job.spec.suspend:
        return (), tuple(active), None
    wanted = _wanted(job, numbers, len(active))
    if surplus := _surplus(view, active, max(0, len(active) - wanted)):
        return (), tuple(surplus[:BURST]), None
    missing = wanted - len(active)
    if replaces_failed_only(job):
        missing -= len(view.terminating)
    if missing <= 0:
        return (), (), None
    missing = min(missing, BURST)
    if numbers.lost is None and (wait := backoff.left_s(view.now)) > 0:
        return (), (), wait
    if not job.indexed:
        return (None,) * missing, (), None
    return _pending_indexes(view, numbers, missing)


def _wanted(job: Job, numbers: Numbers, active: int) -> int:
    """How many pods should be at work."""
    if job.spec.completions is None:
        return active if numbers.succeeded else job.spec.parallelism
    left = job.spec.completions - numbers.succeeded - len(numbers.lost or ())
    return max(0, min(left, job.spec.parallelism))


def _surplus(view: View, active: list[Pod], count: int) -> list[Pod]:
    """At least so many pods, and every one whose index another pod has, or that has none."""
    out: list[Pod] = []
    kept = active
    if view.job.indexed:
        best: dict[int, Pod] = {}
        for pod in rank_for_deletion(active, active, view.now):
            index = view.index(pod)
            if index is None:
                out.append(pod)
                continue
            if index in best:
                out.append(best[index])
            best[index] = pod
        kept = list(best.values())
    if len(out) < count:
        out += rank_for_deletion(kept, kept, view.now)[: count - len(out)]
    return out


def _pending_indexes(
    view: View, numbers: Numbers, count: int
) -> tuple[tuple[int | None, ...], tuple[Pod, ...], float | None]:
    busy = {index for pod in view.active if (index := view.index(pod)) is not None}
    if replaces_failed_only(view.job):
        busy |= {index for pod in view.terminating if (index := view.index(pod)) is not None}
    taken = numbers.completed | (numbers.lost or set()) | busy
    found = first_pending(taken, count, view.job.spec.completions or 0)
    if numbers.lost is None:
        return tuple(found), (), None
    ready: list[int | None] = []
    waits: list[float] = []
    for index in found:
        pod = numbers.delayed.get(index)
        wait = wait_s(all_failures_of(pod) + 1, ended_at(pod, view.now), view.now) if pod is not None else 0.0
        if wait > 0:
            waits.append(wait)
        else:
            ready.append(index)
    return tuple(ready), (), min(waits, default=None)


# -- the status --------------------------------------------------------------------------------------------------------


def plan_status(
    view: View, numbers: Numbers, end: Condition | None
) -> tuple[dict[str, Any], tuple[Pod, ...], Condition | None]:
    """The status with all ends written down, the pods that need their finalizer no more, what ends the Job then."""
    job, old = view.job, view.job.status
    held = {pod.metadata.uid for pod in view.pods if view.tracked(pod)}
    succeeded = [uid for uid in old.uncounted_terminated_pods.succeeded if uid in held]
    failed = [uid for uid in old.uncounted_terminated_pods.failed if uid in held]
    totals = {
        "succeeded": old.succeeded + len(old.uncounted_terminated_pods.succeeded) - len(succeeded),
        "failed": old.failed + len(old.uncounted_terminated_pods.failed) - len(failed),
    }
    release = []
    completed = parse_indexes(old.completed_indexes, job.spec.completions or 0)
    for pod in view.pods:
        if len(succeeded) + len(failed) >= UNCOUNTED_MOST:
            break
        if not view.tracked(pod) or not _may_go(view, numbers, pod, end):
            continue
        release.append(pod)
        uid = pod.metadata.uid
        if pod.status.phase == "Succeeded" and uid not in failed:
            if job.indexed:
                completed |= {index for index in (view.index(pod),) if index is not None}
            elif uid not in succeeded:
                succeeded.append(uid)
        elif _counts_as_failed(view, pod, end) and uid not in failed:
            failed.append(uid)
    if job.indexed:
        totals["succeeded"] = len(completed)
    status = {
        "startTime": old.start_time or (None if job.spec.suspend else format_timestamp(view.now)),
        **totals,
        "uncountedTerminatedPods": {"succeeded": succeeded or None, "failed": failed or None},
        "completedIndexes": format_indexes(completed) or None,
        "failedIndexes": None if numbers.lost is None else format_indexes(numbers.lost),
        "conditions": wire_conditions(job),
    }
    return status, tuple(release), _announce(status, end, view.now)


def _counts_as_failed(view: View, pod: Pod, end: Condition | None) -> bool:
    """Also a pod that is taken away because its Job fails."""
    cut_off = end is not None and end["type"] != "SuccessCriteriaMet"
    return (cut_off or is_failed(pod, view.job)) and view.belongs(pod) and judge_failure(view.job, pod).counts


def _may_go(view: View, numbers: Numbers, pod: Pod, end: Condition | None) -> bool:
    if view.job.metadata.deletion_timestamp or end is not None or pod.status.phase == "Succeeded":
        return True
    kept = {each.metadata.uid for each in numbers.delayed.values()}
    return is_failed(pod, view.job) and pod.metadata.uid not in kept


def _announce(status: dict[str, Any], end: Condition | None, now: float) -> Condition | None:
    """Say that the Job is about to end, and give the condition that says it has."""
    if end is None or end["type"] == "Failed":
        return end
    final = "Failed" if end["type"] == "FailureTarget" else "Complete"
    if not any(c["type"] == end["type"] and c["status"] == "True" for c in status["conditions"]):
        status["conditions"] = [*status["conditions"], end]
    return condition(final, end["reason"], end["message"], now)


def _suspension(job: Job, status: dict[str, Any], now: float) -> bool | None:
    """Set the condition Suspended, and the start anew, where that has changed; a Job never suspended says nothing."""
    known = next((c for c in job.status.conditions if c.type == "Suspended"), None)
    wanted = "True" if job.spec.suspend else "False"
    if (known is None and not job.spec.suspend) or (known is not None and known.status == wanted):
        return None
    fresh = condition(
        "Suspended",
        *(("JobSuspended", "Job suspended") if job.spec.suspend else ("JobResumed", "Job resumed")),
        now,
        wanted,
    )
    status["conditions"] = [*(c for c in status["conditions"] if c["type"] != "Suspended"), fresh]
    status["startTime"] = None if job.spec.suspend else format_timestamp(now)
    return job.spec.suspend


def wire_conditions(job: Job) -> list[Condition]:
    return [
        {
            "type": c.type,
            "status": c.status,
            "lastProbeTime": c.last_probe_time,
            "lastTransitionTime": c.last_transition_time,
            "reason": c.reason,
            "message": c.message,
        }
        for c in job.status.conditions
    ]


def finished_status(job: Job, finish: Condition) -> dict[str, Any]:
    """The last change of a Job's status."""
    others = [c for c in wire_conditions(job) if c["type"] != finish["type"]]
    status: dict[str, Any] = {"conditions": [*others, finish]}
    return status | ({"completionTime": finish["lastTransitionTime"]} if finish["type"] == "Complete" else {})


def counted_status(job: Job, held: Collection[str]) -> dict[str, Any] | None:
    """Uids of pods that have lost their finalizer become numbers; None where there are none."""
    uncounted = job.status.uncounted_terminated_pods
    succeeded = [uid for uid in uncounted.succeeded if uid in held]
    failed = [uid for uid in uncounted.failed if uid in held]
    if (len(succeeded), len(failed)) == (len(uncounted.succeeded), len(uncounted.failed)):
        return None
    return {
        "succeeded": job.status.succeeded + len(uncounted.succeeded) - len(succeeded),
        "failed": job.status.failed + len(uncounted.failed) - len(failed),
        "uncountedTerminatedPods": {"succeeded": succeeded or None, "failed": failed or None},
    }


def same_status(job: Job, status: Mapping[str, Any]) -> bool:
    """Whether a planned status is what the Job already says."""
    old = job.status
    uncounted = status["uncountedTerminatedPods"]
    return (
        (old.active, old.ready, old.terminating) == (status["active"], status["ready"], status["terminating"])
        and (old.succeeded, old.failed) == (status["succeeded"], status["failed"])
        and old.start_time == (status["startTime"] or "")
        and old.completed_indexes == (status["completedIndexes"] or "")
        and old.failed_indexes == status["failedIndexes"]
        and list(old.uncounted_terminated_pods.succeeded) == (uncounted["succeeded"] or [])
        and list(old.uncounted_terminated_pods.failed) == (uncounted["failed"] or [])
        and wire_conditions(job) == status["conditions"]
    )
