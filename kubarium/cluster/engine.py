"""The Docker engine: one that answers is used as it is; else ours, with its own socket and data root.

Ours leaves the host's network alone (no bridge, no iptables, no forwarding) and its containers outlive it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

from kubarium.cluster import locks
from kubarium.cluster.dockerapi import DockerApi
from kubarium.cluster.paths import RUN, home
from kubarium.machinery.errors import ConfigError, ContainerError

SYSTEM_SOCKET = "/var/run/docker.sock"
OUR_SOCKET = str(RUN / "docker.sock")
START_TIMEOUT_S = 30.0


def find(explicit: str = "") -> DockerApi | None:
    """The engine to use: the one named, $DOCKER_HOST, the system's, ours; None when none of them answers.

    Raises ConfigError for one named by flag or $DOCKER_HOST that does not answer: it was meant.
    """
    if explicit:
        return _meant("--docker-socket", explicit)
    if host := os.environ.get("DOCKER_HOST"):
        return _meant("DOCKER_HOST", host)
    for path in (SYSTEM_SOCKET, OUR_SOCKET):
        if Path(path).is_socket() and DockerApi(path).answers():
            return DockerApi(path)
    return None


def ensure(explicit: str = "") -> DockerApi:
    """An engine that answers: found, or ours started. Raises ConfigError when none is installed."""
    found = find(explicit)
    if found is not None:
        return found
    if shutil.which("dockerd") is None:
        raise ConfigError(
            "no Docker engine answers and none is installed: 'kubarium setup' installs one (Debian's docker.io), "
            "or start yours and set DOCKER_HOST"
        )
    start_ours()
    return DockerApi(OUR_SOCKET)


def start_ours(socket_path: str = OUR_SOCKET, data_root: Path | None = None) -> None:
    """Start our engine, detached, and wait until it answers; one that another command has just started will do.

    Raises ContainerError with the last line of its log.
    """
    data = data_root or home() / "docker"
    with locks.held(f"engine at {socket_path}"):
        if DockerApi(socket_path).answers():
            return
        try:
            _start(socket_path, data)
        except ContainerError:
            _start(socket_path, data)  # its containerd may have been dying when we looked: now it is dead


def _start(socket_path: str, data: Path) -> None:
    run = Path(socket_path).parent
    for folder in (run, data):
        folder.mkdir(parents=True, exist_ok=True)
    _forget_dead(run / "docker.pid", "dockerd")
    _forget_dead(run / "docker" / "containerd" / "containerd.pid", "containerd")
    log = data / "dockerd.log"
    with log.open("ab") as out:
        process = subprocess.Popen(
            plan_command(socket_path, data), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    deadline = time.monotonic() + START_TIMEOUT_S
    while not DockerApi(socket_path).answers():
        if process.poll() is not None or time.monotonic() > deadline:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise ContainerError(f"our Docker engine does not start: {lines[-1] if lines else 'no message'} ({log})")
        time.sleep(0.05)


def _forget_dead(pidfile: Path, program: str) -> None:
    """Remove the PID file of a program that was killed.

    dockerd refuses to start while any process, be it a zombie, has the number in its own file, and waits in vain for
    the containerd that it believes to run.
    """
    try:
        status = Path("/proc", pidfile.read_text().strip(), "status").read_text()
    except (FileNotFoundError, ProcessLookupError, NotADirectoryError):
        status = ""
    if f"Name:\t{program}\n" not in status or "State:\tZ" in status:
        pidfile.unlink(missing_ok=True)


def plan_command(socket_path: str, data: Path) -> list[str]:
    """How our dockerd is called."""
    run = Path(socket_path).parent
    return [
        "dockerd",
        f"--host=unix://{socket_path}",
        f"--data-root={data}",
        f"--exec-root={run / 'docker'}",
        f"--pidfile={run / 'docker.pid'}",
        "--live-restore",
        "--bridge=none",
        "--iptables=false",
        "--ip6tables=false",
        "--ip-forward=false",
    ]


def from_environment() -> str | None:
    """The path of the Unix socket in $DOCKER_HOST; None when it is not set, or is no Unix socket."""
    host = os.environ.get("DOCKER_HOST", "").removeprefix("unix://")
    return host if host.startswith("/") else None


def _meant(source: str, host: str) -> DockerApi:
    path = host.removeprefix("unix://")
    if not path.startswith("/"):
        raise ConfigError(
            f"{source} {host}: only an engine on this machine will do, since nodes share its namespaces; "
            "expected unix:///path"
        )
    docker = DockerApi(path)
    if not docker.answers():
        raise ConfigError(
            f"{source} {host}: no Docker engine answers there; start it, or unset {source} to use another"
        )
    return docker
