"""What the schema checks of a value found, and how it is told to the client.

Source: k8s.io/kube-openapi pkg/validation (texts); k8s.io/apiextensions-apiserver pkg/apiserver/validation (reasons).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from apiserver.registry.faults import Faults, go_value
from kubarium.machinery.errors import StatusCause


@dataclass(frozen=True, slots=True)
class Finding:
    """`path` is None for what upstream lays to no field; `text` tells two findings apart; `extra`: limits, values."""

    kind: str  # "", "required", "enum", "long", "many", "type"
    path: str | None
    text: str
    value: Any = None
    extra: Any = None


def go_number(value: float) -> str:
    """A number as Go's %v has it: `5`, `0.5`, `1e+21`."""
    if isinstance(value, int):
        return str(value)
    if value.is_integer() and abs(value) < 1e21:
        return str(int(value))
    text = repr(value)
    head, mark, exponent = text.partition("e")
    if not mark:
        return text if abs(value) >= 1e-4 else f"{value:e}"
    return f"{head}e{exponent[0] if exponent[0] in '+-' else '+'}{exponent.lstrip('+-').zfill(2)}"


class Result:
    """Findings without repetition, and how much was looked at: of several schemas that fail, the one that looked at
    most is told about.
    """

    __slots__ = ("_texts", "count", "found")

    def __init__(self, *found: Finding) -> None:
        self.found: list[Finding] = []
        self._texts: set[str] = set()
        self.count = 0
        self.add(found)

    def add(self, found: Iterable[Finding]) -> None:
        for finding in found:
            if finding.text not in self._texts:
                self._texts.add(finding.text)
                self.found.append(finding)

    def merge(self, other: Result) -> None:
        if other.found:
            self.add(other.found)
        self.count += other.count

    @property
    def valid(self) -> bool:
        return not self.found


def report(found: Iterable[Finding], prefix: str, faults: Faults) -> None:
    """Findings as causes of a Status; `prefix` is the path of the value that was checked, "" for an object."""
    for finding in found:
        _report(finding, _path(finding.path, prefix), faults)


def _path(path: str | None, prefix: str) -> str:
    name = (path or "").removeprefix(".") if path != "." else ""
    if not name:
        return prefix or "<nil>"
    return f"{prefix}.{name}" if prefix else name


def _report(finding: Finding, path: str, faults: Faults) -> None:
    value = "" if finding.value is None else finding.value
    match finding.kind:
        case "required":
            faults.required(path)
        case "enum":
            names = [item if isinstance(item, str) else go_value(item) for item in finding.extra]
            faults.unsupported(path, finding.value, names)
        case "long":
            faults.too_long(path, finding.extra)
        case "many":
            faults.too_many(path, *finding.extra)
        case "type":
            text = f"Invalid value: {go_value(value)}: {finding.text}"
            faults.append(StatusCause("FieldValueTypeInvalid", text, path))
        case _:
            faults.invalid(path, value, finding.text)
