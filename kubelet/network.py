"""A pod's sandbox and its wiring: made in one go, so that no container starts before its network stands.

What the CNI agent gave is kept in ROOT/pods/UID/network.json: a restarted kubelet knows the addresses without asking.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from pathlib import Path
from typing import Any

from kubarium.machinery import cniclient, objects
from kubarium.machinery.errors import ContainerError, NetworkError
from kubelet import make
from kubelet.context import NodeContext
from kubelet.dns import format_hosts
from kubelet.runtimes.base import ContainerId, PodUid, Runtime

log = logging.getLogger(__name__)

HOST_HOSTS = Path("/etc/hosts")


class SandboxLost(ContainerError):
    """The sandbox that containers waited for was not made."""


class PodNetwork:
    """Sandboxes of one pod. Operations on its containers wait here for the sandbox and for its network."""

    def __init__(self, context: NodeContext, uid: PodUid, runtime: Runtime) -> None:
        self._context, self._uid, self._runtime = context, uid, runtime
        self._file = context.folder(uid).path / "network.json"
        self._wired: dict[str, Any] = {}
        self._hold: list[Any] = []
        self.begin()

    def begin(self) -> None:
        """A new sandbox is on its way: whoever asks for one from now on waits for it."""
        loop = asyncio.get_running_loop()
        self._made: asyncio.Future[ContainerId] = loop.create_future()
        self._ready: asyncio.Future[ContainerId] = loop.create_future()

    def load(self) -> None:
        """Take over what an earlier kubelet wired, if that sandbox is still there."""
        try:
            saved = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return
        record = self._runtime.pod(self._uid)
        if record and record.sandbox and record.sandbox.id == saved["sandbox"]:
            self._settle(saved)

    @property
    def ips(self) -> tuple[str, ...]:
        return tuple(self._wired.get("ips", ()))

    def is_wired(self, sandbox: ContainerId) -> bool:
        return self._wired.get("sandbox") == sandbox

    async def sandbox(self) -> ContainerId:
        """The sandbox, as soon as containers can be made for it. Raises SandboxLost."""
        return await asyncio.shield(self._made)

    async def ready(self) -> ContainerId:
        """The sandbox, once it runs and is wired. Raises SandboxLost."""
        return await asyncio.shield(self._ready)

    async def make(self, pod: objects.Pod, attempt: int) -> None:
        """Create, start and wire a sandbox; one that could not be wired is removed again."""
        sandbox: ContainerId | None = None
        try:
            sandbox = await self._runtime.create_sandbox(make.sandbox_spec(pod, attempt))
            self._made.set_result(sandbox)
            await self._runtime.start_sandbox(sandbox)
            await self.wire(pod, sandbox)
        except (ContainerError, NetworkError) as err:
            self._fail(err)
            if sandbox is not None:
                with contextlib.suppress(ContainerError, NetworkError):
                    await self.unwire(sandbox)
                    await self._runtime.remove_sandbox(sandbox)
            raise

    def _fail(self, err: Exception) -> None:
        for future in (self._made, self._ready):
            if not future.done():
                future.set_exception(SandboxLost(str(err)))
                future.exception()  # looked at, whether or not anybody waits

    async def wire(self, pod: objects.Pod, sandbox: ContainerId) -> None:
        """CNI ADD (none for hostNetwork), then the hosts file; the result is on disk before anybody uses it."""
        if pod.spec.host_network:
            ips = [self._context.node_ip]
        else:
            async with self._runtime.netns(sandbox) as netns:
                mappings = make.port_mappings(pod)
                result = await cniclient.add(
                    self._context.cni_socket,
                    container_id=sandbox,
                    netns=netns,
                    args=_args(pod),
                    labels=pod.metadata.labels,
                    config={"runtimeConfig": {"portMappings": mappings}} if mappings else {},
                )
            ips = [str(ip["address"]).partition("/")[0] for ip in result["ips"]]
        wired = {"sandbox": sandbox, "ips": ips, "host_network": pod.spec.host_network}
        self._write(pod, wired)
        self._settle(wired)

    def _write(self, pod: objects.Pod, wired: dict[str, Any]) -> None:
        folder = self._context.folder(self._uid)
        folder.make()
        if pod.spec.host_network:
            text = "# Kubernetes-managed hosts file (host network).\n" + HOST_HOSTS.read_text()
        else:
            text = format_hosts(pod, wired["ips"], self._context.dns.domain)
        folder.write_etc("hosts", text)
        draft = self._file.with_suffix(".new")
        draft.write_text(json.dumps(wired))
        draft.replace(self._file)

    def _settle(self, wired: dict[str, Any]) -> None:
        self._wired = wired
        for future in (self._made, self._ready):
            if not future.done():
                future.set_result(ContainerId(wired["sandbox"]))

    async def unwire(self, sandbox: ContainerId) -> None:
        """CNI DEL; repeated for every sandbox that goes, wired or not."""
        if not (self._wired.get("host_network") and self.is_wired(sandbox)):
            await cniclient.delete(self._context.cni_socket, container_id=sandbox)
        if self.is_wired(sandbox):
            self._file.unlink(missing_ok=True)

    async def forget(self) -> None:
        """Free what the file still names: a sandbox that the runtime has lost."""
        try:
            saved = json.loads(self._file.read_text())
        except (OSError, ValueError):
            return
        if not saved["host_network"]:
            await cniclient.delete(self._context.cni_socket, container_id=saved["sandbox"])
        self._file.unlink(missing_ok=True)


def _args(pod: objects.Pod) -> dict[str, str]:
    meta = pod.metadata
    return {"K8S_POD_NAMESPACE": meta.namespace, "K8S_POD_NAME": meta.name, "K8S_POD_UID": meta.uid}
