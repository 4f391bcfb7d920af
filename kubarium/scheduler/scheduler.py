"""The edge of the scheduler: informers in, bindings and reasons out.

Decisions are made one after another, each seeing what the last assumed; bindings are written while the next is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter

from kubarium.machinery.client import Api, PatchType
from kubarium.machinery.errors import ApiError, Conflict, NotFound
from kubarium.machinery.events import EventRecorder
from kubarium.machinery.informer import Informer
from kubarium.machinery.objects import Namespace, Node, Pod
from kubarium.machinery.process import wait_synced
from kubarium.machinery.resources import NAMESPACES, NODES, PODS
from kubarium.machinery.times import format_timestamp
from kubarium.scheduler.plan import Placement, Unschedulable, plan_placement
from kubarium.scheduler.queue import SchedulingQueue
from kubarium.scheduler.state import TERMINAL_PHASES, ClusterState, PodInfo

log = logging.getLogger(__name__)

NAME = "default-scheduler"
BINDINGS_AT_ONCE = 16
FIRST_RETRY_S, MOST_RETRY_S = 0.05, 10.0
FLUSH_S = 1.0
"""What is left to tell at the end gets this long."""


def is_ours_to_place(pod: Pod) -> bool:
    """Waits for this scheduler: without node, gates and end in sight."""
    return (
        not pod.spec.node_name
        and not pod.metadata.deletion_timestamp
        and not pod.spec.scheduling_gates
        and pod.status.phase not in TERMINAL_PHASES
        and pod.spec.scheduler_name in ("", NAME)
    )


def makes_room(old: Node | None, new: Node) -> bool:
    """Whether a change of a node can matter to a pod that found no place; its heartbeats do not."""
    return old is None or (
        old.spec.taints,
        old.spec.unschedulable,
        old.status.allocatable,
        old.metadata.labels,
    ) != (new.spec.taints, new.spec.unschedulable, new.status.allocatable, new.metadata.labels)


def looks_at_pods(pod: Pod) -> bool:
    """Whether other pods' places matter to this one's."""
    return pod.spec.affinity is not None or bool(pod.spec.topology_spread_constraints)


def condition(reason: str, message: str, now: float) -> dict[str, str]:
    """PodScheduled=False, on the wire."""
    return {
        "type": "PodScheduled",
        "status": "False",
        "reason": reason,
        "message": message,
        "lastTransitionTime": format_timestamp(now),
    }


class Scheduler:
    """Places every pod that asks for `default-scheduler`."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._events = EventRecorder(api, NAME)
        self.pods: Informer[Pod] = Informer(api, PODS)
        self.nodes: Informer[Node] = Informer(api, NODES)
        self.namespaces: Informer[Namespace] = Informer(api, NAMESPACES)
        self._state = ClusterState()
        self._queue = SchedulingQueue()
        self._failures: Counter[str] = Counter()
        self._told: dict[str, str] = {}  # pod uid -> the reason last recorded
        self._slots = asyncio.Semaphore(BINDINGS_AT_ONCE)
        self.pods.on_change(self._pod_changed)
        self.nodes.on_change(self._node_changed)

    @property
    def synced(self) -> bool:
        return self.pods.has_synced and self.nodes.has_synced and self.namespaces.has_synced

    async def run_informers(self) -> None:
        async with asyncio.TaskGroup() as group:
            for name, informer in (("pods", self.pods), ("nodes", self.nodes), ("namespaces", self.namespaces)):
                group.create_task(informer.run(), name=f"informer/{name}")

    async def run(self) -> None:
        """Place pods until cancelled."""
        await wait_synced(self.pods, self.nodes, self.namespaces)
        try:
            await self._place_all()
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self._events.flush()

    async def _place_all(self) -> None:
        async with asyncio.TaskGroup() as group:
            while True:
                pod = await self._queue.pop()
                self._decide(pod, group)
                await asyncio.sleep(0)  # a long queue must not starve watches and bindings

    # -- what changed

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if new is None:
            if old is not None:
                self._state.remove_node(old.metadata.name)
                self._queue.wake()  # the reasons count nodes
            return
        if makes_room(old, new):
            self._state.set_node(new)
            self._queue.wake()

    def _pod_changed(self, old: Pod | None, new: Pod | None) -> None:
        if new is None:
            if old is not None:
                self._pod_gone(old)
            return
        self._state.set_pod(new)
        if is_ours_to_place(new):
            self._offer(old, new)
            return
        self._queue.remove(new.metadata.uid)
        self._forget(new.metadata.uid)
        if new.status.phase in TERMINAL_PHASES or new.metadata.deletion_timestamp:
            self._queue.wake()
        elif old is None or not old.spec.node_name or old.metadata.labels != new.metadata.labels:
            self._queue.wake(looks_at_pods)  # a pod more makes no room, but may be company

    def _pod_gone(self, pod: Pod) -> None:
        self._state.remove_pod(pod.metadata.uid)
        self._queue.remove(pod.metadata.uid)
        self._forget(pod.metadata.uid)
        if pod.spec.node_name:
            self._queue.wake()

    def _offer(self, old: Pod | None, new: Pod) -> None:
        if self._state.is_assumed(new.metadata.uid):
            return
        if old is None or old.spec != new.spec or old.metadata.labels != new.metadata.labels:
            self._queue.add(new)
        else:
            self._queue.refresh(new)

    def _forget(self, uid: str) -> None:
        self._failures.pop(uid, None)
        self._told.pop(uid, None)

    # -- decisions

    def _decide(self, pod: Pod, group: asyncio.TaskGroup) -> None:
        info = PodInfo.of(pod)
        namespaces = {each.metadata.name: each.metadata.labels for each in self.namespaces.all()}
        decision = plan_placement(info, self._state.nodes(), namespaces)
        name = f"{pod.metadata.namespace}/{pod.metadata.name}"
        match decision:
            case Placement(node):
                self._state.assume(info, node)
                group.create_task(self._bind(pod, node), name=f"bind {name}")
            case Unschedulable(message):
                self._queue.park(pod)
                group.create_task(self._tell(pod, "Unschedulable", message), name=f"unschedulable {name}")

    async def _bind(self, pod: Pod, node: str) -> None:
        meta = pod.metadata
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta.name, "namespace": meta.namespace, "uid": meta.uid},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node},
        }
        try:
            async with self._slots:
                await self._api.create(PODS, body, meta.namespace, name=meta.name, subresource="binding")
        except NotFound:
            self._state.forget(meta.uid)
        except ApiError as err:
            await self._bind_failed(pod, err)
        else:
            text = f"Successfully assigned {pod.key} to {node}"
            self._events.event(pod, "Normal", "Scheduled", text)

    async def _bind_failed(self, pod: Pod, err: ApiError) -> None:
        """Free what was assumed and try again later. A pod bound by somebody else shows so in the cache."""
        uid = pod.metadata.uid
        self._state.forget(uid)
        self._queue.wake()
        if not isinstance(err, Conflict):
            log.warning("scheduler: binding of %s failed, will retry: %s", pod.key, err)
            await self._tell(pod, "SchedulerError", f"binding rejected: {err}")
        delay_s = min(FIRST_RETRY_S * 2 ** self._failures[uid], MOST_RETRY_S)
        self._failures[uid] += 1
        asyncio.get_running_loop().call_later(delay_s, self._retry, pod)

    def _retry(self, pod: Pod) -> None:
        current = self.pods.get(pod.key)
        if current is not None and current.metadata.uid == pod.metadata.uid and is_ours_to_place(current):
            self._queue.add(current)

    async def _tell(self, pod: Pod, reason: str, message: str) -> None:
        """Say in an Event and in the condition why a pod is not placed; what was said already is not repeated."""
        meta = pod.metadata
        if self._told.get(meta.uid) == message:
            return
        self._told[meta.uid] = message
        self._events.event(pod, "Warning", "FailedScheduling", message)
        patch = {"metadata": {"uid": meta.uid}, "status": {"conditions": [condition(reason, message, time.time())]}}
        try:
            await self._api.patch(
                PODS, meta.name, patch, meta.namespace, patch_type=PatchType.STRATEGIC, subresource="status"
            )
        except (NotFound, Conflict):
            return  # gone, or another pod of that name
        except ApiError as err:
            self._told.pop(meta.uid, None)
            log.warning("scheduler: condition of %s not written: %s", pod.key, err)
