"""Request bodies into objects: JSON, YAML or protobuf, unknown and repeated fields, wrong types, wrong kinds.

Source: k8s.io/apimachinery/pkg/runtime/serializer/{json,protobuf}; k8s.io/apiserver/pkg/endpoints/handlers (texts).
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any

import jiter

from apiserver import gojson, schemas
from apiserver.registry.base import ResourceDef
from apiserver.schemas import shape
from kubarium.machinery.errors import ApiError, BadRequest, RequestEntityTooLarge, UnsupportedMediaType

Json = dict[str, Any]

JSON_TYPES = ("application/json", "")
YAML_TYPES = ("application/yaml", "text/yaml", "application/x-yaml")
PROTOBUF_TYPE = "application/vnd.kubernetes.protobuf"
MAX_BODY_B = 3 * 1024 * 1024
MOST_FAULTS = 100  # unknown and repeated fields that are told. Source: sigs.k8s.io/json
MAX_YAML_VALUES = 500_000
MAX_YAML_DEPTH = 1000  # libyaml composes a document by recursion, and scans brackets in quadratic time
_BRACKETS = re.compile(rb"[\[\]{}]")
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]").search
_MEDIA_TEXT = "the body of the request was in an unknown format - accepted media types include: "
_NO_PROTOBUF_TEXT = f"{_MEDIA_TEXT}application/json, application/yaml"
SCHEME = 'in scheme "pkg/runtime/scheme.go:111"'
TYPE_META = 'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }'
_INTERNAL_NAMES = {"": "core", "discovery.k8s.io": "discovery", "networking.k8s.io": "networking"}


def decode(
    body: bytes,
    content_type: str,
    resource: ResourceDef,
    *,
    field_validation: str = "",
    empty: list[shape.Empty] | None = None,
) -> tuple[Json, list[str]]:
    """The object (the caller's own, in written form) and warnings for the client.

    `field_validation`: Strict refuses unknown and repeated fields, Warn (the default) warns, Ignore is silent. It says
    nothing about protobuf, where fields of newer releases are always skipped. `empty` gets the empty lists and maps of
    the body.
    Raises BadRequest, UnsupportedMediaType, RequestEntityTooLarge with upstream's texts.
    """
    if len(body) > MAX_BODY_B:
        raise RequestEntityTooLarge(f"Request entity too large: limit is {MAX_BODY_B}")
    media = content_type.partition(";")[0].strip().lower()
    if media == PROTOBUF_TYPE:
        if resource.custom is not None:
            raise UnsupportedMediaType(_NO_PROTOBUF_TEXT)
        return typed(_read_protobuf(body, resource), resource, field_validation="Ignore", body=body)
    if media in YAML_TYPES:
        value, duplicates = _read_yaml(body, resource)
    elif media in JSON_TYPES:
        value, duplicates = _read_json(body, resource)
    else:
        raise UnsupportedMediaType(f"{_NO_PROTOBUF_TEXT}, {PROTOBUF_TYPE}")
    return typed(value, resource, field_validation=field_validation, duplicates=duplicates, body=body, empty=empty)


def typed(
    value: Any,
    resource: ResourceDef,
    *,
    field_validation: str = "",
    duplicates: list[str] | None = None,
    body: bytes = b"",
    empty: list[shape.Empty] | None = None,
) -> tuple[Json, list[str]]:
    """Check a decoded value against the type that the resource has, and give it its written form."""
    if resource.custom is not None:
        return resource.custom.typed(value, field_validation, duplicates or [], body)
    value = {} if value is None else value
    kind, api_version = type_meta(value, resource, body)
    group, _, version = api_version.rpartition("/")
    about = f'{kind} in version "{version}" cannot be handled as a {resource.kind}: '
    if api_version.count("/") > 1:
        raise unrecognized(resource, f"unexpected GroupVersion string: {api_version}", body)
    name = "v1.List" if (api_version, kind) == ("v1", "List") else schemas.type_name(group, version, kind)
    if name is None:
        raise BadRequest(f'{about}no kind "{kind}" is registered for version "{api_version}" {SCHEME}')
    if (group, version, kind) != (resource.group, resource.version, resource.kind):
        if kind == resource.kind and (group == resource.group or kind == "Event"):
            expected = f"does not match the expected API version ({resource.api_version})"
            raise BadRequest(f"the API version in the data ({api_version}) {expected}")
        raise BadRequest(about + conversion_error(name, resource))
    report = shape.Report()
    obj = shape.struct(name).convert(value, "", report)
    if report.error:
        raise BadRequest(about + _as_written(report.error, name, body))
    obj["apiVersion"], obj["kind"] = api_version, kind
    if empty is not None:
        empty[:] = report.empty
    shape.keep_reset(obj, value)
    return obj, _judge(report.unknown, duplicates or [], field_validation, about)


class YamlLine(str):
    """A repeated key of a YAML document, as its decoder tells it: `line 8: key "a" already set in map`."""


def repeated(duplicates: Sequence[str], field_validation: str) -> list[str]:
    """What is said of repeated keys: paths of JSON, lines of YAML, whose decoder puts them into one error."""
    lines = [text for text in duplicates if isinstance(text, YamlLine)]
    if lines and field_validation == "Strict":
        return ["yaml: unmarshal errors:\n  " + "\n  ".join(lines)]
    return [*lines] or [f'duplicate field "{path}"' for path in duplicates]


def _as_written(error: str, name: str, body: bytes) -> str:
    """The error with its number as the body has it (1e3, 1.0), where that may be another text than ours."""
    if " number " not in error or not body.startswith(b"{"):
        return error
    report = shape.Report()
    shape.struct(name).convert(json.loads(body, parse_float=_Written), "", report)
    return report.error


class _Written(float):
    """A number that prints itself as it was written."""

    text: str

    def __new__(cls, text: str) -> _Written:
        made: _Written = super().__new__(cls, text)
        made.text = text
        return made

    def __format__(self, _: str) -> str:
        return self.text


def _judge(unknown: list[str], duplicates: list[str], field_validation: str, about: str) -> list[str]:
    """Warnings about unknown and repeated fields. Raises BadRequest where validation is strict."""
    found = [f'unknown field "{path}"' for path in unknown]
    again = repeated(duplicates, field_validation)
    found = [*again, *found] if duplicates and isinstance(duplicates[0], YamlLine) else [*found, *again]
    if not found or field_validation == "Ignore":
        return []
    del found[MOST_FAULTS:]
    if field_validation == "Strict":
        raise BadRequest(f"{about}strict decoding error: {', '.join(found)}")
    return found


def type_meta(value: Any, resource: ResourceDef, body: bytes) -> tuple[str, str]:
    """Kind and apiVersion; what the body leaves out is the resource's own."""
    if not isinstance(value, dict):
        text = f"json: cannot unmarshal {shape.json_kind(value)} into Go value of type {TYPE_META}"
        raise unrecognized(resource, f"couldn't get version/kind; json parse error: {text}", body)
    for field in ("apiVersion", "kind"):
        if not isinstance(value.get(field, ""), str | None):
            text = (
                f"json: cannot unmarshal {shape.json_kind(value[field])} into Go struct field .{field} of type string"
            )
            raise unrecognized(resource, f"couldn't get version/kind; json parse error: {text}", body)
    return value.get("kind") or resource.kind, value.get("apiVersion") or resource.api_version


def conversion_error(name: str, resource: ResourceDef) -> str:
    """Why an object of another type (`apps.v1.ReplicaSet`) is none of the resource's."""
    group = _INTERNAL_NAMES.get(resource.group, resource.group.partition(".")[0])
    source = ".".join(name.split(".")[-2:])
    return f"converting ({source}) to ({group}.{resource.kind}): unknown conversion"


def unrecognized(resource: ResourceDef, text: str, body: bytes) -> ApiError:
    message = f"the object provided is unrecognized (must be of type {resource.kind}): {text} ({_summary(body)})"
    return BadRequest(message)


def _summary(body: bytes, limit: int = 30) -> str:
    """What an error shows of a body: its beginning, as hexadecimal digits where it is not an object."""
    if not body:
        return "<empty>"
    start = body[:limit]
    text = start.decode("utf-8", "replace") if body[:1] == b"{" else start.hex()
    return f"{text} ..." if len(body) > limit else text


# --- JSON


def _read_json(body: bytes, resource: ResourceDef) -> tuple[Any, list[str]]:
    try:
        return read_json(body)
    except ValueError as err:
        text = f"couldn't get version/kind; json parse error: {err}"
        raise unrecognized(resource, text, body) from err


def read_json(body: bytes) -> tuple[Any, list[str]]:
    """A JSON value and the paths of repeated keys. Raises ValueError with the text of Go's scanner."""
    try:
        return jiter.from_json(body, catch_duplicate_keys=True, allow_inf_nan=False), []
    except ValueError as err:
        if "recursion limit" in str(err):
            raise ValueError(gojson.too_deep(body.decode("utf-8", "replace"))) from err
        text = body.decode("utf-8", "replace")
        if fault := gojson.syntax_error(text):
            raise ValueError(fault) from err
        value, duplicates = gojson.with_duplicates(text)
        return (_whole(value) if _SURROGATE(body) else value), duplicates


def _whole(value: Any) -> Any:
    """The value with a replacement character for each half of a surrogate pair, as Go's decoder gives it."""
    if isinstance(value, str):
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, list):
        return [_whole(item) for item in value]
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return value


