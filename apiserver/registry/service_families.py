"""What a Service's clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy mean together, before anything is given out.

Clients set some of these fields and leave others; here they are brought into agreement with one another, with the
Service as it was, and with the families that the cluster has. Pure; the Service is changed in place.
Source: KEP-563 (dual stack); k8s.io/kubernetes/pkg/registry/core/service/storage (normalizeClusterIPs,
patchAllocatedValues, initIPFamilyFields) and pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

from collections.abc import Sequence

from apiserver.registry import addresses
from apiserver.registry.base import Object
from apiserver.registry.cells import at
from apiserver.registry.faults import Faults

NONE = "None"
SINGLE, PREFER, REQUIRE = "SingleStack", "PreferDualStack", "RequireDualStack"
FAMILIES = ("IPv4", "IPv6")
POLICIES = (PREFER, REQUIRE, SINGLE)
_WITH_ADDRESS = ("ClusterIP", "NodePort", "LoadBalancer")
_POLICY = "spec.ipFamilyPolicy"


def needs_cluster_ip(service: Object) -> bool:
    return bool(at(service, "spec.type") != "ExternalName")


def needs_node_port(service: Object) -> bool:
    return at(service, "spec.type") in ("NodePort", "LoadBalancer")


def needs_health_port(service: Object) -> bool:
    return bool(at(service, "spec.type") == "LoadBalancer" and at(service, "spec.externalTrafficPolicy") == "Local")


def is_headless(service: Object) -> bool:
    return bool(at(service, "spec.clusterIPs", []) == [NONE])


def family_of(address: str) -> str:
    parsed = addresses.parse_ip(address)
    return f"IPv{parsed.version}" if parsed else "unknown"


def settle(service: Object, old: Object | None, configured: Sequence[str]) -> Faults:
    """`configured`: the families of the cluster's ranges, the default one first. The faults are all that is wrong."""
    if old is not None:
        _keep_allocated(service, old)
    _normalize(service["spec"], (old or {}).get("spec"))
    faults = Faults()
    if needs_cluster_ip(service) and not _same_preference(service, old):
        _settle_families(service, old, configured, faults)
    return faults


def _keep_allocated(service: Object, old: Object) -> None:
    """Values that were given out stay where the client does not repeat them."""
    spec, was = service["spec"], old.get("spec") or {}
    if needs_cluster_ip(old) and needs_cluster_ip(service):
        for key in ("clusterIP", "clusterIPs"):
            if not spec.get(key) and was.get(key):
                spec[key] = was[key]
    if needs_node_port(old) and needs_node_port(service):
        _keep_node_ports(spec.get("ports") or [], was.get("ports") or [])
    key = "healthCheckNodePort"
    if needs_health_port(old) and needs_health_port(service) and not spec.get(key) and was.get(key):
        spec[key] = was[key]


def _keep_node_ports(ports: list[Object], old: list[Object]) -> None:
    named = {port.get("nodePort") for port in ports}
    before = {port.get("name", ""): port.get("nodePort") for port in old}
    for port in ports:
        number = before.get(port.get("name", ""))
        if not port.get("nodePort") and number and number not in named:
            port["nodePort"] = number


def _normalize(spec: Object, was: Object | None) -> None:
    """Who sets only clusterIP means clusterIPs, too."""
    ip, ips = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    if was is None:
        if ip and not ips:
            spec["clusterIPs"] = [ip]
        return
    old_ip, old_ips = was.get("clusterIP", ""), was.get("clusterIPs") or []
    if old_ips and not ips and ip == old_ip:
        ips = spec["clusterIPs"] = list(old_ips)
    if ip != old_ip and ips == old_ips:
        if ip:
            spec["clusterIPs"] = [ip]
        else:
            spec.pop("clusterIPs", None)


def _same_preference(service: Object, old: Object | None) -> bool:
    """A Service that prefers two families, and says nothing new about them, is left as it is."""
    if old is None:
        return False
    spec, was = service["spec"], old.get("spec") or {}
    return (
        spec.get("type") == was.get("type")
        and spec.get("type") in _WITH_ADDRESS
        and spec.get("ipFamilyPolicy") == PREFER
        and was.get("ipFamilyPolicy") in (PREFER, None)
        and all((spec.get(key) or []) == (was.get(key) or []) for key in ("clusterIPs", "ipFamilies"))
    )


