"""Services and EndpointSlices for tests, written as on the wire and decoded as a client would."""

from __future__ import annotations

from typing import Any

import msgspec

from kubarium.machinery.objects import EndpointSlice, Service
from kubeproxy.plan import SERVICE_NAME_LABEL


def service(
    name: str = "web",
    *,
    ip: str = "10.96.0.10",
    namespace: str = "default",
    ports: list[dict[str, Any]] | None = None,
    **spec: Any,
) -> Service:
    """A Service; `ports` are wire-shaped, 80/TCP by default; `spec` are wire-shaped fields (camelCase)."""
    body = {
        "metadata": {"name": name, "namespace": namespace, "labels": spec.pop("labels", {})},
        "status": spec.pop("status", {}),
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ports": ports or [{"port": 80, "protocol": "TCP"}],
        }
        | spec,
    }
    return msgspec.convert(body, Service)


def endpoint(address: str, node: str = "node-1", **more: Any) -> dict[str, Any]:
    """A ready endpoint; `ready`, `serving`, `terminating` go to its conditions, the rest stands beside them."""
    conditions = {k: more.pop(k) for k in ("ready", "serving", "terminating") if k in more}
    return {"addresses": [address], "nodeName": node, "conditions": {"ready": True} | conditions} | more


def endpoint_slice(
    *endpoints: dict[str, Any] | str,
    service: str = "web",
    namespace: str = "default",
    name: str = "",
    ports: list[dict[str, Any]] | None = None,
    address_type: str = "IPv4",
) -> EndpointSlice:
    """A slice of `service`; a string stands for a ready endpoint on node-1; port 8080/TCP by default."""
    body = {
        "metadata": {
            "name": name or f"{service}-abcde",
            "namespace": namespace,
            "labels": {SERVICE_NAME_LABEL: service},
        },
        "addressType": address_type,
        "endpoints": [endpoint(e) if isinstance(e, str) else e for e in endpoints],
        "ports": ports or [{"name": "", "port": 8080, "protocol": "TCP"}],
    }
    return msgspec.convert(body, EndpointSlice)
