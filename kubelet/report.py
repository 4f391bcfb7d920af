"""Writes a pod's status to the API: the newest one, one write at a time; what changes meanwhile goes with the next."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from kubarium.machinery import objects
from kubarium.machinery.backoff import Backoff
from kubarium.machinery.client import Api, PatchType
from kubarium.machinery.errors import ApiError, Conflict, NotFound
from kubarium.machinery.resources import PODS

log = logging.getLogger(__name__)

StatusBuilder = Callable[[objects.Pod], dict[str, Any]]


class StatusReporter:
    """`build` makes the status of now for a pod as the API has it.

    Writes are guarded by uid and resourceVersion, so that conditions which others set meanwhile are never undone.
    """

    def __init__(self, api: Api, pod: objects.Pod, build: StatusBuilder) -> None:
        self._api, self._pod, self._build = api, pod, build
        self._due = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._sent: dict[str, Any] | None = None
        self._gone = False

    @property
    def pod(self) -> objects.Pod:
        """The pod as last heard of, from the watch or as an answer to a write."""
        return self._pod

    def heard(self, pod: objects.Pod) -> None:
        """The watch told of the pod; an older state than our own last write is left aside."""
        if _revision(pod) >= _revision(self._pod):
            self._pod = pod

    def publish(self) -> None:
        """The status may have changed."""
        if not self._gone:
            self._idle.clear()
            self._due.set()

    async def flush(self) -> None:
        """Wait until what was published has been written, or the pod has gone."""
        await self._idle.wait()

    async def run(self) -> None:
        backoff = Backoff(first_s=0.05, most_s=5.0)
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self._write()
                backoff.reset()
            except NotFound:
                self._gone = True
            except Conflict:
                await self._look()
                if not self._gone:
                    self._due.set()
            except ApiError as err:
                log.warning("kubelet: status of pod %s: %s; will try again", self._pod.key, err)
                await asyncio.sleep(backoff.next_s())
                self._due.set()
            if not self._due.is_set():
                self._idle.set()

    async def _write(self) -> None:
        pod = self._pod
        status = self._build(pod)
        if status == self._sent:
            return
        guard = {"uid": pod.metadata.uid, "resourceVersion": pod.metadata.resource_version}
        patch = {"metadata": guard, "status": status}
        written = await self._api.patch(
            PODS, pod.metadata.name, patch, pod.metadata.namespace, patch_type=PatchType.MERGE, subresource="status"
        )
        self._sent = status
        self.heard(written)

    async def _look(self) -> None:
        """After a conflict: the pod as it is now; another of the same name means that ours has gone."""
        try:
            found = await self._api.get(PODS, self._pod.metadata.name, self._pod.metadata.namespace)
        except NotFound:
            self._gone = True
            return
        except ApiError:
            return
        if found.metadata.uid != self._pod.metadata.uid:
            self._gone = True
            return
        self._pod = found
        self._sent = None


def _revision(pod: objects.Pod) -> int:
    text = pod.metadata.resource_version
    return int(text) if text.isdigit() else 0
