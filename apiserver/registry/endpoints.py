"""Endpoints.

Source: k8s.io/kubernetes/pkg/registry/core/endpoint and pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

from apiserver.registry import addresses, names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, more
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_meta, check_meta_update, creating, keep_generation, updating
from apiserver.registry.ports import PROTOCOLS

_MANAGED_BY, _CONTROLLER = "endpoints.kubernetes.io/managed-by", "endpoint-controller"
_ADDRESSES = ("addresses", "notReadyAddresses")


def _default(obj: Object) -> None:
    for subset in obj.get("subsets") or ():
        for port in subset.get("ports") or ():
            port.setdefault("protocol", "TCP")


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    _check_subsets(obj, faults)


def _check_subsets(obj: Object, faults: Faults) -> None:
    for i, subset in enumerate(obj.get("subsets") or ()):
        _check_subset(subset, f"subsets[{i}]", faults)


def _check_subset(subset: Object, path: str, faults: Faults) -> None:
    if not subset.get("addresses") and not subset.get("notReadyAddresses"):
        faults.required(path, "must specify `addresses` or `notReadyAddresses`")
    for kind in _ADDRESSES:
        for i, address in enumerate(subset.get(kind) or ()):
            _check_address(address, f"{path}.{kind}[{i}]", faults)
    ports = subset.get("ports") or []
    for i, port in enumerate(ports):
        _check_port(port, f"{path}.ports[{i}]", len(ports) > 1, faults)


def _check_address(address: Object, path: str, faults: Faults) -> None:
    ip = address.get("ip", "")
    faults.each(f"{path}.ip", ip, addresses.legacy_ip(ip))
    if hostname := address.get("hostname"):
        faults.each(f"{path}.hostname", hostname, names.dns1123_label(hostname))
    if (node := address.get("nodeName")) is not None:
        faults.each(f"{path}.nodeName", node, names.name_is_subdomain(node))
    faults.each(f"{path}.ip", ip, addresses.endpoint_ip(ip))


def _check_port(port: Object, path: str, name_needed: bool, faults: Faults) -> None:
    if name := port.get("name"):
        faults.each(f"{path}.name", name, names.dns1123_label(name))
    elif name_needed:
        faults.required(f"{path}.name")
    faults.each(f"{path}.port", port.get("port", 0), names.port_number(port.get("port", 0)))
    if not (protocol := port.get("protocol")):
        faults.required(f"{path}.protocol")
    elif protocol not in PROTOCOLS:
        faults.unsupported(f"{path}.protocol", protocol, PROTOCOLS)
    if (app := port.get("appProtocol")) is not None:
        faults.each(f"{path}.appProtocol", app, names.qualified_name(app))


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    """What is there already stays, valid or not."""
    check_meta_update(new, old, faults)
    check_meta(new, True, names.name_is_subdomain, faults)
    if new.get("subsets") != old.get("subsets"):
        _check_subsets(new, faults)


def _warnings(new: Object, _old: Object | None) -> list[str]:
    if (new["metadata"].get("labels") or {}).get(_MANAGED_BY) == _CONTROLLER:
        return []
    return [
        text
        for i, subset in enumerate(new.get("subsets") or ())
        for kind in _ADDRESSES
        for j, address in enumerate(subset.get(kind) or ())
        for text in addresses.ip_warnings(address.get("ip", ""), f"subsets[{i}].{kind}[{j}].ip")
    ]


def _cell(obj: Object, _now: float) -> str:
    """`10.1.2.3:80,10.1.2.4:80 + 2 more...`: the addresses that are ready, three at most."""
    shown: list[str] = []
    for subset in obj.get("subsets") or ():
        ips = [a.get("ip", "") for a in subset.get("addresses") or ()]
        ports = subset.get("ports")
        shown += ips if not ports else [_host_port(ip, p.get("port", 0)) for p in ports for ip in ips]
    return more(shown, len(shown), 3)


def _host_port(ip: str, port: int) -> str:
    return f"[{ip}]:{port}" if ":" in ip else f"{ip}:{port}"


ENDPOINTS = ResourceDef(
    "",
    "v1",
    "Endpoints",
    "endpoints",
    "endpoints",
    short_names=("ep",),
    storage_version_hash="fWeeMqaN/OA=",
    deprecation="v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice",
    columns=(NAME, Column("Endpoints", "string", "@Endpoints.subsets", _cell), AGE),
    strategy=Strategy(
        default=_default,
        validate=creating(_check),
        prepare_update=keep_generation,
        validate_update=updating(_check_update),
        warnings=_warnings,
        allow_create_on_update=True,
    ),
)
