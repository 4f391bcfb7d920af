"""What the kubelet asks of a container runtime, and what a runtime tells of the node's pods.

A runtime keeps a cache of what runs (from its own labels or files, so that it outlives the kubelet) and tells of each
change; the pod workers read the cache and never poll. Containers go one way only, CREATED -> RUNNING -> EXITED: a
restart is a new container with a higher `restart_count`.
Source: the Container Runtime Interface (k8s.io/cri-api), reduced to what a node of ours uses.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType, Protocol

from kubarium.machinery.errors import ContainerError

PodUid = NewType("PodUid", str)
ContainerId = NewType("ContainerId", str)

LABEL_CLUSTER = "io.kubarium.cluster"
LABEL_NODE = "io.kubarium.node"
LABEL_KIND = "io.kubarium.kind"
LABEL_STREAK = "io.kubarium.container.crash-streak"
LABEL_GRACE = "io.kubarium.pod.termination-grace-period"
LABEL_IMAGE = "io.kubarium.container.image"
LABEL_SANDBOX = "io.kubernetes.sandbox.id"
LABEL_POD_NAME = "io.kubernetes.pod.name"
LABEL_POD_NAMESPACE = "io.kubernetes.pod.namespace"
LABEL_POD_UID = "io.kubernetes.pod.uid"
LABEL_CONTAINER_NAME = "io.kubernetes.container.name"
LABEL_RESTART_COUNT = "io.kubernetes.container.restart-count"
LABEL_HASH = "io.kubernetes.container.hash"


class RuntimeUnavailable(ContainerError):
    """The runtime does not answer; what it runs is unknown for now."""


class ContainerMissing(ContainerError):
    """No such container (any more)."""


class ImageMissing(ContainerError):
    """No such image on this machine."""


class State(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    EXITED = "exited"


@dataclass(frozen=True, slots=True)
class Scope:
    """Whose containers these are: a runtime sees and touches only those of its own cluster and node."""

    cluster: str
    node: str

    def cgroup(self, uid: PodUid) -> str:
        """The pod's cgroup, from the root of each hierarchy."""
        return f"/kubarium/{self.cluster}/{self.node}/{uid}"


