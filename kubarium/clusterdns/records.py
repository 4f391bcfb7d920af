"""Which records a Service has. Pure. Source: Kubernetes DNS-Based Service Discovery, specification 1.1.0."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kubarium.clusterdns import wire
from kubarium.clusterdns.wire import Name
from kubarium.machinery.objects import Endpoint, EndpointPort, EndpointSlice, Service

Records = Mapping[Name, Mapping[int, frozenset[bytes]]]
"""Name -> type -> data of the records."""


class Builder:
    """Collects records."""

    def __init__(self) -> None:
        self._records: dict[Name, dict[int, set[bytes]]] = {}

    def add(self, name: Name, kind: int, data: bytes) -> None:
        self._records.setdefault(name, {}).setdefault(kind, set()).add(data)

    def done(self) -> Records:
        return {name: {kind: frozenset(data) for kind, data in kinds.items()} for name, kinds in self._records.items()}


def service_records(service: Service, slices: Iterable[EndpointSlice], domain: str) -> Records:
    """A and AAAA, SRV and PTR of a Service; CNAME of an alias; for a headless one those of its endpoints.

    `slices` are all EndpointSlices that name the Service, whoever made them.
    """
    out = Builder()
    base = f"{service.metadata.name}.{service.metadata.namespace}.svc.{domain}"
    if service.spec.type == "ExternalName":
        if service.spec.external_name:
            out.add(wire.encode_name(base), wire.CNAME, wire.encode_name(service.spec.external_name))
    elif service.spec.cluster_ip == "None":
        for each in slices:
            _headless(out, base, each)
    else:
        _cluster_ips(out, base, service)
    return out.done()


def _cluster_ips(out: Builder, base: str, service: Service) -> None:
    name = wire.encode_name(base)
    ips = service.spec.cluster_ips or ((service.spec.cluster_ip,) if service.spec.cluster_ip else ())
    for ip in ips:
        out.add(name, *wire.address(ip))
        out.add(wire.reverse_name(ip), wire.PTR, name)
    for port in service.spec.ports if ips else ():
        _srv(out, base, port.name, port.protocol, port.port, name)


def _headless(out: Builder, base: str, each: EndpointSlice) -> None:
    if each.address_type == "FQDN":
        return
    name = wire.encode_name(base)
    for endpoint in each.endpoints:
        if endpoint.conditions.ready is False or not endpoint.addresses:
            continue
        own = wire.encode_name(f"{endpoint_label(endpoint)}.{base}")
        for ip in endpoint.addresses[:1]:
            out.add(name, *wire.address(ip))
            out.add(own, *wire.address(ip))
            out.add(wire.reverse_name(ip), wire.PTR, own)
        for port in each.ports:
            _endpoint_srv(out, base, port, own)


def _endpoint_srv(out: Builder, base: str, port: EndpointPort, own: Name) -> None:
    if port.port is not None:
        _srv(out, base, port.name, port.protocol, port.port, own)


def _srv(out: Builder, base: str, port: str, protocol: str, number: int, target: Name) -> None:
    """Under the port's own name if it has one, and under the Service's for all."""
    data = wire.srv(number, target)
    if port:
        out.add(wire.encode_name(f"_{port}._{(protocol or 'TCP').lower()}.{base}"), wire.SRV, data)
    out.add(wire.encode_name(base), wire.SRV, data)


def endpoint_label(endpoint: Endpoint) -> str:
    """The pod's hostname, or its address with dashes."""
    return endpoint.hostname or endpoint.addresses[0].replace(".", "-").replace(":", "-")
