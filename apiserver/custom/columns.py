"""Printer columns of custom kinds.

Source: Kubernetes documentation, "Additional printer columns"; k8s.io/apiextensions-apiserver
pkg/registry/customresource/tableconvertor.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any

from apiserver.custom import jsonpath
from apiserver.registry.base import Column, Object
from apiserver.registry.cells import NAME, UNKNOWN, human_duration

DEFAULT = (
    {
        "name": "Age",
        "type": "date",
        "description": "@ObjectMeta.creationTimestamp",
        "jsonPath": ".metadata.creationTimestamp",
    },
)


def columns(wanted: Iterable[Object]) -> tuple[Column, ...]:
    """The columns of a version; without any there is the age."""
    return (NAME, *(_column(one) for one in list(wanted) or DEFAULT))


def _column(wanted: Object) -> Column:
    path = wanted["jsonPath"]
    text = wanted.get("description") or f"Custom resource definition column (in JSONPath format): {path}"
    return Column(
        wanted["name"],
        wanted["type"],
        text,
        _cell(path, wanted["type"]),
        wanted.get("format") or "",
        wanted.get("priority") or 0,
    )


def _cell(path: str, type_: str) -> Callable[[Object, float], Any]:
    try:
        find = jsonpath.parse(path)
    except jsonpath.BadPath:
        return lambda _obj, _now: None

    def cell(obj: Object, now: float) -> Any:
        found = find(obj)
        return shown(found[0], type_, now) if found else None

    return cell


def shown(value: Any, type_: str, now: float) -> Any:
    """A value in a cell; None where it is not of the column's type. `now` in seconds since the epoch."""
    if type_ == "string":
        return jsonpath.printed(value)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    match type_:
        case "integer":
            return int(value) if number else None
        case "number":
            return value if number else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case "date":
            return _age(value, now) if isinstance(value, str) else None
    return None


def _age(text: str, now: float) -> str:
    if not text:
        return UNKNOWN
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return "<invalid>"
    return "<invalid>" if moment.tzinfo is None else human_duration(now - moment.timestamp())
