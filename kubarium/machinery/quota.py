"""What objects count for in ResourceQuotas: their usage, the scopes they are in, what a quota makes them specify. Pure.

Objects and quotas are wire-shaped dicts. The API server charges by these rules, the controller counts by them.
Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/; k8s.io/kubernetes/pkg/quota/v1/evaluator/core.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from kubarium.machinery.quantity import Quantity
from kubarium.machinery.quotapods import Pods
from kubarium.machinery.quotarules import GroupResource, Rule
from kubarium.machinery.resourcelists import NOTHING, Amounts, add, amounts, only, raise_to

IGNORED: frozenset[GroupResource] = frozenset(
    {
        ("", "bindings"),
        ("", "componentstatuses"),
        ("", "events"),
        ("events.k8s.io", "events"),
        ("authentication.k8s.io", "tokenreviews"),
        ("authentication.k8s.io", "selfsubjectreviews"),
        ("authorization.k8s.io", "subjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectaccessreviews"),
        ("authorization.k8s.io", "localsubjectaccessreviews"),
        ("authorization.k8s.io", "selfsubjectrulesreviews"),
    }
)
"""Kinds that no quota counts."""

ALIASES = {name: name for name in ("configmaps", "resourcequotas", "replicationcontrollers", "secrets")}
"""Core kinds whose number has an old name too."""

ONE = Quantity(Decimal(1))
STORAGE = "requests.storage"
CLAIMS = "persistentvolumeclaims"
BY_CLASS = ".storageclass.storage.k8s.io/"
OLD_CLASS = "volume.beta.kubernetes.io/storage-class"
BY_DEVICE_CLASS = ".deviceclass.resource.k8s.io/devices"
MOST_DEVICES = 32
"""What a claim for all devices of a class counts for: no allocation can have more."""


class Services(Rule):
    def handles(self, operation: str, subresource: str, new: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
        return not subresource and operation in ("CREATE", "UPDATE")

    def names(self, hard: Iterable[str]) -> set[str]:
        own = {"services", "services.nodeports", "services.loadbalancers", self.count_name}
        return own.intersection(hard)

    def usage(self, obj: Mapping[str, Any], now: float) -> Amounts:
        spec = obj.get("spec") or {}
        kind, ports = spec.get("type"), spec.get("ports") or ()
        numbers = len(ports) if kind in ("NodePort", "LoadBalancer") else 0
        if kind == "LoadBalancer" and spec.get("allocateLoadBalancerNodePorts") is False:
            numbers = sum(1 for port in ports if port.get("nodePort"))
        return {
            self.count_name: ONE,
            "services": ONE,
            "services.nodeports": Quantity(Decimal(numbers)),
            "services.loadbalancers": ONE if kind == "LoadBalancer" else NOTHING,
        }


class Claims(Rule):
    """PersistentVolumeClaims: their number and size, all together and by storage class."""

    def handles(self, operation: str, subresource: str, new: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
        return (not subresource and operation in ("CREATE", "UPDATE")) or subresource == "status"

    def names(self, hard: Iterable[str]) -> set[str]:
        own = (self.count_name, CLAIMS, STORAGE)
        return {name for name in hard if name in own or name.endswith((BY_CLASS + CLAIMS, BY_CLASS + STORAGE))}

    def usage(self, obj: Mapping[str, Any], now: float) -> Amounts:
        found = {self.count_name: ONE, CLAIMS: ONE}
        if (size := self._size(obj)) is not None:
            found[STORAGE] = size
        if name := self._class(obj):
            found |= {f"{name}{BY_CLASS}{each}": found[each] for each in (CLAIMS, STORAGE) if each in found}
        return found

    @staticmethod
    def _size(obj: Mapping[str, Any]) -> Quantity | None:
        asked = amounts(((obj.get("spec") or {}).get("resources") or {}).get("requests")).get("storage")
        if asked is None:
            return None
        allocated = amounts((obj.get("status") or {}).get("allocatedResources")).get("storage", NOTHING)
        return (allocated if allocated.value > asked.value else asked).whole()

    @staticmethod
    def _class(obj: Mapping[str, Any]) -> str:
        annotations = obj["metadata"].get("annotations") or {}
        return str(annotations.get(OLD_CLASS) or (obj.get("spec") or {}).get("storageClassName") or "")

    def in_scope(self, scope: Mapping[str, Any], obj: Mapping[str, Any]) -> bool:
        if scope.get("scopeName") != "VolumeAttributesClass":
            return False
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        target = (status.get("modifyVolumeStatus") or {}).get("targetVolumeAttributesClassName")
        every = (spec.get("volumeAttributesClassName"), status.get("currentVolumeAttributesClassName"), target)
        return self.selects(scope, {name for name in every if name})


class ResourceClaims(Rule):
    """Claims for devices: their number, and the devices of each class."""

    def handles(self, operation: str, subresource: str, new: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
        return not subresource and operation in ("CREATE", "UPDATE")

    def names(self, hard: Iterable[str]) -> set[str]:
        return {name for name in hard if name == self.count_name or name.endswith(BY_DEVICE_CLASS)}

    def usage(self, obj: Mapping[str, Any], now: float) -> Amounts:
        found = {self.count_name: ONE}
        for request in ((obj.get("spec") or {}).get("devices") or {}).get("requests") or ():
            exactly = [request["exactly"]] if request.get("exactly") else []
            most: Amounts = {}
            for one in request.get("firstAvailable") or exactly:
                number = Quantity(Decimal(self._devices(one)))
                raise_to(most, {f"{one.get('deviceClassName', '')}{BY_DEVICE_CLASS}": number})
            add(found, most)
        return found

    @staticmethod
    def _devices(request: Mapping[str, Any]) -> int:
        mode = request.get("allocationMode")
        return MOST_DEVICES if mode == "All" else int(request.get("count") or 0) if mode == "ExactCount" else 0


_RULES: Mapping[GroupResource, type[Rule]] = {
    ("", "pods"): Pods,
    ("", "services"): Services,
    ("", CLAIMS): Claims,
    ("resource.k8s.io", "resourceclaims"): ResourceClaims,
}


def rule_of(group: str, plural: str) -> Rule | None:
    """How objects of a kind are counted; None for kinds that no quota counts. Any other kind is counted by number."""
    if (group, plural) in IGNORED:
        return None
    alias = "" if group else ALIASES.get(plural, "")
    return _RULES.get((group, plural), Rule)(group, plural, alias)


# -- quotas ------------------------------------------------------------------------------------------------------------


def scopes_of(quota: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The scope requirements of a quota, both ways of writing them."""
    spec = quota.get("spec") or {}
    listed = [{"scopeName": name, "operator": "Exists"} for name in spec.get("scopes") or ()]
    return [*listed, *((spec.get("scopeSelector") or {}).get("matchExpressions") or ())]


def covers(quota: Mapping[str, Any], rule: Rule, obj: Mapping[str, Any], hard: Iterable[str]) -> bool:
    """Whether an object counts against a quota with such limits."""
    return bool(rule.names(hard)) and all(rule.in_scope(scope, obj) for scope in scopes_of(quota))


def counted(
    quota: Mapping[str, Any], rule: Rule, objects: Iterable[Mapping[str, Any]], hard: Sequence[str], now: float
) -> Amounts:
    """What the objects of one kind use of a quota's limits `hard`; a limit of this kind that nothing uses is 0."""
    names = rule.names(hard)
    total: Amounts = dict.fromkeys(names, NOTHING)
    if names:
        scopes = scopes_of(quota)
        for obj in objects:
            if all(rule.in_scope(scope, obj) for scope in scopes):
                add(total, only(rule.usage(obj, now), names))
    return total
