"""HorizontalPodAutoscalers of autoscaling/v1 and v2 into each other.

v1 has fields for the utilization of the processor only. Other metrics, the behavior and most of the status stand in
annotations there, as JSON, with the field names of older releases.
Source: k8s.io/kubernetes/pkg/apis/autoscaling/v1 (conversion); k8s.io/api/autoscaling/v1 (the forms in annotations).
"""

from __future__ import annotations

import copy
import json
from typing import Any

from apiserver.registry.base import Object
from apiserver.schemas import internal

_PREFIX = "autoscaling.alpha.kubernetes.io/"
METRICS, CURRENT, CONDITIONS = f"{_PREFIX}metrics", f"{_PREFIX}current-metrics", f"{_PREFIX}conditions"
BEHAVIOR = f"{_PREFIX}behavior"
_ANNOTATIONS = (
    METRICS,
    CURRENT,
    CONDITIONS,
    BEHAVIOR,
    f"{_PREFIX}scale-down-tolerance",
    f"{_PREFIX}scale-up-tolerance",
)
_OF_STATUS = (CURRENT, CONDITIONS)
_KINDS = ("object", "pods", "resource", "containerResource", "external")
_IN_BOTH = ("observedGeneration", "lastScaleTime", "currentReplicas", "desiredReplicas")


def _cpu(utilization: int) -> Object:
    target = {"type": "Utilization", "averageUtilization": utilization}
    return {"type": "Resource", "resource": {"name": "cpu", "target": target}}


DEFAULT_METRIC = _cpu(80)


def drop_annotations(metadata: Object) -> None:
    """Take away what stands in annotations of v1 only."""
    found = metadata.get("annotations") or {}
    if any(key in found for key in _ANNOTATIONS):
        kept = {key: value for key, value in found.items() if key not in _ANNOTATIONS}
        metadata["annotations"] = kept
        if not kept:
            del metadata["annotations"]


def keep_annotations(metadata: Object, old: Object, *, status: bool) -> None:
    """What an update in v1 may not touch: the part of the status (or, with a status write, of the spec)."""
    keys = _OF_STATUS if status else (METRICS, BEHAVIOR)
    found, was = metadata.get("annotations") or {}, old.get("annotations") or {}
    kept = {key: value for key, value in found.items() if key not in keys}
    kept |= {key: was[key] for key in keys if key in was}
    metadata.pop("annotations", None)
    if kept:
        metadata["annotations"] = kept


# --- v2 -> v1


def from_v2(obj: Object) -> Object:
    """The form of v1, with whatever it has no field for in annotations."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    metrics, metadata = spec.get("metrics") or [], copy.deepcopy(obj.get("metadata") or {})
    drop_annotations(metadata)
    extra = _annotations(spec, status)
    if extra:
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **extra}
    return {
        "kind": obj.get("kind", "HorizontalPodAutoscaler"),
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": _spec_v1(spec, metrics),
        "status": _status_v1(status),
    }


def _spec_v1(spec: Object, metrics: list[Object]) -> Object:
    out: Object = {"scaleTargetRef": spec.get("scaleTargetRef") or {}}
    if spec.get("minReplicas") is not None:
        out["minReplicas"] = spec["minReplicas"]
    out["maxReplicas"] = spec.get("maxReplicas", 0)
    for metric in metrics:
        if _is_cpu(metric):
            out["targetCPUUtilizationPercentage"] = metric["resource"]["target"]["averageUtilization"]
            break
    return out


def _status_v1(status: Object) -> Object:
    out = {key: status[key] for key in _IN_BOTH if status.get(key) is not None}
    out = {"currentReplicas": 0, "desiredReplicas": 0} | out
    for metric in status.get("currentMetrics") or ():
        resource = metric.get("resource") or {}
        used = (resource.get("current") or {}).get("averageUtilization")
        if metric.get("type") == "Resource" and resource.get("name") == "cpu" and used is not None:
            out["currentCPUUtilizationPercentage"] = used
    return out


def _is_cpu(metric: Object) -> bool:
    resource = metric.get("resource") or {}
    wanted = (resource.get("target") or {}).get("averageUtilization")
    return metric.get("type") == "Resource" and resource.get("name") == "cpu" and wanted is not None


def _annotations(spec: Object, status: Object) -> dict[str, str]:
    others = [_metric_v1(m) for m in spec.get("metrics") or () if not _is_cpu(m)]
    current, conditions = status.get("currentMetrics") or [], status.get("conditions") or []
    found: dict[str, Any] = {}
    if others:
        found[METRICS] = others
    if current:
        found[CURRENT] = [_current_v1(m) for m in current]
    out = {key: internal.dumps(value) for key, value in found.items()}
    if spec.get("behavior") is not None:
        out[BEHAVIOR] = internal.text("autoscaling.v2.HorizontalPodAutoscalerBehavior", spec["behavior"])
    if conditions:
        out[CONDITIONS] = internal.dumps([_condition_v1(c) for c in conditions])
    return out


def _given(*pairs: tuple[str, Any]) -> Object:
    """Go's omitempty."""
    return {key: value for key, value in pairs if value not in (None, "", {}, [])}


