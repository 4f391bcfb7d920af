"""Parts of pod specs and nodes that are checked alike in several places."""

from __future__ import annotations

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults

TAINT_EFFECTS = ("NoExecute", "NoSchedule", "PreferNoSchedule")


def check_effect(effect: str, path: str, faults: Faults, *, empty_allowed: bool = False) -> None:
    if not effect and not empty_allowed:
        faults.required(path)
    elif effect and effect not in TAINT_EFFECTS:
        faults.unsupported(path, effect, ("NoSchedule", "PreferNoSchedule", "NoExecute"))


def check_taints(taints: list[Object], path: str, faults: Faults) -> None:
    seen: dict[str, set[str]] = {}
    for i, taint in enumerate(taints):
        key, effect = taint.get("key", ""), taint.get("effect", "")
        faults.each(f"{path}[{i}].key", key, names.label_key(key))
        faults.each(f"{path}[{i}].value", taint.get("value", ""), names.label_value(taint.get("value", "")))
        check_effect(effect, f"{path}[{i}].effect", faults)
        if key in seen.setdefault(effect, set()):
            faults.duplicate(f"{path}[{i}]", taint)
        seen[effect].add(key)