# --- protobuf


def _read_protobuf(body: bytes, resource: ResourceDef) -> Json:
    """The object in its JSON form; no more than kind and apiVersion where they are not those of the resource."""
    from apiserver import protobuf

    try:
        envelope = protobuf.open_envelope(body)
    except protobuf.Malformed as err:
        raise unrecognized(resource, str(err), body) from err
    kind, api_version = envelope.kind or resource.kind, envelope.api_version or resource.api_version
    meta = {"apiVersion": api_version, "kind": kind}
    if meta != {"apiVersion": resource.api_version, "kind": resource.kind}:
        return meta
    name = schemas.type_name(resource.group, resource.version, kind)
    if name is None or not protobuf.knows(name):
        raise UnsupportedMediaType(_NO_PROTOBUF_TEXT)
    try:
        return protobuf.message(name, envelope.raw) | meta
    except protobuf.Malformed as err:
        about = f'{kind} in version "{resource.version}" cannot be handled as a {resource.kind}: '
        raise BadRequest(f"{about}{err}") from err


# --- YAML


def _read_yaml(body: bytes, resource: ResourceDef) -> tuple[Any, list[str]]:
    try:
        return read_yaml(body)
    except ValueError as err:
        raise unrecognized(resource, str(err), body) from err


def read_yaml(body: bytes) -> tuple[Any, list[str]]:
    """A YAML 1.1 document as the JSON it stands for, and the lines of repeated keys. Raises ValueError."""
    import yaml

    if body.lstrip()[:1] == b"{":  # JSON is YAML, and much faster to read; what is wrong with it is told as YAML
        with suppress(ValueError):
            value, duplicates = read_json(body)
            if not duplicates:
                return value, []
    if _nests_deeper(body, MAX_YAML_DEPTH):
        raise ValueError(f"yaml: exceeded max depth of {MAX_YAML_DEPTH}")
    reading = _Reading()
    try:
        loader = _loader()(body.decode("utf-8", "replace"))
        node = loader.get_node() if loader.check_node() else None  # of several documents the first
        return (None if node is None else _plain(node, "", reading)), reading.duplicates
    except yaml.YAMLError as err:
        raise ValueError(f"yaml: {_yaml_text(err)}") from err
    except RecursionError as err:
        raise ValueError("yaml: exceeded max depth") from err


