"""Quantities are exact."""

from __future__ import annotations

import pytest

from kubarium.machinery.quantity import milli, parse_quantity, whole


@pytest.mark.parametrize(
    ("text", "in_milli"),
    [
        ("500m", 500),
        ("1", 1000),
        ("0.1", 100),
        ("1.5", 1500),
        ("100u", 1),
        ("2e3", 2_000_000),
        ("1E3", 1_000_000),
        (2, 2000),
    ],
)
def test_cpu(text: str | int, in_milli: int) -> None:
    assert milli(text) == in_milli


@pytest.mark.parametrize(
    ("text", "number"),
    [("128Mi", 128 << 20), ("1Ki", 1024), ("1k", 1000), ("1E", 10**18), ("1.5Gi", 3 << 29), ("1n", 1)],
)
def test_memory(text: str, number: int) -> None:
    assert whole(text) == number


@pytest.mark.parametrize("text", ["", "1x", "Mi", "1 Gi", "--1"])
def test_what_is_no_quantity_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no quantity"):
        parse_quantity(text)
