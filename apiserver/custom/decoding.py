"""Bodies and patched values as objects of a custom kind: type, metadata, pruning, nulls, defaults.

Source: k8s.io/apiextensions-apiserver pkg/apiserver/customresource_handler.go (order and texts).
"""

from __future__ import annotations

from typing import Any

import orjson

from apiserver.custom import defaulting, embedded, lists, pruning
from apiserver.custom.structural import Node
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from kubarium.machinery.errors import Invalid, StatusCause

_INT64 = 1 << 63


class BadObject(ValueError):
    """What cannot be read as an object of the kind."""


def as_text(value: Object) -> str:
    """An object as one line of JSON, keys sorted."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def missing_kind(value: Object) -> str:
    """Upstream's text for an object without a kind; it shows all of the object."""
    return f"Object 'Kind' is missing in '{as_text(value)}'"


def check_type(obj: Object, group: str, version: str, kind: str) -> None:
    """Raises Invalid where the object is of another kind or version."""
    causes = []
    found, api_version = obj.get("kind") or "", obj.get("apiVersion") or ""
    if found != kind:
        causes.append(StatusCause("FieldValueInvalid", f'Invalid value: "{found}": must be {kind}', "kind"))
    if api_version != f"{group}/{version}":
        text = f'Invalid value: "{api_version}": must be {group}/{version}'
        causes.append(StatusCause("FieldValueInvalid", text, "apiVersion"))
    if causes:
        metadata = obj.get("metadata")
        name = metadata.get("name", "") if isinstance(metadata, dict) else ""
        own_group = api_version.rpartition("/")[0]
        raise Invalid.of(own_group, found, str(name or ""), causes)


def coerced(obj: Object, node: Node, *, lenient: bool = False, defaults: bool = True) -> list[str]:
    """Bring an object into written form, in place: metadata typed, unknown fields gone, defaults filled in.

    Returns the paths of unknown fields in upstream's order. Raises BadObject.
    """
    unknown: list[str] = []
    try:
        if "metadata" in obj:
            obj["metadata"] = embedded.read_metadata(obj["metadata"], "metadata", unknown, lenient=lenient)
        metadata = obj.get("metadata")
        unknown += pruning.prune(obj, node)
        if defaults:
            pruning.drop_nulls(obj, node)
        found: list[str] = []
        embedded.coerce(obj, node, "", found, lenient=lenient)
        unknown += sorted(found)
    except (embedded.BadMetadata, embedded.BadEmbedded) as err:
        raise BadObject(str(err)) from err
    if metadata is not None:
        obj["metadata"] = metadata
    if defaults:
        defaulting.fill(obj, node)
    return unknown


def whole_numbers(value: Any) -> Any:
    """Numbers as Go keeps them: 2.0 is 2, and what does not fit into 64 bits is a float."""
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = whole_numbers(item)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            value[i] = whole_numbers(item)
    elif isinstance(value, float):
        if value.is_integer() and abs(value) < 1 << 53:
            return int(value)
    elif isinstance(value, int) and not isinstance(value, bool) and not -_INT64 <= value < _INT64:
        return float(value)
    return value


def check_object(obj: Object, node: Node, faults: Faults) -> None:
    """Embedded objects and lists with keys, of a whole object."""
    embedded.check(obj, node, "", faults)
    lists.check_lists(obj, node, "", faults)
