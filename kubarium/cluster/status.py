"""`kubarium status`: what runs, as the supervisor and the machine itself tell."""

from __future__ import annotations

from kubarium.cluster import cgroups, control, ready
from kubarium.cluster.network import plan_lan
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.spec import ClusterSpec, check_name
from kubarium.machinery.errors import ConfigError


def status(name: str) -> list[str]:
    """Lines to show. Raises ConfigError when there is no such cluster."""
    check_name(name)
    paths = ClusterPaths.of(name)
    try:
        spec = ClusterSpec.load(paths.spec)
    except FileNotFoundError:
        if cgroups.pids(name):
            return [f"cluster {name}: its state folder is gone; 'kubarium down --name {name}' removes what is left"]
        raise ConfigError(f"there is no cluster {name}: 'kubarium up --name {name}' makes one") from None
    try:
        seen = control.ask(paths, "status", timeout_s=5)
    except (control.NoSupervisor, TimeoutError):
        if cgroups.pids(name):
            return [f"cluster {name}: runs without its supervisor; 'kubarium start --name {name}' brings it back"]
        return [f"cluster {name}: stopped; 'kubarium start --name {name}' brings it back"]
    return _lines(spec, seen, ready.ready_nodes(spec, paths))


def _lines(spec: ClusterSpec, seen: dict[str, dict[str, dict[str, int]]], ready_nodes: set[str]) -> list[str]:
    lines = [f"cluster {spec.name}: API server at https://127.0.0.1:{spec.api_port}, store {spec.store}"]
    for link in plan_lan(spec).links:
        stage = seen["nodes"][link.node]
        condition = "Ready" if link.node in ready_nodes else "NotReady"
        lines.append(f"  {link.node:<15} {stage:<8} {condition:<9} {link.address}")
        for key, process in seen["processes"].items():
            node, _, component = key.partition("/")
            if node == link.node:
                where = f"pid {process['pid']}" if process["pid"] else "not running"
                lines.append(f"    {component:<13} {where:<14} restarts {process['restarts']}")
    return lines
