"""`kubarium up` and `start`: check, choose, start the supervisor, wait until the cluster is usable."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kubarium.cluster import cgroups, control, engine, images, locks, network, preflight, ready
from kubarium.cluster.paths import RUN, ClusterPaths, home
from kubarium.cluster.spec import ClusterSpec, check_name, check_spec
from kubarium.machinery.errors import ClusterError, ConfigError

READY_TIMEOUT_S = 90.0
SUPERVISOR = "kubarium.cluster.supervisor"
Report = Callable[[float, str, bool], None]  # seconds since the command began, what happened, whether it is a detail


@dataclass(frozen=True, slots=True)
class Started:
    """What `up` tells at its end."""

    spec: ClusterSpec
    paths: ClusterPaths
    total_s: float
    was_up: bool
    dead: tuple[str, ...]


def command_began() -> float:
    """When this process was started, by the monotonic clock: the interpreter's own start counts too."""
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
    return min(ticks / os.sysconf("SC_CLK_TCK"), time.monotonic())


def up(name: str, wishes: Mapping[str, Any], report: Report, *, must_exist: bool = False, api_port: int = 0) -> Started:
    """Bring the cluster up, new or as it was left. `wishes`: settings the user named, by field of ClusterSpec.

    Raises ConfigError before anything is started for whatever cannot work; ClusterError when it does not get ready.
    """
    began = command_began()

    def tell(text: str, detail: bool = False) -> None:
        report(time.monotonic() - began, text, detail)

    preflight.check_root()
    check_name(name)
    preflight.check_home()
    paths = ClusterPaths.of(name)
    with locks.held(name) as mine:
        if not mine:
            raise ClusterError(f"another command works on cluster {name}: try again when it has ended")
        spec = settle(paths, name, wishes, must_exist=must_exist)
        was_up = control.answers(paths)
        if was_up and api_port not in (0, spec.api_port):
            raise ConfigError(
                f"--api-port {api_port}: cluster {name} is up at port {spec.api_port}; "
                f"'kubarium stop --name {name}' first"
            )
        process = None
        if not was_up:
            process = _launch(spec, paths, tell, began, api_port)
        spec = ClusterSpec.load(paths.spec)
        dead = tuple(node for node in spec.node_names if paths.killed(node).exists())
        _wait(spec, paths, report, began, process, [node for node in spec.node_names if node not in dead])
    return Started(spec, paths, time.monotonic() - began, was_up, dead)


def settle(paths: ClusterPaths, name: str, wishes: Mapping[str, Any], *, must_exist: bool = False) -> ClusterSpec:
    """The settings to go by: those of the cluster that exists, or new ones. Raises ConfigError where they differ."""
    _check_home(paths)
    try:
        spec = ClusterSpec.load(paths.spec)
    except FileNotFoundError:
        if cgroups.pids(name):
            raise ConfigError(
                f"cluster {name}: its state folder is gone; 'kubarium down --name {name}' removes what is left"
            ) from None
        if must_exist:
            raise ConfigError(f"there is no cluster {name}: 'kubarium up --name {name}' makes one") from None
        spec = ClusterSpec(name=name, **wishes)
        check_spec(spec)
        return spec
    for field, wish in wishes.items():
        have = getattr(spec, field)
        if field == "docker_socket" and have and Path(wish).resolve() == Path(have).resolve():
            continue
        if wish != have:
            flag = "--" + field.replace("_", "-")
            raise ConfigError(
                f"{flag} {wish}: cluster {name} exists with {have}; "
                f"'kubarium down --name {name}' first, or choose another --name"
            )
    return spec


def choose_lan(spec: ClusterSpec, paths: ClusterPaths) -> ClusterSpec:
    """The cluster's settings with its LAN's index, chosen under a lock and written down before the lock is given up."""
    with locks.held():
        if spec.lan_index >= 0:
            own = network.plan_lan(spec)
            others = [net for net in network.host_routes(skip=own.host_interface) if net.overlaps(own.network)]
            preflight.check_lan(spec, [str(net) for net in others])
        else:
            spec = dataclasses.replace(spec, lan_index=network.plan_index(network.host_routes(), _taken(paths)))
        spec.save(paths.spec)
        paths.run.mkdir(parents=True, exist_ok=True)
        paths.home_mark.write_text(str(paths.base))
    return spec


def next_commands(spec: ClusterSpec) -> list[str]:
    """What to try with a fresh cluster."""
    name = "" if spec.name == "default" else f" --name {spec.name}"
    cluster = name.replace("--name", "--cluster")
    return [
        f"kubarium get pods -A -o wide{cluster}",
        f"kubarium apply -f examples/web-app/{cluster}",
        f"kubarium kubeconfig{name} > kubeconfig; kubectl --kubeconfig kubeconfig get nodes",
        f"kubarium chaos kill-node node-1{name}",
        f"kubarium down{name}",
    ]


