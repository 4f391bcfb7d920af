"""What the definitions do not tell of the API's types, and the wire form shows: which zero values are written.

The definitions' `required` is about what a client has to send; what the server writes is another thing:
- `written` fields are there also when they are empty: structs held by value, or fields without omitempty;
- `pointers` can tell "empty" from "not set": an explicit zero (`replicas: 0`) stays; written ones can be null;
- `named` are scalar types with a name of their own, for error texts;
- `order` is that of the fields in what the server writes, which some error texts quote.
Source: gofacts.txt, read off the struct tags of the types of Kubernetes 1.36 (all stable versions).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Facts:
    """Of one type; its name is `group.version.Type` as in the definitions."""

    written: frozenset[str] = frozenset()
    pointers: frozenset[str] = frozenset()
    named: dict[str, str] = field(default_factory=dict)
    order: tuple[str, ...] = ()


@cache
def facts() -> dict[str, Facts]:
    """Every type's, by its name."""
    text = Path(__file__).with_name("gofacts.txt").read_text()
    return dict(_parse(line) for line in text.splitlines() if not line.startswith("#"))


def _parse(line: str) -> tuple[str, Facts]:
    name, *parts = line.split(" ")
    found = {tag: tuple(text.split(",")) for tag, _, text in (part.partition(":") for part in parts)}
    pairs = (pair.partition("=") for pair in found.get("named", ()))
    return name, Facts(
        frozenset(found.get("written", ())),
        frozenset(found.get("pointers", ())),
        {key: value for key, _, value in pairs},
        found.get("order", ()),
    )