def _nests_deeper(body: bytes, limit: int) -> bool:
    """Whether brackets, or entries on one line (`- - -`), are nested deeper; brackets in quotes count too."""
    if re.search(rb"(?:[-?:][ \t]+){%d}" % limit, body):
        return True
    depth = 0
    for bracket in _BRACKETS.finditer(body):
        depth += 1 if bracket.group() in b"[{" else -1
        if depth > limit:
            return True
    return False


class _Reading:
    """Repeated keys, and how many values the document has unfolded to: aliases can make few bytes into very many."""

    def __init__(self) -> None:
        self.duplicates: list[str] = []
        self.values = 0

    def count(self) -> None:
        self.values += 1
        if self.values > MAX_YAML_VALUES:
            raise ValueError("yaml: document contains excessive aliasing")


def _yaml_text(err: Any) -> str:
    """What goes wrong while scanning is told of the line behind, unless that would be the first."""
    import yaml

    mark, context = getattr(err, "problem_mark", None), getattr(err, "context_mark", None)
    line = mark.line if mark else 0
    if line and isinstance(err, yaml.scanner.ScannerError):
        line += 1
    line = line or (context.line if context else 0)
    return f"{f'line {line}: ' if line else ''}{getattr(err, 'problem', None) or err}"


@cache
def _loader() -> Any:
    """The resolver rules of Go's YAML library: y and n are booleans, no sexagesimal numbers, no timestamps."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    class Loader(base):  # type: ignore[misc]
        yaml_implicit_resolvers: dict[str, list[tuple[str, Any]]] = {}  # noqa: RUF012

    rules = (
        (
            "bool",
            r"(?:y|Y|yes|Yes|YES|on|On|ON|true|True|TRUE|n|N|no|No|NO|off|Off|OFF|false|False|FALSE)",
            "yYnNtTfFoO",
        ),
        ("int", r"[-+]?(?:0b[01_]+|0x[0-9a-fA-F_]+|0o?[0-7_]+|0|[1-9][0-9_]*)", "-+0123456789"),
        ("float", r"[-+]?(?:\.[0-9]+|[0-9][0-9_]*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
        ("float", r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))", "-+."),
        ("null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
        ("merge", r"(?:<<)", "<"),
    )
    for tag, pattern, first in rules:
        Loader.add_implicit_resolver(f"tag:yaml.org,2002:{tag}", re.compile(f"{pattern}$"), list(first))
    return Loader


def _plain(node: Any, path: str, reading: _Reading) -> Any:
    reading.count()
    tag = node.tag.rpartition(":")[2]
    if node.id == "mapping":
        return _mapping(node, path, reading)
    if node.id == "sequence":
        return [_plain(item, f"{path}[{i}]", reading) for i, item in enumerate(node.value)]
    return _scalar(tag, node.value)


def _scalar(tag: str, text: str) -> Any:
    if tag == "null":
        return None
    if tag == "bool":
        return text.lower() in ("y", "yes", "on", "true")
    if tag == "int":
        return _integer(text.replace("_", ""))
    if tag == "float":
        if text.lower().lstrip("+-") in (".inf", ".nan"):
            raise ValueError(f"json: unsupported value: {text}")
        return float(text.replace("_", ""))
    return text


def _integer(text: str) -> int:
    sign, digits = (-1, text[1:]) if text[:1] == "-" else (1, text.lstrip("+"))
    if digits[:2] in ("0x", "0b", "0o"):
        return sign * int(digits, 0)
    return sign * int(digits, 8 if len(digits) > 1 and digits[0] == "0" else 10)


def _mapping(node: Any, path: str, reading: _Reading) -> Json:
    out: Json = {}
    merged: Json = {}
    for key_node, value_node in node.value:
        inner = f"{path}.{key_node.value}" if path else str(key_node.value)
        if key_node.tag.endswith(":merge"):
            sources = value_node.value if value_node.id == "sequence" else [value_node]
            for source in sources:
                merged = _plain(source, path, reading) | merged
            continue
        if key_node.id != "scalar":
            raise ValueError("yaml: invalid map key")
        key = _key(_scalar(key_node.tag.rpartition(":")[2], key_node.value))
        if key in out:
            line = key_node.start_mark.line + 1
            reading.duplicates.append(YamlLine(f'line {line}: key "{key_node.value}" already set in map'))
        out[key] = _plain(value_node, inner, reading)
    return merged | out


def _key(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
