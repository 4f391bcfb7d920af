"""A decoded JSON value, brought into the form in which the API server writes it; what does not fit is reported.

One walk does what Go's decoder and encoder do together: unknown fields go (and are named), values of a wrong type are
refused with the decoder's text, null and empty optional fields go, fields that are always written appear.
Source: sigs.k8s.io/json (texts); golang encoding/json; the API conventions ("Optional vs. Required").
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any, NamedTuple

from apiserver import schemas
from apiserver.registry import quantity
from apiserver.schemas import gotime

Json = dict[str, Any]

_INTEGERS = ("int32", "int64", "uint8")
_INT_RANGE = {"int32": (-(1 << 31), (1 << 31) - 1), "int64": (-(1 << 63), (1 << 63) - 1)}
_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").fullmatch
_MICROS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z").fullmatch
_BASE64 = re.compile(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?").fullmatch
# A path carries both what strict decoding tells (keys of maps, between \x01 and \x02) and what the decoder itself tells
# (the embedded structs that a field comes from, between \0 and \x03); each of the two leaves out the other's.
_ONLY_STRICT = re.compile(r"\[\d+\]|\x01[^\x02]*\x02|[\0\x03]")
_ONLY_DECODER = re.compile(r"\0[^\x03]*\x03")


class Empty(NamedTuple):
    """An empty list or map of a body. It is written as null, or not at all, but Go's types tell it from none before.

    `holder` is the struct in written form, `key` the field there if it is written as null.
    """

    path: str
    value: Any
    holder: Json
    key: str


class Report:
    """What a walk found: unknown fields in the order of the document, and the first value that cannot be decoded.

    `mismatch` is that value, the type it should have had and that type's own name, where that is what is wrong.
    A value that its type reads itself (a time, a quantity) ends Go's decoding: it counts, whatever was wrong before.
    """

    __slots__ = ("empty", "ended", "error", "mismatch", "unknown")

    def __init__(self) -> None:
        self.unknown: list[str] = []
        self.empty: list[Empty] = []
        self.error = ""
        self.ended = False
        self.mismatch: tuple[Any, list[Any], str] | None = None

    def fail(self, text: str) -> None:
        if not self.error:
            self.error = text

    def end(self, text: str, mismatch: tuple[Any, list[Any], str] | None = None) -> None:
        if not self.ended:
            self.error, self.ended, self.mismatch = text, True, mismatch


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
        self.keep_empty = self.always or pointer or self.type[0] in ("struct", "intorstring", "quantity", "any")
        self.label = f"\0{entry['e']}.\x03{name}" if "e" in entry else name
        self.convert = converter(self.type, owner, entry.get("n", ""), entry.get("ni", ""))
        if owner == "JSONSchemaProps" and name in _SCHEMA_OR:
            self.convert = _SCHEMA_OR[name]
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
                if item:
                    out[key] = item
                    continue
                if field.keep_empty:
                    out[key] = item
                if field.type[0] in ("list", "map") and item is None:
                    at = strict_path(f"{path}.{field.label}" if path else field.label)
                    report.empty.append(Empty(at, raw, out, key if field.always else ""))
        for key, zero in self.written:
            if key not in out or (out[key] is None):
                out[key] = zero()
        return out


def keep_reset(obj: Json, sent: Json) -> None:
    """No entries in metadata.managedFields is a request, unlike none at all: it stays in the written form."""
    metadata = sent.get("metadata")
    if type(metadata) is dict and metadata.get("managedFields") == []:
        obj["metadata"]["managedFields"] = []


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
        return "[]" + ("v1.JSON" if type_[1] == ["any"] else go_type(type_[1]))
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
    number = type_[0] in _INTEGERS and isinstance(value, int | float) and not isinstance(value, bool)
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
        return _time_converter(owner, micro=kind == "microtime")
    if kind == "bytes":
        return _bytes_converter(owner)
    if kind == "intorstring":
        return _int_or_string_converter(owner)
    special: dict[str, Convert] = {"quantity": _quantity, "any": _any}
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
    item = converter(type_[1], owner, item_named)
    zero = zero_of(["string"] if type_[1] == ["bytes"] else type_[1])  # no bytes in a map are written as ""
    plain, lists = type_[1] == ["string"], type_[1][0] == "list"

    def convert(value: Any, path: str, report: Report) -> Any:
        if not isinstance(value, dict):
            _mismatch(value, path, owner, type_, report, named)
            return None
        if plain and all(type(v) is str for v in value.values()):
            return value or None
        out = {k: zero() if v is None else item(v, f"{path}\x01{k}\x02", report) for k, v in value.items()}
        if lists:
            out = {k: [] if v is None and value[k] is not None else v for k, v in out.items()}
        return out or None

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
        report.end(str(err))
        return None


def _int_or_string_converter(owner: str) -> Convert:
    low, high = _INT_RANGE["int32"]

    def convert(value: Any, path: str, report: Report) -> Any:
        if isinstance(value, str) or (type(value) is int and low <= value <= high):
            return value
        report.end(mismatch_text(value, path, owner, ["int32"]), (value, ["intorstring"], ""))
        return None

    return convert


def _bytes_converter(owner: str) -> Convert:
    def convert(value: Any, path: str, report: Report) -> Any:
        if isinstance(value, list):
            return _from_numbers(value, path, owner, report)
        if not isinstance(value, str):
            _mismatch(value, path, owner, ["bytes"], report)
            return None
        text = value.replace("\r", "").replace("\n", "")
        if _BASE64(text):
            return text
        if not report.error:
            report.mismatch = (value, ["base64"], "")
        report.fail(f"illegal base64 data at input byte {_corrupt_at(value)}")
        return None

    return convert


def _from_numbers(value: list[Any], path: str, owner: str, report: Report) -> str:
    """Bytes may also come as an array of numbers."""
    found = bytearray()
    for item in value:
        if item is None:
            found.append(0)
        elif type(item) is int and 0 <= item < 256:
            found.append(item)
        else:
            _mismatch(item, path, owner, ["uint8"], report)
    return b64encode(found).decode()


def _corrupt_at(text: str) -> int:
    """The offset that Go's base64 decoder names."""
    bad = re.search(r"[^A-Za-z0-9+/\r\n]", text)
    if bad and bad.group() != "=":
        return bad.start()
    clean = text.rstrip("=")
    return len(clean) - len(clean) % 4 if not bad else bad.start()


