"""The Job controller: makes and deletes pods, writes their ends down before they go, and says when a Job is over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

from kubarium.controllers.children import RECHECK_S, Children
from kubarium.controllers.controller import (
    BY_NAMESPACE,
    Context,
    Controller,
    NotYet,
    children_and_orphans,
)
from kubarium.controllers.jobs.indexes import (
    FAILURES,
    IGNORED_FAILURES,
    INDEX,
    failures_of,
    ignored_failures_of,
)
from kubarium.controllers.jobs.plan import (
    FINALIZER,
    Numbers,
    Plan,
    View,
    counted_status,
    finished_status,
    plan_job,
    same_status,
)
from kubarium.controllers.jobs.policies import Backoff, judge_failure
from kubarium.controllers.jobs.views import JOBS, Job
from kubarium.controllers.refs import adoption_patch, controller_of, controller_reference, plan_claims, release_patch
from kubarium.machinery.client import PatchType
from kubarium.machinery.errors import NotFound
from kubarium.machinery.objects import ObjectKey, Pod
from kubarium.machinery.resources import PODS

OURS = ("", "kubernetes.io/job-controller")
"""Whom `spec.managedBy` may name for us to act."""
ENV = "JOB_COMPLETION_INDEX"
NAME_MOST = 58


def pod_of(job: Job, index: int | None, numbers: Numbers) -> dict[str, Any]:
    """The pod, as sent to the API server, that a Job's template makes."""
    given = job.spec.template.get("metadata") or {}
    labels, annotations = dict(given.get("labels") or {}), dict(given.get("annotations") or {})
    spec = dict(job.spec.template.get("spec") or {})
    prefix = f"{job.metadata.name}-"
    if job.indexed:
        for kind in ("initContainers", "containers"):
            if spec.get(kind):
                spec[kind] = [_with_index(container) for container in spec[kind]]
    if index is not None:
        labels[INDEX] = annotations[INDEX] = str(index)
        spec["hostname"] = f"{job.metadata.name}-{index}"
        prefix = _indexed_prefix(job.metadata.name, index)
        if numbers.lost is not None:
            annotations |= _failure_counts(job, numbers.delayed.get(index))
    metadata: dict[str, Any] = {
        "generateName": prefix,
        "labels": labels,
        "finalizers": [*(f for f in given.get("finalizers") or () if f != FINALIZER), FINALIZER],
        "ownerReferences": [controller_reference(job)],
    }
    return {"metadata": metadata | ({"annotations": annotations} if annotations else {}), "spec": spec}


def _indexed_prefix(name: str, index: int) -> str:
    end = f"-{index}-"
    return name[: NAME_MOST - len(end)] + end


def _with_index(container: dict[str, Any]) -> dict[str, Any]:
    env = container.get("env") or []
    if any(one.get("name") == ENV for one in env):
        return container
    field = {"fieldRef": {"fieldPath": f"metadata.labels['{INDEX}']"}}
    return {**container, "env": [*env, {"name": ENV, "valueFrom": field}]}


def _failure_counts(job: Job, replaced: Pod | None) -> dict[str, str]:
    """How often the index has failed, handed on from the pod that is replaced."""
    if replaced is None:
        return {FAILURES: "0"}
    counts = judge_failure(job, replaced).counts
    ignored = ignored_failures_of(replaced) + (not counts)
    found = {FAILURES: str(failures_of(replaced) + counts)}
    return found | ({IGNORED_FAILURES: str(ignored)} if ignored else {})


