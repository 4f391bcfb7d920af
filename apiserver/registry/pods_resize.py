"""pods/resize: resources of a pod that runs.

Source: KEP-1287; k8s.io/kubernetes/pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

import copy

from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_meta_update
from apiserver.registry.podannotations import MIRROR, annotations_of
from apiserver.registry.pods_update import alike, check_whole

_KINDS = ("containers", "initContainers")
_CHANGEABLE = ("resources", "resizePolicy")
_RESOURCES = ("cpu", "memory")


def keep_but_resources(new: Object, old: Object) -> Object | None:
    """The old spec with the new one's resources; None where the containers are not the same ones."""
    spec = dict(old)
    spec.pop("resources", None)
    if "resources" in new:
        spec["resources"] = new["resources"]
    for kind in _KINDS:
        now, was = new.get(kind) or [], old.get(kind) or []
        if len(now) != len(was):
            return None
        if not now:
            continue
        if [c.get("name") for c in now] == [c.get("name") for c in was]:
            spec[kind] = [_with_resources(*pair) for pair in zip(was, now, strict=True)]
        else:
            spec[kind] = now
    return spec


def _with_resources(was: Object, now: Object) -> Object:
    kept = {k: v for k, v in was.items() if k not in _CHANGEABLE}
    return kept | {k: v for k, v in now.items() if k in _CHANGEABLE}


def check_resize(new: Object, old: Object, qos: str, faults: Faults) -> None:
    """`qos` is the class that the new spec makes."""
    spec, was, status = new["spec"], old["spec"], old.get("status") or {}
    refused = _refusal(old)
    if refused:
        faults.forbidden("", refused)
        return
    check_meta_update(new, old, faults)
    check_whole(new, faults)
    if status.get("qosClass", qos) != qos:
        text = "Pod QOS Class may not change as a result of resizing"
        faults.invalid("spec", (new.get("status") or {}).get("qosClass", ""), text)
    running = [c for c in status.get("containerStatuses") or () if (c.get("state") or {}).get("running") is not None]
    if running and running[0].get("resources") is None:
        faults.forbidden("spec", "Pod running on node without support for resize")
    munged = copy.deepcopy(spec)
    if any((one.get("resources") or {}).get(kind) for one in (spec, was) for kind in ("requests", "limits")):
        _check_pod_level(munged, spec, was, faults)
    if _order_differs(spec, was, faults):
        return
    for kind in ("initContainers", "containers"):
        for i, (container, before) in enumerate(zip(spec.get(kind) or (), was.get(kind) or (), strict=True)):
            _check_removed(container, before, f"spec.{kind}[{i}].resources", "resource", faults)
    _check_containers(munged, spec, was, faults)
    if not faults and not alike("core.v1.PodSpec", munged, was):
        faults.forbidden("spec", "only cpu and memory resources are mutable")


def _refusal(old: Object) -> str:
    if MIRROR in annotations_of(old):
        return "static pods cannot be resized"
    if (old["spec"].get("os") or {}).get("name") == "windows":
        return "windows pods cannot be resized"
    return ""


def _check_pod_level(munged: Object, spec: Object, was: Object, faults: Faults) -> None:
    if was.get("resources") is not None and spec.get("resources") is None:
        faults.forbidden("spec.resources", "pod-level resources cannot be removed")
        return
    if was.get("resources") is not None:
        _check_removed(spec, was, "spec.resources", "pod-level resource", faults)
    if "resources" in munged:
        munged["resources"] = _masked(munged["resources"], was.get("resources") or {})
        if was.get("resources") is None and not any(munged["resources"].values()):
            munged.pop("resources")
    if not alike("core.v1.ResourceRequirements", munged.get("resources") or {}, was.get("resources") or {}):
        faults.forbidden("spec", "only cpu and memory resources are mutable at pod-level")


def _check_removed(new: Object, old: Object, path: str, what: str, faults: Faults) -> None:
    now, was = new.get("resources") or {}, old.get("resources") or {}
    for kind in ("requests", "limits"):
        if not (now.get(kind) or {}).keys() >= (was.get(kind) or {}).keys():
            faults.forbidden(f"{path}.{kind}", f"{what} {kind} cannot be removed")


def _masked(resources: Object, was: Object) -> Object:
    """With the old amounts of what may change."""
    found = {k: v for k, v in resources.items() if k not in ("requests", "limits")}
    for kind in ("limits", "requests"):
        amounts = {k: v for k, v in (resources.get(kind) or {}).items() if k not in _RESOURCES}
        amounts |= {k: v for k, v in (was.get(kind) or {}).items() if k in _RESOURCES}
        if amounts:
            found[kind] = amounts
    return found


def _order_differs(spec: Object, was: Object, faults: Faults) -> bool:
    before = len(faults)
    for kind in _KINDS:
        now, then = spec.get(kind) or [], was.get(kind) or []
        if len(now) != len(then):
            faults.forbidden(f"spec.{kind}", f"{kind} may not be added or removed on resize")
            continue
        for i, container in enumerate(then):
            if now[i].get("name") != container.get("name"):
                text = f"{kind} may not be renamed or reordered on resize"
                faults.forbidden(f"spec.{kind}[{i}].name", text)
    return len(faults) > before


def _check_containers(munged: Object, spec: Object, was: Object, faults: Faults) -> None:
    for kind in _KINDS:
        for i, container in enumerate(munged.get(kind) or ()):
            before = was[kind][i]
            resources = _masked(container.get("resources") or {}, before.get("resources") or {})
            resources.pop("claims", None)
            container["resources"] = resources
            same = alike("core.v1.Container", container, before)
            if kind == "containers":
                if not same:
                    faults.forbidden("spec", "only cpu and memory resources are mutable")
                continue
            where = f"spec.initContainers[{i}]"
            if not same:
                faults.forbidden(where, "only cpu and memory resources for init or sidecar containers are mutable")
            _check_restarting(spec[kind][i], before, where, faults)


def _check_restarting(container: Object, before: Object, path: str, faults: Faults) -> None:
    if container.get("restartPolicy") == "Always" or alike("core.v1.Container", container, before):
        return
    for policy in container.get("resizePolicy") or ():
        if policy.get("restartPolicy") == "RestartContainer":
            text = "non-sidecar init containers with a resize policy of RestartContainer cannot be resized"
            faults.forbidden(path, text)
