"""PATCH: JSON, merge and strategic merge patches, from the stored object and the body to the new object.

The fourth media type, server-side apply, is in `apiserver.fieldmanager`.

Source: k8s.io/apiserver/pkg/endpoints/handlers/patch.go (texts).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import orjson

from apiserver import decode, jsonpatch, patchtext, schemas, strategic
from apiserver.registry.base import Object, ResourceDef
from apiserver.schemas import shape
from kubarium.machinery.errors import (
    ApiError,
    BadRequest,
    Invalid,
    RequestEntityTooLarge,
    StatusCause,
    UnsupportedMediaType,
)

JSON, MERGE = "application/json-patch+json", "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
_KINDS = {"string": "string", "bool": "bool", "int32": "int32", "int64": "int64", "float": "float64"}
_ACCEPTED = (JSON, MERGE, STRATEGIC, "application/apply-patch+yaml")


class RejectedPatch(Invalid):
    """422 of a patch that does not fit the object: upstream says no more than this."""

    def __init__(self) -> None:
        super().__init__("the server rejected our request due to an error in our request")

    def to_status(self) -> dict[str, Any]:
        status = super().to_status()
        code = status.pop("code")
        return status | {"details": {}, "code": code}


def apply_patch(
    content_type: str, original: Object, patch: bytes, resource: ResourceDef, *, field_validation: str = ""
) -> tuple[Object, list[str]]:
    """The patched object in written form (the original stays as it is), and warnings for the client.

    Raises UnsupportedMediaType, BadRequest (no such patch), Invalid (it does not fit), RequestEntityTooLarge.
    """
    if len(patch) > decode.MAX_BODY_B:
        raise RequestEntityTooLarge(f"Request entity too large: limit is {decode.MAX_BODY_B}")
    media = content_type.partition(";")[0].strip().lower()
    if media == JSON:
        operations = _operations(patch)
        value = _apply_json(original, operations)
        return _as_object(value, lambda name: patchtext.patched(original, operations, name), resource, field_validation)
    if media == MERGE:
        value, duplicates = _read(patch, "error decoding patch: ")
        if value is None:
            raise BadRequest("Invalid JSON Patch")
        if not isinstance(value, dict):
            raise BadRequest("error decoding patch: " + _not_a_map(value))
        return _as_object(
            jsonpatch.merge(original, value),
            lambda name: patchtext.merged(original, value, name),
            resource,
            field_validation,
            duplicates,
        )
    if media == STRATEGIC and resource.custom is None:
        return _apply_strategic(original, patch, resource, field_validation)
    text = "the body of the request was in an unknown format - accepted media types include: "
    accepted = (media_type for media_type in _ACCEPTED if media_type != STRATEGIC or resource.custom is None)
    raise UnsupportedMediaType(text + ", ".join(accepted))


def _read(patch: bytes, about: str) -> tuple[Any, list[str]]:
    try:
        return decode.read_json(patch)
    except ValueError as err:
        raise BadRequest(f"{about}{err}") from err


def _not_a_map(value: Any) -> str:
    return f"json: cannot unmarshal {shape.json_kind(value)} into Go value of type map[string]interface {{}}"


def _operations(patch: bytes) -> list[dict[str, Any]]:
    operations, _ = _read(patch, "error decoding patch: ")
    if operations is None:
        return []
    if not isinstance(operations, list):
        text = f"json: cannot unmarshal {shape.json_kind(operations)} into Go value of type []handlers.jsonPatchOp"
        raise BadRequest(f"error decoding patch: {text}")
    if len(operations) > jsonpatch.MAX_OPERATIONS:
        limit = jsonpatch.MAX_OPERATIONS
        text = f"The allowed maximum operations in a JSON patch is {limit}, got {len(operations)}"
        raise RequestEntityTooLarge(text)
    for operation in operations:
        if not isinstance(operation, dict):
            text = f"json: cannot unmarshal {shape.json_kind(operation)} into Go value of type handlers.jsonPatchOp"
            raise BadRequest(f"error decoding patch: {text}")
    return operations


def _apply_json(original: Object, operations: list[dict[str, Any]]) -> Any:
    try:
        return jsonpatch.apply(original, operations)
    except jsonpatch.JsonPatchError as err:
        raise RejectedPatch from err


def _refused(shown: str, fault: str) -> Invalid:
    cause = StatusCause("FieldValueInvalid", f"Invalid value: {_quoted(shown)}: {fault}", "patch")
    return Invalid(f' "" is invalid: patch: {cause.message}', details={"causes": [cause.to_dict()]})


def _quoted(text: str) -> str:
    """A string as Go's %q prints it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'


