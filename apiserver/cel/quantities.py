"""Resource quantities. Source: Kubernetes documentation, "Kubernetes quantity library"."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

from apiserver.cel.values import CelError, Opaque
from apiserver.registry import quantity

_INT64 = 1 << 63


class Quantity(Opaque):
    type_name = "kubernetes.Quantity"
    __slots__ = ("value",)

    def __init__(self, value: Decimal) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Quantity) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]


def parse(text: Any) -> Quantity:
    if not isinstance(text, str):
        raise TypeError
    try:
        return Quantity(quantity.parse(text))
    except ValueError as err:
        raise CelError(str(err)) from err


def is_quantity(text: Any) -> bool:
    try:
        parse(text)
    except CelError:
        return False
    return True


def _value(found: Any) -> Decimal:
    if isinstance(found, Quantity):
        return found.value
    if type(found) is int:
        return Decimal(found)
    raise TypeError


def _own(found: Any) -> Decimal:
    if not isinstance(found, Quantity):
        raise TypeError
    return found.value


def _is_integer(found: Any) -> bool:
    value = _own(found)
    return value == value.to_integral_value() and -_INT64 <= value < _INT64


def _as_integer(found: Any) -> int:
    if not _is_integer(found):
        raise CelError("cannot convert value to integer")
    return int(found.value)


def _compare(a: Any, b: Any) -> int:
    x, y = _own(a), _own(b)
    return (x > y) - (x < y)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "quantity": parse,
    "isQuantity": is_quantity,
    "sign": lambda found: (_own(found) > 0) - (_own(found) < 0),
    "isGreaterThan": lambda a, b: _compare(a, b) > 0,
    "isLessThan": lambda a, b: _compare(a, b) < 0,
    "compareTo": _compare,
    "asApproximateFloat": lambda found: float(_own(found)),
    "asInteger": _as_integer,
    "isInteger": _is_integer,
    "add": lambda a, b: Quantity(_own(a) + _value(b)),
    "sub": lambda a, b: Quantity(_own(a) - _value(b)),
}
