"""Validation of pod specs, in Pods and in templates.

Source: k8s.io/kubernetes/pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_annotations, check_labels
from apiserver.registry.podspec_containers import (
    check_containers,
    check_id,
    check_init_containers,
    check_proc_mounts,
    check_seccomp,
)
from apiserver.registry.podspec_parts import check_affinity, check_spread, check_tolerations
from apiserver.registry.podspec_volumes import check_volumes

_RESTART_POLICIES = ("Always", "OnFailure", "Never")
_DNS_POLICIES = ("ClusterFirstWithHostNet", "ClusterFirst", "Default", "None")
_PREEMPTION = ("PreemptLowerPriority", "Never")
_MAX_INT32 = 2147483647
_MAX_NAMESERVERS, _MAX_SEARCHES = 3, 32


def check_pod_template(template: Object, path: str, faults: Faults, *, before: Object | None = None) -> None:
    """`before` is the template that this one shall replace: what was allowed once may stay."""
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    check_labels(meta.get("labels") or {}, f"{path}.labels", faults)
    check_annotations(meta.get("annotations") or {}, f"{path}.annotations", faults)
    check_pod_spec(spec, f"{path}.spec", faults)
    if spec.get("ephemeralContainers"):
        faults.forbidden(f"{path}.spec.ephemeralContainers", "ephemeral containers not allowed in pod template")


def check_pod_spec(spec: Object, path: str, faults: Faults) -> None:
    volumes = check_volumes(spec.get("volumes") or [], f"{path}.volumes", faults)
    containers, init = spec.get("containers") or [], spec.get("initContainers") or []
    check_containers(containers, volumes, f"{path}.containers", faults)
    if init:
        check_init_containers(init, containers, volumes, f"{path}.initContainers", faults)
    check_proc_mounts(spec, path, faults)
    _check_policy(spec.get("restartPolicy", ""), _RESTART_POLICIES, f"{path}.restartPolicy", faults)
    _check_policy(spec.get("dnsPolicy", ""), _DNS_POLICIES, f"{path}.dnsPolicy", faults)
    if selector := spec.get("nodeSelector"):
        check_labels(selector, f"{path}.nodeSelector", faults)
    _check_security(spec, path, faults)
    for i, secret in enumerate(spec.get("imagePullSecrets") or ()):
        if not secret.get("name"):
            faults.required(f"{path}.imagePullSecrets[{i}].name")
    if affinity := spec.get("affinity"):
        check_affinity(affinity, f"{path}.affinity", faults)
    _check_dns_config(spec, path, faults)
    for i, gate in enumerate(spec.get("readinessGates") or ()):
        kind = gate.get("conditionType", "")
        faults.each(f"{path}.readinessGates[{i}].conditionType", kind, names.qualified_name(kind))
    if spread := spec.get("topologySpreadConstraints"):
        check_spread(spread, f"{path}.topologySpreadConstraints", faults)
    _check_names(spec, path, faults)
    if tolerations := spec.get("tolerations"):
        check_tolerations(tolerations, f"{path}.tolerations", faults)
    _check_host_aliases(spec.get("hostAliases") or [], f"{path}.hostAliases", faults)
    for key in ("priorityClassName", "runtimeClassName"):
        if name := spec.get(key):
            faults.each(f"{path}.{key}", name, names.name_is_subdomain(name))
    if (policy := spec.get("preemptionPolicy")) is not None:
        _check_policy(policy, _PREEMPTION, f"{path}.preemptionPolicy", faults)


def _check_policy(policy: str, allowed: tuple[str, ...], path: str, faults: Faults) -> None:
    if not policy:
        faults.required(path)
    elif policy not in allowed:
        faults.unsupported(path, policy, allowed)


def _check_security(spec: Object, path: str, faults: Faults) -> None:
    security, where = spec.get("securityContext") or {}, f"{path}.securityContext"
    if spec.get("hostNetwork"):
        for kind in ("containers", "initContainers"):
            for i, container in enumerate(spec.get(kind) or ()):
                for j, port in enumerate(container.get("ports") or ()):
                    if port.get("hostPort") != port.get("containerPort"):
                        text = "must match `containerPort` when `hostNetwork` is true"
                        faults.invalid(f"{path}.{kind}[{i}].ports[{j}].hostPort", port.get("hostPort", 0), text)
    for key in ("fsGroup", "runAsUser", "runAsGroup"):
        check_id(security, key, where, faults)
    for i, group in enumerate(security.get("supplementalGroups") or ()):
        if not 0 <= group <= _MAX_INT32:
            text = f"must be between 0 and {_MAX_INT32}, inclusive"
            faults.invalid(f"{where}.supplementalGroups[{i}]", group, text)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        faults.invalid(f"{path}.shareProcessNamespace", True, text)
    check_seccomp(security, where, faults)


def _check_dns_config(spec: Object, path: str, faults: Faults) -> None:
    config, where = spec.get("dnsConfig"), f"{path}.dnsConfig"
    servers = (config or {}).get("nameservers") or []
    if spec.get("dnsPolicy") == "None":
        if config is None:
            faults.required(where, "must provide `dnsConfig` when `dnsPolicy` is None")
        elif not servers:
            text = "must provide at least one DNS nameserver when `dnsPolicy` is None"
            faults.required(f"{where}.nameservers", text)
    if config is None:
        return
    if len(servers) > _MAX_NAMESERVERS:
        faults.invalid(f"{where}.nameservers", servers, f"must not have more than {_MAX_NAMESERVERS} nameservers")
    for i, server in enumerate(servers):
        faults.each(f"{where}.nameservers[{i}]", server, names.ip_address(server))
    searches = config.get("searches") or []
    if len(searches) > _MAX_SEARCHES:
        faults.invalid(f"{where}.searches", searches, f"must not have more than {_MAX_SEARCHES} search paths")
    for i, search in enumerate(searches):
        if search != ".":
            faults.each(f"{where}.searches[{i}]", search, names.dns1123_subdomain(search.removesuffix(".")))
    for i, option in enumerate(config.get("options") or ()):
        if not option.get("name"):
            faults.required(f"{where}.options[{i}]", "must not be empty")


def _check_names(spec: Object, path: str, faults: Faults) -> None:
    for key in ("serviceAccountName", "nodeName"):
        if name := spec.get(key):
            faults.each(f"{path}.{key}", name, names.name_is_subdomain(name))
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None and not 1 <= deadline <= _MAX_INT32:
        faults.invalid(f"{path}.activeDeadlineSeconds", deadline, f"must be between 1 and {_MAX_INT32}, inclusive")
    for key in ("hostname", "subdomain"):
        if name := spec.get(key):
            faults.each(f"{path}.{key}", name, names.dns1123_label(name))


def _check_host_aliases(aliases: list[Object], path: str, faults: Faults) -> None:
    for i, alias in enumerate(aliases):
        faults.each(f"{path}[{i}].ip", alias.get("ip", ""), names.ip_address(alias.get("ip", "")))
        for j, hostname in enumerate(alias.get("hostnames") or ()):
            faults.each(f"{path}[{i}].hostnames[{j}]", hostname, names.dns1123_subdomain(hostname))
