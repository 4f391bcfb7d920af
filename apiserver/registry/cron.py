"""The schedules of CronJobs: is the text one, and if not, why not.

Source: crontab(5); the texts are those of the cron parser that kube-apiserver uses (github.com/robfig/cron/v3).
"""

from __future__ import annotations

import re
import zoneinfo
from typing import NamedTuple

_DESCRIPTORS = frozenset({"@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"})
_MONTHS = {
    name: i
    for i, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1)
}
_DAYS = {name: i for i, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_NUMBER = re.compile("[+-]?[0-9]+").fullmatch
_DURATION = re.compile(r"[+-]?(?:0|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h))+)").fullmatch
_ZONE = re.compile("[A-Za-z._0-9+][A-Za-z._0-9+-]{0,13}").fullmatch


class _Bounds(NamedTuple):
    low: int
    high: int
    names: dict[str, int]


_FIELDS = (_Bounds(0, 59, {}), _Bounds(0, 23, {}), _Bounds(1, 31, {}), _Bounds(1, 12, _MONTHS), _Bounds(0, 6, _DAYS))


def schedule_fault(text: str) -> str:
    """What is wrong with a schedule of five fields or a descriptor, "" where nothing is."""
    try:
        _parse(text)
    except ValueError as err:
        return str(err)
    return ""


def _parse(text: str) -> None:
    """Raises ValueError."""
    if text.startswith(("TZ=", "CRON_TZ=")):
        head, space, rest = text.partition(" ")
        if not space:
            raise ValueError("invalid schedule format: runtime error: slice bounds out of range [:-1]")
        zone = head.partition("=")[2]
        if fault := _location_fault(zone):
            raise ValueError(f"provided bad location {zone}: {fault}")
        text = rest.strip()
    if text.startswith("@"):
        return _check_descriptor(text)
    fields = text.split()
    if len(fields) != len(_FIELDS):
        found = " ".join(fields)
        raise ValueError(f"expected exactly {len(_FIELDS)} fields, found {len(fields)}: [{found}]")
    for field, bounds in zip(fields, _FIELDS, strict=True):
        for expression in filter(None, field.split(",")):
            _check_range(expression, bounds)
    return None


def _check_descriptor(text: str) -> None:
    if text.startswith("@every "):
        duration = text.removeprefix("@every ")
        if not _DURATION(duration):
            raise ValueError(f"failed to parse duration {text}: {_duration_fault(duration)}")
    elif text not in _DESCRIPTORS:
        raise ValueError(f"unrecognized descriptor: {text}")


def _duration_fault(text: str) -> str:
    """As Go's time.ParseDuration says it."""
    rest = text.lstrip("+-")
    while rest:
        number = re.match(r"[0-9]*\.?[0-9]*", rest)
        rest = rest[number.end() if number else 0 :]
        if not number or number[0] in ("", "."):
            break
        unit = re.match(r"[^0-9.]*", rest)
        if unit is None or not unit[0]:
            return f'time: missing unit in duration "{text}"'
        if unit[0] not in ("ns", "us", "µs", "μs", "ms", "s", "m", "h"):
            return f'time: unknown unit "{unit[0]}" in duration "{text}"'
        rest = rest[unit.end() :]
    return f'time: invalid duration "{text}"'


def _check_range(expression: str, bounds: _Bounds) -> None:
    """`5`, `1-5`, `*/15`, `mon-fri`."""
    span, *steps = expression.split("/")
    low, *highs = span.split("-")
    if low in ("*", "?"):
        start, end = bounds.low, bounds.high
    else:
        start = end = _value(low, bounds)
        if highs:
            end = _value(highs[0], bounds) if len(highs) == 1 else _too_many("hyphens", expression)
    step = 1
    if steps:
        step = _number(steps[0]) if len(steps) == 1 else _too_many("slashes", expression)
        end = end if highs else bounds.high
    if start < bounds.low:
        raise ValueError(f"beginning of range ({start}) below minimum ({bounds.low}): {expression}")
    if end > bounds.high:
        raise ValueError(f"end of range ({end}) above maximum ({bounds.high}): {expression}")
    if start > end:
        raise ValueError(f"beginning of range ({start}) beyond end of range ({end}): {expression}")
    if not step:
        raise ValueError(f"step of range should be a positive number: {expression}")


def _too_many(what: str, expression: str) -> int:
    raise ValueError(f"too many {what}: {expression}")


def _value(text: str, bounds: _Bounds) -> int:
    found = bounds.names.get(text.lower())
    return _number(text) if found is None else found


def _number(text: str) -> int:
    if not _NUMBER(text):
        raise ValueError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": invalid syntax')
    if not -(1 << 63) <= (number := int(text)) < 1 << 63:
        raise ValueError(f'failed to parse int from {text}: strconv.Atoi: parsing "{text}": value out of range')
    if number < 0:
        raise ValueError(f"negative number ({number}) not allowed: {text}")
    return number


def zone_faults(zone: str) -> list[str]:
    """What is wrong with the name of a time zone."""
    if not zone:
        return ["timeZone must be nil or non-empty string"]
    if any(part in (".", "..") or not _ZONE(part) for part in zone.split("/")):
        return [f"unknown time zone {zone}"]
    faults = []
    if zone.lower() == "local":
        faults.append("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones")
    if fault := _location_fault(zone):
        faults.append(fault)
    return faults


def _location_fault(zone: str) -> str:
    if zone in ("", "UTC", "Local"):
        return ""
    try:
        zoneinfo.ZoneInfo(zone)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return f"unknown time zone {zone}"
    return ""
