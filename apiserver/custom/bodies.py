"""Objects of a custom kind out of request bodies, patches and applied configurations, with upstream's texts.

Source: k8s.io/apiextensions-apiserver pkg/apiserver; k8s.io/apiserver/pkg/endpoints/handlers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from apiserver import replies
from apiserver.custom import decoding
from apiserver.registry.base import Object
from kubarium.machinery.errors import BadRequest, Invalid, StatusCause

if TYPE_CHECKING:
    from apiserver.custom.kinds import CustomKind


def typed(
    kind: CustomKind, value: Any, field_validation: str, duplicates: list[str], body: bytes
) -> tuple[Object, list[str]]:
    """A body as an object in written form, and warnings. Raises BadRequest, Invalid."""
    from apiserver import decode

    resource = kind.about
    decode.type_meta(value, resource, body)
    if not value.get("kind"):
        raise decode.unrecognized(resource, decoding.missing_kind(value), body)
    if (value.get("apiVersion") or "") != resource.api_version:
        text = f"the API version in the data ({value.get('apiVersion') or ''}) does not match the expected API version"
        raise BadRequest(f"{text} ({resource.api_version})")
    about = f'{value["kind"]} in version "{resource.version}" cannot be handled as a {resource.kind}: '
    try:
        unknown = kind.coerced(value)
    except decoding.BadObject as err:
        raise BadRequest(f"{about}{err}") from err
    warnings, strict = judged(unknown, duplicates, field_validation)
    if strict:
        raise BadRequest(about + strict)
    return value, warnings


def judged(unknown: list[str], duplicates: list[str], field_validation: str) -> tuple[list[str], str]:
    """Warnings about unknown and repeated fields, or the error where validation is strict."""
    from apiserver import decode

    found = decode.repeated(duplicates, field_validation) + [f'unknown field "{path}"' for path in unknown]
    if not found or field_validation == "Ignore":
        return [], ""
    if field_validation == "Strict":
        return [], f"strict decoding error: {', '.join(found)}"
    return found, ""


def patched(kind: CustomKind, value: Object, field_validation: str, duplicates: list[str]) -> tuple[Object, list[str]]:
    """A patched object in written form, and warnings. What is wrong with it is laid to the patch. Raises Invalid."""
    shown = decoding.as_text(value)
    if not value.get("kind"):
        raise refused(shown, decoding.missing_kind(value))
    try:
        unknown = kind.coerced(value)
    except decoding.BadObject as err:
        raise refused(shown, str(err)) from err
    warnings, strict = judged(unknown, duplicates, field_validation)
    if strict:
        raise refused(shown, strict)
    return value, warnings


def refused(shown: str, fault: str) -> Invalid:
    """`shown` is the patched object as JSON."""
    from apiserver.registry.faults import quoted

    cause = StatusCause("FieldValueInvalid", f"Invalid value: {quoted(shown)}: {fault}", "patch")
    return Invalid(f' "" is invalid: patch: {cause.message}', details={"causes": [cause.to_dict()]})


def applied(kind: CustomKind, value: Object) -> Object:
    """What server-side apply has merged, in written form."""
    try:
        kind.coerced(value)
    except decoding.BadObject as err:
        raise replies.unnamed_error(f"failed to convert merged object to last applied version: {err}") from err
    return value
