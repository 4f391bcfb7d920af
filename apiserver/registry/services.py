"""Services. Addresses and node ports are given out by `apiserver.allocators`; everything else about a Service is here.

Source: Kubernetes API reference, Service v1; k8s.io/kubernetes/pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

import ipaddress
from typing import Any

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, NONE, at, comma_pairs, field, selectable
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_labels,
    check_meta,
    check_meta_update,
    creating,
    keep_status,
    status_only,
    updating,
)
from apiserver.registry.ports import PROTOCOLS, check_port_or_name

AFFINITY_S = 10800
_AFFINITIES = ("ClientIP", "None")
_TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
_POLICIES = ("Cluster", "Local")
_FAMILIES = ("IPv4", "IPv6")
_FAMILY_POLICIES = ("SingleStack", "PreferDualStack", "RequireDualStack")
_WITH_ADDRESS = ("ClusterIP", "NodePort", "LoadBalancer")
_WITH_NODE_PORT = ("NodePort", "LoadBalancer")
_ONLY_LB = "may only be used when `type` is 'LoadBalancer'"
_KUBELET_PORT = 10250


def needs_cluster_ip(service: Object) -> bool:
    return str(at(service, "spec.type")) in _WITH_ADDRESS


def needs_node_port(service: Object) -> bool:
    spec = service.get("spec") or {}
    kind, refused = spec.get("type"), spec.get("allocateLoadBalancerNodePorts") is False
    return bool(kind == "NodePort" or (kind == "LoadBalancer" and not refused))


def needs_health_check_port(service: Object) -> bool:
    spec = service.get("spec") or {}
    return bool(spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local")


def is_headless(service: Object) -> bool:
    return bool(at(service, "spec.clusterIPs", [at(service, "spec.clusterIP")])[:1] == ["None"])


def externally_accessible(service: Object) -> bool:
    spec = service.get("spec") or {}
    return spec.get("type") in _WITH_NODE_PORT or (spec.get("type") == "ClusterIP" and bool(spec.get("externalIPs")))


# --- defaults


def default(service: Object) -> None:
    spec = service.setdefault("spec", {})
    if not spec.get("sessionAffinity"):
        spec["sessionAffinity"] = "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif spec["sessionAffinity"] == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {})
        config.setdefault("clientIP", {}).setdefault("timeoutSeconds", AFFINITY_S)
    if not spec.get("type"):
        spec["type"] = "ClusterIP"
    for port in spec.get("ports") or ():
        port["protocol"] = port.get("protocol") or "TCP"
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    if externally_accessible(service) and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if spec["type"] in _WITH_ADDRESS and not spec.get("internalTrafficPolicy"):
        spec["internalTrafficPolicy"] = "Cluster"
    if spec["type"] == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is None:
        spec["allocateLoadBalancerNodePorts"] = True


def _default_families(spec: Object) -> None:
    """ipFamilyPolicy and ipFamilies of a single-stack cluster; headless without selector means both families."""
    if spec.get("type") == "ExternalName":
        return
    families = spec.get("ipFamilies") or []
    if not families:
        ips = spec.get("clusterIPs") or []
        families = ["IPv6" if ":" in ip else "IPv4" for ip in ips if ip != "None"] or ["IPv4"]
    bare = (spec.get("clusterIPs") or [""])[0] == "None" and not spec.get("selector")
    policy = spec.setdefault("ipFamilyPolicy", "RequireDualStack" if bare else "SingleStack")
    if bare and policy != "SingleStack" and len(families) == 1:
        families = [*families, "IPv6" if families[0] == "IPv4" else "IPv4"]
    spec["ipFamilies"] = families


def _normalize_cluster_ips(new: Object, old: Object | None) -> None:
    """clusterIP and the first of clusterIPs are one value; whoever sets only the old field means both."""
    spec = new["spec"]
    ip, ips = spec.get("clusterIP", ""), spec.get("clusterIPs") or []
    if old is None:
        if ip and not ips:
            spec["clusterIPs"] = [ip]
        return
    old_ip, old_ips = at(old, "spec.clusterIP"), at(old, "spec.clusterIPs", [])
    if ip != old_ip:
        if ip == "" and ips == old_ips:
            spec.pop("clusterIPs", None)
        elif ip and ips == old_ips:
            spec["clusterIPs"] = [ip]
    elif ips != old_ips and not ips:
        spec.pop("clusterIP", None)


def prepare_create(service: Object) -> None:
    service["status"] = {"loadBalancer": {}}
    default(service)
    _normalize_cluster_ips(service, None)
    _default_families(service["spec"])


def prepare_update(new: Object, old: Object) -> None:
    """Status stays. What was allocated stays where it is still needed, goes where the type no longer needs it."""
    keep_status(new, old)
    _normalize_cluster_ips(new, old)
    _keep_allocated(new, old)
    _drop_unneeded(new, old)
    _default_families(new["spec"])


def _keep_allocated(new: Object, old: Object) -> None:
    spec, was = new["spec"], old.get("spec") or {}
    if needs_cluster_ip(old) and needs_cluster_ip(new):
        for key in ("clusterIP", "clusterIPs"):
            if not spec.get(key) and was.get(key):
                spec[key] = was[key]
    if needs_node_port(old) and needs_node_port(new):
        used = {p.get("nodePort") for p in spec.get("ports") or ()}
        before = {(p.get("protocol"), p.get("port")): p.get("nodePort") for p in was.get("ports") or ()}
        for port in spec.get("ports") or ():
            known = before.get((port.get("protocol"), port.get("port")))
            if not port.get("nodePort") and known and known not in used:
                port["nodePort"] = known
                used.add(known)
    if needs_health_check_port(old) and needs_health_check_port(new) and not spec.get("healthCheckNodePort"):
        spec["healthCheckNodePort"] = was.get("healthCheckNodePort", 0)


def _drop_unneeded(new: Object, old: Object) -> None:
    spec, was = new["spec"], old.get("spec") or {}

    def drop(*keys: str) -> None:
        for key in keys:
            if spec.get(key) == was.get(key):
                spec.pop(key, None)

    if needs_cluster_ip(old) and not needs_cluster_ip(new):
        drop("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy")
    if needs_node_port(old) and not needs_node_port(new):
        ports, before = spec.get("ports") or [], {p.get("nodePort") for p in was.get("ports") or ()}
        if all(p.get("nodePort") in before | {None, 0} for p in ports):
            for port in ports:
                port.pop("nodePort", None)
    if needs_health_check_port(old) and not needs_health_check_port(new):
        drop("healthCheckNodePort")
    if was.get("type") == "LoadBalancer" != spec.get("type"):
        drop("allocateLoadBalancerNodePorts", "loadBalancerClass")
    if externally_accessible(old) and not externally_accessible(new):
        drop("externalTrafficPolicy")


# --- validation


def check(service: Object, faults: Faults) -> None:
    check_meta(service, True, names.name_is_dns1035, faults)
    spec = service.get("spec") or {}
    kind, ports = spec.get("type", ""), spec.get("ports") or []
    if not ports and not is_headless(service) and kind != "ExternalName":
        faults.required("spec.ports")
    _check_type_needs(service, spec, kind, ports, faults)
    seen: set[str] = set()
    for i, port in enumerate(ports):
        _check_port(port, f"spec.ports[{i}]", len(ports) > 1, seen, faults)
    if selector := spec.get("selector"):
        check_labels(selector, "spec.selector", faults)
    _check_affinity(spec, faults)
    _check_cluster_ips(service, spec, kind, faults)
    for i, ip in enumerate(spec.get("externalIPs") or ()):
        faults.each(f"spec.externalIPs[{i}]", ip, names.endpoint_ip(ip))
    if kind not in _TYPES:
        faults.unsupported("spec.type", kind, _TYPES)
    _check_node_ports(kind, ports, faults)
    _check_duplicate_ports(ports, faults)
    _check_load_balancer(spec, kind, faults)
    _check_external_policy(service, spec, faults)
    _check_internal_policy(spec, kind, faults)


def _check_type_needs(service: Object, spec: Object, kind: str, ports: list[Object], faults: Faults) -> None:
    if kind == "LoadBalancer":
        for i, port in enumerate(ports):
            if port.get("port") == _KUBELET_PORT:
                text = "may not expose port 10250 externally since it is used by kubelet"
                faults.invalid(f"spec.ports[{i}]", _KUBELET_PORT, text)
    if kind in _WITH_NODE_PORT and is_headless(service):
        faults.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    if kind != "ExternalName":
        return
    for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(key):
            faults.forbidden(f"spec.{key}", "may not be set for ExternalName services")
    if name := spec.get("externalName"):
        faults.each("spec.externalName", name, names.dns1123_subdomain(name.removesuffix(".")))
    else:
        faults.required("spec.externalName")


def _check_port(port: Object, path: str, name_needed: bool, seen: set[str], faults: Faults) -> None:
    if name := port.get("name"):
        faults.each(f"{path}.name", name, names.dns1123_label(name))
        if name in seen:
            faults.duplicate(f"{path}.name", name)
        seen.add(name)
    elif name_needed:
        faults.required(f"{path}.name")
    faults.each(f"{path}.port", port.get("port", 0), names.port_number(port.get("port", 0)))
    if not (protocol := port.get("protocol")):
        faults.required(f"{path}.protocol")
    elif protocol not in PROTOCOLS:
        faults.unsupported(f"{path}.protocol", protocol, PROTOCOLS)
    check_port_or_name(port.get("targetPort", 0), f"{path}.targetPort", faults)
    if (app := port.get("appProtocol")) is not None:
        faults.each(f"{path}.appProtocol", app, names.qualified_name(app))


def _check_affinity(spec: Object, faults: Faults) -> None:
    affinity, config = spec.get("sessionAffinity", ""), spec.get("sessionAffinityConfig")
    if not affinity:
        faults.required("spec.sessionAffinity")
    elif affinity not in _AFFINITIES:
        faults.unsupported("spec.sessionAffinity", affinity, _AFFINITIES)
    if affinity == "ClientIP":
        timeout = at(config or {}, "clientIP.timeoutSeconds", None)
        if timeout is None:
            faults.required("spec.sessionAffinityConfig.clientIP.timeoutSeconds")
        elif not 0 < timeout <= 86400:
            text = "must be greater than 0 and less than 86400"
            faults.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", timeout, text)
    elif affinity == "None" and config is not None:
        faults.forbidden("spec.sessionAffinityConfig", "must not be set when session affinity is None")


def _check_cluster_ips(service: Object, spec: Object, kind: str, faults: Faults) -> None:
    """clusterIP, clusterIPs, ipFamilies and ipFamilyPolicy as they stand with one another."""
    if kind == "ExternalName":
        return
    ips, ip, families = spec.get("clusterIPs") or [], spec.get("clusterIP", ""), spec.get("ipFamilies") or []
    if ip and not ips:
        faults.required("spec.clusterIPs")
    if ips and ip != ips[0]:
        faults.invalid("spec.clusterIPs", ips, "first value must match `clusterIP`")
    for i, family in enumerate(families):
        if family not in _FAMILIES:
            faults.unsupported(f"spec.ipFamilies[{i}]", family, _FAMILIES)
        elif family in families[:i]:
            faults.duplicate(f"spec.ipFamilies[{i}]", family)
    if (policy := spec.get("ipFamilyPolicy")) is not None and policy not in _FAMILY_POLICIES:
        faults.unsupported("spec.ipFamilyPolicy", policy, _FAMILY_POLICIES)
    for i, text in enumerate(ips):
        _check_cluster_ip(i, text, ips, faults)
    if len(ips) > 2:
        faults.invalid("spec.clusterIPs", ips, "may only hold up to 2 values")
    _check_families_match(service, ips, families, faults)


def _check_cluster_ip(i: int, text: str, ips: list[str], faults: Faults) -> None:
    path = f"spec.clusterIPs[{i}]"
    if text == "None":
        if i > 0:
            faults.invalid(path, text, "may only be the first value")
        return
    if not text:
        faults.required(path)
        return
    if ips[0] == "None" and i > 0:
        faults.invalid(path, text, "must be empty when `clusterIPs[0]` is 'None'")
    faults.each(path, text, names.ip_address(text))


def _check_families_match(service: Object, ips: list[str], families: list[str], faults: Faults) -> None:
    if is_headless(service):
        return
    for i, text in enumerate(ips[:2]):
        if names.ip_address(text) or i >= len(families):
            continue
        expected = 6 if families[i] == "IPv6" else 4
        if ipaddress.ip_address(text).version != expected:
            faults.invalid(
                f"spec.clusterIPs[{i}]", text, f"expected an {families[i]} value as indicated by `ipFamilies[{i}]`"
            )


def _check_node_ports(kind: str, ports: list[Object], faults: Faults) -> None:
    seen = set()
    for i, port in enumerate(ports):
        if not (node_port := port.get("nodePort")):
            continue
        path = f"spec.ports[{i}].nodePort"
        if kind in ("ClusterIP", "ExternalName"):
            faults.forbidden(path, f"may not be used when `type` is '{kind}'")
        elif (port.get("protocol"), node_port) in seen:
            faults.duplicate(path, node_port)
        seen.add((port.get("protocol"), node_port))


def _check_duplicate_ports(ports: list[Object], faults: Faults) -> None:
    seen = set()
    for i, port in enumerate(ports):
        key = (port.get("protocol"), port.get("port"))
        if key in seen:
            shown = {"protocol": key[0], "port": key[1], "targetPort": 0}
            faults.duplicate(f"spec.ports[{i}]", shown)
        seen.add(key)


def _check_load_balancer(spec: Object, kind: str, faults: Faults) -> None:
    ranges = spec.get("loadBalancerSourceRanges") or []
    if kind == "LoadBalancer":
        for i, text in enumerate(ranges):
            faults.each(f"spec.loadBalancerSourceRanges[{i}]", text, names.cidr(text))
        if spec.get("allocateLoadBalancerNodePorts") is None:
            faults.required("spec.allocateLoadBalancerNodePorts")
    else:
        if ranges:
            faults.forbidden("spec.loadBalancerSourceRanges", _ONLY_LB)
        if spec.get("allocateLoadBalancerNodePorts") is not None:
            faults.forbidden("spec.allocateLoadBalancerNodePorts", _ONLY_LB)
    if (lb_class := spec.get("loadBalancerClass")) is not None:
        if kind != "LoadBalancer":
            faults.forbidden("spec.loadBalancerClass", _ONLY_LB)
        else:
            faults.each("spec.loadBalancerClass", lb_class, names.qualified_name(lb_class))


def _check_external_policy(service: Object, spec: Object, faults: Faults) -> None:
    policy = spec.get("externalTrafficPolicy", "")
    if externally_accessible(service):
        if not policy:
            faults.required("spec.externalTrafficPolicy")
        elif policy not in _POLICIES:
            faults.unsupported("spec.externalTrafficPolicy", policy, _POLICIES)
    elif policy:
        text = "may only be set for externally-accessible services"
        faults.invalid("spec.externalTrafficPolicy", policy, text)
    port = spec.get("healthCheckNodePort", 0)
    if needs_health_check_port(service):
        if port:
            faults.each("spec.healthCheckNodePort", port, names.port_number(port))
    elif port:
        text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
        faults.invalid("spec.healthCheckNodePort", port, text)


def _check_internal_policy(spec: Object, kind: str, faults: Faults) -> None:
    policy: Any = spec.get("internalTrafficPolicy")
    if policy is None:
        if kind in _WITH_ADDRESS:
            faults.required("spec.internalTrafficPolicy")
    elif policy not in _POLICIES:
        faults.unsupported("spec.internalTrafficPolicy", policy, _POLICIES)


def check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_cluster_ips_update(new, old, faults)
    if at(old, "spec.type") == at(new, "spec.type") == "LoadBalancer":
        was, now = at(old, "spec.loadBalancerClass", None), at(new, "spec.loadBalancerClass", None)
        if was != now:
            faults.invalid("spec.loadBalancerClass", now, "may not change once set")
    check(new, faults)


def _check_cluster_ips_update(new: Object, old: Object, faults: Faults) -> None:
    """An address, once given, stays; the type ExternalName alone lets go of it."""
    if "ExternalName" in (at(old, "spec.type"), at(new, "spec.type")):
        return
    ips, was = at(new, "spec.clusterIPs", []), at(old, "spec.clusterIPs", [])
    if was and (not ips or ips[0] != was[0]):
        faults.invalid("spec.clusterIPs[0]", ips, "may not change once set")
    elif len(was) == 2 and len(ips) == 2 and was[1] != ips[1]:
        faults.invalid("spec.clusterIPs[1]", ips, "may not change once set")


def _warnings(new: Object, _old: Object | None) -> list[str]:
    spec, found = new.get("spec") or {}, []
    kind = spec.get("type")
    if is_headless(new) and spec.get("loadBalancerIP"):
        found.append("spec.loadBalancerIP is ignored for headless services")
    if is_headless(new) and spec.get("externalIPs"):
        found.append("spec.externalIPs is ignored for headless services")
    if is_headless(new) and spec.get("sessionAffinity") == "ClientIP":
        found.append("spec.SessionAffinity is ignored for headless services")
    if kind != "ExternalName" and spec.get("externalName"):
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if kind != "LoadBalancer" and spec.get("loadBalancerIP"):
        found.append('spec.loadBalancerIP is ignored when spec.type is not "LoadBalancer"')
    return found


# --- columns


def _external_cell(service: Object, _now: float) -> str:
    """Where the outside reaches it. Node ports show nothing here: their addresses are the nodes'."""
    spec = service.get("spec") or {}
    kind, ips = spec.get("type"), spec.get("externalIPs") or []
    if kind == "ExternalName":
        return str(spec.get("externalName", ""))
    if kind == "LoadBalancer":
        ingress = at(service, "status.loadBalancer.ingress", [])
        found = [i.get("ip") or i.get("hostname", "") for i in ingress] + ips
        return ",".join(found) or "<pending>"
    return ",".join(ips) or NONE


