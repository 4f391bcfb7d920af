"""What calls of functions may cost at most, judged from the sizes that their arguments may have.

Source: cel-go checker/cost.go, ext/lists.go and ext/sets.go; k8s.io/apiserver/pkg/cel/library/cost.go.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import NamedTuple

from apiserver.cel.evaluate import LIST_COST, REGEX_COST, STRING_COST
from apiserver.cel.library import COST_ONE, COST_ONE_PASS, OPAQUE
from apiserver.cel.ranges import MAX, ONE, ZERO, Range, fixed

_IP_B = Range(4, 16)
_FORMAT_REGEX_SIZE = 128
_COMPARED = frozenset(
    [
        f"{relation}_{kind}"
        for relation in ("less", "greater", "less_equals", "greater_equals")
        for kind in ("string", "bytes")
    ]
) | {"equals", "not_equals"}


class Value(NamedTuple):
    """An argument: `size` where unknown is as large as can be; `kind` of type; `item` the size of a list's elements,
    where these are strings or bytes; `literal` the value of a whole number that is written out.
    """

    size: Range
    kind: str
    item: Range | None = None
    literal: int | None = None


class Cost(NamedTuple):
    """`size` of the result, where the call says it."""

    cost: Range
    size: Range | None = None


def call_cost(function: str, overload: str, target: Value | None, args: Sequence[Value]) -> Cost:
    """Without that of the arguments."""
    if function in COST_ONE:
        return Cost(ONE)
    own = _OWN.get(function)
    if own is not None and (found := own(target, args)) is not None:
        return found
    if function in COST_ONE_PASS:
        of = target if function in ("lowerAscii", "upperAscii", "substring", "trim") else (args[0] if args else None)
        if of is None:
            return Cost(ONE)  # the address of a network
        keeps = function in ("url", "lowerAscii", "upperAscii", "substring", "trim")
        return Cost(of.size.scaled(STRING_COST), of.size if keeps else None)
    return _standard(function, overload, target, args)


def _standard(function: str, overload: str, target: Value | None, args: Sequence[Value]) -> Cost:
    """CEL's own functions."""
    if function == "format" and target is not None:
        return Cost(target.size.scaled(STRING_COST))
    if overload == "string_to_bytes":
        size = args[0].size
        return Cost(size.scaled(STRING_COST), Range(size.low, min(MAX, size.high * 4)))
    if overload == "bytes_to_string":
        size = args[0].size
        return Cost(size.scaled(STRING_COST), Range(size.low // 4, size.high))
    if function == "strings.quote":
        size = args[0].size
        return Cost(size.scaled(STRING_COST), Range(size.low + 2, min(MAX, size.high * 2 + 2)))
    if function in ("startsWith", "endsWith"):
        return Cost(args[0].size.scaled(STRING_COST))
    if overload == "in_list":
        return Cost(args[1].size)
    if function == "matches" and target is not None:
        return Cost(_searched(target.size, args[0].size))
    if function == "contains" and target is not None:
        return Cost(target.size.scaled(STRING_COST).times(args[0].size.scaled(STRING_COST)))
    if overload == "add_list":
        return Cost(ONE, args[0].size.plus(args[1].size))
    if overload in ("add_string", "add_bytes"):
        size = args[0].size.plus(args[1].size)
        return Cost(size.scaled(STRING_COST), size)
    if overload in _COMPARED:
        if args[0].kind == args[1].kind and args[0].kind in OPAQUE:
            return Cost(ONE)
        most = min(args[0].size.high, args[1].size.high)
        return Cost(Range(1 if most else 0, most).scaled(STRING_COST))
    return Cost(ONE)


def _searched(text: Range, pattern: Range) -> Range:
    return text.plus(ONE).scaled(STRING_COST).times(pattern.scaled(REGEX_COST))


def _each(target: Value | None, _: Sequence[Value]) -> Cost | None:
    """Every element (or character) is looked at."""
    if target is None:
        return None
    if target.kind != "list":
        return Cost(target.size.scaled(STRING_COST))
    one = ONE if target.item is None else ONE.plus(target.item.scaled(STRING_COST))
    return Cost(target.size.times(one))


def _replace(target: Value | None, args: Sequence[Value]) -> Cost | None:
    if target is None or len(args) < 2:
        return None
    text, old, new = target.size, args[0].size, args[1].size
    most = _replaced(text.high, old.low, grows=new.high > old.low)
    least = _replaced(text.low, old.high, grows=new.low < old.high)
    size = Range(least[0], most[0]).times(new).plus(Range(least[1], most[1]))
    return Cost(text.scaled(2 * STRING_COST), size)


def _replaced(text: int, old: int, *, grows: bool) -> tuple[int, int]:
    """How often it is replaced, and how much of the text is kept beside; `grows`: the result is longer (shorter)."""
    if old == 0:
        return min(MAX, text + 1), text
    return (ceil(text / old), 0) if grows else (0, text)


def _split(target: Value | None, args: Sequence[Value]) -> Cost | None:
    if target is None:
        return None
    most = target.size.high
    if len(args) > 1 and args[1].literal is not None:
        most = args[1].literal & MAX
    return Cost(target.size.scaled(2 * STRING_COST), Range(0, most))


def _join(target: Value | None, args: Sequence[Value]) -> Cost | None:
    if target is None:
        return None
    count, size = target.size, ZERO
    if target.item is not None:
        size = count.times(target.item)
    if args:
        size = size.plus(args[0].size.times(Range(max(0, count.low - 1), max(0, count.high - 1))))
    return Cost(size.scaled(STRING_COST), size)


def _find(target: Value | None, args: Sequence[Value]) -> Cost | None:
    if target is None or not args:
        return None
    return Cost(_searched(target.size, args[0].size), Range(0, target.size.high))


def _canonical(_: Value | None, args: Sequence[Value]) -> Cost | None:
    return Cost(args[0].size.scaled(2 * STRING_COST)) if args else None


def _validate(_: Value | None, args: Sequence[Value]) -> Cost | None:
    return Cost(args[0].size.scaled(STRING_COST).scaled(_FORMAT_REGEX_SIZE * REGEX_COST)) if args else None


def _contains_ip(_: Value | None, args: Sequence[Value]) -> Cost | None:
    return Cost(_IP_B.plus(_IP_B).scaled(STRING_COST).plus(_parsed(args)))


def _contains_cidr(_: Value | None, args: Sequence[Value]) -> Cost | None:
    compared = _IP_B.plus(_IP_B).scaled(STRING_COST).plus(_IP_B.scaled(STRING_COST)).plus(ONE)
    return Cost(compared.plus(_parsed(args)))


def _parsed(args: Sequence[Value]) -> Range:
    return args[0].size.scaled(STRING_COST) if args and args[0].kind == "string" else ZERO


def _sets(factor: int) -> Callable[[Value | None, Sequence[Value]], Cost | None]:
    def cost(_: Value | None, args: Sequence[Value]) -> Cost | None:
        return Cost(args[0].size.times(args[1].size).scaled(factor).plus(ONE)) if len(args) == 2 else None

    return cost


# --- functions that make lists


def _made(factor: float, size: Range) -> Cost:
    return Cost(size.scaled(factor).plus(ONE).plus(fixed(LIST_COST)), size)


def _slice(target: Value | None, args: Sequence[Value]) -> Cost | None:
    if target is None or len(args) != 2:
        return None
    start = args[0].literal or 0
    end = target.size.high if args[1].literal is None else args[1].literal
    return _made(1, fixed((end - start) & MAX))


def _range(_: Value | None, args: Sequence[Value]) -> Cost | None:
    return _made(1, fixed(MAX if args[0].literal is None else args[0].literal & MAX))


def _reverse(target: Value | None, _: Sequence[Value]) -> Cost | None:
    return None if target is None else _made(1, target.size)


def _flatten(target: Value | None, args: Sequence[Value]) -> Cost | None:
    if target is None:
        return None
    depth = 1 if not args else MAX if args[0].literal is None else args[0].literal
    return _made(depth, target.size)


def _distinct(target: Value | None, _: Sequence[Value]) -> Cost | None:
    return None if target is None else _made(2, target.size.times(target.size))


def _sort(target: Value | None, _: Sequence[Value]) -> Cost | None:
    if target is None:
        return None
    return _made(2 if target.item is None else 2 + STRING_COST, target.size.times(target.size))


_OWN: dict[str, Callable[[Value | None, Sequence[Value]], Cost | None]] = {
    **dict.fromkeys(("isSorted", "sum", "max", "min", "indexOf", "lastIndexOf"), _each),
    **dict.fromkeys(("find", "findAll"), _find),
    "replace": _replace,
    "split": _split,
    "join": _join,
    "ip.isCanonical": _canonical,
    "validate": _validate,
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
    "sets.contains": _sets(1),
    "sets.intersects": _sets(1),
    "sets.equivalent": _sets(2),
    "slice": _slice,
    "lists.range": _range,
    "reverse": _reverse,
    "flatten": _flatten,
    "distinct": _distinct,
    "sort": _sort,
}
