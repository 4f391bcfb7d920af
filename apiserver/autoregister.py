"""An APIService for each group and version that this server serves itself; those of custom kinds come and go with them.

Source: Kubernetes documentation, "Aggregation layer"; kube-aggregator/pkg/controllers/autoregister (labels).
"""

from __future__ import annotations

from collections.abc import Iterator

from apiserver.registry import priorities
from apiserver.registry.base import Object, Registry
from apiserver.seeding import Seed

MANAGED = "kube-aggregator.kubernetes.io/automanaged"
AT_START, ALWAYS = "onstart", "true"


def wanted(registry: Registry) -> Iterator[Object]:
    """The APIServices of all groups and versions but the aggregator's own."""
    for group, versions in registry.groups().items():
        if group != priorities.AGGREGATOR:
            yield from (api_service(group, version) for version in versions)


def api_service(group: str, version: str) -> Object:
    managed = AT_START if priorities.is_built_in(group) else ALWAYS
    spec: Object = {"group": group} if group else {}
    spec |= {
        "version": version,
        "groupPriorityMinimum": priorities.of_group(group),
        "versionPriority": priorities.of_version(group, version),
    }
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {"name": f"{version}.{group}", "labels": {MANAGED: managed}},
        "spec": spec,
    }


def seeds(registry: Registry) -> Iterator[Seed]:
    resource = registry.get(priorities.AGGREGATOR, "v1", "apiservices")
    if resource is not None:
        yield from (Seed(resource, obj) for obj in wanted(registry))
