"""Validation of a Job's status: whoever runs the Job must keep to what its readers rely on.

Each rule holds for a write that changes what it is about; an old fault elsewhere stops nobody.
Source: k8s.io/kubernetes/pkg/apis/batch/validation, /pkg/registry/batch/job (order and texts).
"""

from __future__ import annotations

from datetime import datetime

from apiserver.registry import jobs_indexes
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults, inner
from apiserver.registry.meta import check_meta_update
from apiserver.registry.workloads import check_not_negative

_INDEXED = "Indexed"


def is_true(status: Object, kind: str, wanted: str = "True") -> bool:
    return any(c.get("type") == kind and c.get("status") == wanted for c in status.get("conditions") or ())


def _finished(status: Object) -> bool:
    return is_true(status, "Complete") or is_true(status, "Failed")


class _Write:
    """A status, the one before, and which parts differ."""

    def __init__(self, new: Object, old: Object) -> None:
        self.spec = new.get("spec") or {}
        self.status, self.was = new.get("status") or {}, old.get("status") or {}
        self.indexed = self.spec.get("completionMode") == _INDEXED
        self.completions = self.spec.get("completions")
        self.complete, self.failed = is_true(self.status, "Complete"), is_true(self.status, "Failed")
        self.finished = self.complete or self.failed
        self.criteria, self.target = is_true(self.status, "SuccessCriteriaMet"), is_true(self.status, "FailureTarget")
        self.finishing = self.finished != _finished(self.was)
        self.completing, self.failing = self.turned("Complete"), self.turned("Failed")

    def turned(self, kind: str) -> bool:
        return is_true(self.status, kind) != is_true(self.was, kind)

    def changed(self, key: str, empty: object = None) -> bool:
        return bool(self.status.get(key, empty) != self.was.get(key, empty))


def check_status_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    write = _Write(new, old)
    _check_counts(write.status, faults)
    _check_conditions(write, faults)
    _check_finished(write, faults)
    _check_indexes(write, faults)
    _check_rest(write, faults)
    _check_transitions(write, faults)


def _check_counts(status: Object, faults: Faults) -> None:
    for key in ("active", "succeeded", "failed", "ready", "terminating"):
        check_not_negative(status, key, "status", faults)
    uncounted, seen = status.get("uncountedTerminatedPods") or {}, set()
    for kind in ("succeeded", "failed"):
        for i, uid in enumerate(uncounted.get(kind) or ()):
            path = f"status.uncountedTerminatedPods.{kind}[{i}]"
            if not uid:
                faults.invalid(path, uid, "must not be empty")
            elif uid in seen:
                faults.duplicate(path, uid)
            seen.add(uid)


def _check_conditions(write: _Write, faults: Faults) -> None:
    status, times = write.status, write.changed("completionTime")
    start, end = status.get("startTime"), status.get("completionTime")
    conditions, ended = "status.conditions", "status.completionTime"
    if (write.completing or write.failing) and write.complete and write.failed:
        faults.wrong(conditions, "cannot set Complete=True and Failed=true conditions")
    if (write.completing or write.turned("FailureTarget")) and write.complete and write.target:
        faults.wrong(conditions, "cannot set Complete=True and FailureTarget=true conditions")
    if (write.completing or times) and end is not None and not write.complete:
        faults.invalid(ended, end, "cannot set completionTime when there is no Complete=True condition")
    if (write.completing or times) and end is None and write.complete:
        faults.required(ended, "completionTime is required for Complete jobs")
    if (write.changed("startTime") or times) and start and end and _moment(end) < _moment(start):
        faults.invalid(ended, end, "must be equal to or after `startTime`")
    if (write.failing or write.changed("failedIndexes")) and write.failed and not write.target:
        faults.wrong(conditions, "cannot set Failed=True condition without the FailureTarget=true condition")
    if (write.completing or write.turned("SuccessCriteriaMet")) and write.complete and not write.criteria:
        text = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition"
        faults.wrong(conditions, text)


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _check_finished(write: _Write, faults: Faults) -> None:
    if not write.finished:
        return
    status, active = write.status, write.status.get("active", 0)
    if (write.finishing or write.changed("active", 0)) and active > 0:
        faults.invalid("status.active", active, "active>0 is invalid for finished job")
    suspended_and_empty = write.spec.get("suspend") is True and write.completions == 0
    if (write.finishing or write.changed("startTime")) and not suspended_and_empty and not status.get("startTime"):
        faults.required("status.startTime", "startTime is required for finished job")
    uncounted = status.get("uncountedTerminatedPods")
    if (write.finishing or write.changed("uncountedTerminatedPods")) and any((uncounted or {}).values()):
        shown = inner("batch.v1.UncountedTerminatedPods", uncounted)
        faults.invalid("status.uncountedTerminatedPods", shown, "must be empty for finished job")


