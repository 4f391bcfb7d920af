"""A decoded JSON value, brought into the form in which the API server writes it; what does not fit is reported.

One walk does what Go's decoder and encoder do together: unknown fields go (and are named), values of a wrong type are
refused with the decoder's text, null and empty optional fields go, fields that are always written appear.
Source: sigs.k8s.io/json (texts); golang encoding/json; the API conventions ("Optional vs. Required").
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from typing import Any

from apiserver import schemas
from apiserver.registry import quantity

Json = dict[str, Any]

_INT_RANGE = {"int32": (-(1 << 31), (1 << 31) - 1), "int64": (-(1 << 63), (1 << 63) - 1)}
_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").fullmatch
_MICROS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z").fullmatch
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?").fullmatch
# A path carries both what strict decoding tells (keys of maps, between \x01 and \x02) and what the decoder itself tells
# (the embedded structs that a field comes from, between \0 and \x03); each of the two leaves out the other's.
_ONLY_STRICT = re.compile(r"\[\d+\]|\x01[^\x02]*\x02|[\0\x03]")
_ONLY_DECODER = re.compile(r"\0[^\x03]*\x03")
_GO_LAYOUT = "2006-01-02T15:04:05Z07:00"
_GO_MICRO_LAYOUT = "2006-01-02T15:04:05.000000Z07:00"


class Report:
    """What a walk found: unknown fields in the order of the document, and the first value that cannot be decoded.

    `mismatch` is that value, the type it should have had and that type's own name, where that is what is wrong.
    """

    __slots__ = ("error", "mismatch", "unknown")

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.error = ""
        self.mismatch: tuple[Any, list[Any], str] | None = None

    def fail(self, text: str) -> None:
        if not self.error:
            self.error = text


Convert = Callable[[Any, str, Report], Any]
"""(value, path of the value, report) -> the value as it is written."""


class Field:
    """One field of a struct, ready to convert values. `label` is its name in a path (see `_ONLY_STRICT`)."""

    __slots__ = ("always", "convert", "keep_empty", "label", "merge_key", "strategy", "struct", "type", "zero")

    def __init__(self, owner: str, name: str, entry: Json) -> None:
        self.type: list[Any] = entry["t"]
        self.always = "w" in entry
        pointer = "p" in entry
        # A pointer to an empty value is written, a slice or map without content is not, whatever holds it.
        self.keep_empty = self.always or pointer or self.type[0] in ("struct", "intorstring", "quantity", "time", "any")
        self.label = f"\0{entry['e']}.\x03{name}" if "e" in entry else name
        self.convert = converter(self.type, owner, entry.get("n", ""), entry.get("ni", ""))
        self.zero: Callable[[], Any] = (lambda: None) if pointer else zero_of(self.type)
        self.merge_key: str = entry.get("k", "")
        self.strategy: str = entry.get("s", "")
        self.struct = self.type[1] if self.type[0] == "struct" else None


class Struct:
    """A type of the API."""

    __slots__ = ("fields", "name", "short", "written")

    def __init__(self, name: str) -> None:
        self.name = name
        self.short = name.rpartition(".")[2]
        self.fields: dict[str, Field] = {
            field: Field(self.short, field, entry) for field, entry in schemas.types()["structs"][name].items()
        }
        self.written = tuple((field, f.zero) for field, f in self.fields.items() if f.always)

    def convert(self, value: Json, path: str, report: Report) -> Json:
        fields = self.fields
        out: Json = {}
        for key, raw in value.items():
            field = fields.get(key)
            if field is None:
                report.unknown.append(strict_path(f"{path}.{key}" if path else key))
            elif raw is not None:
                item = field.convert(raw, f"{path}.{field.label}" if path else field.label, report)
                if item or field.keep_empty:
                    out[key] = item
        for key, zero in self.written:
            if key not in out or (out[key] is None):
                out[key] = zero()
        return out


@cache
def struct(name: str) -> Struct:
    """The type of that name (`core.v1.Pod`), made when first asked for. Raises KeyError where there is none."""
    return Struct(name)


# --- zero values


def zero_of(type_: list[Any]) -> Callable[[], Any]:
    kind = type_[0]
    if kind == "struct":
        name = type_[1]
        return lambda: struct(name).convert({}, "", Report())
    simple: dict[str, Any] = {
        "string": "",
        "int32": 0,
        "int64": 0,
        "float": 0,
        "bool": False,
        "quantity": "0",
        "intorstring": 0,
    }
    value = simple.get(kind)
    return lambda: value


# --- converters


def go_type(type_: list[Any], named: str = "") -> str:
    """The Go name of a type, as error texts have it: `[]v1.Container`, `map[string]string`."""
    if named:
        return named
    kind = type_[0]
    if kind == "list":
        return "[]" + go_type(type_[1])
    if kind == "map":
        return "map[string]" + go_type(type_[1])
    if kind == "struct":
        return ".".join(str(type_[1]).split(".")[-2:])
    names = {"float": "float64", "bytes": "[]uint8", "time": "v1.Time", "microtime": "v1.MicroTime"}
    names |= {"quantity": "resource.Quantity", "intorstring": "intstr.IntOrString", "any": "map[string]interface {}"}
    return names.get(kind, str(kind))


def json_kind(value: Any) -> str:
    """What Go's decoder calls a JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, str):
        return "string"
    if isinstance(value, int | float):
        return "number"
    return "array" if isinstance(value, list) else "object"


