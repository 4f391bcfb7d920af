"""Objects as bytes: the stored form, its resourceVersion slot, and the small decoded head that filters look at.

The stored form is the object's JSON with `metadata.resourceVersion` set to "". In front of that slot stand only scalars
(kind, apiVersion, name, generateName, namespace, uid), and JSON escapes every quote inside a string, so the first
`"resourceVersion":"` in the bytes *is* the slot: filling it is two slices and a join, never a decode.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
import orjson

Object = dict[str, Any]
FieldSelectors = Mapping[str, Callable[[Object], str]]

_NO_LABELS: Final[Mapping[str, str]] = {}
_SLOT: Final = b'"resourceVersion":"'
_BEFORE_SLOT: Final = ("name", "generateName", "namespace", "uid")


class Head(msgspec.Struct, gc=False, eq=False):
    """What a filter may know of an object: namespace, name, labels, and the fields of its resource's field selectors.

    `fields` is computed when first asked for, from bytes shared with the entry, because most watchers never ask.
    """

    namespace: str
    name: str
    labels: Mapping[str, str]
    known: Mapping[str, str] | None = None  # the fields, once they have been asked for
    data: bytes = b""
    selectors: FieldSelectors | None = None

    @property
    def fields(self) -> Mapping[str, str]:
        """`metadata.name`, `metadata.namespace` and the resource's own, such as `spec.nodeName`."""
        if self.known is None:
            self.known = {"metadata.name": self.name, "metadata.namespace": self.namespace}
            if self.selectors:
                obj = orjson.loads(self.data)
                self.known |= {path: value(obj) for path, value in self.selectors.items()}
            self.data = b""
        return self.known


class _Metadata(msgspec.Struct, gc=False):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] | None = None


class _Headed(msgspec.Struct, gc=False):
    metadata: _Metadata


_decode_head = msgspec.json.Decoder(_Headed).decode


def head_reader(selectors_of: Callable[[str], FieldSelectors]) -> Callable[[str, bytes], Head]:
    """A function from key and bytes to Head; `selectors_of` maps a resource's prefix (`/registry/core/pods/`) to its
    field selectors. The reader raises msgspec.DecodeError for bytes that are no object.
    """

    prefix = "none"

    def read(key: str, data: bytes) -> Head:
        nonlocal prefix
        metadata = _decode_head(data).metadata
        if not key.startswith(prefix):  # mostly of the same resource as the one before
            prefix = resource_prefix(key)
        return Head(
            metadata.namespace, metadata.name, metadata.labels or _NO_LABELS, None, data, selectors_of(prefix) or None
        )

    return read


def resource_prefix(key: str) -> str:
    """`/registry/core/pods/` for `/registry/core/pods/default/web`, and for any prefix at or below it."""
    end = key.find("/", key.find("/", key.find("/", 1) + 1) + 1) + 1
    return key[:end] if end else key + "/"


def stored_form(obj: Mapping[str, Any]) -> bytes:
    """An object's JSON as the store keeps it, resourceVersion emptied; `obj` is left as it is.

    Raises orjson.JSONEncodeError for values that JSON cannot hold.
    """
    metadata: Mapping[str, Any] = obj.get("metadata") or {}
    ordered = {key: metadata[key] for key in _BEFORE_SLOT if key in metadata}
    ordered["resourceVersion"] = ""
    ordered |= {key: value for key, value in metadata.items() if key != "resourceVersion"}
    form = {"kind": obj.get("kind", ""), "apiVersion": obj.get("apiVersion", ""), "metadata": ordered}
    form |= {key: value for key, value in obj.items() if key not in form}
    return orjson.dumps(form)


def with_revision(data: bytes, revision: int) -> bytes:
    """A stored form (or an earlier result of this function) with `revision` in its slot, as a plain decimal.

    Raises ValueError when the bytes have no slot, that is, were not made by `stored_form`.
    """
    start = data.index(_SLOT) + len(_SLOT)
    end = data.index(b'"', start)
    return b"".join((data[:start], b"%d" % revision, data[end:]))


def decode(data: bytes) -> Object:
    """The object in a stored or filled form, as a dict that the caller owns."""
    obj: Object = orjson.loads(data)
    return obj


def event_line(event_type: str, data: bytes) -> bytes:
    """One watch event as the REST watch sends it: a JSON document and a newline."""
    return b"".join((b'{"type":"', event_type.encode(), b'","object":', data, b"}\n"))
