"""Follow one object until something is true of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import Any

from kubarium.cli.http import Server
from kubarium.cli.kinds import Kind
from kubarium.cli.run import UsageError
from kubarium.machinery.errors import Expired, Gone

_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|m|s)")
_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}


def seconds(text: str) -> float:
    """A Go duration such as 30s, 1m30s, or plain seconds. Raises UsageError."""
    if re.fullmatch(r"-?\d+(\.\d+)?", text):
        return float(text)
    sign, rest = (-1.0, text[1:]) if text.startswith("-") else (1.0, text)
    parts = _PART.findall(rest)
    if not parts or "".join(number + unit for number, unit in parts) != rest:
        raise UsageError(f'invalid duration "{text}", expected for example 30s or 1m30s')
    return sign * sum(float(number) * _UNITS[unit] for number, unit in parts)


def states(
    server: Server, kind: Kind, namespace: str, name: str, *, deadline: float | None = None
) -> Iterator[dict[str, Any] | None]:
    """The object now and after every change, None while it is not there; forever.

    Raises TimeoutError at `deadline` (of time.monotonic()).
    """
    path, fields = kind.path(namespace), {"fieldSelector": f"metadata.name={name}"}
    while True:
        listing = server.get(path, fields)
        items = listing.get("items") or [None]
        yield items[0]
        query = {**fields, "resourceVersion": listing["metadata"]["resourceVersion"]}
        try:
            for event in server.watch(path, query, timeout_s=_left(deadline)):
                if event["type"] in ("ADDED", "MODIFIED"):
                    yield event["object"]
                elif event["type"] == "DELETED":
                    yield None
                _left(deadline)
        except (Expired, Gone):
            continue


def _left(deadline: float | None) -> float | None:
    if deadline is None:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
