"""A packet walks the rules: what this node does with a first packet, without asking the kernel.

The same order as in the kernel: source ranges, translation (rules for clients inside the cluster first), refusals,
what is left of the Service range. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network

from kubeproxy.plan import Action, Frontend, Protocol, Rule, Scope, Target


class Origin(StrEnum):
    """NODE: sent by a process in the node's own network namespace; LINK: arrived by an interface, from a pod or the
    LAN.
    """

    NODE = "node"
    LINK = "link"


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection, as it reaches the node."""

    source: IPv4Address
    destination: IPv4Address
    protocol: Protocol
    port: int
    origin: Origin = Origin.LINK


class Fate(StrEnum):
    TRANSLATED = "translated"
    REJECTED = "rejected"
    DROPPED = "dropped"
    UNTOUCHED = "untouched"


@dataclass(frozen=True, slots=True)
class Verdict:
    """`targets` have equal odds; those in `masqueraded` see the node's address instead of the client's."""

    fate: Fate
    targets: tuple[Target, ...] = ()
    masqueraded: frozenset[Target] = frozenset()
    rule: Rule | None = None


@dataclass(frozen=True, slots=True)
class Rules:
    """What stands on the node: the programmed rules and the ranges that the backend was started with."""

    rules: Mapping[Frontend, Rule]
    cluster_ips: Collection[IPv4Address] = ()
    hairpin: Collection[IPv4Address] = ()
    cluster_cidrs: tuple[IPv4Network, ...] = ()
    service_cidrs: tuple[IPv4Network, ...] = ()
    node_addresses: Collection[IPv4Address] = field(default_factory=tuple)


def walk(rules: Rules, packet: Packet) -> Verdict:
    """The fate of a packet; every possible target, not one of them."""
    inside = packet.origin is Origin.NODE or _in(packet.source, rules.cluster_cidrs)
    frontend = Frontend(packet.destination, packet.protocol, packet.port)
    general = rules.rules.get(frontend)
    if general and packet.origin is Origin.LINK and not _admitted(general, packet.source):
        return Verdict(Fate.DROPPED, rule=general)
    special = rules.rules.get(frontend._replace(scope=Scope.INTERNAL)) if inside else None
    rule = special or general
    if rule and rule.action is Action.PICK:
        seen = frozenset(t for t in rule.targets if _masqueraded(rules, packet, rule, t))
        return Verdict(Fate.TRANSLATED, rule.targets, seen, rule)
    if rule:
        return Verdict(Fate.REJECTED if rule.action is Action.REJECT else Fate.DROPPED, rule=rule)
    if packet.destination in rules.cluster_ips:
        return Verdict(Fate.REJECTED)
    if _in(packet.destination, rules.service_cidrs):
        return Verdict(Fate.DROPPED)
    return Verdict(Fate.UNTOUCHED)


def _admitted(rule: Rule, source: IPv4Address) -> bool:
    return rule.sources is None or _in(source, rule.sources)


def _masqueraded(rules: Rules, packet: Packet, rule: Rule, target: Target) -> bool:
    if rule.masquerade:
        return True
    if packet.source == target.address and target.address in rules.hairpin:
        return True
    foreign = not _in(packet.source, rules.cluster_cidrs) and packet.source not in rules.node_addresses
    return bool(rules.cluster_cidrs) and foreign and _in(packet.destination, rules.service_cidrs)


def _in(address: IPv4Address, networks: tuple[IPv4Network, ...]) -> bool:
    return any(address in network for network in networks)
