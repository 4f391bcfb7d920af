"""The body of a DELETE: DeleteOptions of meta/v1 as JSON, YAML or protobuf, with upstream's texts. Pure."""

from __future__ import annotations

from typing import Any

from apiserver import decode
from apiserver.schemas import shape
from kubarium.machinery.errors import BadRequest

KIND = "DeleteOptions"
TYPE = "meta.v1.DeleteOptions"


def read(body: bytes, media_type: str) -> dict[str, Any]:
    """The options in their JSON form; unknown fields are left out. Raises BadRequest."""
    try:
        if media_type == decode.PROTOBUF_TYPE:
            value = _protobuf(body)
        else:
            value = _yaml(body) if media_type in decode.YAML_TYPES else _json(body)
    except ValueError as err:
        raise BadRequest(str(err)) from err
    kind, version = value.get("kind") or KIND, value.get("apiVersion") or "meta.k8s.io/v1"
    if kind != KIND:
        raise BadRequest(f'no kind "{kind}" is registered for version "{version}" {decode.SCHEME}')
    report = shape.Report()
    options = shape.struct(TYPE).convert(value, "", report)
    if report.error:
        raise BadRequest(report.error)
    return options


def _json(body: bytes) -> dict[str, Any]:
    try:
        return _object(decode.read_json(body)[0])
    except ValueError as err:
        raise ValueError(f"couldn't get version/kind; json parse error: {err}") from err


def _yaml(body: bytes) -> dict[str, Any]:
    value = decode.read_yaml(body)[0]
    try:
        return _object(value)
    except ValueError as err:
        raise ValueError(f"couldn't get version/kind; json parse error: {err}") from err


def _object(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ValueError(f"json: cannot unmarshal {shape.json_kind(value)} into Go value of type {decode.TYPE_META}")
    for field in ("apiVersion", "kind"):
        if not isinstance(value.get(field, ""), str | None):
            found = shape.json_kind(value[field])
            raise ValueError(f"json: cannot unmarshal {found} into Go struct field .{field} of type string")
    return value


def _protobuf(body: bytes) -> dict[str, Any]:
    """Raises ValueError."""
    from apiserver import protobuf

    envelope = protobuf.open_envelope(body)
    if (envelope.kind or KIND) != KIND:
        return {"kind": envelope.kind}
    return protobuf.message(TYPE, envelope.raw)
