"""In which order groups and versions are discovered: the priorities of the APIServices that this server makes.

Source: what kube-apiserver writes into its own APIServices; kube-aggregator/pkg/apis/apiregistration (the order).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

AGGREGATOR = "apiregistration.k8s.io"  # comes first, and is the one group without an APIService
_GROUPS = {
    AGGREGATOR: 20000,
    "": 18000,
    "apps": 17800,
    "events.k8s.io": 17750,
    "authentication.k8s.io": 17700,
    "authorization.k8s.io": 17600,
    "autoscaling": 17500,
    "batch": 17400,
    "certificates.k8s.io": 17300,
    "networking.k8s.io": 17200,
    "policy": 17100,
    "rbac.authorization.k8s.io": 17000,
    "storage.k8s.io": 16800,
    "admissionregistration.k8s.io": 16700,
    "apiextensions.k8s.io": 16700,
    "scheduling.k8s.io": 16600,
    "coordination.k8s.io": 16500,
    "node.k8s.io": 16300,
    "discovery.k8s.io": 16200,
    "resource.k8s.io": 16200,
    "flowcontrol.apiserver.k8s.io": 16100,
}
_VERSIONS = {("", "v1"): 1, ("autoscaling", "v2"): 30, ("flowcontrol.apiserver.k8s.io", "v1"): 21}
_VERSIONS |= {("resource.k8s.io", "v1"): 21}
_BUILT_IN_VERSION, _CUSTOM_GROUP, _CUSTOM_VERSION = 15, 1000, 100
_VERSION = re.compile(r"v([1-9]\d*)(?:(alpha|beta)([1-9]\d*))?").fullmatch
_STAGES = {"alpha": 0, "beta": 1, None: 2}


def is_built_in(group: str) -> bool:
    return group in _GROUPS


def of_group(group: str) -> int:
    return _GROUPS.get(group, _CUSTOM_GROUP)


def of_version(group: str, version: str) -> int:
    return _VERSIONS.get((group, version), _BUILT_IN_VERSION if is_built_in(group) else _CUSTOM_VERSION)


def in_order(groups: Iterable[str]) -> list[str]:
    """Groups as discovery lists them."""
    return sorted(groups, key=lambda group: (-of_group(group), group))


def versions_in_order(group: str, versions: Iterable[str]) -> list[str]:
    """Versions of a group, the preferred one first: v2, v1, v1beta1, and names of another form last."""
    by_name = sorted(versions)
    return sorted(by_name, key=lambda v: (-of_version(group, v), *_rank(v)))


def _rank(version: str) -> tuple[int, int, int]:
    if (match := _VERSION(version)) is None:
        return (1, 0, 0)
    major, stage, minor = match.groups()
    return (0, -_STAGES[stage], -(int(major) * 10_000 + int(minor or 0)))
