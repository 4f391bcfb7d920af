"""Pods as Docker containers: a sandbox container holds the namespaces, the pod's containers join it.

Calls go through the Docker SDK in a few threads with one client each (the SDK blocks); streams go over
runtimes/docker_streams.py. The cache follows the engine's events and is listed anew whenever that stream was broken.
Source: https://docs.docker.com/reference/api/engine/version/v1.41/
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

import docker
import docker.errors
import orjson
import requests.exceptions

from kubarium.machinery.errors import ContainerError
from kubelet.runtimes import cgroups
from kubelet.runtimes.base import (
    LABEL_CLUSTER,
    LABEL_CONTAINER_NAME,
    LABEL_GRACE,
    LABEL_HASH,
    LABEL_IMAGE,
    LABEL_KIND,
    LABEL_NODE,
    LABEL_POD_NAME,
    LABEL_POD_NAMESPACE,
    LABEL_POD_UID,
    LABEL_RESTART_COUNT,
    LABEL_SANDBOX,
    LABEL_STREAK,
    Container,
    ContainerId,
    ContainerMissing,
    ContainerSpec,
    Image,
    ImageMissing,
    LogOptions,
    PodIdentity,
    PodRecord,
    PodUid,
    RuntimeUnavailable,
    Sandbox,
    SandboxSpec,
    Scope,
    State,
)
from kubelet.runtimes.cache import Entry, PodCache
from kubelet.runtimes.docker_streams import EngineStreams, HijackedStream

log = logging.getLogger(__name__)
T = TypeVar("T")

API_VERSION = "1.41"
CALL_THREADS = 8
PULL_THREADS = 2
CALL_TIMEOUT_S = 120
CPU_PERIOD_US = 100_000
MIN_SHARES = 2
SANDBOX_OOM_SCORE = -998
CAP_SYS_RESOURCE = 24
KILL_WAIT_S = 10.0
RECHECK_S = 2.0


class DockerRuntime:
    """The Docker Engine at a Unix socket, seen through the labels of one cluster's node. Implements base.Runtime."""

    name = "docker"

    def __init__(
        self, scope: Scope, *, socket: str, pause_image: str, anchor: str = "", runtime_timeout_s: int = CALL_TIMEOUT_S
    ) -> None:
        """`socket` is unix:///path; `anchor` the container whose network is the node's own ("": the engine's host)."""
        self._scope, self._pause_image, self._timeout_s = scope, pause_image, runtime_timeout_s
        self._url = socket if "://" in socket else f"unix://{socket}"
        self._host_network = f"container:{anchor}" if anchor else "host"
        self._streams = EngineStreams(self._url.removeprefix("unix://"))
        self._calls = ThreadPoolExecutor(CALL_THREADS, thread_name_prefix="docker")
        self._pulls = ThreadPoolExecutor(PULL_THREADS, thread_name_prefix="docker-pull")
        self._clients: list[docker.APIClient] = []
        self._local = threading.local()
        self._cache = PodCache()
        self._synced = asyncio.Event()
        self._starting: set[ContainerId] = set()
        self._stop_signals: dict[ContainerId, str] = {}
        self._slices_only = False
        self.version = ""
        self.problem = f"docker engine at {self._url} has not answered yet"

    # -- what runs ------------------------------------------------------------------------------------------------

    def on_change(self, handler: Callable[[PodUid], None]) -> None:
        self._cache.on_change(handler)

    def pods(self) -> Mapping[PodUid, PodRecord]:
        return self._cache.records()

    def pod(self, uid: PodUid) -> PodRecord | None:
        return self._cache.records().get(uid)

    async def synced(self) -> None:
        await self._synced.wait()

    async def run(self) -> None:
        delay_s = 0.1
        while True:
            try:
                async for _ in self._follow():
                    delay_s = 0.1
            except ContainerError as err:
                if not self.problem:
                    log.warning("docker: %s", err)
                self.problem = str(err)
            await asyncio.sleep(delay_s)
            delay_s = min(2.0, delay_s * 2)

    async def _follow(self) -> AsyncIterator[None]:
        """List once the event stream stands, so that nothing falls between; then apply each event."""
        filters = {
            "type": ["container"],
            "event": ["start", "die", "destroy"],
            "label": [f"{LABEL_CLUSTER}={self._scope.cluster}", f"{LABEL_NODE}={self._scope.node}"],
        }
        response = await self._streams.open("events", {"filters": orjson.dumps(filters).decode()})
        try:
            self.version = (await self._call(lambda c: c.version()))["Version"]
            self._slices_only = (await self._call(lambda c: c.info())).get("CgroupDriver") == "systemd"
            await self._list()
            self.problem = ""
            self._synced.set()
            yield
            while line := await response.content.readline():
                await self._apply_event(orjson.loads(line))
                yield
            raise RuntimeUnavailable(f"docker engine at {self._url} ended its event stream")
        except (OSError, requests.exceptions.RequestException) as err:
            raise RuntimeUnavailable(f"docker engine at {self._url} is lost: {err}") from err
        finally:
            response.close()

    async def refresh(self) -> None:
        await self._list()

    async def _list(self, uid: PodUid | None = None) -> None:
        labels = [f"{LABEL_CLUSTER}={self._scope.cluster}", f"{LABEL_NODE}={self._scope.node}"]
        labels += [f"{LABEL_POD_UID}={uid}"] if uid else []
        listed = await self._call(lambda c: c.containers(all=True, filters={"label": labels}))
        present = [ContainerId(c["Id"]) for c in listed if c["Labels"].get(LABEL_KIND) in ("sandbox", "container")]
        async with asyncio.TaskGroup() as group:
            for container in present:
                known = self._cache.get(container)
                if known is None or known.what.state is not State.EXITED:
                    group.create_task(self._refresh(container))
        if uid is None:
            self._cache.keep_only(present)

    async def _apply_event(self, event: dict[str, Any]) -> None:
        container = ContainerId(event["Actor"]["ID"])
        known = self._cache.get(container)
        match event["Action"]:
            case "destroy":
                self._cache.drop(container)
            case "start" if container not in self._starting and (known is None or known.what.state is State.CREATED):
                await self._refresh(container)
            case "die" if known is None or known.what.state is not State.EXITED:
                entry = await self._refresh(container)
                if entry is not None and entry.what.state is State.RUNNING:  # told before it was written down
                    await self._refresh(container)

    async def _refresh(self, container: ContainerId) -> Entry | None:
        """Inspect one container into the cache; None when it has gone (or is none of ours)."""
        try:
            info = await self._call(lambda c: c.inspect_container(container))
        except ContainerMissing:
            self._cache.drop(container)
            return None
        entry = parse_container(info)
        if entry is None:
            return None
        self._stop_signals[container] = info["Config"].get("StopSignal") or "SIGTERM"
        self._cache.put(entry)
        if entry.what.state is State.EXITED:
            self._stop_signals.pop(container, None)
        return entry

    # -- sandboxes ------------------------------------------------------------------------------------------------

    async def create_sandbox(self, spec: SandboxSpec) -> ContainerId:
        host_config = {
            "NetworkMode": self._host_network if spec.host_network else "none",
            "IpcMode": "host" if spec.host_ipc else "shareable",
            "PidMode": "host" if spec.host_pid else "",
            "CgroupParent": self._cgroup_parent(spec.pod.uid),
            "LogConfig": {"Type": "none", "Config": {}},
            "OomScoreAdj": _oom_score(SANDBOX_OOM_SCORE),
            "SecurityOpt": ["seccomp=unconfined"],
            "Sysctls": dict(spec.sysctls),
        }
        labels = self._labels(spec.pod, "sandbox") | {LABEL_RESTART_COUNT: str(spec.attempt)}
        labels |= {LABEL_GRACE: str(spec.grace_s), LABEL_CONTAINER_NAME: "POD"}
        config: dict[str, Any] = {"Image": self._pause_image, "Labels": labels, "HostConfig": host_config}
        if not spec.host_network:
            config["Hostname"] = spec.hostname
        return await self._create(f"k8s_POD_{_name(spec.pod)}_{spec.attempt}", config, spec.pod)

    async def start_sandbox(self, sandbox: ContainerId) -> None:
        await self._start(sandbox)

    @contextlib.asynccontextmanager
    async def netns(self, sandbox: ContainerId) -> AsyncIterator[str]:
        entry = self._cache.get(sandbox) or await self._refresh(sandbox)
        if entry is None or not isinstance(entry.what, Sandbox) or not entry.what.pid:
            raise ContainerMissing(f"sandbox {sandbox[:12]} is not running: it has no network namespace")
        # Opened first, checked after: process IDs are reused, and the wrong namespace would be wired.
        try:
            fd = os.open(f"/proc/{entry.what.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except OSError as err:
            raise ContainerMissing(f"sandbox {sandbox[:12]} has ended: {err}") from err
        try:
            if not _in_cgroup(entry.what.pid, sandbox):
                raise ContainerMissing(f"sandbox {sandbox[:12]} has ended: process {entry.what.pid} is another's")
            yield f"/proc/{os.getpid()}/fd/{fd}"
        finally:
            os.close(fd)

    async def remove_sandbox(self, sandbox: ContainerId) -> None:
        await self.remove_container(sandbox)

    # -- containers -----------------------------------------------------------------------------------------------

    async def create_container(self, sandbox: ContainerId, spec: ContainerSpec) -> ContainerId:
        labels = self._labels(spec.pod, "container") | {
            LABEL_CONTAINER_NAME: spec.name,
            LABEL_RESTART_COUNT: str(spec.restart_count),
            LABEL_HASH: spec.spec_hash,
            LABEL_STREAK: str(spec.streak),
            LABEL_SANDBOX: sandbox,
            LABEL_IMAGE: spec.image_name or spec.image,
        }
        config: dict[str, Any] = {
            "Image": spec.image,
            "Labels": labels,
            "Env": [f"{key}={value}" for key, value in spec.env.items()],
            "Tty": spec.tty,
            "OpenStdin": spec.stdin,
            "StdinOnce": spec.stdin_once,
            "HostConfig": self._host_config(sandbox, spec),
        }
        config |= {"Entrypoint": list(spec.command), "Cmd": list(spec.args)} if spec.command else {}
        config |= {"Cmd": list(spec.args)} if spec.args and not spec.command else {}
        config |= {"WorkingDir": spec.working_dir} if spec.working_dir else {}
        config |= {"User": spec.user} if spec.user else {}
        return await self._create(f"k8s_{spec.name}_{_name(spec.pod)}_{spec.restart_count}", config, spec.pod)

    def _host_config(self, sandbox: ContainerId, spec: ContainerSpec) -> dict[str, Any]:
        join = f"container:{sandbox}"
        security = [] if spec.seccomp == "runtime/default" else [f"seccomp={spec.seccomp}"]
        config: dict[str, Any] = {
            "NetworkMode": self._host_network if spec.host_network else join,
            "IpcMode": "host" if spec.host_ipc else join,
            "PidMode": _pid_mode(spec, join),
            "CgroupParent": self._cgroup_parent(spec.pod.uid),
            "Binds": [_bind(mount.source, mount.target, mount.read_only, mount.propagation) for mount in spec.mounts],
            "Privileged": spec.privileged,
            "CapAdd": list(spec.cap_add),
            "CapDrop": list(spec.cap_drop),
            "ReadonlyRootfs": spec.read_only_root,
            "SecurityOpt": security + (["no-new-privileges"] if spec.no_new_privileges else []),
            "OomScoreAdj": _oom_score(spec.oom_score_adj),
            "GroupAdd": [str(group) for group in spec.groups],
            "CpuShares": max(MIN_SHARES, spec.cpu_request_milli * 1024 // 1000),
        }
        if spec.cpu_milli:
            config |= {"CpuPeriod": CPU_PERIOD_US, "CpuQuota": max(1000, spec.cpu_milli * CPU_PERIOD_US // 1000)}
        if spec.memory_bytes:
            config |= {"Memory": spec.memory_bytes, "MemorySwap": spec.memory_bytes}
        return config

    async def start_container(self, container: ContainerId) -> None:
        await self._start(container)

    async def stop_container(self, container: ContainerId, grace_s: float) -> None:
        exited = self._cache.exited(container)
        if exited.is_set():
            return
        if grace_s > 0:
            await self._signal(container, self._stop_signals.get(container, "SIGTERM"))
            if await self._exited_within(container, exited, grace_s):
                return
        await self._signal(container, "SIGKILL")
        if not await self._exited_within(container, exited, KILL_WAIT_S):
            raise ContainerError(f"container {container[:12]} is still running {KILL_WAIT_S:g} s after SIGKILL")

    async def _exited_within(self, container: ContainerId, exited: asyncio.Event, limit_s: float) -> bool:
        """Wait for the exit; look now and then as well, should the engine's events be broken off."""
        deadline = time.monotonic() + limit_s
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(left, RECHECK_S)):
                    await exited.wait()
                return True
            await self._refresh(container)
        return exited.is_set()

    async def _signal(self, container: ContainerId, signal: str) -> None:
        try:
            await self._call(lambda c: c.kill(container, signal))
        except ContainerMissing:
            self._cache.drop(container)
        except RuntimeUnavailable:
            raise
        except ContainerError:
            await self._refresh(container)  # most likely it has exited meanwhile

    async def remove_container(self, container: ContainerId) -> None:
        try:
            await self._call(lambda c: c.remove_container(container, v=True, force=True))
        except ContainerMissing:
            pass
        except RuntimeUnavailable:
            raise
        except ContainerError as err:
            if "already in progress" not in str(err):
                raise
        self._cache.drop(container)
        self._stop_signals.pop(container, None)

    async def remove_pod(self, uid: PodUid) -> None:
        await self._list(uid)
        if record := self.pod(uid):
            for container in [*(c.id for c in record.containers), *(s.id for s in record.sandboxes)]:
                await self.remove_container(container)
        cgroups.remove(self._scope.cgroup(uid))

    # -- streams --------------------------------------------------------------------------------------------------

    async def exec(
        self, container: ContainerId, command: tuple[str, ...], *, tty: bool = False, stdin: bool = False
    ) -> DockerExec:
        made = await self._call(
            lambda c: c.exec_create(container, list(command), stdout=True, stderr=True, stdin=stdin, tty=tty)
        )
        stream = await self._streams.hijack(f"exec/{made['Id']}/start", {"Detach": False, "Tty": tty}, tty=tty)
        return DockerExec(self, made["Id"], stream)

    async def attach(self, container: ContainerId, *, stdin: bool = False) -> DockerExec:
        tty = self._tty(container)
        query = f"stream=1&stdout=1&stderr=1&stdin={int(stdin)}"
        stream = await self._streams.hijack(f"containers/{container}/attach?{query}", {}, tty=tty)
        return DockerExec(self, "", stream, container)

    def logs(self, container: ContainerId, options: LogOptions) -> AsyncIterator[bytes]:
        return self._streams.logs(container, options, tty=self._tty(container))

    def _tty(self, container: ContainerId) -> bool:
        entry = self._cache.get(container)
        return entry is not None and isinstance(entry.what, Container) and entry.what.tty

    # -- images ---------------------------------------------------------------------------------------------------

    async def find_image(self, image: str) -> Image | None:
        try:
            info = await self._call(lambda c: c.inspect_image(image))  # type: ignore[no-untyped-call]
        except ContainerMissing:
            return None
        config = info.get("Config") or {}
        return Image(info["Id"], tuple(info.get("RepoDigests") or ()), info.get("Size", 0), config.get("User") or "")

    async def pull_image(self, image: str) -> Image:
        repository, _, tag = image.rpartition(":") if _has_tag(image) else (image, "", "latest")
        if "@" in image:
            repository, _, tag = image.partition("@")
        await self._call(lambda c: c.pull(repository, tag), executor=self._pulls)
        found = await self.find_image(image)
        if found is None:
            raise ImageMissing(f"image {image} was pulled and is not there")
        return found

    # -- edge -----------------------------------------------------------------------------------------------------

    def _labels(self, pod: PodIdentity, kind: str) -> dict[str, str]:
        return {
            LABEL_CLUSTER: self._scope.cluster,
            LABEL_NODE: self._scope.node,
            LABEL_KIND: kind,
            LABEL_POD_NAME: pod.name,
            LABEL_POD_NAMESPACE: pod.namespace,
            LABEL_POD_UID: pod.uid,
        }

    def _cgroup_parent(self, uid: PodUid) -> str:
        """The pod's cgroup; the engine's own choice where it lets systemd make slices."""
        return "" if self._slices_only else self._scope.cgroup(uid)

    async def _create(self, name: str, config: dict[str, Any], pod: PodIdentity) -> ContainerId:
        """Create and remember. A container of that name is a leftover of a kubelet that died here: replaced."""
        try:
            made = await self._call(lambda c: _create(c, config, name))
        except NameTaken:
            await self._call(lambda c: c.remove_container(name, v=True, force=True))
            made = await self._call(lambda c: _create(c, config, name))
        info = {"Id": made["Id"], "Created": time.time(), "Config": config, "State": {"Status": "created"}, "Image": ""}
        entry = parse_container(info)
        assert entry is not None and entry.pod == pod
        self._cache.put(entry)
        return entry.id

    async def _start(self, container: ContainerId) -> None:
        self._starting.add(container)
        try:
            await self._call(lambda c: c.start(container))
        except (RuntimeUnavailable, ContainerMissing):
            raise
        except ContainerError:
            await self._refresh(container)
            raise
        finally:
            self._starting.discard(container)
        await self._refresh(container)

    def _client(self) -> docker.APIClient:
        client: docker.APIClient | None = getattr(self._local, "client", None)
        if client is None:
            client = docker.APIClient(self._url, version=API_VERSION, timeout=self._timeout_s)
            self._local.client = client
            self._clients.append(client)
        return client

    async def _call(self, call: Callable[[docker.APIClient], T], executor: ThreadPoolExecutor | None = None) -> T:
        """Run one engine call in a thread; a cancelled caller still waits for it: no call is left half-known."""
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(executor or self._calls, lambda: self._translated(call))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if executor is None:
                await asyncio.wait({future}, timeout=KILL_WAIT_S)
            future.add_done_callback(lambda done: done.cancelled() or done.exception())
            raise

    def _translated(self, call: Callable[[docker.APIClient], T]) -> T:
        try:
            return call(self._client())
        except docker.errors.NotFound as err:
            raise ContainerMissing(str(err.explanation or err)) from err
        except docker.errors.APIError as err:
            text = str(err.explanation or err)
            if err.status_code == 409 and "is already in use by container" in text:
                raise NameTaken(text) from err
            raise ContainerError(text) from err
        except (docker.errors.DockerException, requests.exceptions.RequestException, OSError) as err:
            raise RuntimeUnavailable(f"docker engine at {self._url} does not answer: {err}") from err

    async def close(self) -> None:
        await self._streams.close()
        for pool in (self._calls, self._pulls):
            pool.shutdown(wait=False, cancel_futures=True)
        for client in self._clients:
            client.close()


class NameTaken(ContainerError):
    """The name of a container to make is held by another."""


class DockerExec:
    """An exec (or, with `container`, an attach) and its exit code. Implements base.ExecProcess."""

    def __init__(
        self, runtime: DockerRuntime, exec_id: str, stream: HijackedStream, container: ContainerId | None = None
    ) -> None:
        self._runtime, self._id, self._stream, self._container = runtime, exec_id, stream, container
        self.read, self.write = stream.read, stream.write
        self.close_stdin, self.close = stream.close_stdin, stream.close

    async def resize(self, width: int, height: int) -> None:
        with contextlib.suppress(ContainerError):  # refused before the process runs and after it has ended
            if self._container is not None:
                target = self._container
                await self._runtime._call(lambda c: c.resize(target, height, width))
            else:
                await self._runtime._call(lambda c: c.exec_resize(self._id, height, width))

    async def wait(self) -> int:
        if self._container is not None:
            return 0
        deadline = time.monotonic() + KILL_WAIT_S
        while True:  # the streams close a moment before the engine notes the exit
            info = await self._runtime._call(lambda c: c.exec_inspect(self._id))
            if not info["Running"] or time.monotonic() > deadline:
                return int(info["ExitCode"] or 0)
            await asyncio.sleep(0.01)


def parse_container(info: Mapping[str, Any]) -> Entry | None:
    """An answer of `inspect` as an Entry; None for a container that is no part of a pod."""
    labels = info["Config"].get("Labels") or {}
    kind, state = labels.get(LABEL_KIND), info["State"]
    if kind not in ("sandbox", "container"):
        return None
    pod = PodIdentity(labels[LABEL_POD_NAMESPACE], labels[LABEL_POD_NAME], PodUid(labels[LABEL_POD_UID]))
    status = _state(state)
    created = parse_time(info["Created"])
    pid = state.get("Pid", 0) if status is State.RUNNING else 0
    if kind == "sandbox":
        mode = info["Config"].get("HostConfig", info.get("HostConfig", {})).get("NetworkMode", "none")
        sandbox = Sandbox(
            id=ContainerId(info["Id"]),
            attempt=int(labels.get(LABEL_RESTART_COUNT, 0)),
            state=status,
            created_at=created,
            host_network=mode != "none",
            pid=pid,
        )
        return Entry(pod, sandbox, int(labels.get(LABEL_GRACE, 30)))
    started, finished = parse_time(state.get("StartedAt", "")), parse_time(state.get("FinishedAt", ""))
    if status is State.EXITED and not finished:
        finished = started or created
    return Entry(
        pod,
        Container(
            id=ContainerId(info["Id"]),
            name=labels[LABEL_CONTAINER_NAME],
            sandbox_id=ContainerId(labels.get(LABEL_SANDBOX, "")),
            state=status,
            restart_count=int(labels.get(LABEL_RESTART_COUNT, 0)),
            streak=int(labels.get(LABEL_STREAK, 0)),
            spec_hash=labels.get(LABEL_HASH, ""),
            image=labels.get(LABEL_IMAGE, ""),
            image_id=info.get("Image", ""),
            created_at=created,
            started_at=started,
            # The engine notes the start when the process may already be over.
            finished_at=max(started, finished) if status is State.EXITED else 0.0,
            exit_code=int(state.get("ExitCode", 0)) if status is State.EXITED else 0,
            oom_killed=bool(state.get("OOMKilled")),
            error=state.get("Error", ""),
            pid=pid,
            tty=bool(info["Config"].get("Tty")),
        ),
    )


def _state(state: Mapping[str, Any]) -> State:
    """A container that could not be started stays `created` for the engine: here it has exited, with a reason."""
    match state["Status"]:
        case "created":
            return State.EXITED if state.get("Error") else State.CREATED
        case "running" | "paused" | "restarting":
            return State.RUNNING
        case _:
            return State.EXITED


def parse_time(value: str | float) -> float:
    """Seconds since the epoch from the engine's RFC 3339 with nanoseconds; 0.0 for its zero time (year 1)."""
    if isinstance(value, int | float):
        return float(value)
    if not value or value.startswith("0001-"):
        return 0.0
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", value).replace("Z", "+00:00")).timestamp()


def _create(client: docker.APIClient, config: dict[str, Any], name: str) -> dict[str, Any]:
    made: dict[str, Any] = client.create_container_from_config(config, name)  # type: ignore[no-untyped-call]
    return made


def _oom_score(wanted: int) -> int:
    """Below zero only where this machine's root may (CAP_SYS_RESOURCE): else runc fails to start anything."""
    return wanted if wanted >= 0 or _may_lower_oom_score() else 0


@functools.cache
def _may_lower_oom_score() -> bool:
    status = Path("/proc/self/status").read_text()
    found = re.search(r"^CapEff:\s*([0-9a-f]+)$", status, re.MULTILINE)
    return bool(found and int(found[1], 16) >> CAP_SYS_RESOURCE & 1)


def _pid_mode(spec: ContainerSpec, sandbox: str) -> str:
    if spec.target is not None:
        return f"container:{spec.target}"
    return "host" if spec.host_pid else sandbox if spec.share_pid else ""


def _in_cgroup(pid: int, container: str) -> bool:
    try:
        return container in Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return False


def _name(pod: PodIdentity) -> str:
    return f"{pod.name}_{pod.namespace}_{pod.uid}"


def _bind(source: str, target: str, read_only: bool, propagation: str) -> str:
    options = ["ro"] if read_only else []
    options += [propagation] if propagation else []
    return ":".join([source, target, *([",".join(options)] if options else [])])


def _has_tag(image: str) -> bool:
    return ":" in image.rsplit("/", 1)[-1]
