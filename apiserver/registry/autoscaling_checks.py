"""Validation of a HorizontalPodAutoscaler's spec, in the form of autoscaling/v2.

Source: k8s.io/kubernetes/pkg/apis/autoscaling/validation (order and texts).
"""

from __future__ import annotations

from typing import NamedTuple

from apiserver.registry import names, quantity
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.resourcenames import check_container_name

_MAX_PERIOD_S, _MAX_WINDOW_S = 1800, 3600
_KINDS = {
    "Object": "object",
    "External": "external",
    "Pods": "pods",
    "Resource": "resource",
    "ContainerResource": "containerResource",
}
_TARGETS = ("Utilization", "Value", "AverageValue")


class Options(NamedTuple):
    """What is let pass: `lowest` number of replicas, references that are not looked at or may be of the core group."""

    lowest: int
    any_target: bool
    core_target: bool
    any_object: bool


def check_spec(spec: Object, options: Options, faults: Faults) -> None:
    low, high = spec.get("minReplicas"), spec.get("maxReplicas", 0)
    if low is not None and low < options.lowest:
        faults.invalid("spec.minReplicas", low, f"must be greater than or equal to {options.lowest}")
    if high == 0:
        faults.required("spec.maxReplicas", "must be set and greater than 0")
    elif high < 0:
        faults.invalid("spec.maxReplicas", high, "must be greater than or equal to 1")
    if low is not None and high < low:
        faults.invalid("spec.maxReplicas", high, "must be greater than or equal to `minReplicas`")
    target, path = spec.get("scaleTargetRef") or {}, "spec.scaleTargetRef"
    _check_reference(target, path, faults, core=options.core_target, skip=options.any_target)
    metrics = spec.get("metrics") or []
    for i, metric in enumerate(metrics):
        _check_metric(metric, f"spec.metrics[{i}]", options, faults)
    if low == 0 and not any(metric.get("type") in ("Object", "External") for metric in metrics):
        text = "must specify at least one Object or External metric to support scaling to zero replicas"
        faults.forbidden("spec.metrics", text)
    for kind in ("scaleUp", "scaleDown"):
        if rules := (spec.get("behavior") or {}).get(kind):
            _check_rules(rules, f"spec.behavior.{kind}", faults)


def check_api_version(ref: Object, *, core: bool) -> str:
    """What is wrong with the apiVersion of a reference, "" where nothing is. `core`: it may have no group."""
    text = ref.get("apiVersion", "")
    if text.count("/") > 1:
        return f"unexpected GroupVersion string: {text}"
    return "" if core or (text.partition("/")[1] and text.partition("/")[0]) else "apiVersion must specify API group"


def _check_reference(ref: Object, path: str, faults: Faults, *, core: bool, skip: bool) -> None:
    for key in ("kind", "name"):
        if value := ref.get(key):
            faults.each(f"{path}.{key}", value, names.path_segment_name(value))
        else:
            faults.required(f"{path}.{key}")
    if not skip and (fault := check_api_version(ref, core=core)):
        faults.invalid(f"{path}.apiVersion", ref.get("apiVersion", ""), fault)


# --- behavior


def _check_rules(rules: Object, path: str, faults: Faults) -> None:
    window, policy = rules.get("stabilizationWindowSeconds"), rules.get("selectPolicy")
    if window is not None and window < 0:
        faults.invalid(f"{path}.stabilizationWindowSeconds", window, "must be greater than or equal to zero")
    if window is not None and window > _MAX_WINDOW_S:
        text = f"must be less than or equal to {_MAX_WINDOW_S}"
        faults.invalid(f"{path}.stabilizationWindowSeconds", window, text)
    if policy is not None and policy not in ("Disabled", "Max", "Min"):
        faults.unsupported(f"{path}.selectPolicy", policy, ("Disabled", "Max", "Min"))
    if not rules.get("policies"):
        faults.required(f"{path}.policies", "must specify at least one Policy")
    for i, one in enumerate(rules.get("policies") or ()):
        _check_policy(one, f"{path}.policies[{i}]", faults)
    tolerance = rules.get("tolerance")
    if tolerance is not None and quantity.parse(tolerance) < 0:
        faults.invalid(f"{path}.tolerance", tolerance, "must be greater than or equal to 0")