def _time_converter(owner: str, *, micro: bool = False) -> Convert:
    as_is = _MICROS if micro else _SECONDS
    precision = "microseconds" if micro else "seconds"

    def convert(value: Any, path: str, report: Report) -> Any:
        if not isinstance(value, str):
            report.end(mismatch_text(value, path, owner, ["string"]), (value, ["time"], ""))
            return None
        try:
            moment = gotime.parse(value, micro=micro)
        except ValueError as err:
            report.end(str(err))
            return None
        if moment == datetime.min:
            return None  # Go's zero time
        return value if as_is(value) else f"{moment.isoformat(timespec=precision)}Z"

    return convert


_OWN_READERS: dict[str, Callable[[str], Convert]] = {
    "intorstring": _int_or_string_converter,
    "bytes": _bytes_converter,
    "time": _time_converter,
    "microtime": lambda owner: _time_converter(owner, micro=True),
}


# --- fields of a JSONSchemaProps that hold a schema or something else: they read themselves, without being strict

_SCHEMA: list[Any] = ["struct", "apiextensions.v1.JSONSchemaProps"]


def _schema(value: Any, path: str, report: Report) -> Any:
    """A schema; what is wrong in it is told as if it were of the field's own struct."""
    inner = Report()
    found = converter(_SCHEMA, "JSONSchemaProps")(value, path, inner)
    if inner.error:
        report.end(re.sub(r"Go struct field \w+\.", "Go struct field JSONSchemaProps.", inner.error))
    return found


def _schema_or_bool(value: Any, path: str, report: Report) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, dict):
        return _schema(value, path, report)
    report.end("boolean or JSON schema expected")
    return None


def _schema_or_schemas(value: Any, path: str, report: Report) -> Any:
    if isinstance(value, list):
        return [_schema(item, path, report) for item in value]
    return _schema(value, path, report) if isinstance(value, dict) else []


def _dependencies(value: Any, path: str, report: Report) -> Any:
    if not isinstance(value, dict):
        report.fail(mismatch_text(value, path, "JSONSchemaProps", ["map"], "v1.JSONSchemaDependencies"))
        return None
    return {key: _schema(item, path, report) if isinstance(item, dict) else item for key, item in value.items()}


_SCHEMA_OR: dict[str, Convert] = {
    "items": _schema_or_schemas,
    "additionalItems": _schema_or_bool,
    "additionalProperties": _schema_or_bool,
    "dependencies": _dependencies,
}
