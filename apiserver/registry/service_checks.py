"""Validation of Services.

Source: Kubernetes API reference, Service v1; k8s.io/kubernetes/pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

from apiserver.registry import addresses, names
from apiserver.registry.base import Object
from apiserver.registry.cells import at
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_labels, check_meta, check_meta_update
from apiserver.registry.ports import PROTOCOLS, check_port_or_name
from apiserver.registry.service_families import check_related, is_headless, needs_health_port

AFFINITIES = ("ClientIP", "None")
TYPES = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
HINTS, MODE = "service.kubernetes.io/topology-aware-hints", "service.kubernetes.io/topology-mode"
SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
_POLICIES = ("Cluster", "Local")
_DISTRIBUTIONS = ("PreferClose", "PreferSameZone", "PreferSameNode")
_IP_MODES = ("Proxy", "VIP")
_WITH_ADDRESS = ("ClusterIP", "NodePort", "LoadBalancer")
_ONLY_LB = "may only be used when `type` is 'LoadBalancer'"
_ONCE = "may not change once set"
_MAX_AFFINITY_S = 86400


def externally_accessible(service: Object) -> bool:
    spec = service.get("spec") or {}
    kind = spec.get("type")
    return kind in ("NodePort", "LoadBalancer") or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def check_new(service: Object, faults: Faults) -> None:
    check_meta(service, True, names.name_is_label, faults)
    _check(service, None, faults)


def _check(service: Object, old: Object | None, faults: Faults) -> None:
    spec, annotations = service.get("spec") or {}, at(service, "metadata.annotations", {})
    kind, ports = spec.get("type", ""), spec.get("ports") or []
    if HINTS in annotations and MODE in annotations and annotations[HINTS] != annotations[MODE]:
        text = f"must match annotations[{HINTS}] when both are specified"
        faults.invalid(f"metadata.annotations[{MODE}]", annotations[MODE], text)
    if not ports and not is_headless(service) and kind != "ExternalName":
        faults.required("spec.ports")
    _check_type_needs(service, spec, kind, faults)
    seen: set[str] = set()
    for i, port in enumerate(ports):
        _check_port(port, f"spec.ports[{i}]", len(ports) > 1, seen, faults)
    check_labels(spec.get("selector") or {}, "spec.selector", faults)
    _check_affinity(spec, faults)
    check_related(service, old, faults)
    known = at(old or {}, "spec.externalIPs", [])
    for i, ip in enumerate(spec.get("externalIPs") or ()):
        found = addresses.endpoint_ip(ip) if ip in known else addresses.legacy_ip(ip) or addresses.endpoint_ip(ip)
        faults.each(f"spec.externalIPs[{i}]", ip, found)
    if kind not in TYPES:
        faults.unsupported("spec.type", kind, TYPES)
    _check_node_ports(kind, ports, faults)
    _check_load_balancer(service, old, faults)
    _check_external_policy(service, spec, faults)
    _check_policies(spec, kind, faults)


def _check_type_needs(service: Object, spec: Object, kind: str, faults: Faults) -> None:
    if kind in ("NodePort", "LoadBalancer") and is_headless(service):
        faults.invalid("spec.clusterIPs[0]", "None", f"may not be set to 'None' for {kind} services")
    if kind != "ExternalName":
        return
    for key in ("clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if spec.get(key) or (key == "ipFamilyPolicy" and spec.get(key) is not None):
            faults.forbidden(f"spec.{key}", "may not be set for ExternalName services")
    if name := spec.get("externalName", "").removesuffix("."):
        faults.each("spec.externalName", name, names.dns1123_subdomain(name))
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
    elif affinity not in AFFINITIES:
        faults.unsupported("spec.sessionAffinity", affinity, AFFINITIES)
    if affinity == "ClientIP":
        timeout = at(config or {}, "clientIP.timeoutSeconds", None)
        if timeout is None:
            faults.required("spec.sessionAffinityConfig.clientIP.timeoutSeconds")
        elif not 0 < timeout <= _MAX_AFFINITY_S:
            text = f"must be greater than 0 and less than {_MAX_AFFINITY_S}"
            faults.invalid("spec.sessionAffinityConfig.clientIP.timeoutSeconds", timeout, text)
    elif affinity == "None" and config is not None:
        faults.forbidden("spec.sessionAffinityConfig", "must not be set when session affinity is None")


def _check_node_ports(kind: str, ports: list[Object], faults: Faults) -> None:
    """Numbers where the type has none; numbers, and ports, that stand there twice."""
    for i, port in enumerate(ports):
        if port.get("nodePort") and kind == "ClusterIP":
            faults.forbidden(f"spec.ports[{i}].nodePort", "may not be used when `type` is 'ClusterIP'")
    numbers = set()
    for i, port in enumerate(ports):
        key = (port.get("protocol"), port.get("nodePort"))
        if key[1] and key in numbers:
            faults.duplicate(f"spec.ports[{i}].nodePort", key[1])
        numbers.add(key)
    found = set()
    for i, port in enumerate(ports):
        protocol, number = port.get("protocol", ""), port.get("port", 0)
        if (protocol, number) in found:
            shown = {"Name": "", "Protocol": protocol, "AppProtocol": None, "Port": number, "TargetPort": 0}
            faults.duplicate(f"spec.ports[{i}]", shown | {"NodePort": 0})
        found.add((protocol, number))


def _check_load_balancer(service: Object, old: Object | None, faults: Faults) -> None:
    spec = service.get("spec") or {}
    balanced, annotations = spec.get("type") == "LoadBalancer", at(service, "metadata.annotations", {})
    if ranges := spec.get("loadBalancerSourceRanges"):
        path = "spec.LoadBalancerSourceRanges"
        if not balanced:
            faults.forbidden(path, _ONLY_LB)
        known = {text.strip() for text in at(old or {}, "spec.loadBalancerSourceRanges", [])}
        for i, text in enumerate(map(str.strip, ranges)):
            if text not in known:
                faults.each(f"{path}[{i}]", text, addresses.legacy_cidr(text))
    elif (value := annotations.get(SOURCE_RANGES)) is not None:
        path = f"metadata.annotations[{SOURCE_RANGES}]"
        if not balanced:
            faults.forbidden(path, _ONLY_LB)
        if value.strip() and value != at(old or {}, "metadata.annotations", {}).get(SOURCE_RANGES):
            for text in map(str.strip, value.split(",")):
                faults.each(path, text, addresses.legacy_cidr(text))
    allocates = spec.get("allocateLoadBalancerNodePorts")
    if allocates is not None and not balanced:
        faults.forbidden("spec.allocateLoadBalancerNodePorts", _ONLY_LB)
    elif allocates is None and balanced:
        faults.required("allocateLoadBalancerNodePorts")
    _check_class(spec, balanced, faults)


def _check_class(spec: Object, balanced: bool, faults: Faults) -> None:
    if (name := spec.get("loadBalancerClass")) is None:
        return
    if balanced:
        faults.each("spec.loadBalancerClass", name, names.qualified_name(name))
    else:
        faults.forbidden("spec.loadBalancerClass", _ONLY_LB)


def _check_external_policy(service: Object, spec: Object, faults: Faults) -> None:
    policy = spec.get("externalTrafficPolicy", "")
    if externally_accessible(service):
        if not policy:
            faults.required("spec.externalTrafficPolicy")
        elif policy not in _POLICIES:
            faults.unsupported("spec.externalTrafficPolicy", policy, _POLICIES)
    elif policy:
        faults.invalid("spec.externalTrafficPolicy", policy, "may only be set for externally-accessible services")
    port = spec.get("healthCheckNodePort", 0)
    if not needs_health_port(service):
        if port:
            text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'"
            faults.invalid("spec.healthCheckNodePort", port, text)
    elif not port:
        faults.required("spec.healthCheckNodePort")
    else:
        faults.each("spec.healthCheckNodePort", port, names.port_number(port))


def _check_policies(spec: Object, kind: str, faults: Faults) -> None:
    policy, distribution = spec.get("internalTrafficPolicy"), spec.get("trafficDistribution")
    if policy is None:
        if kind in _WITH_ADDRESS:
            faults.required("spec.internalTrafficPolicy")
    elif policy not in _POLICIES:
        faults.unsupported("spec.internalTrafficPolicy", policy, _POLICIES)
    if distribution is not None and distribution not in _DISTRIBUTIONS:
        faults.unsupported("spec.trafficDistribution", distribution, _DISTRIBUTIONS)


# --- updates


def check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    if "ExternalName" not in (at(old, "spec.type"), at(new, "spec.type")):
        _check_addresses_change(new, old, faults)
        _check_families_change(new, old, faults)
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    key = "loadBalancerClass"
    if spec.get("type") == was.get("type") == "LoadBalancer" and spec.get(key) != was.get(key):
        faults.invalid(f"spec.{key}", spec.get(key), _ONCE)
    _check_class(spec, spec.get("type") == "LoadBalancer", faults)
    key = "healthCheckNodePort"
    if needs_health_port(old) and needs_health_port(new) and spec.get(key, 0) != was.get(key, 0):
        faults.forbidden(f"spec.{key}", "field is immutable")
    _check(new, old, faults)


def _check_addresses_change(new: Object, old: Object, faults: Faults) -> None:
    """The first address stays for ever; the second may come, and go with the policy."""
    if is_headless(new) and is_headless(old):
        return
    ips, was, path = at(new, "spec.clusterIPs", []), at(old, "spec.clusterIPs", []), "spec.clusterIPs"
    if len(ips) == len(was):
        for i, ip in enumerate(was):
            if ip != ips[i]:
                faults.invalid(f"{path}[{i}]", ips, _ONCE)
        return
    if not ips:
        faults.invalid(f"{path}[0]", None, "primary clusterIP can not be unset")
    if ips and was and ips[0] != was[0]:
        faults.invalid(f"{path}[0]", ips, _ONCE)
    if len(ips) == 1 < len(was):
        _check_released(new, "clusterIP", faults)


def _check_families_change(new: Object, old: Object, faults: Faults) -> None:
    if is_headless(new) or is_headless(old):
        return
    families, was = at(new, "spec.ipFamilies", []), at(old, "spec.ipFamilies", [])
    ips, path = at(new, "spec.clusterIPs", []), "spec.ipFamilies[0]"
    if len(families) == len(was):
        for now, before in zip(families, was, strict=True):
            if now != before:
                faults.invalid(path, families, _ONCE)
        return
    if len(families) < len(was) and not ips:
        faults.invalid(path, families or None, "primary ipFamily can not be unset")
    if families and was and families[0] != was[0]:
        faults.invalid(path, ips, _ONCE)
    if len(families) == 1 < len(was):
        _check_released(new, "ipFamily", faults)


def _check_released(new: Object, what: str, faults: Faults) -> None:
    policy = at(new, "spec.ipFamilyPolicy", None)
    if policy != "SingleStack":
        text = f"must be set to 'SingleStack' when releasing the secondary {what}"
        faults.invalid("spec.ipFamilyPolicy", policy, text)


def check_status(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    path, entries = "status.loadBalancer.ingress", at(new, "status.loadBalancer.ingress", [])
    if entries and at(new, "spec.type") != "LoadBalancer":
        faults.forbidden(path, "may only be used when `spec.type` is 'LoadBalancer'")
        return
    known = {entry.get("ip") for entry in at(old, "status.loadBalancer.ingress", [])}
    for i, entry in enumerate(entries):
        _check_ingress(entry, known, f"{path}[{i}]", faults)


def _check_ingress(entry: Object, known: set[str | None], path: str, faults: Faults) -> None:
    ip, mode, host = entry.get("ip", ""), entry.get("ipMode"), entry.get("hostname", "")
    if ip and ip not in known:
        faults.each(f"{path}.ip", ip, addresses.legacy_ip(ip))
    if mode is None:
        if ip:
            faults.required(f"{path}.ipMode", "must be specified when `ip` is set")
    elif not ip:
        faults.forbidden(f"{path}.ipMode", "may not be specified when `ip` is not set")
    elif mode not in _IP_MODES:
        faults.unsupported(f"{path}.ipMode", mode, _IP_MODES)
    if host:
        faults.each(f"{path}.hostname", host, names.dns1123_subdomain(host))
        if addresses.parse_ip(host) is not None:
            faults.invalid(f"{path}.hostname", host, "must be a DNS name, not an IP address")
