"""Cluster IPs and node ports: each belongs to one Service at a time.

What is taken follows from the Services themselves, so nothing leaks and nothing is kept: the table is filled from the
watch cache at the start and follows it. A reservation is in the table before the Service is written and confirmed with
the revision of the write, so two requests at the same time never get the same address.

Dynamic addresses and ports come from the upper part of their range, so that the lower part stays free for those whom
people name. Source: KEP-3070 (reserved Service IP range), KEP-3668 (reserved NodePort range).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal, NamedTuple

from apiserver.registry.base import Object
from kubarium.machinery.errors import InternalError, Invalid, StatusCause

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
HEADLESS = "None"
TRIES = 64  # random picks before the range is searched in order


class Item(NamedTuple):
    """Something that one Service holds: an address or a port, by its number."""

    kind: Literal["ip", "port"]
    number: int


@dataclass(frozen=True, slots=True)
class PortRange:
    """Both ends are in it."""

    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"

    @property
    def size(self) -> int:
        return self.last - self.first + 1


@dataclass
class Reservation:
    """What a write has taken beyond what its Service held before; given back by `cancel`."""

    key: str
    items: list[Item] = field(default_factory=list)


class ServiceAllocator:
    """One per server. `key` is a Service's store key."""

    def __init__(self, network: Network, ports: PortRange, rng: random.Random | None = None) -> None:
        self.network = network
        self.ports = ports
        self._rng = rng or random.SystemRandom()
        self._owner: dict[Item, str] = {}
        self._held: dict[str, frozenset[Item]] = {}
        self._seen: dict[str, int] = {}

    # -- what is known -------------------------------------------------------------------------------------------------

    def observe(self, key: str, revision: int, service: Object | None) -> None:
        """A Service as it is since `revision` (None: gone). Older news than what is known is ignored."""
        if revision < self._seen.get(key, 0):
            return
        items = frozenset(holdings(service)) if service else frozenset()
        for item in self._held.get(key, frozenset()) - items:
            if self._owner.get(item) == key:
                del self._owner[item]
        for item in items:
            self._owner.setdefault(item, key)
        if items:
            self._held[key] = items
        else:
            self._held.pop(key, None)
        self._seen[key] = revision

    def forget(self, key: str, revision: int) -> None:
        """The watch has told of the end of a Service that we knew of: no older news can follow."""
        if self._seen.get(key, 0) <= revision:
            self.observe(key, revision, None)
            self._seen.pop(key, None)

    def cancel(self, reservation: Reservation) -> None:
        held = self._held.get(reservation.key, frozenset())
        for item in reservation.items:
            if item not in held and self._owner.get(item) == reservation.key:
                del self._owner[item]

    # -- what is wanted ------------------------------------------------------------------------------------------------

    def allocate(self, key: str, service: Object, old: Object | None = None) -> Reservation:
        """Fill in what a Service lacks and take what it names. Raises Invalid, and then nothing is taken."""
        reservation = Reservation(key)
        own = frozenset(holdings(old)) if old else frozenset()
        causes: list[StatusCause] = []
        try:
            self._addresses(service["spec"], reservation, own, causes)
            self._node_ports(service["spec"], reservation, own, causes)
            if causes:
                raise Invalid.of("", "Service", service["metadata"].get("name", ""), causes)
        except Exception:
            self.cancel(reservation)
            raise
        return reservation

    def _addresses(
        self, spec: Object, reservation: Reservation, own: frozenset[Item], causes: list[StatusCause]
    ) -> None:
        if spec.get("type") == "ExternalName":
            return
        set_families(spec, self.network.version)
        wanted = spec.get("clusterIP", "")
        if wanted == HEADLESS:
            spec["clusterIPs"] = [HEADLESS]
            return
        if not wanted:
            wanted = str(self._free_address(reservation))
        elif fault := self._take_address(wanted, reservation, own):
            text = f'Invalid value: ["{wanted}"]: {fault}'
            causes.append(StatusCause("FieldValueInvalid", text, "spec.clusterIPs"))
        spec["clusterIP"] = wanted
        spec["clusterIPs"] = [wanted]

    def _take_address(self, text: str, reservation: Reservation, own: frozenset[Item]) -> str:
        """What is wrong with an address that somebody names; nothing where it is taken now."""
        address = ip_address(text)
        item = Item("ip", int(address))
        if item in own:
            return ""
        if address not in self.network or address in (self.network.network_address, self.network.broadcast_address):
            return (
                f"failed to allocate IP {text}: the provided IP ({text}) is not in the valid range. "
                f"The range of valid IPs is {self.network}"
            )
        return (
            "" if self._take(item, reservation) else f"failed to allocate IP {text}: provided IP is already allocated"
        )

    def _free_address(self, reservation: Reservation) -> Address:
        usable = self.network.num_addresses - 2
        reserved = min(max(16, usable // 16), 256) if usable > 16 else 0
        base = int(self.network.network_address) + 1
        for offset in self._candidates(usable, reserved):
            if self._take(Item("ip", base + offset), reservation):
                return ip_address(base + offset)
        text = f"failed to allocate a serviceIP: range is full: all {usable} addresses of {self.network} are in use"
        raise InternalError(f"Internal error occurred: {text}")

    def _node_ports(
        self, spec: Object, reservation: Reservation, own: frozenset[Item], causes: list[StatusCause]
    ) -> None:
        if not needs_node_ports(spec):
            return
        named: dict[int, str] = {}  # several protocols may share a number inside one Service
        for index, port in enumerate(spec.get("ports") or ()):
            if (number := port.get("nodePort")) and number not in named:
                named[number] = port.get("protocol", "TCP")
                if fault := self._take_port(number, reservation, own):
                    path = f"spec.ports[{index}].nodePort"
                    causes.append(StatusCause("FieldValueInvalid", f"Invalid value: {number}: {fault}", path))
        if causes:
            return
        for port in spec.get("ports") or ():
            if not port.get("nodePort"):
                port["nodePort"] = self._free_port(reservation)
        if needs_health_port(spec):
            wanted = spec.get("healthCheckNodePort")
            if wanted and (fault := self._take_port(wanted, reservation, own)):
                text = f"Invalid value: {wanted}: {fault}"
                causes.append(StatusCause("FieldValueInvalid", text, "spec.healthCheckNodePort"))
            elif not wanted:
                spec["healthCheckNodePort"] = self._free_port(reservation)

    def _take_port(self, number: int, reservation: Reservation, own: frozenset[Item]) -> str:
        item = Item("port", number)
        if item in own:
            return ""
        if not self.ports.first <= number <= self.ports.last:
            return f"provided port is not in the valid range. The range of valid ports is {self.ports}"
        return "" if self._take(item, reservation) else "provided port is already allocated"

    def _free_port(self, reservation: Reservation) -> int:
        size = self.ports.size
        reserved = min(max(16, size // 32), 128) if size > 16 else 0
        for offset in self._candidates(size, reserved):
            if self._take(Item("port", self.ports.first + offset), reservation):
                return self.ports.first + offset
        raise InternalError(f"Internal error occurred: failed to allocate a nodePort: range {self.ports} is full")

    def _take(self, item: Item, reservation: Reservation) -> bool:
        if item in self._owner:
            return False
        self._owner[item] = reservation.key
        reservation.items.append(item)
        return True

    def _candidates(self, size: int, reserved: int) -> Iterator[int]:
        """Offsets to try: at random above the reserved part, then all above it, then the reserved part."""
        for _ in range(TRIES):
            yield self._rng.randrange(reserved, size)
        yield from range(reserved, size)
        yield from range(reserved)


def holdings(service: Object) -> Iterable[Item]:
    """The addresses and ports that a stored Service holds."""
    spec = service.get("spec") or {}
    if spec.get("type") == "ExternalName":
        return
    for address in spec.get("clusterIPs") or [spec.get("clusterIP")]:
        if address and address != HEADLESS:
            yield Item("ip", int(ip_address(address)))
    for port in spec.get("ports") or ():
        if port.get("nodePort"):
            yield Item("port", port["nodePort"])
    if spec.get("healthCheckNodePort"):
        yield Item("port", spec["healthCheckNodePort"])


def needs_node_ports(spec: Object) -> bool:
    if spec.get("type") == "LoadBalancer":
        return spec.get("allocateLoadBalancerNodePorts") is not False
    return spec.get("type") == "NodePort"


def needs_health_port(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def set_families(spec: Object, version: int) -> None:
    """Families and policy as a cluster of one family has them."""
    family = f"IPv{version}"
    if not spec.get("ipFamilies"):
        spec["ipFamilies"] = [family]
    if not spec.get("ipFamilyPolicy"):
        spec["ipFamilyPolicy"] = "SingleStack"
