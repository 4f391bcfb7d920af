"""Ingresses and IngressClasses."""

from __future__ import annotations

import ipaddress
import re

from apiserver.registry import addresses, names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, NONE, at, field
from apiserver.registry.faults import Faults
from apiserver.registry.meta import (
    check_immutable,
    check_meta,
    check_meta_update,
    counting,
    creating,
    first_generation,
    keep_status,
    next_generation,
    status_only,
    updating,
)

_CLASS_ANNOTATION = "kubernetes.io/ingress.class"
_HTTP_PATH = re.compile(r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+")
_SCOPES = ("Cluster", "Namespace")
_MAX_CONTROLLER = 250
_PATH_TYPES = ("Exact", "ImplementationSpecific", "Prefix")


def _prepare_ingress(obj: Object) -> None:
    obj["metadata"]["generation"] = 1
    obj["status"] = {"loadBalancer": {}}


def _prepare_ingress_update(new: Object, old: Object) -> None:
    keep_status(new, old)
    next_generation(new, old, "spec")


def _check_new_ingress(obj: Object, faults: Faults) -> None:
    _check_ingress(obj, faults)
    annotation, name = (
        at(obj, "metadata.annotations", {}).get(_CLASS_ANNOTATION),
        at(obj, "spec.ingressClassName", None),
    )
    if annotation is not None and name is not None and annotation != name:
        text = "must match `ingressClassName` when both are specified"
        faults.invalid(f"annotations.{_CLASS_ANNOTATION}", annotation, text)


def _check_ingress(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    spec = obj.get("spec") or {}
    rules, backend = spec.get("rules") or [], spec.get("defaultBackend")
    if not rules and backend is None:
        faults.invalid("spec", None, "either `defaultBackend` or `rules` must be specified")
    if backend is not None:
        _check_backend(backend, "spec.defaultBackend", faults)
    for i, rule in enumerate(rules):
        _check_rule(rule, f"spec.rules[{i}]", faults)
    for i, tls in enumerate(spec.get("tls") or ()):
        for j, host in enumerate(tls.get("hosts") or ()):
            check = names.wildcard_subdomain if "*" in host else names.dns1123_subdomain
            faults.each(f"spec.tls[{i}].hosts[{j}]", host, check(host))
        if secret := tls.get("secretName"):
            faults.each(f"spec.tls[{i}].secretName", secret, names.dns1123_subdomain(secret))
    if (name := spec.get("ingressClassName")) is not None:
        faults.each("spec.ingressClassName", name, names.dns1123_subdomain(name))


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _check_rule(rule: Object, path: str, faults: Faults) -> None:
    if host := rule.get("host"):
        if _is_ip(host):
            faults.invalid(f"{path}.host", host, "must be a DNS name, not an IP address")
        check = names.wildcard_subdomain if "*" in host else names.dns1123_subdomain
        faults.each(f"{path}.host", host, check(host))
    http = rule.get("http")
    if http is None:
        return
    if not http.get("paths"):
        faults.required(f"{path}.http.paths")
    for i, entry in enumerate(http.get("paths") or ()):
        _check_path(entry, f"{path}.http.paths[{i}]", faults)


def _check_path(entry: Object, path: str, faults: Faults) -> None:
    kind, value = entry.get("pathType"), entry.get("path", "")
    if kind is None:
        faults.required(f"{path}.pathType", "pathType must be specified")
        return
    if kind in ("Exact", "Prefix"):
        if not value.startswith("/"):
            faults.invalid(f"{path}.path", value, "must be an absolute path")
        for bad in ("//", "/./", "/../", "%2f", "%2F"):
            if bad in value:
                faults.invalid(f"{path}.path", value, f"must not contain '{bad}'")
        for bad in ("/..", "/."):
            if value.endswith(bad):
                faults.invalid(f"{path}.path", value, f"cannot end with '{bad}'")
    elif kind == "ImplementationSpecific":
        if value and not value.startswith("/"):
            faults.invalid(f"{path}.path", value, "must be an absolute path")
    else:
        faults.unsupported(f"{path}.pathType", kind, _PATH_TYPES)
    _check_backend(entry.get("backend") or {}, f"{path}.backend", faults)


def _check_backend(backend: Object, path: str, faults: Faults) -> None:
    service, resource = backend.get("service"), backend.get("resource")
    if resource is not None and service is not None:
        faults.invalid(path, "", "cannot set both resource and service backends")
    elif resource is not None:
        _check_reference(resource, f"{path}.resource", faults)
    elif service is None:
        faults.invalid(path, "", "resource or service backend is required")
    else:
        _check_service_backend(service, path, faults)


def _check_reference(ref: Object, path: str, faults: Faults) -> None:
    if (group := ref.get("apiGroup")) is not None:
        faults.each(f"{path}.apiGroup", group, names.dns1123_subdomain(group))
    for key in ("kind", "name"):
        if value := ref.get(key):
            faults.each(f"{path}.{key}", value, names.path_segment_name(value))
        else:
            faults.required(f"{path}.{key}")


def _check_service_backend(service: Object, path: str, faults: Faults) -> None:
    if name := service.get("name"):
        faults.each(f"{path}.service.name", name, names.dns1123_label(name))
    else:
        faults.required(f"{path}.service.name")
    port = service.get("port") or {}
    number, name = port.get("number", 0), port.get("name", "")
    if name and number:
        faults.invalid(path, "", "cannot set both port name & port number")
    elif name:
        faults.each(f"{path}.service.port.name", name, names.port_name(name))
    elif not number:
        faults.required(path, "port name or number is required")
    else:
        faults.each(f"{path}.service.port.number", number, names.port_number(number))


def _check_ingress_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_ingress(new, faults)


def _check_ingress_status(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    for i, ingress in enumerate(at(new, "status.loadBalancer.ingress", [])):
        path = f"status.loadBalancer.ingress[{i}]"
        if ip := ingress.get("ip"):
            faults.each(f"{path}.ip", ip, names.ip_address(ip))
        if host := ingress.get("hostname"):
            faults.each(f"{path}.hostname", host, names.dns1123_subdomain(host))
            if _is_ip(host):
                faults.invalid(f"{path}.hostname", host, "must be a DNS name, not an IP address")


def _ingress_warnings(new: Object, old: Object | None) -> list[str]:
    """Of the old way to name a class, when an Ingress is made."""
    named = old is not None or at(new, "spec.ingressClassName", None) is not None
    if named or _CLASS_ANNOTATION not in at(new, "metadata.annotations", {}):
        return []
    return [f"annotation \"{_CLASS_ANNOTATION}\" is deprecated, please use 'spec.ingressClassName' instead"]


def _status_warnings(new: Object, _old: Object | None) -> list[str]:
    path, entries = "status.loadBalancer.ingress", at(new, "status.loadBalancer.ingress", [])
    return [w for i, e in enumerate(entries) for w in addresses.ip_warnings(e.get("ip", ""), f"{path}[{i}]")]


def _class_cell(obj: Object, _now: float) -> str:
    return str(at(obj, "spec.ingressClassName") or at(obj, "metadata.annotations", {}).get(_CLASS_ANNOTATION) or NONE)


def _hosts_cell(obj: Object, _now: float) -> str:
    hosts = [h for rule in at(obj, "spec.rules", []) if (h := rule.get("host"))]
    shown = ",".join(hosts[:3]) or "*"
    return f"{shown} + {len(hosts) - 3} more..." if len(hosts) > 3 else shown


def _address_cell(obj: Object, _now: float) -> str:
    entries = at(obj, "status.loadBalancer.ingress", [])
    return ",".join(e.get("ip") or e.get("hostname", "") for e in entries)


INGRESSES = ResourceDef(
    "networking.k8s.io",
    "v1",
    "Ingress",
    "ingresses",
    "ingress",
    short_names=("ing",),
    subresources=("status",),
    storage_version_hash="39NQlfNR+bo=",
    columns=(
        NAME,
        Column(
            "Class",
            "string",
            "The name of the IngressClass resource that should be used for additional configuration",
            _class_cell,
        ),
        Column(
            "Hosts", "string", "Hosts that incoming requests are matched against before the ingress rule", _hosts_cell
        ),
        Column("Address", "string", "Address is a list containing ingress points for the load-balancer", _address_cell),
        Column(
            "Ports",
            "string",
            "Ports of TLS configurations that open",
            lambda o, _: "80, 443" if at(o, "spec.tls", []) else "80",
        ),
        AGE,
    ),
    strategy=Strategy(
        prepare_create=_prepare_ingress,
        validate=creating(_check_new_ingress),
        prepare_update=_prepare_ingress_update,
        validate_update=updating(_check_ingress_update),
        prepare_status_update=status_only,
        validate_status_update=updating(_check_ingress_status),
        warnings=_ingress_warnings,
        status_warnings=_status_warnings,
    ),
)


def _default_class(obj: Object) -> None:
    if (parameters := at(obj, "spec.parameters", None)) is not None:
        parameters["scope"] = parameters.get("scope") or "Cluster"


def _check_class(obj: Object, faults: Faults) -> None:
    check_meta(obj, False, names.name_is_subdomain, faults)
    controller = at(obj, "spec.controller")
    if len(controller) > _MAX_CONTROLLER:
        faults.too_long("spec.controller", _MAX_CONTROLLER)
    _check_domain_path(controller, "spec.controller", faults)
    if (parameters := at(obj, "spec.parameters", None)) is not None:
        _check_parameters(parameters, "spec.parameters", faults)


def _check_domain_path(value: str, path: str, faults: Faults) -> None:
    if not value:
        faults.required(path)
        return
    host, _, rest = value.partition("/")
    if not host or not rest:
        faults.invalid(path, value, 'must be a domain-prefixed path (such as "acme.io/foo")')
        return
    faults.each(path, host, names.dns1123_subdomain(host))
    if not _HTTP_PATH.fullmatch(rest):
        faults.invalid(path, rest, f"Invalid path (regex used for validation is '{_HTTP_PATH.pattern}')")


def _check_parameters(parameters: Object, path: str, faults: Faults) -> None:
    _check_reference(parameters, path, faults)
    scope, namespace = parameters.get("scope"), parameters.get("namespace")
    if scope not in _SCOPES:
        faults.unsupported(f"{path}.scope", scope, _SCOPES)
    elif scope == "Cluster":
        if namespace is not None:
            faults.forbidden(f"{path}.namespace", "`parameters.scope` is set to 'Cluster'")
    elif namespace is None:
        faults.required(f"{path}.namespace", "`parameters.scope` is set to 'Namespace'")
    else:
        faults.each(f"{path}.namespace", namespace, names.name_is_label(namespace))


def _check_class_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    check_immutable(at(new, "spec.controller"), at(old, "spec.controller"), "spec.controller", faults)
    _check_class(new, faults)


def _parameters_cell(obj: Object, _now: float) -> str:
    if not (ref := at(obj, "spec.parameters", None)):
        return NONE
    kind = f"{ref.get('kind')}.{ref['apiGroup']}" if ref.get("apiGroup") else ref.get("kind")
    return f"{kind}/{ref.get('name')}"


INGRESSCLASSES = ResourceDef(
    "networking.k8s.io",
    "v1",
    "IngressClass",
    "ingressclasses",
    "ingressclass",
    namespaced=False,
    storage_version_hash="l/iqIbDgFyQ=",
    columns=(
        NAME,
        Column(
            "Controller", "string", "Controller that is responsible for handling this class", field("spec.controller")
        ),
        Column("Parameters", "string", "A reference to a resource with additional parameters", _parameters_cell),
        AGE,
    ),
    strategy=Strategy(
        default=_default_class,
        validate=creating(_check_class),
        validate_update=updating(_check_class_update, namespaced=False),
        prepare_create=first_generation,
        prepare_update=counting("spec"),
    ),
)
