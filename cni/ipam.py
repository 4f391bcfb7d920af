"""Addresses of one pod CIDR: which are free, and who has which. Pure; the journal makes it last.

The lowest free address is given, and the same owner gets the same address again, so a repeated ADD changes nothing.
Source: CNI specification 1.1, section 2 (ADD, DEL, GC).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from kubarium.machinery.errors import PoolExhausted

RESERVED_LOW = 2  # network and gateway; the highest, broadcast, is reserved as well


class Owner(NamedTuple):
    """Who holds an address: one interface of one container."""

    container_id: str
    interface: str

    def __str__(self) -> str:
        return f"{self.container_id[:12]}/{self.interface}"


@dataclass(frozen=True, slots=True)
class PodRef:
    """The pod behind a container, as far as the runtime told."""

    namespace: str = ""
    name: str = ""
    uid: str = ""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}" if self.name else "(no pod named)"


@dataclass(frozen=True, slots=True)
class Allocation:
    """What one owner holds: at most one address of a family."""

    owner: Owner
    addresses: tuple[IPv4Address, ...]
    pod: PodRef = PodRef()


@dataclass(frozen=True, slots=True)
class Pool:
    """The addresses of one CIDR. `used` has bit i set where the i-th address is taken or reserved."""

    cidr: IPv4Network
    used: int

    @staticmethod
    def of(cidr: IPv4Network) -> Pool:
        """An empty pool: network, gateway (the first address) and broadcast are never given away."""
        size = cidr.num_addresses
        return Pool(cidr, (1 << min(RESERVED_LOW, size)) - 1 | 1 << (size - 1))

    @property
    def capacity(self) -> int:
        """How many addresses can be given away in all."""
        return max(0, self.cidr.num_addresses - RESERVED_LOW - 1)

    @property
    def taken(self) -> int:
        """How many are."""
        return self.used.bit_count() - Pool.of(self.cidr).used.bit_count()

    def take(self) -> tuple[Pool, IPv4Address]:
        """The lowest free address. Raises PoolExhausted, naming the CIDR and the number in use."""
        free = ~self.used
        index = (free & -free).bit_length() - 1
        if index >= self.cidr.num_addresses:
            raise PoolExhausted(
                f"no free address in {self.cidr}: all {self.taken} of {self.capacity} are in use; "
                "delete pods on this node, or give nodes a wider range (--node-cidr-mask-size)"
            )
        return replace(self, used=self.used | 1 << index), self.cidr[index]

    def hold(self, address: IPv4Address) -> Pool:
        """Mark an address as taken; one outside the CIDR (of an earlier range of this node) is none of ours."""
        return replace(self, used=self.used | 1 << self._index(address)) if address in self.cidr else self

    def release(self, address: IPv4Address) -> Pool:
        """Free an address again; reserved ones stay reserved."""
        if address not in self.cidr:
            return self
        return replace(self, used=self.used & ~(1 << self._index(address)) | Pool.of(self.cidr).used)

    def _index(self, address: IPv4Address) -> int:
        return int(address) - int(self.cidr.network_address)


@dataclass(frozen=True, slots=True)
class Addresses:
    """All of a node: its pools and who holds what. Every operation returns a new value."""

    pools: tuple[Pool, ...] = ()
    allocations: Mapping[Owner, Allocation] = field(default_factory=dict)

    def with_cidrs(self, cidrs: Iterable[IPv4Network]) -> Addresses:
        """The same allocations in other ranges: what is held outside of them stays held until it is released."""
        return replace(self, pools=tuple(self._refilled(Pool.of(cidr)) for cidr in cidrs))

    def allocate(self, owner: Owner, pod: PodRef) -> tuple[Addresses, Allocation]:
        """One address of the first range that has one free. Raises PoolExhausted."""
        if held := self.allocations.get(owner):
            return self, held
        if not self.pools:
            raise PoolExhausted("this node has no pod CIDR yet")
        position = next((i for i, p in enumerate(self.pools) if p.taken < p.capacity), 0)
        pool, address = self.pools[position].take()
        allocation = Allocation(owner, (address,), pod)
        pools = (*self.pools[:position], pool, *self.pools[position + 1 :])
        return Addresses(pools, {**self.allocations, owner: allocation}), allocation

    def release(self, owner: Owner) -> Addresses:
        """Free what an owner holds; holding nothing is no error."""
        if not (held := self.allocations.get(owner)):
            return self
        rest = {o: a for o, a in self.allocations.items() if o != owner}
        pools = self.pools
        for address in held.addresses:
            pools = tuple(p.release(address) for p in pools)
        return Addresses(pools, rest)

    def stale(self, valid: Iterable[Owner]) -> tuple[Owner, ...]:
        """Owners that hold addresses and are not in `valid`."""
        keep = set(valid)
        return tuple(owner for owner in self.allocations if owner not in keep)

    def _refilled(self, pool: Pool) -> Pool:
        for allocation in self.allocations.values():
            for address in allocation.addresses:
                pool = pool.hold(address)
        return pool
