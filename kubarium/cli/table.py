"""Tables as kubectl prints them."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

GAP = 3
NARROWEST = 6


class Printer:
    """Prints rows under one header; columns keep the widths they had, so that watched rows stay aligned."""

    def __init__(self, *, headers: bool = True) -> None:
        self._headers = headers
        self._widths: list[int] = []
        self._shown: list[str] = []

    def print(self, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
        lines = [list(row) for row in rows]
        if self._headers and list(header) != self._shown:
            self._shown = list(header)
            lines.insert(0, self._shown)
        sys.stdout.write("".join(line + "\n" for line in self._aligned(lines)))
        sys.stdout.flush()

    def _aligned(self, lines: Sequence[Sequence[str]]) -> list[str]:
        for line in lines:
            for place, cell in enumerate(line):
                if place == len(self._widths):
                    self._widths.append(NARROWEST)
                self._widths[place] = max(self._widths[place], len(cell) + GAP)
        return [
            "".join(cell.ljust(self._widths[place]) for place, cell in enumerate(line[:-1])) + "".join(line[-1:])
            for line in lines
        ]


def header_of(table: Mapping[str, Any], *, wide: bool) -> tuple[list[str], list[int]]:
    """Column titles of a server's Table and which cells they are; only `wide` shows those of lower priority."""
    columns = table.get("columnDefinitions") or ()
    chosen = [place for place, column in enumerate(columns) if wide or not column.get("priority")]
    return [columns[place]["name"].upper() for place in chosen], chosen


def cell_text(value: Any) -> str:
    """A cell as text: only its first line, as much as fits one."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    text = str(value)
    if "\n" in text:
        first, _, _ = text.partition("\n")
        return first + "..."
    return text


def labels_text(labels: Mapping[str, str] | None) -> str:
    return ",".join(f"{key}={value}" for key, value in sorted((labels or {}).items())) or "<none>"