def strict_path(path: str) -> str:
    """A path as strict decoding tells it: `spec.devices[0].capacity.memory.x`."""
    return _ONLY_DECODER.sub("", path).replace("\x01", ".").replace("\x02", "")


def _mismatch(value: Any, path: str, owner: str, type_: list[Any], report: Report, named: str = "") -> None:
    """`named` is the Go name of a scalar type."""
    if not report.error:
        report.mismatch = (value, type_, named)
    report.fail(mismatch_text(value, path, owner, type_, named))


def mismatch_text(value: Any, path: str, owner: str, type_: list[Any], named: str = "") -> str:
    """What Go's decoder says of a value of a wrong type."""
    number = type_[0] in _INT_RANGE and isinstance(value, int | float) and not isinstance(value, bool)
    shown, type_text = f"number {value}" if number else json_kind(value), go_type(type_, named)
    field = f"Go struct field {owner}.{_ONLY_STRICT.sub('', path)}" if owner else "Go value"
    return f"json: cannot unmarshal {shown} into {field} of type {type_text}"


def converter(type_: list[Any], owner: str, named: str = "", item: str = "") -> Convert:
    """`owner` is the struct whose field this is; `named` the type's own name, `item` that of its items."""
    kind = type_[0]
    if kind == "struct":
        return _struct_converter(type_, owner)
    if kind == "list":
        return _list_converter(type_, owner, named, item)
    if kind == "map":
        return _map_converter(type_, owner, named, item)
    if kind in _INT_RANGE:
        return _int_converter(kind, owner, named)
    if kind == "time" or kind == "microtime":
        return _time_converter(kind)
    special: dict[str, Convert] = {"quantity": _quantity, "intorstring": _int_or_string, "bytes": _bytes, "any": _any}
    return special.get(kind) or _scalar_converter(type_, owner, named)


def _struct_converter(type_: list[Any], owner: str) -> Convert:
    name = type_[1]
    made: list[Struct] = []

    def convert(value: Any, path: str, report: Report) -> Any:
        if not isinstance(value, dict):
            _mismatch(value, path, owner, type_, report)
            return {}
        if not made:
            made.append(struct(name))  # not before: types refer to themselves
        return made[0].convert(value, path, report)

    return convert


def _list_converter(type_: list[Any], owner: str, named: str, item_named: str) -> Convert:
    item, zero = converter(type_[1], owner, item_named), zero_of(type_[1])

    def convert(value: Any, path: str, report: Report) -> Any:
        if not isinstance(value, list):
            _mismatch(value, path, owner, type_, report, named)
            return None
        if not value:
            return None
        return [zero() if v is None else item(v, f"{path}[{i}]", report) for i, v in enumerate(value)]

    return convert