class JobController(Controller[ObjectKey]):
    name = "job-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.jobs = context.informers.of(JOBS)
        self.pods = context.informers.of(PODS)
        self.children = Children(self.api, self.events, self.pods, JOBS)
        self._backoffs: dict[str, Backoff] = {}
        self._released: dict[str, set[str]] = {}  # by uid of the Job: pods whose finalizer the cache may still show
        self.jobs.on_change(self._job_changed)
        self.pods.on_change(self._pod_changed)

    def _job_changed(self, old: Job | None, new: Job | None) -> None:
        if old is not None and (new is None or new.metadata.uid != old.metadata.uid):
            self._forget(old)
            for pod in self.pods.by_index(BY_NAMESPACE, old.metadata.namespace):
                if (ref := controller_of(pod)) is not None and ref.uid == old.metadata.uid:
                    self._enqueue_owner(pod)
        if (changed := new or old) is not None:
            self.queue.add(changed.key)

    def _forget(self, job: Job) -> None:
        self.children.forget(job.metadata.uid)
        self._backoffs.pop(job.metadata.uid, None)
        self._released.pop(job.metadata.uid, None)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for key in self.children.concerned(old, new, self.jobs):
            self.queue.add(key)

    def _enqueue_owner(self, pod: Pod) -> None:
        ref = controller_of(pod)
        if ref is not None and ref.kind == JOBS.kind:
            self.queue.add(ObjectKey(pod.metadata.namespace, ref.name))

    async def sync(self, key: ObjectKey) -> None:
        job = self.jobs.get(key)
        await self._free_orphans(key, job)
        if job is None or job.spec.managed_by not in OURS:
            return
        if job.finished:
            self._backoffs.pop(job.metadata.uid, None)
            return
        pods = await self._claim(job)
        view = View(job, pods, self._still_released(job, pods), self.clock())
        settled = await self.children.settled(job)
        plan = plan_job(view, self._backoffs.get(job.metadata.uid, Backoff()), settled=settled)
        failure = await self._apply(job, plan)
        await self._write_down(view, plan)
        if plan.suspended is not None:
            done = ("Suspended", "Job suspended") if plan.suspended else ("Resumed", "Job resumed")
            self.events.event(job, "Normal", *done)
        if not settled:
            self.queue.add_after(key, RECHECK_S)
        if plan.again_s is not None:
            self.queue.add_after(key, max(0.05, plan.again_s))
        if failure:
            raise NotYet(failure)

    def _still_released(self, job: Job, pods: Iterable[Pod]) -> set[str]:
        """Of the pods that we have freed, those that the cache still shows bound."""
        shown = {pod.metadata.uid for pod in pods if FINALIZER in pod.metadata.finalizers}
        released = self._released.get(job.metadata.uid, set()) & shown
        self._released[job.metadata.uid] = released
        return released

    async def _free_orphans(self, key: ObjectKey, job: Job | None) -> None:
        """Pods of a Job that is gone are tracked by nobody: they may go."""
        for pod in self.pods.by_index(BY_NAMESPACE, key.namespace):
            ref = controller_of(pod)
            if ref is None or ref.kind != JOBS.kind or ref.name != key.name or FINALIZER not in pod.metadata.finalizers:
                continue
            if (job is None or job.metadata.uid != ref.uid) and not await self._exists(key, ref.uid):
                await self._release(pod)

    async def _exists(self, key: ObjectKey, uid: str) -> bool:
        try:
            return (await self.api.get(JOBS, key.name, key.namespace)).metadata.uid == uid
        except NotFound:
            return False

    async def _claim(self, job: Job) -> list[Pod]:
        claims = plan_claims(job, job.spec.selector, children_and_orphans(self.pods, job))
        owned = list(claims.owned)
        for pod in claims.release:
            await self._patch_pod(pod, release_patch([job.metadata.uid], pod))
        if claims.adopt and await self._exists(job.key, job.metadata.uid):
            for pod in claims.adopt:
                patch = adoption_patch(job, pod)
                patch["metadata"]["finalizers"] = [FINALIZER]
                await self._patch_pod(pod, patch)
        return owned

    async def _patch_pod(self, pod: Pod, patch: dict[str, Any]) -> None:
        try:
            await self.api.patch(PODS, pod.metadata.name, patch, pod.metadata.namespace, patch_type=PatchType.STRATEGIC)
        except NotFound:
            return

    # -- pods ----------------------------------------------------------------------------------------------------------

    async def _apply(self, job: Job, plan: Plan) -> str:
        """Make and delete pods; the message of the first failure."""
        bodies = [pod_of(job, index, plan.numbers) for index in plan.create]
        return await self.children.create(job, bodies) or await self.children.delete(job, plan.delete)

    async def _release(self, pod: Pod) -> None:
        kept = {"$deleteFromPrimitiveList/finalizers": [FINALIZER], "uid": pod.metadata.uid}
        await self._patch_pod(pod, {"metadata": kept})

    # -- the status ----------------------------------------------------------------------------------------------------

    async def _write_down(self, view: View, plan: Plan) -> None:
        """First the ends of pods, then their finalizers, then the numbers, then that the Job is over."""
        job = view.job
        uid = job.metadata.uid
        if not same_status(job, plan.status):
            job = await self._write(job, plan.status)
        self._backoffs[uid] = plan.backoff
        await asyncio.gather(*(self._release(pod) for pod in plan.release))
        released = self._released.setdefault(uid, set())
        released |= {pod.metadata.uid for pod in plan.release}
        held = {
            p.metadata.uid for p in view.pods if FINALIZER in p.metadata.finalizers and p.metadata.uid not in released
        }
        last = counted_status(job, held) or {}
        finish = plan.finish
        uncounted = job.status.uncounted_terminated_pods
        if held.intersection((*uncounted.succeeded, *uncounted.failed)) or plan.status["terminating"]:
            finish = None  # when the last pod is gone we are here again
        if finish is not None:
            last |= finished_status(job, finish)
        if last:
            await self._write(job, last)
        if finish is not None:
            self._tell_end(job, finish, plan.numbers)

    async def _write(self, job: Job, status: Mapping[str, Any]) -> Job:
        """Guarded by the revision that was planned for: nothing is counted twice."""
        meta = job.metadata
        patch = {"metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid}, "status": status}
        return await self.api.patch(JOBS, meta.name, patch, meta.namespace, subresource="status")

    def _tell_end(self, job: Job, finish: Mapping[str, str], numbers: Numbers) -> None:
        if finish["type"] == "Failed":
            self.events.event(job, "Warning", finish["reason"], finish["message"])
            return
        if job.spec.completions is not None and numbers.succeeded > job.spec.completions:
            text = "Too many succeeded pods running after completion count reached"
            self.events.event(job, "Warning", "TooManySucceededPods", text)
        self.events.event(job, "Normal", "Completed", "Job completed")
