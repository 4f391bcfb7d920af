"""RuntimeClass `host`: containers as plain processes of the node, in the pod's own network namespace and cgroup.

There is no file system of their own (as with Windows' HostProcess containers): volumes appear below
$CONTAINER_SANDBOX_MOUNT_POINT, the image is not looked at, and python3 is the kubelet's own. Each process has a shim
(runtimes/shim.py) as its parent, so it outlives the kubelet. What runs is known from files:

    ROOT/POD_UID/sandboxes/ID.json                       the namespace's name, the boot it was made in
    ROOT/POD_UID/containers/ID/{spec,status,exit}.json   what was asked for, who runs, how it ended
    ROOT/POD_UID/containers/ID/{log,root/}               output; what the process finds under its mount point
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import re
import secrets
import shutil
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from kubarium.machinery import netns as namespaces
from kubarium.machinery.errors import ContainerError
from kubelet.runtimes import cgroups, shim
from kubelet.runtimes.base import (
    STDERR,
    STDOUT,
    Container,
    ContainerId,
    ContainerMissing,
    ContainerSpec,
    Image,
    LogOptions,
    PodIdentity,
    PodRecord,
    PodUid,
    Sandbox,
    SandboxSpec,
    Scope,
    State,
)
from kubelet.runtimes.cache import Entry, PodCache
from kubelet.runtimes.docker import parse_time

log = logging.getLogger(__name__)

NETNS_FOLDER = namespaces.FOLDER
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MOUNT_POINT = "CONTAINER_SANDBOX_MOUNT_POINT"
SIOCSIFFLAGS, IFF_UP, IFF_RUNNING = 0x8914, 0x1, 0x40
FOLLOW_INTERVAL_S = 0.1
KILL_WAIT_S = 10.0
UID_DIGITS = 13


class HostRuntime:
    """Processes of one node. Implements base.Runtime; needs root."""

    name = "host"

    def __init__(self, scope: Scope, *, root: Path) -> None:
        self._scope, self._root = scope, root
        self._cache = PodCache()
        self._synced = asyncio.Event()
        self._boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        self._shims: dict[ContainerId, subprocess.Popen[bytes]] = {}
        self._watched: dict[ContainerId, int] = {}
        self.version = sys.version.split()[0]
        self.problem = ""

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
        """Read all files once; from then on exits are told by the shims' process descriptors."""
        await self.refresh()
        self._synced.set()
        await asyncio.Event().wait()

    async def refresh(self) -> None:
        for folder in sorted(self._root.glob("*/containers/*/")):
            self._load(folder)
        for path in sorted(self._root.glob("*/sandboxes/*.json")):
            self._load_sandbox(path)

    def _load_sandbox(self, path: Path) -> None:
        saved = json.loads(path.read_text())
        alive = saved["boot"] == self._boot and (not saved["netns"] or (NETNS_FOLDER / saved["netns"]).exists())
        state = State.CREATED if not saved["started"] else State.RUNNING if alive else State.EXITED
        sandbox = Sandbox(
            id=ContainerId(path.stem),
            attempt=saved["attempt"],
            state=state,
            created_at=saved["created_at"],
            host_network=not saved["netns"],
        )
        self._cache.put(Entry(_identity(saved["pod"]), sandbox, saved["grace_s"]))

    def _load(self, folder: Path) -> Entry | None:
        """What a container's files and its processes say; a process whose shim was killed counts as killed too."""
        spec, status, ended = (_read(folder / f"{name}.json") for name in ("spec", "status", "exit"))
        if spec is None:
            return None
        state = State.CREATED
        if status is not None and ended is None:
            state = State.RUNNING
            if spec["boot"] != self._boot or not _alive(status["shim"], status["shim_ticks"]):
                ended = _read(folder / "exit.json") or self._lost(folder, spec, status)
        if ended is not None:
            state = State.EXITED
        entry = Entry(
            _identity(spec["pod"]),
            Container(
                id=ContainerId(folder.name),
                name=spec["name"],
                sandbox_id=ContainerId(spec["sandbox"]),
                state=state,
                restart_count=spec["restart_count"],
                streak=spec["streak"],
                spec_hash=spec["spec_hash"],
                image=spec["image"],
                created_at=spec["created_at"],
                started_at=(ended or status or {}).get("started_at", 0.0),
                finished_at=ended["finished_at"] if ended else 0.0,
                exit_code=ended["exit_code"] if ended else 0,
                error=ended["error"] if ended else "",
                pid=status["pid"] if status and not ended else 0,
                tty=spec["tty"],
            ),
        )
        if state is State.RUNNING and status is not None:
            self._watch(ContainerId(folder.name), folder, status["shim"])
        self._cache.put(entry)
        return entry

    def _lost(self, folder: Path, spec: Mapping[str, Any], status: Mapping[str, Any]) -> dict[str, Any]:
        if spec["boot"] == self._boot:
            cgroups.kill(spec["cgroup"])
        ended = {"exit_code": 137, "error": "", "started_at": status["started_at"], "finished_at": time.time()}
        shim.write_json(str(folder / "exit.json"), ended)
        return ended

    def _watch(self, container: ContainerId, folder: Path, shim_pid: int) -> None:
        if container in self._watched:
            return
        try:
            fd = os.pidfd_open(shim_pid)
        except ProcessLookupError:
            return

        def ended() -> None:
            self._unwatch(container)
            if process := self._shims.pop(container, None):
                process.wait()
            if folder.exists():
                self._load(folder)

        self._watched[container] = fd
        asyncio.get_running_loop().add_reader(fd, ended)

    def _unwatch(self, container: ContainerId) -> None:
        if (fd := self._watched.pop(container, None)) is not None:
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)

    # -- sandboxes ------------------------------------------------------------------------------------------------

    def _netns_name(self, uid: PodUid) -> str:
        return f"kubarium-{self._scope.cluster}-{self._scope.node}-{uid[:UID_DIGITS]}"

    async def create_sandbox(self, spec: SandboxSpec) -> ContainerId:
        sandbox = ContainerId(secrets.token_hex(32))
        saved = {
            "pod": asdict(spec.pod),
            "attempt": spec.attempt,
            "netns": "" if spec.host_network else self._netns_name(spec.pod.uid),
            "boot": self._boot,
            "started": False,
            "created_at": time.time(),
            "grace_s": spec.grace_s,
        }
        self._save_sandbox(spec.pod.uid, sandbox, saved)
        return sandbox

    def _save_sandbox(self, uid: PodUid, sandbox: ContainerId, saved: dict[str, Any]) -> None:
        path = self._sandbox_path(uid, sandbox)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        shim.write_json(str(path), saved)
        self._load_sandbox(path)

    def _sandbox_path(self, uid: PodUid, sandbox: ContainerId) -> Path:
        return self._root / uid / "sandboxes" / f"{sandbox}.json"

    async def start_sandbox(self, sandbox: ContainerId) -> None:
        entry = self._entry(sandbox)
        path = self._sandbox_path(entry.pod.uid, sandbox)
        saved = json.loads(path.read_text())
        if saved["netns"]:
            await asyncio.to_thread(_make_netns, saved["netns"])
        self._save_sandbox(entry.pod.uid, sandbox, saved | {"started": True})

    @contextlib.asynccontextmanager
    async def netns(self, sandbox: ContainerId) -> AsyncIterator[str]:
        entry = self._entry(sandbox)
        yield str(NETNS_FOLDER / self._netns_name(entry.pod.uid))

    async def remove_sandbox(self, sandbox: ContainerId) -> None:
        entry = self._cache.get(sandbox)
        if entry is None:
            return
        if isinstance(entry.what, Sandbox) and not entry.what.host_network:
            await asyncio.to_thread(namespaces.delete, self._netns_name(entry.pod.uid))
        self._sandbox_path(entry.pod.uid, sandbox).unlink(missing_ok=True)
        self._cache.drop(sandbox)

    # -- containers -----------------------------------------------------------------------------------------------

    def _folder(self, uid: PodUid, container: ContainerId) -> Path:
        return self._root / uid / "containers" / container

    async def create_container(self, sandbox: ContainerId, spec: ContainerSpec) -> ContainerId:
        container = ContainerId(secrets.token_hex(32))
        folder = self._folder(spec.pod.uid, container)
        root = folder / "root"
        root.mkdir(parents=True, mode=0o750)
        for mount in sorted(spec.mounts, key=lambda m: m.target):
            link = root / mount.target.lstrip("/")
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(mount.source)
        uid, gid = _user(spec.user)
        path = f"{Path(sys.executable).parent}:{spec.env.get('PATH', DEFAULT_PATH)}"
        saved = {
            "pod": asdict(spec.pod),
            "sandbox": sandbox,
            "name": spec.name,
            "image": spec.image_name or spec.image,
            "restart_count": spec.restart_count,
            "streak": spec.streak,
            "spec_hash": spec.spec_hash,
            "created_at": time.time(),
            "argv": [*spec.command, *spec.args] or ["/bin/false"],
            "env": {
                "HOME": "/root",
                **spec.env,
                "PATH": f"{Path(sys.executable).parent}:{path}",
                MOUNT_POINT: str(root),
            },
            "cwd": spec.working_dir or "/",
            "tty": spec.tty,
            "boot": self._boot,
            "uid": uid,
            "gid": gid,
            "groups": list(spec.groups),
            "cgroup": f"{self._scope.cgroup(spec.pod.uid)}/{container[:12]}",
            "netns": "" if spec.host_network else self._netns_name(spec.pod.uid),
        }
        saved["cgroup_procs"] = [str(p) for p in cgroups.make(str(saved["cgroup"]))]
        shim.write_json(str(folder / "spec.json"), saved)
        self._load(folder)
        return container

    async def start_container(self, container: ContainerId) -> None:
        entry = self._entry(container)
        folder = self._folder(entry.pod.uid, container)
        spec = json.loads((folder / "spec.json").read_text())
        argv = [sys.executable, "-I", "-S", shim.__file__, str(folder)]
        process, answer = await asyncio.to_thread(
            _in_netns, spec["netns"], _spawn_shim, argv, self._scope.cgroup(entry.pod.uid)
        )
        if "error" in answer:
            process.wait()
            self._load(folder)
            raise ContainerError(f"container {entry.what.id[:12]} could not be started: {answer['error']}")
        self._shims[container] = process
        self._load(folder)

    async def stop_container(self, container: ContainerId, grace_s: float) -> None:
        exited = self._cache.exited(container)
        if exited.is_set():
            return
        folder = self._folder(self._entry(container).pod.uid, container)
        for number, limit_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, KILL_WAIT_S)):
            if limit_s <= 0:
                continue
            status = _read(folder / "status.json")
            if status and _alive(status["pid"], status["ticks"]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(status["pid"], number)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(limit_s):
                    await exited.wait()
                return
        raise ContainerError(f"container {container[:12]} is still running {KILL_WAIT_S:g} s after SIGKILL")

    async def remove_container(self, container: ContainerId) -> None:
        entry = self._cache.get(container)
        if entry is None:
            return
        if entry.what.state is State.RUNNING:
            await self.stop_container(container, 0)
        folder = self._folder(entry.pod.uid, container)
        if spec := _read(folder / "spec.json"):
            await asyncio.to_thread(cgroups.kill, spec["cgroup"])
            cgroups.remove(spec["cgroup"])
        await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        self._cache.drop(container)

    async def remove_pod(self, uid: PodUid) -> None:
        if record := self.pod(uid):
            for container in record.containers:
                await self.remove_container(container.id)
        await asyncio.to_thread(cgroups.kill, self._scope.cgroup(uid))
        await asyncio.to_thread(namespaces.delete, self._netns_name(uid))
        if record:
            for sandbox in record.sandboxes:
                self._cache.drop(sandbox.id)
        cgroups.remove(self._scope.cgroup(uid))
        await asyncio.to_thread(shutil.rmtree, self._root / uid, ignore_errors=True)

    def _entry(self, container: ContainerId) -> Entry:
        entry = self._cache.get(container)
        if entry is None:
            raise ContainerMissing(f"no such container: {container[:12]}")
        return entry

    # -- streams --------------------------------------------------------------------------------------------------

    async def exec(
        self, container: ContainerId, command: tuple[str, ...], *, tty: bool = False, stdin: bool = False
    ) -> HostExec:
        entry = self._entry(container)
        spec = json.loads((self._folder(entry.pod.uid, container) / "spec.json").read_text())
        if entry.what.state is not State.RUNNING:
            raise ContainerError(f"container {container[:12]} is not running")
        return await HostExec.start(spec, command, tty=tty, stdin=stdin)

    async def attach(self, container: ContainerId, *, stdin: bool = False) -> HostExec:
        raise ContainerError("the host runtime keeps no terminal to attach to: use logs -f")

    async def logs(self, container: ContainerId, options: LogOptions) -> AsyncIterator[bytes]:
        folder = self._folder(self._entry(container).pod.uid, container)
        exited = self._cache.exited(container)
        left = options.limit_bytes
        async for line in _log_lines(folder / "log", options, exited):
            piece = line if left is None else line[:left]
            if piece:
                yield piece
            if left is not None and (left := left - len(piece)) <= 0:
                return

    # -- images ---------------------------------------------------------------------------------------------------

    async def find_image(self, image: str) -> Image | None:
        return Image("")

    async def pull_image(self, image: str) -> Image:
        return Image("")

    async def close(self) -> None:
        for container in tuple(self._watched):
            self._unwatch(container)


class HostExec:
    """A further process in a host container's namespace and cgroup. Implements base.ExecProcess."""

    def __init__(self, process: subprocess.Popen[bytes], terminal: int | None) -> None:
        self._process, self._terminal = process, terminal
        self._pieces: asyncio.Queue[tuple[int, bytes] | None] = asyncio.Queue()
        self._open: dict[int, int] = {}
        loop = asyncio.get_running_loop()
        sources = {terminal: STDOUT} if terminal is not None else {}
        if process.stdout is not None and process.stderr is not None:
            sources = {process.stdout.fileno(): STDOUT, process.stderr.fileno(): STDERR}
        for fd, stream in sources.items():
            os.set_blocking(fd, False)
            self._open[fd] = stream
            loop.add_reader(fd, self._readable, fd)

    @classmethod
    async def start(cls, spec: Mapping[str, Any], command: tuple[str, ...], *, tty: bool, stdin: bool) -> HostExec:
        process, terminal = await asyncio.to_thread(_in_netns, spec["netns"], _spawn_exec, spec, command, tty, stdin)
        return cls(process, terminal)

    def _readable(self, fd: int) -> None:
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            return
        except OSError:  # a terminal whose last user has gone
            data = b""
        if data:
            self._pieces.put_nowait((self._open[fd], data))
            return
        asyncio.get_running_loop().remove_reader(fd)
        del self._open[fd]
        if not self._open:
            self._pieces.put_nowait(None)

    async def read(self) -> tuple[int, bytes] | None:
        return await self._pieces.get()

    async def write(self, data: bytes) -> None:
        target = self._terminal
        if target is None:
            if self._process.stdin is None:
                return
            target = self._process.stdin.fileno()
        try:
            await asyncio.to_thread(_write_all, target, data)
        except OSError as err:
            raise ContainerError(f"the process has closed its input: {err}") from err

    async def close_stdin(self) -> None:
        if self._process.stdin is not None:
            self._process.stdin.close()
        elif self._terminal is not None:
            await self.write(b"\x04")

    async def resize(self, width: int, height: int) -> None:
        if self._terminal is not None:
            with contextlib.suppress(OSError):
                fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    async def wait(self) -> int:
        code = await asyncio.to_thread(self._process.wait)
        return code if code >= 0 else 128 - code

    async def close(self) -> None:
        for fd in tuple(self._open):
            asyncio.get_running_loop().remove_reader(fd)
        self._open.clear()
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        if self._terminal is not None:
            os.close(self._terminal)
            self._terminal = None
        self._process.poll()


def _in_netns(name: str, call: Callable[..., Any], *args: Any) -> Any:
    """Call in the named namespace ("": the kubelet's own); children that it starts live there."""
    return namespaces.run_in_netns(NETNS_FOLDER / name, call, *args) if name else call(*args)


def _make_netns(name: str) -> None:
    if (NETNS_FOLDER / name).exists():
        namespaces.delete(name)  # of an earlier attempt: nothing may be inherited from it
    namespaces.create(name)
    namespaces.run_in_netns(NETNS_FOLDER / name, _loopback_up)


def _loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP | IFF_RUNNING))


