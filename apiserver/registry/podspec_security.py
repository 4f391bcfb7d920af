"""Validation of security contexts, of containers and of pods, and of what goes with one operating system only.

Source: k8s.io/kubernetes/pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

import re

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults, inner
from apiserver.registry.podspec_parts import check_choice, check_id, check_ids, check_relative_path, containers_of

_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_PATH_LIMIT = 4095
_GMSA_LIMIT_KIB = 64
_DOMAIN_LIMIT, _USER_LIMIT = 256, 104
_NETBIOS = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}').fullmatch
_DNS_LABEL = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"
_DNS = re.compile(rf"{_DNS_LABEL}(?:\.{_DNS_LABEL})*").fullmatch
_SYSCTL_FORM = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL = re.compile(_SYSCTL_FORM).fullmatch
_SYSCTL_LIMIT = 253
_IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in ("sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced", "shm", "msgmax", "msgmnb", "msgmni", "msg")
)
_NOT_FOR_WINDOWS = "cannot be set for a windows pod"
_POD_LINUX_ONLY = (  # in upstream's order; those of the pod itself have no securityContext in their path
    "appArmorProfile", "seLinuxOptions", "/hostUsers", "/hostPID", "/hostIPC", "seccompProfile", "fsGroup",
    "fsGroupChangePolicy", "sysctls", "/shareProcessNamespace", "runAsUser", "runAsGroup", "supplementalGroups",
    "supplementalGroupsPolicy", "seLinuxChangePolicy",
)  # fmt: skip
_CONTAINER_LINUX_ONLY = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities", "readOnlyRootFilesystem", "privileged",
    "allowPrivilegeEscalation", "procMount", "runAsUser", "runAsGroup",
)  # fmt: skip


def check_container_security(security: Object, host_users: bool, path: str, faults: Faults) -> None:
    for key in ("runAsUser", "runAsGroup"):
        check_id(security, key, path, faults)
    if (mount := security.get("procMount")) is not None:
        if mount not in ("Default", "Unmasked"):
            faults.unsupported(f"{path}.procMount", mount, ("Default", "Unmasked"))
        if host_users and mount == "Unmasked":
            faults.invalid(f"{path}.procMount", mount, "`hostUsers` must be false to use `Unmasked`")
    _check_seccomp(security, path, faults)
    if security.get("allowPrivilegeEscalation") is False:
        shown = inner("core.v1.SecurityContext", security)
        if security.get("privileged"):
            faults.invalid(path, shown, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true")
        for capability in (security.get("capabilities") or {}).get("add") or ():
            if capability == "CAP_SYS_ADMIN":
                text = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"
                faults.invalid(path, shown, text)
    _check_windows(security.get("windowsOptions") or {}, f"{path}.windowsOptions", faults)
    _check_app_armor(security, path, faults)


def check_pod_security(spec: Object, path: str, faults: Faults) -> None:
    security, where = spec.get("securityContext") or {}, f"{path}.securityContext"
    for key in ("fsGroup", "runAsUser", "runAsGroup"):
        check_id(security, key, where, faults)
    check_ids(security.get("supplementalGroups") or [], f"{where}.supplementalGroups", faults)
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        faults.invalid(f"{where}.shareProcessNamespace", True, text)
    _check_sysctls(spec, security.get("sysctls") or [], f"{where}.sysctls", faults)
    _check_policy(security, "fsGroupChangePolicy", ("Always", "OnRootMismatch"), where, faults)
    _check_seccomp(security, where, faults)
    _check_windows(security.get("windowsOptions") or {}, f"{where}.windowsOptions", faults)
    _check_app_armor(security, where, faults)
    _check_policy(security, "supplementalGroupsPolicy", ("Merge", "Strict"), where, faults)
    _check_policy(security, "seLinuxChangePolicy", ("Recursive",), where, faults)


def _check_policy(security: Object, key: str, allowed: tuple[str, ...], path: str, faults: Faults) -> None:
    if (policy := security.get(key)) is not None and policy not in allowed:
        faults.unsupported(f"{path}.{key}", policy, allowed)


def _check_sysctls(spec: Object, sysctls: list[Object], path: str, faults: Faults) -> None:
    seen = set()
    for i, sysctl in enumerate(sysctls):
        name, where = sysctl.get("name", ""), f"{path}[{i}].name"
        if not name:
            faults.required(where)
        elif len(name) > _SYSCTL_LIMIT or not _SYSCTL(name):
            text = f"must have at most {_SYSCTL_LIMIT} characters and match regex ^{_SYSCTL_FORM}$"
            faults.invalid(where, name, text)
        elif name in seen:
            faults.duplicate(where, name)
        if spec.get("hostNetwork") and _namespace(name) == "net":
            faults.invalid(where, name, "may not be specified when 'hostNetwork' is true")
        elif spec.get("hostIPC") and _namespace(name) == "ipc":
            faults.invalid(where, name, "may not be specified when 'hostIPC' is true")
        seen.add(name)


def _namespace(sysctl: str) -> str:
    """Of the kernel's namespaces, the one that the setting belongs to."""
    first = re.search(r"[./]", sysctl)
    if first and first[0] == "/":  # net/ipv4/conf/eth0.1/x: there, dots and slashes trade places
        sysctl = sysctl.translate({ord("/"): ".", ord("."): "/"})
    name = sysctl.partition("*")[0]
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        return "ipc"
    return "net" if name.startswith("net.") else ""


