"""Validation of what the kubelet asks containers and does at their start and end: probes and hooks.

Source: k8s.io/kubernetes/pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.podspec_parts import NOT_NEGATIVE
from apiserver.registry.ports import check_port_or_name

PROBES = ("livenessProbe", "readinessProbe", "startupProbe")
_OF_PROBES = ("exec", "httpGet", "tcpSocket", "grpc")
_OF_HOOKS = ("exec", "httpGet", "tcpSocket", "sleep")
_SCHEMES = ("HTTP", "HTTPS")
_NUMBERS = ("initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold")


def check_lifecycle_and_probes(container: Object, grace: int | None, path: str, faults: Faults) -> None:
    """`grace`: seconds that the pod has to end in."""
    for hook in ("postStart", "preStop"):
        if (handler := (container.get("lifecycle") or {}).get(hook)) is not None:
            _check_handler(handler, _OF_HOOKS, grace, f"{path}.lifecycle.{hook}", faults)
    for kind in PROBES:
        if (probe := container.get(kind)) is not None:
            _check_probe(probe, kind, f"{path}.{kind}", faults)


def _check_probe(probe: Object, kind: str, path: str, faults: Faults) -> None:
    _check_handler(probe, _OF_PROBES, None, path, faults)
    for key in _NUMBERS:
        if (value := probe.get(key, 0)) < 0:
            faults.invalid(f"{path}.{key}", value, NOT_NEGATIVE)
    grace = probe.get("terminationGracePeriodSeconds")
    if grace is not None and grace <= 0:
        faults.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must be greater than 0")
    if kind == "readinessProbe":
        if grace is not None:
            faults.invalid(f"{path}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes")
    elif (threshold := probe.get("successThreshold", 0)) != 1:
        faults.invalid(f"{path}.successThreshold", threshold, "must be 1")


def _check_handler(handler: Object, allowed: tuple[str, ...], grace: int | None, path: str, faults: Faults) -> None:
    kinds = [kind for kind in allowed if handler.get(kind) is not None]
    if not kinds:
        faults.required(path, "must specify a handler type")
        return
    _check_action(kinds[0], handler[kinds[0]], grace, f"{path}.{kinds[0]}", faults)
    for kind in kinds[1:]:
        faults.forbidden(f"{path}.{kind}", "may not specify more than 1 handler type")


def _check_action(kind: str, action: Object, grace: int | None, path: str, faults: Faults) -> None:
    if kind == "exec":
        if not action.get("command"):
            faults.required(f"{path}.command")
    elif kind == "httpGet":
        _check_http(action, path, faults)
    elif kind == "tcpSocket":
        check_port_or_name(action.get("port", 0), f"{path}.port", faults)
    elif kind == "grpc":
        faults.each(f"{path}.port", action.get("port", 0), names.port_number(action.get("port", 0)))
    elif grace is not None and not 0 <= (seconds := action.get("seconds", 0)) <= grace:
        text = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
        faults.invalid(path, seconds, text)


def _check_http(action: Object, path: str, faults: Faults) -> None:
    if not action.get("path"):
        faults.required(f"{path}.path")
    check_port_or_name(action.get("port", 0), f"{path}.port", faults)
    if (scheme := action.get("scheme", "")) not in _SCHEMES:
        faults.unsupported(f"{path}.scheme", scheme, _SCHEMES)
    for header in action.get("httpHeaders") or ():
        faults.each(f"{path}.httpHeaders", header.get("name", ""), names.http_header_name(header.get("name", "")))
