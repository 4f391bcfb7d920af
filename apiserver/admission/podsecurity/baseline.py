"""The checks of the level `baseline`: what lets a pod out of its confines.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/#baseline
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from apiserver.admission.podsecurity.findings import (
    Check,
    Finding,
    containers,
    go_quoted,
    named,
    plural,
    quoted,
    security,
    setters,
)
from apiserver.registry.base import Object

APPARMOR = "container.apparmor.security.beta.kubernetes.io/"
SECCOMP_POD, SECCOMP_CONTAINER = (
    "seccomp.security.alpha.kubernetes.io/pod",
    "container.seccomp.security.alpha.kubernetes.io/",
)
PROFILES = ("RuntimeDefault", "Localhost")
CAPABILITIES = frozenset(
    {
        "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
        "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
    }
)  # fmt: skip
SELINUX_TYPES = frozenset({"", "container_t", "container_init_t", "container_kvm_t"})
SYSCTLS = frozenset(
    {
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
    }
)
SYSCTLS_27 = SYSCTLS | {"net.ipv4.ip_local_reserved_ports"}
SYSCTLS_29 = SYSCTLS_27 | {f"net.ipv4.tcp_{end}" for end in ("keepalive_time", "fin_timeout")}
SYSCTLS_29 |= {f"net.ipv4.tcp_keepalive_{end}" for end in ("intvl", "probes")}
SYSCTLS_32 = SYSCTLS_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}


def app_armor(meta: Object, spec: Object) -> Finding | None:
    values: set[str] = set()

    def is_bad(holder: Object) -> bool:
        profile = security(holder).get("appArmorProfile")
        if profile is None or profile.get("type") in PROFILES:
            return False
        values.add(profile.get("type", ""))
        return True

    pod = is_bad(spec)
    who = setters(pod, [c["name"] for c in containers(spec) if is_bad(c)])
    annotations = sorted(
        f"{key}={go_quoted(value)}"
        for key, value in (meta.get("annotations") or {}).items()
        if key.startswith(APPARMOR) and value and value != "runtime/default" and not value.startswith("localhost/")
    )
    if annotations:
        who = " and ".join(filter(None, (who, plural("annotation", annotations))))
    if not who:
        return None
    bad = [*sorted(values), *annotations]
    return Finding(
        plural("forbidden AppArmor profile", bad), f"{who} must not set AppArmor profile type to {quoted(bad)}"
    )


def capabilities(_: Object, spec: Object) -> Finding | None:
    bad = [c for c in containers(spec) if _added(c) - CAPABILITIES]
    if not bad:
        return None
    extra = quoted(sorted(set().union(*map(_added, bad)) - CAPABILITIES))
    text = f"{named([c['name'] for c in bad])} must not include {extra} in securityContext.capabilities.add"
    return Finding("non-default capabilities", text)


def _added(container: Object) -> set[str]:
    return set((security(container).get("capabilities") or {}).get("add") or ())


def host_namespaces(_: Object, spec: Object) -> Finding | None:
    used = [f"{name}=true" for name in ("hostNetwork", "hostPID", "hostIPC") if spec.get(name)]
    return Finding("host namespaces", ", ".join(used)) if used else None


def host_path_volumes(_: Object, spec: Object) -> Finding | None:
    bad = [volume["name"] for volume in spec.get("volumes") or () if volume.get("hostPath") is not None]
    return Finding("hostPath volumes", named(bad, "volume")) if bad else None


def host_ports(_: Object, spec: Object) -> Finding | None:
    ports: set[str] = set()
    bad = []
    for container in containers(spec):
        own = {str(port["hostPort"]) for port in container.get("ports") or () if port.get("hostPort")}
        ports |= own
        bad += [container["name"]] if own else []
    if not bad:
        return None
    uses = "uses" if len(bad) == 1 else "use"
    return Finding("hostPort", f"{named(bad)} {uses} {plural('hostPort', ports)} {', '.join(sorted(ports))}")


def probe_hosts(_: Object, spec: Object) -> Finding | None:
    hosts: set[str] = set()
    bad = set()
    for container in containers(spec):
        lifecycle = container.get("lifecycle") or {}
        probes = [container.get(name) for name in ("livenessProbe", "readinessProbe", "startupProbe")]
        own = set(_hosts([*probes, lifecycle.get("postStart"), lifecycle.get("preStop")]))
        hosts |= own
        bad |= {container["name"]} if own else set()
    if not bad:
        return None
    uses = "uses" if len(bad) == 1 else "use"
    what = plural("probe or lifecycle host", hosts)
    return Finding("probe or lifecycle host", f"{named(sorted(bad))} {uses} {what} {quoted(sorted(hosts))}")


def _hosts(handlers: Iterable[Object | None]) -> Iterable[str]:
    for handler in handlers:
        for kind in ("httpGet", "tcpSocket"):
            if host := ((handler or {}).get(kind) or {}).get("host"):
                yield host


def privileged(_: Object, spec: Object) -> Finding | None:
    bad = [c["name"] for c in containers(spec) if security(c).get("privileged")]
    return Finding("privileged", f"{named(bad)} must not set securityContext.privileged=true") if bad else None


def proc_mount(_: Object, spec: Object) -> Finding | None:
    mounts = {c["name"]: security(c).get("procMount") or "Default" for c in containers(spec)}
    bad = [name for name, kind in mounts.items() if kind != "Default"]
    if not bad:
        return None
    kinds = quoted(sorted({mounts[name] for name in bad}))
    return Finding("procMount", f"{named(bad)} must not set securityContext.procMount to {kinds}")


def relaxed(check: Check) -> Check:
    """The check, for pods that share the host's user namespace."""

    def only_without_own_users(meta: Object, spec: Object) -> Finding | None:
        return None if spec.get("hostUsers") is False else check(meta, spec)

    return only_without_own_users


