"""What pods count for in quotas.

Source: k8s.io/kubernetes/pkg/quota/v1/evaluator/core/pods.go; https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any

from kubarium.machinery.quantity import Quantity
from kubarium.machinery.quotarules import Rule
from kubarium.machinery.resourcelists import HUGEPAGES, Amounts, add, amounts, pod_level_set, pod_sum
from kubarium.machinery.times import parse_timestamp

REQUESTS = "requests."
NATIVE = ("cpu", "memory", "ephemeral-storage")
DEMANDED = frozenset({"cpu", "memory", *(f"{kind}.{name}" for kind in ("requests", "limits") for name in NATIVE[:2])})
"""Limits on these make every container name its own."""
DEVICE_CLASS = "deviceclass.resource.kubernetes.io/"
OVER = ("Failed", "Succeeded")
AFFINITIES = ("podAffinity", "podAntiAffinity")


class Pods(Rule):
    def __init__(self, group: str, plural: str, alias: str = "") -> None:
        super().__init__(group, plural, alias)
        kinds = (f"{kind}.{name}" for kind in ("requests", "limits") for name in NATIVE)
        self._own = frozenset({self.count_name, "pods", *NATIVE, *kinds})

    def handles(self, operation: str, subresource: str, new: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
        if subresource:
            return (subresource, operation) == ("resize", "UPDATE")
        if operation == "UPDATE":
            return old is not None and is_terminating(new) != is_terminating(old)
        return operation == "CREATE"

    def names(self, hard: Iterable[str]) -> set[str]:
        return {name for name in hard if name in self._own or _is_hugepages(name) or _is_extended_limit(name)}

    def missing(self, required: Collection[str], obj: Mapping[str, Any]) -> str:
        spec = obj.get("spec") or {}
        if pod_level_set(spec):
            return ""
        lacking: dict[str, set[str]] = {}
        for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
            resources = container.get("resources") or {}
            known = _usage(amounts(resources.get("requests")), amounts(resources.get("limits")))
            for name in DEMANDED.intersection(required) - known.keys():
                lacking.setdefault(name, set()).add(container.get("name", ""))
        texts = [f"{name} for: {','.join(sorted(lacking[name]))}" for name in sorted(lacking)]
        return f"must specify {'; '.join(texts)}" if texts else ""

    def usage(self, obj: Mapping[str, Any], now: float) -> Amounts:
        found = super().usage(obj, now)
        return add(found, _usage(pod_sum(obj, "requests"), pod_sum(obj, "limits"))) if counts(obj, now) else found

    def in_scope(self, scope: Mapping[str, Any], obj: Mapping[str, Any]) -> bool:
        match scope.get("scopeName"):
            case "Terminating":
                return is_terminating(obj)
            case "NotTerminating":
                return not is_terminating(obj)
            case "BestEffort":
                return is_best_effort(obj)
            case "NotBestEffort":
                return not is_best_effort(obj)
            case "PriorityClass":
                name = (obj.get("spec") or {}).get("priorityClassName")
                return self.selects(scope, [name] if name else [])
            case "CrossNamespacePodAffinity":
                return crosses_namespaces(obj)
        return False


def _is_hugepages(name: str) -> bool:
    return name.startswith((HUGEPAGES, REQUESTS + HUGEPAGES))


def _is_extended_limit(name: str) -> bool:
    """`requests.example.com/gpu`: of what a node offers, but Kubernetes itself does not know."""
    foreign = "/" in name and "kubernetes.io/" not in name
    return name.startswith(REQUESTS) and (foreign or name.startswith(REQUESTS + DEVICE_CLASS))


def _is_extended(name: str) -> bool:
    foreign = "/" in name and "kubernetes.io/" not in name and not name.startswith(REQUESTS)
    return foreign or name.startswith(DEVICE_CLASS)


def _usage(requests: Amounts, limits: Amounts) -> Amounts:
    """Under the names that quotas use."""
    found = {"pods": Quantity(Decimal(1))}
    for name, amount in requests.items():
        if name in NATIVE or name.startswith(HUGEPAGES):
            found[name] = found[REQUESTS + name] = amount
        elif _is_extended(name):
            found[REQUESTS + name] = amount
    found |= {f"limits.{name}": limits[name] for name in NATIVE if name in limits}
    return found


def counts(pod: Mapping[str, Any], now: float) -> bool:
    """Whether a pod still uses anything: not when its work is over, or its kubelet lets it wait beyond its grace."""
    if (pod.get("status") or {}).get("phase") in OVER:
        return False
    metadata = pod["metadata"]
    deleted, grace_s = metadata.get("deletionTimestamp"), metadata.get("deletionGracePeriodSeconds")
    if not deleted or grace_s is None:
        return True
    return bool(now <= (parse_timestamp(deleted) or now) + grace_s)


def is_terminating(pod: Mapping[str, Any]) -> bool:
    """Whether the pod is one that ends by itself."""
    deadline = (pod.get("spec") or {}).get("activeDeadlineSeconds")
    return deadline is not None and bool(deadline >= 0)


def is_best_effort(pod: Mapping[str, Any]) -> bool:
    if known := (pod.get("status") or {}).get("qosClass"):
        return str(known) == "BestEffort"
    spec = pod.get("spec") or {}
    holders = [spec] if pod_level_set(spec) else [*(spec.get("containers") or ()), *(spec.get("initContainers") or ())]
    asked = (
        amounts((holder.get("resources") or {}).get(kind)) for holder in holders for kind in ("requests", "limits")
    )
    return not any(found[name].value > 0 for found in asked for name in ("cpu", "memory") if name in found)


def crosses_namespaces(pod: Mapping[str, Any]) -> bool:
    """Whether the pod wants to be near to, or away from, pods of other namespaces."""
    affinity = (pod.get("spec") or {}).get("affinity") or {}
    for kind in AFFINITIES:
        rules = affinity.get(kind) or {}
        terms = [*(rules.get("requiredDuringSchedulingIgnoredDuringExecution") or ())]
        preferred = rules.get("preferredDuringSchedulingIgnoredDuringExecution") or ()
        terms += [one.get("podAffinityTerm") or {} for one in preferred]
        if any(term.get("namespaces") or term.get("namespaceSelector") is not None for term in terms):
            return True
    return False
