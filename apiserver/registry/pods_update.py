"""Validation of pods: when they are made, when they change, and of ephemeral containers that join them.

Source: k8s.io/kubernetes/pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

import copy

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults, inner
from apiserver.registry.meta import check_meta, check_meta_update
from apiserver.registry.podannotations import (
    MIRROR,
    annotations_of,
    check_annotations_update,
    check_pod_annotations,
    check_profiles_match,
)
from apiserver.registry.podspec import check_pod_spec
from apiserver.registry.podspec_containers import check_image_trimmed
from apiserver.registry.podspec_parts import check_tolerations
from apiserver.schemas import internal

_UPDATABLE = (
    "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,"
    "`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)
_MAX_INT32 = 2147483647
_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def check_create(pod: Object, faults: Faults) -> None:
    check_whole(pod, faults)
    spec = pod.get("spec") or {}
    if spec.get("ephemeralContainers"):
        faults.forbidden("spec.ephemeralContainers", "cannot be set on create")
    if spec.get("nodeName") and spec.get("schedulingGates"):
        faults.forbidden("spec.nodeName", "cannot be set until all schedulingGates have been cleared")
    check_profiles_match(annotations_of(pod), spec, "spec", faults)


def check_whole(pod: Object, faults: Faults) -> None:
    """Metadata and spec, however the pod came to be as it is."""
    spec = pod.get("spec") or {}
    check_meta(pod, True, names.name_is_subdomain, faults)
    check_pod_annotations(annotations_of(pod), spec, "metadata.annotations", faults)
    check_pod_spec(spec, "spec", faults, pod=pod)
    for i, volume in enumerate(() if spec.get("serviceAccountName") else spec.get("volumes") or ()):
        for j, source in enumerate((volume.get("projected") or {}).get("sources") or ()):
            if source.get("serviceAccountToken") is not None:
                where = f"spec.volumes[{i}].projected.sources[{j}].serviceAccountToken"
                faults.forbidden(where, "must not be specified when serviceAccountName is not set")
    for kind in ("containers", "initContainers"):
        for i, container in enumerate(spec.get(kind) or ()):
            check_image_trimmed(container, f"spec.{kind}[{i}]", faults)


def check_update(new: Object, old: Object, faults: Faults) -> None:
    """A pod's spec is fixed, but for images, the deadline, and tolerations that are added."""
    check_meta_update(new, old, faults)
    check_whole(new, faults)
    check_annotations_update(new, old, faults)
    spec, was = new.get("spec") or {}, old.get("spec") or {}
    for kind in ("containers", "initContainers"):
        if len(spec.get(kind) or ()) != len(was.get(kind) or ()):
            faults.forbidden(f"spec.{kind}", "pod updates may not add or remove containers")
            return
        for i, container in enumerate(spec.get(kind) or ()):
            if not container.get("image"):
                faults.required(f"spec.{kind}[{i}].image")
            check_image_trimmed(container, f"spec.{kind}[{i}]", faults)
    if _deadline_fails(spec, was, faults):
        return
    _check_added_tolerations(spec, was, faults)
    _check_removed_gates(spec, was, faults)
    if spec != was:
        _check_fixed(spec, was, faults)


def _deadline_fails(spec: Object, was: Object, faults: Faults) -> bool:
    """It may be set, or come closer."""
    deadline, before, path = (
        spec.get("activeDeadlineSeconds"),
        was.get("activeDeadlineSeconds"),
        "spec.activeDeadlineSeconds",
    )
    if deadline is None:
        if before is not None:
            faults.invalid(path, None, "must not update from a positive integer to nil value")
        return False
    if not 0 <= deadline <= _MAX_INT32:
        faults.invalid(path, deadline, f"must be between 0 and {_MAX_INT32}, inclusive")
        return True
    if before is not None and before < deadline:
        faults.invalid(path, deadline, "must be less than or equal to previous value")
        return True
    return False


def _check_added_tolerations(spec: Object, was: Object, faults: Faults) -> None:
    def bare(toleration: Object) -> Object:
        return {k: v for k, v in toleration.items() if k != "tolerationSeconds"}

    kept = [bare(t) for t in spec.get("tolerations") or ()]
    if any(bare(t) not in kept for t in was.get("tolerations") or ()):
        faults.forbidden("spec.tolerations", "existing toleration can not be modified except its tolerationSeconds")
        return
    check_tolerations(spec.get("tolerations") or [], "spec.tolerations", faults)


