"""The checks that only the level `restricted` has: today's good practice of hardening pods.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted
"""

from __future__ import annotations

from apiserver.admission.podsecurity.baseline import PROFILES, profile_type, seccomp
from apiserver.admission.podsecurity.findings import (
    Check,
    Finding,
    containers,
    named,
    plural,
    quoted,
    security,
    setters,
)
from apiserver.registry.base import Object

VOLUMES = frozenset(
    {
        "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim", "projected",
        "secret",
    }
)  # fmt: skip
OTHER_VOLUMES = (
    "hostPath", "gcePersistentDisk", "awsElasticBlockStore", "gitRepo", "nfs", "iscsi", "glusterfs", "rbd",
    "flexVolume", "cinder", "cephfs", "flocker", "fc", "azureFile", "vsphereVolume", "quobyte", "azureDisk",
    "photonPersistentDisk", "portworxVolume", "scaleIO", "storageos",
)  # fmt: skip


def not_on_windows(check: Check) -> Check:
    """Pods of Windows cannot set what such checks ask for."""

    def unless_windows(meta: Object, spec: Object) -> Finding | None:
        return None if (spec.get("os") or {}).get("name") == "windows" else check(meta, spec)

    return unless_windows


def privilege_escalation(_: Object, spec: Object) -> Finding | None:
    bad = [c["name"] for c in containers(spec) if security(c).get("allowPrivilegeEscalation") is not False]
    text = "must set securityContext.allowPrivilegeEscalation=false"
    return Finding("allowPrivilegeEscalation != false", f"{named(bad)} {text}") if bad else None


def capabilities(_: Object, spec: Object) -> Finding | None:
    keeping, adding = [], []
    added: set[str] = set()
    for container in containers(spec):
        found = security(container).get("capabilities") or {}
        extra = set(found.get("add") or ()) - {"NET_BIND_SERVICE"}
        added |= extra
        keeping += [] if "ALL" in (found.get("drop") or ()) else [container["name"]]
        adding += [container["name"]] if extra else []
    details = []
    if keeping:
        details.append(f'{named(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        details.append(f"{named(adding)} must not include {quoted(sorted(added))} in securityContext.capabilities.add")
    return Finding("unrestricted capabilities", "; ".join(details)) if details else None


def volumes(_: Object, spec: Object) -> Finding | None:
    bad = [volume for volume in spec.get("volumes") or () if not VOLUMES.intersection(_sources(volume))]
    if not bad:
        return None
    kinds = {next((kind for kind in OTHER_VOLUMES if kind in _sources(volume)), "unknown") for volume in bad}
    uses = "uses" if len(bad) == 1 else "use"
    what = f"{plural('restricted volume type', kinds)} {quoted(sorted(kinds))}"
    return Finding("restricted volume types", f"{named([volume['name'] for volume in bad], 'volume')} {uses} {what}")


def _sources(volume: Object) -> set[str]:
    return {kind for kind, source in volume.items() if source is not None}


def non_root(_: Object, spec: Object) -> Finding | None:
    pod = security(spec).get("runAsNonRoot")
    own = [(c["name"], security(c).get("runAsNonRoot")) for c in containers(spec)]
    if who := setters(pod is False, [name for name, value in own if value is False]):
        return Finding("runAsNonRoot != true", f"{who} must not set securityContext.runAsNonRoot=false")
    silent = [name for name, value in own if value is None and not pod]
    text = "must set securityContext.runAsNonRoot=true"
    return Finding("runAsNonRoot != true", f"pod or {named(silent)} {text}") if silent else None


def non_zero_user(_: Object, spec: Object) -> Finding | None:
    bad = [c["name"] for c in containers(spec) if security(c).get("runAsUser") == 0]
    who = setters(security(spec).get("runAsUser") == 0, bad)
    return Finding("runAsUser=0", f"{who} must not set runAsUser=0") if who else None


def seccomp_needed(meta: Object, spec: Object) -> Finding | None:
    if found := seccomp(meta, spec):
        return found
    silent = [] if profile_type(spec) in PROFILES else [c["name"] for c in containers(spec) if profile_type(c) is None]
    text = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return Finding("seccompProfile", f"pod or {named(silent)} {text}") if silent else None
