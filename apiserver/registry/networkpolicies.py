"""NetworkPolicies (group networking.k8s.io).

Source: Kubernetes API reference, NetworkPolicy v1; k8s.io/kubernetes/pkg/apis/networking/validation (order and texts).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from apiserver.registry import addresses, labels, names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, NONE, at
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_meta,
    check_meta_update,
    counting,
    creating,
    first_generation,
    updating,
)

_PROTOCOLS = ("TCP", "UDP", "SCTP")
_TYPES = ("Ingress", "Egress")
_SIDES = (("ingress", "from"), ("egress", "to"))


def _default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    if not spec.get("policyTypes"):
        spec["policyTypes"] = ["Ingress", "Egress"] if spec.get("egress") else ["Ingress"]
    for side, _ in _SIDES:
        for rule in spec.get(side) or ():
            for port in rule.get("ports") or ():
                if port.get("protocol") is None:
                    port["protocol"] = "TCP"


def _blocks(spec: Object) -> Iterator[tuple[str, Object]]:
    """Every ipBlock with its path."""
    for side, key in _SIDES:
        for i, rule in enumerate(spec.get(side) or ()):
            for j, peer in enumerate(rule.get(key) or ()):
                if (block := peer.get("ipBlock")) is not None:
                    yield f"spec.{side}[{i}].{key}[{j}].ipBlock", block


def _check_port(port: Object, path: str, faults: Faults) -> None:
    protocol, number, end = port.get("protocol"), port.get("port"), port.get("endPort")
    if protocol is not None and protocol not in _PROTOCOLS:
        faults.unsupported(f"{path}.protocol", protocol, _PROTOCOLS)
    if number is None:
        if end is not None:
            faults.invalid(f"{path}.endPort", end, "may not be specified when `port` is not specified")
    elif isinstance(number, str):
        if end is not None:
            faults.invalid(f"{path}.endPort", end, "may not be specified when `port` is non-numeric")
        faults.each(f"{path}.port", number, names.port_name(number))
    else:
        faults.each(f"{path}.port", number, names.port_number(number))
        if end is None:
            return
        if end < number:
            faults.invalid(f"{path}.endPort", number, "must be greater than or equal to `port`")
        faults.each(f"{path}.endPort", end, names.port_number(end))


def _check_peer(peer: Object, path: str, known: Collection[str], faults: Faults) -> None:
    selectors = [key for key in ("podSelector", "namespaceSelector") if peer.get(key) is not None]
    for key in selectors:
        labels.check_selector(peer[key], f"{path}.{key}", faults)
    if (block := peer.get("ipBlock")) is not None:
        _check_block(block, f"{path}.ipBlock", known, faults)
        if selectors:
            faults.forbidden(path, "may not specify both ipBlock and another peer")
    elif not selectors:
        faults.required(path, "must specify a peer")


def _check_block(block: Object, path: str, known: Collection[str], faults: Faults) -> None:
    """`known`: CIDRs that the policy already has; they stay allowed, whatever the rules are by now."""
    if not (cidr := block.get("cidr")):
        faults.required(f"{path}.cidr")
        return
    if cidr not in known:
        faults.each(f"{path}.cidr", cidr, addresses.legacy_cidr(cidr))
    if (whole := addresses.parse_cidr(cidr)) is None:
        return
    for i, text in enumerate(block.get("except") or ()):
        if text not in known:
            faults.each(f"{path}.except[{i}]", text, addresses.legacy_cidr(text))
        part = addresses.parse_cidr(text)
        if part is not None and not _is_strict_subset(part[1], whole[1]):
            faults.invalid(f"{path}.except[{i}]", text, "must be a strict subset of `cidr`")


def _is_strict_subset(part: addresses.Network, whole: addresses.Network) -> bool:
    return part.prefixlen > whole.prefixlen and part.network_address in whole


def _check_spec(spec: Object, known: Collection[str], faults: Faults) -> None:
    labels.check_selector(spec.get("podSelector") or {}, "spec.podSelector", faults)
    for side, key in _SIDES:
        for i, rule in enumerate(spec.get(side) or ()):
            for j, port in enumerate(rule.get("ports") or ()):
                _check_port(port, f"spec.{side}[{i}].ports[{j}]", faults)
            for j, peer in enumerate(rule.get(key) or ()):
                _check_peer(peer, f"spec.{side}[{i}].{key}[{j}]", known, faults)
    types = spec.get("policyTypes") or []
    if len(types) > len(_TYPES):
        faults.invalid("spec.policyTypes", types, "may not specify more than two policyTypes")
        return
    for i, kind in enumerate(types):
        if kind not in _TYPES:
            faults.unsupported(f"spec.policyTypes[{i}]", kind, _TYPES)


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    _check_spec(obj.get("spec") or {}, (), faults)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    blocks = [block for _, block in _blocks(old.get("spec") or {})]
    known = {text for block in blocks for text in (block.get("cidr", ""), *(block.get("except") or ()))}
    _check_spec(new.get("spec") or {}, known, faults)


def _warnings(new: Object, _old: Object | None) -> list[str]:
    found: list[str] = []
    for path, block in _blocks(new.get("spec") or {}):
        found += addresses.cidr_warnings(block.get("cidr", ""), f"{path}.cidr")
        for i, text in enumerate(block.get("except") or ()):
            found += addresses.cidr_warnings(text, f"{path}.except[{i}]")
    return found


def _selector_cell(obj: Object, _now: float) -> str:
    return labels.to_text(at(obj, "spec.podSelector", {})) or NONE


NETWORKPOLICIES = ResourceDef(
    "networking.k8s.io",
    "v1",
    "NetworkPolicy",
    "networkpolicies",
    "networkpolicy",
    short_names=("netpol",),
    storage_version_hash="YpfwF18m1G8=",
    columns=(NAME, Column("Pod-Selector", "string", "@NetworkPolicySpec.podSelector", _selector_cell), AGE),
    strategy=Strategy(
        default=_default,
        prepare_create=first_generation,
        validate=creating(_check),
        prepare_update=counting("spec"),
        validate_update=updating(_check_update),
        warnings=_warnings,
    ),
)
