"""Resource quantities: parsed exactly, and printed in the one form that the API server stores.

Source: k8s.io/apimachinery/pkg/api/resource/quantity.go. Precision finer than nano is rounded up; the suffix family
(binary, decimal, exponent) that was sent is kept where the value allows it.
"""

from __future__ import annotations

import re
from decimal import ROUND_UP, Decimal
from functools import lru_cache

FORMAT_TEXT = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
SUFFIX_TEXT = "unable to parse quantity's suffix"

_FORM = re.compile(r"([+-]?)(\d+\.?\d*|\.\d+)(.*)", re.DOTALL)
_BINARY = {"": 0, "Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_EXPONENT = re.compile(r"[eE][+-]?\d+")
_BINARY_NAMES = {power: name for name, power in _BINARY.items()}
_DECIMAL_NAMES = {power: name for name, power in _DECIMAL.items()}


@lru_cache(8192)
def _parsed(text: str) -> tuple[Decimal, str]:
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
    value = value.quantize(Decimal("1e-9"), rounding=ROUND_UP) if value.as_tuple().exponent < -9 else value  # type: ignore[operator]
    return (-value if sign == "-" else value), family


def parse(text: str | int | float) -> Decimal:
    """The value as a number (`500m` is 0.5). Raises ValueError with upstream's text."""
    return _parsed(str(text))[0]


def _power_of_ten(value: Decimal) -> tuple[int, int]:
    """Integer mantissa and exponent (a multiple of three, at least -9), the mantissa as small as it can be."""
    exponent = -9
    mantissa = int(value.scaleb(9))
    while mantissa % 1000 == 0 and mantissa and exponent < 18:
        mantissa, exponent = mantissa // 1000, exponent + 3
    return mantissa, exponent


@lru_cache(8192)
def canonical(text: str) -> str:
    """`0.5` -> `500m`, `1024Mi` -> `1Gi`, `0.5Gi` -> `512Mi`. Raises ValueError with upstream's text."""
    value, family = _parsed(text)
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
