"""Namespaces, Nodes, ConfigMaps, Secrets, ServiceAccounts and Endpoints."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, NONE, UNKNOWN, at, field, more, selectable
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_immutable,
    check_meta,
    check_meta_update,
    creating,
    keep_generation,
    keep_status,
    status_only,
    updating,
)
from apiserver.registry.podspec_parts import check_taints
from apiserver.registry.ports import PROTOCOLS

MAX_DATA_B = 1024 * 1024
_FIXED = "field is immutable when `immutable` is set"
_NAMESPACE_LABEL = "kubernetes.io/metadata.name"


# --- Namespace


def _default_namespace(obj: Object) -> None:
    meta = obj["metadata"]
    if name := meta.get("name"):
        meta.setdefault("labels", {})[_NAMESPACE_LABEL] = name


def _prepare_namespace(obj: Object) -> None:
    finalizers = [f for f in at(obj, "spec.finalizers", []) if f != "kubernetes"]
    obj["spec"] = {"finalizers": [*finalizers, "kubernetes"]}
    obj["status"] = {"phase": "Active"}


def _prepare_namespace_update(new: Object, old: Object) -> None:
    keep_status(new, old)
    new["spec"] = old.get("spec") or {}


def _check_namespace(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_label, faults)
    for i, finalizer in enumerate(at(obj, "spec.finalizers", [])):
        _check_namespace_finalizer(finalizer, f"spec.finalizers[{i}]", faults)


def _check_namespace_finalizer(finalizer: str, path: str, faults: Faults) -> None:
    faults.each(path, finalizer, names.qualified_name(finalizer))
    if "/" not in finalizer and finalizer != "kubernetes":
        faults.invalid(path, finalizer, "name is neither a standard finalizer name nor is it fully qualified")


def _check_namespace_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    check_meta(new, False, names.name_is_label, faults)


def _check_namespace_status(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    phase = at(new, "status.phase")
    if not new["metadata"].get("deletionTimestamp"):
        if phase != "Active":
            faults.invalid("status.Phase", phase, "may only be 'Active' if `deletionTimestamp` is empty")
    elif phase != "Terminating":
        faults.invalid("status.Phase", phase, "may only be 'Terminating' if `deletionTimestamp` is not empty")


NAMESPACES = ResourceDef(
    "",
    "v1",
    "Namespace",
    "namespaces",
    "namespace",
    namespaced=False,
    short_names=("ns",),
    verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
    subresources=("finalize", "status"),
    storage_version_hash="Q3oi5N2YM8M=",
    field_selectors={**selectable("status.phase"), "name": lambda o: str(at(o, "metadata.name"))},
    columns=(NAME, Column("Status", "string", "The status of the namespace", field("status.phase")), AGE),
    strategy=Strategy(
        default=_default_namespace,
        prepare_create=_prepare_namespace,
        validate=creating(_check_namespace),
        prepare_update=_prepare_namespace_update,
        validate_update=updating(_check_namespace_update, namespaced=False),
        prepare_status_update=status_only,
        validate_status_update=updating(_check_namespace_status, namespaced=False),
    ),
)


# --- Node


def _default_node(obj: Object) -> None:
    spec, status = obj.setdefault("spec", {}), obj.setdefault("status", {})
    if spec.get("podCIDRs"):
        spec["podCIDR"] = spec["podCIDRs"][0]
    elif spec.get("podCIDR"):
        spec["podCIDRs"] = [spec["podCIDR"]]
    if status.get("capacity") and not status.get("allocatable"):
        status["allocatable"] = dict(status["capacity"])


def _check_node(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    spec = obj.get("spec") or {}
    check_taints(spec.get("taints") or [], "spec.taints", faults)
    for i, text in enumerate(spec.get("podCIDRs") or ()):
        faults.each(f"spec.podCIDRs[{i}]", text, names.cidr(text))


def _check_node_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    if (was := at(old, "spec.podCIDRs", [])) and at(new, "spec.podCIDRs", []) != was:
        faults.forbidden("spec.podCIDRs", 'node updates may not change podCIDR except from "" to valid')
    if (was := at(old, "spec.providerID")) and at(new, "spec.providerID") != was:
        faults.forbidden("spec.providerID", 'node updates may not change providerID except from "" to valid')
    check_taints(at(new, "spec.taints", []), "spec.taints", faults)
    for i, text in enumerate(at(new, "spec.podCIDRs", [])):
        faults.each(f"spec.podCIDRs[{i}]", text, names.cidr(text))


def _node_status(obj: Object, _now: float) -> str:
    conditions = {c.get("type"): c.get("status") for c in at(obj, "status.conditions", [])}
    state = {"True": "Ready"}.get(conditions["Ready"], "NotReady") if "Ready" in conditions else "Unknown"
    return state + (",SchedulingDisabled" if at(obj, "spec.unschedulable", False) else "")


def _node_roles(obj: Object, _now: float) -> str:
    prefix, roles = "node-role.kubernetes.io/", set()
    for key, value in at(obj, "metadata.labels", {}).items():
        if key.startswith(prefix) and len(key) > len(prefix):
            roles.add(key.removeprefix(prefix))
        elif key == "kubernetes.io/role" and value:
            roles.add(value)
    return ",".join(sorted(roles)) or NONE


def _node_address(kind: str) -> Column:
    def cell(obj: Object, _now: float) -> str:
        found = (a.get("address", "") for a in at(obj, "status.addresses", []) if a.get("type") == kind)
        return next(found, NONE)

    return Column(kind.replace("IP", "-IP"), "string", "@NodeStatus.addresses", cell, priority=1)


def _node_info(name: str, key: str, priority: int = 1) -> Column:
    def cell(obj: Object, _now: float) -> str:
        return at(obj, f"status.nodeInfo.{key}") or (UNKNOWN if priority else "")

    return Column(name, "string", f"@NodeSystemInfo.{key}", cell, priority=priority)


NODES = ResourceDef(
    "",
    "v1",
    "Node",
    "nodes",
    "node",
    namespaced=False,
    short_names=("no",),
    subresources=("status",),
    storage_version_hash="XwShjMxG9Fs=",
    field_selectors={"spec.unschedulable": lambda o: str(bool(at(o, "spec.unschedulable", False))).lower()},
    columns=(
        NAME,
        Column("Status", "string", "The status of the node", _node_status),
        Column("Roles", "string", "The roles of the node", _node_roles),
        AGE,
        _node_info("Version", "kubeletVersion", 0),
        _node_address("InternalIP"),
        _node_address("ExternalIP"),
        _node_info("OS-Image", "osImage"),
        _node_info("Kernel-Version", "kernelVersion"),
        _node_info("Container-Runtime", "containerRuntimeVersion"),
    ),
    strategy=Strategy(
        default=_default_node,
        validate=creating(_check_node),
        prepare_update=keep_status,
        validate_update=updating(_check_node_update, namespaced=False),
        prepare_status_update=status_only,
        validate_status_update=updating(_check_node_update, namespaced=False),
    ),
)


# --- ConfigMap and Secret


def _check_config_map(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    data, binary = obj.get("data") or {}, obj.get("binaryData") or {}
    for key in data:
        faults.each(f"data[{key}]", key, names.config_map_key(key))
        if key in binary:
            faults.invalid(f"data[{key}]", key, "duplicate of key present in binaryData")
    for key in binary:
        faults.each(f"binaryData[{key}]", key, names.config_map_key(key))
    size = sum(len(v.encode()) for v in data.values()) + sum(len(v) * 3 // 4 for v in binary.values())
    if size > MAX_DATA_B:
        faults.too_long("", MAX_DATA_B)


def _check_fixed(new: Object, old: Object, fields: tuple[str, ...], faults: Faults) -> None:
    if not old.get("immutable"):
        return
    if not new.get("immutable"):
        faults.forbidden("immutable", _FIXED)
    for key in fields:
        if (new.get(key) or {}) != (old.get(key) or {}):
            faults.forbidden(key, _FIXED)


def _check_config_map_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_fixed(new, old, ("data", "binaryData"), faults)
    _check_config_map(new, faults)


def _count(*keys: str) -> Column:
    return Column("Data", "string", f"@{'ConfigMap' if len(keys) > 1 else 'Secret'}.data", lambda o, _: _total(o, keys))


def _total(obj: Object, keys: tuple[str, ...]) -> int:
    return sum(len(obj.get(key) or ()) for key in keys)


CONFIGMAPS = ResourceDef(
    "",
    "v1",
    "ConfigMap",
    "configmaps",
    "configmap",
    short_names=("cm",),
    storage_version_hash="qFsyl6wFWjQ=",
    columns=(NAME, _count("data", "binaryData"), AGE),
    strategy=Strategy(
        validate=creating(_check_config_map),
        prepare_update=keep_generation,
        validate_update=updating(_check_config_map_update),
    ),
)

_OPAQUE = "Opaque"
_SECRET_NEEDS = {
    "kubernetes.io/dockercfg": (".dockercfg",),
    "kubernetes.io/dockerconfigjson": (".dockerconfigjson",),
    "kubernetes.io/ssh-auth": ("ssh-privatekey",),
    "kubernetes.io/tls": ("tls.crt", "tls.key"),
}
_TOKEN_ANNOTATION = "kubernetes.io/service-account.name"


def _default_secret(obj: Object) -> None:
    if strings := obj.pop("stringData", None):
        data = obj["data"] = obj.get("data") or {}
        data.update({k: base64.b64encode(v.encode()).decode() for k, v in strings.items()})
    if not obj.get("type"):
        obj["type"] = _OPAQUE


def _check_secret(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    data, kind = obj.get("data") or {}, obj.get("type")
    for key in data:
        faults.each(f"data[{key}]", key, names.config_map_key(key))
    if sum(len(v) * 3 // 4 for v in data.values()) > MAX_DATA_B:
        faults.too_long("data", MAX_DATA_B)
    if kind == "kubernetes.io/service-account-token":
        if not at(obj, "metadata.annotations", {}).get(_TOKEN_ANNOTATION):
            faults.required(f"metadata.annotations[{_TOKEN_ANNOTATION}]")
    elif kind == "kubernetes.io/basic-auth" and "username" not in data and "password" not in data:
        faults.required("data[username]")
        faults.required("data[password]")
    for key in _SECRET_NEEDS.get(kind or "", ()):
        if key not in data or (key == "ssh-privatekey" and not data[key]):
            faults.required(f"data[{key}]")
        elif key.startswith(".docker"):
            _check_json(data[key], f"data[{key}]", faults)


def _check_json(encoded: str, path: str, faults: Faults) -> None:
    try:
        if not isinstance(json.loads(base64.b64decode(encoded)), dict):
            raise ValueError("json: cannot unmarshal into Go value of type map[string]interface {}")
    except ValueError:
        faults.invalid(path, "<secret contents redacted>", "invalid character looking for beginning of value")


def _prepare_secret_update(new: Object, old: Object) -> None:
    keep_generation(new, old)
    new["type"] = new.get("type") or old.get("type")


def _check_secret_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    check_immutable(new.get("type"), old.get("type"), "type", faults)
    _check_fixed(new, old, ("data",), faults)
    _check_secret(new, faults)


SECRETS = ResourceDef(
    "",
    "v1",
    "Secret",
    "secrets",
    "secret",
    storage_version_hash="S6u1pOWzb84=",
    field_selectors=selectable("type"),
    columns=(NAME, Column("Type", "string", "@Secret.type", field("type")), _count("data"), AGE),
    strategy=Strategy(
        default=_default_secret,
        validate=creating(_check_secret),
        prepare_update=_prepare_secret_update,
        validate_update=updating(_check_secret_update),
    ),
)


# --- ServiceAccount


def _clean_references(obj: Object) -> None:
    for i, ref in enumerate(obj.get("secrets") or ()):
        obj["secrets"][i] = {"name": ref["name"]} if ref.get("name") else {}


def _check_account(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)


def _check_account_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_account(new, faults)


def _prepare_account_update(new: Object, old: Object) -> None:
    keep_generation(new, old)
    _clean_references(new)


SERVICEACCOUNTS = ResourceDef(
    "",
    "v1",
    "ServiceAccount",
    "serviceaccounts",
    "serviceaccount",
    short_names=("sa",),
    subresources=("token",),
    storage_version_hash="pbx9ZvyFpBE=",
    columns=(NAME, AGE),
    strategy=Strategy(
        prepare_create=_clean_references,
        validate=creating(_check_account),
        prepare_update=_prepare_account_update,
        validate_update=updating(_check_account_update),
    ),
)


# --- Endpoints


def _default_endpoints(obj: Object) -> None:
    for subset in obj.get("subsets") or ():
        for port in subset.get("ports") or ():
            port.setdefault("protocol", "TCP")


def _check_endpoints(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    for i, subset in enumerate(obj.get("subsets") or ()):
        _check_subset(subset, f"subsets[{i}]", faults)


def _check_subset(subset: Object, path: str, faults: Faults) -> None:
    if not subset.get("addresses") and not subset.get("notReadyAddresses"):
        faults.required(path, "must specify `addresses` or `notReadyAddresses`")
    for kind in ("addresses", "notReadyAddresses"):
        for i, address in enumerate(subset.get(kind) or ()):
            _check_endpoint_address(address, f"{path}.{kind}[{i}]", faults)
    ports = subset.get("ports") or []
    for i, port in enumerate(ports):
        _check_endpoint_port(port, f"{path}.ports[{i}]", len(ports) > 1, faults)


def _check_endpoint_address(address: Object, path: str, faults: Faults) -> None:
    ip = address.get("ip", "")
    faults.each(f"{path}.ip", ip, names.endpoint_ip(ip))
    if hostname := address.get("hostname"):
        faults.each(f"{path}.hostname", hostname, names.dns1123_label(hostname))
    if (node := address.get("nodeName")) is not None:
        faults.each(f"{path}.nodeName", node, names.name_is_subdomain(node))


def _check_endpoint_port(port: Object, path: str, name_needed: bool, faults: Faults) -> None:
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


def _check_endpoints_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_endpoints(new, faults)


def _endpoints_cell(obj: Object, _now: float) -> str:
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
    columns=(NAME, Column("Endpoints", "string", "@Endpoints.subsets", _endpoints_cell), AGE),
    strategy=Strategy(
        default=_default_endpoints,
        validate=creating(_check_endpoints),
        prepare_update=keep_generation,
        validate_update=updating(_check_endpoints_update),
        allow_create_on_update=True,
    ),
)


# --- ComponentStatus


def _health(key: str, absent: str) -> Callable[[Object, float], str]:
    """A cell out of the condition Healthy."""

    def cell(obj: Object, _now: float) -> str:
        found = next((c for c in obj.get("conditions") or () if c.get("type") == "Healthy"), None)
        return absent if found is None else str(found.get(key, ""))

    return cell


def _health_cell(obj: Object, now: float) -> str:
    return {"True": "Healthy", "": "Unknown"}.get(_health("status", "")(obj, now), "Unhealthy")


COMPONENTSTATUSES = ResourceDef(
    "",
    "v1",
    "ComponentStatus",
    "componentstatuses",
    "componentstatus",
    namespaced=False,
    short_names=("cs",),
    verbs=("get", "list"),
    live=True,
    deprecation="v1 ComponentStatus is deprecated in v1.19+",
    columns=(
        NAME,
        Column("Status", "string", "Status of the component conditions", _health_cell),
        Column("Message", "string", "Message of the component conditions", _health("message", "")),
        Column("Error", "string", "Error of the component conditions", _health("error", "")),
    ),
)
