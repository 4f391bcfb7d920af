"""Uids and times of new objects."""

from __future__ import annotations

import uuid

from apiserver.stamps import UIDS_AT_ONCE, Timestamps, Uids


def test_uids_are_random_ones_and_all_different() -> None:
    new = Uids()
    found = [new() for _ in range(3 * UIDS_AT_ONCE)]
    assert len(set(found)) == len(found)
    for text in found:
        assert str(uuid.UUID(text)) == text
        assert uuid.UUID(text).version == 4
        assert uuid.UUID(text).variant == uuid.RFC_4122


def test_the_time_moves_on_and_back_with_the_clock() -> None:
    now = 0.5
    stamp = Timestamps(lambda: now)
    assert stamp() == "1970-01-01T00:00:00Z"
    now = 61.0
    assert stamp() == "1970-01-01T00:01:01Z"
    now = 60.9
    assert stamp() == "1970-01-01T00:01:00Z"
