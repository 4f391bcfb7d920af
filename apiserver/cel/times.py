"""Durations and points in time, as text and back.

Source: golang time (ParseDuration, Duration.String, RFC3339).
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta

from apiserver.cel.values import CelError

_UNITS = {"ns": 1, "us": 10**3, "µs": 10**3, "μs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_WHOLE = re.compile(r"[-+]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)").fullmatch


def parse_duration(text: str) -> timedelta:
    """`1h30m`. Raises CelError."""
    if not _WHOLE(text):
        raise CelError(f'time: invalid duration "{text}"')
    total = sum(round(float(number) * _UNITS[unit]) for number, unit in _PART.findall(text))
    return timedelta(microseconds=total / 1000 * (-1 if text.startswith("-") else 1))


def duration_text(value: timedelta) -> str:
    """`5400s`, as CEL's string(duration) has it."""
    seconds = value.total_seconds()
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{seconds:.9f}".rstrip("0") + "s"


def parse_time(text: str) -> datetime:
    """RFC 3339. Raises CelError."""
    try:
        if len(text) < 20 or text[10] not in "Tt":
            raise ValueError(text)
        moment = datetime.fromisoformat(re.sub(r"\.(\d{1,6})\d*", r".\1", text.upper()))
    except ValueError as err:
        raise CelError(
            f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "{text}" as "2006"'
        ) from err
    if moment.tzinfo is None:
        raise CelError(f'parsing time "{text}" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00"')
    return moment


def time_text(moment: datetime) -> str:
    """RFC 3339, with the offset that it was written with."""
    text, offset = moment.strftime("%Y-%m-%dT%H:%M:%S"), moment.strftime("%z")
    fraction = f".{moment.microsecond:06d}".rstrip("0") if moment.microsecond else ""
    return f"{text}{fraction}{'Z' if offset == '+0000' else f'{offset[:3]}:{offset[3:]}'}"
