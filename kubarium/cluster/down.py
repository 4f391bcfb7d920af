"""`kubarium down` and `stop`: take a cluster away, whatever state it is in.

`down` trusts no file: processes are found by cgroup, containers by label, namespaces by name, the host's link by its
alias, mounts by path. It may be killed and run again.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterable
from pathlib import Path

from kubarium.cluster import cgroups, control, engine, locks, namespaces, network, preflight
from kubarium.cluster.dockerapi import CLUSTER_LABEL, KIND_LABEL, DockerApi
from kubarium.cluster.nodes import each, unmount_below
from kubarium.cluster.paths import RUN, ClusterPaths, home
from kubarium.cluster.spec import RESERVED_NAMES, ClusterSpec, check_name
from kubarium.machinery.errors import ClusterError, ConfigError

STOP_TIMEOUT_S = 15.0
LOCK_TIMEOUT_S = 3.0


def down(name: str) -> list[str]:
    """Remove every trace of a cluster. Returns what there was, empty when there was nothing."""
    preflight.check_root()
    check_name(name)
    with locks.held(name, timeout_s=LOCK_TIMEOUT_S):  # an `up` that hangs must not keep us from it
        paths = _paths(name)
        found = []
        if cgroups.pids(name):
            found.append("processes")
            cgroups.kill(name)
        for docker in _engines(paths):
            found += _remove_containers(docker, name)
        if cgroups.pids(name):
            cgroups.kill(name)
        found += _remove_network(paths)
        for folder in (paths.state, paths.run):
            if folder.exists():
                found.append(str(folder))
            unmount_below(folder)
            shutil.rmtree(folder, ignore_errors=True)
        _remove_cgroups(name)
    return found


def stop(name: str) -> None:
    """End all processes and containers; state stays, so that `start` brings the cluster back. ConfigError if none."""
    preflight.check_root()
    check_name(name)
    with locks.held(name) as mine:
        if not mine:
            raise ClusterError(f"another command works on cluster {name}: try again when it has ended")
        paths = ClusterPaths.of(name)
        if not paths.spec.exists():
            if cgroups.pids(name):
                raise ConfigError(
                    f"cluster {name}: its state folder is gone; 'kubarium down --name {name}' removes what is left"
                )
            raise ConfigError(f"there is no cluster {name}")
        _stop_supervisor(paths)
        if cgroups.pids(name):
            cgroups.kill(name)
        for docker in _engines(paths):
            running = docker.containers({CLUSTER_LABEL: name}, running=True)
            each(docker.kill, [container["Id"] for container in running])
            each(docker.remove, [c["Id"] for c in docker.containers({CLUSTER_LABEL: name, KIND_LABEL: "anchor"})])
        _remove_network(paths)
        unmount_below(paths.state)
        shutil.rmtree(paths.run, ignore_errors=True)
        _remove_cgroups(name)


def all_names() -> list[str]:
    """Every cluster of which anything is there."""
    names = {file.parent.name for file in (home() / "clusters").glob("*/cluster.json")}
    names |= cgroups.names() | network.namespace_clusters() | set(network.host_interfaces().values())
    names |= {path.name for path in RUN.iterdir() if path.is_dir()} - RESERVED_NAMES if RUN.is_dir() else set()
    for docker in _engines(None):
        names |= {found["Labels"][CLUSTER_LABEL] for found in docker.containers({CLUSTER_LABEL: None})}
    return sorted(names)


def _paths(name: str) -> ClusterPaths:
    """The cluster's folders, also when it was made with another $KUBARIUM_HOME than ours."""
    paths = ClusterPaths.of(name)
    with contextlib.suppress(OSError):
        if not paths.spec.exists():
            return ClusterPaths(name, Path(paths.home_mark.read_text()))
    return paths


def _engines(paths: ClusterPaths | None) -> Iterable[DockerApi]:
    """Every engine that may hold containers of the cluster and answers."""
    sockets = [engine.SYSTEM_SOCKET, engine.OUR_SOCKET]
    if paths is not None:
        with contextlib.suppress(ConfigError, FileNotFoundError):
            sockets.append(ClusterSpec.load(paths.spec).docker_socket)
    if (explicit := engine.from_environment()) is not None:
        sockets.append(explicit)
    seen = {str(Path(path).resolve()): path for path in sockets if path and Path(path).is_socket()}
    return [docker for docker in map(DockerApi, seen.values()) if docker.answers()]


def _remove_containers(docker: DockerApi, name: str) -> list[str]:
    """Containers, then the networks and volumes that Compose made for them.

    A kubelet that is a container itself may start another pod until it is gone: looked for again until none is left.
    """
    labels, count = {CLUSTER_LABEL: name}, 0
    while containers := docker.containers(labels):
        count += len(containers)
        each(docker.remove, [found["Id"] for found in containers])
    others = docker.remove_labelled(labels)
    return ([f"{count} containers"] if count else []) + others


def _remove_network(paths: ClusterPaths) -> list[str]:
    found = network.cluster_namespaces(paths.name)
    for path in found:
        namespaces.unname_netns(path)
    interfaces = [interface for interface, owner in network.host_interfaces().items() if owner == paths.name]
    for interface in interfaces:
        network.remove_host_link(interface, paths.name)
    return [f"{len(found)} namespaces"] if found else interfaces


def _stop_supervisor(paths: ClusterPaths) -> None:
    with contextlib.suppress(control.NoSupervisor, TimeoutError):
        control.ask(paths, "stop")
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while cgroups.pids(f"{paths.name}/supervisor") and time.monotonic() < deadline:
            time.sleep(0.02)


def _remove_cgroups(name: str, timeout_s: float = 3.0) -> None:
    """Containers leave their cgroups a moment after they are gone."""
    deadline = time.monotonic() + timeout_s
    cgroups.remove(name)
    while name in cgroups.names() and time.monotonic() < deadline:
        time.sleep(0.01)
        cgroups.remove(name)
