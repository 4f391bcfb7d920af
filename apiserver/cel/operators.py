"""The operators and functions that CEL itself has. Each takes values and gives a value, or raises CelError.

Source: https://github.com/google/cel-spec doc/langdef.md, "List of Standard Definitions"; cel-go (texts of errors).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from apiserver.cel import times
from apiserver.cel.values import (
    CelError,
    Duration,
    Listed,
    Maybe,
    TypeOf,
    UInt,
    equal,
    int64,
    is_list,
    is_map,
    is_number,
    type_name,
    uint64,
    utc,
)

NO_OVERLOAD = "no such overload"


def _no_overload(*_: Any) -> Any:
    raise CelError(NO_OVERLOAD)


def _arithmetic(a: Any, b: Any, whole: Callable[[int, int], int], real: Callable[[float, float], float]) -> Any:
    if type(a) is int and type(b) is int:
        return int64(whole(a, b))
    if isinstance(a, float) and isinstance(b, float):
        return real(a, b)
    if isinstance(a, UInt) and isinstance(b, UInt):
        return uint64(whole(int(a), int(b)))
    raise CelError(NO_OVERLOAD)


def add(a: Any, b: Any) -> Any:
    if isinstance(a, str) and isinstance(b, str):
        return a + b
    if isinstance(a, bytes) and isinstance(b, bytes):
        return a + b
    if is_list(a) and is_list(b):
        return a.plus(b) if isinstance(a, Listed) else [*a, *b]
    if isinstance(a, timedelta) and isinstance(b, timedelta | datetime):
        return _moved(b, a)
    if isinstance(a, datetime) and isinstance(b, timedelta):
        return _moved(a, b)
    return _arithmetic(a, b, lambda x, y: x + y, lambda x, y: x + y)


def _moved(a: datetime | timedelta, b: timedelta) -> Any:
    try:
        return a + b
    except OverflowError as err:
        raise CelError("timestamp overflow" if isinstance(a, datetime) else "duration overflow") from err


def subtract(a: Any, b: Any) -> Any:
    if isinstance(a, datetime | timedelta) and isinstance(b, timedelta):
        return _moved(a, -b)
    if isinstance(a, datetime) and isinstance(b, datetime):
        return a - b
    return _arithmetic(a, b, lambda x, y: x - y, lambda x, y: x - y)


def multiply(a: Any, b: Any) -> Any:
    return _arithmetic(a, b, lambda x, y: x * y, lambda x, y: x * y)


def _quotient(a: int, b: int) -> int:
    if b == 0:
        raise CelError("division by zero")
    found = abs(a) // abs(b)
    return found if (a < 0) == (b < 0) else -found


def _real_quotient(a: float, b: float) -> float:
    if b == 0:
        return float("nan") if a == 0 else float("inf") if a > 0 else float("-inf")
    return a / b


def divide(a: Any, b: Any) -> Any:
    return _arithmetic(a, b, _quotient, _real_quotient)


def modulo(a: Any, b: Any) -> Any:
    if (type(a) is int and type(b) is int) or (isinstance(a, UInt) and isinstance(b, UInt)):
        if b == 0:
            raise CelError("modulus by zero")
        found = abs(a) % abs(b)
        return type(a)(-found if a < 0 else found)
    raise CelError(NO_OVERLOAD)


def negate(a: Any) -> Any:
    if type(a) is int:
        return int64(-a)
    if isinstance(a, float | timedelta):
        return -a
    raise CelError(NO_OVERLOAD)


def negation(a: Any) -> Any:
    if isinstance(a, bool):
        return not a
    raise CelError(NO_OVERLOAD)


def comparison(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(a: Any, b: Any) -> bool:
        if is_number(a) and is_number(b):
            return holds(a, b)
        for kind in (str, bool, bytes, datetime, timedelta):
            if isinstance(a, kind) and isinstance(b, kind):
                return holds(a, b)
        raise CelError(NO_OVERLOAD)

    return compare


def contained(item: Any, holder: Any) -> bool:
    if is_map(holder):
        return has_key(holder, item)
    if is_list(holder):
        return any(equal(item, one) for one in holder)
    raise CelError(NO_OVERLOAD)


def has_key(holder: Any, key: Any) -> bool:
    try:
        return key in holder
    except TypeError:
        return False


def index(holder: Any, key: Any) -> Any:
    """`holder[key]`."""
    if isinstance(holder, Maybe):
        return optional_index(holder, key)
    if is_map(holder):
        if not has_key(holder, key):
            raise CelError(f"no such key: {shown_key(key)}")
        return holder[key]
    if is_list(holder):
        if isinstance(key, float) and key.is_integer():
            key = int(key)
        if not isinstance(key, int) or isinstance(key, bool):
            raise CelError(f"unsupported index type '{type_name(key)}' in list")
        if not 0 <= key < len(holder):
            raise CelError(f"index out of bounds: {key}")
        return holder[key]
    raise CelError(f"no such key: {shown_key(key)}")


def shown_key(key: Any) -> str:
    return ("true" if key else "false") if isinstance(key, bool) else str(key)


def optional_index(holder: Any, key: Any) -> Maybe:
    """`holder[?key]`, and what becomes of optional values on the way."""
    if isinstance(holder, Maybe):
        return optional_index(holder.value, key) if holder.present else holder
    if is_map(holder):
        return Maybe(holder[key]) if has_key(holder, key) else Maybe()
    if is_list(holder):
        return Maybe(holder[key]) if type(key) is int and 0 <= key < len(holder) else Maybe()
    raise CelError(NO_OVERLOAD)


def select(operand: Any, field: str) -> Any:
    """`operand.field`."""
    if isinstance(operand, Maybe):
        return optional_select(operand, field)
    if is_map(operand):
        if not has_key(operand, field):
            raise CelError(f"no such key: {field}")
        return operand[field]
    raise CelError(f"no such key: {field}")


def optional_select(operand: Any, field: str) -> Maybe:
    """`operand.?field`."""
    if isinstance(operand, Maybe):
        return optional_select(operand.value, field) if operand.present else operand
    if is_map(operand):
        return Maybe(operand[field]) if has_key(operand, field) else Maybe()
    raise CelError(NO_OVERLOAD)


def has(operand: Any, field: str) -> bool:
    if isinstance(operand, Maybe):
        return operand.present and has(operand.value, field)
    if is_map(operand):
        return has_key(operand, field)
    raise CelError(NO_OVERLOAD)


def size(value: Any) -> int:
    if isinstance(value, str | bytes) or is_list(value) or is_map(value):
        return len(value)
    raise CelError(f"{NO_OVERLOAD}: size")


# --- conversions


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
    return value.encode() if isinstance(value, str) else _no_overload()


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


def matches(text: Any, pattern: Any) -> bool:
    from apiserver.custom import patterns

    if not isinstance(text, str) or not isinstance(pattern, str):
        raise CelError(NO_OVERLOAD)
    try:
        return patterns.matches(pattern, text)
    except patterns.BadPattern as err:
        raise CelError(str(err)) from err


def _strings(check: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    return lambda a, b: check(a, b) if isinstance(a, str) and isinstance(b, str) else _no_overload()


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "_+_": add,
    "_-_": subtract,
    "_*_": multiply,
    "_/_": divide,
    "_%_": modulo,
    "-_": negate,
    "!_": negation,
    "_==_": equal,
    "_!=_": lambda a, b: not equal(a, b),
    "_<_": comparison(lambda a, b: a < b),
    "_<=_": comparison(lambda a, b: a <= b),
    "_>_": comparison(lambda a, b: a > b),
    "_>=_": comparison(lambda a, b: a >= b),
    "@in": contained,
    "_in_": contained,
    "_[_]": index,
    "_[?_]": optional_index,
    "_?._": optional_select,
    "size": size,
    "type": lambda value: TypeOf(type_name(value)),
    "dyn": lambda value: value,
    "int": to_int,
    "uint": to_uint,
    "double": to_double,
    "string": to_string,
    "bool": to_bool,
    "bytes": to_bytes,
    "duration": to_duration,
    "timestamp": to_timestamp,
    "matches": matches,
    "contains": _strings(lambda a, b: b in a),
    "startsWith": _strings(lambda a, b: a.startswith(b)),
    "endsWith": _strings(lambda a, b: a.endswith(b)),
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
    "optional.of": Maybe,
    "optional.none": Maybe,
    "optional.ofNonZeroValue": lambda value: Maybe() if is_zero(value) else Maybe(value),
    "hasValue": lambda found: found.present,
    "value": lambda found: found.value,
}


def is_zero(value: Any) -> bool:
    if is_list(value) or is_map(value):
        return len(value) == 0
    return value is None or (isinstance(value, bool | int | float | str | bytes | timedelta) and not value)