def _check_seccomp(security: Object, path: str, faults: Faults) -> None:
    if (profile := security.get("seccompProfile")) is None:
        return
    kind, where, file = profile.get("type", ""), f"{path}.seccompProfile", profile.get("localhostProfile")
    check_choice(kind, _PROFILES, f"{where}.type", faults, "type is required when seccompProfile is set")
    if kind == "Localhost":
        if file is None:
            faults.required(f"{where}.localhostProfile", "must be set when seccomp type is Localhost")
        else:
            check_relative_path(file, f"{where}.localhostProfile", faults)
    elif file is not None:
        text = "can only be set when seccomp type is Localhost"
        faults.invalid(f"{where}.localhostProfile", inner("core.v1.SeccompProfile", profile), text)


def _check_app_armor(security: Object, path: str, faults: Faults) -> None:
    if (profile := security.get("appArmorProfile")) is None:
        return
    kind, where, name = profile.get("type", ""), f"{path}.appArmorProfile", profile.get("localhostProfile")
    if kind != "Localhost":
        check_choice(kind, _PROFILES, f"{where}.type", faults, "type is required when appArmorProfile is set")
        if name is not None and kind in _PROFILES:
            faults.invalid(f"{where}.localhostProfile", name, "can only be set when AppArmor type is Localhost")
        return
    if name is not None and name != name.strip():
        faults.invalid(f"{where}.localhostProfile", name, "must not be padded with whitespace")
    elif not name:
        faults.required(f"{where}.localhostProfile", "must be set when AppArmor type is Localhost")
    if name is not None and len(name) > _PATH_LIMIT:
        faults.too_long(f"{where}.localhostProfile", _PATH_LIMIT)


# --- operating systems


def _check_windows(options: Object, path: str, faults: Faults) -> None:
    if (name := options.get("gmsaCredentialSpecName")) is not None:
        faults.each(f"{path}.gmsaCredentialSpecName", name, names.dns1123_subdomain(name))
    if (text := options.get("gmsaCredentialSpec")) is not None:
        if not text:
            faults.invalid(f"{path}.gmsaCredentialSpec", text, "gmsaCredentialSpec cannot be an empty string")
        elif len(text) > _GMSA_LIMIT_KIB * 1024:
            said = f"gmsaCredentialSpec size must be under {_GMSA_LIMIT_KIB} KiB"
            faults.invalid(f"{path}.gmsaCredentialSpec", text, said)
    if (user := options.get("runAsUserName")) is not None:
        faults.each(f"{path}.runAsUserName", user, _user_faults(user))


