"""Messages that JSON does not show as objects: times, quantities, numbers or strings, embedded documents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from apiserver.protobuf.wire import Malformed

Json = dict[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_ZERO = datetime(1, 1, 1, tzinfo=UTC)  # Go's zero time, which JSON shows as null


def _moment(message: Json) -> datetime | None:
    """A time to the microsecond; None for none. Raises Malformed for one that RFC 3339 has no form for."""
    if not message:
        return None
    try:
        seconds, nanos = message.get("seconds", 0), message.get("nanos", 0)
        moment = _EPOCH + timedelta(seconds=seconds, microseconds=int(nanos / 1000))
    except OverflowError as err:
        raise Malformed(f"Timestamp: {message} is not between the years 1 and 9999") from err
    return None if moment == _ZERO else moment


def _time(message: Json) -> str | None:
    """Whole seconds: JSON has no more, and what only some clients could read is not kept."""
    moment = _moment(message | {"nanos": 0} if message else message)
    return None if moment is None else f"{moment.replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def _micro_time(message: Json) -> str | None:
    moment = _moment(message)
    return None if moment is None else f"{moment.replace(tzinfo=None).isoformat(timespec='microseconds')}Z"


def _quantity(message: Json) -> str:
    return message.get("string") or "0"


def _int_or_string(message: Json) -> int | str:
    found: int | str = message.get("strVal", "") if message.get("type") == 1 else message.get("intVal", 0)
    return found


def _items(message: Json) -> list[str]:
    found: list[str] = message.get("items", [])
    return found


def _document(message: Json) -> Any:
    return message.get("raw", message.get("Raw"))


def _schema_or_bool(message: Json) -> Any:
    return message.get("schema", message.get("allows", False))


def _schema_or_list(message: Json) -> Any:
    return message.get("jSONSchemas") or message.get("schema")


def _schema_or_strings(message: Json) -> Any:
    return message.get("property") or message.get("schema")


SPECIAL: Mapping[str, Callable[[Json], Any]] = {
    "api.resource.Quantity": _quantity,
    "apiextensions.v1.JSON": _document,
    "apiextensions.v1.JSONSchemaPropsOrArray": _schema_or_list,
    "apiextensions.v1.JSONSchemaPropsOrBool": _schema_or_bool,
    "apiextensions.v1.JSONSchemaPropsOrStringArray": _schema_or_strings,
    "authentication.v1.ExtraValue": _items,
    "authorization.v1.ExtraValue": _items,
    "certificates.v1.ExtraValue": _items,
    "meta.v1.FieldsV1": _document,
    "meta.v1.MicroTime": _micro_time,
    "meta.v1.Time": _time,
    "meta.v1.Verbs": _items,
    "pkg.runtime.RawExtension": _document,
    "util.intstr.IntOrString": _int_or_string,
}
"""Message -> from its fields to its value in JSON, None where that is null."""
