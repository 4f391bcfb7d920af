"""Cluster IPs and node ports: each belongs to one Service at a time.

What is taken follows from the Services themselves, so nothing leaks and nothing is kept: the table is filled from the
watch cache at the start and follows it. A reservation is in the table before the Service is written and confirmed with
the revision of the write, so two requests at the same time never get the same address.

Dynamic addresses and ports come from the upper part of their range, so that the lower part stays free for those whom
people name. Source: KEP-3070 (reserved Service IP range), KEP-3668 (reserved NodePort range).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal, NamedTuple

from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.service_families import needs_cluster_ip, needs_health_port, needs_node_port, settle
from kubarium.machinery.errors import InternalError, Invalid

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
HEADLESS = "None"
_NOTHING: Mapping[Item, int] = {}
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
    dry_run: bool = False


class ServiceAllocator:
    """One per server. `key` is a Service's store key."""

    def __init__(self, network: Network, ports: PortRange, rng: random.Random | None = None) -> None:
        self.network = network
        self.networks: tuple[Network, ...] = (network,)
        self.ports = ports
        self._rng = rng or random.SystemRandom()
        self._owner: dict[Item, str] = {}
        self._held: dict[str, dict[Item, int]] = {}  # each with the revision from which on the Service has it
        self._seen: dict[str, int] = {}
        self._rivals: dict[Item, set[str]] = {}  # others that hold what has an owner

    # -- what is known -------------------------------------------------------------------------------------------------

    def observe(self, key: str, revision: int, service: Object | None) -> None:
        """A Service as it is since `revision` (None: gone). Older news than what is known is ignored."""
        if revision < self._seen.get(key, 0):
            return
        items = frozenset(holdings(service)) if service else frozenset()
        before = self._held.get(key, _NOTHING)
        for item in before.keys() - items:
            self._release(item, key)
        for item in items:
            if self._owner.setdefault(item, key) != key:
                self._rivals.setdefault(item, set()).add(key)
        if items:
            self._held[key] = {item: before.get(item, revision) for item in items}
        else:
            self._held.pop(key, None)
        self._seen[key] = revision

    def _release(self, item: Item, key: str) -> None:
        rivals = self._rivals.pop(item, set()) - {key}
        if self._owner.get(item) == key:
            del self._owner[item]
            if rivals:
                self._owner[item] = rivals.pop()
        if rivals:
            self._rivals[item] = rivals

    def forget(self, key: str, revision: int) -> None:
        """A Service that we knew of is gone as of `revision`: no older news can follow."""
        if self._seen.get(key, 0) <= revision:
            self.observe(key, revision, None)
            self._seen.pop(key, None)

    def forget_all(self, revision: int) -> None:
        """Every Service that there is at `revision` is about to be told; what is reserved stays so."""
        for key in list(self._seen):
            self.forget(key, revision)

    def addresses(self) -> list[tuple[int, str]]:
        """The number of each address that a Service has, and the Service's key."""
        return [(item.number, key) for key, items in self._held.items() for item in items if item.kind == "ip"]

    def is_disputed(self, reservation: Reservation, revision: int) -> bool:
        """Whether another Service has held one of these items from an earlier revision on."""
        return any(
            key != reservation.key and self._held.get(key, _NOTHING).get(item, revision) < revision
            for item in reservation.items
            for key in (self._owner.get(item, ""), *self._rivals.get(item, ()))
        )

    def cancel(self, reservation: Reservation) -> None:
        held = self._held.get(reservation.key, _NOTHING)
        for item in reservation.items:
            if item not in held and self._owner.get(item) == reservation.key:
                self._release(item, reservation.key)

    # -- what is wanted ------------------------------------------------------------------------------------------------

    def allocate(self, key: str, service: Object, old: Object | None = None, *, dry_run: bool = False) -> Reservation:
        """Settle the families of a Service, fill in what it lacks and take what it names. A dry run takes nothing and
        is less strict, as upstream's is. Raises Invalid or InternalError, and then nothing is taken.
        """
        reservation = Reservation(key, dry_run=dry_run)
        own = frozenset(holdings(old)) if old else frozenset()
        try:
            faults = settle(service, old, self.families)
            if not faults:
                self._addresses(service["spec"], old, reservation, faults)
            if not faults and needs_node_port(service):
                self._node_ports(service["spec"], old is not None, reservation, own, faults)
            if faults:
                raise Invalid.of("", "Service", service["metadata"].get("name", ""), faults)
            if needs_health_port(service) and not (old is not None and needs_health_port(old)):
                self._health_port(service["spec"], reservation)
        except Exception:
            self.cancel(reservation)
            raise
        return reservation

    @property
    def families(self) -> tuple[str, ...]:
        return (f"IPv{self.network.version}",)

    def _addresses(self, spec: Object, old: Object | None, reservation: Reservation, faults: Faults) -> None:
        """A Service gets its address when it is made, or stops being an ExternalName; then it keeps it."""
        fresh = old is None or not needs_cluster_ip(old)
        if spec.get("type") == "ExternalName" or not fresh:
            return
        ips: list[str] = spec.get("clusterIPs") or []
        if ips[:1] == [HEADLESS]:
            return
        if not ips:
            spec["clusterIPs"] = ips = [str(self._free_address(reservation))]
        elif fault := self._take_address(ips[0], reservation):
            faults.invalid("spec.clusterIPs", ips, f"failed to allocate IP {ips[0]}: {fault}")
        spec["clusterIP"] = ips[0]

    def _take_address(self, text: str, reservation: Reservation) -> str:
        """What is wrong with an address that somebody names; nothing where it is taken now."""
        address = ip_address(text)
        if not any(_is_usable(address, network) for network in self.networks):
            if not reservation.dry_run:
                return "the provided network does not match the current range"
            return f"the provided IP ({text}) is not in the valid range. The range of valid IPs is {self.network}"
        taken = self._take(Item("ip", int(address)), reservation)
        return "" if taken or reservation.dry_run else "provided IP is already allocated"

    def _free_address(self, reservation: Reservation) -> Address:
        if reservation.dry_run:
            return self.network.network_address
        for network in self.networks:
            usable = network.num_addresses - 2
            reserved = min(max(16, usable // 16), 256) if usable > 16 else 0
            base = int(network.network_address) + 1
            for offset in self._candidates(usable, reserved):
                if self._take(Item("ip", base + offset), reservation):
                    return ip_address(base + offset)
        name = reservation.key.rpartition("/")[2]
        raise _internal(f'failed to allocate a serviceIP for Service "{name}": range is full')

    def _node_ports(
        self, spec: Object, updating: bool, reservation: Reservation, own: frozenset[Item], faults: Faults
    ) -> None:
        """Ports of one number share a node port where the Service is new and names none: the same for TCP and UDP."""
        allocates = spec.get("type") == "NodePort" or spec.get("allocateLoadBalancerNodePorts") is not False
        ports = spec.get("ports") or []
        shared: dict[int, int] = {}  # port -> node port, of new Services
        taken: set[int] = set()  # by updates
        for index, port in enumerate(ports):
            number, wanted = port.get("port", 0), port.get("nodePort")
            if not wanted and not allocates:
                continue
            if not updating and number in shared:
                wanted = port["nodePort"] = wanted or shared[number]
                if wanted == shared[number]:
                    continue
            elif not updating:
                wanted = wanted or next(
                    (p["nodePort"] for p in ports if p.get("port") == number and p.get("nodePort")), 0
                )
            if not wanted:
                port["nodePort"] = shared[number] = self._free_port(reservation)
                continue
            if wanted not in taken and (fault := self._take_port(wanted, reservation, own)):
                faults.invalid(f"spec.ports[{index}].nodePort", wanted, fault)
                return
            port["nodePort"] = wanted
            shared.setdefault(number, wanted)
            if updating:
                taken.add(wanted)

    def _health_port(self, spec: Object, reservation: Reservation) -> None:
        wanted = spec.get("healthCheckNodePort")
        if not wanted:
            spec["healthCheckNodePort"] = self._free_port(reservation)
        elif fault := self._take_port(wanted, reservation, frozenset()):
            raise _internal(f"failed to allocate requested HealthCheck NodePort {wanted}: {fault}")

    def _take_port(self, number: int, reservation: Reservation, own: frozenset[Item]) -> str:
        item = Item("port", number)
        if item in own:
            return ""
        if not self.ports.first <= number <= self.ports.last and not reservation.dry_run:
            return f"provided port is not in the valid range. The range of valid ports is {self.ports}"
        return "" if self._take(item, reservation) else "provided port is already allocated"

    def _free_port(self, reservation: Reservation) -> int:
        size = self.ports.size
        reserved = min(max(16, size // 32), 128) if size > 16 else 0
        for offset in self._candidates(size, reserved):
            if self._take(Item("port", self.ports.first + offset), reservation):
                return self.ports.first + offset
        raise _internal("failed to allocate a nodePort: range is full")

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


def _is_usable(address: Address, network: Network) -> bool:
    """Whether a Service may have it: the first and the last address of a network are nobody's."""
    return address in network and address not in (network.network_address, network.broadcast_address)


def _internal(text: str) -> InternalError:
    return InternalError(f"Internal error occurred: {text}", details={"causes": [{"message": text}]})


def holdings(service: Object) -> Iterable[Item]:
    """The addresses and ports that a stored Service holds."""
    spec = service.get("spec") or {}
    if not needs_cluster_ip(service):
        return
    for address in spec.get("clusterIPs") or [spec.get("clusterIP")]:
        if address and address != HEADLESS:
            yield Item("ip", int(ip_address(address)))
    if needs_node_port(service):
        for port in spec.get("ports") or ():
            if port.get("nodePort"):
                yield Item("port", port["nodePort"])
    if needs_health_port(service) and spec.get("healthCheckNodePort"):
        yield Item("port", spec["healthCheckNodePort"])
