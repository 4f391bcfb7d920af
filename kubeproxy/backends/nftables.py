"""Services as nftables map elements: no chain per Service, a change is a few elements in one transaction.

A frontend is one element of `services`, leading to `pick-N` for its N targets; that chain draws an index into the
packet mark and `translate` looks up (address, protocol, port, mark) in `endpoints`. With session affinity the index
leads through `slots` to a slot, a number that belongs to the target whatever happens to its neighbours; `affinity`
remembers client -> slot, so that a target which goes takes only its own clients with it, and nobody has to search
that map.

The text is made by pure functions; `NftablesBackend` sends it.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network
from typing import NamedTuple

from kubarium.machinery.errors import NftError
from kubarium.machinery.nft import Nft
from kubeproxy.backends.base import Ranges
from kubeproxy.plan import Action, Rule, Scope, Target
from kubeproxy.ruleset import Changes

log = logging.getLogger("kubeproxy.nftables")

TABLE = "kubarium-proxy"
T = f"ip {TABLE}"

# The packet mark of a first packet: index or slot in the lower half, who put it there in the upper.
MARK_MASQUERADE = 0x10000
MARK_INTERNAL = 0x20000
MARK_SLOT = 0x40000
SLOTS = 0x10000

KEY = "ip daddr . ip protocol . th dport"
CLIENT = f"ip saddr . {KEY}"
KEY_TYPE = "ipv4_addr . inet_proto . inet_service"

# Emptied when the table is taken over; `affinity` is not, it belongs to the clients.
MAPS = {
    "services": f"map {T} services {{ type {KEY_TYPE} : verdict; }}",
    "services-internal": f"map {T} services-internal {{ type {KEY_TYPE} : verdict; }}",
    "refused": f"map {T} refused {{ type {KEY_TYPE} : verdict; }}",
    "endpoints": f"map {T} endpoints {{ type {KEY_TYPE} . mark : ipv4_addr . inet_service; }}",
    "slots": f"map {T} slots {{ type {KEY_TYPE} . mark : mark; }}",
    "cluster-ips": f"set {T} cluster-ips {{ type ipv4_addr; }}",
    "hairpin": f"set {T} hairpin {{ type ipv4_addr . ipv4_addr; }}",
    "firewalled": f"set {T} firewalled {{ type {KEY_TYPE}; }}",
    "allowed-sources": f"set {T} allowed-sources {{ type {KEY_TYPE} . ipv4_addr; flags interval; }}",
}
AFFINITY = f"map {T} affinity {{ type ipv4_addr . {KEY_TYPE} : mark; flags dynamic,timeout; timeout 3h; size 65535; }}"
BASE_CHAINS = ("firewall", "prerouting", "output", "postrouting", "filter-input", "filter-forward", "filter-output")
DRAWING = ("pick-", "stick-")  # how the names of chains made on demand begin
COMMENT_MAX = 128


class Slot(NamedTuple):
    """Where an element stands: the name of its map or set, and its key in nft's words."""

    container: str
    key: str


class Content(NamedTuple):
    """What follows the key: comment and value ("" for an element of a set)."""

    comment: str
    value: str


NO_CONTENT = Content("", "")


def base_text(ranges: Ranges, stale_chains: Iterable[str] = ()) -> str:
    """The table with its hooks and no element; what stood there before is emptied, affinity excepted."""
    lines = [f"add table {T}", f"flush table {T}"]
    lines += [f"add {declaration}" for declaration in (*MAPS.values(), AFFINITY)]
    lines += [f"flush {' '.join(declaration.split()[:4])}" for declaration in MAPS.values()]
    lines += [f"delete chain {T} {chain}" for chain in stale_chains]
    for chain, rules in _chains(ranges):
        lines.append(f"add chain {T} {chain}")
        lines += [f"add rule {T} {chain.split()[0]} {rule}" for rule in rules]
    return "\n".join(lines) + "\n"


