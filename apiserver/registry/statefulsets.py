"""StatefulSets."""

from __future__ import annotations

from typing import Any

from apiserver.registry import labels, names, persistentvolumeclaims
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, at, containers
from apiserver.registry.faults import Faults, inner
from apiserver.registry.meta import check_meta, check_meta_update, creating, status_only, updating
from apiserver.registry.podspec import check_pod_template
from apiserver.registry.podspec_warnings import claim_warnings
from apiserver.registry.workloads import (
    amount,
    check_at_most_all,
    check_collisions,
    check_counts,
    check_endless,
    check_int_or_percent,
    check_limits,
    check_not_negative,
    check_selected,
    check_selector,
    default_template,
    is_selected,
    prepare_update,
    starting,
    warnings_of_template,
)

_POLICIES = ("Retain", "Delete")
_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_FIXED_TEXT = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
    "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden"
)
_HISTORY_TEXT = (
    "spec.revisionHistoryLimit: a negative value retains all historical revisions; a value >= 0 is recommended"
)


def _default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    default_template(spec)
    spec["podManagementPolicy"] = spec.get("podManagementPolicy") or "OrderedReady"
    strategy = spec.setdefault("updateStrategy", {})
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        strategy.setdefault("rollingUpdate", {})
    if strategy["type"] == "RollingUpdate" and (rolling := strategy.get("rollingUpdate")) is not None:
        rolling.setdefault("partition", 0)
    retention = spec.setdefault("persistentVolumeClaimRetentionPolicy", {})
    for key in ("whenDeleted", "whenScaled"):
        retention[key] = retention.get(key) or "Retain"
    spec.setdefault("replicas", 1)
    spec.setdefault("revisionHistoryLimit", 10)
    for claim in spec.get("volumeClaimTemplates") or ():
        claim.setdefault("kind", "PersistentVolumeClaim")
        claim.setdefault("apiVersion", "v1")
        persistentvolumeclaims.default_spec(claim.setdefault("spec", {}))
        claim.setdefault("status", {}).setdefault("phase", "Pending")


def _drop_disabled(new: Object, old: Object | None) -> None:
    """More than one pod at a time is a feature that is off, but for who has used it before."""
    rolling = at(new, "spec.updateStrategy.rollingUpdate", {})
    if at(old or {}, "spec.updateStrategy.rollingUpdate.maxUnavailable", None) is None:
        rolling.pop("maxUnavailable", None)


def _prepare_create(obj: Object) -> None:
    starting({"replicas": 0, "availableReplicas": 0})(obj)
    _drop_disabled(obj, None)


def _prepare_update(new: Object, old: Object) -> None:
    _drop_disabled(new, old)
    prepare_update(new, old)


# --- validation


def _check_strategy(strategy: Object, faults: Faults) -> None:
    path, kind, rolling = "spec.updateStrategy", strategy.get("type", ""), strategy.get("rollingUpdate")
    if kind == "OnDelete":
        if rolling is not None:
            shown = inner("apps.v1.RollingUpdateStatefulSetStrategy", rolling)
            faults.invalid(f"{path}.rollingUpdate", shown, "only allowed for updateStrategy 'RollingUpdate'")
    elif kind == "RollingUpdate":
        if rolling is not None:
            _check_rolling(rolling, f"{path}.rollingUpdate", faults)
    else:
        shown = inner("apps.v1.StatefulSetUpdateStrategy", strategy)
        faults.invalid(path, shown, "must be 'RollingUpdate' or 'OnDelete'")


def _check_rolling(rolling: Object, path: str, faults: Faults) -> None:
    check_not_negative(rolling, "partition", path, faults)
    if (limit := rolling.get("maxUnavailable")) is not None:
        check_int_or_percent(limit, f"{path}.maxUnavailable", faults)
        if amount(limit) == 0:
            faults.invalid(f"{path}.maxUnavailable", limit, "cannot be 0")
        check_at_most_all(limit, f"{path}.maxUnavailable", faults)


def _check_policies(spec: Object, faults: Faults) -> None:
    if (policy := spec.get("podManagementPolicy", "")) not in ("OrderedReady", "Parallel"):
        faults.invalid("spec.podManagementPolicy", policy, "must be 'OrderedReady' or 'Parallel'")
    _check_strategy(spec.get("updateStrategy") or {}, faults)
    for key, policy in sorted((spec.get("persistentVolumeClaimRetentionPolicy") or {}).items()):
        if policy not in _POLICIES:
            faults.unsupported(f"spec.persistentVolumeClaimRetentionPolicy.{key}", policy, _POLICIES)