def _spawn_shim(argv: list[str], cgroup: str) -> tuple[subprocess.Popen[bytes], dict[str, Any]]:
    """Start a shim and take its one line of answer."""
    null = subprocess.DEVNULL
    process = subprocess.Popen(
        argv, stdin=null, stdout=subprocess.PIPE, stderr=null, start_new_session=True, close_fds=True, cwd="/"
    )
    cgroups.join(cgroup, process.pid)
    assert process.stdout is not None
    with process.stdout as pipe:
        line = pipe.readline()
    return process, json.loads(line) if line else {"error": f"the shim ended with code {process.wait()}"}


def _spawn_exec(
    spec: Mapping[str, Any], command: tuple[str, ...], tty: bool, stdin: bool
) -> tuple[subprocess.Popen[bytes], int | None]:
    pipe = subprocess.PIPE
    terminal, slave = os.openpty() if tty else (None, None)
    streams = (slave, slave, slave) if slave is not None else (pipe if stdin else subprocess.DEVNULL, pipe, pipe)
    try:
        process = subprocess.Popen(
            command, stdin=streams[0], stdout=streams[1], stderr=streams[2], env=spec["env"], cwd=spec["cwd"],
            start_new_session=True, user=spec["uid"], group=spec["gid"],
        )  # fmt: skip
    except OSError as err:
        if terminal is not None:
            os.close(terminal)
        raise ContainerError(f"exec: {command[0]!r}: {(err.strerror or str(err)).lower()}") from err
    finally:
        if slave is not None:
            os.close(slave)
    with contextlib.suppress(OSError):  # it may have ended already
        cgroups.join(spec["cgroup"], process.pid)
    return process, terminal


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(fd, view) :]
        except BlockingIOError:
            time.sleep(0.005)


