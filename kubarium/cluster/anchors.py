"""The anchor of a node: a container of the pause image that holds the node's network namespace.

Being a container, it can be joined by pods with hostNetwork, which take its hostname, the node's name, too.
"""

from __future__ import annotations

import contextlib
import os
from typing import NamedTuple

from kubarium.cluster import namespaces
from kubarium.cluster.dockerapi import CLUSTER_LABEL, KIND_LABEL, NODE_LABEL, DockerApi
from kubarium.cluster.images import PAUSE
from kubarium.cluster.paths import ClusterPaths
from kubarium.machinery.errors import ContainerError


class Anchor(NamedTuple):
    """`pid` is the container's first process on this machine, `fresh` whether it was started just now."""

    container: str
    pid: int
    fresh: bool


def container_name(cluster: str, node: str) -> str:
    return f"kubarium-{cluster}-{node}"


def ensure_anchor(docker: DockerApi, paths: ClusterPaths, node: str) -> Anchor:
    """The node's anchor running, and its namespace under the node's name.

    An anchor that runs is kept if the name leads to its namespace; any other container of that name is replaced.
    Raises ContainerError, NetworkError.
    """
    name = container_name(paths.name, node)
    found = docker.inspect(name)
    if found is not None:
        pid = int(found["State"]["Pid"])
        if pid and namespaces.is_same_netns(f"/proc/{pid}/ns/net", paths.netns(node)):
            return Anchor(found["Id"], pid, fresh=False)
        docker.remove(found["Id"])
    container = str(docker.call("POST", "/containers/create", _config(docker, paths, node), name=name)["Id"])
    docker.call("POST", f"/containers/{container}/start")
    pid = _name_namespace(docker, paths, node, container)
    return Anchor(container, pid, fresh=True)


def _config(docker: DockerApi, paths: ClusterPaths, node: str) -> dict[str, object]:
    host: dict[str, object] = {"NetworkMode": "none", "LogConfig": {"Type": "none"}}
    if docker.call("GET", "/info").get("CgroupDriver") != "systemd":  # systemd's driver takes slices only
        host["CgroupParent"] = f"/kubarium/{paths.name}/{node}/anchor"
    return {
        "Image": PAUSE,
        "Hostname": node,
        "Labels": {CLUSTER_LABEL: paths.name, NODE_LABEL: node, KIND_LABEL: "anchor"},
        "HostConfig": host,
    }


def _name_namespace(docker: DockerApi, paths: ClusterPaths, node: str, container: str) -> int:
    """Open the namespace first, then ask again whether the process is still the container's: pids are used again."""
    pid = _pid(docker, container)
    with contextlib.ExitStack() as stack:
        try:
            fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise ContainerError(f"the anchor of {node} died as it started") from None
        stack.callback(os.close, fd)
        if _pid(docker, container) != pid:
            raise ContainerError(f"the anchor of {node} died as it started")
        namespaces.name_netns(f"/proc/self/fd/{fd}", paths.netns(node))
    return pid


def _pid(docker: DockerApi, container: str) -> int:
    found = docker.inspect(container)
    return int(found["State"]["Pid"]) if found else 0