def _chains(ranges: Ranges) -> Iterable[tuple[str, Sequence[str]]]:
    """Chains in an order in which each finds those that it leads to, with their rules."""
    pods, services = _one_of(ranges.cluster_cidrs), _one_of(ranges.service_cidrs)
    inside = f"{KEY} vmap @services-internal"
    anybody = f"{KEY} vmap @services"
    foreign = f"ct status dnat ct original ip daddr {services} ip saddr != {pods} fib saddr type != local masquerade"
    yield "translate", [f"dnat ip addr . port to {KEY} . meta mark map @endpoints"]
    # A reset: an ICMP error is lost on a local socket still inside connect(), and limited in rate elsewhere.
    yield "refuse", ["meta l4proto tcp reject with tcp reset", "reject"]
    yield (
        "refusals",
        [
            f'{KEY} vmap @refused comment "Services without an endpoint"',
            'ip daddr @cluster-ips goto refuse comment "ports that the Service lacks"',
            f'ip daddr {services} drop comment "addresses of no Service"',
        ],
    )
    yield (
        "firewall { type filter hook prerouting priority -110; policy accept; }",
        [f'ct state new {KEY} @firewalled {KEY} . ip saddr != @allowed-sources drop comment "source ranges"'],
    )
    yield (
        "prerouting { type nat hook prerouting priority -100; policy accept; }",
        [*([f"ip saddr {pods} {inside}"] if ranges.cluster_cidrs else []), anybody],
    )
    yield "output { type nat hook output priority -100; policy accept; }", [inside, anybody]
    yield (
        "postrouting { type nat hook postrouting priority 100; policy accept; }",
        [
            f"ct status dnat meta mark & {MARK_MASQUERADE:#x} != 0 masquerade "
            'comment "answers must come back through this node"',
            'ct status dnat ip saddr . ip daddr @hairpin masquerade comment "a pod that reached itself"',
            *([foreign + ' comment "from outside the cluster"'] if ranges.cluster_cidrs else []),
        ],
    )
    yield "filter-input { type filter hook input priority -110; policy accept; }", ["ct state new jump refusals"]
    yield (
        "filter-forward { type filter hook forward priority -110; policy accept; }",
        ["ct state vmap { new : jump refusals, invalid : drop }"],
    )
    yield "filter-output { type filter hook output priority -90; policy accept; }", ["ct state new jump refusals"]


def elements(rule: Rule) -> dict[Slot, Content]:
    """Everything that one rule stands for."""
    frontend = rule.frontend
    key = f"{frontend.address} . {frontend.protocol.value} . {frontend.port}"
    note = comment(rule.owner)
    found: dict[Slot, Content] = {}
    if rule.sources is not None and frontend.scope is Scope.ANY:
        found[Slot("firewalled", key)] = Content(note, "")
        found |= {Slot("allowed-sources", f"{key} . {source}"): Content(note, "") for source in rule.sources}
    if rule.action is not Action.PICK:
        verdict = "goto refuse" if rule.action is Action.REJECT else "drop"
        return found | {Slot("refused", key): Content(note, verdict)}
    services = "services-internal" if frontend.scope is Scope.INTERNAL else "services"
    found[Slot(services, key)] = Content(note, f"goto {chain_name(rule)}")
    flags = _flags(rule)
    if not rule.affinity_s:
        for index, target in enumerate(rule.targets):
            found[_mark_slot("endpoints", key, index | flags)] = _endpoint(note, target)
        return found
    slots = slot_numbers(rule.targets)
    for index, target in enumerate(rule.targets):
        slot = slots[target] | flags | MARK_SLOT
        found[_mark_slot("slots", key, index | flags)] = Content(note, f"{slot:#x}")
        found[_mark_slot("endpoints", key, slot)] = _endpoint(note, target)
    return found


def chain_name(rule: Rule) -> str:
    """`pick-3`, `pick-3-masq`, `stick-3-10800-internal-masq`: one for all rules that draw alike."""
    kind = f"stick-{len(rule.targets)}-{rule.affinity_s}" if rule.affinity_s else f"pick-{len(rule.targets)}"
    return kind + ("-internal" if rule.frontend.scope is Scope.INTERNAL else "") + ("-masq" if rule.masquerade else "")


def chain_text(rule: Rule) -> str:
    """The chain that `chain_name` names."""
    name, flags = chain_name(rule), _flags(rule)
    draw = f"meta mark set numgen random mod {len(rule.targets)} offset {flags}"
    lines = [f"add chain {T} {name}", f"flush chain {T} {name}"]
    if not rule.affinity_s:
        return "\n".join([*lines, f"add rule {T} {name} {draw} goto translate"]) + "\n"
    remember = f"update @affinity {{ {CLIENT} timeout {rule.affinity_s}s : meta mark }}"
    lines += [
        f"add rule {T} {name} {statement}"
        for statement in (
            f"meta mark set {CLIENT} map @affinity {remember} jump translate",
            # only a client whose target has gone comes back from there
            f"{CLIENT} @affinity delete @affinity {{ {CLIENT} : meta mark }}",
            draw,
            f"meta mark set {KEY} . meta mark map @slots",
            f"{remember} goto translate",
        )
    ]
    return "\n".join(lines) + "\n"


Elements = dict[Slot, Content]