def _check_policy(policy: Object, path: str, faults: Faults) -> None:
    if (kind := policy.get("type", "")) not in ("Pods", "Percent"):
        faults.unsupported(f"{path}.type", kind, ("Percent", "Pods"))
    period = policy.get("periodSeconds", 0)
    for key, value in (("value", policy.get("value", 0)), ("periodSeconds", period)):
        if value <= 0:
            faults.invalid(f"{path}.{key}", value, "must be greater than zero")
    if period > _MAX_PERIOD_S:
        faults.invalid(f"{path}.periodSeconds", period, f"must be less than or equal to {_MAX_PERIOD_S}")


# --- metrics


def _check_metric(metric: Object, path: str, options: Options, faults: Faults) -> None:
    kind, allowed = metric.get("type", ""), sorted(_KINDS)
    if not kind:
        faults.required(f"{path}.type", "must specify a metric source type")
    if kind not in _KINDS:
        faults.unsupported(f"{path}.type", kind, allowed)
    present = [key for key in _KINDS.values() if metric.get(key) is not None]
    if present:
        _check_source(present[0], metric[present[0]], f"{path}.{present[0]}", options, faults)
    wanted = _KINDS.get(kind, "")
    if not wanted:
        faults.unsupported(f"{path}.type", kind, allowed)
    elif wanted not in present:
        faults.required(f"{path}.{wanted}", "must populate information for the given metric source")
    if len(present) != 1:
        for key in present:
            if key != wanted:
                faults.forbidden(f"{path}.{key}", "must populate the given metric source only")


def _check_source(kind: str, source: Object, path: str, options: Options, faults: Faults) -> None:
    if kind == "object":
        described = source.get("describedObject") or {}
        _check_reference(described, f"{path}.describedObject", faults, core=True, skip=options.any_object)
    if kind in ("object", "external", "pods"):
        _check_identifier(source.get("metric") or {}, f"{path}.metric", faults)
    else:
        _check_resource(kind, source, path, faults)
    target = source.get("target") or {}
    _check_target(target, f"{path}.target", faults)
    _check_values(kind, target, f"{path}.target", faults)


def _check_identifier(metric: Object, path: str, faults: Faults) -> None:
    if name := metric.get("name"):
        faults.each(f"{path}.name", name, names.path_segment_name(name))
    else:
        faults.required(f"{path}.name", "must specify a metric name")


def _check_resource(kind: str, source: Object, path: str, faults: Faults) -> None:
    if not (name := source.get("name")):
        faults.required(f"{path}.name", "must specify a resource name")
    elif kind == "containerResource":
        check_container_name(name, f"{path}.name", faults)
    if kind == "containerResource":
        if container := source.get("container"):
            faults.each(f"{path}.container", container, names.dns1123_label(container))
        else:
            faults.required(f"{path}.container", "must specify a container")


def _check_target(target: Object, path: str, faults: Faults) -> None:
    if not (kind := target.get("type", "")):
        faults.required(f"{path}.type", "must specify a metric target type")
    if kind not in _TARGETS:
        faults.invalid(f"{path}.type", kind, "must be either Utilization, Value, or AverageValue")
    for key in ("value", "averageValue"):
        value = target.get(key)
        if value is not None and quantity.parse(value) <= 0:
            faults.invalid(f"{path}.{key}", value, "must be positive")
    utilization = target.get("averageUtilization")
    if utilization is not None and utilization < 1:
        faults.invalid(f"{path}.averageUtilization", utilization, "must be greater than 0")


def _check_values(kind: str, target: Object, path: str, faults: Faults) -> None:
    """Which of the three targets a kind of metric must have, and which it may not have together."""
    value, average, utilization = (target.get(key) for key in ("value", "averageValue", "averageUtilization"))
    if kind == "object" and value is None and average is None:
        faults.required(f"{path}.averageValue", "must set either a target value or averageValue")
    elif kind == "external":
        if value is None and average is None:
            text = "must set either a target value for metric or a per-pod target"
            faults.required(f"{path}.averageValue", text)
        if value is not None and average is not None:
            text = "may not set both a target value for metric and a per-pod target"
            faults.forbidden(f"{path}.value", text)
    elif kind == "pods" and average is None:
        faults.required(f"{path}.averageValue", "must specify a positive target averageValue")
    elif kind in ("resource", "containerResource"):
        if utilization is None and average is None:
            text = "must set either a target raw value or a target utilization"
            faults.required(f"{path}.averageUtilization", text)
        if utilization is not None and average is not None:
            text = "may not set both a target raw value and a target utilization"
            faults.forbidden(f"{path}.averageValue", text)