@dataclass(frozen=True, slots=True)
class PodIdentity:
    namespace: str
    name: str
    uid: PodUid

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSpec:
    """The namespaces that a pod's containers share. `grace_s` is remembered for a pod that the API no longer knows."""

    pod: PodIdentity
    attempt: int = 0
    hostname: str = ""
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    sysctls: Mapping[str, str] = field(default_factory=dict)
    grace_s: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """Bind `source` (on the node) at `target`; `propagation` is rprivate, rslave, rshared or "" (default)."""

    source: str
    target: str
    read_only: bool = False
    propagation: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContainerSpec:
    """All that a runtime needs to make a container; nothing in it is looked up later.

    `image` is the name that the runtime knows, `image_name` the one that the pod asked for. An empty `command` keeps
    the image's entrypoint, empty `args` keep the image's command unless `command` is given. `cpu_milli` and
    `memory_bytes` are limits (0: none), `cpu_request_milli` gives the shares. `target` is a container of the pod whose
    processes this one shares.
    """

    pod: PodIdentity
    name: str
    image: str
    image_name: str = ""
    restart_count: int = 0
    streak: int = 0
    spec_hash: str = ""
    command: tuple[str, ...] = ()
    args: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    working_dir: str = ""
    mounts: tuple[Mount, ...] = ()
    user: str = ""
    groups: tuple[int, ...] = ()
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    read_only_root: bool = False
    no_new_privileges: bool = False
    seccomp: str = "unconfined"
    tty: bool = False
    stdin: bool = False
    stdin_once: bool = False
    cpu_milli: int = 0
    cpu_request_milli: int = 0
    memory_bytes: int = 0
    oom_score_adj: int = 0
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_pid: bool = False
    target: ContainerId | None = None
    root_dir: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sandbox:
    """A sandbox as it was last seen. `pid` is 0 where no process holds it."""

    id: ContainerId
    attempt: int
    state: State
    created_at: float
    host_network: bool = False
    pid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A container as it was last seen. Times are seconds since the epoch, 0.0 where it has not happened.

    `error` is the runtime's word on why it could not be started. `streak` counts the restarts since it last ran well.
    """

    id: ContainerId
    name: str
    sandbox_id: ContainerId
    state: State
    restart_count: int
    streak: int = 0
    spec_hash: str = ""
    image: str = ""
    image_id: str = ""
    created_at: float = 0.0
    started_at: float = 0.0
    finished_at: float = 0.0
    exit_code: int = 0
    oom_killed: bool = False
    error: str = ""
    pid: int = 0
    tty: bool = False


@dataclass(frozen=True, slots=True)
class PodRecord:
    """All that the runtime holds of one pod; sandboxes by attempt, containers by (name, restart count), newest last."""

    pod: PodIdentity
    sandboxes: tuple[Sandbox, ...] = ()
    containers: tuple[Container, ...] = ()
    grace_s: int = 30

    @property
    def sandbox(self) -> Sandbox | None:
        """The newest sandbox."""
        return self.sandboxes[-1] if self.sandboxes else None


@dataclass(frozen=True, slots=True)
class Image:
    """An image on this machine: `id` is sha256:..., `digests` are repo@sha256:... where it came from a registry."""

    id: str
    digests: tuple[str, ...] = ()
    size_bytes: int = 0
    user: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """`tail_lines` None: all; `since` seconds since the epoch, 0.0: from the start."""

    follow: bool = False
    timestamps: bool = False
    tail_lines: int | None = None
    since: float = 0.0
    limit_bytes: int | None = None


STDOUT, STDERR = 1, 2


class ExecProcess(Protocol):
    """A process started inside a running container, with its streams."""

    async def read(self) -> tuple[int, bytes] | None:
        """The next piece of output as (STDOUT or STDERR, data); None when both have ended."""
        ...

    async def write(self, data: bytes) -> None: ...

    async def close_stdin(self) -> None: ...

    async def resize(self, width: int, height: int) -> None: ...

    async def wait(self) -> int:
        """The exit code, once the output has ended."""
        ...

    async def close(self) -> None:
        """Give up the streams (idempotent); the process may live on, as with every kubelet."""
        ...


class Runtime(Protocol):
    """One way to run containers. Errors are ContainerError; calls may be repeated after any of them."""

    @property
    def name(self) -> str:
        """The scheme of container IDs: `docker` gives docker://ID."""
        ...

    @property
    def version(self) -> str: ...

    @property
    def problem(self) -> str:
        """Why the runtime cannot be used now; "" while it answers."""
        ...

    async def run(self) -> None:
        """Follow what runs, for ever."""
        ...

    async def synced(self) -> None:
        """Return when the first full listing is in."""
        ...

    async def refresh(self) -> None:
        """Look at everything anew, whatever the cache says."""
        ...

    def on_change(self, handler: Callable[[PodUid], None]) -> None: ...

    def pods(self) -> Mapping[PodUid, PodRecord]: ...

    def pod(self, uid: PodUid) -> PodRecord | None: ...

    async def create_sandbox(self, spec: SandboxSpec) -> ContainerId: ...

    async def start_sandbox(self, sandbox: ContainerId) -> None: ...

    def netns(self, sandbox: ContainerId) -> AbstractAsyncContextManager[str]:
        """A path to the sandbox's network namespace that cannot come to mean another one while the context is open."""
        ...

    async def remove_sandbox(self, sandbox: ContainerId) -> None:
        """Stop and remove; no error where it is gone already."""
        ...

    async def create_container(self, sandbox: ContainerId, spec: ContainerSpec) -> ContainerId: ...

    async def start_container(self, container: ContainerId) -> None: ...

    async def stop_container(self, container: ContainerId, grace_s: float) -> None:
        """SIGTERM (or the image's stop signal), `grace_s` later SIGKILL; returns when it has exited."""
        ...

    async def remove_container(self, container: ContainerId) -> None: ...

    async def remove_pod(self, uid: PodUid) -> None:
        """Remove whatever is left of a pod, asking the machine and not the cache; its cgroup too."""
        ...

    async def exec(
        self, container: ContainerId, command: tuple[str, ...], *, tty: bool = False, stdin: bool = False
    ) -> ExecProcess: ...

    def logs(self, container: ContainerId, options: LogOptions) -> AsyncIterator[bytes]: ...

    async def attach(self, container: ContainerId, *, stdin: bool = False) -> ExecProcess: ...

    async def find_image(self, image: str) -> Image | None: ...

    async def pull_image(self, image: str) -> Image: ...

    async def close(self) -> None: ...


async def exec_sync(
    runtime: Runtime, container: ContainerId, command: tuple[str, ...], *, limit_bytes: int = 10240
) -> tuple[int, bytes]:
    """Run a command to its end: (exit code, first `limit_bytes` of its output). The caller sets the time limit."""
    process = await runtime.exec(container, command)
    output = bytearray()
    try:
        while (piece := await process.read()) is not None:
            output += piece[1][: max(0, limit_bytes - len(output))]
        return await process.wait(), bytes(output)
    finally:
        await process.close()
