"""The condition that says why a pod is taken away. Source: "Pod disruption conditions" of the documentation."""

from __future__ import annotations

from typing import Any

from kubarium.machinery.objects import Pod
from kubarium.machinery.times import format_timestamp


def disruption_patch(pod: Pod, reason: str, message: str, now: float, *, phase: str = "") -> dict[str, Any]:
    """Strategic merge patch of the status: condition DisruptionTarget, and a phase if given."""
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": reason,
        "message": message,
        "lastTransitionTime": format_timestamp(now),
    }
    status: dict[str, Any] = {"conditions": [condition]}
    return {"metadata": {"uid": pod.metadata.uid}, "status": {**status, **({"phase": phase} if phase else {})}}
