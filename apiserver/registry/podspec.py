"""Validation of pod specs, in Pods and in templates.

Source: k8s.io/kubernetes/pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

from dataclasses import replace

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults, inner
from apiserver.registry.meta import check_annotations, check_labels
from apiserver.registry.podannotations import MIRROR, check_pod_annotations, check_profiles_match
from apiserver.registry.podspec_affinity import check_affinity, check_spread
from apiserver.registry.podspec_containers import check_containers, check_ephemeral_containers, check_init_containers
from apiserver.registry.podspec_parts import Setting, check_choice, check_tolerations, containers_of
from apiserver.registry.podspec_resources import check_container_resources, check_pod_resources
from apiserver.registry.podspec_security import (
    check_host_process,
    check_host_users,
    check_os,
    check_pod_security,
)
from apiserver.registry.podspec_volumes import check_volumes

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION = ("PreemptLowerPriority", "Never")
_MAX_INT32 = 2147483647
_MAX_NAMESERVERS, _MAX_SEARCHES, _MAX_SEARCH_CHARS = 3, 32, 2048
_HOSTNAME_LIMIT = 64


def check_pod_template(template: Object, path: str, faults: Faults) -> None:
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    annotations = meta.get("annotations") or {}
    check_labels(meta.get("labels") or {}, f"{path}.labels", faults)
    check_annotations(annotations, f"{path}.annotations", faults)
    check_pod_annotations(annotations, spec, f"{path}.annotations", faults)
    check_pod_spec(spec, f"{path}.spec", faults)
    check_profiles_match(annotations, spec, f"{path}.spec", faults)
    if spec.get("ephemeralContainers"):
        faults.forbidden(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template")


def check_pod_spec(spec: Object, path: str, faults: Faults, *, pod: Object | None = None) -> None:
    """`pod` is the Pod whose spec it is; a template has none."""
    setting = Setting(spec, is_pod=pod is not None, meta=(pod or {}).get("metadata") or {})
    if spec.get("terminationGracePeriodSeconds") is None:
        faults.required(f"{path}.terminationGracePeriodSeconds")
    volumes = check_volumes(spec.get("volumes") or [], setting, f"{path}.volumes", faults)
    setting = replace(setting, volumes=volumes)
    _check_claims(spec.get("resourceClaims") or [], setting, f"{path}.resourceClaims", faults)
    check_containers(setting, f"{path}.containers", faults)
    check_init_containers(setting, f"{path}.initContainers", faults)
    check_ephemeral_containers(setting, f"{path}.ephemeralContainers", faults)
    check_pod_resources(spec, path, faults)
    _check_host_network(setting, f"{path}.containers", faults)
    check_choice(spec.get("restartPolicy", ""), _RESTART_POLICIES, f"{path}.restartPolicy", faults)
    check_choice(spec.get("dnsPolicy", ""), _DNS_POLICIES, f"{path}.dnsPolicy", faults)
    check_labels(spec.get("nodeSelector") or {}, f"{path}.nodeSelector", faults)
    check_pod_security(spec, path, faults)
    check_affinity(spec.get("affinity") or {}, f"{path}.affinity", faults)
    _check_dns_config(spec, f"{path}.dnsConfig", faults)
    _check_gates(spec, path, faults)
    check_spread(spec.get("topologySpreadConstraints") or [], f"{path}.topologySpreadConstraints", faults)
    check_host_process(spec, path, faults)
    check_host_users(spec, path, faults)
    _check_names(spec, path, faults)
    check_tolerations(spec.get("tolerations") or [], f"{path}.tolerations", faults)
    _check_host_aliases(spec.get("hostAliases") or [], f"{path}.hostAliases", faults)
    _check_classes(spec, path, faults)
    if (overhead := spec.get("overhead")) is not None:
        check_container_resources({"limits": overhead}, frozenset(), f"{path}.overhead", faults)
    check_os(spec, path, faults)
    _check_file_volumes(spec, path, faults)


def _check_claims(claims: list[Object], setting: Setting, path: str, faults: Faults) -> None:
    seen: set[str] = set()
    for i, claim in enumerate(claims):
        if MIRROR in (setting.meta.get("annotations") or {}):
            faults.forbidden("", "static pods do not support resource claims")
        else:
            _check_claim(claim, seen, f"{path}[{i}]", faults)


def _check_claim(claim: Object, seen: set[str], path: str, faults: Faults) -> None:
    name, kinds = claim.get("name", ""), ("resourceClaimName", "resourceClaimTemplateName")
    if not name:
        faults.required(f"{path}.name")
    elif name in seen:
        faults.duplicate(f"{path}.name", name)
    else:
        faults.each(f"{path}.name", name, names.dns1123_label(name))
        seen.add(name)
    given = [kind for kind in kinds if claim.get(kind) is not None]
    if len(given) != 1:
        text = "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified"
        none = "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"
        faults.invalid(path, inner("core.v1.PodResourceClaim", claim), text if given else none)
    for kind in given:
        faults.each(f"{path}.{kind}", claim[kind], names.name_is_subdomain(claim[kind]))


def _check_host_network(setting: Setting, path: str, faults: Faults) -> None:
    """On the node's network, a port is that of the node; templates need not say so."""
    for i, container in enumerate(setting.spec.get("containers") or () if setting.spec.get("hostNetwork") else ()):
        for j, port in enumerate(container.get("ports") or ()):
            host = port.get("hostPort", 0)
            if (setting.is_pod or host) and host != port.get("containerPort", 0):
                text = "must match `containerPort` when `hostNetwork` is true"
                faults.invalid(f"{path}[{i}].ports[{j}].hostPort", host, text)


