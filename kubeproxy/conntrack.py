"""UDP flows that still go where a rule no longer sends them.

A UDP client that keeps its port keeps its conntrack entry, and with it the translation of the first packet, for as
long as it sends. TCP ends by itself; for UDP the entry has to go when its target does, or when an untranslated flow
gets a rule.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any, NamedTuple

from kubarium.machinery import netns
from kubarium.machinery.errors import NetlinkError
from kubeproxy.plan import Frontend, Protocol, Rule, Scope, Target
from kubeproxy.ruleset import RuleChange

log = logging.getLogger("kubeproxy")

UDP = socket.IPPROTO_UDP


class Flow(NamedTuple):
    """One conntrack entry: what the client sent, and who answers (source of the reply direction)."""

    source: IPv4Address
    source_port: int
    destination: IPv4Address
    port: int
    answers: Target


def udp_frontends(changes: Iterable[RuleChange]) -> frozenset[Frontend]:
    """The UDP frontends whose targets changed, without their scope."""
    rules = (rule for change in changes for rule in (change.old, change.new) if rule)
    return frozenset(r.frontend._replace(scope=Scope.ANY) for r in rules if r.frontend.protocol is Protocol.UDP)


def stale_flows(
    flows: Iterable[Flow], frontends: frozenset[Frontend], programmed: Mapping[Frontend, Rule]
) -> list[Flow]:
    """Those to one of `frontends` that are answered by none of its present targets."""
    found = []
    for flow in flows:
        frontend = Frontend(flow.destination, Protocol.UDP, flow.port)
        if frontend in frontends and flow.answers not in _targets(frontend, programmed):
            found.append(flow)
    return found


def _targets(frontend: Frontend, programmed: Mapping[Frontend, Rule]) -> set[Target]:
    rules = (programmed.get(frontend._replace(scope=scope)) for scope in Scope)
    return {target for rule in rules if rule for target in rule.targets}


class Conntrack:
    """The kernel's table, in the namespace of the process or the one at `path`. Every call blocks: use a thread."""

    def __init__(self, path: str | Path | None = None) -> None:
        from pyroute2.netlink.nfnetlink.nfctsocket import NFCTSocket

        self._socket: Any = netns.run_in_netns(path, NFCTSocket) if path else NFCTSocket()

    def close(self) -> None:
        self._socket.close()

    def udp_flows(self) -> list[Flow]:
        """Raises NetlinkError."""
        from pyroute2.netlink.exceptions import NetlinkError as KernelError
        from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

        try:
            return [_flow(message) for message in self._socket.dump(tuple_orig=NFCTAttrTuple(proto=UDP))]
        except (KernelError, OSError) as err:
            raise NetlinkError(f"list UDP flows: {err}") from err

    def delete(self, flows: Iterable[Flow]) -> int:
        """How many were still there to be deleted. Raises NetlinkError."""
        from pyroute2.netlink.exceptions import NetlinkError as KernelError
        from pyroute2.netlink.nfnetlink.nfctsocket import NFCTAttrTuple

        count = 0
        for flow in flows:
            original = NFCTAttrTuple(
                saddr=str(flow.source), daddr=str(flow.destination), proto=UDP, sport=flow.source_port, dport=flow.port
            )
            try:
                self._socket.entry("del", tuple_orig=original)
                count += 1
            except (KernelError, OSError) as err:
                if getattr(err, "code", None) != 2:  # ENOENT: it ended by itself
                    raise NetlinkError(f"delete UDP flow {flow}: {err}") from err
        return count

    def drop_stale(self, frontends: frozenset[Frontend], programmed: Mapping[Frontend, Rule]) -> int:
        """Delete the stale flows of `frontends`; how many there were."""
        return self.delete(stale_flows(self.udp_flows(), frontends, programmed))


def _flow(message: Any) -> Flow:
    original, reply = (message.get_attr(f"CTA_TUPLE_{which}") for which in ("ORIG", "REPLY"))
    source, destination = _addresses(original)
    source_port, port = _ports(original)
    return Flow(source, source_port, destination, port, Target(_addresses(reply)[0], _ports(reply)[0]))


def _addresses(part: Any) -> tuple[IPv4Address, IPv4Address]:
    ip = part.get_attr("CTA_TUPLE_IP")
    return IPv4Address(ip.get_attr("CTA_IP_V4_SRC")), IPv4Address(ip.get_attr("CTA_IP_V4_DST"))


def _ports(part: Any) -> tuple[int, int]:
    proto = part.get_attr("CTA_TUPLE_PROTO")
    return proto.get_attr("CTA_PROTO_SRC_PORT"), proto.get_attr("CTA_PROTO_DST_PORT")
