"""What the checks of the Pod Security Standards share: how they look at a pod, and how they say what they found."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from apiserver.registry.base import Object


class Finding(NamedTuple):
    """What is wrong with a pod: in a word, and where."""

    reason: str
    detail: str = ""


Check = Callable[[Object, Object], Finding | None]
"""From a pod's metadata and spec to what is wrong with them."""


def containers(spec: Object) -> Iterator[Object]:
    """Init, ordinary and ephemeral containers, in this order."""
    for kind in ("initContainers", "containers", "ephemeralContainers"):
        yield from spec.get(kind) or ()


def security(holder: Object) -> Object:
    """The security context of a pod or container; empty where it has none."""
    found: Object = holder.get("securityContext") or {}
    return found


def quoted(items: Iterable[str]) -> str:
    return ", ".join(f'"{item}"' for item in items)


def plural(one: str, items: Any) -> str:
    """`container` or `containers`, by the number of items."""
    return one if len(items) == 1 else one + "s"


def named(items: list[str], one: str = "container") -> str:
    """`containers "a", "b"`."""
    return f"{plural(one, items)} {quoted(items)}"


def setters(pod: bool, bad: list[str]) -> str:
    """Who set something: `pod and container "a"`."""
    return " and ".join([*(["pod"] if pod else []), *([named(bad)] if bad else [])])


def go_quoted(text: str) -> str:
    """As Go's %q."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
