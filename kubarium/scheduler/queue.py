"""Pods that wait for a node: by priority, then in the order in which they came."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import NamedTuple

from kubarium.machinery.objects import Pod


class _Place(NamedTuple):
    """Where a pod stands in the queue: smaller comes first."""

    priority: int
    created: str
    number: int
    uid: str


class SchedulingQueue:
    """Two places: pods to try now, and pods that were found unschedulable and wait for the cluster to change."""

    def __init__(self) -> None:
        self._heap: list[_Place] = []
        self._active: dict[str, Pod] = {}
        self._unschedulable: dict[str, Pod] = {}
        self._numbers = itertools.count()
        self._wake = asyncio.Event()

    def add(self, pod: Pod) -> None:
        """Try the pod (again); a pod already waiting to be tried keeps its place."""
        uid = pod.metadata.uid
        self._unschedulable.pop(uid, None)
        if uid not in self._active:
            place = _Place(-(pod.spec.priority or 0), pod.metadata.creation_timestamp, next(self._numbers), uid)
            heapq.heappush(self._heap, place)
        self._active[uid] = pod
        self._wake.set()

    def park(self, pod: Pod) -> None:
        """No node can take it as things are; `wake` brings it back."""
        self._unschedulable[pod.metadata.uid] = pod

    def refresh(self, pod: Pod) -> None:
        """The pod changed in a way that does not matter for where it can run."""
        for waiting in (self._active, self._unschedulable):
            if pod.metadata.uid in waiting:
                waiting[pod.metadata.uid] = pod

    def remove(self, uid: str) -> None:
        self._active.pop(uid, None)
        self._unschedulable.pop(uid, None)

    def wake(self, concerned: Callable[[Pod], bool] = lambda _: True) -> None:
        """Something changed in the cluster that may make room: try again those whom it may concern."""
        for pod in [pod for pod in self._unschedulable.values() if concerned(pod)]:
            self.add(pod)

    def __len__(self) -> int:
        return len(self._active) + len(self._unschedulable)

    async def pop(self) -> Pod:
        """The next pod to try; waits for one."""
        while True:
            while self._heap:
                pod = self._active.pop(heapq.heappop(self._heap).uid, None)
                if pod is not None:
                    return pod
            self._wake.clear()
            await self._wake.wait()