def _as_object(
    value: Any,
    shown: Callable[[str], str],
    resource: ResourceDef,
    field_validation: str,
    duplicates: Sequence[str] = (),
    *,
    maps: bool = False,
) -> tuple[Object, list[str]]:
    """The patched value as an object of its type; `shown` gives what an error quotes, from the type's name."""
    if not isinstance(value, dict):
        raise RejectedPatch
    if resource.custom is not None:
        return resource.custom.patched(value, field_validation, list(duplicates))
    report = shape.Report()
    name = schemas.type_name(resource.group, resource.version, resource.kind)
    assert name is not None  # the registry has only kinds that the definitions have
    if not maps and (fault := _type_fault(value, resource)):
        raise _refused(shown(name), fault)
    obj = shape.struct(name).convert(value, "", report)
    if report.error:
        raise _refused(shown(name), restore_error(report) if maps else report.error)
    obj["apiVersion"], obj["kind"] = resource.api_version, resource.kind
    shape.keep_reset(obj, value)
    found = [f'unknown field "{path}"' for path in _in_order(report.unknown, shown, name, maps=maps)]
    found += [f'duplicate field "{path}"' for path in duplicates]
    if not found or field_validation == "Ignore":
        return obj, []
    if field_validation == "Strict":
        raise _refused(shown(name), f"strict decoding error: {', '.join(found)}")
    return obj, found


def _in_order(unknown: list[str], shown: Callable[[str], str], name: str, *, maps: bool) -> list[str]:
    """Unknown fields in the order of the document that upstream decodes; its converter of maps sorts what it found."""
    if maps:
        return sorted(unknown)
    if len(unknown) < 2:
        return unknown
    report = shape.Report()
    shape.struct(name).convert(orjson.loads(shown(name)), "", report)
    return report.unknown


def _type_fault(value: Object, resource: ResourceDef) -> str:
    """Why a patch cannot make another kind of the object; "" where it does not try."""
    found = {"apiVersion": value.get("apiVersion"), "kind": value.get("kind")}
    for field, text in found.items():
        if not isinstance(text, str | None):
            fault = f"json: cannot unmarshal {shape.json_kind(text)} into Go struct field .{field} of type string"
            return f"couldn't get version/kind; json parse error: {fault}"
    kind, api_version = found["kind"] or resource.kind, found["apiVersion"] or resource.api_version
    if (kind, api_version) == (resource.kind, resource.api_version):
        return ""
    if api_version.count("/") > 1:
        return f"unexpected GroupVersion string: {api_version}"
    group, _, version = api_version.rpartition("/")
    name = schemas.type_name(group, version, kind)
    if name is None:
        return f'no kind "{kind}" is registered for version "{api_version}" {decode.SCHEME}'
    return decode.conversion_error(name, resource)


def restore_error(report: shape.Report) -> str:
    """A type error in the words of the converter that strategic merge patches go through."""
    if report.mismatch is None:
        return report.error
    value, type_, named = report.mismatch
    if type_[0] == "base64":
        return f"error decoding from json: {report.error}"
    if type_[0] in ("time", "intorstring"):  # these read themselves
        return shape.mismatch_text(value, "", "", ["int32" if type_[0] == "intorstring" else "string"])
    names = {"list": "slice", "bytes": "slice", "map": "map", "struct": "struct"}
    found = {"object": "map", "array": "slice", "number": "int64" if isinstance(value, int) else "float64"}
    kind = found.get(shape.json_kind(value), shape.json_kind(value))
    if type_[0] == "struct":
        return f"cannot restore struct from: {kind}"
    if type_[0] in names:
        return f"cannot restore {names[type_[0]]} from {kind}"
    if type_[0] not in _KINDS:
        return report.error
    # Go itself would make a character of an integer, and an integer of any number.
    if (kind, type_[0]) in (("int64", "string"), ("float64", "int32"), ("float64", "int64")):
        return f"cannot convert {kind} to {shape.go_type(type_, named)}"
    return f"unrecognized type: {_KINDS[type_[0]]}"


def _apply_strategic(
    original: Object, patch: bytes, resource: ResourceDef, field_validation: str
) -> tuple[Object, list[str]]:
    value, duplicates = _read(patch, "")
    if value is None:
        value = {}
    if not isinstance(value, dict):
        raise BadRequest(_not_a_map(value))
    name = schemas.type_name(resource.group, resource.version, resource.kind)
    assert name is not None
    try:
        merged = strategic.merge(original, value, name)
    except strategic.PatchError as err:
        if err.bad_format:
            raise BadRequest(str(err)) from err
        raise ApiError(str(err), code=500, reason="") from err
    return _as_object(merged, lambda _: strategic.go_text(value), resource, field_validation, duplicates, maps=True)
