"""Faults that a running cluster can be given. Each is named, takes a target, and can be healed.

A fault is asked of the cluster's supervisor; where that is dead (a fault as good as any), it is done from here.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable

from kubarium.cluster import control, network, nodes, ready
from kubarium.cluster.dockerapi import DockerApi
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.spec import ClusterSpec, check_name
from kubarium.cluster.supervisor import mark_killed
from kubarium.machinery.errors import ClusterError, ConfigError

BUSY_TIMEOUT_S = 20.0
HEAL_TIMEOUT_S = 60.0


def load(name: str) -> tuple[ClusterSpec, ClusterPaths]:
    """A cluster by its name. Raises ConfigError when there is none."""
    check_name(name)
    paths = ClusterPaths.of(name)
    try:
        return ClusterSpec.load(paths.spec), paths
    except FileNotFoundError:
        raise ConfigError(f"there is no cluster {name}: 'kubarium up --name {name}' makes one") from None


def kill_node(spec: ClusterSpec, paths: ClusterPaths, node: str) -> None:
    """Cut a node's power: its link, processes and containers are gone when this returns. Repeats do no harm."""
    check_node(spec, node)
    try:
        _ask_when_free(paths, "kill-node", node)
    except control.NoSupervisor:
        mark_killed(paths, node)
        nodes.kill_node(DockerApi(spec.docker_socket), paths, network.plan_lan(spec), node)


def heal_node(spec: ClusterSpec, paths: ClusterPaths, node: str) -> None:
    """Give a killed node its power back, empty as after an installation. Raises ClusterError if it does not get Ready.

    A node that was never killed is left alone.
    """
    check_node(spec, node)
    if not paths.killed(node).exists():
        return
    try:
        _ask_when_free(paths, "heal-node", node)
    except control.NoSupervisor as err:
        raise ClusterError(f"{err}: 'kubarium start --name {spec.name}' brings it back, then heal again") from err
    missing = ready.wait_ready(spec, paths, [node], timeout_s=HEAL_TIMEOUT_S)
    for probe in missing:
        raise ClusterError(f"{node} is not ready {HEAL_TIMEOUT_S:g} s after healing: it lacks {probe.missing}")


def killed_nodes(spec: ClusterSpec, paths: ClusterPaths) -> list[str]:
    """Nodes that are meant to be dead."""
    return [node for node in spec.node_names if paths.killed(node).exists()]


def heal_all(spec: ClusterSpec, paths: ClusterPaths, on_healed: Callable[[str], None]) -> None:
    """Heal every killed node, one after the other; `on_healed` is called for each."""
    for node in killed_nodes(spec, paths):
        heal_node(spec, paths, node)
        on_healed(node)
    if paths.killed("").is_dir() and not killed_nodes(spec, paths):
        shutil.rmtree(paths.killed(""), ignore_errors=True)


def check_node(spec: ClusterSpec, node: str) -> None:
    """Raise ConfigError for a node that the cluster has not."""
    if node not in spec.node_names:
        raise ConfigError(f"cluster {spec.name} has no node {node}; there are {', '.join(spec.node_names)}")


def _ask_when_free(paths: ClusterPaths, do: str, node: str) -> None:
    """Ask the supervisor; while it is busy with that node (starting, clearing), ask again."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while "busy" in (answer := control.ask(paths, do, node=node)):
        if time.monotonic() > deadline:
            raise ClusterError(f"{answer['busy']} for {BUSY_TIMEOUT_S:g} s; 'kubarium status' shows more")
        time.sleep(0.05)