def element_changes(changes: Changes) -> tuple[Elements, Elements]:
    """(to be deleted, to be added). A key that stands in both changes its content."""
    gone: Elements = {}
    come: Elements = {}
    for change in changes.rules:
        old = elements(change.old) if change.old else {}
        new = elements(change.new) if change.new else {}
        gone |= {slot: content for slot, content in old.items() if new.get(slot) != content}
        come |= {slot: content for slot, content in new.items() if old.get(slot) != content}
    gone |= {Slot("cluster-ips", str(ip)): NO_CONTENT for ip in changes.cluster_ips_removed}
    gone |= {Slot("hairpin", f"{ip} . {ip}"): NO_CONTENT for ip in changes.hairpin_removed}
    come |= {Slot("cluster-ips", str(ip)): Content(comment(o), "") for ip, o in changes.cluster_ips_added.items()}
    come |= {Slot("hairpin", f"{ip} . {ip}"): NO_CONTENT for ip in changes.hairpin_added}
    return gone, come


def changes_text(changes: Changes, chains: set[str]) -> tuple[str, set[str]]:
    """One transaction for `changes`, and the chains that it adds to the `chains` that are there.

    Deletions come before additions, so that a key whose content changes is exchanged, in one step for the kernel.
    """
    gone, come = element_changes(changes)
    made: dict[str, str] = {}
    for change in changes.rules:
        rule = change.new
        if rule and rule.action is Action.PICK and (name := chain_name(rule)) not in chains | made.keys():
            made[name] = chain_text(rule)
    text = "".join(made.values())
    text += "".join(_element_commands("delete", dict.fromkeys(gone, NO_CONTENT)))
    text += "".join(_element_commands("add", come))
    return text, set(made)


def _element_commands(verb: str, content: Mapping[Slot, Content]) -> Iterable[str]:
    by_container: dict[str, list[str]] = defaultdict(list)
    for slot, (note, value) in content.items():
        text = slot.key + (f' comment "{note}"' if note else "") + (f" : {value}" if value else "")
        by_container[slot.container].append(text)
    for container, texts in by_container.items():
        yield f"{verb} element {T} {container} {{ {', '.join(texts)} }}\n"


def slot_numbers(targets: Iterable[Target]) -> dict[Target, int]:
    """A number for each target that depends on the target, not on its place; the rare clash moves one of the two."""
    numbers: dict[Target, int] = {}
    taken: set[int] = set()
    for target in sorted(targets):
        number = zlib.crc32(str(target).encode()) % SLOTS
        while number in taken:
            number = (number + 1) % SLOTS
        taken.add(number)
        numbers[target] = number
    return numbers


def comment(text: str) -> str:
    """`text` if nft can hold it, else a readable prefix and a hash: the full name stands in our own index."""
    if len(text) < COMMENT_MAX:
        return text
    return f"{text[: COMMENT_MAX - 20]}~{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _flags(rule: Rule) -> int:
    internal = MARK_INTERNAL if rule.frontend.scope is Scope.INTERNAL else 0
    return internal | (MARK_MASQUERADE if rule.masquerade else 0)


def _mark_slot(container: str, key: str, mark: int) -> Slot:
    return Slot(container, f"{key} . {mark:#x}")


def _endpoint(note: str, target: Target) -> Content:
    return Content(note, f"{target.address} . {target.port}")


def _one_of(networks: Sequence[IPv4Network]) -> str:
    return str(networks[0]) if len(networks) == 1 else "{ " + ", ".join(map(str, networks)) + " }"


class NftablesBackend:
    """The edge: sends the text and remembers which chains stand."""

    name = "nftables"

    def __init__(self, nft: Nft, ranges: Ranges) -> None:
        self._nft = nft
        self._ranges = ranges
        self._chains: set[str] = set()

    async def replace(self, changes: Changes) -> None:
        elements, made = changes_text(changes, set())
        stale = [c for c in await self._nft.list_chains("ip", TABLE) if c.startswith(DRAWING) and c not in made]
        try:
            await self._nft.commit(base_text(self._ranges, stale) + elements)
        except NftError as err:  # another version of ours declared it otherwise: sessions' affinity cannot be kept
            log.warning("kube-proxy: table %s cannot be taken over and is made anew: %s", TABLE, err)
            await self._nft.commit(f"add table {T}\ndelete table {T}\n" + base_text(self._ranges) + elements)
        self._chains = made
        _give_memory_back()

    async def apply(self, changes: Changes) -> None:
        text, made = changes_text(changes, self._chains)
        if text:
            await self._nft.commit(text)
        self._chains |= made

    async def intact(self) -> bool:
        return set(BASE_CHAINS) <= set(await self._nft.list_chains("ip", TABLE))

    def verdict(self, rule: Rule) -> str:
        return chain_name(rule) if rule.action is Action.PICK else rule.action.value

    async def remove(self) -> None:
        await self._nft.commit(f"add table {T}\ndelete table {T}\n")
        self._chains = set()


def _give_memory_back() -> None:
    """libnftables parses a whole transaction into small pieces; glibc keeps them: 70 MB after 10,000 Services."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc has it, musl has not
    if trim:
        trim(0)
