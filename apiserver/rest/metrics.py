"""Counts of requests, in the text format that Prometheus reads. A request only adds; a scrape formats."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Call(NamedTuple):
    """The labels of upstream's apiserver_request_total."""

    verb: str
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    code: int = 200


class Metrics:
    """One per server."""

    def __init__(self) -> None:
        self.requests: Counter[Call] = Counter()
        self.seconds: defaultdict[tuple[str, str], float] = defaultdict(float)  # (verb, resource) -> time spent
        self.in_flight: Counter[str] = Counter()  # readOnly, mutating
        self.long_running: Counter[str] = Counter()  # by verb
        self.rejected = 0

    def render(self, gauges: Mapping[str, float]) -> str:
        """`gauges` are figures of the moment by name, without labels."""
        return "\n".join(self._lines(gauges)) + "\n"

    def _lines(self, gauges: Mapping[str, float]) -> Iterator[str]:
        yield "# HELP apiserver_request_total Requests by verb, resource and code."
        yield "# TYPE apiserver_request_total counter"
        for call, count in sorted(self.requests.items()):
            labels = ",".join(f'{name}="{value}"' for name, value in zip(call._fields, call, strict=True))
            yield f"apiserver_request_total{{{labels}}} {count}"
        yield "# HELP apiserver_request_duration_seconds_sum Time spent on requests that are not long-running."
        yield "# TYPE apiserver_request_duration_seconds_sum counter"
        for (verb, resource), seconds in sorted(self.seconds.items()):
            yield f'apiserver_request_duration_seconds_sum{{verb="{verb}",resource="{resource}"}} {seconds:.6f}'
        yield "# TYPE apiserver_current_inflight_requests gauge"
        for kind in ("readOnly", "mutating"):
            yield f'apiserver_current_inflight_requests{{request_kind="{kind}"}} {self.in_flight[kind]}'
        yield "# TYPE apiserver_longrunning_requests gauge"
        for verb, count in sorted(self.long_running.items()):
            yield f'apiserver_longrunning_requests{{verb="{verb}"}} {count}'
        yield "# TYPE apiserver_rejected_requests_total counter"
        yield f"apiserver_rejected_requests_total {self.rejected}"
        for name, value in gauges.items():
            yield f"# TYPE {name} gauge"
            yield f"{name} {value:g}"
