"""Validation of containers: ports, mounts, probes, hooks, resources, security."""

from __future__ import annotations

from collections.abc import Mapping

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.podspec_env import check_env, check_env_from
from apiserver.registry.podspec_parts import check_relative_path, check_resources
from apiserver.registry.ports import PROTOCOLS, check_port_or_name

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
_MESSAGE_POLICIES = ("FallbackToLogsOnError", "File")
_PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
_HANDLERS = ("exec", "httpGet", "tcpSocket", "grpc", "sleep")
_SCHEMES = ("HTTP", "HTTPS")
_SECCOMP = ("Localhost", "RuntimeDefault", "Unconfined")
_MAX_ID = 2147483647
_NOT_NEGATIVE = "must be greater than or equal to 0"
_PROBE_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")
_NOT_FOR_INIT = "may not be set for init containers without restartPolicy=Always"

Volumes = Mapping[str, Object]


def check_containers(containers: list[Object], volumes: Volumes, path: str, faults: Faults) -> None:
    if not containers:
        faults.required(path)
        return
    seen: set[str] = set()
    for i, container in enumerate(containers):
        where, name = f"{path}[{i}]", container.get("name", "")
        _check_common(container, volumes, where, faults)
        if name in seen:
            faults.duplicate(f"{where}.name", name)
        seen.add(name)
        _check_lifecycle_and_probes(container, where, faults)
    _check_host_ports(containers, path, faults)


def check_init_containers(
    containers: list[Object], regular: list[Object], volumes: Volumes, path: str, faults: Faults
) -> None:
    seen = {c.get("name", "") for c in regular}
    for i, container in enumerate(containers):
        where, name = f"{path}[{i}]", container.get("name", "")
        _check_common(container, volumes, where, faults)
        if name in seen:
            faults.duplicate(f"{where}.name", name)
        elif name:
            seen.add(name)
        if container.get("restartPolicy") == "Always":
            _check_lifecycle_and_probes(container, where, faults)
        else:
            for key in ("lifecycle", "livenessProbe", "readinessProbe", "startupProbe"):
                if container.get(key) is not None:
                    faults.forbidden(f"{where}.{key}", _NOT_FOR_INIT)
        _check_host_ports([container], path, faults)


def _check_common(container: Object, volumes: Volumes, path: str, faults: Faults) -> None:
    if name := container.get("name"):
        faults.each(f"{path}.name", name, names.dns1123_label(name))
    else:
        faults.required(f"{path}.name")
    if not (image := container.get("image", "")):
        faults.required(f"{path}.image")
    elif image != image.strip():
        faults.invalid(f"{path}.image", image, "must not have leading or trailing whitespace")
    if (policy := container.get("terminationMessagePolicy", "")) not in _MESSAGE_POLICIES:
        if policy:
            faults.unsupported(f"{path}.terminationMessagePolicy", policy, _MESSAGE_POLICIES)
        else:
            faults.required(f"{path}.terminationMessagePolicy")
    if ports := container.get("ports"):
        _check_ports(ports, f"{path}.ports", faults)
    if env := container.get("env"):
        check_env(env, f"{path}.env", faults)
    if env_from := container.get("envFrom"):
        check_env_from(env_from, f"{path}.envFrom", faults)
    if mounts := container.get("volumeMounts"):
        _check_mounts(mounts, container, volumes, f"{path}.volumeMounts", faults)
    _check_pull_policy(container.get("imagePullPolicy", ""), f"{path}.imagePullPolicy", faults)
    if resources := container.get("resources"):
        check_resources(resources, f"{path}.resources", faults)
    if security := container.get("securityContext"):
        _check_security(security, f"{path}.securityContext", faults)


def _check_pull_policy(policy: str, path: str, faults: Faults) -> None:
    if not policy:
        faults.required(path)
    elif policy not in PULL_POLICIES:
        faults.unsupported(path, policy, PULL_POLICIES)