async def _log_lines(path: Path, options: LogOptions, exited: asyncio.Event) -> AsyncIterator[bytes]:
    """The text of a log in the CRI format, newest rotation last; with `follow` until the process has ended."""
    current = list(_complete_lines(path))
    kept = [*_complete_lines(path.with_suffix(".1")), *current]
    stamped = [line for line in kept if not options.since or _stamp(line) >= options.since]
    if options.tail_lines is not None:
        stamped = _tail(stamped, options.tail_lines)
    for line in stamped:
        yield _text(line, options.timestamps)
    if not options.follow:
        return
    with path.open("rb") as file:
        file.seek(sum(map(len, current)))  # of what was read above: a line that came since is still to be told
        inode = os.fstat(file.fileno()).st_ino
        while True:
            ended = exited.is_set()
            for line in file:
                yield _text(line, options.timestamps)
            if ended:
                return
            if _inode(path) not in (0, inode):  # rotated: the rest of it from the start
                async for piece in _log_lines(path, options, exited):
                    yield piece
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FOLLOW_INTERVAL_S):
                    await exited.wait()


def _inode(path: Path) -> int:
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def _complete_lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from (line for line in file if line.endswith(b"\n"))
    except FileNotFoundError:
        return


def _tail(lines: list[bytes], count: int) -> list[bytes]:
    """The last `count` whole lines of output: a line may lie in several pieces, all but its last marked P."""
    taken = len(lines)
    while taken > 0 and count > 0:
        taken -= 1
        while taken > 0 and lines[taken - 1].split(b" ", 3)[2] == b"P":
            taken -= 1
        count -= 1
    return lines[taken:]


def _stamp(line: bytes) -> float:
    return parse_time(line.split(b" ", 1)[0].decode())


def _text(line: bytes, timestamps: bool) -> bytes:
    stamp, _, mark, text = line.split(b" ", 3)
    text = text if mark == b"F" else text[:-1]
    return stamp + b" " + text if timestamps else text


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return value


def _identity(saved: Mapping[str, str]) -> PodIdentity:
    return PodIdentity(saved["namespace"], saved["name"], PodUid(saved["uid"]))


def _alive(pid: int, ticks: int) -> bool:
    """Whether that very process runs, not a later one of the same ID and not its remains."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rsplit(b")", 1)[1].split()
    except OSError:
        return False
    return int(fields[19]) == ticks and fields[0] != b"Z"


def _user(user: str) -> tuple[int | None, int | None]:
    """Numeric uid[:gid]; names belong to images, of which there are none here."""
    match = re.fullmatch(r"(\d+)(?::(\d+))?", user)
    if not match:
        return None, None
    uid = int(match[1])
    return uid, int(match[2]) if match[2] else uid
