"""How one kind of object is counted by quotas. This is the way of most kinds: by their number."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from decimal import Decimal
from typing import Any

from kubarium.machinery.quantity import Quantity
from kubarium.machinery.resourcelists import Amounts

GroupResource = tuple[str, str]


class Rule:
    """`alias` is another name under which the number of the kind's objects can be limited ("" for none)."""

    def __init__(self, group: str, plural: str, alias: str = "") -> None:
        self.group = group
        self.plural = plural
        self.count_name = f"count/{plural}.{group}" if group else f"count/{plural}"
        self._names = frozenset(filter(None, (self.count_name, alias)))

    def handles(self, operation: str, subresource: str, new: Mapping[str, Any], old: Mapping[str, Any] | None) -> bool:
        """Whether such a write can change what is used."""
        return not subresource and operation == "CREATE"

    def names(self, hard: Iterable[str]) -> set[str]:
        """Those of a quota's limits that objects of this kind count against."""
        return {name for name in hard if name in self._names}

    def missing(self, required: Collection[str], obj: Mapping[str, Any]) -> str:
        """What the object would have to specify to be counted against the limits `required`; "" where it does."""
        return ""

    def usage(self, obj: Mapping[str, Any], now: float) -> Amounts:
        """`now` in seconds since the epoch."""
        return dict.fromkeys(self._names, Quantity(Decimal(1)))

    def in_scope(self, scope: Mapping[str, Any], obj: Mapping[str, Any]) -> bool:
        """Whether a requirement (`scopeName`, `operator`, `values`) is met."""
        return False

    @staticmethod
    def selects(scope: Mapping[str, Any], found: Collection[str]) -> bool:
        """A requirement on a name that objects may have several of, or none."""
        operator, values = scope.get("operator"), scope.get("values") or ()
        if operator == "In":
            return any(name in values for name in found)
        if operator == "NotIn":
            return not found or any(name not in values for name in found)
        return bool(found) == (operator == "Exists")
