"""Values of one type as those of another, and the parts of points in time.

Source: https://github.com/google/cel-spec doc/langdef.md, "List of Standard Definitions"; cel-go (texts of errors).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from apiserver.cel import times
from apiserver.cel.values import NO_OVERLOAD, CelError, Duration, UInt, int64, is_number, uint64, utc


def _not_converted(wanted: str) -> CelError:
    return CelError(f"type conversion error from 'string' to '{wanted}'")


def to_int(value: Any) -> int:
    if isinstance(value, bool):
        raise CelError(NO_OVERLOAD)
    if isinstance(value, int):
        return int64(int(value))
    if isinstance(value, float):
        if value != value or not -(2**63) < value < 2**63:
            raise CelError("integer overflow")
        return int(value)
    if isinstance(value, str):
        try:
            if value.strip() != value or "_" in value:
                raise ValueError(value)
            return int64(int(value))
        except (ValueError, CelError) as err:
            raise _not_converted("int") from err
    if isinstance(value, datetime):
        return int(value.timestamp() // 1)
    raise CelError(NO_OVERLOAD)


def to_uint(value: Any) -> UInt:
    if isinstance(value, bool):
        raise CelError(NO_OVERLOAD)
    if is_number(value):
        return uint64(int(value))
    if isinstance(value, str):
        try:
            return uint64(int(value))
        except (ValueError, CelError) as err:
            raise _not_converted("uint") from err
    raise CelError(NO_OVERLOAD)


def to_double(value: Any) -> float:
    if is_number(value):
        return float(value)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError as err:
            raise _not_converted("double") from err
    raise CelError(NO_OVERLOAD)


def to_string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as err:
            raise CelError("invalid UTF-8 in bytes, cannot convert to string") from err
    if isinstance(value, timedelta):
        return times.duration_text(value)
    if isinstance(value, datetime):
        return times.time_text(value)
    text = getattr(value, "string", None)
    if text is None:
        raise CelError(NO_OVERLOAD)
    return str(text())


def _float_text(value: float) -> str:
    """As Go's shortest %g: `1e+06`, `+Inf`."""
    if value != value or value in (float("inf"), float("-inf")):
        return "NaN" if value != value else "+Inf" if value > 0 else "-Inf"
    digits, _, exponent = f"{Decimal(repr(value)).normalize():e}".partition("e")
    power = int(exponent)
    if -4 <= power < 6:
        return f"{Decimal(repr(value)).normalize():f}"
    return f"{digits}e{'-' if power < 0 else '+'}{abs(power):02d}"


def to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "TRUE", "True", "t", "1"):
        return True
    if value in ("false", "FALSE", "False", "f", "0"):
        return False
    raise _not_converted("bool") if isinstance(value, str) else CelError(NO_OVERLOAD)


def to_bytes(value: Any) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise CelError(NO_OVERLOAD)


def to_duration(value: Any) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if type(value) is int:
        return Duration(microseconds=value / 1000)
    if not isinstance(value, str):
        raise CelError(NO_OVERLOAD)
    try:
        return times.parse_duration(value)
    except CelError as err:
        raise _not_converted("google.protobuf.Duration") from err


def to_timestamp(value: Any) -> datetime:
    if isinstance(value, datetime):
        return utc(value)
    if type(value) is int:
        return datetime.fromtimestamp(value, tz=utc(datetime(1970, 1, 1)).tzinfo)
    if not isinstance(value, str):
        raise CelError(NO_OVERLOAD)
    try:
        return times.parse_time(value)
    except CelError as err:
        raise _not_converted("google.protobuf.Timestamp") from err


def _part(of_time: Callable[[datetime], int], of_span: Callable[[timedelta], int] | None = None) -> Callable[..., int]:
    def part(value: Any, zone: str | None = None) -> int:
        if isinstance(value, datetime):
            return of_time(value if zone is None else in_zone(value, zone))
        if isinstance(value, timedelta) and of_span is not None:
            return of_span(value)
        raise CelError(NO_OVERLOAD)

    return part


def in_zone(moment: datetime, zone: str) -> datetime:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    if zone in ("UTC", ""):
        return utc(moment)
    sign = -1 if zone.startswith("-") else 1
    hours, colon, minutes = zone.lstrip("+-").partition(":")
    if colon and hours.isdigit() and minutes.isdigit():
        return utc(moment) + sign * timedelta(hours=int(hours), minutes=int(minutes))
    try:
        return moment.astimezone(ZoneInfo(zone))
    except (ZoneInfoNotFoundError, ValueError) as err:
        raise CelError(f"unknown time zone {zone}") from err


TIME_PARTS: dict[str, Callable[..., int]] = {
    "getFullYear": _part(lambda t: t.year),
    "getMonth": _part(lambda t: t.month - 1),
    "getDate": _part(lambda t: t.day),
    "getDayOfMonth": _part(lambda t: t.day - 1),
    "getDayOfWeek": _part(lambda t: t.isoweekday() % 7),
    "getDayOfYear": _part(lambda t: t.timetuple().tm_yday - 1),
    "getHours": _part(lambda t: t.hour, lambda d: int(d.total_seconds() / 3600)),
    "getMinutes": _part(lambda t: t.minute, lambda d: int(d.total_seconds() / 60)),
    "getSeconds": _part(lambda t: t.second, lambda d: int(d.total_seconds())),
    "getMilliseconds": _part(lambda t: t.microsecond // 1000, lambda d: int(d.total_seconds() * 1000)),
}
