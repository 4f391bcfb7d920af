"""ResourceLists (`{"cpu": "500m", "memory": "1Gi"}`) as numbers: sums, maxima, and what a whole pod asks for.

Source: k8s.io/component-helpers/resource (PodRequests, PodLimits); KEP-753 (sidecars), KEP-2837 (pod-level resources),
KEP-1287 (resize in place).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from kubarium.machinery.quantity import Quantity, read_quantity

Amounts = dict[str, Quantity]
"""By resource name."""

POD_LEVEL = ("cpu", "memory")
HUGEPAGES = "hugepages-"
NOTHING = Quantity(Decimal(0))


def amounts(wire: Mapping[str, Any] | None) -> Amounts:
    """A ResourceList as it came over the wire."""
    return {name: read_quantity(str(text)) for name, text in (wire or {}).items()}


def wire_list(found: Mapping[str, Quantity]) -> dict[str, str]:
    """In order of names, as Go writes its maps."""
    return {name: str(found[name]) for name in sorted(found)}


def add(total: Amounts, more: Mapping[str, Quantity]) -> Amounts:
    """`total`, changed."""
    for name, amount in more.items():
        total[name] = total[name].plus(amount) if name in total else amount
    return total


def raise_to(total: Amounts, other: Mapping[str, Quantity]) -> Amounts:
    """`total`, changed to the greater of both, name by name."""
    for name, amount in other.items():
        if name not in total or amount.value > total[name].value:
            total[name] = amount
    return total


def only(found: Mapping[str, Quantity], names: Iterable[str]) -> Amounts:
    wanted = frozenset(names)
    return {name: amount for name, amount in found.items() if name in wanted}


def same(one: Mapping[str, Quantity], other: Mapping[str, Quantity]) -> bool:
    """Equal values, however they are written."""
    return one.keys() == other.keys() and all(amount.value == other[name].value for name, amount in one.items())


def pod_level_set(spec: Mapping[str, Any]) -> bool:
    """Whether the pod itself, not only its containers, names requests or limits that count."""
    resources = spec.get("resources") or {}
    return any(_is_pod_level(name) for kind in ("requests", "limits") for name in resources.get(kind) or ())


def _is_pod_level(name: str) -> bool:
    return name in POD_LEVEL or name.startswith(HUGEPAGES)


def container_sum(spec: Mapping[str, Any], kind: str, statuses: Mapping[str, Mapping[str, Any]] = {}) -> Amounts:
    """`kind` (requests or limits) of all containers: the running ones together, or one init container at its time.

    `statuses` are container statuses by name: where a container was resized, what it still has counts too.
    """
    total: Amounts = {}
    for container in spec.get("containers") or ():
        add(total, _of_container(container, kind, statuses))
    sidecars: Amounts = {}
    most: Amounts = {}
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            own = _of_container(container, kind, statuses)
            add(total, own)
            raise_to(most, add(sidecars, own))
        else:
            raise_to(most, add(_of_container(container, kind, {}), sidecars))
    return raise_to(total, most)


def _of_container(container: Mapping[str, Any], kind: str, statuses: Mapping[str, Mapping[str, Any]]) -> Amounts:
    found = amounts((container.get("resources") or {}).get(kind))
    status = statuses.get(container.get("name", ""))
    if status is None or status.get("resources") is None:
        return found
    actual = amounts(status["resources"].get(kind))
    allocated = amounts(status.get("allocatedResources")) if kind == "requests" else {}
    if status.get("infeasible"):
        found = {}
    return raise_to(raise_to(found, actual), allocated)


def pod_sum(pod: Mapping[str, Any], kind: str) -> Amounts:
    """What a pod counts for: its containers, what it names itself, its overhead."""
    spec = pod.get("spec") or {}
    total = container_sum(spec, kind, _statuses(pod.get("status") or {}))
    if pod_level_set(spec):
        own = amounts(spec["resources"].get(kind))
        total |= {name: amount for name, amount in own.items() if _is_pod_level(name)}
    overhead = amounts(spec.get("overhead"))
    if kind == "limits":  # what has no limit gets none by its overhead
        overhead = {name: amount for name, amount in overhead.items() if total.get(name, NOTHING).value}
    return add(total, overhead)


def _statuses(status: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    conditions: Sequence[Mapping[str, Any]] = status.get("conditions") or ()
    pending = next((c for c in conditions if c.get("type") == "PodResizePending"), {})
    infeasible = pending.get("reason") == "Infeasible"
    every = (*(status.get("containerStatuses") or ()), *(status.get("initContainerStatuses") or ()))
    return {one.get("name", ""): {**one, "infeasible": infeasible} for one in every if one.get("resources") is not None}
