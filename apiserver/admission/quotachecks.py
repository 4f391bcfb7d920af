"""What one write takes of a namespace's quotas, and whether there is that much left. Pure.

Source: k8s.io/apiserver/pkg/admission/plugin/resourcequota (texts, order of the checks).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from apiserver.admission.chain import CREATE, UPDATE, Attributes
from apiserver.registry.base import Object
from kubarium.machinery.quota import covers
from kubarium.machinery.quotarules import Rule
from kubarium.machinery.resourcelists import NOTHING, Amounts, add, amounts, only


@dataclass(frozen=True, slots=True)
class Ledger:
    """A quota at one revision, with what is used of it."""

    key: str
    revision: int
    quota: Object
    hard: Amounts
    used: Amounts

    @property
    def name(self) -> str:
        return str(self.quota["metadata"]["name"])


def ledger_of(key: str, revision: int, quota: Object) -> Ledger:
    status = quota.get("status") or {}
    return Ledger(key, revision, quota, amounts(status.get("hard")), amounts(status.get("used")))


def charge(ledgers: Sequence[Ledger], rule: Rule, attributes: Attributes, now: float) -> list[Ledger]:
    """The quotas as they are when the write is done. Raises Forbidden where one does not allow it."""
    obj = attributes.obj
    assert obj is not None
    concerned = [ledger for ledger in ledgers if covers(ledger.quota, rule, obj, ledger.hard)]
    for ledger in concerned:
        _check_known(ledger, rule, attributes)
    if not concerned:
        return list(ledgers)
    usage = rule.usage(obj, now)
    if negative := [name for name, amount in usage.items() if amount.value < 0]:
        raise attributes.forbidden(f"quota usage is negative for resource(s): {_names(negative)}")
    charged: dict[str, Ledger] = {}
    for ledger in concerned:
        charged[ledger.key] = _charged(ledger, _growth(ledger, rule, attributes, usage, now), attributes)
    return [charged.get(ledger.key, ledger) for ledger in ledgers]


def _check_known(ledger: Ledger, rule: Rule, attributes: Attributes) -> None:
    """The object must say what it takes, and the quota what is left."""
    assert attributes.obj is not None
    limited = rule.names(ledger.hard)
    if text := rule.missing(limited, attributes.obj):
        raise attributes.forbidden(f"failed quota: {ledger.name}: {text}")
    if not limited <= ledger.used.keys():
        text = f"status unknown for quota: {ledger.name}, resources: {_names(limited)}"
        raise attributes.forbidden(text)


def _growth(ledger: Ledger, rule: Rule, attributes: Attributes, usage: Amounts, now: float) -> Amounts:
    """What the write adds to what the quota counts already."""
    old = attributes.old
    if attributes.operation == UPDATE and old is not None and covers(ledger.quota, rule, old, ledger.hard):
        before = rule.usage(old, now)
        usage = {name: amount.minus(before.get(name, NOTHING)) for name, amount in usage.items()}
    return {name: amount for name, amount in usage.items() if amount.value > 0}


def _charged(ledger: Ledger, growth: Amounts, attributes: Attributes) -> Ledger:
    requested = only(growth, ledger.hard)
    if not requested:
        return ledger
    used = add(dict(ledger.used), requested)
    exceeded = [name for name in requested if used[name].value > ledger.hard[name].value]
    if exceeded and attributes.request.subresource != "status":
        raise attributes.forbidden(
            f"exceeded quota: {ledger.name}, requested: {_text(requested, exceeded)}, "
            f"used: {_text(ledger.used, exceeded)}, limited: {_text(ledger.hard, exceeded)}"
        )
    return replace(ledger, used=used)


def _text(found: Amounts, names: Iterable[str]) -> str:
    return ",".join(f"{name}={found[name]}" for name in sorted(names) if name in found)


def _names(names: Iterable[str]) -> str:
    return ",".join(sorted(names))


def concerns(rule: Rule, attributes: Attributes) -> bool:
    """Whether the write can take anything."""
    assert attributes.obj is not None
    return attributes.operation in (CREATE, UPDATE) and rule.handles(
        attributes.operation, attributes.request.subresource, attributes.obj, attributes.old
    )