def _check_dns_config(spec: Object, path: str, faults: Faults) -> None:
    config = spec.get("dnsConfig")
    servers, searches = ((config or {}).get(key) or [] for key in ("nameservers", "searches"))
    if spec.get("dnsPolicy") == "None" and not servers:
        if config is None:
            faults.required(path, "must provide `dnsConfig` when `dnsPolicy` is None")
        else:
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            faults.required(f"{path}.nameservers", text)
        return
    if config is None:
        return
    if len(servers) > _MAX_NAMESERVERS:
        faults.invalid(f"{path}.nameservers", servers, f"must not have more than {_MAX_NAMESERVERS} nameservers")
    for i, server in enumerate(servers):
        faults.each(f"{path}.nameservers[{i}]", server, names.ip_address(server))
    if len(searches) > _MAX_SEARCHES:
        faults.invalid(f"{path}.searches", searches, f"must not have more than {_MAX_SEARCHES} search paths")
    if len(" ".join(searches)) > _MAX_SEARCH_CHARS:
        text = f"must not have more than {_MAX_SEARCH_CHARS} characters (including spaces) in the search list"
        faults.invalid(f"{path}.searches", searches, text)
    for i, search in enumerate(searches):
        if search != ".":
            bare = search.removesuffix(".")
            faults.each(f"{path}.searches[{i}]", bare, names.dns1123_subdomain_with_underscores(bare))
    for i, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            faults.required(f"{path}.options[{i}]", "must not be empty")


def _check_gates(spec: Object, path: str, faults: Faults) -> None:
    for i, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType", "")
        faults.each(f"{path}.readinessGates[{i}].conditionType", kind, names.qualified_name(kind))
    seen: set[str] = set()
    for i, gate in enumerate(spec.get("schedulingGates") or ()):
        name, where = gate.get("name", ""), f"{path}.schedulingGates[{i}]"
        faults.each(where, name, names.qualified_name(name))
        if name in seen:
            faults.duplicate(where, name)
        seen.add(name)


def _check_names(spec: Object, path: str, faults: Faults) -> None:
    if (override := spec.get("hostnameOverride")) is not None:
        for key in ("setHostnameAsFQDN", "hostNetwork"):
            if spec.get(key):
                faults.forbidden(f"{path}.hostnameOverride", f"may not be specified when {key} is true")
        if len(override) > _HOSTNAME_LIMIT:
            faults.too_long(f"{path}.hostnameOverride", _HOSTNAME_LIMIT)
        faults.each(f"{path}.hostnameOverride", override, names.dns1123_subdomain(override))
    for key in ("serviceAccountName", "nodeName"):
        if name := spec.get(key):
            faults.each(f"{path}.{key}", name, names.name_is_subdomain(name))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_INT32:
        faults.invalid(f"{path}.activeDeadlineSeconds", deadline, f"must be between 1 and {_MAX_INT32}, inclusive")
    for key in ("hostname", "subdomain"):
        if name := spec.get(key):
            faults.each(f"{path}.{key}", name, names.dns1123_label(name))


def _check_classes(spec: Object, path: str, faults: Faults) -> None:
    if name := spec.get("priorityClassName"):
        faults.each(f"{path}.priorityClassName", name, names.name_is_subdomain(name))
    if (name := spec.get("runtimeClassName")) is not None:
        faults.each(f"{path}.runtimeClassName", name, names.name_is_subdomain(name))
    if (policy := spec.get("preemptionPolicy")) is not None:
        check_choice(policy, _PREEMPTION, f"{path}.preemptionPolicy", faults)


def _check_host_aliases(aliases: list[Object], path: str, faults: Faults) -> None:
    for i, alias in enumerate(aliases):
        faults.each(f"{path}[{i}].ip", alias.get("ip", ""), names.ip_address(alias.get("ip", "")))
        for j, hostname in enumerate(alias.get("hostnames") or ()):
            faults.each(f"{path}[{i}].hostnames[{j}]", hostname, names.dns1123_subdomain(hostname))


def _check_file_volumes(spec: Object, path: str, faults: Faults) -> None:
    """What the environment reads from a file, it reads from an emptyDir."""
    volumes = {volume.get("name", ""): volume for volume in spec.get("volumes") or ()}
    for container, where in containers_of(spec, path):
        for i, variable in enumerate(container.get("env") or ()):
            if (ref := (variable.get("valueFrom") or {}).get("fileKeyRef")) is None:
                continue
            name, place = ref.get("volumeName", ""), f"{where}.env[{i}].valueFrom.fileKeyRef.volumeName"
            if name not in volumes:
                faults.not_found(place, name)
            elif volumes[name].get("emptyDir") is None:
                faults.invalid(place, name, "referenced volume must be of type emptyDir")
