"""What every backend promises: tests/kubeproxy/conformance.py holds each of them to it."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Protocol

from kubeproxy.plan import Rule
from kubeproxy.ruleset import Changes


@dataclass(frozen=True, slots=True)
class Ranges:
    """The cluster's ranges. Without `cluster_cidrs` clients from outside cannot be told from pods: none is masqueraded
    on its way to a ClusterIP.
    """

    cluster_cidrs: tuple[IPv4Network, ...]
    service_cidrs: tuple[IPv4Network, ...]


class Backend(Protocol):
    """Programs rules into the network namespace that it was made in. One caller at a time.

    Established connections outlive every call: only new ones meet new rules. A call that raises NetworkError has
    changed nothing. The caller hands in differences to what it has had confirmed; the backend never lists the
    kernel's elements.
    """

    name: str

    async def replace(self, changes: Changes) -> None:
        """Put `changes` in the place of whatever stands there, ours of an earlier life included, in one step."""

    async def apply(self, changes: Changes) -> None:
        """Make `changes` on top of what stands there."""

    async def intact(self) -> bool:
        """Whether our hooks still stand (somebody may have flushed them); cheap enough to ask every few seconds."""

    def verdict(self, rule: Rule) -> str:
        """What a packet meets under this rule, in the backend's words: "pick-2", "reject", "drop"."""

    async def remove(self) -> None:
        """Take away everything of ours; nothing there is no error."""
