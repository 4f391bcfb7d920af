"""What EndpointSlices and Endpoints alike say of a Service: the pods behind it, at which ports, in which state. Pure.

Source: https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from kubarium.controllers import pods as podutil
from kubarium.machinery.objects import Pod, Service, ServicePort
from kubarium.machinery.selectors import matches_map


@dataclass(frozen=True, slots=True, order=True)
class Port:
    """A port of an endpoint; `port` is the pod's own."""

    name: str
    protocol: str
    port: int
    app_protocol: str = ""

    def wire(self) -> dict[str, Any]:
        wire = {"name": self.name, "protocol": self.protocol, "port": self.port}
        return {**wire, "appProtocol": self.app_protocol} if self.app_protocol else wire


@dataclass(frozen=True, slots=True)
class Backend:
    """One address of one pod behind a Service."""

    address: str
    ports: tuple[Port, ...]
    ready: bool
    serving: bool
    terminating: bool
    node_name: str
    hostname: str
    namespace: str
    pod_name: str
    pod_uid: str

    def target(self) -> dict[str, str]:
        return {"kind": "Pod", "namespace": self.namespace, "name": self.pod_name, "uid": self.pod_uid}


def is_headless(service: Service) -> bool:
    return service.spec.cluster_ip == "None"


def has_endpoints_made(service: Service) -> bool:
    """Whether the controllers make its endpoints: not without a selector (made by hand), nor for a mere alias."""
    return bool(service.spec.selector) and service.spec.type != "ExternalName"


def plan_backends(service: Service, pods: Iterable[Pod], *, family: int = 4) -> list[Backend]:
    """The backends among the pods of the Service's namespace, in the order of their addresses' text."""
    found = (
        _backend(service, pod, address)
        for pod in pods
        if matches_map(service.spec.selector, pod.metadata.labels) and not podutil.is_terminal(pod)
        for address in addresses(pod, family)[:1]
    )
    return sorted(found, key=lambda backend: (backend.address, backend.pod_uid))


def addresses(pod: Pod, family: int) -> list[str]:
    ips = [entry.ip for entry in pod.status.pod_ips] or ([pod.status.pod_ip] if pod.status.pod_ip else [])
    return [ip for ip in ips if (":" in ip) == (family == 6)]


def _backend(service: Service, pod: Pod, address: str) -> Backend:
    terminating = bool(pod.metadata.deletion_timestamp)
    serving = podutil.is_ready(pod)
    named = pod.spec.hostname and pod.spec.subdomain == service.metadata.name
    return Backend(
        address=address,
        ports=_ports(service, pod),
        ready=service.spec.publish_not_ready_addresses or (serving and not terminating),
        serving=serving,
        terminating=terminating,
        node_name=pod.spec.node_name,
        hostname=pod.spec.hostname if named else "",
        namespace=pod.metadata.namespace,
        pod_name=pod.metadata.name,
        pod_uid=pod.metadata.uid,
    )


def _ports(service: Service, pod: Pod) -> tuple[Port, ...]:
    """The Service's ports as this pod has them; a named target port that the pod lacks is left out."""
    found = []
    for port in service.spec.ports:
        number = _target(port, pod)
        if number is not None:
            found.append(Port(port.name, port.protocol or "TCP", number, port.app_protocol))
    return tuple(sorted(found))


def _target(port: ServicePort, pod: Pod) -> int | None:
    if isinstance(port.target_port, int):
        return port.target_port or port.port
    sidecars = (container for container in pod.spec.init_containers if container.restart_policy == "Always")
    for container in (*pod.spec.containers, *sidecars):
        for candidate in container.ports:
            if candidate.name == port.target_port and (candidate.protocol or "TCP") == (port.protocol or "TCP"):
                return candidate.container_port
    return None


def by_ports(backends: Iterable[Backend]) -> dict[tuple[Port, ...], list[Backend]]:
    """Backends that share all port numbers, together: a slice (or subset) has one list of ports."""
    groups: dict[tuple[Port, ...], list[Backend]] = {}
    for backend in backends:
        groups.setdefault(backend.ports, []).append(backend)
    return groups


def distinct_addresses(backends: Iterable[Backend]) -> list[Backend]:
    """One backend an address: while a host-network pod replaces another both have the node's; the ready one counts."""
    backends = list(backends)
    if max(Counter(backend.address for backend in backends).values(), default=0) <= 1:
        return backends
    best: dict[str, Backend] = {}
    for backend in sorted(backends, key=lambda b: (not b.ready, b.terminating, b.pod_uid)):
        best.setdefault(backend.address, backend)
    return sorted(best.values(), key=lambda b: b.address)
