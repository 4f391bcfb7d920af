"""EndpointSlices (group discovery.k8s.io)."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from apiserver.registry import addresses, names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, UNSET, at, field, more
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_immutable,
    check_labels,
    check_meta,
    creating,
    next_generation,
    updating,
)
from apiserver.registry.ports import PROTOCOLS

_ADDRESS_TYPES = ("FQDN", "IPv4", "IPv6")
_MAX_ENDPOINTS, _MAX_ADDRESSES, _MAX_PORTS, _MAX_HINTS, _MAX_TOPOLOGY = 1000, 100, 20000, 8, 16
_HOSTNAME = "kubernetes.io/hostname"
_MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
_CONTROLLERS = ("endpointslice-controller.k8s.io", "endpointslicemirroring-controller.k8s.io")


def _default(obj: Object) -> None:
    for port in obj.get("ports") or ():
        port.setdefault("name", "")
        port.setdefault("protocol", "TCP")


def _prepare(obj: Object) -> None:
    obj["metadata"]["generation"] = 1
    _drop_topology(obj, {})


def _prepare_update(new: Object, old: Object) -> None:
    """Labels count as a change: they carry the Service's name."""
    next_generation(new, old, "endpoints", "ports", "addressType")
    before = old["metadata"].get("generation", 0)
    if (new["metadata"].get("labels") or {}) != (old["metadata"].get("labels") or {}):
        new["metadata"]["generation"] = before + 1
    if new.get("endpoints") != old.get("endpoints"):
        _drop_topology(new, old)


def _drop_topology(new: Object, old: Object) -> None:
    """The old place of a node's name: what stood there before moves to the new one, nothing new is written."""
    known = {at(endpoint, "deprecatedTopology", {}).get(_HOSTNAME) for endpoint in old.get("endpoints") or ()}
    for endpoint in new.get("endpoints") or ():
        name = (endpoint.pop("deprecatedTopology", None) or {}).get(_HOSTNAME)
        if name and endpoint.get("nodeName") is None and name in known and not names.name_is_subdomain(name):
            endpoint["nodeName"] = name


# --- validation


def _check(obj: Object, faults: Faults) -> None:
    _check_head(obj, faults)
    _check_endpoints(obj, faults)


def _check_head(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    if not (kind := obj.get("addressType")):
        faults.required("addressType")
    elif kind not in _ADDRESS_TYPES:
        faults.unsupported("addressType", kind, _ADDRESS_TYPES)
    _check_ports(obj.get("ports") or [], faults)


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
        if (protocol := port.get("protocol")) not in PROTOCOLS:
            faults.unsupported(f"{path}.protocol", protocol, PROTOCOLS)
        if (app := port.get("appProtocol")) is not None:
            faults.each(f"{path}.appProtocol", app, names.qualified_name(app))


def _check_endpoints(obj: Object, faults: Faults) -> None:
    endpoints = obj.get("endpoints") or []
    if len(endpoints) > _MAX_ENDPOINTS:
        faults.too_many("endpoints", len(endpoints), _MAX_ENDPOINTS)
        return
    for i, endpoint in enumerate(endpoints):
        _check_endpoint(endpoint, obj.get("addressType", ""), f"endpoints[{i}]", faults)


def _check_endpoint(endpoint: Object, kind: str, path: str, faults: Faults) -> None:
    found, where = endpoint.get("addresses") or [], f"{path}.addresses"
    if not found:
        faults.required(where, "must contain at least 1 address")
    elif len(found) > _MAX_ADDRESSES:
        faults.too_many(where, len(found), _MAX_ADDRESSES)
    for i, address in enumerate(found):
        _check_address(address, kind, where, i, faults)
    if (node := endpoint.get("nodeName")) is not None:
        faults.each(f"{path}.nodeName", node, names.name_is_subdomain(node))
    topology = endpoint.get("deprecatedTopology") or {}
    if len(topology) > _MAX_TOPOLOGY:
        faults.too_many(f"{path}.deprecatedTopology", len(topology), _MAX_TOPOLOGY)
    check_labels(topology, f"{path}.deprecatedTopology", faults)
    if (hostname := endpoint.get("hostname")) is not None:
        faults.each(f"{path}.hostname", hostname, names.dns1123_label(hostname))
    hints = endpoint.get("hints") or {}
    if _check_hints(hints.get("forZones") or [], f"{path}.hints.forZones", names.label_value, faults):
        _check_hints(hints.get("forNodes") or [], f"{path}.hints.forNodes", names.name_is_subdomain, faults)


def _check_address(address: str, kind: str, path: str, index: int, faults: Faults) -> None:
    """Addresses of a kind that nobody knows are not looked at."""
    where = f"{path}[{index}]"
    if kind == "FQDN":
        _check_domain(address, where, faults)
        return
    if kind not in ("IPv4", "IPv6"):
        return
    if wrong := addresses.legacy_ip(address) if kind == "IPv4" else addresses.strict_ip(address):
        faults.each(where, address, wrong)
        return
    ip = addresses.parse_ip(address)
    if ip is not None and ip.version != int(kind[3]):
        faults.invalid(path, address, f"must be an {kind} address")
    faults.each(where, address, addresses.endpoint_ip(address))


def _check_domain(name: str, path: str, faults: Faults) -> None:
    """A fully qualified domain name; a dot at the end is allowed."""
    if not name:
        faults.required(path)
        return
    name = name.removesuffix(".")
    if wrong := names.dns1123_subdomain(name):
        faults.invalid(path, name, ",".join(wrong))
    elif "." not in name:
        faults.invalid(path, name, "should be a domain with at least two segments separated by dots")
    elif bad := next((label for label in name.split(".") if names.dns1123_label(label)), ""):
        faults.invalid(path, bad, ",".join(names.dns1123_label(bad)))


def _check_hints(hints: list[Object], path: str, check: Callable[[str], Iterable[str]], faults: Faults) -> bool:
    """Of names that each stand there once; False where there are too many to look at."""
    if len(hints) > _MAX_HINTS:
        faults.too_many(path, len(hints), _MAX_HINTS)
        return False
    seen = set()
    for i, hint in enumerate(hints):
        name = hint.get("name", "")
        if name in seen:
            faults.duplicate(f"{path}[{i}].name", name)
        seen.add(name)
        faults.each(f"{path}[{i}].name", name, check(name))
    return True


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    """What is there already stays, valid or not."""
    _check_head(new, faults)
    if new.get("endpoints") != old.get("endpoints"):
        _check_endpoints(new, faults)
    check_immutable(new.get("addressType"), old.get("addressType"), "addressType", faults)


def _warnings(new: Object, old: Object | None) -> list[str]:
    found = []
    if old is None and new.get("addressType") == "FQDN":
        found.append("spec.addressType: FQDN endpoints are deprecated")
    if at(new, "metadata.labels", {}).get(_MANAGED_BY) not in _CONTROLLERS:
        for i, endpoint in enumerate(new.get("endpoints") or ()):
            for j, address in enumerate(endpoint.get("addresses") or ()):
                found += addresses.ip_warnings(address, f"endpoints[{i}].addresses[{j}]")
    return found


# --- columns


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
        warnings=_warnings,
    ),
)