def _check_home(paths: ClusterPaths) -> None:
    with contextlib.suppress(FileNotFoundError):
        other = paths.home_mark.read_text()
        if other != str(home()) and cgroups.pids(paths.name):
            raise ConfigError(
                f"a cluster {paths.name} of KUBARIUM_HOME={other} is up: "
                "choose another --name, or set KUBARIUM_HOME to it"
            )


def _taken(paths: ClusterPaths) -> set[int]:
    """LANs of other clusters: remembered in our home or another's, or up without any file."""
    files = set(paths.state.parent.glob("*/cluster.json"))
    for mark in RUN.glob("*/home"):
        with contextlib.suppress(OSError):
            files.add(ClusterPaths(mark.parent.name, Path(mark.read_text())).spec)
    taken = set()
    for file in files - {paths.spec}:
        with contextlib.suppress(ConfigError, FileNotFoundError):
            taken.add(ClusterSpec.load(file).lan_index)
    return taken | {int(name[2:-5]) for name in network.host_interfaces() if name[2:-5].isdigit()}


def _launch(
    spec: ClusterSpec, paths: ClusterPaths, tell: Callable[[str, bool], None], began: float, api_port: int
) -> subprocess.Popen[bytes]:
    """Check, choose, and start the supervisor. A new cluster that cannot start leaves no file."""
    is_new = not paths.spec.exists()
    try:
        preflight.check_kernel()
        docker = engine.ensure(spec.docker_socket)
        preflight.check_engine(docker)
        if spec.store == "etcd":
            preflight.check_program("etcd", "etcd-server")
        _kill_components(spec)
        listener = preflight.bind_api_port(spec, api_port)
        port = listener.getsockname()[1]
        spec = choose_lan(dataclasses.replace(spec, docker_socket=docker.path, api_port=port), paths)
        tell("host checked", True)
        images.write_aliases(paths.aliases, docker)
        return spawn(spec, paths, listener, began)
    except BaseException:
        if is_new:
            shutil.rmtree(paths.state, ignore_errors=True)
            shutil.rmtree(paths.run, ignore_errors=True)
        raise


def _kill_components(spec: ClusterSpec) -> None:
    """What a supervisor that died has left running; pods stay."""
    for path in ("supervisor", *(f"{node}/system" for node in spec.node_names)):
        if cgroups.pids(f"{spec.name}/{path}"):
            cgroups.kill(f"{spec.name}/{path}")


def spawn(
    spec: ClusterSpec, paths: ClusterPaths, listener: socket.socket, began: float, *, module: str = SUPERVISOR
) -> subprocess.Popen[bytes]:
    """Start the supervisor, detached, in its cgroup; it inherits the listening socket."""
    for folder in (paths.logs, paths.store):
        folder.mkdir(parents=True, exist_ok=True)
    argv = [sys.executable, "-m", module, spec.name]
    argv += [f"--listen-fd={listener.fileno()}", f"--begun={began}"]
    with (paths.logs / "supervisor.log").open("ab") as log, listener:
        return subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=[listener.fileno()],
            cwd="/",
            preexec_fn=lambda: cgroups.join(f"{spec.name}/supervisor"),  # noqa: PLW1509 - no thread runs yet
        )


def _wait(
    spec: ClusterSpec,
    paths: ClusterPaths,
    report: Report,
    began: float,
    process: subprocess.Popen[bytes] | None,
    names: list[str],
) -> None:
    def died() -> bool:
        return process is not None and process.poll() is not None

    if process is not None:
        threading.Thread(target=_follow, args=(paths, report, died), daemon=True).start()

    def on_ready(node: str) -> None:
        report(time.monotonic() - began, f"{node} ready: DNS answers, the kubernetes Service connects", False)

    missing = ready.wait_ready(spec, paths, names, timeout_s=READY_TIMEOUT_S, on_ready=on_ready, give_up=died)
    if died():
        log = paths.logs / "supervisor.log"
        lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
        raise ClusterError(f"the supervisor ended: {lines[-1] if lines else 'no message'} ({log})")
    if missing:
        faults = "\n".join(f"  {probe.node} lacks {probe.missing}" for probe in missing)
        raise ClusterError(
            f"cluster {spec.name} is not ready after {READY_TIMEOUT_S:g} s:\n{faults}\n  its logs are in {paths.logs}"
        )


def _follow(paths: ClusterPaths, report: Report, died: Callable[[], bool]) -> None:
    """Hand on what the supervisor tells, from its first word."""
    for event in _events(paths, died):
        report(event["at"], event["text"], not (event["error"] or event["text"].endswith(_STEPS)))


def _events(paths: ClusterPaths, died: Callable[[], bool]) -> Iterator[dict[str, Any]]:
    while not died():
        try:
            yield from control.events(paths, timeout_s=READY_TIMEOUT_S)
            return
        except (control.NoSupervisor, TimeoutError):
            time.sleep(0.02)


_STEPS = ("LAN up", "imports done", "API server answers", "kube-dns applied")
