"""This node in the API: its object, its conditions, its heartbeat (a Lease).

Ready means that pods can be run: the runtime answers and the CNI agent would serve an ADD.
Source: https://kubernetes.io/docs/reference/node/node-status/, .../concepts/architecture/nodes/#node-heartbeats
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubarium.machinery import cniclient, objects
from kubarium.machinery.client import Api
from kubarium.machinery.errors import AlreadyExists, ApiError, NetworkError, NotFound
from kubarium.machinery.informer import Informer
from kubarium.machinery.objects import ObjectKey
from kubarium.machinery.resources import LEASES, NODES
from kubarium.machinery.times import format_micro, format_timestamp
from kubelet.config import Config

log = logging.getLogger(__name__)

KUBELET_VERSION = "v1.36.0-kubarium"
LEASE_NAMESPACE = "kube-node-lease"
FULL_REPORT_S = 300.0
EAGER_S = 0.05
RETRY_S = 1.0
MEMORY_FLOOR_BYTES = 100 << 20
DISK_FLOOR_BYTES = 512 << 20
PIDS_FLOOR = 0.01
OWN_CONDITIONS = ("MemoryPressure", "DiskPressure", "PIDPressure", "NetworkUnavailable", "Ready")


@dataclass(frozen=True, slots=True)
class Machine:
    """What the machine has, and how much of it is left."""

    cpus: int
    memory_kib: int
    memory_free_bytes: int
    disk_kib: int
    disk_free_bytes: int
    pids: int
    pids_limit: int


@dataclass(frozen=True, slots=True)
class Condition:
    type: str
    holds: bool
    reason: str
    message: str


def read_machine(root_dir: Path) -> Machine:
    fields = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    memory = {key: int(value.split()[0]) for key, value in fields.items()}
    disk = shutil.disk_usage(root_dir)
    return Machine(
        cpus=os.cpu_count() or 1,
        memory_kib=memory["MemTotal"],
        memory_free_bytes=memory["MemAvailable"] << 10,
        disk_kib=disk.total >> 10,
        disk_free_bytes=disk.free,
        pids=int(Path("/proc/loadavg").read_text().split()[3].split("/")[1]),
        pids_limit=int(Path("/proc/sys/kernel/pid_max").read_text()),
    )


def capacity(machine: Machine, max_pods: int) -> dict[str, str]:
    return {
        "cpu": str(machine.cpus),
        "memory": f"{machine.memory_kib}Ki",
        "ephemeral-storage": f"{machine.disk_kib}Ki",
        "pods": str(max_pods),
    }


def plan_conditions(machine: Machine, *, runtime_problem: str, network_problem: str) -> tuple[Condition, ...]:
    """The node's five conditions, in upstream's words. Pure."""

    def pressure(type_: str, short: bool, bad: tuple[str, str], good: tuple[str, str]) -> Condition:
        reason, text = bad if short else good
        return Condition(type_, short, f"KubeletHas{reason}", f"kubelet has {text}")

    memory = pressure(
        "MemoryPressure",
        machine.memory_free_bytes < MEMORY_FLOOR_BYTES,
        ("InsufficientMemory", "insufficient memory available"),
        ("SufficientMemory", "sufficient memory available"),
    )
    disk = pressure(
        "DiskPressure",
        machine.disk_free_bytes < DISK_FLOOR_BYTES,
        ("DiskPressure", "disk pressure"),
        ("NoDiskPressure", "no disk pressure"),
    )
    pids = pressure(
        "PIDPressure",
        machine.pids > machine.pids_limit * (1 - PIDS_FLOOR),
        ("InsufficientPID", "insufficient PID available"),
        ("SufficientPID", "sufficient PID available"),
    )
    if network_problem:
        network = Condition("NetworkUnavailable", True, "CNINotReady", network_problem)
    else:
        network = Condition("NetworkUnavailable", False, "CNIReady", "the CNI agent serves this node")
    problems = []
    if runtime_problem:
        problems.append(f"container runtime is down: {runtime_problem}")
    if network_problem:
        text = "container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:"
        problems.append(text + network_problem)
    if problems:
        ready = Condition("Ready", False, "KubeletNotReady", ", ".join(problems))
    else:
        ready = Condition("Ready", True, "KubeletReady", "kubelet is posting ready status")
    return memory, disk, pids, network, ready


class NodeAgent:
    """Registers the node, keeps its status and its Lease."""

    def __init__(
        self, api: Api, config: Config, informer: Informer[objects.Node], runtime_problem: Callable[[], str],
        runtime_version: Callable[[], str],
    ) -> None:  # fmt: skip
        self._api, self._config, self._informer = api, config, informer
        self._runtime_problem, self._runtime_version = runtime_problem, runtime_version
        self._registered = asyncio.Event()
        self._due = asyncio.Event()
        self._sent: tuple[Any, ...] | None = None
        self._sent_at = 0.0
        self._uid = ""
        self.ready = False
        informer.on_change(lambda _old, _new: self._due.set())

    # -- registration ---------------------------------------------------------------------------------------------

    async def register(self) -> None:
        """Have the Node in the API, with our labels; taints only when we are the one to create it."""
        while True:
            try:
                node = await self._ensure()
                self._uid = node.metadata.uid
                self._registered.set()
                return
            except ApiError as err:
                log.warning("kubelet: node %s is not registered yet: %s", self._config.node_name, err)
                await asyncio.sleep(RETRY_S / 4)

    async def _ensure(self) -> objects.Node:
        config = self._config
        labels = {
            "kubernetes.io/hostname": config.node_name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": _architecture(),
            **config.node_labels,
        }
        taints = [{"key": t.key, "value": t.value, "effect": t.effect} for t in config.taints]
        taints = [{key: value for key, value in taint.items() if value} for taint in taints]
        machine = await asyncio.to_thread(read_machine, config.root_dir)
        body = {
            "metadata": {"name": config.node_name, "labels": labels},
            "spec": {"taints": taints} if taints else {},
            "status": self._status(machine, self._conditions(machine, "the kubelet has just started"), {}),
        }
        try:
            return await self._api.create(NODES, body)
        except AlreadyExists:
            return await self._api.patch(NODES, config.node_name, {"metadata": {"labels": labels}})

    # -- status ---------------------------------------------------------------------------------------------------

    async def run_status(self) -> None:
        """Report when something changes or has been changed by others, and now and then in any case."""
        await self.register()
        unready = 0
        while True:
            self._due.clear()
            try:
                await self._report()
            except NotFound:
                await self.register()
                self._sent = None
                continue
            except ApiError as err:
                log.warning("kubelet: status of node %s: %s", self._config.node_name, err)
            unready = 0 if self.ready else unready + 1
            eager_s = min(EAGER_S * 1.2 ** min(unready, 30), RETRY_S)
            wait_s = self._config.node_status_period_s if self.ready else eager_s
            try:
                async with asyncio.timeout(wait_s):
                    await self._due.wait()
            except TimeoutError:
                continue

    async def _report(self) -> None:
        network_problem = await self._network_problem()
        machine = await asyncio.to_thread(read_machine, self._config.root_dir)
        conditions = self._conditions(machine, network_problem)
        self.ready = conditions[-1].holds
        known = self._informer.get(ObjectKey("", self._config.node_name))
        now = time.time()
        if self._sent == self._essence(conditions) and self._agrees(known) and now - self._sent_at < FULL_REPORT_S:
            return
        since = {c.type: (c.status, c.last_transition_time) for c in known.status.conditions} if known else {}
        status = self._status(machine, conditions, since)
        foreign = [c for c in known.status.conditions if c.type not in OWN_CONDITIONS] if known else []
        status["conditions"] += [_wire(condition) for condition in foreign]
        await self._api.patch(NODES, self._config.node_name, {"status": status}, subresource="status")
        self._sent, self._sent_at = self._essence(conditions), now

    def _agrees(self, node: objects.Node | None) -> bool:
        """Whether the API still says what we said: the node lifecycle controller may have called us Unknown."""
        if node is None or not self._informer.has_synced:
            return True
        shown = {c.type: c.status for c in node.status.conditions}
        return shown.get("Ready") == ("True" if self.ready else "False")

    def _essence(self, conditions: tuple[Condition, ...]) -> tuple[Any, ...]:
        return (*conditions, self._runtime_version())

    async def _network_problem(self) -> str:
        try:
            async with asyncio.timeout(5):
                await cniclient.status(self._config.cni_socket)
        except NetworkError as err:
            return str(err)
        except TimeoutError:
            return f"CNI agent at {self._config.cni_socket} does not answer"
        return ""

    def _conditions(self, machine: Machine, network_problem: str) -> tuple[Condition, ...]:
        return plan_conditions(machine, runtime_problem=self._runtime_problem(), network_problem=network_problem)

    def _status(
        self, machine: Machine, conditions: tuple[Condition, ...], since: Mapping[str, tuple[str, str]]
    ) -> dict[str, Any]:
        config, now = self._config, format_timestamp(time.time())
        wire = []
        for condition in conditions:
            status = "True" if condition.holds else "False"
            before = since.get(condition.type, ("", ""))
            wire.append(
                {
                    "type": condition.type,
                    "status": status,
                    "lastHeartbeatTime": now,
                    "lastTransitionTime": before[1] if before[0] == status and before[1] else now,
                    "reason": condition.reason,
                    "message": condition.message,
                }
            )
        resources = capacity(machine, config.max_pods)
        return {
            "capacity": resources,
            "allocatable": resources,
            "conditions": wire,
            "addresses": [
                {"type": "InternalIP", "address": config.node_ip},
                {"type": "Hostname", "address": config.node_name},
            ],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": config.port}},
            "nodeInfo": self._info(),
        }

    def _info(self) -> dict[str, str]:
        machine_id = _first_line("/etc/machine-id")
        return {
            "machineID": machine_id,
            "systemUUID": _first_line("/sys/class/dmi/id/product_uuid") or machine_id,
            "bootID": _first_line("/proc/sys/kernel/random/boot_id"),
            "kernelVersion": platform.release(),
            "osImage": _os_image(),
            "containerRuntimeVersion": f"docker://{self._runtime_version() or 'unknown'}",
            "kubeletVersion": KUBELET_VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": _architecture(),
        }

    # -- heartbeat ------------------------------------------------------------------------------------------------

    async def run_lease(self) -> None:
        """Renew the node's Lease, whatever its status: it says that the kubelet lives."""
        await self._registered.wait()
        while True:
            wait_s = self._config.lease_renew_s
            try:
                await self._renew()
            except ApiError as err:
                log.warning("kubelet: lease of node %s not renewed: %s", self._config.node_name, err)
                wait_s = min(wait_s, RETRY_S)
            await asyncio.sleep(wait_s)

    async def _renew(self) -> None:
        name, config = self._config.node_name, self._config
        spec = {
            "holderIdentity": name,
            "leaseDurationSeconds": config.lease_duration_s,
            "renewTime": format_micro(time.time()),
        }
        try:
            await self._api.patch(LEASES, name, {"spec": spec}, LEASE_NAMESPACE)
        except NotFound:
            owner = {"apiVersion": "v1", "kind": "Node", "name": name, "uid": self._uid}
            body = {"metadata": {"name": name, "namespace": LEASE_NAMESPACE, "ownerReferences": [owner]}, "spec": spec}
            await self._api.create(LEASES, body, LEASE_NAMESPACE)


def _wire(condition: objects.NodeCondition) -> dict[str, str]:
    return {
        "type": condition.type,
        "status": condition.status,
        "lastHeartbeatTime": condition.last_heartbeat_time,
        "lastTransitionTime": condition.last_transition_time,
        "reason": condition.reason,
        "message": condition.message,
    }


def _architecture() -> str:
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm"}.get(machine, machine)


def _first_line(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _os_image() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        return "Linux"
