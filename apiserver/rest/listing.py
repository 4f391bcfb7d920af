"""Many objects on the wire: lists in pieces, watch events as lines; as they are, as Tables, as metadata.

What is made of an event is made once for all watchers who want the same; a list is made while it is sent, so that it
neither holds up others nor stands in memory as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import orjson

from apiserver import codec, tables
from apiserver.registry.base import ResourceDef
from apiserver.request import Listed
from apiserver.rest import query as queries
from apiserver.rest.negotiation import Accepted, Shape
from apiserver.watchcache import Batch, Entry, Event
from kubarium.machinery.errors import BadRequest

AT_ONCE: Final = 256  # objects in a piece of a list
AT_ONCE_DECODED: Final = 64  # the same, where each has to be decoded


def list_meta(listed: Listed) -> dict[str, object]:
    meta: dict[str, object] = {"resourceVersion": str(listed.revision)} if listed.revision else {}
    if listed.continue_token:
        meta["continue"] = listed.continue_token
        if listed.remaining:
            meta["remainingItemCount"] = listed.remaining
    return meta


def include_of(query: queries.Query) -> str:
    """What of the object stands in a Table's row: None, Metadata (the default) or Object. Raises BadRequest."""
    text = queries.first(query, "includeObject") if query else ""
    if text not in ("", "None", "Metadata", "Object"):
        allowed = "must be 'Metadata', 'Object', 'None', or empty"
        raise BadRequest(f'Unable to convert to Table as requested: includeObject: Invalid value: "{text}": {allowed}')
    return text or "Metadata"


def list_pieces(resource: ResourceDef, listed: Listed, shape: Accepted, include: str) -> Iterator[bytes]:
    """A list in pieces that make one JSON document."""
    if shape.shape is Shape.WHOLE:
        return _whole(resource, listed)
    if shape.shape is Shape.TABLE:
        return _table(resource, listed, shape.version, include)
    return _metadata(listed, shape.version)


def _whole(resource: ResourceDef, listed: Listed) -> Iterator[bytes]:
    """Items of a list do not repeat kind and apiVersion, which stand first in each; those of custom kinds do."""
    kind = resource.list_kind or f"{resource.kind}List"
    meta = list_meta(listed)
    if resource.custom is not None:
        meta = {"continue": "", **meta}
    head = {"kind": kind, "apiVersion": resource.api_version, "metadata": meta}
    start = orjson.dumps(head)[:-1] + b',"items":['
    common = orjson.dumps({"kind": resource.kind, "apiVersion": resource.api_version})[:-1] + b","
    skip, separator = len(common), b",{"

    if resource.custom is not None:
        skip = 1

    def item(entry: Entry) -> bytes:
        data = entry.data
        return data[skip:] if data.startswith(common) else data[1:]

    entries = listed.entries
    for at in range(0, len(entries), AT_ONCE):
        # each item's brace stands in what joins it to the one before
        yield start + b"{" + separator.join([item(entry) for entry in entries[at : at + AT_ONCE]])
        start = b","
    yield b"]}\n" if entries else start + b"]}\n"


def _table(resource: ResourceDef, listed: Listed, version: str, include: str) -> Iterator[bytes]:
    entries, meta = listed.entries, list_meta(listed)
    if len(entries) <= AT_ONCE_DECODED or resource.row_order is not None:
        items = [codec.decode(entry.data) for entry in entries]
        yield tables.render_table(resource, items, meta, version=version, include=include)
        return
    start = tables.render_table(resource, [], meta, version=version, unfinished=True)[:-2]  # up to the rows' bracket
    for at in range(0, len(entries), AT_ONCE_DECODED):
        items = [codec.decode(entry.data) for entry in entries[at : at + AT_ONCE_DECODED]]
        yield start + tables.render_rows(resource, items, version=version, include=include)
        start = b","
    yield b"]}"


def _metadata(listed: Listed, version: str) -> Iterator[bytes]:
    entries = listed.entries
    start = tables.render_metadata_list([], list_meta(listed), version=version)[:-2]
    if not entries:
        yield start[:-1] + b"null}"
        return
    for at in range(0, len(entries), AT_ONCE):
        yield start + b",".join(
            [tables.metadata_of_bytes(entry.data, version=version) for entry in entries[at : at + AT_ONCE]]
        )
        start = b","
    yield b"]}"


def batch_encoder(resource: ResourceDef, shape: Accepted, include: str) -> Callable[[Batch], tuple[bytes, bytes]]:
    """From a batch to its lines, and to the same framed as one chunk; both are made once for all who want the same."""
    if shape.shape is Shape.WHOLE:
        return lambda batch: batch.encoded("json", _json_line)
    view = (shape.shape, shape.version, include, resource.api_version)

    def line(event: Event) -> bytes:
        if event.type == "ERROR":
            return event.encoded_json_line
        return codec.event_line(event.type, tables.metadata_of_bytes(event.data, version=shape.version))

    if shape.shape is Shape.METADATA:
        return lambda batch: batch.encoded(view, lambda event: event.view(view, line))
    return _table_encoder(resource, shape, include, view)


def _table_encoder(
    resource: ResourceDef, shape: Accepted, include: str, view: tuple[object, ...]
) -> Callable[[Batch], tuple[bytes, bytes]]:
    """Each stream tells the columns once, with its first table."""
    headed = (*view, "columns")
    told = False

    def table(event: Event, *, columns: bool) -> bytes:
        if event.type == "ERROR":
            return event.encoded_json_line
        obj = codec.decode(event.data)
        meta = {"resourceVersion": obj["metadata"].get("resourceVersion", "")}
        rows = [] if event.type == "BOOKMARK" else [obj]
        data = tables.render_table(resource, rows, meta, version=shape.version, include=include, columns=columns)
        return codec.event_line(event.type, data)

    def rest(event: Event) -> bytes:
        return event.view(view, lambda one: table(one, columns=False))

    def encode(batch: Batch) -> tuple[bytes, bytes]:
        nonlocal told
        if told or not len(batch):
            return batch.encoded(view, rest)
        told, first = True, batch[0]
        return batch.encoded(
            headed,
            lambda event: event.view(headed, lambda one: table(one, columns=True)) if event is first else rest(event),
        )

    return encode


def _json_line(event: Event) -> bytes:
    return event.encoded_json_line
