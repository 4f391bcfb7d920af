"""How many requests may be under way at once. A full server says 429 at once, rather than making everybody wait."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from apiserver.rest.metrics import Metrics
from kubarium.machinery.errors import TooManyRequests

READ_ONLY, MUTATING = "readOnly", "mutating"


class Limits:
    """Long-running requests (watch, log, exec) are counted but not limited: they cost little once they stand."""

    def __init__(self, metrics: Metrics, *, read_only: int, mutating: int) -> None:
        self._metrics = metrics
        self._limit = {READ_ONLY: read_only, MUTATING: mutating}

    @contextmanager
    def admitted(self, kind: str) -> Iterator[None]:
        """Raises TooManyRequests with retryAfterSeconds. A limit of 0 is none."""
        in_flight = self._metrics.in_flight
        if 0 < self._limit[kind] <= in_flight[kind]:
            self._metrics.rejected += 1
            raise TooManyRequests("Too many requests, please try again later.", details={"retryAfterSeconds": 1})
        in_flight[kind] += 1
        try:
            yield
        finally:
            in_flight[kind] -= 1

    @contextmanager
    def long_running(self, verb: str) -> Iterator[None]:
        self._metrics.long_running[verb] += 1
        try:
            yield
        finally:
            self._metrics.long_running[verb] -= 1
