"""Recorded histories of one object, read and changed by many at once, and whether they could have happened one call at
a time. Pure.

A call takes effect at one moment between its begin and its end. Every change names the version it replaces, so there is
one order of changes to look for, that of the versions; what is left to check is that each follows from the one before
it and that no call goes against what had been answered before it began.
Source: Herlihy and Wing, "Linearizability: a correctness condition for concurrent objects" (1990).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Call:
    """`expected`: the version that a change replaces (0: none). `version` and `value`: what was read or written, 0 and
    "" for a change that was refused; `done` None: nobody knows whether it happened (then they are what it would write).
    """

    kind: Literal["read", "write"]
    begun: float
    ended: float
    version: int = 0
    value: str = ""
    expected: int = 0
    done: bool | None = True


def faults(calls: Iterable[Call]) -> list[str]:
    """What is impossible in a history."""
    history = sorted(calls, key=lambda call: call.begun)
    writes = {call.version: call for call in history if call.kind == "write" and call.done}
    unknown = {call.value: call for call in history if call.done is None}
    found = [*_chain_faults(writes, unknown, history), *_time_faults(history)]
    for call in history:
        if call.kind == "read":
            found += _read_faults(call, writes, unknown)
        elif call.done is False:
            found += _refusal_faults(call, history)
    return found


def _chain_faults(writes: dict[int, Call], unknown: dict[str, Call], history: list[Call]) -> Iterable[str]:
    """Each version is replaced once at most, and by a change that named it."""
    acknowledged = [call for call in history if call.kind == "write" and call.done]
    if len(writes) != len(acknowledged):
        yield "two changes have one version"
    replaced: dict[int, Call] = {}
    for version in sorted(writes):
        call = writes[version]
        if call.expected in replaced:
            yield f"version {call.expected} was replaced twice: by {replaced[call.expected]} and {call}"
        replaced[call.expected] = call
        if call.expected and call.expected not in writes and not unknown:
            yield f"{call} replaced a version that nobody wrote"
        between = [other for other in writes if call.expected < other < version]
        if between:
            yield f"{call} did not replace the newest version, {max(between)}"


def _time_faults(history: list[Call]) -> Iterable[str]:
    """Whoever begins after an answer sees nothing older than it told of."""
    answers = sorted((call for call in history if call.version and call.done), key=lambda call: call.ended)
    known, at = 0, 0
    for call in history:
        while at < len(answers) and answers[at].ended < call.begun:
            known = max(known, answers[at].version)
            at += 1
        if call.done and call.version and call.version < known:
            yield f"{call} is older than version {known}, which was told before it began"


def _read_faults(call: Call, writes: dict[int, Call], unknown: dict[str, Call]) -> Iterable[str]:
    source = writes.get(call.version) or unknown.get(call.value)
    if source is None or source.value != call.value:
        yield f"{call} read what nobody wrote"
    elif source.begun > call.ended:
        yield f"{call} read what was written later"


def _refusal_faults(call: Call, history: list[Call]) -> Iterable[str]:
    """A change is refused only where another has, or may have, replaced the version that it names."""
    if not any(
        other.kind == "write" and other.done is not False and other.begun < call.ended and other is not call
        for other in history
        if other.done is None or other.version > call.expected
    ):
        yield f"{call} was refused, though nothing had changed"
