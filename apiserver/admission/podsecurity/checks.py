"""All checks in the order in which their findings are told, and since which version of Kubernetes each is one.

Source: k8s.io/pod-security-admission/policy (identifiers, versions, what overrides what).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from apiserver.admission.podsecurity import baseline, restricted
from apiserver.admission.podsecurity.findings import Check, Finding
from apiserver.admission.podsecurity.levels import PRIVILEGED, RESTRICTED, Standard
from apiserver.registry.base import Object


@dataclass(frozen=True, slots=True)
class Known:
    """A check: its forms, each from a minor version on, and the check of `baseline` that it takes the place of."""

    name: str
    forms: tuple[tuple[int, Check], ...]
    replaces: str = ""

    def at(self, minor: int) -> Check | None:
        return next((check for since, check in reversed(self.forms) if since <= minor), None)


def _windows(since: int, check: Check) -> tuple[tuple[int, Check], ...]:
    return (since, check), (25, restricted.not_on_windows(check))


BASELINE_CHECKS = (
    Known("appArmorProfile", ((0, baseline.app_armor),)),
    Known("capabilities_baseline", ((0, baseline.capabilities),)),
    Known("hostNamespaces", ((0, baseline.host_namespaces),)),
    Known("hostPathVolumes", ((0, baseline.host_path_volumes),)),
    Known("hostPorts", ((0, baseline.host_ports),)),
    Known("hostProbesAndHostLifecycle", ((34, baseline.probe_hosts),)),
    Known("privileged", ((0, baseline.privileged),)),
    Known("procMount", ((0, baseline.proc_mount), (35, baseline.relaxed(baseline.proc_mount)))),
    Known(
        "seLinuxOptions",
        (
            (0, baseline.selinux(baseline.SELINUX_TYPES)),
            (31, baseline.selinux(baseline.SELINUX_TYPES | {"container_engine_t"})),
        ),
    ),
    Known("seccompProfile_baseline", ((0, baseline.seccomp_annotations), (19, baseline.seccomp))),
    Known(
        "sysctls",
        (
            (0, baseline.sysctls(baseline.SYSCTLS)),
            (27, baseline.sysctls(baseline.SYSCTLS_27)),
            (29, baseline.sysctls(baseline.SYSCTLS_29)),
            (32, baseline.sysctls(baseline.SYSCTLS_32)),
        ),
    ),
    Known("windowsHostProcess", ((0, baseline.windows_host_process),)),
)
RESTRICTED_CHECKS = (
    Known("allowPrivilegeEscalation", _windows(8, restricted.privilege_escalation)),
    Known("capabilities_restricted", _windows(22, restricted.capabilities), "capabilities_baseline"),
    Known("procMount_restricted", ((35, baseline.proc_mount),), "procMount"),
    Known("restrictedVolumes", ((0, restricted.volumes),), "hostPathVolumes"),
    Known("runAsNonRoot", ((0, restricted.non_root), (35, baseline.relaxed(restricted.non_root)))),
    Known("runAsUser", ((23, restricted.non_zero_user), (35, baseline.relaxed(restricted.non_zero_user)))),
    Known("seccompProfile_restricted", _windows(19, restricted.seccomp_needed), "seccompProfile_baseline"),
)


@lru_cache(256)
def checks_of(standard: Standard) -> tuple[Check, ...]:
    """Those of baseline first, less the ones that a stricter check takes the place of."""
    if standard.level == PRIVILEGED:
        return ()
    strict = RESTRICTED_CHECKS if standard.level == RESTRICTED else ()
    replaced = {known.replaces for known in strict if known.at(standard.minor)}
    every = [*(known for known in BASELINE_CHECKS if known.name not in replaced), *strict]
    return tuple(check for known in every if (check := known.at(standard.minor)))


def evaluate(standard: Standard, meta: Object, spec: Object) -> tuple[Finding, ...]:
    """What a pod (or the template of one) does not keep to; empty where it may be."""
    return tuple(finding for check in checks_of(standard) if (finding := check(meta, spec)))


def described(findings: tuple[Finding, ...]) -> str:
    return ", ".join(f"{one.reason} ({one.detail})" if one.detail else one.reason for one in findings)


def reasons(findings: tuple[Finding, ...]) -> str:
    return ", ".join(one.reason for one in findings)
