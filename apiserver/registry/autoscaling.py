"""HorizontalPodAutoscalers: stored as autoscaling/v2, served as v1, too.

Everything is checked in the form of v2; what v1 has no field for stands in its annotations.
"""

from __future__ import annotations

import copy

from apiserver.registry import autoscaling_v1, names
from apiserver.registry.autoscaling_checks import Options, check_api_version, check_spec
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import AGE, NAME, UNSET, at, field
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_meta, check_meta_update, creating, keep_status, status_only, updating
from apiserver.registry.workloads import check_counts
from kubarium.machinery.errors import StatusCause

_POLICY_15S = {"periodSeconds": 15}
_UP = {
    "stabilizationWindowSeconds": 0,
    "selectPolicy": "Max",
    "policies": [{"type": "Pods", "value": 4, **_POLICY_15S}, {"type": "Percent", "value": 100, **_POLICY_15S}],
}
_DOWN = {"selectPolicy": "Max", "policies": [{"type": "Percent", "value": 100, **_POLICY_15S}]}
_STATUS_ZERO = {"desiredReplicas": 0, "currentMetrics": None}


def _default(obj: Object) -> None:
    spec = obj.setdefault("spec", {})
    spec.setdefault("minReplicas", 1)
    if not spec.get("metrics"):
        spec["metrics"] = [copy.deepcopy(autoscaling_v1.DEFAULT_METRIC)]
    if (behavior := spec.get("behavior")) is not None:
        for kind, rules in (("scaleUp", _UP), ("scaleDown", _DOWN)):
            behavior[kind] = copy.deepcopy(rules) | (behavior.get(kind) or {})
    autoscaling_v1.drop_annotations(obj.setdefault("metadata", {}))


def _prepare_create(obj: Object) -> None:
    obj["status"] = dict(_STATUS_ZERO)


# --- validation


def _options(spec: Object, old: Object | None) -> Options:
    """What an update need not mend: a reference that it does not change, metrics that were wrong before."""
    target, was = spec.get("scaleTargetRef") or {}, at(old or {}, "scaleTargetRef", None)
    unchanged = was is not None and all(was.get(key) == target.get(key) for key in ("apiVersion", "kind"))
    described = [at(metric, "object.describedObject", {}) for metric in at(old or {}, "metrics", [])]
    return Options(
        lowest=0 if at(old or {}, "minReplicas", None) == 0 else 1,
        any_target=unchanged,
        core_target=target.get("kind") == "ReplicationController",
        any_object=any(check_api_version(ref, core=True) for ref in described),
    )


def _check(obj: Object, faults: Faults) -> None:
    check_meta(obj, True, names.name_is_subdomain, faults)
    spec = obj.get("spec") or {}
    check_spec(spec, _options(spec, None), faults)


def _check_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    spec = new.get("spec") or {}
    check_spec(spec, _options(spec, old.get("spec") or {}), faults)


