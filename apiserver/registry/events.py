"""Events: one kind in two API groups. They are stored in the form of the core group.

Source: Kubernetes API reference, Event v1 and Event events.k8s.io/v1.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import NAME, at, field, human_duration, selectable, since
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_meta_update, creating, keep_generation, updating

TTL_S = 3600
_NAMES = {  # events.k8s.io -> core
    "regarding": "involvedObject",
    "note": "message",
    "reportingController": "reportingComponent",
    "deprecatedSource": "source",
    "deprecatedFirstTimestamp": "firstTimestamp",
    "deprecatedLastTimestamp": "lastTimestamp",
    "deprecatedCount": "count",
}
_CORE_NAMES = {core: new for new, core in _NAMES.items()}
_LIMITS = {"action": 128, "reason": 128, "message": 1024, "reportingInstance": 128}


def to_core(event: Object) -> Object:
    """The core form of an events.k8s.io Event."""
    return {_NAMES.get(k, k): v for k, v in event.items()} | {"apiVersion": "v1"}


def from_core(event: Object) -> Object:
    """The events.k8s.io form of a core Event."""
    return {_CORE_NAMES.get(k, k): v for k, v in event.items()} | {"apiVersion": "events.k8s.io/v1"}


def _check_core(event: Object, faults: Faults) -> None:
    """The core API asks little: it is older than the rules."""
    involved, namespace = at(event, "involvedObject.namespace"), event["metadata"].get("namespace", "")
    agrees = namespace == involved if involved else namespace in ("", "default")
    if not agrees:
        faults.invalid("involvedObject.namespace", involved, "does not match event.namespace")
    faults.each("namespace", namespace, names.dns1123_subdomain(namespace) if namespace else [])


def _check_new(event: Object, faults: Faults) -> None:
    """What events.k8s.io asks on creation, in its own field names."""
    _check_core(to_core(event), faults)
    if not event.get("eventTime"):
        faults.required("eventTime")
    _check_reporter(event, faults)
    for key, limit in (("action", 128), ("reason", 128)):
        if not event.get(key):
            faults.required(key)
        elif len(event[key]) > limit:
            faults.too_long(key, limit)
    if event.get("type") not in ("Normal", "Warning"):
        faults.invalid("type", event.get("type", ""), f'has invalid value: "{event.get("type", "")}"')
    if len(event.get("note", "")) > _LIMITS["message"]:
        faults.invalid("note", event["note"], "can have at most 1024 characters")


def _check_reporter(event: Object, faults: Faults) -> None:
    if controller := event.get("reportingController"):
        faults.each("reportingController", controller, names.qualified_name(controller))
    else:
        faults.required("reportingController")
    if not (instance := event.get("reportingInstance")):
        faults.required("reportingInstance")
    elif len(instance) > _LIMITS["reportingInstance"]:
        faults.invalid("reportingInstance", instance, "can have at most 128 characters")


def _check_core_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_core(new, faults)


def _check_new_update(new: Object, old: Object, faults: Faults) -> None:
    check_meta_update(new, old, faults)
    _check_core(to_core(new), faults)


# --- columns, on the core form


def _times(event: Object) -> tuple[Any, Any, int]:
    """First seen, last seen (RFC 3339 or None), count: each API form keeps them elsewhere."""
    first = event.get("firstTimestamp") or event.get("eventTime")
    last = event.get("lastTimestamp") or first
    count = event.get("count") or 0
    if series := event.get("series"):
        return first, series.get("lastObservedTime") or last, series.get("count", 0)
    return first, last, count or (1 if event.get("eventTime") else 0)


def _last_seen(event: Object, now: float) -> str:
    first, last, count = _times(event)
    if (event.get("series") or count > 1) and first and last:
        return f"{since(last, now)} (x{count} over {_span(first, now)})"
    return since(last, now)


def _span(first: str, now: float) -> str:
    return human_duration(now - datetime.fromisoformat(first).timestamp())


def _object(event: Object, _now: float) -> str:
    involved = event.get("involvedObject") or {}
    kind = str(involved.get("kind", "")).lower()
    return f"{kind}/{involved['name']}" if involved.get("name") else kind


def _source(event: Object, _now: float) -> str:
    source = event.get("source") or {}
    component = source.get("component") or event.get("reportingComponent", "")
    host = source.get("host") or event.get("reportingInstance", "")
    return ", ".join(filter(None, (component, host)))


def _wide_name() -> Column:
    return Column("Name", "string", NAME.description, NAME.cell, format="name", priority=1)


def _on_core(column: Column) -> Column:
    """The same column on an events.k8s.io Event."""

    def cell(event: Object, now: float) -> Any:
        return column.cell(to_core(event), now)

    return Column(column.name, column.type, column.description, cell, format=column.format, priority=column.priority)


_COLUMNS = (
    Column("Last Seen", "string", "@Event.lastTimestamp", _last_seen),
    Column("Type", "string", "@Event.type", field("type")),
    Column("Reason", "string", "@Event.reason", field("reason")),
    Column("Object", "string", "@Event.involvedObject", _object),
    Column("Subobject", "string", "@ObjectReference.fieldPath", field("involvedObject.fieldPath"), priority=1),
    Column("Source", "string", "@Event.source", _source, priority=1),
    Column("Message", "string", "@Event.message", lambda e, _: str(at(e, "message")).strip()),
    Column("First Seen", "string", "@Event.firstTimestamp", lambda e, now: since(_times(e)[0], now), priority=1),
    Column("Count", "string", "@Event.count", lambda e, _: _times(e)[2], priority=1),
    _wide_name(),
)
_INVOLVED = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion", "fieldPath")


def _source_component(event: Object) -> str:
    return str(at(event, "source.component") or event.get("reportingComponent", ""))


EVENTS = ResourceDef(
    "",
    "v1",
    "Event",
    "events",
    "event",
    short_names=("ev",),
    storage_version_hash="r2yiGXH7wu8=",
    ttl_s=TTL_S,
    field_selectors={
        **selectable(*(f"involvedObject.{key}" for key in _INVOLVED), "reason", "type"),
        "reportingComponent": _source_component,
        "source": _source_component,
    },
    columns=_COLUMNS,
    strategy=Strategy(
        validate=creating(_check_core),
        prepare_update=keep_generation,
        validate_update=updating(_check_core_update),
        allow_create_on_update=True,
    ),
)

# The store holds core Events, so selectors read the core form, under the names of this API.
NEW_EVENTS = ResourceDef(
    "events.k8s.io",
    "v1",
    "Event",
    "events",
    "event",
    short_names=("ev",),
    storage_version_hash="r2yiGXH7wu8=",
    ttl_s=TTL_S,
    field_selectors={
        **{
            f"regarding.{key}": value
            for key, value in zip(
                _INVOLVED, selectable(*(f"involvedObject.{k}" for k in _INVOLVED)).values(), strict=True
            )
        },
        **selectable("reason", "type"),
        "reportingController": _source_component,
    },
    columns=tuple(_on_core(c) for c in _COLUMNS),
    strategy=Strategy(
        validate=creating(_check_new),
        prepare_update=keep_generation,
        validate_update=updating(_check_new_update),
        allow_create_on_update=True,
    ),
    storage=("", "events"),
    to_storage=to_core,
    from_storage=from_core,
)
