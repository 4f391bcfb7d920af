"""What happens to a whole node: anchored and named, killed at once, cleared of everything it left."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from kubarium.cluster import anchors, cgroups, namespaces, network
from kubarium.cluster.dockerapi import CLUSTER_LABEL, KIND_LABEL, NODE_LABEL, DockerApi
from kubarium.cluster.paths import ClusterPaths


def ensure_anchored(docker: DockerApi, paths: ClusterPaths, node: str) -> anchors.Anchor:
    """The node's anchor, running. Pods that outlived the last one hang on a dead network and are cleared first."""
    if not _anchor_holds(docker, paths, node) and _pods_run(docker, paths, node):
        clear_node(docker, paths, node)
    for folder in (paths.node(node) / "kubelet", paths.node(node) / "cni", paths.node_run(node)):
        folder.mkdir(parents=True, exist_ok=True)
    return anchors.ensure_anchor(docker, paths, node)


def kill_node(docker: DockerApi, paths: ClusterPaths, lan: network.LanPlan, node: str) -> None:
    """As if its power were cut: the link first, then every process and container at once."""
    network.cut_link(paths, lan, node)
    cgroups.kill(f"{paths.name}/{node}")
    running = docker.containers({CLUSTER_LABEL: paths.name, NODE_LABEL: node}, running=True)
    each(docker.kill, [found["Id"] for found in running])
    for netns in network.node_namespaces(paths.name, node):
        namespaces.unname_netns(netns)


def clear_node(docker: DockerApi, paths: ClusterPaths, node: str) -> None:
    """Remove all that a node has on this machine but its log files: processes, containers, mounts, files."""
    cgroups.kill(f"{paths.name}/{node}")
    found = docker.containers({CLUSTER_LABEL: paths.name, NODE_LABEL: node})
    each(docker.remove, [container["Id"] for container in found])
    for netns in network.node_namespaces(paths.name, node):
        namespaces.unname_netns(netns)
    for folder in (paths.node(node), paths.node_run(node)):
        unmount_below(folder)
        shutil.rmtree(folder, ignore_errors=True)
    cgroups.remove(f"{paths.name}/{node}")


def unmount_below(folder: Path) -> None:
    """Unmount everything mounted in a folder, the innermost first."""
    for point in sorted(mounts_below(folder), key=len, reverse=True):
        namespaces.unmount(Path(point))


def mounts_below(folder: Path) -> list[str]:
    """Mount points at or below a folder, as this mount namespace sees them."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    plain = [point.encode().decode("unicode_escape") if "\\" in point else point for point in points]
    return [point for point in plain if point == str(folder) or point.startswith(f"{folder}/")]


def each(work: Callable[[str], None], items: Iterable[str]) -> None:
    """Do the work for every item, eight at a time; the first error is raised when all have been tried."""
    with ThreadPoolExecutor(8) as pool:
        errors = [future.exception() for future in [pool.submit(work, item) for item in items]]
    for error in errors:
        if error is not None:
            raise error


def _anchor_holds(docker: DockerApi, paths: ClusterPaths, node: str) -> bool:
    found = docker.inspect(anchors.container_name(paths.name, node))
    pid = int(found["State"]["Pid"]) if found else 0
    return bool(pid) and namespaces.is_same_netns(f"/proc/{pid}/ns/net", paths.netns(node))


def _pods_run(docker: DockerApi, paths: ClusterPaths, node: str) -> bool:
    running = docker.containers({CLUSTER_LABEL: paths.name, NODE_LABEL: node}, running=True)
    return any(found["Labels"].get(KIND_LABEL) != "anchor" for found in running)
