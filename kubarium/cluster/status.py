"""`kubarium status`: what runs, as the supervisor and the machine itself tell."""

from __future__ import annotations

from typing import Any

from kubarium.cluster import cgroups, control, ready
from kubarium.cluster.network import plan_lan
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.spec import ClusterSpec, check_name
from kubarium.machinery.errors import ConfigError

UP, STOPPED, ORPHANED, LOST = "up", "stopped", "without supervisor", "without state"


def status(name: str) -> dict[str, Any]:
    """A cluster's `state` (up, stopped, ...), settings, `nodes` and `processes`. ConfigError when there is none.

    A process: node, component, pid (0: not running), restarts; the supervisor is of no node.
    """
    check_name(name)
    paths = ClusterPaths.of(name)
    try:
        spec = ClusterSpec.load(paths.spec)
    except FileNotFoundError:
        if name in cgroups.names() or paths.run.exists():
            return {"name": name, "state": LOST, "nodes": [], "processes": []}
        raise ConfigError(f"there is no cluster {name}: 'kubarium up --name {name}' makes one") from None
    try:
        seen = control.ask(paths, "status", timeout_s=5)
    except (control.NoSupervisor, TimeoutError):
        state = ORPHANED if cgroups.pids(name) else STOPPED
        return _settings(spec, paths, state) | {"nodes": [], "processes": []}
    return _settings(spec, paths, UP) | _running(spec, seen, ready.ready_nodes(spec, paths))


def describe(seen: dict[str, Any]) -> list[str]:
    """The same as lines to read."""
    name, state = seen["name"], seen["state"]
    if state == LOST:
        return [f"cluster {name}: its state folder is gone; 'kubarium down --name {name}' removes what is left"]
    if state != UP:
        return [f"cluster {name}: {state}; 'kubarium start --name {name}' brings it back"]
    lines = [f"cluster {name}: API server at {seen['server']}, store {seen['store']}, logs in {seen['logs']}"]
    for node in seen["nodes"]:
        condition = "Ready" if node["ready"] else "NotReady"
        lines.append(f"  {node['name']:<15} {node['stage']:<9} {condition:<9} {node['address']}")
        for process in seen["processes"]:
            if process["node"] == node["name"]:
                where = f"pid {process['pid']}" if process["pid"] else "not running"
                lines.append(f"    {process['component']:<13} {where:<14} restarts {process['restarts']}")
    return lines


def _settings(spec: ClusterSpec, paths: ClusterPaths, state: str) -> dict[str, Any]:
    return {
        "name": spec.name,
        "state": state,
        "server": f"https://127.0.0.1:{spec.api_port}",
        "store": spec.store,
        "docker_socket": spec.docker_socket,
        "logs": str(paths.logs),
    }


def _running(spec: ClusterSpec, seen: dict[str, Any], ready_nodes: set[str]) -> dict[str, Any]:
    nodes = [
        {
            "name": link.node,
            "stage": seen["nodes"][link.node],
            "ready": link.node in ready_nodes,
            "address": str(link.address),
        }
        for link in plan_lan(spec).links
    ]
    processes = [{"node": "", "component": "supervisor", "pid": seen["pid"], "restarts": 0}]
    for key, process in seen["processes"].items():
        node, _, component = key.partition("/")
        processes.append({"node": node, "component": component} | process)
    return {"nodes": nodes, "processes": processes}
