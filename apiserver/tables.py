"""Objects as Tables (what kubectl get prints) and as bare metadata.

Source: API concepts, "Receiving resources as Tables"; k8s.io/apiserver/pkg/endpoints/handlers/response.go.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import msgspec
import orjson

from apiserver import schemas
from apiserver.registry.base import Column, Object, ResourceDef


def render_table(
    resource: ResourceDef,
    items: Iterable[Object],
    meta: Object,
    *,
    version: str = "v1",
    include: str = "Metadata",
    now: float | None = None,
    unfinished: bool = False,
    columns: bool = True,
) -> bytes:
    """A Table of meta.k8s.io, one row an object. `include` tells what of the object stands in its row: None, Metadata
    or Object; `meta` is the list's metadata; `now` is the time that ages are counted to, in seconds since the epoch.

    `columns` False: whoever reads it knows the columns already.
    `unfinished`: more rows will be put into it. Without rows a Table of the usual two columns has null in their place.
    """
    api_version, moment = f"meta.k8s.io/{version}", time.time() if now is None else now
    if resource.row_order is not None:
        items = sorted(items, key=resource.row_order)
    table: Object = {
        "kind": "Table",
        "apiVersion": api_version,
        "metadata": meta,
        "columnDefinitions": _definitions(resource) if columns else None,
        "rows": [_row(resource, obj, api_version, include or "Metadata", moment) for obj in items],
    }
    if not table["rows"] and not unfinished and is_usual(resource):
        table["rows"] = None
    return orjson.dumps(table)


def is_usual(resource: ResourceDef) -> bool:
    """Whether a kind of the API's own has no columns but name and age, in the form that a kind gets without a table."""
    return len(resource.columns) == 2 and resource.columns[1].name == "Created At" and resource.custom is None


@lru_cache(maxsize=256)
def _definitions_of(columns: tuple[Column, ...]) -> orjson.Fragment:
    return orjson.Fragment(
        orjson.dumps(
            [
                {
                    "name": c.name,
                    "type": c.type,
                    "format": c.format,
                    "description": _description(c),
                    "priority": c.priority,
                }
                for c in columns
            ]
        )
    )


def _definitions(resource: ResourceDef) -> orjson.Fragment:
    return _definitions_of(resource.columns)


def _description(column: Column) -> str:
    """The column's text; `@Type.field` stands for the text of that field in the API's documents.

    Types have their short names where that is enough, else their full names there.
    """
    if not column.description.startswith("@"):
        return column.description
    kind, _, field = column.description[1:].rpartition(".")
    documents = schemas.documents()
    if kind in documents:
        return str(documents[kind]["properties"].get(field, {}).get("description", ""))
    names = (name for name in documents if name.endswith(f".v1.{kind}"))
    for name in sorted(names, key=lambda n: (".core." not in n, n)):
        if found := documents[name].get("properties", {}).get(field):
            return str(found.get("description", ""))
    return ""


def _row(resource: ResourceDef, obj: Object, api_version: str, include: str, now: float) -> Object:
    row: Object = {"cells": [column.cell(obj, now) for column in resource.columns]}
    if conditions := resource.row_conditions(obj):
        row["conditions"] = conditions
    if include == "None":
        row["object"] = None
    elif include == "Metadata":
        row["object"] = _partial(resource.row_object(obj), api_version)
    elif include == "Object":
        row["object"] = obj
    return row


def _partial(obj: Object, api_version: str) -> Object:
    return {"kind": "PartialObjectMetadata", "apiVersion": api_version, "metadata": obj.get("metadata") or {}}


def render_rows(
    resource: ResourceDef, items: Iterable[Object], *, version: str = "v1", include: str = "Metadata"
) -> bytes:
    """The rows of a Table, one an object, without the brackets round them."""
    api_version, moment = f"meta.k8s.io/{version}", time.time()
    return orjson.dumps([_row(resource, obj, api_version, include or "Metadata", moment) for obj in items])[1:-1]


class _Bare(msgspec.Struct):
    metadata: msgspec.Raw = msgspec.Raw(b"{}")


_metadata_of = msgspec.json.Decoder(_Bare).decode


def metadata_of_bytes(data: bytes, *, version: str = "v1") -> bytes:
    """A PartialObjectMetadata out of an object's JSON, which is not decoded for it."""
    head = b'{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/%b","metadata":' % version.encode()
    return head + bytes(_metadata_of(data).metadata) + b"}"


def render_metadata(obj: Object, *, version: str = "v1") -> bytes:
    """A PartialObjectMetadata."""
    return orjson.dumps(_partial(obj, f"meta.k8s.io/{version}"))


def render_metadata_list(items: Iterable[Object], meta: Object, *, version: str = "v1") -> bytes:
    """A PartialObjectMetadataList. Its items say their kind, other than those of ordinary lists."""
    api_version = f"meta.k8s.io/{version}"
    found: dict[str, Any] = {"kind": "PartialObjectMetadataList", "apiVersion": api_version, "metadata": meta}
    return orjson.dumps(found | {"items": [_partial(obj, api_version) for obj in items]})