def _reference_v1(ref: Object) -> Object:
    out = {"kind": ref.get("kind", ""), "name": ref.get("name", "")}
    return out | _given(("apiVersion", ref.get("apiVersion")))


def _condition_v1(condition: Object) -> Object:
    return {
        "type": condition.get("type", ""),
        "status": condition.get("status", ""),
        "lastTransitionTime": condition.get("lastTransitionTime"),
        **_given(("reason", condition.get("reason")), ("message", condition.get("message"))),
    }


def _metric_v1(metric: Object) -> Object:
    out: Object = {"type": metric.get("type", "")}
    for kind in _KINDS:
        if (source := metric.get(kind)) is not None:
            out[kind] = _source_v1(kind, source)
    return out


def _source_v1(kind: str, source: Object) -> Object:
    target, metric = source.get("target") or {}, source.get("metric") or {}
    name, selector = metric.get("name", ""), metric.get("selector")
    value, average = target.get("value"), target.get("averageValue")
    if kind == "object":
        ref = _reference_v1(source.get("describedObject") or {})
        head = {"target": ref, "metricName": name, "targetValue": value or "0"}
        return head | _given(("selector", selector), ("averageValue", average))
    if kind == "pods":
        return {"metricName": name, "targetAverageValue": average or "0", **_given(("selector", selector))}
    if kind == "external":
        rest = (("metricSelector", selector), ("targetValue", value), ("targetAverageValue", average))
        return {"metricName": name, **_given(*rest)}
    resource = (("targetAverageUtilization", target.get("averageUtilization")), ("targetAverageValue", average))
    out = {"name": source.get("name", ""), **_given(*resource)}
    return out | {"container": source.get("container", "")} if kind == "containerResource" else out


def _current_v1(metric: Object) -> Object:
    out: Object = {"type": metric.get("type", "")}
    for kind in _KINDS:
        if (source := metric.get(kind)) is not None:
            out[kind] = _used_v1(kind, source)
    return out


def _used_v1(kind: str, source: Object) -> Object:
    current, metric = source.get("current") or {}, source.get("metric") or {}
    name, selector = metric.get("name", ""), metric.get("selector")
    value, average = current.get("value"), current.get("averageValue")
    if kind == "object":
        ref = _reference_v1(source.get("describedObject") or {})
        head = {"target": ref, "metricName": name, "currentValue": value or "0"}
        return head | _given(("selector", selector), ("averageValue", average))
    if kind == "pods":
        return {"metricName": name, "currentAverageValue": average or "0", **_given(("selector", selector))}
    if kind == "external":
        head = {"metricName": name, **_given(("metricSelector", selector)), "currentValue": value or "0"}
        return head | _given(("currentAverageValue", average))
    out = {"name": source.get("name", "")}
    out |= _given(("currentAverageUtilization", current.get("averageUtilization")))
    out["currentAverageValue"] = average or "0"
    return out | {"container": source.get("container", "")} if kind == "containerResource" else out


# --- v1 -> v2


def to_v2(obj: Object) -> Object:
    """The form of v2, with what stood in annotations in its fields."""
    spec, status = obj.get("spec") or {}, obj.get("status") or {}
    metadata = copy.deepcopy(obj.get("metadata") or {})
    annotations = metadata.get("annotations") or {}
    drop_annotations(metadata)
    return {
        "kind": obj.get("kind", "HorizontalPodAutoscaler"),
        "apiVersion": "autoscaling/v2",
        "metadata": metadata,
        "spec": _spec_v2(spec, annotations),
        "status": _status_v2(status, annotations),
    }


def _parsed(annotations: dict[str, str], key: str, kind: type) -> Any:
    """The JSON in an annotation; None where there is none or it is something else."""
    try:
        found = json.loads(annotations[key])
    except (KeyError, ValueError):
        return None
    return found if isinstance(found, kind) else None


