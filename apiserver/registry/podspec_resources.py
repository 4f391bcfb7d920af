"""Validation of what containers, and pods as a whole, ask for and may use.

Source: k8s.io/kubernetes/pkg/apis/core/validation (order and texts); KEP-2837 (pod-level resources).
"""

from __future__ import annotations

from collections.abc import Callable

from apiserver.registry import names, resourcenames
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from kubarium.machinery.quantity import read_quantity
from kubarium.machinery.resourcelists import HUGEPAGES, POD_LEVEL, container_sum
from kubarium.machinery.resourcelists import amounts as read_amounts

NameCheck = Callable[[str, str, Faults], None]


def check_container_resources(
    resources: Object, claims: frozenset[str], path: str, faults: Faults, *, name: NameCheck | None = None
) -> None:
    """Requests stay below limits; what cannot be overcommitted has both, and equal. `claims`: those of the pod."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    check_name = name or resourcenames.check_container_name
    for key, amount in sorted(limits.items()):
        check_name(key, f"{path}.limits[{key}]", faults)
        _check_amount(key, amount, f"{path}.limits[{key}]", faults)
    for key, amount in sorted(requests.items()):
        where = f"{path}.requests[{key}]"
        check_name(key, where, faults)
        resourcenames.check_amount(key, amount, where, faults)
        _check_below(key, amount, limits, path, faults)
        _check_pages(key, amount, where, faults)
    every = {*limits, *requests}
    if any(key.startswith(HUGEPAGES) for key in every) and not every & {*POD_LEVEL}:
        faults.forbidden(path, "HugePages require cpu or memory")
    _check_claims(resources.get("claims") or [], claims, f"{path}.claims", faults)


def _check_amount(key: str, amount: str, path: str, faults: Faults) -> None:
    resourcenames.check_amount(key, amount, path, faults)
    _check_pages(key, amount, path, faults)


def _check_below(key: str, amount: str, limits: Object, path: str, faults: Faults) -> None:
    overcommit = resourcenames.overcommit_allowed(key)
    if key not in limits:
        if not overcommit:
            faults.required(f"{path}.limits", "Limit must be set for non overcommitable resources")
        return
    wanted, allowed = read_quantity(amount).value, read_quantity(limits[key]).value
    if wanted != allowed and not overcommit:
        faults.invalid(f"{path}.requests", amount, f"must be equal to {key} limit of {limits[key]}")
    elif wanted > allowed:
        faults.invalid(f"{path}.requests", amount, f"must be less than or equal to {key} limit of {limits[key]}")


def _check_pages(key: str, amount: str, path: str, faults: Faults) -> None:
    if not key.startswith(HUGEPAGES):
        return
    try:
        size = read_quantity(key.removeprefix(HUGEPAGES)).value
    except ValueError:
        size = read_quantity("0").value
    if size <= 0 or size != size.to_integral_value() or read_quantity(amount).whole().value % size:
        faults.invalid(path, amount, f"{amount} is not positive integer multiple of {key}")


def _check_claims(wanted: list[Object], known: frozenset[str], path: str, faults: Faults) -> None:
    seen: set[str] = set()
    for i, claim in enumerate(wanted):
        where, name, request = f"{path}[{i}]", claim.get("name", ""), claim.get("request", "")
        if not name:
            faults.required(where)
            continue
        if name in seen:
            faults.duplicate(where, name)
        else:
            _check_request(name, request, seen, where, faults)
        if name not in known:
            others = f": {', '.join(sorted(known))}" if known else " which is empty"
            faults.not_found(where, name, f"must be one of the names in pod.spec.resourceClaims{others}")


def _check_request(name: str, request: str, seen: set[str], path: str, faults: Faults) -> None:
    key = name
    if request:
        faults.each(f"{path}.request", request, names.dns1123_label(request))
        key = f"{name}/{request}"
    if key in seen:
        faults.duplicate(path, key)
    elif not request:
        for other in seen:
            if other.partition("/")[0] == name and "/" in other:
                faults.duplicate(path, name)
    seen.add(key)


# --- the pod as a whole


def check_pod_resources(spec: Object, path: str, faults: Faults) -> None:
    if (resources := spec.get("resources")) is None:
        return
    where = f"{path}.resources"
    if (spec.get("os") or {}).get("name") == "windows":
        faults.forbidden(where, "may not be set for a windows pod")
        return
    if resources.get("claims") is not None:
        faults.forbidden(f"{where}.claims", "claims may not be set for Resources at pod-level")
    claims = frozenset(c.get("name", "") for c in spec.get("resourceClaims") or ())
    check_container_resources(resources, claims, where, faults, name=_check_pod_name)
    _check_sums(spec, resources, where, faults)


def _check_pod_name(name: str, path: str, faults: Faults) -> None:
    before = len(faults)
    resourcenames.check_name(name, path, faults)
    if len(faults) == before and name not in POD_LEVEL and not name.startswith(HUGEPAGES):
        faults.unsupported(path, name, ("cpu", HUGEPAGES, "memory"))


def _check_sums(spec: Object, resources: Object, path: str, faults: Faults) -> None:
    """All containers together stay below the pod's requests, and each below its limits."""
    requests, limits = read_amounts(resources.get("requests")), read_amounts(resources.get("limits"))
    for name, amount in sorted(container_sum(spec, "requests").items()):
        if name in requests and amount.value > requests[name].value:
            text = f"must be greater than or equal to aggregate container requests of {amount}"
            faults.invalid(f"{path}.requests[{name}]", str(requests[name]), text)
    for name, amount in sorted(container_sum(spec, "limits").items()):
        if name.startswith(HUGEPAGES) and name in limits and amount.value > limits[name].value:
            text = f"must be greater than or equal to aggregate container limits of {amount}"
            faults.invalid(f"{path}.limits[{name}]", str(limits[name]), text)
    for i, container in enumerate(spec.get("containers") or ()):
        for name, amount in sorted(read_amounts((container.get("resources") or {}).get("limits")).items()):
            if name in limits and amount.value > limits[name].value:
                text = f"must be less than or equal to pod limits of {limits[name]}"
                faults.invalid(f"{path}.containers[{i}][{name}].limits", str(amount), text)