def _user_faults(name: str) -> list[str]:
    """`DOMAIN\\USER`, where the domain may be left out."""
    if not name:
        return ["runAsUserName cannot be an empty string"]
    if any(ord(char) < 32 or ord(char) == 127 for char in name):
        return ["runAsUserName cannot contain control characters"]
    parts = name.split("\\")
    if len(parts) > 2:
        return ["runAsUserName cannot contain more than one backslash"]
    domain, user, found = parts[0] if len(parts) == 2 else "", parts[-1], []
    if len(domain) >= _DOMAIN_LIMIT:
        found.append(f"runAsUserName's Domain length must be under {_DOMAIN_LIMIT} characters")
    if len(parts) == 2 and not (_NETBIOS(domain) or _DNS(domain)):
        found.append("runAsUserName's Domain doesn't match the NetBios nor the DNS format")
    if not user:
        found.append("runAsUserName's User cannot be empty")
    elif len(user) > _USER_LIMIT:
        found.append(f"runAsUserName's User length must not be longer than {_USER_LIMIT} characters")
    if user and not user.strip(". "):
        found.append("runAsUserName's User cannot contain only periods or spaces")
    if re.search(r'["/\\:;|=,+*?<>@\[\]]', user):
        found.append("runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
    return found


def check_host_process(spec: Object, path: str, faults: Faults) -> None:
    """Containers of Windows that run on the host itself: all of a pod's, or none."""
    pod = ((spec.get("securityContext") or {}).get("windowsOptions") or {}).get("hostProcess")
    count = on_host = 0
    for container, where in containers_of(spec, path):
        count += 1
        own = ((container.get("securityContext") or {}).get("windowsOptions") or {}).get("hostProcess")
        if pod is not None and own is not None and pod != own:
            text = f"pod hostProcess value must be identical if both are specified, was {str(pod).lower()}"
            faults.invalid(f"{where}.securityContext.windowsOptions.hostProcess", own, text)
        on_host += bool(pod if own is None else own)
    if not on_host:
        return
    if on_host != count:
        text = "If pod contains any hostProcess containers then all containers must be HostProcess containers"
        faults.invalid(path, "", text)
    if not spec.get("hostNetwork"):
        text = "hostNetwork must be true if pod contains any hostProcess containers"
        faults.invalid(f"{path}.hostNetwork", False, text)


def check_host_users(spec: Object, path: str, faults: Faults) -> None:
    """A user namespace of the pod's own goes with no other namespace of the host."""
    if spec.get("hostUsers") is not False:
        return
    text = "when `hostUsers` is false"
    for key, called in (("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")):
        if spec.get(key):
            faults.forbidden(f"{path}.{called}", text)
    for container, where in containers_of(spec, path):
        if container.get("volumeDevices"):
            faults.forbidden(f"{where}.volumeDevices", text)


def check_os(spec: Object, path: str, faults: Faults) -> None:
    if (system := spec.get("os")) is None:
        return
    name = system.get("name", "")
    if not name:
        faults.required(f"{path}.os.name")
    elif name not in ("linux", "windows"):
        faults.unsupported(f"{path}.os", name, ("linux", "windows"))
    elif name == "linux":
        _check_linux(spec, path, faults)
    else:
        _check_no_linux(spec, path, faults)


def _check_linux(spec: Object, path: str, faults: Faults) -> None:
    for holder, where in ((spec, path), *containers_of(spec, path)):
        if (holder.get("securityContext") or {}).get("windowsOptions") is not None:
            text = "windows options cannot be set for a linux pod"
            faults.forbidden(f"{where}.securityContext.windowsOptions", text)


def _check_no_linux(spec: Object, path: str, faults: Faults) -> None:
    security = spec.get("securityContext") or {}
    for key in _POD_LINUX_ONLY:
        field = key.removeprefix("/")
        holder, where = (spec, path) if field != key else (security, f"{path}.securityContext")
        found = holder.get(field)
        if found if field in ("hostPID", "hostIPC", "sysctls") else found is not None:
            faults.forbidden(f"{where}.{field}", _NOT_FOR_WINDOWS)
    for container, where in containers_of(spec, path):
        security = container.get("securityContext") or {}
        for field in _CONTAINER_LINUX_ONLY:
            if security.get(field) is not None:
                faults.forbidden(f"{where}.securityContext.{field}", _NOT_FOR_WINDOWS)