def _check_indexes(write: _Write, faults: Faults) -> None:
    status, per_index = write.status, write.spec.get("backoffLimitPerIndex")
    completed, failed = status.get("completedIndexes", ""), status.get("failedIndexes")
    completed_path, failed_path = "status.completedIndexes", "status.failedIndexes"
    new_completed, new_failed = write.changed("completedIndexes", ""), write.changed("failedIndexes")
    if new_completed and write.completions is not None:
        _check_format(completed, write.completions, "completedIndexes", faults)
    if new_failed and write.completions is not None and per_index is not None and failed is not None:
        _check_format(failed, write.completions, "failedIndexes", faults)
    if new_completed and completed and not write.indexed:
        text = "cannot set non-empty completedIndexes when non-indexed completion mode"
        faults.invalid(completed_path, completed, text)
    if new_failed and per_index is None and failed is not None:
        faults.invalid(failed_path, failed, "cannot set non-null failedIndexes when backoffLimitPerIndex is null")
    if (new_failed or new_completed) and write.completions is not None and failed is not None:
        common = jobs_indexes.overlap(completed, failed, write.completions)
        if common is not None:
            faults.invalid(failed_path, failed, f"failedIndexes and completedIndexes overlap at index: {common}")


def _check_format(text: str, completions: int, key: str, faults: Faults) -> None:
    try:
        jobs_indexes.parse(text, completions)
    except ValueError as err:
        faults.invalid(f"status.{key}", text, f"error parsing {key}: {err}")


def _check_rest(write: _Write, faults: Faults) -> None:
    status, path = write.status, "status.conditions"
    terminating, ready = status.get("terminating") or 0, status.get("ready")
    if (write.finishing or write.changed("terminating")) and terminating > 0 and write.finished:
        faults.invalid("status.terminating", terminating, "terminating>0 is invalid for finished job")
    counted = ready is not None and (write.changed("ready") or write.changed("active", 0))
    if counted and ready > status.get("active", 0):
        faults.invalid("status.ready", ready, "cannot set more ready pods than active")
    if write.criteria and write.failed:
        faults.wrong(path, "cannot set SuccessCriteriaMet=True and Failed=true conditions")
    if write.criteria and write.target:
        faults.wrong(path, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions")
    if write.spec.get("successPolicy") is not None and write.complete and not write.criteria:
        text = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True"
        faults.wrong(path, text)


def _check_transitions(write: _Write, faults: Faults) -> None:
    status, was = write.status, write.was
    for kind in ("Failed", "Complete", "FailureTarget"):
        if is_true(was, kind) and not is_true(status, kind):
            faults.wrong("status.conditions", f"cannot disable the terminal {kind}=True condition")
    if status.get("failed", 0) < was.get("failed", 0):
        faults.invalid("status.failed", status.get("failed", 0), "cannot decrease the failed counter")
    elastic = write.indexed and write.completions == write.spec.get("parallelism")
    if not elastic and status.get("succeeded", 0) < was.get("succeeded", 0):
        faults.invalid("status.succeeded", status.get("succeeded", 0), "cannot decrease the succeeded counter")
    ends = (was.get("completionTime"), status.get("completionTime"))
    if None not in ends and ends[0] != ends[1]:
        faults.invalid("status.completionTime", ends[1], "field is immutable")
    resuming = is_true(was, "Suspended") and is_true(status, "Suspended", "False")
    begun = was.get("startTime") is not None and write.changed("startTime")
    if begun and not resuming and not write.spec.get("suspend"):
        text = "field is immutable for unsuspended job once set"
        faults.invalid("status.startTime", status.get("startTime"), text)
    if is_true(was, "SuccessCriteriaMet") and not write.criteria:
        faults.wrong("status.conditions", "cannot disable the SuccessCriteriaMet=True condition")
    if is_true(was, "Complete") and not is_true(was, "SuccessCriteriaMet") and write.criteria:
        text = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions"
        faults.wrong("status.conditions", text)