def _check_ports(ports: list[Object], path: str, faults: Faults) -> None:
    seen: set[str] = set()
    for i, port in enumerate(ports):
        where = f"{path}[{i}]"
        if name := port.get("name"):
            if found := names.port_name(name):
                faults.each(f"{where}.name", name, found)
            elif name in seen:
                faults.duplicate(f"{where}.name", name)
            seen.add(name)
        if not (number := port.get("containerPort", 0)):
            faults.required(f"{where}.containerPort")
        else:
            faults.each(f"{where}.containerPort", number, names.port_number(number))
        if host_port := port.get("hostPort", 0):
            faults.each(f"{where}.hostPort", host_port, names.port_number(host_port))
        if not (protocol := port.get("protocol")):
            faults.required(f"{where}.protocol")
        elif protocol not in PROTOCOLS:
            faults.unsupported(f"{where}.protocol", protocol, PROTOCOLS)


def _check_host_ports(containers: list[Object], path: str, faults: Faults) -> None:
    """Two containers of a pod cannot hold one port of the node."""
    seen = set()
    for i, container in enumerate(containers):
        for j, port in enumerate(container.get("ports") or ()):
            if not (number := port.get("hostPort")):
                continue
            key = f"{port.get('protocol')}/{port.get('hostIP', '')}/{number}"
            if key in seen:
                faults.duplicate(f"{path}[{i}].ports[{j}].hostPort", key)
            seen.add(key)


def _check_mounts(mounts: list[Object], container: Object, volumes: Volumes, path: str, faults: Faults) -> None:
    seen: set[str] = set()
    for i, mount in enumerate(mounts):
        where, name, target = f"{path}[{i}]", mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            faults.required(f"{where}.name")
        if name not in volumes:
            faults.not_found(f"{where}.name", name)
        if not target:
            faults.required(f"{where}.mountPath")
        if target in seen:
            faults.invalid(f"{where}.mountPath", target, "must be unique")
        seen.add(target)
        _check_sub_path(mount, where, faults)
        propagation = mount.get("mountPropagation")
        if propagation is not None and propagation not in _PROPAGATIONS:
            faults.unsupported(f"{where}.mountPropagation", propagation, _PROPAGATIONS)
        if propagation == "Bidirectional" and not (container.get("securityContext") or {}).get("privileged"):
            text = "Bidirectional mount propagation is available only to privileged containers"
            faults.forbidden(f"{where}.mountPropagation", text)


def _check_sub_path(mount: Object, path: str, faults: Faults) -> None:
    if sub_path := mount.get("subPath"):
        check_relative_path(sub_path, f"{path}.subPath", faults)
    if expression := mount.get("subPathExpr"):
        if mount.get("subPath"):
            faults.invalid(f"{path}.subPathExpr", expression, "subPathExpr and subPath are mutually exclusive")
        check_relative_path(expression, f"{path}.subPathExpr", faults)


# --- probes and hooks


def _check_lifecycle_and_probes(container: Object, path: str, faults: Faults) -> None:
    for hook in ("postStart", "preStop"):
        if handler := (container.get("lifecycle") or {}).get(hook):
            _check_handler(handler, f"{path}.lifecycle.{hook}", faults)
    for kind in ("livenessProbe", "readinessProbe", "startupProbe"):
        if (probe := container.get(kind)) is not None:
            _check_probe(probe, kind, f"{path}.{kind}", faults)


def _check_probe(probe: Object, kind: str, path: str, faults: Faults) -> None:
    _check_handler(probe, path, faults)
    for key in _PROBE_NUMBERS:
        if (value := probe.get(key, 0)) < 0:
            faults.invalid(f"{path}.{key}", value, _NOT_NEGATIVE)
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        faults.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0")
    if kind == "readinessProbe":
        if grace is not None:
            faults.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes")
    elif (threshold := probe.get("successThreshold", 1)) != 1:
        faults.invalid(f"{path}.successThreshold", threshold, "must be 1")


