"""Annotations of pods that have a meaning of their own: mirror pods, deletion cost, and the old names of profiles.

Source: https://kubernetes.io/docs/reference/labels-annotations-taints/; KEP-24 (AppArmor), KEP-135 (seccomp).
"""

from __future__ import annotations

from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.podspec_parts import check_relative_path, containers_of

MIRROR = "kubernetes.io/config.mirror"
DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"
APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP = "container.seccomp.security.alpha.kubernetes.io/"
LOCALHOST = "localhost/"
PATH = "metadata.annotations"
MATCH = "type in annotation and field must match"


def annotations_of(pod: Object) -> dict[str, str]:
    found: dict[str, str] = pod["metadata"].get("annotations") or {}
    return found


def _is_windows(spec: Object) -> bool:
    return (spec.get("os") or {}).get("name") == "windows"


def settle_app_armor(pod: Object) -> list[str]:
    """What the old annotation says of a container goes into its field, unless that is set; gives the warnings of it."""
    spec, annotations = pod.get("spec") or {}, annotations_of(pod)
    warnings: list[str] = []
    if not annotations or _is_windows(spec):
        return warnings
    of_pod = (spec.get("securityContext") or {}).get("appArmorProfile")
    for container, _ in containers_of(spec, ""):
        annotation = annotations.get(APP_ARMOR + container.get("name", ""))
        security = container.get("securityContext") or {}
        if annotation is None or security.get("appArmorProfile") is not None:
            continue
        profile = _profile(annotation)
        if profile is not None and profile != of_pod:
            container["securityContext"] = {**security, "appArmorProfile": profile}
        if profile is None or profile != of_pod:
            key = f"{PATH}[{APP_ARMOR}{container.get('name', '')}]"
            warnings.append(f'{key}: deprecated since v1.30; use the "appArmorProfile" field instead')
    return warnings


def _profile(annotation: str) -> Object | None:
    if annotation == "unconfined":
        return {"type": "Unconfined"}
    if annotation == "runtime/default":
        return {"type": "RuntimeDefault"}
    name = annotation.removeprefix(LOCALHOST)
    return {"type": "Localhost", "localhostProfile": name} if name != annotation and name else None


def check_pod_annotations(annotations: Object, spec: Object, path: str, faults: Faults) -> None:
    """Of a Pod, or of a template."""
    if MIRROR in annotations and not spec.get("nodeName"):
        text = "must set spec.nodeName if mirror pod annotation is set"
        faults.invalid(f"{path}[{MIRROR}]", annotations[MIRROR], text)
    if DELETION_COST in annotations and not _is_cost(annotations[DELETION_COST]):
        faults.invalid(f"{path}[{DELETION_COST}]", annotations[DELETION_COST], "must be a 32bit integer")
    for key, value in sorted(
        annotations.items(), key=lambda pair: (pair[0].startswith(APP_ARMOR), pair[0] != SECCOMP_POD, pair[0])
    ):
        if key == SECCOMP_POD or key.startswith(SECCOMP):
            _check_seccomp_name(value, f"{path}.{key}", faults)
        elif key.startswith(APP_ARMOR):
            _check_app_armor_name(key, value, spec, f"{path}[{key}]", faults)


def _is_cost(text: str) -> bool:
    """An integer of 32 bits, as it is written back."""
    digits = text.removeprefix("-")
    plain = digits.isascii() and digits.isdigit() and (digits == "0" or not digits.startswith("0"))
    return plain and text != "-0" and -(1 << 31) <= int(text) < 1 << 31


def _check_seccomp_name(value: str, path: str, faults: Faults) -> None:
    if value.startswith(LOCALHOST):
        check_relative_path(value.removeprefix(LOCALHOST), path, faults)
    elif value not in ("runtime/default", "docker/default", "unconfined"):
        faults.invalid(path, value, "must be a valid seccomp profile")


def _check_app_armor_name(key: str, value: str, spec: Object, path: str, faults: Faults) -> None:
    name = key.removeprefix(APP_ARMOR)
    if name not in [container.get("name") for container, _ in containers_of(spec, "")]:
        faults.invalid(path, name, "container not found")
    if value not in ("", "runtime/default", "unconfined") and not value.startswith(LOCALHOST):
        faults.invalid(path, value, f'invalid AppArmor profile name: "{value}"')


def check_profiles_match(annotations: Object, spec: Object, path: str, faults: Faults) -> None:
    """On create: annotation and field, where both are there, say the same."""
    if not annotations:
        return
    security = spec.get("securityContext") or {}
    if SECCOMP_POD in annotations:
        _check_match(security, "seccomp", annotations[SECCOMP_POD], path, faults)
    for container, where in containers_of(spec, path):
        if (annotation := annotations.get(SECCOMP + container.get("name", ""))) is not None:
            _check_match(container.get("securityContext") or {}, "seccomp", annotation, where, faults)
    if _is_windows(spec):
        return
    for container, where in containers_of(spec, path):
        annotation = annotations.get(APP_ARMOR + container.get("name", ""))
        if annotation is not None:
            own = container.get("securityContext") or {}
            holder = own if own.get("appArmorProfile") is not None else security
            _check_match(holder, "apparmor", annotation, where, faults)


_FIELDS = {"seccomp": "seccompProfile", "apparmor": "appArmorProfile"}
_NAMES = {"Unconfined": ("unconfined",), "RuntimeDefault": ("runtime/default",)}


def _check_match(security: Object, kind: str, annotation: str, path: str, faults: Faults) -> None:
    profile = security.get(_FIELDS[kind])
    if profile is None:
        return
    where, of_type = f"{path}.securityContext.{_FIELDS[kind]}", profile.get("type")
    if of_type == "Localhost":
        if not annotation.startswith(LOCALHOST):
            faults.forbidden(f"{where}.type", f"{kind} {MATCH}")
        elif annotation.removeprefix(LOCALHOST) != profile.get("localhostProfile"):
            faults.forbidden(f"{where}.localhostProfile", f"{kind} profile in annotation and field must match")
        return
    names = (
        *_NAMES.get(of_type, ()),
        *(("docker/default",) if (kind, of_type) == ("seccomp", "RuntimeDefault") else ()),
    )
    if names and annotation not in names:
        faults.forbidden(f"{where}.type", f"{kind} {MATCH}")


def check_annotations_update(new: Object, old: Object, faults: Faults) -> None:
    """What stands in these annotations cannot be changed."""
    now, before = annotations_of(new), annotations_of(old)
    for key, value in before.items():
        if now.get(key) != value and (text := _fixed(key)):
            faults.forbidden(f"{PATH}[{key}]", f"may not remove or update {text}")
    for key in now:
        if key not in before and (text := _fixed(key)):
            faults.forbidden(f"{PATH}[{key}]", f"may not add {text}")
    check_pod_annotations(now, new.get("spec") or {}, PATH, faults)


def _fixed(key: str) -> str:
    if key.startswith(APP_ARMOR):
        return "AppArmor annotations"
    return "mirror pod annotation" if key == MIRROR else ""
