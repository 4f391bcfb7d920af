"""Values of CEL at run time, and what they can do with one another.

Plain Python stands for most: int, float, bool, str, bytes, None, list, dict, timedelta (durations), datetime (points in
time). Unsigned numbers, optional values, types, objects of a schema and Kubernetes' own types have classes here.
Source: https://github.com/google/cel-spec doc/langdef.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final

NO_OVERLOAD = "no such overload"
INT_MIN, INT_MAX, UINT_MAX = -(1 << 63), (1 << 63) - 1, (1 << 64) - 1


class CelError(Exception):
    """An expression has no value, with the text that cel-go has for it."""


class CostExceeded(Exception):
    """The evaluation was ended: it costs too much."""


class UInt(int):
    __slots__ = ()


class Duration(timedelta):
    """Seconds and fractions of one, to the microsecond."""


class Opaque:
    """A value of one of Kubernetes' own types; `text` is what its size is counted by."""

    type_name: str = ""
    __slots__ = ()


class TypeOf:
    """The value of `type(x)`."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypeOf) and other.name == self.name

    def __hash__(self) -> int:
        return hash(self.name)


class Maybe:
    """An optional value."""

    __slots__ = ("_value", "present")

    def __init__(self, *value: Any) -> None:
        self.present = bool(value)
        self._value = value[0] if value else None

    @property
    def value(self) -> Any:
        if not self.present:
            raise CelError("optional.none() dereference")
        return self._value

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Maybe)
            and self.present == other.present
            and (not self.present or equal(self._value, other._value))
        )

    __hash__ = None  # type: ignore[assignment]


NONE: Final = Maybe()


class Listed(Sequence[Any]):
    """A list of a schema; items are converted when they are looked at. `kind` is set, map or nothing, `keys` those of
    a list-map.
    """

    __slots__ = ("_convert", "_done", "keys", "kind", "raw")

    def __init__(self, raw: list[Any], convert: Any, kind: str = "", keys: tuple[str, ...] = ()) -> None:
        self.raw = raw
        self._convert = convert
        self._done: list[Any] | None = None
        self.kind = kind
        self.keys = keys

    def _all(self) -> list[Any]:
        if self._done is None:
            self._done = [self._convert(item) for item in self.raw]
        return self._done

    def __len__(self) -> int:
        return len(self.raw)

    def __getitem__(self, i: Any) -> Any:
        return self._all()[i]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._all())

    def plus(self, other: Sequence[Any]) -> Any:
        """Sets and maps stay what they are: an item that comes again takes the place of the one that was there."""
        if not isinstance(other, Listed) or not self.kind:
            return [*self, *other]
        if self.kind == "set":
            raw = [*self.raw, *(item for item in other.raw if item not in self.raw)]
        else:
            from apiserver.custom.lists import by_keys, key_of

            newer = by_keys(other.raw, self.keys)
            raw = [newer.pop(key_of(item, self.keys) or b"", item) for item in self.raw]
            raw += [item for item in other.raw if (key_of(item, self.keys) or b"") in newer]
        return Listed(raw, self._convert, self.kind, self.keys)


class Mapped(Mapping[Any, Any]):
    """A map or an object of a schema. `names` maps the names that expressions use to those of the object's fields;
    None: a map with keys of the user's choice.
    """

    __slots__ = ("_convert", "_names", "raw")

    def __init__(self, raw: dict[str, Any], convert: Any, names: Mapping[str, str] | None = None) -> None:
        self.raw = raw
        self._convert = convert
        self._names = names

    def __getitem__(self, key: Any) -> Any:
        name = key if self._names is None else self._names[key]
        return self._convert(name, self.raw[name])

    def __contains__(self, key: object) -> bool:
        if self._names is None:
            return key in self.raw
        return key in self._names and self._names[key] in self.raw  # type: ignore[index]

    def __iter__(self) -> Iterator[Any]:
        if self._names is None:
            return iter(sorted(self.raw))
        return (key for key, name in self._names.items() if name in self.raw)

    def __len__(self) -> int:
        return len(self.raw)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_list(value: Any) -> bool:
    return isinstance(value, list | Listed)


def is_map(value: Any) -> bool:
    return isinstance(value, dict | Mapped)


def equal(a: Any, b: Any) -> bool:
    """Deep, over all kinds of numbers; values of different types are not equal."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if is_number(a) and is_number(b):
        return bool(a == b)
    if is_list(a) and is_list(b):
        return _equal_lists(a, b)
    if is_map(a) and is_map(b):
        return len(a) == len(b) and all(key in b and equal(a[key], b[key]) for key in a)
    if type(a) is not type(b) and not (isinstance(a, timedelta) and isinstance(b, timedelta)):
        return False
    return bool(a == b)


def _equal_lists(a: Sequence[Any], b: Sequence[Any]) -> bool:
    if len(a) != len(b):
        return False
    kind = getattr(a, "kind", "")
    if kind == "set":
        return all(any(equal(x, y) for y in b) for x in a)
    if kind == "map" and isinstance(a, Listed) and isinstance(b, Listed):
        from apiserver.custom.lists import by_keys, key_of

        places = {key: i for i, key in enumerate(by_keys(b.raw, a.keys))}
        found = [places.get(key_of(item, a.keys) or b"") for item in a.raw]
        return all(i is not None and equal(x, b[i]) for x, i in zip(a, found, strict=True))
    return all(map(equal, a, b))


_NAMES: dict[type, str] = {
    bool: "bool",
    int: "int",
    UInt: "uint",
    float: "double",
    str: "string",
    bytes: "bytes",
    type(None): "null_type",
    Maybe: "optional_type",
    TypeOf: "type",
}


def type_name(value: Any) -> str:
    """`int`, `list`, `google.protobuf.Duration`, `kubernetes.Quantity`."""
    if (name := _NAMES.get(type(value))) is not None:
        return name
    if is_list(value):
        return "list"
    if is_map(value):
        return "map"
    if isinstance(value, timedelta):
        return "google.protobuf.Duration"
    return "google.protobuf.Timestamp" if isinstance(value, datetime) else str(value.type_name)


def size_of(value: Any) -> int:
    """What the cost of an operation is counted by."""
    if isinstance(value, str | bytes):
        return len(value)
    if is_list(value) or is_map(value):
        return len(value)
    return 1


def int64(value: int) -> int:
    if not INT_MIN <= value <= INT_MAX:
        raise CelError("integer overflow")
    return value


def uint64(value: int) -> UInt:
    if not 0 <= value <= UINT_MAX:
        raise CelError("unsigned integer overflow")
    return UInt(value)


def utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
