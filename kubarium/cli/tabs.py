"""Elastic tab stops: a column is as wide as its widest cell among neighbouring lines that have it.

kubectl's descriptions are written so; ours come out the same to the space. Source: Go text/tabwriter, padding 2.
"""

from __future__ import annotations

from collections.abc import Iterable

PADDING = 2


def expand(lines: Iterable[str]) -> str:
    """Lines with tabs to text with spaces. The last cell of a line, which no tab ends, belongs to no column."""
    cells = [line.split("\t") for line in lines]
    widths: list[list[int]] = [[0] * (len(line) - 1) for line in cells]
    _measure(cells, widths, 0, len(cells), 0)
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(line, [*widths[number], 0], strict=True)) + "\n"
        for number, line in enumerate(cells)
    )


def _measure(cells: list[list[str]], widths: list[list[int]], start: int, end: int, column: int) -> None:
    """Set the width of `column` for each run of lines that have it, then of the columns inside that run."""
    place = start
    while place < end:
        if column >= len(widths[place]):
            place += 1
            continue
        stop = place
        while stop < end and column < len(widths[stop]):
            stop += 1
        width = max(len(cells[line][column]) for line in range(place, stop)) + PADDING
        for line in range(place, stop):
            widths[line][column] = width
        _measure(cells, widths, place, stop, column + 1)
        place = stop
