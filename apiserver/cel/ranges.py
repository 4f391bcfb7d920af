"""Ranges of sizes and costs, from the least to the most that can be. Numbers stay below 2**64, as upstream's do.

Source: cel-go checker/cost.go (SizeEstimate, CostEstimate).
"""

from __future__ import annotations

from math import ceil
from typing import Final, NamedTuple

MAX: Final = (1 << 64) - 1


class Range(NamedTuple):
    low: int
    high: int

    def plus(self, other: Range) -> Range:
        return Range(min(MAX, self.low + other.low), min(MAX, self.high + other.high))

    def times(self, other: Range) -> Range:
        return Range(min(MAX, self.low * other.low), min(MAX, self.high * other.high))

    def scaled(self, factor: float) -> Range:
        return Range(_scaled(self.low, factor), _scaled(self.high, factor))

    def union(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))


def _scaled(value: int, factor: float) -> int:
    return min(MAX, ceil(float(value) * factor))


def fixed(value: int) -> Range:
    return Range(value, value)


ZERO: Final = fixed(0)
ONE: Final = fixed(1)
UNKNOWN: Final = Range(0, MAX)
NOTHING_YET: Final = Range(MAX, 0)
"""What a union starts with."""
