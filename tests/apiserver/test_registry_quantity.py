"""Quantities: the one form in which a value is written, and its exact value."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiserver.registry.quantity import FORMAT_TEXT, SUFFIX_TEXT, canonical, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.5", "500m"),
        ("1000m", "1"),
        ("1024Mi", "1Gi"),
        ("0.5Gi", "512Mi"),
        ("100Ki", "100Ki"),
        ("1500", "1500"),
        ("1e3", "1e3"),
        ("1.5e3", "1500"),
        ("12000k", "12M"),
        ("-1", "-1"),
        ("0Gi", "0"),
        ("+.5", "500m"),
        ("1n", "1n"),
        ("0.1n", "1n"),
        ("1.0", "1"),
        ("500Mi", "500Mi"),
    ],
)
def test_canonical_form(text: str, expected: str) -> None:
    assert canonical(text) == expected


@pytest.mark.parametrize(
    ("text", "fault"), [("lots", FORMAT_TEXT), ("", FORMAT_TEXT), ("1KK", SUFFIX_TEXT), ("1 Gi", FORMAT_TEXT)]
)
def test_what_is_no_quantity(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match="quantit") as err:
        canonical(text)
    assert str(err.value) == fault


@given(
    st.integers(-(10**12), 10**12),
    st.sampled_from(["n", "u", "m", "", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E-2"]),
)
def test_canonical_form_keeps_the_value_and_is_a_fixed_point(number: int, suffix: str) -> None:
    text = f"{number}{suffix}"
    once = canonical(text)
    assert canonical(once) == once
    if suffix != "E-2":
        assert parse(once) == parse(text)
    assert isinstance(parse(once), Decimal)
