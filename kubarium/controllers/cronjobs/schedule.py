"""Cron schedules: `*/5 9-17 * JAN-JUN MON,WED`, `@hourly`, `@every 1h30m`, in a time zone. Pure.

Day of month and day of week: a day needs to match one of both where both are restricted.
Source: https://en.wikipedia.org/wiki/Cron, github.com/robfig/cron (what upstream accepts).
"""

from __future__ import annotations

import calendar
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from zoneinfo import ZoneInfo

from kubarium.machinery.times import parse_duration

MONTHS = {name.lower(): number for number, name in enumerate(calendar.month_abbr) if name}
DAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, MONTHS),
    ("day of week", 0, 6, DAYS),
)
HORIZON_Y = 5
"""A schedule that names no time in so many years (31 February) names none."""

Schedule = Callable[[float], float | None]
"""The first time after another, in seconds since the epoch; None where there is none."""


@dataclass(frozen=True, slots=True)
class _Fields:
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    def has_day(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        by_date, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_date and by_week if self.any_day or self.any_weekday else by_date or by_week


def parse_schedule(text: str, zone: str = "") -> Schedule:
    """Raises ValueError, saying what is wrong; also for a time zone that is not known."""
    place: tzinfo = _zone(zone) if zone else UTC
    text = text.strip()
    if text.startswith("@every "):
        period_s = max(1.0, float(int(parse_duration(text.removeprefix("@every ").strip()))))
        return lambda after: float(int(after)) + period_s
    if text.startswith("@"):
        if text not in MACROS:
            raise ValueError(f"unrecognized descriptor: {text}")
        text = MACROS[text]
    parts = text.split()
    if len(parts) != len(FIELDS):
        raise ValueError(f"expected exactly 5 fields, found {len(parts)}: [{' '.join(parts)}]")
    found = [_field(part, *field) for part, field in zip(parts, FIELDS, strict=True)]
    fields = _Fields(
        tuple(sorted(found[0])),
        tuple(sorted(found[1])),
        frozenset(found[2]),
        frozenset(found[3]),
        frozenset(found[4]),
        parts[2][0] in "*?",
        parts[4][0] in "*?",
    )
    return lambda after: _next(fields, place, after)


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError) as err:
        raise ValueError(f"unknown time zone {name}") from err


def _field(text: str, name: str, low: int, high: int, words: dict[str, int]) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        if step and not (step.isdigit() and int(step)):
            raise ValueError(f"step of {name} should be a positive number: {part}")
        first, dash, last = span.partition("-")
        if span in ("*", "?"):
            start, end = low, high
        else:
            start = _number(first, name, words)
            end = _number(last, name, words) if dash else high if step else start
        if name == "day of week" and start == end == 7:
            start = end = 0
        if not low <= start <= end <= high:
            raise ValueError(f"{name} {part}: expected {low} to {high}")
        found.update(range(start, end + 1, int(step or 1)))
    return found


def _number(text: str, name: str, words: dict[str, int]) -> int:
    if text.isdigit():
        return int(text)
    if text.lower() in words:
        return words[text.lower()]
    raise ValueError(f"failed to parse {name} from {text!r}")


def _next(fields: _Fields, place: tzinfo, after: float) -> float | None:
    start = datetime.fromtimestamp(after, place)
    day = datetime(start.year, start.month, start.day)
    for _ in range(HORIZON_Y * 366):
        if fields.has_day(day):
            for moment in _moments(fields, day, place):
                if moment > after:
                    return moment
        day += timedelta(days=1)
    return None


def _moments(fields: _Fields, day: datetime, place: tzinfo) -> Iterator[float]:
    """The times of a day. One that the clock skips is left out, one that it shows twice is taken once."""
    for hour in fields.hours:
        for minute in fields.minutes:
            local = day.replace(hour=hour, minute=minute, tzinfo=place)
            moment = local.timestamp()
            if datetime.fromtimestamp(moment, place).replace(tzinfo=None, fold=0) == local.replace(tzinfo=None, fold=0):
                yield moment


def most_recent(schedule: Schedule, earliest: float, now: float) -> tuple[float | None, int]:
    """The last time after `earliest` that is not later than `now`, and how many there were (101: more than 100).

    Where there were many the ones between are stepped over, at a distance guessed from the first two.
    """
    first = schedule(earliest)
    if first is None or first > now:
        return None, 0
    second = schedule(first)
    if second is None or second > now:
        return first, 1
    missed = int((now - earliest) // (second - first)) + 1
    at = first
    if missed > 100:  # begin near the end: a schedule is regular enough within a few of its periods
        for back in (3, 30, 300):
            near = schedule(max(earliest, now - back * (second - first)))
            if near is not None and near <= now:
                at = near
                break
    while (following := schedule(at)) is not None and following <= now:
        at = following
    return at, min(missed, 101)
