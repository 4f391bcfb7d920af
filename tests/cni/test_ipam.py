"""The pool: lowest free, same owner same address, exhaustion by name."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cni.ipam import Addresses, Owner, PodRef, Pool
from kubarium.machinery.errors import PoolExhausted

CIDR = IPv4Network("10.244.1.0/29")
POD = PodRef("default", "web", "u-1")


def fresh(cidr: IPv4Network = CIDR) -> Addresses:
    return Addresses().with_cidrs([cidr])


def owner(number: int) -> Owner:
    return Owner(f"c{number}", "eth0")


def test_the_lowest_free_address_is_given_and_reserved_ones_never() -> None:
    addresses = fresh()
    given_out = []
    for number in range(5):
        addresses, allocation = addresses.allocate(owner(number), POD)
        given_out.append(str(allocation.addresses[0]))
    assert given_out == [f"10.244.1.{n}" for n in range(2, 7)]
    addresses = addresses.release(owner(1)).release(owner(3))
    assert addresses.allocate(owner(9), POD)[1].addresses == (IPv4Address("10.244.1.3"),)


def test_the_same_owner_gets_the_same_address() -> None:
    addresses, first = fresh().allocate(owner(1), POD)
    again, second = addresses.allocate(owner(1), POD)
    assert (again, second) == (addresses, first)


def test_two_interfaces_of_a_container_are_two_owners() -> None:
    addresses, first = fresh().allocate(Owner("c1", "eth0"), POD)
    assert addresses.allocate(Owner("c1", "net1"), POD)[1].addresses != first.addresses


def test_a_full_pool_names_its_range_and_its_use() -> None:
    addresses = fresh()
    for number in range(5):
        addresses, _ = addresses.allocate(owner(number), POD)
    with pytest.raises(PoolExhausted, match=r"no free address in 10\.244\.1\.0/29: all 5 of 5 are in use"):
        addresses.allocate(owner(9), POD)


def test_a_second_range_is_used_when_the_first_is_full() -> None:
    addresses = Addresses().with_cidrs([IPv4Network("10.244.1.0/30"), IPv4Network("10.244.9.0/30")])
    addresses, first = addresses.allocate(owner(1), POD)
    addresses, second = addresses.allocate(owner(2), POD)
    assert [str(a.addresses[0]) for a in (first, second)] == ["10.244.1.2", "10.244.9.2"]


def test_without_a_range_nothing_is_given() -> None:
    with pytest.raises(PoolExhausted, match="no pod CIDR"):
        Addresses().allocate(owner(1), POD)


def test_allocations_survive_another_range_and_can_be_released() -> None:
    addresses, old = fresh().allocate(owner(1), POD)
    moved = addresses.with_cidrs([IPv4Network("10.244.7.0/24")])
    moved, new = moved.allocate(owner(2), POD)
    assert str(new.addresses[0]) == "10.244.7.2"
    assert moved.allocate(owner(1), POD)[1] == old
    assert owner(1) not in moved.release(owner(1)).allocations
    back = moved.with_cidrs([CIDR])
    assert back.allocate(owner(3), POD)[1].addresses != old.addresses


def test_stale_owners_are_those_that_nobody_vouches_for() -> None:
    addresses, _ = fresh().allocate(owner(1), POD)
    addresses, _ = addresses.allocate(owner(2), POD)
    assert addresses.stale([owner(2), owner(7)]) == (owner(1),)


@pytest.mark.parametrize("prefix", [29, 30, 31, 32, 24])
def test_capacity_is_what_can_be_taken(prefix: int) -> None:
    pool = Pool.of(IPv4Network(f"10.244.1.0/{prefix}"))
    for _ in range(pool.capacity):
        pool, _ = pool.take()
    assert pool.taken == pool.capacity
    with pytest.raises(PoolExhausted):
        pool.take()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 12)), max_size=60))
def test_no_address_is_held_twice_or_lost(steps: list[tuple[bool, int]]) -> None:
    addresses = fresh(IPv4Network("10.244.1.0/28"))
    for take, number in steps:
        if take:
            addresses, _ = addresses.allocate(owner(number), POD)
        else:
            addresses = addresses.release(owner(number))
        held = [a for allocation in addresses.allocations.values() for a in allocation.addresses]
        assert len(held) == len(set(held)) == addresses.pools[0].taken
    assert addresses.with_cidrs([IPv4Network("10.244.1.0/28")]) == addresses
