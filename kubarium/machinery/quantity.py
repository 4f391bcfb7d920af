"""Kubernetes quantities: `500m`, `1.5`, `128Mi`, `2e3`, as exact decimals, and in the one form that the API prints.

Precision finer than nano is rounded up; the suffix family (binary, decimal, exponent) that was written is kept where
the value allows it.
Source: apimachinery pkg/api/resource.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, ROUND_UP, Decimal
from functools import lru_cache
from typing import NamedTuple

FORMAT_TEXT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX_TEXT = "unable to parse quantity's suffix"

_FORM = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(.*)", re.DOTALL)
_BINARY = {"": 0, "Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_EXPONENT = re.compile(r"[eE][+-]?\d+")
_BINARY_NAMES = {power: name for name, power in _BINARY.items()}
_DECIMAL_NAMES = {power: name for name, power in _DECIMAL.items()}
_NANO = Decimal("1e-9")


class Quantity(NamedTuple):
    """A value and the family of suffixes it is written in: decimal, binary or exponent. `str` is the canonical form."""

    value: Decimal
    family: str = "decimal"

    def plus(self, other: Quantity) -> Quantity:
        """The sum; nothing plus something is written as the something is."""
        return Quantity(self.value + other.value, self.family if self.value else other.family)

    def minus(self, other: Quantity) -> Quantity:
        return Quantity(self.value - other.value, self.family if self.value else other.family)

    def whole(self) -> Quantity:
        """Rounded up to whole units."""
        return self._replace(value=self.value.to_integral_value(ROUND_CEILING))

    def __str__(self) -> str:
        return format_quantity(self.value, self.family)


@lru_cache(8192)
def read_quantity(text: str) -> Quantity:
    """Raises ValueError with upstream's text."""
    match = _FORM.fullmatch(text)
    if not match:
        raise ValueError(FORMAT_TEXT)
    sign, digits, suffix = match.groups()
    if suffix in _DECIMAL:
        value, family = Decimal(digits).scaleb(_DECIMAL[suffix]), "decimal"
    elif suffix in _BINARY:
        value, family = Decimal(digits) * (1 << _BINARY[suffix]), "binary"
    elif _EXPONENT.fullmatch(suffix):
        value, family = Decimal(digits).scaleb(int(suffix[1:])), "exponent"
    else:
        raise ValueError(SUFFIX_TEXT if re.fullmatch("[eEinumkKMGTP]*[-+]?[0-9]*", suffix) else FORMAT_TEXT)
    value = value.quantize(_NANO, rounding=ROUND_UP) if value.as_tuple().exponent < -9 else value  # type: ignore[operator]
    return Quantity(-value if sign == "-" else value, family)


def format_quantity(value: Decimal, family: str) -> str:
    """`0.5` -> `500m`; binary 1073741824 -> `1Gi`."""
    if not value:
        return "0"
    if family == "binary" and (abs(value) < 1024 or value != value.to_integral_value()):
        family = "decimal"
    if family == "binary":
        number, power = int(value), 0
        while number % 1024 == 0 and power < 60:
            number, power = number // 1024, power + 10
        return f"{number}{_BINARY_NAMES[power]}"
    mantissa, exponent = _power_of_ten(value)
    if family == "exponent":
        return f"{mantissa}e{exponent}" if exponent else str(mantissa)
    return f"{mantissa}{_DECIMAL_NAMES[exponent]}"


def _power_of_ten(value: Decimal) -> tuple[int, int]:
    """Integer mantissa and exponent (a multiple of three, at least -9), the mantissa as small as it can be."""
    exponent = -9
    mantissa = int(value.scaleb(9))
    while mantissa % 1000 == 0 and mantissa and exponent < 18:
        mantissa, exponent = mantissa // 1000, exponent + 3
    return mantissa, exponent


def parse_quantity(text: str | int | float) -> Decimal:
    """The exact value. Raises ValueError for what is no quantity."""
    try:
        return read_quantity(str(text)).value
    except ValueError:
        raise ValueError(
            f"{text!r} is no quantity; expected a number with a suffix, for example 500m, 2 or 128Mi"
        ) from None


def milli(text: str | int | float) -> int:
    """Thousandths, rounded up: what CPU is counted in (`0.5` -> 500)."""
    return int((parse_quantity(text) * 1000).to_integral_value(ROUND_CEILING))


def whole(text: str | int | float) -> int:
    """Whole units, rounded up: what memory (bytes) and pods are counted in (`1Ki` -> 1024)."""
    return int(parse_quantity(text).to_integral_value(ROUND_CEILING))
