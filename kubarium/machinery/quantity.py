"""Kubernetes quantities: `500m`, `1.5`, `128Mi`, `2e3`, as exact decimals.

Source: apimachinery pkg/api/resource.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    **{letter: Decimal(1000) ** power for power, letter in enumerate("kMGTPE", 1)},
    **{f"{letter}i": Decimal(1024) ** power for power, letter in enumerate("KMGTPE", 1)},
}
_QUANTITY = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))([eE][+-]?\d+|[numkMGTPE]|[KMGTPE]i|)")


def parse_quantity(text: str | int | float) -> Decimal:
    """The exact value. Raises ValueError for what is no quantity."""
    found = _QUANTITY.fullmatch(str(text))
    if found is None:
        raise ValueError(f"{text!r} is no quantity; expected a number with a suffix, for example 500m, 2 or 128Mi")
    number, suffix = found.groups()
    scale = _SUFFIXES.get(suffix)
    return Decimal(number) * scale if scale is not None else Decimal(number + suffix)


def milli(text: str | int | float) -> int:
    """Thousandths, rounded up: what CPU is counted in (`0.5` -> 500)."""
    return int((parse_quantity(text) * 1000).to_integral_value(ROUND_CEILING))


def whole(text: str | int | float) -> int:
    """Whole units, rounded up: what memory (bytes) and pods are counted in (`1Ki` -> 1024)."""
    return int(parse_quantity(text).to_integral_value(ROUND_CEILING))
