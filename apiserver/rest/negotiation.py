"""Which representation a client wants, out of its Accept header. Pure.

Source: API concepts, "Alternate representations of resources", "Receiving resources as Tables".
"""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from kubarium.machinery.errors import NotAcceptable

JSON, YAML = "application/json", "application/yaml"
MEDIA_TYPES = (JSON, YAML, "application/vnd.kubernetes.protobuf")  # the last is named in errors only, as upstream does


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
            return f"{JSON};g=apidiscovery.k8s.io;v={self.version};as={self.shape}"
        return self.media_type


PLAIN = Accepted()
_GROUPS = {
    Shape.TABLE: ("meta.k8s.io", ("v1", "v1beta1")),
    Shape.METADATA: ("meta.k8s.io", ("v1", "v1beta1")),
    Shape.METADATA_LIST: ("meta.k8s.io", ("v1", "v1beta1")),
    Shape.DISCOVERY: ("apidiscovery.k8s.io", ("v2",)),
}


@lru_cache(maxsize=256)
def accepted(header: str, shapes: frozenset[Shape] = frozenset()) -> Accepted:
    """The first entry of an Accept header that can be served; `shapes` are those beside the whole object.

    Raises NotAcceptable (406).
    """
    if not header or header == JSON:
        return PLAIN
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
    name = parameters.get("as", "")
    if not name:
        return Shape.WHOLE, ""
    try:
        shape = Shape(name)
    except ValueError:
        return None
    group, versions = _GROUPS[shape]
    version = parameters.get("v", "")
    if shape not in shapes or parameters.get("g") != group or version not in versions:
        return None
    return shape, version