def _ports_cell(service: Object, _now: float) -> str:
    """`80/TCP,443:30443/TCP`."""

    def one(port: Object) -> str:
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        return f"{port.get('port')}{node}/{port.get('protocol', 'TCP')}"

    return ",".join(one(p) for p in at(service, "spec.ports", [])) or NONE


def _cluster_ip_cell(service: Object, _now: float) -> str:
    return str((at(service, "spec.clusterIPs", []) or [NONE])[0])


SERVICES = ResourceDef(
    "",
    "v1",
    "Service",
    "services",
    "service",
    short_names=("svc",),
    categories=("all",),
    subresources=("status",),
    storage_version_hash="0/CO1lhkEBI=",
    field_selectors=selectable("spec.clusterIP", "spec.type"),
    columns=(
        NAME,
        Column("Type", "string", "@ServiceSpec.type", field("spec.type")),
        Column("Cluster-IP", "string", "@ServiceSpec.clusterIP", _cluster_ip_cell),
        Column("External-IP", "string", "@ServiceSpec.externalIPs", _external_cell),
        Column("Port(s)", "string", "@ServiceSpec.ports", _ports_cell),
        AGE,
        Column(
            "Selector",
            "string",
            "@ServiceSpec.selector",
            lambda o, _: comma_pairs(at(o, "spec.selector", {})),
            priority=1,
        ),
    ),
    strategy=Strategy(
        default=default,
        prepare_create=prepare_create,
        validate=creating(check),
        prepare_update=prepare_update,
        validate_update=updating(check_update),
        prepare_status_update=status_only,
        validate_status_update=updating(check_meta_update),
        warnings=_warnings,
        allow_create_on_update=True,
    ),
)
