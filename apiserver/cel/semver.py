"""Semantic versions. Source: Kubernetes documentation, "Kubernetes Semver library"; https://semver.org (2.0.0)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from apiserver.cel.values import CelError, Opaque

_VERSION = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?(?:\+([0-9A-Za-z-.]+))?"
).fullmatch


class Semver(Opaque):
    type_name = "kubernetes.Semver"
    __slots__ = ("numbers", "pre")

    def __init__(self, numbers: tuple[int, int, int], pre: tuple[str, ...]) -> None:
        self.numbers = numbers
        self.pre = pre

    @property
    def rank(self) -> tuple[Any, ...]:
        """Compares as versions do: no pre-release is newer than any; numbers come before names."""
        parts = tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in self.pre)
        return (self.numbers, 0 if self.pre else 1, parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and other.rank == self.rank

    __hash__ = None  # type: ignore[assignment]


def parse(text: Any, normalize: bool = False) -> Semver:
    """`normalize`: `v1.0` is 1.0.0, leading zeros go."""
    if not isinstance(text, str):
        raise TypeError
    match = _VERSION(normalized(text) if normalize else text)
    if match is None:
        raise CelError(_fault(text))
    major, minor, patch, pre, _ = match.groups()
    return Semver((int(major), int(minor), int(patch)), tuple(pre.split(".")) if pre else ())


def normalized(text: str) -> str:
    text = text.removeprefix("v")
    match = re.match(r"[0-9.]*", text)
    head = match.group() if match else ""
    parts = head.split(".")
    if len(parts) < 3 and text != head:
        return text
    parts += ["0"] * (3 - len(parts))
    return ".".join(part.lstrip("0") or "0" if part else part for part in parts) + text[len(head) :]


def _fault(text: str) -> str:
    if not text:
        return "Version string empty"
    if text.count(".") < 2:
        return "No Major.Minor.Patch elements found"
    return f'Invalid character(s) found in version "{text}"'


def is_semver(text: Any, normalize: bool = False) -> bool:
    try:
        parse(text, normalize)
    except CelError:
        return False
    return True


def _ranks(a: Any, b: Any) -> tuple[Any, Any]:
    if not isinstance(a, Semver) or not isinstance(b, Semver):
        raise TypeError
    return a.rank, b.rank


def _compare(a: Any, b: Any) -> int:
    x, y = _ranks(a, b)
    return int(x > y) - int(x < y)


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "semver": parse,
    "isSemver": is_semver,
    "isGreaterThan": lambda a, b: _compare(a, b) > 0,
    "isLessThan": lambda a, b: _compare(a, b) < 0,
    "compareTo": _compare,
    "major": lambda found: found.numbers[0],
    "minor": lambda found: found.numbers[1],
    "patch": lambda found: found.numbers[2],
}