def selinux(types: frozenset[str]) -> Check:
    def check(_: Object, spec: Object) -> Finding | None:
        found: list[Object] = []

        def is_bad(holder: Object) -> bool:
            options = security(holder).get("seLinuxOptions") or {}
            wrong = options.get("type", "") not in types or bool(options.get("user") or options.get("role"))
            found.extend([options] if wrong else [])
            return wrong

        pod = is_bad(spec)
        who = setters(pod, [c["name"] for c in containers(spec) if is_bad(c)])
        if not who:
            return None
        kinds = sorted({options.get("type", "") for options in found} - types)
        what = [f"{plural('type', kinds)} {quoted(kinds)}"] if kinds else []
        what += [f"{name} may not be set" for name in ("user", "role") if any(options.get(name) for options in found)]
        return Finding("seLinuxOptions", f"{who} set forbidden securityContext.seLinuxOptions: {'; '.join(what)}")

    return check


def seccomp_annotations(meta: Object, spec: Object) -> Finding | None:
    """Before the field: policies of v1.0 to v1.18."""
    annotations: dict[str, str] = meta.get("annotations") or {}
    keys = {SECCOMP_POD, *(SECCOMP_CONTAINER + c["name"] for c in containers(spec))}
    bad = sorted(
        f"{key}={go_quoted(annotations[key])}"
        for key in keys
        if key in annotations
        and annotations[key] not in ("runtime/default", "docker/default")
        and not annotations[key].startswith("localhost/")
    )
    return Finding("seccompProfile", f"forbidden {plural('annotation', bad)} {', '.join(bad)}") if bad else None


def profile_type(holder: Object) -> Any:
    """The type of the seccomp profile; None where there is no profile."""
    profile = security(holder).get("seccompProfile")
    return None if profile is None else profile.get("type", "")


def seccomp(_: Object, spec: Object) -> Finding | None:
    pod = profile_type(spec) not in (None, *PROFILES)
    bad = [c for c in containers(spec) if profile_type(c) not in (None, *PROFILES)]
    if not pod and not bad:
        return None
    values = quoted(sorted({profile_type(holder) for holder in [*([spec] if pod else []), *bad]}))
    who = setters(pod, [c["name"] for c in bad])
    return Finding("seccompProfile", f"{who} must not set securityContext.seccompProfile.type to {values}")


def sysctls(allowed: frozenset[str]) -> Check:
    def check(_: Object, spec: Object) -> Finding | None:
        bad = [one["name"] for one in security(spec).get("sysctls") or () if one["name"] not in allowed]
        return Finding("forbidden sysctls", ", ".join(bad)) if bad else None

    return check


def windows_host_process(_: Object, spec: Object) -> Finding | None:
    def is_bad(holder: Object) -> bool:
        return bool((security(holder).get("windowsOptions") or {}).get("hostProcess"))

    who = setters(is_bad(spec), [c["name"] for c in containers(spec) if is_bad(c)])
    return (
        Finding("hostProcess", f"{who} must not set securityContext.windowsOptions.hostProcess=true") if who else None
    )
