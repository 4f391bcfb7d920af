"""Which representation a client wants, out of its Accept header. Pure.

Source: API concepts, "Alternate representations of resources", "Receiving resources as Tables".
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from typing import Any, NamedTuple

from kubarium.machinery.errors import NotAcceptable

JSON, YAML = "application/json", "application/yaml"
MEDIA_TYPES = (JSON, YAML, "application/vnd.kubernetes.protobuf")  # the last is named in errors only, as upstream does
STREAM_TYPES = (f"{JSON};stream=watch", "application/vnd.kubernetes.protobuf;stream=watch")
LIST_TYPES = (*MEDIA_TYPES, *STREAM_TYPES)


class Shape(StrEnum):
    """What of an object is sent."""

    WHOLE = ""
    TABLE = "Table"
    METADATA = "PartialObjectMetadata"
    METADATA_LIST = "PartialObjectMetadataList"
    DISCOVERY = "APIGroupDiscoveryList"


class Accepted(NamedTuple):
    """`version` is that of the shape: v1 or v1beta1 (v2 for discovery)."""

    shape: Shape = Shape.WHOLE
    version: str = ""
    media_type: str = JSON

    @property
    def content_type(self) -> str:
        if self.shape is Shape.DISCOVERY:
            return f"{self.media_type};g=apidiscovery.k8s.io;v={self.version};as={self.shape}"
        return self.media_type


PLAIN = Accepted()
_GROUPS = {
    Shape.TABLE: ("meta.k8s.io", ("v1", "v1beta1")),
    Shape.METADATA: ("meta.k8s.io", ("v1", "v1beta1")),
    Shape.METADATA_LIST: ("meta.k8s.io", ("v1", "v1beta1")),
    Shape.DISCOVERY: ("apidiscovery.k8s.io", ("v2",)),
}


class NotRepresentable(NotAcceptable):
    """406 from before a resource is looked at. Upstream sends empty details with it."""

    def __init__(self, available: tuple[str, ...]) -> None:
        super().__init__(f"406: Not Acceptable\n\nAvailable representations: {', '.join(available)}")

    def to_status(self) -> dict[str, Any]:
        return super().to_status() | {"details": {}}


@lru_cache(maxsize=256)
def accepted(header: str, shapes: frozenset[Shape] = frozenset(), available: tuple[str, ...] = ()) -> Accepted:
    """The first entry of an Accept header that can be served; `shapes` are those beside the whole object.

    `available` are the media types of the path, where it has such a list: one of them must be asked for by its name, or
    anything. Raises NotAcceptable (406).
    """
    if not header or header == JSON:
        return PLAIN
    if available and not _named(header, available):
        raise NotRepresentable(available)
    for entry in sorted(header.split(","), key=_quality, reverse=True):
        media_type, *rest = [part.strip() for part in entry.split(";")]
        parameters = dict(part.partition("=")[::2] for part in rest)
        if media_type in ("*/*", "application/*"):
            media_type = JSON
        if media_type not in (JSON, YAML):
            continue
        if (found := _shape(parameters, shapes)) is not None:
            return Accepted(*found, media_type)
    raise NotAcceptable(f"only the following media types are accepted: {', '.join(MEDIA_TYPES)}")


def error_type(header: str) -> str:
    """The media type in which a client is told of an error: YAML where it asks for that, else JSON."""
    if YAML not in header:
        return JSON
    try:
        return accepted(header).media_type
    except NotAcceptable:
        return JSON


def _named(header: str, available: tuple[str, ...]) -> bool:
    known = {"*/*", *(entry.partition(";")[0] for entry in available)}
    return any(entry.partition(";")[0].strip() in known for entry in header.split(","))


def accepted_type(header: str, forms: Mapping[str, str]) -> str | None:
    """The form that is asked for by media type, whatever its parameters; `forms` begins with the usual one."""
    usual = next(iter(forms.values()))
    for entry in sorted((header or "*/*").split(","), key=_quality, reverse=True):
        media_type = entry.partition(";")[0].strip()
        if media_type in ("*/*", "application/*"):
            return usual
        if media_type in forms:
            return forms[media_type]
    return None


def _quality(entry: str) -> float:
    for part in entry.split(";")[1:]:
        name, _, value = part.strip().partition("=")
        if name == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


def _shape(parameters: dict[str, str], shapes: frozenset[Shape]) -> tuple[Shape, str] | None:
    """The shape that `as`, `g` and `v` ask for; None where it cannot be had."""
    if "as" not in parameters:
        return Shape.WHOLE, ""
    name = parameters["as"] or "none"
    try:
        shape = Shape(name)
    except ValueError:
        return None
    group, versions = _GROUPS[shape]
    version = parameters.get("v", "")
    if shape not in shapes or parameters.get("g") != group or version not in versions:
        return None
    return shape, version
