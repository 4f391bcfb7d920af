"""Times as Kubernetes writes them (RFC 3339 in UTC), ages as kubectl prints them. Inside, seconds since the epoch."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

_UNITS_S = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def format_timestamp(seconds: float) -> str:
    """meta/v1 Time: `2026-01-31T12:00:00Z`, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(seconds)))


def format_micro(seconds: float) -> str:
    """meta/v1 MicroTime, as Leases and eventTime have it: `2026-01-31T12:00:00.000000Z`."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_timestamp(text: str) -> float | None:
    """Seconds since the epoch of a Time or MicroTime; None for "". Raises ValueError for what is no RFC 3339."""
    if not text:
        return None
    parsed = datetime.fromisoformat(text)
    if parsed.tzinfo is None:
        raise ValueError(f"time {text!r} has no zone; expected RFC 3339 such as 2026-01-31T12:00:00Z")
    return parsed.timestamp()


def parse_duration(text: str) -> float:
    """Seconds of a duration as flags give it: `40s`, `1m30s`, `500ms`, or a plain number of seconds.

    Raises ValueError for anything else. Source: Go's time.ParseDuration.
    """
    if re.fullmatch(r"[0-9.]+", text):
        return float(text)
    parts = re.findall(r"([0-9.]+)(ms|h|m|s)", text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration; expected for example 40s, 1m30s or 500ms")
    return sum(float(number) * _UNITS_S[unit] for number, unit in parts)


def age(since: str, now: float) -> str:
    """How long ago a timestamp was, as kubectl's AGE column has it."""
    seconds = parse_timestamp(since)
    return "<unknown>" if seconds is None else human_duration(now - seconds)


def human_duration(seconds: float) -> str:
    """Two significant units: `45s`, `2m5s`, `12m`, `3h4m`, `12h`, `2d3h`, `20d`, `2y30d`, `9y`.

    Source: apimachinery util/duration, HumanDuration.
    """
    whole = int(seconds)
    if whole < -1:
        return "<invalid>"
    whole = max(whole, 0)
    minutes, hours, days = whole // 60, whole // 3600, whole // 86400
    years = days // 365
    if whole < 120:
        return f"{whole}s"
    if minutes < 10:
        return _two(minutes, "m", whole % 60, "s")
    if minutes < 180:
        return f"{minutes}m"
    if hours < 8:
        return _two(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _two(days, "d", hours % 24, "h")
    if years < 2:
        return f"{days}d"
    return _two(years, "y", days % 365, "d") if years < 8 else f"{years}y"


def _two(big: int, big_unit: str, small: int, small_unit: str) -> str:
    return f"{big}{big_unit}{small}{small_unit}" if small else f"{big}{big_unit}"
