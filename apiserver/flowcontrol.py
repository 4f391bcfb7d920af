"""API priority and fairness, as far as its objects go: the defaults are there, and each FlowSchema tells whether the
priority level that it names is.

Source: Kubernetes documentation, "API Priority and Fairness"; k8s.io/apiserver/pkg/util/flowcontrol (texts).
"""

from __future__ import annotations

from collections.abc import Iterator

from apiserver.registry.base import Object, Registry
from apiserver.registry.flowcontrol_defaults import objects
from apiserver.seeding import Seed

GROUP, FLOWS, LEVELS = "flowcontrol.apiserver.k8s.io", "flowschemas", "prioritylevelconfigurations"
PRODUCER = "api-priority-and-fairness-config-producer-v1"
CONSUMER = "api-priority-and-fairness-config-consumer-v1"
DANGLING = "Dangling"
_CONDITION = {".": {}, "f:lastTransitionTime": {}, "f:message": {}, "f:reason": {}, "f:status": {}, "f:type": {}}
_STATUS_FIELDS = {"f:status": {"f:conditions": {'k:{"type":"Dangling"}': _CONDITION}}}


def dangling(level: str, exists: bool, now: str) -> Object:
    """The condition of a FlowSchema that names `level`."""
    about = f'This FlowSchema references the PriorityLevelConfiguration object named "{level}"'
    return {
        "type": DANGLING,
        "status": "False" if exists else "True",
        "lastTransitionTime": now,
        "reason": "Found" if exists else "NotFound",
        "message": f"{about} {'and it exists' if exists else 'but there is no such object'}",
    }


def seeds(registry: Registry, now: str) -> Iterator[Seed]:
    for plural, obj in objects():
        resource = registry.get(GROUP, "v1", plural)
        if resource is None:
            continue
        if plural == LEVELS:
            yield Seed(resource, obj, PRODUCER)
        else:
            level = obj["spec"]["priorityLevelConfiguration"]["name"]
            status = {"conditions": [dangling(level, True, now)]}
            yield Seed(resource, obj, PRODUCER, status, CONSUMER, _STATUS_FIELDS)
