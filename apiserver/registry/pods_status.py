"""Validation of what nodes, and others, write into the status of pods.

Source: k8s.io/kubernetes/pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

from apiserver.registry import names
from apiserver.registry.addresses import parse_ip
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults, inner
from apiserver.registry.meta import check_immutable, check_meta_update
from apiserver.registry.podannotations import check_annotations_update
from apiserver.registry.podspec_parts import check_id, check_ids

_SYSTEM_CONDITIONS = ("PodScheduled", "Ready", "Initialized")
_NOT_NEGATIVE = "must be a non-negative integer"
_HEALTH = ("Healthy", "Unhealthy", "Unknown")
_MESSAGE_LIMIT = 1024
_KINDS = {
    "containerStatuses": "containers",
    "initContainerStatuses": "initContainers",
    "ephemeralContainerStatuses": "ephemeralContainers",
}


def check_status_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    check_annotations_update(new, old, faults)
    status, was, spec = new.get("status") or {}, old.get("status") or {}, new.get("spec") or {}
    _check_conditions(status.get("conditions") or [], faults)
    _check_nominated(status, was, spec, faults)
    if (generation := status.get("observedGeneration", 0)) < 0:
        faults.invalid("status.observedGeneration", generation, _NOT_NEGATIVE)
    check_immutable(status.get("qosClass", ""), was.get("qosClass", ""), "status.qosClass", faults)
    _check_transitions(status, was, spec, faults)
    _check_claims(status, spec, faults)
    _check_extended(status.get("extendedResourceClaimStatus"), spec, faults)
    _check_addresses(status, was, faults)
    if ((spec.get("os") or {}).get("name") or "linux") in ("linux", "windows"):
        _check_users(status, (spec.get("os") or {}).get("name") == "windows", faults)
    _check_allocated(status, spec, faults)


def _check_conditions(conditions: list[Object], faults: Faults) -> None:
    for i, condition in enumerate(conditions):
        where, kind = f"status.conditions[{i}]", condition.get("type", "")
        if (generation := condition.get("observedGeneration", 0)) < 0:
            faults.invalid(f"{where}.observedGeneration", generation, _NOT_NEGATIVE)
        if kind not in _SYSTEM_CONDITIONS:
            faults.each(f"{where}.Type", kind, names.qualified_name(kind))


def _check_nominated(status: Object, was: Object, spec: Object, faults: Faults) -> None:
    node, path = status.get("nominatedNodeName", ""), "status.nominatedNodeName"
    if not node or node == was.get("nominatedNodeName"):
        return
    faults.each(path, node, names.name_is_subdomain(node))
    if spec.get("nodeName"):
        faults.forbidden(path, "may not be set on pods that are already bound to a node")


# --- containers


def _check_transitions(status: Object, was: Object, spec: Object, faults: Faults) -> None:
    """What ended stays so, where nothing lets it start again."""
    every = [c for kind in ("initContainers", "containers") for c in spec.get(kind) or ()]
    rules = [rule for container in every for rule in container.get("restartPolicyRules") or ()]
    all_may = any(rule.get("action") == "RestartAllContainers" for rule in rules)
    for kind, holders in _KINDS.items():
        if all_may and kind != "ephemeralContainerStatuses":
            continue
        now = {one.get("name", ""): one for one in reversed(status.get(kind) or [])}
        known = {c.get("name", ""): c for c in spec.get(holders) or ()}
        for i, before in enumerate(was.get(kind) or ()):
            ended, name = (before.get("state") or {}).get("terminated"), before.get("name", "")
            if ended is None or name not in now or (now[name].get("state") or {}).get("terminated") is not None:
                continue
            if holders == "ephemeralContainers" or name not in known or not _restarts(known[name], spec, ended):
                faults.forbidden(f"status.{kind}[{i}].state", "may not be transitioned to non-terminated state")


def _restarts(container: Object, spec: Object, ended: Object) -> bool:
    code = ended.get("exitCode", 0)
    own = container.get("restartPolicy")
    for rule in container.get("restartPolicyRules") or () if own is not None else ():
        codes = rule.get("exitCodes") or {}
        if (code in (codes.get("values") or ())) == (codes.get("operator") == "In"):
            return True
    policy = own or spec.get("restartPolicy")
    return bool(code) if policy == "OnFailure" else policy != "Never"


def _check_users(status: Object, windows: bool, faults: Faults) -> None:
    for kind in _KINDS:
        for i, one in enumerate(status.get(kind) or ()):
            user, where = (one.get("user") or {}).get("linux"), f"status.{kind}[{i}].user.linux"
            if user is not None and windows:
                faults.forbidden(where, "cannot be set for a windows pod")
            elif user is not None:
                for key in ("uid", "gid"):
                    check_id(user, key, where, faults)
                check_ids(user.get("supplementalGroups") or [], f"{where}.supplementalGroups", faults)


def _check_allocated(status: Object, spec: Object, faults: Faults) -> None:
    for kind, holders in _KINDS.items():
        known = {c.get("name", ""): c for c in spec.get(holders) or ()}
        for i, one in enumerate(status.get(kind) or ()):
            where, found = f"status.{kind}[{i}].allocatedResourcesStatus", one.get("allocatedResourcesStatus") or ()
            if found and holders == "ephemeralContainers":
                faults.forbidden(where, "must not be specified in container status")
                continue
            for j, resource in enumerate(found):
                _check_health(resource, known.get(one.get("name", "")), f"{where}[{j}]", faults)


def _check_health(resource: Object, container: Object | None, path: str, faults: Faults) -> None:
    name, wanted = resource.get("name", ""), (container or {}).get("resources") or {}
    claims = [f"claim:{'/'.join(filter(None, (c.get('name'), c.get('request'))))}" for c in wanted.get("claims") or ()]
    if container is not None and name.startswith("claim:") and name not in claims:
        text = (
            "must match one of the container's resource claims in a format 'claim:<claimName>/<request>' or "
            "'claim:<claimName>' if request is empty"
        )
        faults.invalid(f"{path}.name", name, text)
    elif container is not None and not name.startswith("claim:") and name not in (wanted.get("requests") or {}):
        faults.invalid(f"{path}.name", name, "must match one of the container's resource requests")
    seen = set()
    for i, one in enumerate(resource.get("resources") or ()):
        where, health, message = f"{path}.resources[{i}]", one.get("health", ""), one.get("message")
        if health not in _HEALTH:
            faults.unsupported(f"{where}.health", health, _HEALTH)
        if message == "":
            faults.required(f"{where}.message", "must be non-empty if specified")
        elif message is not None and len(message.encode()) > _MESSAGE_LIMIT:
            faults.too_long(f"{where}.message", _MESSAGE_LIMIT)
        if (identity := one.get("resourceID", "")) in seen:
            faults.duplicate(f"{where}.resourceID", identity)
        seen.add(identity)


# --- claims


def _check_claims(status: Object, spec: Object, faults: Faults) -> None:
    known, seen = {c.get("name", "") for c in spec.get("resourceClaims") or ()}, set()
    for i, one in enumerate(status.get("resourceClaimStatuses") or ()):
        where, name, claim = f"status.resourceClaimStatuses[{i}]", one.get("name", ""), one.get("resourceClaimName")
        if name not in known:
            faults.invalid(f"{where}.name", name, "must match the name of an entry in `spec.resourceClaims`")
        if name in seen:
            faults.duplicate(f"{where}.name", name)
        seen.add(name)
        if claim is not None:
            faults.each(f"{where}.resourceClaimName", claim, names.name_is_subdomain(claim))


def _check_extended(status: Object | None, spec: Object, faults: Faults) -> None:
    """The claim that stands for extended resources."""
    if status is None:
        return
    path = "status.extendedResourceClaimStatus"
    containers = {c.get("name", ""): c for kind in ("initContainers", "containers") for c in spec.get(kind) or ()}
    if not (mappings := status.get("requestMappings") or []):
        faults.required(f"{path}.requestMappings", "at least one request mapping is required")
    seen = set()
    holders = "resources.requests or spec.containers.resources.requests"
    for i, mapping in enumerate(mappings):
        where = f"{path}.requestMappings[{i}]"
        key = tuple(mapping.get(f"{field}Name", "") for field in ("container", "resource", "request"))
        container, resource, request = key
        if container not in containers:
            text = "must match the name of an entry in spec.initContainers.name or spec.containers.name"
            faults.invalid(f"{where}.containerName", container, text)
        elif resource not in ((containers[container].get("resources") or {}).get("requests") or {}):
            text = f"must match the extended resource name of an entry in spec.initContainers.{holders}"
            faults.invalid(f"{where}.resourceName", resource, text)
        faults.each(f"{path}.requestName", request, names.dns1123_label(request))
        if key in seen:
            for field, value in zip(("container", "resource", "request"), key, strict=True):
                faults.duplicate(f"{where}.{field}Name", value)
        seen.add(key)
    if claim := status.get("resourceClaimName"):
        faults.each(f"{path}.resourceClaimName", claim, names.name_is_subdomain(claim))
    else:
        faults.required(f"{path}.resourceClaimName")


# --- addresses


def _check_addresses(status: Object, was: Object, faults: Faults) -> None:
    _check_ips(status, was, "podIPs", "core.v1.PodIP", faults)
    hosts = status.get("hostIPs") or []
    if hosts and status.get("hostIP", "") != hosts[0].get("ip", ""):
        faults.invalid("status.hostIPs[0].ip", hosts[0].get("ip", ""), "must be equal to `hostIP`")
    _check_ips(status, was, "hostIPs", "core.v1.HostIP", faults)


def _check_ips(status: Object, was: Object, key: str, kind: str, faults: Faults) -> None:
    entries = status.get(key) or []
    before = {entry.get("ip", "") for entry in was.get(key) or ()}
    ips = [entry.get("ip", "") for entry in entries]
    for i, ip in enumerate(ips):
        if ip not in before:
            faults.each(f"status.{key}[{i}]", ip, names.ip_address(ip))
    parsed = [parse_ip(ip) for ip in ips]
    if len(ips) > 1 and None in parsed:
        wrong = parsed.index(None)
        faults.internal(f"status.{key}", f"failed to check for dual stack with error:invalid IP[{wrong}]: {ips[wrong]}")
    versions = {ip.version for ip in parsed if ip is not None}
    if len(ips) > 1 and (len(ips) > 2 or None in parsed or len(versions) != 2):
        text = "may specify no more than one IP for each IP family"
        faults.invalid(f"status.{key}", inner(f"[]{kind}", entries), text)
