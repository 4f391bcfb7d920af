"""LimitRanger: containers get the requests and limits that a namespace's LimitRanges name, and keep within them.

Source: https://kubernetes.io/docs/concepts/policy/limit-range/
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from decimal import ROUND_CEILING, Decimal

from apiserver.admission.chain import CREATE, UPDATE, Attributes, Plugin, is_claims, is_pods
from apiserver.admission.policies import Policies
from apiserver.registry.base import Object, Registry, ResourceDef
from apiserver.state import State
from kubarium.machinery.quantity import Quantity
from kubarium.machinery.resourcelists import NOTHING, POD_LEVEL, Amounts, amounts, container_sum

ANNOTATION = "kubernetes.io/limit-ranger"
CONTAINER, POD, CLAIM = "Container", "Pod", "PersistentVolumeClaim"
MAX_MILLI = ((1 << 63) - 1) // 1000
"""Values up to here are compared in thousandths, greater ones in wholes."""


class LimitRanger(Plugin):
    def __init__(self, state: State, registry: Registry) -> None:
        self._ranges = Policies(state, registry, "", "limitranges")

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        if is_pods(resource):
            return (subresource, operation) in (("", CREATE), ("resize", UPDATE))
        return is_claims(resource) and not subresource and operation in (CREATE, UPDATE)

    async def admit(self, attributes: Attributes) -> None:
        if is_pods(attributes.resource) and not _is_ending(attributes.old):
            assert attributes.obj is not None
            for limit_range in self._ranges.all(attributes.namespace):
                set_defaults(attributes.obj, limit_range)

    async def validate(self, attributes: Attributes) -> None:
        if _is_ending(attributes.old):
            return
        assert attributes.obj is not None
        check = pod_faults if is_pods(attributes.resource) else claim_faults
        for limit_range in self._ranges.all(attributes.namespace):
            faults = list(dict.fromkeys(check(attributes.obj, limit_range)))
            if faults:
                raise attributes.forbidden(faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]")


def _is_ending(old: Object | None) -> bool:
    return old is not None and bool(old["metadata"].get("deletionTimestamp"))


# -- defaults ----------------------------------------------------------------------------------------------------------


def set_defaults(pod: Object, limit_range: Object) -> None:
    """Fill in what containers leave open, and say so in an annotation."""
    requests: dict[str, str] = {}
    limits: dict[str, str] = {}
    for limit in _of_type(limit_range, CONTAINER):
        requests |= limit.get("defaultRequest") or {}
        limits |= limit.get("default") or {}
    if not requests and not limits:
        return
    spec = pod["spec"]
    told: list[str] = []
    for kind, word in (("containers", "container"), ("initContainers", "init container")):
        for container in spec.get(kind) or ():
            told += _fill(container, requests, limits, f"{word} {container.get('name', '')}")
    if told:
        metadata = pod["metadata"]
        text = "LimitRanger plugin set: " + "; ".join(told)
        metadata["annotations"] = {**(metadata.get("annotations") or {}), ANNOTATION: text}


def _fill(container: Object, requests: Mapping[str, str], limits: Mapping[str, str], name: str) -> Iterator[str]:
    resources = dict(container.get("resources") or {})
    for kind, word, wanted in (("requests", "request", requests), ("limits", "limit", limits)):
        own = resources.get(kind) or {}
        if missing := sorted(wanted.keys() - own.keys()):
            resources[kind] = {**own, **{each: wanted[each] for each in missing}}
            container["resources"] = resources
            yield f"{', '.join(missing)} {word} for {name}"


# -- limits ------------------------------------------------------------------------------------------------------------


def pod_faults(pod: Object, limit_range: Object) -> Iterator[str]:
    """What of a pod is outside of a LimitRange."""
    spec = pod.get("spec") or {}
    for limit in (limit_range.get("spec") or {}).get("limits") or ():
        if limit.get("type") == CONTAINER:
            for container in (*(spec.get("containers") or ()), *(spec.get("initContainers") or ())):
                resources = container.get("resources") or {}
                yield from _faults(limit, amounts(resources.get("requests")), amounts(resources.get("limits")))
        elif limit.get("type") == POD:
            yield from _faults(limit, _pod_sum(spec, "requests"), _pod_sum(spec, "limits"))


def claim_faults(claim: Object, limit_range: Object) -> Iterator[str]:
    requests = amounts(((claim.get("spec") or {}).get("resources") or {}).get("requests"))
    for limit in _of_type(limit_range, CLAIM):
        yield from _each(limit, "min", lambda name, bound: at_least(CLAIM, name, bound, requests, {}))
        yield from _each(limit, "max", lambda name, bound: at_most(CLAIM, name, bound, requests))


def _of_type(limit_range: Object, kind: str) -> Iterator[Object]:
    return (limit for limit in (limit_range.get("spec") or {}).get("limits") or () if limit.get("type") == kind)


def _pod_sum(spec: Object, kind: str) -> Amounts:
    own = amounts((spec.get("resources") or {}).get(kind))
    return container_sum(spec, kind) | {name: amount for name, amount in own.items() if name in POD_LEVEL}


def _faults(limit: Object, requests: Amounts, limits: Amounts) -> Iterator[str]:
    kind = limit["type"]
    yield from _each(limit, "min", lambda name, bound: at_least(kind, name, bound, requests, limits))
    yield from _each(limit, "max", lambda name, bound: limit_at_most(kind, name, bound, requests, limits))
    yield from _each(limit, "maxLimitRequestRatio", lambda name, bound: ratio(kind, name, bound, requests, limits))


def _each(limit: Object, field: str, check: Callable[[str, Quantity], str]) -> Iterable[str]:
    bounds = amounts(limit.get(field))
    return [text for name in sorted(bounds) if (text := check(name, bounds[name]))]


def at_least(kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts) -> str:
    """What is wrong, "" for nothing; so the others."""
    text = f"minimum {name} usage per {kind} is {bound}"
    if name not in requests:
        return f"{text}.  No request is specified"
    for word, found in (("request", requests), ("limit", limits)):
        if name in found and _milli(found[name]) < _milli(bound):
            return f"{text}, but {word} is {found[name]}"
    return ""


def at_most(kind: str, name: str, bound: Quantity, requests: Amounts) -> str:
    text = f"maximum {name} usage per {kind} is {bound}"
    if name not in requests:
        return f"{text}.  No request is specified"
    return f"{text}, but request is {requests[name]}" if _milli(requests[name]) > _milli(bound) else ""


def limit_at_most(kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts) -> str:
    text = f"maximum {name} usage per {kind} is {bound}"
    if name not in limits:
        return f"{text}.  No limit is specified"
    for word, found in (("limit", limits), ("request", requests)):
        if name in found and _milli(found[name]) > _milli(bound):
            return f"{text}, but {word} is {found[name]}"
    return ""


def ratio(kind: str, name: str, bound: Quantity, requests: Amounts, limits: Amounts) -> str:
    text = f"{name} max limit to request ratio per {kind} is {bound}"
    request, limit = requests.get(name, NOTHING).value, limits.get(name, NOTHING).value
    if not request:
        return f"{text}, but no request is specified or request is 0"
    if not limit:
        return f"{text}, but no limit is specified or limit is 0"
    scale = 1000 if max(request, limit) <= MAX_MILLI else 1
    found = _rounded(limit, scale) / _rounded(request, scale)
    most = _rounded(bound.value, 1000) / 1000 if bound.value <= MAX_MILLI else _rounded(bound.value, 1)
    return f"{text}, but provided ratio is {found:f}" if found > most else ""


def _milli(amount: Quantity) -> int:
    """Thousandths, rounded up: nothing is compared finer than that."""
    return int((amount.value * 1000).to_integral_value(ROUND_CEILING))


def _rounded(value: Decimal, scale: int) -> float:
    return float((value * scale).to_integral_value(ROUND_CEILING))
