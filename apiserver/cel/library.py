"""Kubernetes' functions: their names, overloads and types, and what computes them.

One line a function in `SIGNATURES`: `target.name(args) -> result`, or `name(args) -> result`; A stands for any type.
Source: Kubernetes documentation, "Common Expression Language in Kubernetes", "CEL community libraries" and "Kubernetes
CEL libraries"; k8s.io/apiserver/pkg/cel/library; cel-go ext (strings, sets, lists).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from math import ceil
from typing import Any, NamedTuple

from apiserver.cel import lists, network, quantities, semver, strings
from apiserver.cel.evaluate import REGEX_COST, STRING_COST
from apiserver.cel.values import Opaque, is_list, size_of

Q, IP, CIDR, URL, FORMAT, SEMVER = (
    "kubernetes.Quantity",
    "net.IP",
    "net.CIDR",
    "kubernetes.URL",
    "kubernetes.NamedFormat",
    "kubernetes.Semver",
)
OPAQUE = (Q, IP, CIDR, URL, FORMAT, SEMVER)
_ORDERED = ("int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes")
_SUMMABLE = ("int", "uint", "double", "duration")


class Overload(NamedTuple):
    """`types` of target (if there is one) and arguments."""

    function: str
    id: str
    member: bool
    types: tuple[str, ...]
    result: str


SIGNATURES = f"""
string.charAt(int) -> string
string.indexOf(string) -> int
string.indexOf(string, int) -> int
string.lastIndexOf(string) -> int
string.lastIndexOf(string, int) -> int
list(string).join() -> string
list(string).join(string) -> string
string.lowerAscii() -> string
string.upperAscii() -> string
string.replace(string, string) -> string
string.replace(string, string, int) -> string
string.split(string) -> list(string)
string.split(string, int) -> list(string)
string.substring(int) -> string
string.substring(int, int) -> string
string.trim() -> string
string.format(list(dyn)) -> string
strings.quote(string) -> string
string.find(string) -> string
string.findAll(string) -> list(string)
string.findAll(string, int) -> list(string)
list(A).indexOf(A) -> int
list(A).lastIndexOf(A) -> int
list(A).distinct() -> list(A)
list(dyn).flatten() -> list(dyn)
list(dyn).flatten(int) -> list(dyn)
list(A).reverse() -> list(A)
list(A).slice(int, int) -> list(A)
list(A).sort() -> list(A)
lists.range(int) -> list(int)
sets.contains(list(A), list(A)) -> bool
sets.equivalent(list(A), list(A)) -> bool
sets.intersects(list(A), list(A)) -> bool
url(string) -> {URL}
isURL(string) -> bool
{URL}.getScheme() -> string
{URL}.getHost() -> string
{URL}.getHostname() -> string
{URL}.getPort() -> string
{URL}.getEscapedPath() -> string
{URL}.getQuery() -> map(string, list(string))
quantity(string) -> {Q}
isQuantity(string) -> bool
sign({Q}) -> int
{Q}.isGreaterThan({Q}) -> bool
{Q}.isLessThan({Q}) -> bool
{Q}.compareTo({Q}) -> int
{Q}.asApproximateFloat() -> double
{Q}.asInteger() -> int
{Q}.isInteger() -> bool
{Q}.add({Q}) -> {Q}
{Q}.add(int) -> {Q}
{Q}.sub({Q}) -> {Q}
{Q}.sub(int) -> {Q}
ip(string) -> {IP}
isIP(string) -> bool
ip.isCanonical(string) -> bool
string({IP}) -> string
{IP}.family() -> int
{IP}.isUnspecified() -> bool
{IP}.isLoopback() -> bool
{IP}.isLinkLocalMulticast() -> bool
{IP}.isLinkLocalUnicast() -> bool
{IP}.isGlobalUnicast() -> bool
cidr(string) -> {CIDR}
isCIDR(string) -> bool
string({CIDR}) -> string
{CIDR}.containsIP(string) -> bool
{CIDR}.containsIP({IP}) -> bool
{CIDR}.containsCIDR(string) -> bool
{CIDR}.containsCIDR({CIDR}) -> bool
{CIDR}.ip() -> {IP}
{CIDR}.prefixLength() -> int
{CIDR}.masked() -> {CIDR}
{FORMAT}.validate(string) -> optional(list(string))
format.named(string) -> optional({FORMAT})
semver(string) -> {SEMVER}
semver(string, bool) -> {SEMVER}
isSemver(string) -> bool
isSemver(string, bool) -> bool
{SEMVER}.isGreaterThan({SEMVER}) -> bool
{SEMVER}.isLessThan({SEMVER}) -> bool
{SEMVER}.compareTo({SEMVER}) -> int
{SEMVER}.major() -> int
{SEMVER}.minor() -> int
{SEMVER}.patch() -> int
"""
# Numbers of different types compare with one another.
_CROSS = (("_<_", "less"), ("_<=_", "less_equals"), ("_>_", "greater"), ("_>=_", "greater_equals"))
_NUMBERS = {"int": "int64", "uint": "uint64", "double": "double"}
_QUALIFIERS = ("strings", "lists", "sets", "ip", "format")


@cache
def overloads() -> tuple[Overload, ...]:
    return tuple(_overloads())


@cache
def untyped() -> frozenset[str]:
    """Functions whose results are optional: the CEL library takes these for values of any type."""
    return frozenset(one.function.rpartition(".")[2] for one in overloads() if one.result.startswith("optional("))


def _overloads() -> Iterator[Overload]:
    for i, line in enumerate(SIGNATURES.strip().splitlines()):
        head, _, result = line.partition(" -> ")
        name, _, rest = _split_call(head)
        target, dot, function = name.rpartition(".")
        args = tuple(_arguments(rest))
        if dot and target in _QUALIFIERS:
            yield Overload(name, f"k8s_{i}_{function}", False, args, result)
        elif dot:
            yield Overload(function, f"k8s_{i}_{function}", True, (target, *args), result)
        else:
            yield Overload(name, f"k8s_{i}_{name}", False, args, result)
    for kind in _ORDERED:
        yield Overload("isSorted", f"list_{kind}_is_sorted_bool", True, (f"list({kind})",), "bool")
        yield Overload("max", f"list_{kind}_max_{kind}", True, (f"list({kind})",), kind)
        yield Overload("min", f"list_{kind}_min_{kind}", True, (f"list({kind})",), kind)
    for kind in _SUMMABLE:
        yield Overload("sum", f"list_{kind}_sum_{kind}", True, (f"list({kind})",), kind)
    for name in network.FORMATS:
        yield Overload(f"format.{name}", f"format.{name}", False, (), FORMAT)
    for operator, word in _CROSS:
        for a, first in _NUMBERS.items():
            for b, second in _NUMBERS.items():
                if a != b:
                    yield Overload(operator, f"{word}_{first}_{second}", False, (a, b), "bool")


def _split_call(head: str) -> tuple[str, str, str]:
    """`list(string).join(string)` -> name with its target, and the arguments."""
    depth = 0
    for at in range(len(head) - 1, -1, -1):
        depth += {")": 1, "(": -1}.get(head[at], 0)
        if depth == 0:
            return head[:at], "(", head[at + 1 : -1]
    raise ValueError(head)


def _arguments(text: str) -> Iterator[str]:
    depth, start = 0, 0
    for at, char in enumerate(text):
        depth += {"(": 1, ")": -1}.get(char, 0)
        if char == "," and depth == 0:
            yield text[start:at].strip()
            start = at + 1
    if text[start:].strip():
        yield text[start:].strip()


@cache
def functions() -> dict[str, Callable[..., Any]]:
    """By name; overloads tell their arguments apart themselves."""
    found: dict[str, Callable[..., Any]] = {}
    for module in (strings, lists, network, quantities, semver):
        for name, function in module.FUNCTIONS.items():
            found[name] = _either(found[name], function) if name in found else function
    return found


def _either(first: Callable[..., Any], second: Callable[..., Any]) -> Callable[..., Any]:
    """Two functions of one name, each for other types: one that is not for these raises TypeError."""

    def call(*args: Any) -> Any:
        try:
            return first(*args)
        except TypeError:
            return second(*args)

    return call


COST_ONE = frozenset(
    [
        "masked",
        "prefixLength",
        "family",
        "isUnspecified",
        "isLoopback",
        "isLinkLocalMulticast",
        "isLinkLocalUnicast",
        "isGlobalUnicast",
        "sign",
        "asInteger",
        "isInteger",
        "asApproximateFloat",
        "isGreaterThan",
        "isLessThan",
        "compareTo",
        "add",
        "sub",
        "major",
        "minor",
        "patch",
        "getScheme",
        "getHostname",
        "getHost",
        "getPort",
        "getEscapedPath",
        "getQuery",
        "format.named",
    ]
)
COST_ONE_PASS = frozenset(
    [
        "url",
        "lowerAscii",
        "upperAscii",
        "substring",
        "trim",
        "cidr",
        "isIP",
        "isCIDR",
        "ip",
        "quantity",
        "isQuantity",
        "semver",
        "isSemver",
    ]
)


def call_cost(name: str, args: tuple[Any, ...], result: Any) -> int | None:
    """Of a call; None where it is that of CEL's own functions. Source: k8s.io/apiserver/pkg/cel/library/cost.go."""
    first = size_of(args[0]) if args else 0
    if name in COST_ONE:
        return 1
    if name in COST_ONE_PASS:
        return 1 if isinstance(args[0], Opaque) else ceil(first * STRING_COST)
    match name:
        case "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf":
            return first if is_list(args[0]) else ceil(first * STRING_COST)
        case "replace" | "split" | "ip.isCanonical":
            return ceil(first * 2 * STRING_COST)
        case "join":
            return ceil(size_of(result) * 2 * STRING_COST)
        case "find" | "findAll":
            return ceil((1 + first) * STRING_COST) * ceil(size_of(args[1]) * REGEX_COST)
        case "validate":
            return ceil((1 + size_of(args[1])) * STRING_COST) * ceil(int(args[0].regex_size) * REGEX_COST)
        case "containsIP" | "containsCIDR":
            return 4 + (ceil(size_of(args[1]) * STRING_COST) if isinstance(args[1], str) else 0)
        case "sets.contains" | "sets.equivalent" | "sets.intersects":
            return 1 + first * size_of(args[1]) * (2 if name == "sets.equivalent" else 1)
        case "_==_" if isinstance(args[0], Opaque):
            return 1
        case _ if args and is_list(args[0]) and name in lists.FUNCTIONS:
            return 1 + first
    return None
