"""What the definitions do not tell of the API's types, and the wire form shows: which zero values are written.

The definitions' `required` is about what a client has to send; what the server writes is another thing:
- `written` fields are there also when they are empty: structs held by value, or fields without omitempty;
- `pointers` can tell "empty" from "not set": an explicit zero (`replicas: 0`) stays; written ones can be null;
- `named` are types with a name of their own, for error texts; of the items of `field` as `field[]`;
- `order` is that of the fields in what the server writes, which some error texts quote;
- `embedded` are the structs that a field comes from without their showing (`IngressRuleValue`), for error texts.
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
    embedded: dict[str, str] = field(default_factory=dict)


@cache
def facts() -> dict[str, Facts]:
    """Every type's, by its name."""
    text = Path(__file__).with_name("gofacts.txt").read_text()
    return dict(_parse(line) for line in text.splitlines() if not line.startswith("#"))


def _parse(line: str) -> tuple[str, Facts]:
    name, *parts = line.split(" ")
    found = {tag: tuple(text.split(",")) for tag, _, text in (part.partition(":") for part in parts)}
    return name, Facts(
        frozenset(found.get("written", ())),
        frozenset(found.get("pointers", ())),
        _pairs(found.get("named", ())),
        found.get("order", ()),
        _pairs(found.get("embedded", ())),
    )


def _pairs(words: tuple[str, ...]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in words)}
