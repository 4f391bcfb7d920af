"""Resource quantities: parsed exactly, and printed in the one form that the API server stores."""

from __future__ import annotations

from decimal import Decimal
from functools import lru_cache

from kubarium.machinery.quantity import FORMAT_TEXT, SUFFIX_TEXT, read_quantity

__all__ = ["FORMAT_TEXT", "SUFFIX_TEXT", "canonical", "parse"]


def parse(text: str | int | float) -> Decimal:
    """The value as a number (`500m` is 0.5). Raises ValueError with upstream's text."""
    return read_quantity(str(text)).value


@lru_cache(8192)
def canonical(text: str) -> str:
    """`0.5` -> `500m`, `1024Mi` -> `1Gi`, `0.5Gi` -> `512Mi`. Raises ValueError with upstream's text."""
    return str(read_quantity(text))
