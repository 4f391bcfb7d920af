"""Services: defaults, what changes with the type, warnings, columns.

Their checks are in `service_checks`, their families in `service_families`; addresses and node ports are given out by
`apiserver.allocators`, before the Service is checked.
Source: Kubernetes API reference, Service v1; k8s.io/kubernetes/pkg/registry/core/service (what a change of type drops).
"""

from __future__ import annotations

from apiserver.registry import addresses
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, NONE, at, comma_pairs, field, selectable
from apiserver.registry.meta import creating, keep_status, status_only, updating
from apiserver.registry.service_checks import HINTS, MODE, check_new, check_status, check_update, externally_accessible
from apiserver.registry.service_families import needs_cluster_ip, needs_health_port, needs_node_port

AFFINITY_S = 10800
_WITH_ADDRESS = ("ClusterIP", "NodePort", "LoadBalancer")


def default(service: Object) -> None:
    spec = service.setdefault("spec", {})
    if not spec.get("sessionAffinity"):
        spec["sessionAffinity"] = "None"
    if spec["sessionAffinity"] == "None":
        spec.pop("sessionAffinityConfig", None)
    elif (
        spec["sessionAffinity"] == "ClientIP"
        and at(spec, "sessionAffinityConfig.clientIP.timeoutSeconds", None) is None
    ):
        spec["sessionAffinityConfig"] = {"clientIP": {"timeoutSeconds": AFFINITY_S}}
    if not spec.get("type"):
        spec["type"] = "ClusterIP"
    for port in spec.get("ports") or ():
        port["protocol"] = port.get("protocol") or "TCP"
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    if externally_accessible(service) and not spec.get("externalTrafficPolicy"):
        spec["externalTrafficPolicy"] = "Cluster"
    if spec["type"] in _WITH_ADDRESS and spec.get("internalTrafficPolicy") is None:
        spec["internalTrafficPolicy"] = "Cluster"
    if spec["type"] == "LoadBalancer":
        if spec.get("allocateLoadBalancerNodePorts") is None:
            spec["allocateLoadBalancerNodePorts"] = True
        for entry in at(service, "status.loadBalancer.ingress", []):
            if entry.get("ip") and entry.get("ipMode") is None:
                entry["ipMode"] = "VIP"


def prepare_create(service: Object) -> None:
    service["status"] = {"loadBalancer": {}}
    if service["spec"].get("type") == "ExternalName":
        service["spec"].pop("internalTrafficPolicy", None)


def prepare_update(new: Object, old: Object) -> None:
    """Status stays. What the type no longer needs goes, where the client has not tried to change it."""
    keep_status(new, old)
    _drop_unneeded(new, old)
    if new["spec"].get("type") != "LoadBalancer" and at(new, "status.loadBalancer", {}):
        new["status"] = {**new["status"], "loadBalancer": {}}
    if new["spec"].get("type") == "ExternalName":
        new["spec"].pop("internalTrafficPolicy", None)


def _drop_unneeded(new: Object, old: Object) -> None:
    spec, was = new["spec"], old.get("spec") or {}

    def drop(*keys: str) -> None:
        if all((spec.get(key) or None) == (was.get(key) or None) for key in keys):
            for key in keys:
                spec.pop(key, None)

    if needs_cluster_ip(old) and not needs_cluster_ip(new):
        drop("clusterIP", "clusterIPs")
        drop("ipFamilies")
        drop("ipFamilyPolicy")
    if needs_node_port(old) and not needs_node_port(new):
        ports, before = spec.get("ports") or [], {p.get("nodePort") for p in was.get("ports") or ()}
        if all(p.get("nodePort") in before | {None, 0} for p in ports):
            for port in ports:
                port.pop("nodePort", None)
    if needs_health_port(old) and not needs_health_port(new):
        drop("healthCheckNodePort")
    if was.get("type") == "LoadBalancer" != spec.get("type"):
        if spec.get("allocateLoadBalancerNodePorts") == was.get("allocateLoadBalancerNodePorts"):
            spec.pop("allocateLoadBalancerNodePorts", None)
        if spec.get("loadBalancerClass") == was.get("loadBalancerClass"):
            spec.pop("loadBalancerClass", None)
    if externally_accessible(old) and not externally_accessible(new):
        drop("externalTrafficPolicy")


def _warnings(new: Object, _old: Object | None) -> list[str]:
    spec, found = new.get("spec") or {}, []
    kind, ips, external = spec.get("type"), spec.get("clusterIPs") or [], spec.get("externalIPs") or []
    headless = kind == "ClusterIP" and spec.get("clusterIP") == "None"
    if HINTS in at(new, "metadata.annotations", {}):
        found.append(f"annotation {HINTS} is deprecated, please use {MODE} instead")
    if spec.get("clusterIP") not in (None, "", "None"):
        found += [w for i, ip in enumerate(ips) for w in addresses.ip_warnings(ip, f"spec.clusterIPs[{i}]")]
    if headless:
        if spec.get("loadBalancerIP"):
            found.append("spec.loadBalancerIP is ignored for headless services")
        if external:
            found.append("spec.externalIPs is ignored for headless services")
        if spec.get("sessionAffinity") != "None":
            found.append("spec.SessionAffinity is ignored for headless services")
    found += [w for i, ip in enumerate(external) for w in addresses.ip_warnings(ip, f"spec.externalIPs[{i}]")]
    if external and not headless and kind != "ExternalName":
        found.append("spec.externalIPs is deprecated and may no longer be implemented in some clusters")
    found += addresses.ip_warnings(spec.get("loadBalancerIP", ""), "spec.loadBalancerIP")
    for i, text in enumerate(spec.get("loadBalancerSourceRanges") or ()):
        found += addresses.cidr_warnings(text, f"spec.loadBalancerSourceRanges[{i}]")
    if kind == "ExternalName" and external:
        found.append('spec.externalIPs is ignored when spec.type is "ExternalName"')
    if kind != "ExternalName" and spec.get("externalName"):
        found.append('spec.externalName is ignored when spec.type is not "ExternalName"')
    if spec.get("trafficDistribution") == "PreferClose":
        found.append('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"')
    return found


def _status_warnings(new: Object, _old: Object | None) -> list[str]:
    path, entries = "status.loadBalancer.ingress", at(new, "status.loadBalancer.ingress", [])
    return [w for i, e in enumerate(entries) for w in addresses.ip_warnings(e.get("ip", ""), f"{path}[{i}]")]


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
    subresources=("proxy", "status"),
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
        validate=creating(check_new),
        prepare_update=prepare_update,
        validate_update=updating(check_update),
        prepare_status_update=status_only,
        validate_status_update=updating(check_status),
        warnings=_warnings,
        status_warnings=_status_warnings,
        allow_create_on_update=True,
    ),
)
