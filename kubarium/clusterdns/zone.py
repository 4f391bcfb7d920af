"""What the server knows, and what it says to a question. No I/O, no clock.

Records come and go by object. Names that only lead to others (`default.svc.cluster.local`) exist without records: asked
for, they have no data, which is another answer than a name that is not there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from kubarium.clusterdns import wire
from kubarium.clusterdns.records import Records
from kubarium.clusterdns.wire import Name, Question, Record

TTL_S = 5
SPECIFICATION = "1.1.0"
CHAIN = 8
"""Aliases followed at most."""
_REVERSE = (wire.encode_name("in-addr.arpa"), wire.encode_name("ip6.arpa"))
_DASHED_V4 = re.compile(rb"\d{1,3}-\d{1,3}-\d{1,3}-\d{1,3}")


@dataclass(slots=True)
class Reply:
    """An answer before it becomes bytes. `depends` are the names whose change makes it wrong."""

    rcode: int
    answers: list[Record] = field(default_factory=list)
    authority: list[Record] = field(default_factory=list)
    additional: list[Record] = field(default_factory=list)
    depends: set[Name] = field(default_factory=set)


class Zone:
    """All records of the cluster domain, and of the reverse zones as far as they are known."""

    def __init__(self, domain: str, *, serial: int = 1) -> None:
        self.apex = wire.encode_name(domain)
        self.serial = serial
        self._by_owner: dict[str, Records] = {}
        self._owners: dict[Name, set[str]] = {}
        self._below: Counter[Name] = Counter()  # how many names with records are below this one
        self._namespaces: set[bytes] = set()
        self._svc, self._pod = wire.encode_name(f"svc.{domain}"), wire.encode_name(f"pod.{domain}")
        self._master, self._mailbox = wire.encode_name(f"ns.dns.{domain}"), wire.encode_name(f"hostmaster.{domain}")
        version = {wire.TXT: frozenset({wire.txt(SPECIFICATION)})}
        apex = {wire.NS: frozenset({self._master})}
        self.put("", {wire.encode_name(f"dns-version.{domain}"): version, self.apex: apex})

    # -- what is known

    def put(self, owner: str, records: Records) -> set[Name]:
        """Replace what `owner` (a key such as a Service's) contributes; the names whose answers may differ now."""
        old = self._by_owner.get(owner, {})
        if old == records:
            return set()
        touched = {name for name in old.keys() | records.keys() if old.get(name) != records.get(name)}
        for name in old.keys() - records.keys():
            self._unlink(owner, name)
        for name in records.keys() - old.keys():
            self._link(owner, name)
        if records:
            self._by_owner[owner] = records
        else:
            self._by_owner.pop(owner, None)
        self.serial += 1
        return touched | {above for name in touched for above in _ancestors(name)}

    def set_namespaces(self, names: Iterable[str]) -> None:
        """Namespaces make `NAMESPACE.svc` and pod names exist."""
        self._namespaces = {name.encode() for name in names}

    def _link(self, owner: str, name: Name) -> None:
        owners = self._owners.setdefault(name, set())
        if not owners:
            self._below.update(_ancestors(name))
        owners.add(owner)

    def _unlink(self, owner: str, name: Name) -> None:
        owners = self._owners[name]
        owners.discard(owner)
        if not owners:
            del self._owners[name]
            for above in _ancestors(name):
                self._below[above] -= 1
                if not self._below[above]:
                    del self._below[above]

    def _find(self, name: Name) -> Mapping[int, list[bytes]] | None:
        """Records of a name by type; empty for a name without any; None if there is no such name."""
        if owners := self._owners.get(name):
            found: dict[int, set[bytes]] = {}
            for owner in owners:
                for kind, data in self._by_owner[owner][name].items():
                    found.setdefault(kind, set()).update(data)
            return {kind: sorted(data) for kind, data in found.items()}
        if name in self._below or name in (self.apex, self._svc, self._pod):
            return {}
        return self._pod_records(name)

    def _pod_records(self, name: Name) -> Mapping[int, list[bytes]] | None:
        """`10-244-1-5.NAMESPACE.pod` is the address it spells; `NAMESPACE.svc` and `NAMESPACE.pod` exist."""
        above = wire.parent(name)
        if above in (self._pod, self._svc):
            return {} if name[1 : 1 + name[0]] in self._namespaces else None
        if wire.parent(above) != self._pod or above[1 : 1 + above[0]] not in self._namespaces:
            return None
        return spelled_address(name[1 : 1 + name[0]])

    # -- what is said

    def covers(self, name: Name) -> bool:
        """Whether the name is ours to answer for: of the cluster domain, or a reverse name that we know."""
        if _within(name, self.apex):
            return True
        return name in self._owners and any(_within(name, zone) for zone in _REVERSE)

    def answer(self, question: Question) -> Reply:
        """The reply to a question about a name that `covers`."""
        reply = Reply(wire.NOERROR)
        name = question.name
        for _ in range(CHAIN):
            reply.depends.add(name)
            found = self._find(name)
            if found is None:
                reply.rcode = wire.NXDOMAIN
                break
            if wire.CNAME in found and question.type not in (wire.CNAME, wire.ANY):
                target = found[wire.CNAME][0]
                reply.answers.append(Record(name, wire.CNAME, TTL_S, target))
                name = target
                if not self.covers(name):
                    return reply  # the client's resolver goes on from here
                continue
            self._collect(reply, name, found, question.type)
            break
        if not reply.answers or reply.rcode == wire.NXDOMAIN:
            reply.authority.append(self._soa())
        return reply

    def _collect(self, reply: Reply, name: Name, found: Mapping[int, list[bytes]], kind: int) -> None:
        wanted = found.items() if kind == wire.ANY else [(kind, found.get(kind, []))]
        for each, data in wanted:
            reply.answers += [Record(name, each, TTL_S, one) for one in data]
        if name == self.apex and kind in (wire.SOA, wire.ANY):
            reply.answers.append(self._soa())
        targets = dict.fromkeys(record.data[6:] for record in reply.answers if record.type == wire.SRV)
        for target in targets:
            reply.depends.add(target)
            addresses = self._find(target) or {}
            reply.additional += [
                Record(target, each, TTL_S, one) for each in (wire.A, wire.AAAA) for one in addresses.get(each, [])
            ]

    def _soa(self) -> Record:
        return Record(self.apex, wire.SOA, TTL_S, wire.soa(self._master, self._mailbox, self.serial, TTL_S))


def spelled_address(label: bytes) -> Mapping[int, list[bytes]] | None:
    """`10-244-1-5` or `fd00--5` as records; None for a label that spells no address."""
    text = label.decode("ascii", "replace")
    try:
        if _DASHED_V4.fullmatch(label):
            return {wire.A: [IPv4Address(text.replace("-", ".")).packed]}
        return {wire.AAAA: [IPv6Address(text.replace("-", ":")).packed]}
    except AddressValueError:
        return None


def _within(name: Name, zone: Name) -> bool:
    """Whether `name` is `zone` or below it; a suffix of bytes counts only where a label begins."""
    if not name.endswith(zone):
        return False
    while len(name) > len(zone):
        name = wire.parent(name)
    return name == zone


def _ancestors(name: Name) -> list[Name]:
    """The names above, up to the top level."""
    above = []
    while (name := wire.parent(name))[0]:
        above.append(name)
    return above
