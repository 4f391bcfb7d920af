"""Validation of containers, each kind with what it may have.

Source: k8s.io/kubernetes/pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.podspec_env import check_env, check_env_from
from apiserver.registry.podspec_mounts import check_devices, check_mounts
from apiserver.registry.podspec_parts import Setting, check_choice
from apiserver.registry.podspec_probes import PROBES, check_lifecycle_and_probes
from apiserver.registry.podspec_resources import check_container_resources
from apiserver.registry.podspec_security import check_container_security
from apiserver.registry.podspec_volumes import PULL_POLICIES
from apiserver.registry.ports import PROTOCOLS

_MESSAGE_POLICIES = ("File", "FallbackToLogsOnError")
_RESTART_POLICIES = ("Always", "Never", "OnFailure")
_RULE_ACTIONS = ("Restart", "RestartAllContainers")
_RESIZABLE, _RESIZE_POLICIES = ("cpu", "memory"), ("NotRequired", "RestartContainer")
_MOST_RULES, _MOST_CODES = 20, 255
_RULES_NEED_POLICY = "must specify restartPolicy when restart rules are used"
_NOT_FOR_INIT = "may not be set for init containers without restartPolicy=Always"
_POINTERS = ("restartPolicy", "lifecycle", *PROBES)  # what is there even when it is empty
_NOT_EPHEMERAL = (  # in upstream's order
    "ports", "resources", "resizePolicy", "restartPolicy", "restartPolicyRules", *PROBES, "lifecycle",
)  # fmt: skip


def check_containers(setting: Setting, path: str, faults: Faults) -> None:
    containers = setting.spec.get("containers") or []
    if not containers:
        faults.required(path)
        return
    seen: set[str] = set()
    for i, container in enumerate(containers):
        where, name = f"{path}[{i}]", container.get("name", "")
        _check_common(container, setting, where, faults)
        if name in seen:
            faults.duplicate(f"{where}.name", name)
        seen.add(name)
        check_lifecycle_and_probes(container, setting.grace, where, faults)
        _check_restart(container, where, faults)
    _check_host_ports(containers, path, faults)


def check_init_containers(setting: Setting, path: str, faults: Faults) -> None:
    seen = {c.get("name", "") for c in setting.spec.get("containers") or ()}
    for i, container in enumerate(setting.spec.get("initContainers") or ()):
        where, name = f"{path}[{i}]", container.get("name", "")
        _check_common(container, setting, where, faults)
        if container.get("restartPolicy") is not None or not container.get("restartPolicyRules"):
            _check_restart(container, where, faults)
        else:
            faults.required(f"{where}.restartPolicy", _RULES_NEED_POLICY)
        if name in seen:
            faults.duplicate(f"{where}.name", name)
        elif name:
            seen.add(name)
        _check_host_ports([container], path, faults)
        if container.get("restartPolicy") == "Always":
            check_lifecycle_and_probes(container, setting.grace, where, faults)
        else:
            _check_plain_init(container, where, faults)


def _check_plain_init(container: Object, path: str, faults: Faults) -> None:
    for key in ("lifecycle", *PROBES):
        if container.get(key) is not None:
            faults.forbidden(f"{path}.{key}", _NOT_FOR_INIT)
    for j, policy in enumerate(container.get("resizePolicy") or ()):
        if policy.get("restartPolicy") == "RestartContainer":
            text = "must not be set to 'RestartContainer' for non-sidecar initContainers"
            faults.invalid(f"{path}.resizePolicy[{j}].restartPolicy", "RestartContainer", text)


def check_ephemeral_containers(setting: Setting, path: str, faults: Faults) -> None:
    spec = setting.spec
    others = {c.get("name", "") for kind in ("containers", "initContainers") for c in spec.get(kind) or ()}
    seen = set(others)
    for i, container in enumerate(spec.get("ephemeralContainers") or ()):
        where, name = f"{path}[{i}]", container.get("name", "")
        _check_common(container, setting, where, faults)
        check_image_trimmed(container, where, faults)
        if name in seen:
            faults.duplicate(f"{where}.name", name)
        seen.add(name)
        if (target := container.get("targetContainerName")) and target not in others:
            faults.not_found(f"{where}.targetContainerName", target)
        for key in _NOT_EPHEMERAL:
            if container.get(key) or (key in _POINTERS and container.get(key) is not None):
                faults.forbidden(f"{where}.{key}", "cannot be set for an Ephemeral Container")
        for j, mount in enumerate(container.get("volumeMounts") or ()):
            for key in ("subPath", "subPathExpr"):
                if mount.get(key):
                    text = "cannot be set for an Ephemeral Container"
                    faults.forbidden(f"{where}.volumeMounts[{j}].{key}", text)


def check_image_trimmed(container: Object, path: str, faults: Faults) -> None:
    if (image := container.get("image", "")) != image.strip():
        faults.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")


def _check_common(container: Object, setting: Setting, path: str, faults: Faults) -> None:
    if name := container.get("name"):
        faults.each(f"{path}.name", name, names.dns1123_label(name))
    else:
        faults.required(f"{path}.name")
    if not container.get("image"):
        faults.required(f"{path}.image")
    policy = container.get("terminationMessagePolicy", "")
    check_choice(policy, _MESSAGE_POLICIES, f"{path}.terminationMessagePolicy", faults)
    _check_ports(container.get("ports") or [], f"{path}.ports", faults)
    check_env(container.get("env") or [], f"{path}.env", faults)
    check_env_from(container.get("envFrom") or [], f"{path}.envFrom", faults)
    check_mounts(container, setting.volumes, f"{path}.volumeMounts", faults)
    check_devices(container, setting.volumes, f"{path}.volumeDevices", faults)
    check_choice(container.get("imagePullPolicy", ""), PULL_POLICIES, f"{path}.imagePullPolicy", faults)
    if resources := container.get("resources"):
        check_container_resources(resources, setting.claims, f"{path}.resources", faults)
    _check_resize(container.get("resizePolicy") or [], setting.spec, f"{path}.resizePolicy", faults)
    if security := container.get("securityContext"):
        check_container_security(security, setting.host_users, f"{path}.securityContext", faults)


def _check_ports(ports: list[Object], path: str, faults: Faults) -> None:
    seen: set[str] = set()
    for i, port in enumerate(ports):
        where = f"{path}[{i}]"
        if name := port.get("name"):
            if found := names.port_name(name):
                faults.each(f"{where}.name", name, found)
            elif name in seen:
                faults.duplicate(f"{where}.name", name)
            else:
                seen.add(name)
        if not (number := port.get("containerPort", 0)):
            faults.required(f"{where}.containerPort")
        else:
            faults.each(f"{where}.containerPort", number, names.port_number(number))
        if host_port := port.get("hostPort", 0):
            faults.each(f"{where}.hostPort", host_port, names.port_number(host_port))
        check_choice(port.get("protocol", ""), PROTOCOLS, f"{where}.protocol", faults)


def _check_host_ports(containers: list[Object], path: str, faults: Faults) -> None:
    """Two containers of a pod cannot hold one port of the node."""
    seen = set()
    for i, container in enumerate(containers):
        for j, port in enumerate(container.get("ports") or ()):
            if not (number := port.get("hostPort")):
                continue
            key = f"{port.get('protocol', '')}/{port.get('hostIP', '')}/{number}"
            if key in seen:
                faults.duplicate(f"{path}[{i}].ports[{j}].hostPort", key)
            seen.add(key)


def _check_resize(policies: list[Object], spec: Object, path: str, faults: Faults) -> None:
    seen = set()
    for i, policy in enumerate(policies):
        resource, restart = policy.get("resourceName", ""), policy.get("restartPolicy", "")
        if resource in seen:
            faults.duplicate(f"{path}[{i}]", resource)
        seen.add(resource)
        check_choice(resource, _RESIZABLE, path, faults)
        check_choice(restart, _RESIZE_POLICIES, path, faults)
        if spec.get("restartPolicy") == "Never" and restart != "NotRequired":
            faults.invalid(path, restart, "must be 'NotRequired' when pod `restartPolicy` is 'Never'")


def _check_restart(container: Object, path: str, faults: Faults) -> None:
    """A container's own restart policy, and its rules by exit code."""
    policy, rules = container.get("restartPolicy"), container.get("restartPolicyRules") or []
    if policy is None:
        if rules:
            faults.required(f"{path}.restartPolicy", _RULES_NEED_POLICY)
    elif policy not in _RESTART_POLICIES:
        faults.unsupported(f"{path}.restartPolicy", policy, _RESTART_POLICIES)
    if len(rules) > _MOST_RULES:
        faults.too_many(f"{path}.restartPolicyRules", len(rules), _MOST_RULES)
    for i, rule in enumerate(rules):
        _check_rule(rule, f"{path}.restartPolicyRules[{i}]", faults)


def _check_rule(rule: Object, path: str, faults: Faults) -> None:
    if (action := rule.get("action", "")) not in _RULE_ACTIONS:
        faults.unsupported(f"{path}.action", action, _RULE_ACTIONS)
    if (codes := rule.get("exitCodes")) is None:
        faults.required(f"{path}.exitCodes", "must be specified")
        return
    if (operator := codes.get("operator", "")) not in ("In", "NotIn"):
        faults.unsupported(f"{path}.exitCodes.operator", operator, ("In", "NotIn"))
    if len(values := codes.get("values") or ()) > _MOST_CODES:
        faults.too_many(f"{path}.exitCodes.values", len(values), _MOST_CODES)
