"""What printer columns share: the Name and Age columns, and how values look in a cell.

A column's description is either its text or `@Type.field`: the text of that field in the API's own documents.
Source: kubernetes/pkg/printers/internalversion/printers.go; k8s.io/apimachinery/pkg/util/duration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from apiserver.registry.base import Column, Object

UNKNOWN, NONE, UNSET = "<unknown>", "<none>", "<unset>"


def human_duration(seconds: float) -> str:
    """`5s`, `3m10s`, `4h5m`, `2d3h`, `90d`, `3y20d`: about three figures, as kubectl prints ages."""
    s = int(seconds)
    if s < -1:
        return "<invalid>"
    if s < 0:
        return "0s"
    if s < 120:
        return f"{s}s"
    minutes = s // 60
    if minutes < 10:
        return f"{minutes}m{s % 60}s" if s % 60 else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours = s // 3600
    if hours < 8:
        return f"{hours}h{minutes % 60}m" if minutes % 60 else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days = hours // 24
    if hours < 192:
        return f"{days}d{hours % 24}h" if hours % 24 else f"{days}d"
    if days < 730:
        return f"{days}d"
    years = days // 365
    if days < 365 * 8:
        return f"{years}y{days % 365}d" if days % 365 else f"{years}y"
    return f"{years}y"


def since(timestamp: Any, now: float) -> str:
    """The age of an RFC 3339 timestamp at `now` (seconds since the epoch)."""
    return human_duration(now - datetime.fromisoformat(timestamp).timestamp()) if timestamp else UNKNOWN


def at(obj: Object, path: str, default: Any = "") -> Any:
    """The value at a dotted path (`spec.nodeName`), or the default where any step is absent or null."""
    value: Any = obj
    for step in path.split("."):
        value = value.get(step) if isinstance(value, dict) else None
        if value is None:
            return default
    return value


def field(path: str, default: Any = "") -> Callable[[Object, float], Any]:
    """A cell that shows the value at a dotted path."""
    return lambda obj, _now: at(obj, path, default)


def selectable(*paths: str) -> dict[str, Callable[[Object], str]]:
    """Field selectors on string fields, by their path."""
    return {path: _reader(path) for path in paths}


def _reader(path: str) -> Callable[[Object], str]:
    return lambda obj: str(at(obj, path))


def comma_pairs(pairs: Mapping[str, str] | None) -> str:
    """Labels in a cell: `a=1,b=2`."""
    return ",".join(f"{k}={v}" for k, v in sorted(pairs.items())) if pairs else NONE


def more(shown: list[str], total: int, limit: int) -> str:
    """A list cut at `limit` entries: `a,b,c + 2 more...`."""
    text = ",".join(shown[:limit]) or NONE
    return f"{text} + {total - limit} more..." if total > limit else text


def containers(path: str) -> tuple[Column, Column]:
    """The wide columns Containers and Images of a workload; `path` leads to its pod spec."""

    def joined(key: str) -> Callable[[Object, float], str]:
        return lambda obj, _now: ",".join(c.get(key, "") for c in at(obj, f"{path}.containers", []))

    return (
        Column("Containers", "string", "Names of each container in the template.", joined("name"), priority=1),
        Column("Images", "string", "Images referenced by each container in the template.", joined("image"), priority=1),
    )


NAME = Column("Name", "string", "@ObjectMeta.name", field("metadata.name"), format="name")
AGE = Column(
    "Age", "string", "@ObjectMeta.creationTimestamp", lambda o, now: since(at(o, "metadata.creationTimestamp"), now)
)
# What kinds without columns of their own show.
CREATED_AT = Column("Created At", "date", "@ObjectMeta.creationTimestamp", field("metadata.creationTimestamp"))
