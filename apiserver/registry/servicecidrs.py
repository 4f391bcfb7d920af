"""ServiceCIDRs and IPAddresses (group networking.k8s.io): the ranges of Services' addresses, and who has which.

Source: Kubernetes API reference; k8s.io/kubernetes/pkg/apis/networking/validation (order and texts); KEP-1880.
"""

from __future__ import annotations

from apiserver.registry import addresses, names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, NONE, at
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_immutable,
    check_meta,
    check_meta_update,
    creating,
    keep_generation,
    keep_status,
    status_alone,
    updating,
)
from apiserver.schemas import internal

GROUP = "networking.k8s.io"
_IMMUTABLE = "field is immutable"
_ONE_EACH = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64"


# --- ServiceCIDR


def _default_range(obj: Object) -> None:
    obj.setdefault("status", {})


def _prepare_range(obj: Object) -> None:
    obj["status"] = {}


def _check_cidrs(cidrs: list[str], spec: Object, faults: Faults) -> None:
    path = "spec.cidrs"
    if not cidrs:
        faults.required(path, "at least one CIDR required")
        return
    if len(cidrs) > 2:
        faults.invalid(path, internal.shown("networking.v1.ServiceCIDRSpec", spec), "may only hold up to 2 values")
        return
    for i, text in enumerate(cidrs):
        faults.each(f"{path}[{i}]", text, addresses.strict_cidr(text))
    parsed = [found for text in cidrs if (found := addresses.parse_cidr(text))]
    if len(cidrs) == len(parsed) == 2 and parsed[0][1].version == parsed[1][1].version:
        faults.invalid(path, cidrs, _ONE_EACH)


def _check_range(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    _check_cidrs(at(obj, "spec.cidrs", []), obj.get("spec") or {}, faults)


def _check_range_update(new: Object, old: Object, faults: Faults) -> None:
    """What is there stays; one of the other family may be added."""
    check_meta_update(new, old, faults)
    cidrs, was = at(new, "spec.cidrs", []), at(old, "spec.cidrs", [])
    if len(cidrs) != len(was) and (len(was), len(cidrs)) != (1, 2):
        faults.invalid("spec.cidrs", cidrs or None, _IMMUTABLE)
        return
    for i, text in enumerate(was):
        check_immutable(cidrs[i], text, f"spec.cidrs[{i}]", faults)
    if len(cidrs) > len(was):
        _check_cidrs(cidrs, new["spec"], faults)


SERVICECIDRS = ResourceDef(
    GROUP,
    "v1",
    "ServiceCIDR",
    "servicecidrs",
    "servicecidr",
    namespaced=False,
    subresources=("status",),
    storage_version_hash="gNLvruQhW2g=",
    columns=(
        NAME,
        Column("CIDRs", "string", "@ServiceCIDRSpec.cidrs", lambda o, _: ",".join(at(o, "spec.cidrs", []))),
        AGE,
    ),
    strategy=Strategy(
        default=_default_range,
        prepare_create=_prepare_range,
        validate=creating(_check_range),
        prepare_update=keep_status,
        validate_update=updating(_check_range_update, namespaced=False),
        prepare_status_update=status_alone,
        validate_status_update=updating(check_meta_update, namespaced=False),
    ),
)


# --- IPAddress


def _name_is_ip(name: str, _prefix: bool = False) -> list[str]:
    return addresses.strict_ip(name)


def _check_address(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, _name_is_ip, faults)
    parent, path = at(obj, "spec.parentRef", None), "spec.parentRef"
    if parent is None:
        faults.required(path)
        return
    if group := parent.get("group"):
        faults.each(f"{path}.group", group, names.dns1123_subdomain(group))
    for key in ("resource", "name"):
        if value := parent.get(key):
            faults.each(f"{path}.{key}", value, names.path_segment_name(value))
        else:
            faults.required(f"{path}.{key}")
    if namespace := parent.get("namespace"):
        faults.each(f"{path}.namespace", namespace, names.path_segment_name(namespace))


def _check_address_update(new: Object, old: Object, faults: Faults) -> None:
    _check_address(new, faults)
    check_meta_update(new, old, faults)
    parent = at(new, "spec.parentRef", None)
    if parent != at(old, "spec.parentRef", None):
        faults.invalid("spec.parentRef", internal.shown("*networking.v1.ParentReference", parent), _IMMUTABLE)


def _parent_cell(obj: Object, _now: float) -> str:
    """`services/default/web`."""
    parent = at(obj, "spec.parentRef", None)
    if parent is None:
        return NONE
    resource = ".".join(filter(None, (parent.get("resource", ""), parent.get("group", "")))).lower()
    return "/".join(filter(None, (resource, parent.get("namespace"), parent.get("name", ""))))


IPADDRESSES = ResourceDef(
    GROUP,
    "v1",
    "IPAddress",
    "ipaddresses",
    "ipaddress",
    namespaced=False,
    short_names=("ip",),
    storage_version_hash="3f/plJFChNE=",
    columns=(NAME, Column("ParentRef", "string", "@IPAddressSpec.parentRef", _parent_cell)),
    strategy=Strategy(
        validate=creating(_check_address),
        prepare_update=keep_generation,
        validate_update=updating(_check_address_update, namespaced=False),
    ),
)
