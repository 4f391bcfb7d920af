"""Parts of pod specs and nodes that are checked alike in several places: taints, tolerations, modes, paths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults

TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")
CONTAINERS = ("initContainers", "containers", "ephemeralContainers")
MAX_ID = 2147483647
NOT_NEGATIVE = "must be greater than or equal to 0"
_MAX_MODE = 0o777
_ID_TEXT = f"must be between 0 and {MAX_ID}, inclusive"


@dataclass(frozen=True, slots=True)
class Setting:
    """What the check of one part of a pod spec must know of the rest. `volumes` are those without fault, by name."""

    spec: Object
    is_pod: bool = False
    meta: Object = field(default_factory=dict)
    volumes: Mapping[str, Object] = field(default_factory=dict)

    @property
    def claims(self) -> frozenset[str]:
        return frozenset(name for claim in self.spec.get("resourceClaims") or () if (name := claim.get("name")))

    @property
    def grace(self) -> int | None:
        return self.spec.get("terminationGracePeriodSeconds")

    @property
    def host_users(self) -> bool:
        return self.spec.get("hostUsers") is not False


def containers_of(spec: Object, path: str) -> Iterator[tuple[Object, str]]:
    """Every container with its path, in the order in which upstream visits them."""
    for kind in CONTAINERS:
        for i, container in enumerate(spec.get(kind) or ()):
            yield container, f"{path}.{kind}[{i}]"


def check_choice(value: str, allowed: tuple[str, ...], path: str, faults: Faults, needed: str = "") -> None:
    """`needed`: what is said when there is none."""
    if not value:
        faults.required(path, needed)
    elif value not in allowed:
        faults.unsupported(path, value, allowed)


def check_id(holder: Object, key: str, path: str, faults: Faults) -> None:
    """A user or group id."""
    value = holder.get(key)
    if value is not None and not 0 <= value <= MAX_ID:
        faults.invalid(f"{path}.{key}", value, _ID_TEXT)


def check_ids(values: list[int], path: str, faults: Faults) -> None:
    for i, value in enumerate(values):
        if not 0 <= value <= MAX_ID:
            faults.invalid(f"{path}[{i}]", value, _ID_TEXT)


# --- taints and tolerations


def check_effect(effect: str, path: str, faults: Faults, *, empty_allowed: bool = False) -> None:
    if not effect and not empty_allowed:
        faults.required(path)
    elif effect and effect not in TAINT_EFFECTS:
        faults.unsupported(path, effect, TAINT_EFFECTS)


def check_tolerations(tolerations: list[Object], path: str, faults: Faults) -> None:
    for i, toleration in enumerate(tolerations):
        _check_toleration(toleration, f"{path}[{i}]", faults)


def _check_toleration(toleration: Object, path: str, faults: Faults) -> None:
    key, operator = toleration.get("key", ""), toleration.get("operator", "")
    effect, value = toleration.get("effect", ""), toleration.get("value", "")
    if key:
        faults.each(f"{path}.key", key, names.label_key(key))
    elif operator != "Exists":
        text = 'operator must be Exists when `key` is empty, which means "match all values and all keys"'
        faults.invalid(f"{path}.operator", operator, text)
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        faults.invalid(f"{path}.effect", effect, "effect must be 'NoExecute' when `tolerationSeconds` is set")
    if operator in ("Equal", ""):
        if found := names.label_value(value):
            faults.invalid(f"{path}.operator", value, ";".join(found))
    elif operator == "Exists":
        if value:
            faults.invalid(f"{path}.operator", value, "value must be empty when `operator` is 'Exists'")
    elif operator in ("Lt", "Gt"):  # behind a feature that is off
        faults.unsupported(f"{path}.operator", operator, ("Equal", "Exists", "Lt", "Gt"))
    else:
        faults.unsupported(f"{path}.operator", operator, ("Equal", "Exists"))
    check_effect(effect, f"{path}.effect", faults, empty_allowed=True)


# --- files


def check_mode(source: Object, key: str, path: str, faults: Faults) -> None:
    """Permission bits of a file in a volume."""
    mode = source.get(key)
    if mode is not None and not 0 <= mode <= _MAX_MODE:
        faults.invalid(f"{path}.{key}", mode, "must be a number between 0 and 0777 (octal), both inclusive")


def check_backsteps(value: str, path: str, faults: Faults) -> None:
    if ".." in value.split("/"):
        faults.invalid(path, value, "must not contain '..'")


def check_relative_path(value: str, path: str, faults: Faults, *, reserved: bool = False) -> None:
    """A path inside a volume; with `reserved`, names that start with two dots are the kubelet's own."""
    if value.startswith("/"):
        faults.invalid(path, value, "must be a relative path")
    check_backsteps(value, path, faults)
    if reserved and value.startswith("..") and not value.startswith("../"):
        faults.invalid(path, value, "must not start with '..'")
