"""The nftables backend: the conformance class, and what only it promises (elements per change, names, comments)."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Iterator
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from kubarium.machinery.nft import Nft
from kubeproxy.backends.base import Backend, Ranges
from kubeproxy.backends.nftables import (
    Content,
    NftablesBackend,
    Slot,
    changes_text,
    comment,
    element_changes,
    elements,
    slot_numbers,
)
from kubeproxy.plan import NOTHING, Target, plan_service
from kubeproxy.ruleset import Ruleset
from tests.kubeproxy.conformance import NODE, RANGES, BackendConformance, MakeBackend, Proxy, slice_of
from tests.kubeproxy.lab import Place, running
from tests.kubeproxy.objects import endpoint_slice, service

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces")


@root
class TestNftables(BackendConformance):
    @pytest.fixture
    def make_backend(self) -> Iterator[MakeBackend]:
        opened: list[Nft] = []

        def make(node: Place) -> Backend:
            opened.append(Nft(node.path))
            return NftablesBackend(opened[-1], RANGES)

        yield make
        for nft in opened:
            asyncio.run(nft.close())

    async def sabotage(self, proxy: Proxy) -> None:
        assert isinstance(proxy.backend, NftablesBackend)
        nft = proxy.backend._nft
        await nft.commit("delete element ip kubarium-proxy endpoints { 10.96.0.10 . tcp . 80 . 0x0 }")


@pytest_asyncio.fixture
async def nft() -> AsyncIterator[Nft]:
    with running() as lab:
        nft = Nft(lab.nodes["node-1"].path)
        yield nft
        await nft.close()


def touched(ruleset: Ruleset) -> tuple[int, int]:
    """(elements deleted, elements added) by the next transaction."""
    text, _ = changes_text(ruleset.changes(), {"pick-1", "pick-2", "pick-3"})
    commands = [line.split(" ", 1) for line in text.splitlines()]
    count = {verb: sum(c[1].count(",") + 1 for c in commands if c[0] == verb) for verb in ("delete", "add")}
    return count["delete"], count["add"]


def test_a_change_among_many_services_touches_a_few_elements() -> None:
    ruleset = Ruleset()
    pods = [f"10.244.1.{n}" for n in range(2, 5)]
    for n in range(200):
        svc = service(f"s{n}", ip=f"10.96.1.{n}")
        ruleset.update(svc.key, plan_service(svc, [slice_of(*pods[:2], service=f"s{n}")], NODE))
    ruleset.confirm(ruleset.changes())
    one = service("s7", ip="10.96.1.7")

    ruleset.update(one.key, plan_service(one, [slice_of(*pods, service="s7")], NODE))
    assert touched(ruleset) == (1, 3), "the frontend's verdict, the new endpoint, its place in the hairpin set"
    ruleset.confirm(ruleset.changes())

    ruleset.update(one.key, plan_service(one, [slice_of(*pods[1:], service="s7")], NODE))
    assert touched(ruleset) == (3, 2), "verdict, the hole that is filled, the last place that is given up"
    ruleset.confirm(ruleset.changes())

    ruleset.update(one.key, NOTHING)
    assert touched(ruleset)[1] == 0


STEPS = st.lists(
    st.tuples(
        st.integers(0, 3),  # which Service
        st.sets(st.integers(2, 9), max_size=5),  # its pods
        st.sampled_from(["", "ClientIP"]),
        st.sampled_from(["", "Local"]),
        st.booleans(),  # whether it exists
    ),
    max_size=12,
)


@given(STEPS)
def test_changes_one_after_the_other_lead_where_a_fresh_start_does(steps: list[Any]) -> None:
    ruleset = Ruleset()
    kernel: dict[Slot, Content] = {}
    for number, pods, affinity, policy, exists in steps:
        svc = service(
            f"s{number}",
            ip=f"10.96.0.{number % 3}",  # two of them want the same address
            type="NodePort",
            sessionAffinity=affinity,
            externalTrafficPolicy=policy,
            ports=[{"port": 80, "nodePort": 30080 + number}],
        )
        piece = slice_of(*(f"10.244.{1 + pod % 2}.{pod}" for pod in pods), service=f"s{number}")
        ruleset.update(svc.key, plan_service(svc, [piece], NODE) if exists else NOTHING)
        changes = ruleset.changes()
        gone, come = element_changes(changes)
        assert all(kernel.pop(slot, None) == content for slot, content in gone.items() if content.comment)
        for slot in gone:
            kernel.pop(slot, None)
        assert not come.keys() & kernel.keys(), "the kernel refuses to add what is there"
        kernel |= come
        ruleset.confirm(changes)
    expected = {slot: content for rule in ruleset.programmed.values() for slot, content in elements(rule).items()}
    expected |= {Slot("hairpin", f"{ip} . {ip}"): Content("", "") for ip in ruleset.hairpin}
    expected |= {Slot("cluster-ips", str(ip)): Content(owner, "") for ip, owner in ruleset.cluster_ips.items()}
    assert kernel == expected


def test_slots_belong_to_targets_not_to_places() -> None:
    targets = [Target(IPv4Address(f"10.244.1.{n}"), 8080) for n in range(2, 200)]
    all_of_them = slot_numbers(targets)
    assert len(set(all_of_them.values())) == len(targets)
    assert all(slot_numbers(targets[n:])[targets[n]] == all_of_them[targets[n]] for n in range(50))


def test_elements_are_named_after_their_service() -> None:
    svc = service("shop", namespace="eu", ports=[{"name": "http", "port": 80}])
    piece = endpoint_slice("10.244.1.7", service="shop", ports=[{"name": "http", "port": 8080}])
    (rule,) = plan_service(svc, [piece], NODE).rules
    assert {c.comment for c in elements(rule).values()} == {"eu/shop:http"}


def test_long_names_are_cut_and_stay_distinct() -> None:
    texts = [f"{'n' * 63}/{'s' * 63}:{'p' * 62}{end}" for end in "ab"]
    assert all(len(comment(text)) < 128 and comment(text).startswith("nnn") for text in texts)
    assert comment(texts[0]) != comment(texts[1])
    assert comment("eu/shop:http") == "eu/shop:http"


@root
async def test_taking_over_a_table_of_another_shape(nft: Nft) -> None:
    await nft.commit(
        "add table ip kubarium-proxy\n"
        "add map ip kubarium-proxy services { type ipv4_addr : verdict; }\n"
        "add chain ip kubarium-proxy pick-9\n"
    )
    backend = NftablesBackend(nft, RANGES)
    await backend.replace(Ruleset().changes())
    assert await backend.intact()
    assert "pick-9" not in await nft.list_chains("ip", "kubarium-proxy")


@root
async def test_chains_that_nothing_leads_to_go_with_the_next_takeover(nft: Nft) -> None:
    first = Proxy(NftablesBackend(nft, RANGES))
    first.want(service(), slice_of("10.244.1.7", "10.244.1.8"))
    await first.start()
    assert "pick-2" in await nft.list_chains("ip", "kubarium-proxy")
    heir = Proxy(NftablesBackend(nft, RANGES))
    heir.want(service(), slice_of("10.244.1.7"))
    await heir.start()
    chains = await nft.list_chains("ip", "kubarium-proxy")
    assert "pick-1" in chains and "pick-2" not in chains


@root
async def test_several_ranges(nft: Nft) -> None:
    two = tuple(IPv4Network(t) for t in ("10.244.0.0/16", "10.250.0.0/16"))
    backend = NftablesBackend(nft, Ranges(two, two))
    await backend.replace(Ruleset().changes())
    assert await backend.intact()
    await NftablesBackend(nft, Ranges((), two)).replace(Ruleset().changes())


@root
async def test_a_change_among_a_thousand_services_is_live_within_milliseconds(nft: Nft) -> None:
    proxy = Proxy(NftablesBackend(nft, RANGES))
    for n in range(1000):
        svc = service(f"s{n}", ip=f"10.96.{n // 250}.{n % 250}")
        proxy.want(svc, slice_of("10.244.1.7", "10.244.1.8", service=f"s{n}"))
    await proxy.start()
    took = []
    for n in range(20):
        svc = service("s7", ip="10.96.0.7")
        started = time.perf_counter()
        await proxy.set(svc, slice_of("10.244.1.7", f"10.244.1.{n + 9}", service="s7"))
        took.append(time.perf_counter() - started)
    assert sorted(took)[10] < 0.02, took