def _spec_v2(spec: Object, annotations: dict[str, str]) -> Object:
    metrics = [_metric_v2(m) for m in _parsed(annotations, METRICS, list) or () if isinstance(m, dict)]
    if (utilization := spec.get("targetCPUUtilizationPercentage")) is not None:
        metrics.append(_cpu(utilization))
    kept = ("scaleTargetRef", "minReplicas", "maxReplicas")
    out: Object = {key: copy.deepcopy(spec[key]) for key in kept if key in spec}
    out["metrics"] = metrics or [copy.deepcopy(DEFAULT_METRIC)]
    if behavior := _behavior_v2(_parsed(annotations, BEHAVIOR, dict) or {}):
        out["behavior"] = behavior
    return out


def _behavior_v2(behavior: Object) -> Object:
    """The annotation has the keys of the unversioned type."""
    return {_lower(key): _lowered(rules) for key, rules in behavior.items() if isinstance(rules, dict)}


def _lower(key: str) -> str:
    return key[:1].lower() + key[1:]


def _lowered(value: Any) -> Any:
    if isinstance(value, dict):
        return {_lower(key): _lowered(item) for key, item in value.items() if item is not None}
    return [_lowered(item) for item in value] if isinstance(value, list) else value


def _status_v2(status: Object, annotations: dict[str, str]) -> Object:
    out: Object = {key: status[key] for key in _IN_BOTH if status.get(key) is not None}
    out.setdefault("desiredReplicas", 0)
    if not out.get("currentReplicas"):
        out.pop("currentReplicas", None)
    metrics: list[Object] | None = None
    if (used := status.get("currentCPUUtilizationPercentage")) is not None:
        metrics = [{"type": "Resource", "resource": {"name": "cpu", "current": {"averageUtilization": used}}}]
    if (current := _parsed(annotations, CURRENT, list)) is not None:
        metrics = [_current_v2(m) for m in current if isinstance(m, dict)]
    out["currentMetrics"] = metrics or None
    if conditions := _parsed(annotations, CONDITIONS, list):
        out["conditions"] = conditions
    return out


def _metric_v2(metric: Object) -> Object:
    out: Object = {"type": metric.get("type", "")}
    for kind in _KINDS:
        if isinstance(source := metric.get(kind), dict):
            out[kind] = _source_v2(kind, source)
    return out


def _identifier(name: str, selector: Any) -> Object:
    return {"name": name, **_given(("selector", selector))}


def _source_v2(kind: str, source: Object) -> Object:
    name = source.get("metricName", "")
    if kind == "object":
        average, value = source.get("averageValue"), source.get("targetValue", "0")
        kept = value if average is None or str(value) != "0" else None
        target = {"type": "Value" if average is None else "AverageValue"}
        return {
            "describedObject": source.get("target") or {},
            "target": target | _given(("value", kept), ("averageValue", average)),
            "metric": _identifier(name, source.get("selector")),
        }
    if kind == "pods":
        target = {"type": "AverageValue", "averageValue": source.get("targetAverageValue", "0")}
        return {"metric": _identifier(name, source.get("selector")), "target": target}
    if kind == "external":
        value = source.get("targetValue")
        target = {"type": "AverageValue" if value is None else "Value"}
        target |= _given(("value", value), ("averageValue", source.get("targetAverageValue")))
        return {"metric": _identifier(name, source.get("metricSelector")), "target": target}
    utilization = source.get("targetAverageUtilization")
    target = {"type": "AverageValue" if utilization is None else "Utilization"}
    target |= _given(("averageValue", source.get("targetAverageValue")), ("averageUtilization", utilization))
    out: Object = {"name": source.get("name", ""), "target": target}
    return out | {"container": source.get("container", "")} if kind == "containerResource" else out


def _current_v2(metric: Object) -> Object:
    out: Object = {"type": metric.get("type", "")}
    for kind in _KINDS:
        if isinstance(source := metric.get(kind), dict):
            out[kind] = _used_v2(kind, source)
    return out


def _used_v2(kind: str, source: Object) -> Object:
    name = source.get("metricName", "")
    if kind == "object":
        current = {"value": source.get("currentValue", "0"), **_given(("averageValue", source.get("averageValue")))}
        ref = source.get("target") or {}
        return {"metric": _identifier(name, source.get("selector")), "current": current, "describedObject": ref}
    if kind == "pods":
        current = {"averageValue": source.get("currentAverageValue", "0")}
        return {"metric": _identifier(name, source.get("selector")), "current": current}
    if kind == "external":
        current = {"value": source.get("currentValue", "0")}
        current |= _given(("averageValue", source.get("currentAverageValue")))
        return {"metric": _identifier(name, source.get("metricSelector")), "current": current}
    current = {"averageValue": source.get("currentAverageValue", "0")}
    current |= _given(("averageUtilization", source.get("currentAverageUtilization")))
    out: Object = {"name": source.get("name", ""), "current": current}
    return out | {"container": source.get("container", "")} if kind == "containerResource" else out
