"""The StatefulSet controller: carries the plan out, one pod after the other, with the claims that they need."""

from __future__ import annotations

from typing import Any

from kubarium.controllers import pods as podutil
from kubarium.controllers.children import Children
from kubarium.controllers.controller import (
    Context,
    Controller,
    NotYet,
    children_and_orphans,
    namespace_is_going,
)
from kubarium.controllers.history import Historian, History, template_of
from kubarium.controllers.setviews import CONTROLLERREVISIONS, STATEFULSETS, StatefulSet
from kubarium.controllers.statefulsets.plan import (
    POD_INDEX,
    POD_NAME,
    Plan,
    Revisions,
    claims_of,
    keeper_of,
    ordinal_of,
    plan_set,
    plan_status,
    pod_of,
    revision_of,
    same_status,
    sort_pods,
)
from kubarium.controllers.views import CLAIMS
from kubarium.machinery.client import PatchType
from kubarium.machinery.errors import AlreadyExists, ApiError, NotFound
from kubarium.machinery.objects import ObjectKey, Pod
from kubarium.machinery.resources import PODS


class StatefulSetController(Controller[ObjectKey]):
    name = "statefulset-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.sets = context.informers.of(STATEFULSETS)
        self.pods = context.informers.of(PODS)
        self.claims = context.informers.of(CLAIMS)
        self.children = Children(self.api, self.events, self.pods, STATEFULSETS)
        self.historian = Historian(context.api, context.informers.of(CONTROLLERREVISIONS))
        self.sets.on_change(self._set_changed)
        self.pods.on_change(self._pod_changed)

    def _set_changed(self, old: StatefulSet | None, new: StatefulSet | None) -> None:
        if new is not None:
            self.queue.add(new.key)

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        for key in self.children.concerned(old, new, self.sets):
            self.queue.add(key)

    async def sync(self, key: ObjectKey) -> None:
        found = self.sets.get(key)
        if found is None:
            return
        pods = await self._claim(found)
        history = await self.historian.history(found)
        current = history.named(found.status.current_revision)
        revisions = Revisions(current.metadata.name, history.update.metadata.name)
        now = self.clock()
        plan = plan_set(found, pods, revisions, now)
        failure = await self._apply(found, pods, plan, history)
        status = plan_status(found, pods, revisions, plan, history.collisions, now)
        if not same_status(found, status):
            await self._write_status(found, status)
        live = {revisions.current, revisions.update, *map(revision_of, pods)}
        await self.historian.truncate(history, live, found.spec.revision_history_limit)
        waits = (podutil.available_in(pod, found.spec.min_ready_seconds, now) for pod in pods)
        if (wait_s := min((wait for wait in waits if wait), default=None)) is not None:
            self.queue.add_after(key, wait_s)
        if failure:
            raise NotYet(failure)

    async def _claim(self, found: StatefulSet) -> list[Pod]:
        """Only pods with a name of the set are its own."""
        candidates = [p for p in children_and_orphans(self.pods, found) if ordinal_of(found, p) is not None]
        return await self.children.claim(found, found.spec.selector, candidates)

    async def _apply(self, found: StatefulSet, pods: list[Pod], plan: Plan, history: History) -> str:
        """The message of the first thing that went wrong."""
        await self._keep_claims(found, pods)
        for ordinal, revision in plan.create:
            if message := await self._create(found, ordinal, revision, history):
                return message
        for pod in plan.mend:
            labels = {POD_NAME: pod.metadata.name, POD_INDEX: str(ordinal_of(found, pod))}
            await self.children.patch(pod, {"metadata": {"uid": pod.metadata.uid, "labels": labels}})
        for pod in plan.delete:
            if message := await self._delete(found, pod):
                return message
        return ""

    async def _create(self, found: StatefulSet, ordinal: int, revision: str, history: History) -> str:
        template = template_of(history.named(revision))
        body = pod_of(found, template, ordinal, revision)
        name = body["metadata"]["name"]
        what = f"Pod {name} in StatefulSet {found.metadata.name}"
        try:
            await self._make_claims(found, ordinal, None)
            await self.api.create(PODS, body, found.metadata.namespace)
        except AlreadyExists:
            return f"{name} is there already; waiting for the cache to show it"
        except ApiError as err:
            if namespace_is_going(err):
                return ""
            self.events.event(found, "Warning", "FailedCreate", f"create {what} failed error: {err}")
            return str(err)
        self.events.event(found, "Normal", "SuccessfulCreate", f"create {what} successful")
        return ""

    async def _delete(self, found: StatefulSet, pod: Pod) -> str:
        what = f"Pod {pod.metadata.name} in StatefulSet {found.metadata.name}"
        try:
            await self.api.delete(PODS, pod.metadata.name, pod.metadata.namespace, uid=pod.metadata.uid)
        except NotFound:
            return ""
        except ApiError as err:
            self.events.event(found, "Warning", "FailedDelete", f"delete {what} failed error: {err}")
            return str(err)
        self.events.event(found, "Normal", "SuccessfulDelete", f"delete {what} successful")
        return ""

    # -- claims --------------------------------------------------------------------------------------------------------

    async def _keep_claims(self, found: StatefulSet, pods: list[Pod]) -> None:
        """Claims that a waiting pod lacks are made; each claim goes with whom the retention policy says."""
        if not found.spec.volume_claim_templates:
            return
        there, condemned = sort_pods(found, pods)
        for ordinal, pod in there.items():
            if pod.status.phase == "Pending":
                await self._make_claims(found, ordinal, pod)
            await self._hand_claims(found, pod, condemned=False)
        for pod in condemned:
            await self._hand_claims(found, pod, condemned=True)

    async def _make_claims(self, found: StatefulSet, ordinal: int, pod: Pod | None) -> None:
        keeper = keeper_of(found, pod, condemned=False)
        for body in claims_of(found, ordinal):
            name = body["metadata"]["name"]
            if self.claims.get(ObjectKey(found.metadata.namespace, name)) is not None:
                continue
            if keeper is not None:
                body["metadata"]["ownerReferences"] = [keeper]
            try:
                await self.api.create(CLAIMS, body, found.metadata.namespace)
            except AlreadyExists:
                continue
            what = f"Claim {name} Pod {found.metadata.name}-{ordinal} in StatefulSet {found.metadata.name}"
            self.events.event(found, "Normal", "SuccessfulCreate", f"create {what} success")

    async def _hand_claims(self, found: StatefulSet, pod: Pod, *, condemned: bool) -> None:
        ordinal = ordinal_of(found, pod)
        assert ordinal is not None
        keeper = keeper_of(found, pod, condemned=condemned)
        ours = {found.metadata.uid, pod.metadata.uid}
        for body in claims_of(found, ordinal):
            claim = self.claims.get(ObjectKey(found.metadata.namespace, body["metadata"]["name"]))
            if claim is None:
                continue
            have = [ref.uid for ref in claim.metadata.owner_references if ref.uid in ours]
            want = [keeper["uid"]] if keeper else []
            if have != want:
                refs = [{"$patch": "delete", "uid": uid} for uid in have if uid not in want]
                refs += [keeper] if keeper and keeper["uid"] not in have else []
                meta = {"uid": claim.metadata.uid, "ownerReferences": refs}
                await self.api.patch(
                    CLAIMS,
                    claim.metadata.name,
                    {"metadata": meta},
                    claim.metadata.namespace,
                    patch_type=PatchType.STRATEGIC,
                )

    async def _write_status(self, found: StatefulSet, status: dict[str, Any]) -> None:
        meta = found.metadata
        patch = {"metadata": {"resourceVersion": meta.resource_version, "uid": meta.uid}, "status": status}
        await self.api.patch(STATEFULSETS, meta.name, patch, meta.namespace, subresource="status")
