"""Controllers (and a scheduler) running against a real API server, and what their tests wait with."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from kubarium.controllers.config import Config
from kubarium.controllers.manager import Manager
from kubarium.machinery.client import Api, PatchType, connect
from kubarium.machinery.errors import ApiError
from kubarium.machinery.objects import Pod
from kubarium.machinery.resources import LEASES, NAMESPACES, NODES, PODS, Resource
from kubarium.machinery.times import format_micro, format_timestamp
from kubarium.scheduler.scheduler import Scheduler

T = TypeVar("T")

DEADLINE_S = 20.0


async def eventually(check: Callable[[], Awaitable[T]], *, deadline_s: float = DEADLINE_S) -> T:
    """The first truthy result of `check`; the last failure of its assertions where none comes in time."""
    end = time.monotonic() + deadline_s
    while True:
        try:
            if found := await check():
                return found
            failure: Exception = AssertionError(f"still {found!r} after {deadline_s} s")
        except (AssertionError, ApiError) as err:
            failure = err
        if time.monotonic() > end:
            raise failure
        await asyncio.sleep(0.02)


@asynccontextmanager
async def running(
    kubeconfig: Path, config: Config | None = None, *, controllers: bool = True, scheduler: bool = False
) -> AsyncIterator[Api]:
    async with connect(kubeconfig) as api:
        tasks = []
        if controllers:
            tasks.append(asyncio.create_task(Manager(api, config or Config()).run()))
        if scheduler:
            scheduling = Scheduler(api)
            tasks += [asyncio.create_task(scheduling.run_informers()), asyncio.create_task(scheduling.run())]
        try:
            yield api
            for task in tasks:
                assert not task.done(), task.exception()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Space:
    """One namespace of a test."""

    api: Api
    name: str

    async def create(self, resource: Resource[T], **wire: Any) -> T:
        return await self.api.create(resource, wire, self.name)

    async def list(self, resource: Resource[T], **kwargs: Any) -> tuple[T, ...]:
        return (await self.api.list(resource, self.name, **kwargs)).items

    async def pods(self, **kwargs: Any) -> list[Pod]:
        """Those not being deleted."""
        return [pod for pod in await self.list(PODS, **kwargs) if not pod.metadata.deletion_timestamp]

    async def ready(self, pod: Pod, ip: str, node: str = "") -> None:
        """Play the kubelet: the pod runs and is ready."""
        now = format_timestamp(time.time())
        status = {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "hostIP": "198.18.0.11",
            "startTime": now,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
        }
        await self.api.patch(
            PODS,
            pod.metadata.name,
            {"status": status},
            self.name,
            patch_type=PatchType.STRATEGIC,
            subresource="status",
        )

    async def all_ready(self, first: int = 1) -> None:
        """Play the kubelet for every pod that is not ready yet."""
        for number, pod in enumerate(await self.pods(), first):
            if not pod.status.pod_ip:
                await self.ready(pod, f"10.244.1.{number}")


async def make_space(api: Api, name: str) -> Space:
    await api.create(NAMESPACES, {"metadata": {"name": name}})
    return Space(api, name)


async def make_node(api: Api, name: str, *, cpu: str = "4", ready: str = "True", **spec: Any) -> None:
    """Play the kubelet: register, report, and hold a Lease."""
    await api.create(NODES, {"metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": spec})
    await heartbeat(api, name, cpu=cpu, ready=ready)


async def heartbeat(api: Api, name: str, *, cpu: str = "4", ready: str = "True") -> None:
    stamp = format_timestamp(time.time())
    resources = {"cpu": cpu, "memory": "8Gi", "pods": "110"}
    condition = {"type": "Ready", "status": ready, "lastHeartbeatTime": stamp, "lastTransitionTime": stamp}
    status = {"capacity": resources, "allocatable": resources, "conditions": [condition]}
    await api.patch(NODES, name, {"status": status}, patch_type=PatchType.STRATEGIC, subresource="status")


async def renew(api: Api, name: str) -> None:
    """Renew the node's Lease, forever."""
    spec = {"holderIdentity": name, "leaseDurationSeconds": 4, "renewTime": format_micro(time.time())}
    await api.create(LEASES, {"metadata": {"name": name}, "spec": spec}, "kube-node-lease")
    while True:
        await asyncio.sleep(0.2)
        patch = {"spec": {"renewTime": format_micro(time.time())}}
        await api.patch(LEASES, name, patch, "kube-node-lease")
