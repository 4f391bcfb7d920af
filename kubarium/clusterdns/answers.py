"""From packet to packet. A question asked before, byte for byte, is answered by one look into a dict.

The compiled answers are dropped by object: when a Service changes, those of its names go, and no others.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

from kubarium.clusterdns import wire
from kubarium.clusterdns.wire import BadMessage, Name, Question, Record
from kubarium.clusterdns.zone import Reply, Zone

MOST_COMPILED = 50_000
ROTATIONS = 8


class Responder:
    """Answers for one Zone. `None` from the respond methods means: not ours, ask an upstream server."""

    def __init__(self, zone: Zone, *, forwarding: bool = False) -> None:
        self.zone = zone
        self.ready = False
        self._forwarding = forwarding
        self._compiled: dict[bytes, Iterator[bytes]] = {}
        self._keys: dict[Name, list[bytes]] = {}

    def forget(self, names: Iterable[Name]) -> None:
        """The answers that depend on these names are no longer right."""
        for name in names:
            for key in self._keys.pop(name, ()):
                self._compiled.pop(key, None)

    def forget_all(self) -> None:
        self._compiled.clear()
        self._keys.clear()

    def udp(self, packet: bytes) -> bytes | None:
        """The response to a datagram; b"" for one that deserves none."""
        if (compiled := self._compiled.get(packet[2:])) is not None:
            return packet[:2] + next(compiled)
        return self._respond(packet, udp=True)

    def tcp(self, packet: bytes) -> bytes | None:
        """The response to a message of a connection; b"" to close it."""
        return self._respond(packet, udp=False)

    def _respond(self, packet: bytes, *, udp: bool) -> bytes | None:
        try:
            question = wire.parse_question(packet)
        except BadMessage as err:
            return b"" if err.rcode is None else wire.error(packet, err.rcode)
        if not self.ready:
            return self._plain(question, wire.SERVFAIL)
        if question.cls not in (wire.CLASS_IN, wire.CLASS_ANY):
            return self._plain(question, wire.REFUSED)
        if not self.zone.covers(question.name):
            return None if self._forwarding else self._plain(question, wire.REFUSED)
        reply = self.zone.answer(question)
        variants = [self._build(question, reply, order, udp) for order in _rotations(reply.answers)]
        if udp:
            self._keep(packet[2:], reply, variants)
        return variants[0]

    def _build(self, question: Question, reply: Reply, answers: list[Record], udp: bool) -> bytes:
        return wire.build(
            question,
            reply.rcode,
            answers,
            reply.authority,
            reply.additional,
            recursion=self._forwarding,
            limit=question.udp_size if udp else 65535,
        )

    def _plain(self, question: Question, rcode: int) -> bytes:
        return wire.build(question, rcode, authoritative=False, recursion=self._forwarding)

    def failed(self, packet: bytes) -> bytes:
        """The upstream servers did not answer."""
        return self._plain(wire.parse_question(packet), wire.SERVFAIL)

    def _keep(self, key: bytes, reply: Reply, variants: list[bytes]) -> None:
        if len(self._compiled) >= MOST_COMPILED:
            self.forget_all()
        tails = [variant[2:] for variant in variants]
        self._compiled[key] = itertools.cycle([*tails[1:], tails[0]])
        for name in reply.depends:
            self._keys.setdefault(name, []).append(key)


def _rotations(answers: list[Record]) -> list[list[Record]]:
    """The orders in which a set of records is given, so that clients which take the first spread over all.

    An alias stays in front of what it leads to.
    """
    fixed = [record for record in answers if record.type == wire.CNAME]
    free = answers[len(fixed) :]
    if len(free) < 2:
        return [answers]
    step = max(1, len(free) // ROTATIONS)
    return [fixed + free[at:] + free[:at] for at in range(0, len(free), step)][:ROTATIONS]
