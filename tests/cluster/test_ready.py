"""The questions that tell whether a node is usable."""

from __future__ import annotations

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from kubarium.cluster import ready

NAME = "kubernetes.default.svc.cluster.local"


def answered(question: bytes, *, records: bool = True, code: dns.rcode.Rcode = dns.rcode.NOERROR) -> bytes:
    reply = dns.message.make_response(dns.message.from_wire(question))
    reply.set_rcode(code)
    if records:
        reply.answer.append(dns.rrset.from_text(f"{NAME}.", 5, "IN", "A", "10.96.0.1"))
    return reply.to_wire()


def test_the_question_is_one_that_dns_servers_read() -> None:
    message = dns.message.from_wire(ready.query(NAME, 77))
    assert message.id == 77 and message.flags == dns.flags.RD
    assert message.question[0].to_text() == f"{NAME}. IN A"


@pytest.mark.parametrize(
    ("reply", "good"),
    [
        pytest.param(answered(ready.query(NAME, 7)), True, id="a record"),
        pytest.param(answered(ready.query(NAME, 7), records=False), False, id="no record"),
        pytest.param(answered(ready.query(NAME, 7), code=dns.rcode.SERVFAIL), False, id="SERVFAIL"),
        pytest.param(answered(ready.query(NAME, 8)), False, id="another question's answer"),
        pytest.param(ready.query(NAME, 7), False, id="our own question"),
        pytest.param(b"", False, id="nothing"),
    ],
)
def test_what_counts_as_an_answer(reply: bytes, good: bool) -> None:
    assert ready.is_answer(reply, 7) is good