def _check_spec(spec: Object, faults: Faults, *, new: bool, template_too: bool = True) -> None:
    """What cannot change is checked for new objects only, and a template only where the one before was good."""
    _check_policies(spec, faults)
    for i, claim in enumerate((spec.get("volumeClaimTemplates") or ()) if new else ()):
        persistentvolumeclaims.check_spec(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{i}].spec", faults)
    check_not_negative(spec, "replicas", "spec", faults)
    check_not_negative(spec, "minReadySeconds", "spec", faults)
    check_not_negative(spec.get("ordinals") or {}, "start", "spec.ordinals", faults)
    if new and (service := spec.get("serviceName")):
        faults.each("spec.serviceName", service, names.dns1123_label(service))
    check_selector(spec, "statefulset", faults)
    _check_template(spec, faults, template_too=template_too)
    check_endless(spec.get("template") or {}, "spec.template", "StatefulSet", faults)


def _check_template(spec: Object, faults: Faults, *, template_too: bool) -> None:
    selector, template = spec.get("selector"), spec.get("template") or {}
    if selector is not None and not labels.is_valid(selector):
        faults.invalid("spec.selector", inner("meta.v1.LabelSelector", selector), "")
        return
    check_selected(is_selected(selector, template), template, "spec.template", faults)
    shown = template | {"spec": _pod_of(spec, template.get("spec") or {})}
    twice = Faults()
    check_pod_template(shown, "spec.template", twice)
    if template_too:
        faults.extend(twice)
    faults.extend(cause for cause in twice if cause.field.startswith(("spec.template.labels", "spec.template.annot")))


def _pod_of(spec: Object, pod: Object) -> Object:
    """The template's pod as it will be: the controller sets its host name and puts in a volume for each claim."""
    claims = {at(claim, "metadata.name"): claim for claim in spec.get("volumeClaimTemplates") or ()}
    volumes: list[Any] = [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claims]
    volumes += [volume for volume in pod.get("volumes") or () if volume.get("name") not in claims]
    kept = {key: value for key, value in pod.items() if key not in ("subdomain", "hostname", "volumes")}
    return kept | {"volumes": volumes}


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_label, faults)
    _check_spec(obj.get("spec") or {}, faults, new=True)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    spec, was, before = new.get("spec") or {}, old.get("spec") or {}, Faults()
    _check_spec(was, before, new=False)
    _check_spec(spec, faults, new=False, template_too=not before)
    if any(spec.get(key) != was.get(key) for key in {*spec, *was} - {*_MUTABLE}):
        faults.forbidden("spec", _FIXED_TEXT)


def _check_status(new: Object, old: Object, faults: Faults) -> None:
    status = new.get("status") or {}
    counted = ("readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas")
    check_counts(status, ("replicas", *counted, "observedGeneration", "collisionCount"), faults)
    check_limits(status, counted, faults, ready="status.readyReplicas")
    check_meta_update(new, old, faults)
    check_collisions(new, old, faults)


def _warnings(new: Object, old: Object | None) -> list[str]:
    found, part = warnings_of_template(new, old), "" if old is None else ".Spec"
    for i, claim in enumerate(at(new, "spec.volumeClaimTemplates", [])):
        found += claim_warnings(claim.get("spec") or {}, f"spec.volumeClaimTemplates[{i}]{part}")
    if at(new, "spec.revisionHistoryLimit", 0) < 0:
        found.append(_HISTORY_TEXT)
    return found


STATEFULSETS = ResourceDef(
    "apps",
    "v1",
    "StatefulSet",
    "statefulsets",
    "statefulset",
    short_names=("sts",),
    categories=("all",),
    subresources=("scale", "status"),
    storage_version_hash="H+vl74LkKdo=",
    columns=(
        NAME,
        Column(
            "Ready",
            "string",
            "Number of the pod with ready state",
            lambda o, _: f"{at(o, 'status.readyReplicas', 0)}/{at(o, 'spec.replicas', 0)}",
        ),
        AGE,
        *containers("spec.template.spec"),
    ),
    strategy=Strategy(
        default=_default,
        prepare_create=_prepare_create,
        validate=creating(_check),
        prepare_update=_prepare_update,
        validate_update=updating(_check_update),
        prepare_status_update=status_only,
        validate_status_update=updating(_check_status),
        warnings=_warnings,
    ),
)
