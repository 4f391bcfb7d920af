"""Validation of pod specs, in Pods and in templates.

Source: k8s.io/kubernetes/pkg/apis/core/validation (order and texts).
"""

from __future__ import annotations

from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_annotations, check_labels


def check_pod_template(template: Object, path: str, faults: Faults) -> None:
    meta = template.get("metadata") or {}
    check_labels(meta.get("labels") or {}, f"{path}.labels", faults)
    check_annotations(meta.get("annotations") or {}, f"{path}.annotations", faults)