def _map_converter(type_: list[Any], owner: str, named: str, item_named: str) -> Convert:
    item, zero = converter(type_[1], owner, item_named), zero_of(type_[1])
    plain = type_[1] == ["string"]

    def convert(value: Any, path: str, report: Report) -> Any:
        if not isinstance(value, dict):
            _mismatch(value, path, owner, type_, report, named)
            return None
        if plain and all(type(v) is str for v in value.values()):
            return value or None
        return {
            k: (zero() or "") if v is None else item(v, f"{path}\x01{k}\x02", report) for k, v in value.items()
        } or None

    return convert


def _scalar_converter(type_: list[Any], owner: str, named: str) -> Convert:
    expected: Any = {"string": str, "bool": bool, "float": (int, float)}[type_[0]]
    numeric = type_[0] == "float"

    def convert(value: Any, path: str, report: Report) -> Any:
        if isinstance(value, expected) and not (numeric and isinstance(value, bool)):
            return value
        _mismatch(value, path, owner, type_, report, named)
        return None

    return convert


def _int_converter(kind: str, owner: str, named: str) -> Convert:
    low, high = _INT_RANGE[kind]

    def convert(value: Any, path: str, report: Report) -> Any:
        if type(value) is int and low <= value <= high:
            return value
        _mismatch(value, path, owner, [kind], report, named)
        return None

    return convert


def _any(value: Any, _path: str, _report: Report) -> Any:
    return value


def _quantity(value: Any, _path: str, report: Report) -> Any:
    text = value.strip() if isinstance(value, str) else repr(value)
    try:
        return quantity.canonical(text)
    except ValueError as err:
        report.fail(str(err))
        return None


def _int_or_string(value: Any, _path: str, report: Report) -> Any:
    low, high = _INT_RANGE["int32"]
    if isinstance(value, str) or (type(value) is int and low <= value <= high):
        return value
    report.fail(mismatch_text(value, "", "", ["int32"]))
    return None


def _bytes(value: Any, _path: str, report: Report) -> Any:
    if not isinstance(value, str):
        report.fail(f"json: cannot unmarshal {json_kind(value)} into Go value of type []uint8")
        return None
    text = value.replace("\r", "").replace("\n", "")
    if _BASE64(text):
        return text
    report.fail(f"illegal base64 data at input byte {_corrupt_at(value)}")
    return None


def _corrupt_at(text: str) -> int:
    """The offset that Go's base64 decoder names."""
    bad = re.search(r"[^A-Za-z0-9+/\r\n]", text)
    if bad and bad.group() != "=":
        return bad.start()
    clean = text.rstrip("=")
    return len(clean) - len(clean) % 4 if not bad else bad.start()


def _time_converter(kind: str) -> Convert:
    micro = kind == "microtime"
    as_is = _MICROS if micro else _SECONDS

    def convert(value: Any, _path: str, report: Report) -> Any:
        if not isinstance(value, str):
            report.fail(f"json: cannot unmarshal {json_kind(value)} into Go value of type string")
            return None
        try:
            moment = _moment(value)
        except ValueError:
            quoted = value.replace('"', '\\"')
            report.fail(f'parsing time "{quoted}" as "{_GO_LAYOUT}": cannot parse "{quoted}" as "2006"')
            return None
        if as_is(value):
            return value
        if micro and (wrong := _micro_fault(value)):
            report.fail(f'parsing time "{value}" as "{_GO_MICRO_LAYOUT}": cannot parse {wrong}')
            return None
        return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ" if micro else "%Y-%m-%dT%H:%M:%SZ")

    return convert


def _micro_fault(text: str) -> str:
    """Where a time has not six digits of a second: Go's layout asks for just as many."""
    rest = text[19:]
    if not re.match(r"[.,]\d{6}", rest):
        return f'"{rest}" as ".000000"'
    return f'"{rest[7:]}" as "Z07:00"' if rest[7:8].isdigit() else ""


def _moment(text: str) -> datetime:
    if len(text) < 20 or text[10] != "T":
        raise ValueError(text)
    fraction = re.sub(r"\.(\d{1,6})\d*", r".\1", text)
    moment = datetime.fromisoformat(fraction)
    if moment.tzinfo is None:
        raise ValueError(text)
    return moment.astimezone(UTC)