def _check_removed_gates(spec: Object, was: Object, faults: Faults) -> None:
    known = {gate.get("name", "") for gate in was.get("schedulingGates") or ()}
    places = {gate.get("name", ""): i for i, gate in enumerate(spec.get("schedulingGates") or ())}
    for name, i in places.items():
        if name not in known:
            text = f"only deletion is allowed, but found new scheduling gate '{name}'"
            faults.forbidden(f"spec.schedulingGates[{i}].name", text)


def _check_fixed(spec: Object, was: Object, faults: Faults) -> None:
    """Compare the specs with what may change taken from the old one."""
    munged = copy.deepcopy(spec)
    for kind in ("containers", "initContainers"):
        for container, before in zip(munged.get(kind) or (), was.get(kind) or (), strict=True):
            container["image"] = before.get("image", "")
    for key in ("activeDeadlineSeconds", "tolerations", "schedulingGates"):
        _take(munged, was, key)
    if munged.get("terminationGracePeriodSeconds") == 1 and was.get("terminationGracePeriodSeconds", 0) < 0:
        munged["terminationGracePeriodSeconds"] = was["terminationGracePeriodSeconds"]
    if was.get("schedulingGates"):
        _check_gated(munged, was, faults)
    if not alike("core.v1.PodSpec", munged, was):
        text = f"pod updates may not change fields other than {_UPDATABLE}"
        faults.forbidden("spec", f"{text}\n{internal.difference('core.v1.PodSpec', was, munged)}")


def alike(type_name: str, one: Object, other: Object) -> bool:
    """Whether two objects are the same to upstream's eyes, that does not tell empty from missing."""
    return one == other or bool(internal.shown(type_name, one) == internal.shown(type_name, other))


def _take(munged: Object, was: Object, key: str) -> None:
    munged.pop(key, None)
    if key in was:
        munged[key] = was[key]


def _check_gated(munged: Object, was: Object, faults: Faults) -> None:
    """A pod that waits at gates may still be bound to fewer nodes."""
    now, before = munged.get("nodeSelector") or {}, was.get("nodeSelector") or {}
    if any(now.get(key) != value for key, value in before.items()):
        text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        faults.invalid("spec.nodeSelector", munged.get("nodeSelector"), text)
    _take(munged, was, "nodeSelector")
    old = (was.get("affinity") or {}).get("nodeAffinity")
    new = (munged.get("affinity") or {}).get("nodeAffinity")
    if old == new:
        return
    _check_node_affinity(new or {}, old or {}, faults)
    affinity = {k: v for k, v in (munged.get("affinity") or {}).items() if k != "nodeAffinity"}
    if old is not None:
        affinity["nodeAffinity"] = old
    if affinity or was.get("affinity") is not None:
        munged["affinity"] = affinity
    else:
        munged.pop("affinity", None)


def _check_node_affinity(new: Object, old: Object, faults: Faults) -> None:
    before = (old.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    now = (new.get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    where = f"spec.affinity.nodeAffinity.{_REQUIRED}.nodeSelectorTerms"
    if before and len(before) != len(now):
        shown = inner("[]core.v1.NodeSelectorTerm", now)
        faults.invalid(where, shown, "no additions/deletions to non-empty NodeSelectorTerms list are allowed")
        return
    for i, (term, kept) in enumerate(zip(now, before, strict=False)):
        if not _only_adds(term, kept):
            shown = inner("core.v1.NodeSelectorTerm", term)
            faults.invalid(f"{where}[{i}]", shown, "only additions are allowed (no mutations or deletions)")


def _only_adds(term: Object, kept: Object) -> bool:
    fields = ("matchExpressions", "matchFields")
    if not any(kept.get(field) for field in fields) and any(term.get(field) for field in fields):
        return False
    return all((term.get(f) or [])[: len(kept.get(f) or ())] == (kept.get(f) or []) for f in fields)


def check_ephemeral(new: Object, old: Object, faults: Faults) -> None:
    """Ephemeral containers join; they neither change nor leave."""
    check_meta_update(new, old, faults)
    check_whole(new, faults)
    check_annotations_update(new, old, faults)
    if MIRROR in annotations_of(old):
        faults.clear()
        faults.forbidden("", "static pods do not support ephemeral containers")
        return
    path, kind = "spec.ephemeralContainers", "core.v1.EphemeralContainer"
    now = {c.get("name", ""): c for c in new["spec"].get("ephemeralContainers") or ()}
    for before in old["spec"].get("ephemeralContainers") or ():
        name = before.get("name", "")
        if name not in now:
            faults.forbidden(path, f'existing ephemeral containers "{name}" may not be removed\n')
        elif not alike(kind, before, now[name]):
            changes = internal.difference(kind, before, now[name])
            faults.forbidden(path, f'existing ephemeral containers "{name}" may not be changed\n{changes}')
