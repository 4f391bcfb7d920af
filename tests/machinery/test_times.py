"""Times and ages read as kubectl's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubarium.machinery import times

MINUTE, HOUR, DAY = 60, 3600, 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (2 * MINUTE, "2m"),
        (2 * MINUTE + 5, "2m5s"),
        (10 * MINUTE + 5, "10m"),
        (3 * HOUR - 1, "179m"),
        (3 * HOUR + 4 * MINUTE, "3h4m"),
        (8 * HOUR, "8h"),
        (2 * DAY - 1, "47h"),
        (2 * DAY + 3 * HOUR, "2d3h"),
        (8 * DAY + 3 * HOUR, "8d"),
        (2 * 365 * DAY + 30 * DAY, "2y30d"),
        (9 * 365 * DAY, "9y"),
    ],
)
def test_age(seconds: int, text: str) -> None:
    assert times.human_duration(seconds) == text


@given(st.integers(0, 4_000_000_000))
def test_timestamp_reads_back(seconds: int) -> None:
    assert times.parse_timestamp(times.format_timestamp(seconds)) == seconds
    assert times.parse_timestamp(times.format_micro(seconds + 0.25)) == seconds + 0.25


def test_absent_time_is_none_and_a_time_without_zone_is_refused() -> None:
    assert times.parse_timestamp("") is None
    with pytest.raises(ValueError, match="has no zone"):
        times.parse_timestamp("2026-01-31T12:00:00")