def _check_handler(handler: Object, path: str, faults: Faults) -> None:
    kinds = [kind for kind in _HANDLERS if handler.get(kind) is not None]
    for kind in kinds[1:]:
        faults.forbidden(f"{path}.{kind}", "may not specify more than 1 handler type")
    if not kinds:
        faults.required(path, "must specify a handler type")
        return
    kind, action = kinds[0], handler[kinds[0]]
    where = f"{path}.{kind}"
    if kind == "exec":
        if not action.get("command"):
            faults.required(f"{where}.command")
    elif kind == "httpGet":
        _check_http(action, where, faults)
    elif kind == "tcpSocket":
        check_port_or_name(action.get("port", 0), f"{where}.port", faults)
    elif kind == "grpc":
        faults.each(f"{where}.port", action.get("port", 0), names.port_number(action.get("port", 0)))
    elif action.get("seconds", 0) < 0:
        faults.invalid(f"{where}.seconds", action["seconds"], _NOT_NEGATIVE)


def _check_http(action: Object, path: str, faults: Faults) -> None:
    if not action.get("path"):
        faults.required(f"{path}.path")
    check_port_or_name(action.get("port", 0), f"{path}.port", faults)
    if (scheme := action.get("scheme", "")) not in _SCHEMES:
        faults.unsupported(f"{path}.scheme", scheme, _SCHEMES)
    for header in action.get("httpHeaders") or ():
        faults.each(f"{path}.httpHeaders", header.get("name", ""), names.http_header_name(header.get("name", "")))


# --- security


def check_id(security: Object, key: str, path: str, faults: Faults) -> None:
    """A user or group id."""
    value = security.get(key)
    if value is not None and not 0 <= value <= _MAX_ID:
        faults.invalid(f"{path}.{key}", value, f"must be between 0 and {_MAX_ID}, inclusive")


def check_seccomp(security: Object, path: str, faults: Faults) -> None:
    if (profile := security.get("seccompProfile")) is None:
        return
    kind, where = profile.get("type", ""), f"{path}.seccompProfile"
    if kind == "Localhost":
        if not profile.get("localhostProfile"):
            faults.required(f"{where}.localhostProfile", "must be set when seccomp type is Localhost")
    elif not kind:
        faults.required(f"{where}.type", "type is required when seccompProfile is set")
    elif kind not in _SECCOMP:
        faults.unsupported(f"{where}.type", kind, _SECCOMP)
    elif profile.get("localhostProfile") is not None:
        text = "can only be set when seccomp type is Localhost"
        faults.invalid(f"{where}.localhostProfile", profile["localhostProfile"], text)


def check_proc_mounts(spec: Object, path: str, faults: Faults) -> None:
    """Only who has users of their own may see all of /proc."""
    for kind in ("initContainers", "containers"):
        for number, container in enumerate(spec.get(kind) or ()):
            mount = (container.get("securityContext") or {}).get("procMount")
            where = f"{path}.{kind}[{number}].securityContext.procMount"
            if mount is not None and mount not in _PROC_MOUNTS:
                faults.unsupported(where, mount, _PROC_MOUNTS)
            elif mount == "Unmasked" and spec.get("hostUsers") is not False:
                faults.invalid(where, mount, "`hostUsers` must be false to use `Unmasked`")


_PROC_MOUNTS = ("Default", "Unmasked")


def _check_security(security: Object, path: str, faults: Faults) -> None:
    check_id(security, "runAsUser", path, faults)
    check_id(security, "runAsGroup", path, faults)
    check_seccomp(security, path, faults)
    if security.get("allowPrivilegeEscalation") is False:
        if security.get("privileged"):
            text = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"
            faults.invalid(path, security, text)
        if "CAP_SYS_ADMIN" in ((security.get("capabilities") or {}).get("add") or ()):
            text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
            faults.invalid(path, security, text)
