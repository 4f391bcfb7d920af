"""What the server counts, and its text form for Prometheus, under kube-apiserver's names and labels.

Incremented on every request, so it is a look-up and two additions rather than a library's metric objects.
Source: https://kubernetes.io/docs/reference/instrumentation/metrics/ (the ones named STABLE there, and a few more).
"""

from __future__ import annotations

import os
import resource as rusage
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
COMPONENT = "apiserver"
# In seconds; upstream's.
BUCKETS = (
    *(0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8),
    *(10, 15, 20, 30, 45, 60),
)
_VERBS = {"create": "POST", "update": "PUT", "deletecollection": "DELETECOLLECTION"}
_STARTED = time.time()
_PROC = Path("/proc/self")


class Call(NamedTuple):
    """What requests are told apart by. `subresource` is the path of what names no resource."""

    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    code: int = 200
    scope: str = ""  # resource, namespace, cluster
    dry_run: str = ""  # All


class StoredObjects(NamedTuple):
    """How many objects of a resource there are."""

    group: str
    resource: str
    number: int


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of the moment, asked for when they are read. `gauges` have no labels."""

    gauges: Mapping[str, float] = field(default_factory=dict)
    objects: tuple[StoredObjects, ...] = ()
    store_bytes: int | None = None


class Histogram:
    """Counts per bucket, not summed up; the last is of what is above all bounds."""

    __slots__ = ("counts", "sum")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.sum = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.sum += seconds


class Metrics:
    """One per server."""

    def __init__(self) -> None:
        self.requests: Counter[Call] = Counter()
        self.seconds: dict[Call, Histogram] = {}  # by calls with code 0
        self._histograms: dict[Call, Histogram] = {}  # the same, by calls with any code
        self.in_flight: Counter[str] = Counter()  # readOnly, mutating
        self.long_running: Counter[str] = Counter()  # by verb
        self.watch_events: Counter[tuple[str, str, str]] = Counter()  # by group, version, resource
        self.rejected = 0

    def count(self, call: Call, seconds: float | None) -> None:
        """One answered request; `seconds` is what it took, None for what is long-running."""
        self.requests[call] += 1
        if seconds is None:
            return
        histogram = self._histograms.get(call)
        if histogram is None:
            histogram = self._histograms[call] = self.seconds.setdefault(call._replace(code=0), Histogram())
        histogram.observe(seconds)

    def reset(self) -> None:
        """Count from nothing again; what is under way stays."""
        self.requests.clear()
        self.seconds.clear()
        self._histograms.clear()
        self.watch_events.clear()
        self.rejected = 0

    def render(self, figures: Figures) -> str:
        return "\n".join(self._lines(figures)) + "\n"

    def _lines(self, figures: Figures) -> Iterator[str]:
        yield from _family("apiserver_request_total", "counter", "Answered requests.", self._totals())
        yield from _family(
            "apiserver_request_duration_seconds",
            "histogram",
            "Time spent on requests that are not long-running.",
            self._durations(),
        )
        kinds = ((f'{{request_kind="{kind}"}}', self.in_flight[kind]) for kind in ("mutating", "readOnly"))
        yield from _family("apiserver_current_inflight_requests", "gauge", "Requests under way.", kinds)
        running = (
            (_labels(component=COMPONENT, verb=verb.upper()), count)
            for verb, count in sorted(self.long_running.items())
        )
        yield from _family("apiserver_longrunning_requests", "gauge", "Long-running requests under way.", running)
        rejected = (("", self.rejected),)
        yield from _family("apiserver_rejected_requests_total", "counter", "Requests answered with 429.", rejected)
        events = (
            (_labels(group=group, resource=plural, version=version), count)
            for (group, version, plural), count in sorted(self.watch_events.items())
        )
        yield from _family("apiserver_watch_events_total", "counter", "Events sent to watchers.", events)
        yield from _stored(figures)
        for name, value in figures.gauges.items():
            yield from _family(name, "gauge", "", (("", value),))
        yield from _process()

    def _totals(self) -> Iterator[tuple[str, float]]:
        for call, count in sorted(self.requests.items()):
            yield _labels(code=str(call.code), **_of(call)), count

    def _durations(self) -> Iterator[tuple[str, float]]:
        for call, histogram in sorted(self.seconds.items(), key=lambda item: item[0]):
            labels, total = _of(call), 0
            for bound, count in zip((*map(_bound, BUCKETS), "+Inf"), histogram.counts, strict=True):
                total += count
                yield "_bucket" + _labels(**labels, le=bound), total
            yield "_sum" + _labels(**labels), histogram.sum
            yield "_count" + _labels(**labels), total


def _of(call: Call) -> dict[str, str]:
    return {
        "component": COMPONENT if call.resource else "",
        "dry_run": call.dry_run,
        "group": call.group,
        "resource": call.resource,
        "scope": call.scope,
        "subresource": call.subresource,
        "verb": _VERBS.get(call.verb) or call.verb.upper(),
        "version": call.version,
    }


def _bound(seconds: float) -> str:
    return f"{seconds:g}"


def _labels(**labels: str) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _family(name: str, kind: str, text: str, samples: Iterable[tuple[str, float]]) -> Iterator[str]:
    """`samples`: labels, behind a suffix of the name where there is one, and value."""
    if text:
        yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
    for rest, value in samples:
        yield f"{name}{rest} {value:.10g}"


def _stored(figures: Figures) -> Iterator[str]:
    """The older of the two names has resource and group in one label."""
    found = figures.objects
    new = ((_labels(group=o.group, resource=o.resource), o.number) for o in found)
    yield from _family("apiserver_resource_objects", "gauge", "Stored objects.", new)
    old = ((_labels(resource=f"{o.resource}.{o.group}" if o.group else o.resource), o.number) for o in found)
    yield from _family("apiserver_storage_objects", "gauge", "Stored objects.", old)
    if figures.store_bytes is not None:
        size = ((_labels(storage_cluster_id="0"), figures.store_bytes),)
        yield from _family("apiserver_storage_size_bytes", "gauge", "Size of the store on disk.", size)


def _process() -> Iterator[str]:
    used = rusage.getrusage(rusage.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime
    yield from _family("process_cpu_seconds_total", "counter", "User and system CPU time.", (("", cpu),))
    start = (("", _STARTED),)
    yield from _family("process_start_time_seconds", "gauge", "Start, in seconds since the epoch.", start)
    try:
        pages = _PROC.joinpath("statm").read_text().split()[:2]
        descriptors = sum(1 for _ in _PROC.joinpath("fd").iterdir())
    except OSError:
        return
    virtual, resident = (int(number) * os.sysconf("SC_PAGE_SIZE") for number in pages)
    yield from _family("process_resident_memory_bytes", "gauge", "Resident memory.", (("", resident),))
    yield from _family("process_virtual_memory_bytes", "gauge", "Virtual memory.", (("", virtual),))
    yield from _family("process_open_fds", "gauge", "Open file descriptors.", (("", descriptors),))
