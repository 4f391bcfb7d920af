"""Events: one kind in two API groups. They are stored in the form of the core group.

Source: Kubernetes API reference, Event v1 and Event events.k8s.io/v1; k8s.io/kubernetes/pkg/apis/core/validation.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from apiserver.registry import names
from apiserver.registry.base import Column, Object, ResourceDef, Strategy
from apiserver.registry.cells import NAME, at, field, human_duration, selectable, since
from apiserver.registry.faults import Faults, inner
from apiserver.registry.meta import (
    IMMUTABLE,
    check_accessor,
    check_meta,
    check_meta_update,
    creating,
    keep_generation,
    updating,
)

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
# Written even where they are empty, in each form.
_CORE_ZEROS: Object = {
    "eventTime": None,
    "firstTimestamp": None,
    "involvedObject": {},
    "lastTimestamp": None,
    "reportingComponent": "",
    "reportingInstance": "",
    "source": {},
}
_LEFT_OUT = ("reportingController", "reportingInstance")  # by events.k8s.io, where they are empty
_MAX_NAME, _MAX_MESSAGE = 128, 1024
_UNSET = "needs to be unset"


def to_core(event: Object) -> Object:
    """The core form of an events.k8s.io Event."""
    return _CORE_ZEROS | {_NAMES.get(k, k): v for k, v in event.items()} | {"apiVersion": "v1"}


def from_core(event: Object) -> Object:
    """The events.k8s.io form of a core Event."""
    found = {_CORE_NAMES.get(k, k): v for k, v in event.items()} | {"apiVersion": "events.k8s.io/v1"}
    for key in _LEFT_OUT:
        if not found.get(key):
            found.pop(key, None)
    return found


# --- validation, on the core form: faults carry its names in both groups. `reporter`: how the group calls the reporter.


def _check_any(event: Object, reporter: str, faults: Faults) -> None:
    """What both groups ask. An event that has an eventTime is one of the new kind."""
    involved, namespace = at(event, "involvedObject.namespace"), event["metadata"].get("namespace", "")
    path, text = "involvedObject.namespace", "does not match event.namespace"
    if not event.get("eventTime"):
        if namespace not in ((involved,) if involved else ("", "default")):
            faults.invalid(path, involved, text)
    else:
        if not involved and namespace not in ("default", "kube-system"):
            faults.invalid(path, involved, text)
        _check_reporter(event, reporter, faults)
    faults.each("namespace", namespace, names.dns1123_subdomain(namespace))


def _check_reporter(event: Object, reporter: str, faults: Faults) -> None:
    component = event.get("reportingComponent") or ""
    if not component:
        faults.required(reporter)
    faults.each(reporter, component, names.qualified_name(component))
    for key in ("reportingInstance", "action", "reason"):
        if not (value := event.get(key)):
            faults.required(key)
        elif len(value.encode()) > _MAX_NAME:
            faults.invalid(key, "", f"can have at most {_MAX_NAME} characters")
    if len((event.get("message") or "").encode()) > _MAX_MESSAGE:
        faults.invalid("message", "", f"can have at most {_MAX_MESSAGE} characters")


def _check_series(event: Object, faults: Faults) -> None:
    if (series := event.get("series")) is not None:
        if series.get("count", 0) < 2:
            faults.invalid("series.count", "", "should be at least 2")
        if not series.get("lastObservedTime"):
            faults.required("series.lastObservedTime")


def _check_core(event: Object, faults: Faults) -> None:
    """The core API asks little: it is older than the rules."""
    check_accessor(event["metadata"], True, names.path_segment_name, faults)
    _check_any(event, "reportingComponent", faults)


def _check_new(event: Object, faults: Faults) -> None:
    """What events.k8s.io asks of one that is made there."""
    event = to_core(event)
    _check_any(event, "reportingController", faults)
    check_meta(event, True, names.name_is_subdomain, faults)
    _check_series(event, faults)
    if not event.get("eventTime"):
        faults.required("eventTime")
    if (kind := event.get("type") or "") not in ("Normal", "Warning"):
        faults.invalid("type", "", f"has invalid value: {kind}")
    for key in ("firstTimestamp", "lastTimestamp", "count"):
        if event.get(key):
            faults.invalid(key, "", _UNSET)
    if any((event.get("source") or {}).values()):
        faults.invalid("source", "", _UNSET)


def _check_core_update(new: Object, _old: Object, faults: Faults) -> None:
    _check_any(new, "reportingComponent", faults)


def _check_new_update(new: Object, old: Object, faults: Faults) -> None:
    """Only its series may change."""
    new, old = to_core(new), to_core(old)
    _check_any(new, "reportingController", faults)
    check_meta_update(new, old, faults)
    if new.get("series") != old.get("series"):
        _check_series(new, faults)
    for key, shown in _FIXED:
        now, was = new.get(key) or None, old.get(key) or None
        if now != was:
            value = inner(shown, now) if shown.startswith(("core.", "*")) else now if now else _EMPTY.get(shown)
            faults.invalid(_CORE_PATHS.get(key, key), value, IMMUTABLE)


_EMPTY: dict[str, Any] = {"": "", "count": 0, "time": None}
_CORE_PATHS = {"reportingComponent": "reportingController"}
_FIXED = (  # in the order in which they are looked at, the reason twice; with the type that shows a value
    ("involvedObject", "core.v1.ObjectReference"),
    ("reason", ""),
    ("message", ""),
    ("source", "core.v1.EventSource"),
    ("firstTimestamp", "time"),
    ("lastTimestamp", "time"),
    ("count", "count"),
    ("reason", ""),
    ("type", ""),
    ("eventTime", "time"),
    ("action", ""),
    ("related", "*core.v1.ObjectReference"),
    ("reportingComponent", ""),
    ("reportingInstance", ""),
)


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
