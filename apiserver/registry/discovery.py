"""EndpointSlices (group discovery.k8s.io)."""

from __future__ import annotations

import ipaddress

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, UNSET, field, more
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_immutable, check_meta, check_meta_update, creating, next_generation, updating
from apiserver.registry.ports import PROTOCOLS

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_MAX_ENDPOINTS, _MAX_ADDRESSES, _MAX_PORTS, _MAX_HINTS = 1000, 100, 20000, 8


def _default(obj: Object) -> None:
    for port in obj.get("ports") or ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def _prepare(obj: Object) -> None:
    obj["metadata"]["generation"] = 1


def _prepare_update(new: Object, old: Object) -> None:
    """Labels count as a change: they carry the Service's name."""
    next_generation(new, old, "endpoints", "ports", "addressType")
    before = old["metadata"].get("generation", 0)
    if (new["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
        new["metadata"]["generation"] = before + 1


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    kind = obj.get("addressType", "")
    if not kind:
        faults.required("addressType")
    elif kind not in _ADDRESS_TYPES:
        faults.unsupported("addressType", kind, _ADDRESS_TYPES)
    endpoints = obj.get("endpoints") or []
    if len(endpoints) > _MAX_ENDPOINTS:
        faults.too_many("endpoints", len(endpoints), _MAX_ENDPOINTS)
        return
    for i, endpoint in enumerate(endpoints):
        _check_endpoint(endpoint, kind, f"endpoints[{i}]", faults)
    _check_ports(obj.get("ports") or [], faults)


def _check_address(address: str, kind: str) -> list[str]:
    if kind == "FQDN":
        return names.dns1123_subdomain(address)
    faults = names.ip_address(address)
    if kind in ("IPv4", "IPv6"):
        if faults or ipaddress.ip_address(address).version != int(kind[3]):
            return [f"must be a valid {kind} address"]
        return names.endpoint_ip(address)
    return faults


def _check_endpoint(endpoint: Object, kind: str, path: str, faults: Faults) -> None:
    addresses = endpoint.get("addresses") or []
    if not addresses:
        faults.required(f"{path}.addresses", "must contain at least 1 address")
    elif len(addresses) > _MAX_ADDRESSES:
        faults.too_many(f"{path}.addresses", len(addresses), _MAX_ADDRESSES)
    for i, address in enumerate(addresses):
        faults.each(f"{path}.addresses[{i}]", address, _check_address(address, kind))
    if (node := endpoint.get("nodeName")) is not None:
        faults.each(f"{path}.nodeName", node, names.name_is_subdomain(node))
    if (hostname := endpoint.get("hostname")) is not None:
        faults.each(f"{path}.hostname", hostname, names.dns1123_label(hostname))
    zones = (endpoint.get("hints") or {}).get("forZones") or []
    if len(zones) > _MAX_HINTS:
        faults.too_many(f"{path}.hints.forZones", len(zones), _MAX_HINTS)


def _check_ports(ports: list[Object], faults: Faults) -> None:
    if len(ports) > _MAX_PORTS:
        faults.too_many("ports", len(ports), _MAX_PORTS)
        return
    seen = set()
    for i, port in enumerate(ports):
        path, name = f"ports[{i}]", port.get("name") or ""
        if name:
            faults.each(f"{path}.name", name, names.dns1123_label(name))
        if name in seen:
            faults.duplicate(f"{path}.name", name)
        seen.add(name)
        if (number := port.get("port")) is not None:
            faults.each(f"{path}.port", number, names.port_number(number))
        if not (protocol := port.get("protocol")):
            faults.required(f"{path}.protocol")
        elif protocol not in PROTOCOLS:
            faults.unsupported(f"{path}.protocol", protocol, PROTOCOLS)
        if (app := port.get("appProtocol")) is not None:
            faults.each(f"{path}.appProtocol", app, names.qualified_name(app))


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check(new, faults)
    check_immutable(new.get("addressType"), old.get("addressType"), "addressType", faults)


def _ports_cell(obj: Object, _now: float) -> str:
    """`80,443`: numbers where there are any, else names."""
    shown = [str(p["port"]) if p.get("port") is not None else (p.get("name") or "*") for p in obj.get("ports") or ()]
    return more(shown, len(shown), 3) if shown else UNSET


def _endpoints_cell(obj: Object, _now: float) -> str:
    shown = [a for endpoint in obj.get("endpoints") or () for a in endpoint.get("addresses") or ()]
    return more(shown, len(shown), 3) if shown else UNSET


ENDPOINTSLICES = ResourceDef(
    "discovery.k8s.io",
    "v1",
    "EndpointSlice",
    "endpointslices",
    "endpointslice",
    storage_version_hash="qgS0xkrxYAI=",
    columns=(
        NAME,
        Column("AddressType", "string", "@EndpointSlice.addressType", field("addressType")),
        Column("Ports", "string", "@EndpointSlice.ports", _ports_cell),
        Column("Endpoints", "string", "@EndpointSlice.endpoints", _endpoints_cell),
        AGE,
    ),
    strategy=Strategy(
        default=_default,
        prepare_create=_prepare,
        validate=creating(_check),
        prepare_update=_prepare_update,
        validate_update=updating(_check_update),
    ),
)
