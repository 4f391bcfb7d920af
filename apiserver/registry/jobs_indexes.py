"""The text form of a set of indexes, as indexed Jobs have it: `0,3-5,7`.

Source: k8s.io/kubernetes/pkg/apis/batch/validation (texts).
"""

from __future__ import annotations

from typing import NamedTuple


class Interval(NamedTuple):
    first: int
    last: int


def parse(text: str, completions: int) -> list[Interval]:
    """Intervals that grow and stay below `completions`. Raises ValueError with upstream's text."""
    found: list[Interval] = []
    for part in text.split(",") if text else ():
        interval = _interval(part, completions)
        if found and found[-1].last >= interval.first:
            raise ValueError(f"non-increasing order, previous: {found[-1].last}, current: {interval.first}")
        found.append(interval)
    return found


def count(text: str, completions: int) -> int:
    return sum(interval.last - interval.first + 1 for interval in parse(text, completions))


def overlap(completed: str, failed: str, completions: int) -> int | None:
    """The first index that is in both; parts that cannot be read are left out."""
    done, lost = _readable(completed, completions), _readable(failed, completions)
    common = [max(a.first, b.first) for a in done for b in lost if a.first <= b.last and b.first <= a.last]
    return min(common, default=None)


def _readable(text: str, completions: int) -> list[Interval]:
    found = []
    for part in text.split(",") if text else ():
        try:
            found.append(_interval(part, completions))
        except ValueError:
            continue
    return found


def _interval(text: str, completions: int) -> Interval:
    limits = text.split("-")
    if len(limits) > 2:
        rule = "violates the requirement that an index interval can have at most two parts separated by '-'"
        raise ValueError(f'the fragment "{text}" {rule}')
    first = _index(limits[0], completions)
    if len(limits) == 1:
        return Interval(first, first)
    last = _index(limits[1], completions)
    if first >= last:
        raise ValueError(f"non-increasing order, previous: {first}, current: {last}")
    return Interval(first, last)


def _index(text: str, completions: int) -> int:
    if not (text.isascii() and text.lstrip("+").isdigit()):
        raise ValueError(f'cannot convert string to integer for index: "{text}"')
    if (number := int(text)) >= completions:
        raise ValueError(f'too large index: "{text}"')
    return number
