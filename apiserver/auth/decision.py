"""What an authorizer is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Decision:
    """`reason` is told to who asks, also with a refusal."""

    allowed: bool
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Asked:
    """A call on a resource, as authorizers look at it; `field_selector` is text as it was sent."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    field_selector: str = ""


ALLOWED = Decision(True)
NO_OPINION = Decision(False)
