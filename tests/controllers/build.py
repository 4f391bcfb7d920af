"""Objects for tests, with only what a test is about."""

from __future__ import annotations

from typing import Any

from kubarium.controllers.views import Deployment, ReplicaSet
from kubarium.machinery.objects import Node, Pod, Service, convert
from kubarium.machinery.times import format_timestamp

NOW = 1_800_000_000.0


def ago(seconds: float) -> str:
    return format_timestamp(NOW - seconds)


def owner(kind: str, name: str, *, controller: bool = True) -> dict[str, Any]:
    return {"apiVersion": "apps/v1", "kind": kind, "name": name, "uid": f"uid-{name}", "controller": controller}


def meta(name: str, *, namespace: str = "default", created_s: float = 60, **more: Any) -> dict[str, Any]:
    base = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "resourceVersion": "1"}
    return {**base, "creationTimestamp": ago(created_s), **more}


def pod(
    name: str,
    *,
    ready_s: float | None = None,
    phase: str = "Running",
    node: str = "node-1",
    ip: str = "",
    metadata: dict[str, Any] | None = None,
    spec: dict[str, Any] | None = None,
    **status: Any,
) -> Pod:
    """`ready_s`: for how long it has been ready; None for a pod that is not."""
    ready = {"type": "Ready", "status": "False" if ready_s is None else "True", "lastTransitionTime": ago(ready_s or 0)}
    wire = {
        "metadata": meta(name, **{"labels": {"app": "web"}, **(metadata or {})}),
        "spec": {"nodeName": node, "containers": [{"name": "c"}], **(spec or {})},
        "status": {"phase": phase, "conditions": [ready], **({"podIP": ip} if ip else {}), **status},
    }
    return convert(Pod, wire)


def template(image: str = "nginx:1") -> dict[str, Any]:
    return {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web", "image": image}]}}


def replicaset(
    name: str,
    replicas: int,
    *,
    image: str = "nginx:1",
    ready: int | None = None,
    metadata: dict[str, Any] | None = None,
    **status: Any,
) -> ReplicaSet:
    """With all its pods there, `ready` of them ready and available (default: all)."""
    count = replicas if ready is None else ready
    own = {"ownerReferences": [owner("Deployment", "web")], "generation": 1}
    wire = {
        "metadata": meta(name, **{**own, **(metadata or {})}),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(image),
        },
        "status": {
            "replicas": replicas,
            "readyReplicas": count,
            "availableReplicas": count,
            "observedGeneration": 1,
            **status,
        },
    }
    return convert(ReplicaSet, wire)


def deployment(
    replicas: int,
    *,
    image: str = "nginx:1",
    surge: int | str = "25%",
    unavailable: int | str = "25%",
    strategy: str = "RollingUpdate",
    metadata: dict[str, Any] | None = None,
    status: dict[str, Any] | None = None,
    **spec: Any,
) -> Deployment:
    rolling = {"rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}} if strategy != "Recreate" else {}
    wire = {
        "metadata": meta("web", **{"generation": 2, **(metadata or {})}),
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "web"}},
            "template": template(image),
            "strategy": {"type": strategy, **rolling},
            "revisionHistoryLimit": 10,
            "progressDeadlineSeconds": 600,
            **spec,
        },
        "status": status or {},
    }
    return convert(Deployment, wire)


def service(name: str = "web", **spec: Any) -> Service:
    base = {"selector": {"app": "web"}, "clusterIP": "10.96.0.7", "ipFamilies": ["IPv4"], "type": "ClusterIP"}
    ports = [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]
    return convert(Service, {"metadata": meta(name), "spec": {**base, "ports": ports, **spec}})


def node(name: str, *, ready: str = "True", taints: Any = (), labels: Any = None, **spec: Any) -> Node:
    wire = {
        "metadata": {**meta(name, namespace=""), "labels": labels or {}},
        "spec": {"taints": list(taints), **spec},
        "status": {"conditions": [{"type": "Ready", "status": ready}] if ready else []},
    }
    return convert(Node, wire)
