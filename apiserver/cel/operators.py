"""The operators and functions that CEL itself has. Each takes values and gives a value, or raises CelError.

Source: https://github.com/google/cel-spec doc/langdef.md, "List of Standard Definitions"; cel-go (texts of errors).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from apiserver.cel import conversions
from apiserver.cel.values import (
    NO_OVERLOAD,
    CelError,
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
)


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
    "int": conversions.to_int,
    "uint": conversions.to_uint,
    "double": conversions.to_double,
    "string": conversions.to_string,
    "bool": conversions.to_bool,
    "bytes": conversions.to_bytes,
    "duration": conversions.to_duration,
    "timestamp": conversions.to_timestamp,
    "matches": matches,
    "contains": _strings(lambda a, b: b in a),
    "startsWith": _strings(lambda a, b: a.startswith(b)),
    "endsWith": _strings(lambda a, b: a.endswith(b)),
    **conversions.TIME_PARTS,
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