def _check_status(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    check_counts(new.get("status") or {}, ("currentReplicas", "desiredReplicas"), faults)


# --- columns


def _value(holder: Object, key: str) -> str:
    return str(at(holder, key, "<unknown>"))


def _targets(obj: Object, _now: float) -> str:
    """`cpu: 50%/80%, 3/10 (avg) + 1 more...`."""
    specs, statuses = at(obj, "spec.metrics", []), at(obj, "status.currentMetrics", [])
    if not specs:
        return "<none>"
    shown = [_target(spec, statuses[i] if i < len(statuses) else {}) for i, spec in enumerate(specs)]
    text = ", ".join(shown[:2])
    return f"{text} + {len(shown) - 2} more..." if len(shown) > 2 else text


def _target(spec: Object, status: Object) -> str:
    kind = spec.get("type", "")
    key = kind[:1].lower() + kind[1:]
    source, current = spec.get(key), at(status, f"{key}.current", {})
    if source is None or key not in ("external", "pods", "object", "resource", "containerResource"):
        return "<unknown type>"
    target = source.get("target") or {}
    if key in ("resource", "containerResource"):
        return f"{source.get('name', '')}: {_resource(target, current)}"
    if key == "pods":
        return f"{_value(current, 'averageValue')}/{_value(target, 'averageValue')}"
    if target.get("averageValue") is not None:
        return f"{_value(current, 'averageValue')}/{target['averageValue']} (avg)"
    return f"{_value(current, 'value')}/{_value(target, 'value')}"


def _resource(target: Object, current: Object) -> str:
    if target.get("averageValue") is not None:
        return f"{_value(current, 'averageValue')}/{target['averageValue']}"
    now, wanted = current.get("averageUtilization"), target.get("averageUtilization")
    return f"{'<unknown>' if now is None else f'{now}%'}/{'<auto>' if wanted is None else f'{wanted}%'}"


def _reference(obj: Object, _now: float) -> str:
    target = at(obj, "spec.scaleTargetRef", {})
    return f"{target.get('kind', '')}/{target.get('name', '')}"


_SPEC = "@io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerSpec"
_STATUS = "@io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerStatus"
_COLUMNS = (
    NAME,
    Column("Reference", "string", f"{_SPEC}.scaleTargetRef", _reference),
    Column("Targets", "string", f"{_SPEC}.metrics", _targets),
    Column("MinPods", "string", f"{_SPEC}.minReplicas", lambda o, _: str(at(o, "spec.minReplicas", UNSET))),
    Column("MaxPods", "string", f"{_SPEC}.maxReplicas", field("spec.maxReplicas", 0)),
    Column("Replicas", "string", f"{_STATUS}.currentReplicas", field("status.currentReplicas", 0)),
    AGE,
)

_V2 = Strategy(
    default=_default,
    prepare_create=_prepare_create,
    validate=creating(_check),
    prepare_update=keep_status,
    validate_update=updating(_check_update),
    prepare_status_update=status_only,
    validate_status_update=updating(_check_status),
)

HORIZONTALPODAUTOSCALERS = ResourceDef(
    "autoscaling",
    "v2",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    "horizontalpodautoscaler",
    short_names=("hpa",),
    categories=("all",),
    subresources=("status",),
    storage_version_hash="qwQve8ut294=",
    columns=_COLUMNS,
    strategy=_V2,
)


# --- autoscaling/v1


def _default_v1(obj: Object) -> None:
    """Also what only the form of v2 knows: without a target there is one for the processor."""
    obj.setdefault("spec", {}).setdefault("minReplicas", 1)
    shown = autoscaling_v1.from_v2(autoscaling_v1.to_v2(obj))
    obj.clear()
    obj.update(shown)


def _validate_v1(obj: Object) -> list[StatusCause]:
    return _V2.validate(autoscaling_v1.to_v2(obj))


def _validate_update_v1(new: Object, old: Object) -> list[StatusCause]:
    return _V2.validate_update(autoscaling_v1.to_v2(new), autoscaling_v1.to_v2(old))


def _validate_status_v1(new: Object, old: Object) -> list[StatusCause]:
    return _V2.validate_status_update(autoscaling_v1.to_v2(new), autoscaling_v1.to_v2(old))


def _prepare_create_v1(obj: Object) -> None:
    obj["status"] = {"currentReplicas": 0, "desiredReplicas": 0}
    autoscaling_v1.keep_annotations(obj["metadata"], {}, status=True)


def _prepare_update_v1(new: Object, old: Object) -> None:
    keep_status(new, old)
    autoscaling_v1.keep_annotations(new["metadata"], old["metadata"], status=True)


def _prepare_status_v1(new: Object, old: Object) -> None:
    status_only(new, old)
    autoscaling_v1.keep_annotations(new["metadata"], old["metadata"], status=False)


def _stored(obj: Object) -> Object:
    """What is stored has the defaults of v2, too."""
    found = autoscaling_v1.to_v2(obj)
    _default(found)
    return found


def _on_v2(column: Column) -> Column:
    return Column(
        column.name,
        column.type,
        column.description,
        lambda obj, now: column.cell(autoscaling_v1.to_v2(obj), now),
        format=column.format,
        priority=column.priority,
    )


HORIZONTALPODAUTOSCALERS_V1 = ResourceDef(
    "autoscaling",
    "v1",
    "HorizontalPodAutoscaler",
    "horizontalpodautoscalers",
    "horizontalpodautoscaler",
    short_names=("hpa",),
    categories=("all",),
    subresources=("status",),
    storage_version_hash="qwQve8ut294=",
    columns=tuple(_on_v2(column) for column in _COLUMNS),
    storage=("autoscaling", "horizontalpodautoscalers"),
    to_storage=_stored,
    from_storage=autoscaling_v1.from_v2,
    row_object=autoscaling_v1.to_v2,
    strategy=Strategy(
        default=_default_v1,
        prepare_create=_prepare_create_v1,
        validate=_validate_v1,
        prepare_update=_prepare_update_v1,
        validate_update=_validate_update_v1,
        prepare_status_update=_prepare_status_v1,
        validate_status_update=_validate_status_v1,
    ),
)
