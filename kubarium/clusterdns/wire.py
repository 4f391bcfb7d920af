"""DNS messages as bytes: questions taken apart, answers put together. Pure; names are lower-case wire form throughout.

Written by hand, not with dnspython, because this process must start at once and stay small: the messages of a cluster's
server need ten record types and no compression but the pointer to the question.
Source: RFC 1035 (messages), RFC 2782 (SRV), RFC 6891 (EDNS).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

A, NS, CNAME, SOA, PTR, TXT, AAAA, SRV, OPT, ANY = 1, 2, 5, 6, 12, 16, 28, 33, 41, 255
CLASS_IN, CLASS_ANY = 1, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED, BADVERS = 0, 1, 2, 3, 4, 5, 16

QR, AA, TC, RD, RA = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080
HEADER = 12
PLAIN_UDP = 512
EDNS_UDP = 1232
"""What fits without fragments on any path (DNS flag day 2020)."""

Name = bytes
_POINTER_TO_QUESTION = b"\xc0\x0c"
_HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")


class BadMessage(Exception):
    """A message that is answered with `rcode`, or not at all (None)."""

    def __init__(self, rcode: int | None) -> None:
        super().__init__(f"rcode {rcode}")
        self.rcode = rcode


@dataclass(frozen=True, slots=True)
class Question:
    """A query of opcode QUERY. `raw` is its question section as sent, with the sender's upper and lower case."""

    id: int
    recursion_desired: bool
    name: Name
    type: int
    cls: int
    raw: bytes
    edns: bool
    udp_size: int


@dataclass(frozen=True, slots=True)
class Record:
    """One resource record."""

    name: Name
    type: int
    ttl: int
    data: bytes


def encode_name(text: str) -> Name:
    """`web.default.svc.cluster.local` (a final dot is allowed). Raises ValueError for a label or name too long."""
    labels = [label.encode("idna" if not label.isascii() else "ascii").lower() for label in text.split(".") if label]
    if any(len(label) > 63 for label in labels):
        raise ValueError(f"{text!r}: a label is longer than 63 bytes")
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    if len(name) > 255:
        raise ValueError(f"{text!r}: longer than 255 bytes")
    return name


def parent(name: Name) -> Name:
    """The name without its first label; the root's parent is the root."""
    return name[1 + name[0] :] if name[0] else name


def labels_of(name: Name) -> list[bytes]:
    labels = []
    while name[0]:
        labels.append(name[1 : 1 + name[0]])
        name = parent(name)
    return labels


def parse_question(packet: bytes) -> Question:
    """The one question of a query. Raises BadMessage for anything that is not one."""
    if len(packet) < HEADER:
        raise BadMessage(None)
    identity, flags, questions, answers, authorities, additionals = _HEADER.unpack_from(packet)
    if flags & QR:
        raise BadMessage(None)
    if flags & 0x7800:
        raise BadMessage(NOTIMP)
    if questions != 1 or answers or authorities:
        raise BadMessage(FORMERR)
    end = _end_of_name(packet, HEADER)
    if end + 4 > len(packet):
        raise BadMessage(FORMERR)
    kind, cls = struct.unpack_from("!HH", packet, end)
    udp_size = _edns(packet, end + 4, additionals)
    return Question(
        id=identity,
        recursion_desired=bool(flags & RD),
        name=packet[HEADER:end].lower(),  # a length is at most 63, so below every letter
        type=kind,
        cls=cls,
        raw=packet[HEADER : end + 4],
        edns=udp_size is not None,
        udp_size=PLAIN_UDP if udp_size is None else udp_size,
    )


def _end_of_name(packet: bytes, start: int) -> int:
    """The offset after an uncompressed name."""
    at = start
    while at < len(packet):
        length = packet[at]
        if length == 0:
            if at + 1 - start > 255:
                raise BadMessage(FORMERR)
            return at + 1
        if length > 63:
            raise BadMessage(FORMERR)
        at += 1 + length
    raise BadMessage(FORMERR)


def _edns(packet: bytes, at: int, additionals: int) -> int | None:
    """The UDP size of an OPT record, None without one. Other additional records (TSIG) are not understood."""
    if not additionals:
        return None
    if at + 11 > len(packet) or packet[at] != 0:
        raise BadMessage(FORMERR)
    kind, size, ttl, length = map(int, _RECORD.unpack_from(packet, at + 1))
    if kind != OPT or additionals != 1 or at + 11 + length > len(packet):
        raise BadMessage(FORMERR)
    if (ttl >> 16) & 0xFF:
        raise BadMessage(BADVERS)
    return min(max(size, PLAIN_UDP), EDNS_UDP)


def build(
    question: Question,
    rcode: int,
    answers: Sequence[Record] = (),
    authority: Sequence[Record] = (),
    additional: Sequence[Record] = (),
    *,
    authoritative: bool = True,
    recursion: bool = False,
    limit: int = 65535,
) -> bytes:
    """A response of at most `limit` bytes. Answers that do not fit are cut, with TC set; extras are just left out."""
    opt = b"\0" + _RECORD.pack(OPT, EDNS_UDP, (rcode >> 4) << 24, 0) if question.edns else b""
    room = limit - HEADER - len(question.raw) - len(opt)
    body, counts, cut = bytearray(), [0, 0, 0], False
    for section, records in enumerate((answers, authority, additional)):
        for record in records:
            wire = _record(record, question)
            if cut or len(body) + len(wire) > room:
                cut = cut or section == 0
                break
            body += wire
            counts[section] += 1
    flags = QR | (RD if question.recursion_desired else 0) | (rcode & 15)
    flags |= (AA if authoritative else 0) | (RA if recursion else 0) | (TC if cut else 0)
    header = _HEADER.pack(question.id, flags, 1, counts[0], counts[1], counts[2] + bool(opt))
    return header + question.raw + bytes(body) + opt


def _record(record: Record, question: Question) -> bytes:
    owner = _POINTER_TO_QUESTION if record.name == question.name else record.name
    return owner + _RECORD.pack(record.type, CLASS_IN, record.ttl, len(record.data)) + record.data


def error(packet: bytes, rcode: int) -> bytes:
    """A response to a query that could not be read, or not be answered: only the header."""
    identity, flags = struct.unpack_from("!HH", packet)
    return _HEADER.pack(identity, QR | (flags & (0x7800 | RD)) | (rcode & 15), 0, 0, 0, 0)


# -- data of records


def address(text: str) -> tuple[int, bytes]:
    """Type and data for an IP address."""
    if ":" in text:
        return AAAA, IPv6Address(text).packed
    return A, IPv4Address(text).packed


def srv(port: int, target: Name, *, priority: int = 0, weight: int = 100) -> bytes:
    return struct.pack("!HHH", priority, weight, port) + target


def txt(text: str) -> bytes:
    data = text.encode()
    return bytes([len(data)]) + data


def soa(master: Name, mailbox: Name, serial: int, ttl: int) -> bytes:
    """Refresh, retry and expire as CoreDNS has them; the minimum is how long a "no" may be kept."""
    return master + mailbox + struct.pack("!IIIII", serial & 0xFFFFFFFF, 7200, 1800, 86400, ttl)


def reverse_name(text: str) -> Name:
    """`10.96.0.1` -> `1.0.96.10.in-addr.arpa`."""
    ip = IPv6Address(text) if ":" in text else IPv4Address(text)
    return encode_name(ip.reverse_pointer)