def _settle_families(service: Object, old: Object | None, configured: Sequence[str], faults: Faults) -> None:
    spec, was = service["spec"], (old or {}).get("spec") or {}
    bare = spec.get("clusterIP") == NONE and not spec.get("selector")
    if spec.get("ipFamilyPolicy") is None:
        spec["ipFamilyPolicy"] = was.get("ipFamilyPolicy") or (REQUIRE if bare else SINGLE)
    check_related(service, old, faults)
    if faults:
        return
    if old is not None:
        _reduce(spec, was, faults)
    _check_single(spec, faults)
    families = spec["ipFamilies"] = list(spec.get("ipFamilies") or [])
    _infer(spec, families, configured, faults)
    if faults:
        return
    if bare:  # no address is needed, so any family will do
        families[:] = families or [configured[0]]
        if len(families) < 2 and spec["ipFamilyPolicy"] != SINGLE:
            families.append("IPv6" if families[0] == "IPv4" else "IPv4")
        return
    if spec["ipFamilyPolicy"] == REQUIRE and len(configured) < 2:
        faults.invalid(_POLICY, REQUIRE, "this cluster is not configured for dual-stack services")
    for i, family in enumerate(families):
        if family not in configured:
            faults.invalid(f"spec.ipFamilies[{i}]", family, "not configured on this cluster")
    if faults:
        return
    families[:] = families or [configured[0]]
    if spec["ipFamilyPolicy"] != SINGLE and len(families) == 1 and len(configured) == 2:
        families.append("IPv6" if families[0] == "IPv4" else "IPv4")


def _reduce(spec: Object, was: Object, faults: Faults) -> None:
    """SingleStack gives the second family back; any other policy does not."""
    for key, what in (("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")):
        now, before = spec.get(key) or [], was.get(key) or []
        if spec["ipFamilyPolicy"] == SINGLE:
            if now == before and len(now) > 1:
                spec[key] = now[:1]
        elif now and len(now) < len(before):
            faults.invalid(_POLICY, spec["ipFamilyPolicy"], f"must be 'SingleStack' to release the secondary {what}")


def _check_single(spec: Object, faults: Faults) -> None:
    for key, what in (("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")):
        if spec["ipFamilyPolicy"] == SINGLE and len(spec.get(key) or ()) == 2:
            text = f"must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
            faults.invalid(_POLICY, SINGLE, text)


def _infer(spec: Object, families: list[str], configured: Sequence[str], faults: Faults) -> None:
    """Families out of the addresses that are named."""
    ips = spec.get("clusterIPs") or []
    for i, ip in enumerate(ips):
        if ip == NONE:
            break
        if i < len(families):
            continue
        family = family_of(ip)
        if family in configured:
            families.append(family)
        else:
            faults.invalid(f"spec.clusterIPs[{i}]", ips, f"{family} is not configured on this cluster")


def check_related(service: Object, old: Object | None, faults: Faults) -> None:
    """The four fields, each for itself and with one another."""
    if not needs_cluster_ip(service):
        return
    spec, known = service.get("spec") or {}, at(old or {}, "spec.clusterIPs", [])
    ips, ip, families = spec.get("clusterIPs") or [], spec.get("clusterIP", ""), spec.get("ipFamilies") or []
    if ip and not ips:
        faults.required("spec.clusterIPs")
    elif ip and ips[0] != ip:
        faults.invalid("spec.clusterIPs", ips, "first value must match `clusterIP`")
    elif ips and not ip:
        faults.invalid("spec.clusterIPs", ips, "must be empty when `clusterIP` is not specified")
    for i, family in enumerate(families):
        if family not in FAMILIES:
            faults.unsupported(f"spec.ipFamilies[{i}]", family, FAMILIES)
        if family in families[:i]:
            faults.duplicate(f"spec.ipFamilies[{i}]", family)
    if (policy := spec.get("ipFamilyPolicy")) is not None and policy not in POLICIES:
        faults.unsupported(_POLICY, policy, POLICIES)
    if _check_addresses(ips, known, faults):
        _check_families(ips, families, faults)


def _check_addresses(ips: list[str], known: list[str], faults: Faults) -> bool:
    """Whether each is one."""
    valid = True
    for i, text in enumerate(ips):
        if i == 0 and text == NONE:
            if len(ips) > 1:
                valid = False
                faults.invalid("spec.clusterIPs", ips, "'None' must be the first and only value")
            continue
        if text not in known and (found := addresses.legacy_ip(text)):
            valid = False
            faults.each(f"spec.clusterIPs[{i}]", text, found)
    if len(ips) > 2:
        faults.invalid("spec.clusterIPs", ips, "may only hold up to 2 values")
    return valid


def _check_families(ips: list[str], families: list[str], faults: Faults) -> None:
    if len(ips) > 1 and {family_of(ip) for ip in ips} != set(FAMILIES):
        faults.invalid("spec.clusterIPs", ips, "may specify no more than one IP for each IP family")
    if ips == [NONE]:
        return
    for i, (ip, family) in enumerate(zip(ips, families, strict=False)):
        if family in FAMILIES and family_of(ip) != family:
            text = f"expected an {family} value as indicated by `ipFamilies[{i}]`"
            faults.invalid(f"spec.clusterIPs[{i}]", ip, text)
