"""What every proxy backend promises, shown with packets through real namespaces.

A subclass gives the fixture `backend`: a factory that makes a fresh instance for node-1 of the lab.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
import pytest_asyncio

from kubarium.machinery.errors import NetworkError
from kubarium.machinery.objects import EndpointSlice, Service
from kubeproxy.backends.base import Backend, Ranges
from kubeproxy.plan import NOTHING, NodeView, plan_service
from kubeproxy.ruleset import Changes, Ruleset
from tests.kubeproxy.lab import SERVICE_CIDR, SILENT_S, Lab, Place, ask, ask_udp, connect, echo
from tests.kubeproxy.objects import endpoint, endpoint_slice, service

NODE = NodeView("node-1", (IPv4Address("198.18.0.11"),))
RANGES = Ranges((IPv4Network("10.244.0.0/16"),), (IPv4Network(SERVICE_CIDR),))
LOCAL, NEIGHBOUR, REMOTE, CLIENT = "10.244.1.7", "10.244.1.8", "10.244.2.7", "10.244.1.5"  # pods of the fixture `lab`
NODE_IP, HOST, IP = "198.18.0.11", "198.18.0.1", "10.96.0.10"

MakeBackend = Callable[[Place], Backend]


class Proxy:
    """A backend with the rules it was given: what the proxy's sync does, without API and informers."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.rules = Ruleset()

    def want(self, svc: Service, *slices: EndpointSlice) -> None:
        self.rules.update(svc.key, plan_service(svc, slices, NODE))

    async def start(self) -> None:
        changes = self.rules.changes()
        await self.backend.replace(changes)
        self.rules.confirm(changes)

    async def sync(self) -> Changes:
        changes = self.rules.changes()
        await self.backend.apply(changes)
        self.rules.confirm(changes)
        return changes

    async def set(self, svc: Service, *slices: EndpointSlice) -> Changes:
        self.want(svc, *slices)
        return await self.sync()


def slice_of(*addresses: str, **more: Any) -> EndpointSlice:
    return endpoint_slice(*(endpoint(a, f"node-{a.split('.')[2]}") for a in addresses), **more)


def counts(source: Place, destination: str, port: int, times: int) -> Counter[str]:
    return Counter(ask(source, destination, port)[0] for _ in range(times))


class BackendConformance:
    @pytest_asyncio.fixture
    async def proxy(self, lab: Lab, make_backend: MakeBackend) -> AsyncIterator[Proxy]:
        proxy = Proxy(make_backend(lab.nodes["node-1"]))
        await proxy.start()
        yield proxy
        await proxy.backend.remove()

    async def test_a_cluster_ip_spreads_over_pods_that_see_the_client(self, lab: Lab, proxy: Proxy) -> None:
        await proxy.set(service(), slice_of(LOCAL, REMOTE))
        answers = [ask(lab.pods[CLIENT], IP, 80) for _ in range(40)]
        assert {seen for _, seen in answers} == {CLIENT}
        assert 5 < Counter(who for who, _ in answers)[LOCAL] < 35

    async def test_the_node_itself_reaches_a_cluster_ip(self, lab: Lab, proxy: Proxy) -> None:
        await proxy.set(service(), slice_of(LOCAL, REMOTE))
        answers = {ask(lab.nodes["node-1"], IP, 80) for _ in range(30)}
        assert answers == {(LOCAL, NODE_IP), (REMOTE, NODE_IP)}

    async def test_a_node_port_answers_outsiders_for_pods_elsewhere(self, lab: Lab, proxy: Proxy) -> None:
        svc = service(type="NodePort", ports=[{"port": 80, "nodePort": 30080}])
        await proxy.set(svc, slice_of(REMOTE))
        assert ask(lab.host, NODE_IP, 30080) == (REMOTE, NODE_IP)
        await proxy.set(svc, slice_of(LOCAL))
        assert ask(lab.host, NODE_IP, 30080) == (LOCAL, NODE_IP)
        assert ask(lab.nodes["node-1"], NODE_IP, 30080)[0] == LOCAL
        assert ask(lab.pods[CLIENT], NODE_IP, 30080)[0] == LOCAL

    async def test_external_policy_local_keeps_the_client(self, lab: Lab, proxy: Proxy) -> None:
        ports = [{"port": 80, "nodePort": 30080}]
        svc = service(type="NodePort", ports=ports, externalTrafficPolicy="Local")
        await proxy.set(svc, slice_of(LOCAL, REMOTE))
        lab.nodes["node-1"].netlink.ensure_route("198.18.0.1/32", link=_eth0(lab))
        assert {ask(lab.host, NODE_IP, 30080) for _ in range(10)} == {(LOCAL, HOST)}
        assert {ask(lab.pods[CLIENT], NODE_IP, 30080)[0] for _ in range(30)} == {LOCAL, REMOTE}
        await proxy.set(svc, slice_of(REMOTE))
        with pytest.raises(TimeoutError):
            ask(lab.host, NODE_IP, 30080, timeout_s=SILENT_S)
        assert ask(lab.pods[CLIENT], NODE_IP, 30080)[0] == REMOTE

    async def test_a_pod_reaches_itself_through_its_service(self, lab: Lab, proxy: Proxy) -> None:
        await proxy.set(service(), slice_of(LOCAL))
        assert ask(lab.pods[LOCAL], IP, 80) == (LOCAL, NODE_IP)

    async def test_without_endpoints_connections_are_refused_at_once(self, lab: Lab, proxy: Proxy) -> None:
        svc = service(type="NodePort", ports=[{"port": 80, "nodePort": 30080}])
        await proxy.set(svc, slice_of(LOCAL))
        await proxy.set(svc)
        for source, address, port in (
            (lab.pods[CLIENT], IP, 80),
            (lab.nodes["node-1"], IP, 80),
            (lab.host, NODE_IP, 30080),
        ):
            started = time.monotonic()
            with pytest.raises(ConnectionRefusedError):
                ask(source, address, port)
            assert time.monotonic() - started < 1

    async def test_a_port_that_the_service_lacks_is_refused(self, lab: Lab, proxy: Proxy) -> None:
        await proxy.set(service(), slice_of(LOCAL))
        for source in (lab.pods[CLIENT], lab.nodes["node-1"]):
            with pytest.raises(ConnectionRefusedError):
                ask(source, IP, 81)

    async def test_an_address_of_no_service_is_silent(self, lab: Lab, proxy: Proxy) -> None:
        with pytest.raises(TimeoutError):
            ask(lab.pods[CLIENT], "10.96.200.200", 80, timeout_s=SILENT_S)

    async def test_a_deleted_service_is_gone(self, lab: Lab, proxy: Proxy) -> None:
        await proxy.set(service(), slice_of(LOCAL))
        proxy.rules.update(service().key, NOTHING)
        await proxy.sync()
        with pytest.raises(TimeoutError):
            ask(lab.pods[CLIENT], IP, 80, timeout_s=SILENT_S)

    async def test_udp(self, lab: Lab, proxy: Proxy) -> None:
        ports = [{"name": "", "port": 53, "protocol": "UDP"}]
        pieces = slice_of(LOCAL, REMOTE, ports=[{"name": "", "port": 8080, "protocol": "UDP"}])
        await proxy.set(service(ports=ports), pieces)
        assert {ask_udp(lab.pods[CLIENT], IP, 53) for _ in range(30)} == {(LOCAL, CLIENT), (REMOTE, CLIENT)}

    async def test_endpoints_come_and_go(self, lab: Lab, proxy: Proxy) -> None:
        await proxy.set(service(), slice_of(LOCAL, NEIGHBOUR, REMOTE))
        assert set(counts(lab.pods[CLIENT], IP, 80, 40)) == {LOCAL, NEIGHBOUR, REMOTE}
        await proxy.set(service(), slice_of(NEIGHBOUR, REMOTE))
        assert set(counts(lab.pods[CLIENT], IP, 80, 30)) == {NEIGHBOUR, REMOTE}
        await proxy.set(service(), slice_of(LOCAL))
        assert set(counts(lab.pods[CLIENT], IP, 80, 5)) == {LOCAL}

    async def test_affinity_holds_a_client_until_its_pod_goes(self, lab: Lab, proxy: Proxy) -> None:
        svc = service(sessionAffinity="ClientIP", type="NodePort", ports=[{"port": 80, "nodePort": 30080}])
        everybody = [LOCAL, NEIGHBOUR, REMOTE]
        await proxy.set(svc, slice_of(*everybody))
        client = lab.pods[CLIENT]
        (chosen,) = counts(client, IP, 80, 15)
        assert len(counts(client, NODE_IP, 30080, 15)) == 1
        for other in (p for p in everybody if p != chosen):
            await proxy.set(svc, slice_of(*(p for p in everybody if p != other)))
            assert set(counts(client, IP, 80, 10)) == {chosen}
        rest = [p for p in everybody if p != chosen]
        await proxy.set(svc, slice_of(*rest))
        (next_one,) = counts(client, IP, 80, 15)
        assert next_one in rest
        await proxy.set(svc, slice_of(*everybody))
        assert set(counts(client, IP, 80, 10)) == {next_one}

    async def test_affinity_ends_after_its_timeout(self, lab: Lab, proxy: Proxy) -> None:
        config = {"clientIP": {"timeoutSeconds": 1}}
        svc = service(sessionAffinity="ClientIP", sessionAffinityConfig=config)
        await proxy.set(svc, slice_of(LOCAL, NEIGHBOUR, REMOTE))
        seen: set[str] = set()
        deadline = time.monotonic() + 20
        while len(seen) < 2 and time.monotonic() < deadline:
            seen.add(ask(lab.pods[CLIENT], IP, 80)[0])
            await asyncio.sleep(1.1)  # the timeout under test
        assert len(seen) > 1

    async def test_source_ranges_of_a_load_balancer_address(self, lab: Lab, proxy: Proxy) -> None:
        ingress = {"loadBalancer": {"ingress": [{"ip": "198.18.0.200"}]}}
        lab.host.netlink.ensure_route("198.18.0.200/32", link=_eth0_of(lab.host), gateway=NODE_IP)
        svc = service(type="LoadBalancer", loadBalancerSourceRanges=["198.18.0.0/30"], status=ingress)
        await proxy.set(svc, slice_of(LOCAL))
        assert ask(lab.host, "198.18.0.200", 80)[0] == LOCAL
        svc = service(type="LoadBalancer", loadBalancerSourceRanges=["203.0.113.0/24"], status=ingress)
        await proxy.set(svc, slice_of(LOCAL))
        with pytest.raises(TimeoutError):
            ask(lab.host, "198.18.0.200", 80, timeout_s=SILENT_S)

    async def test_open_connections_outlive_changes_and_a_takeover(
        self, lab: Lab, proxy: Proxy, make_backend: MakeBackend
    ) -> None:
        await proxy.set(service(), slice_of(REMOTE))
        with connect(lab.pods[CLIENT], IP, 80) as sock:
            sock.recv(100)
            assert echo(sock, b"one") == b"one"
            await proxy.set(service(), slice_of(LOCAL))
            assert echo(sock, b"two") == b"two"
            heir = Proxy(make_backend(lab.nodes["node-1"]))  # the first one was killed: nothing was said
            heir.want(service("other", ip="10.96.0.20"), slice_of(LOCAL, service="other"))
            await heir.start()
            assert echo(sock, b"three") == b"three"
        assert ask(lab.pods[CLIENT], "10.96.0.20", 80)[0] == LOCAL
        with pytest.raises(TimeoutError):  # the first one's Service is in no cache any more
            ask(lab.pods[CLIENT], IP, 80, timeout_s=SILENT_S)

    async def test_affinity_outlives_a_takeover(self, lab: Lab, proxy: Proxy, make_backend: MakeBackend) -> None:
        svc = service(sessionAffinity="ClientIP")
        await proxy.set(svc, slice_of(LOCAL, NEIGHBOUR, REMOTE))
        (chosen,) = counts(lab.pods[CLIENT], IP, 80, 5)
        heir = Proxy(make_backend(lab.nodes["node-1"]))
        heir.want(svc, slice_of(REMOTE, LOCAL, NEIGHBOUR))
        await heir.start()
        assert set(counts(lab.pods[CLIENT], IP, 80, 15)) == {chosen}

    async def test_replacing_leaves_no_gap(self, lab: Lab, proxy: Proxy, make_backend: MakeBackend) -> None:
        await proxy.set(service(), slice_of(LOCAL))
        failures: list[OSError] = []
        stop = asyncio.Event()

        def traffic() -> None:
            while not stop.is_set():
                try:
                    ask(lab.pods[CLIENT], IP, 80, timeout_s=1)
                except OSError as err:
                    failures.append(err)

        client = asyncio.create_task(asyncio.to_thread(traffic))
        for _ in range(20):
            heir = Proxy(make_backend(lab.nodes["node-1"]))
            heir.want(service(), slice_of(LOCAL))
            await heir.start()
        stop.set()
        await client
        assert failures == []

    async def test_it_notices_that_its_hooks_are_gone_and_repairs_them(self, lab: Lab, proxy: Proxy) -> None:
        await proxy.set(service(), slice_of(LOCAL))
        assert await proxy.backend.intact()
        await proxy.backend.remove()
        assert not await proxy.backend.intact()
        proxy.rules.forget_programmed()
        await proxy.start()
        assert ask(lab.pods[CLIENT], IP, 80)[0] == LOCAL

    async def test_a_refused_change_changes_nothing(self, lab: Lab, proxy: Proxy) -> None:
        await proxy.set(service(), slice_of(LOCAL))
        await self.sabotage(proxy)
        proxy.want(service(), slice_of(REMOTE))
        proxy.want(service("new", ip="10.96.0.30"), slice_of(REMOTE, service="new"))
        with pytest.raises(NetworkError):
            await proxy.sync()
        with contextlib.suppress(TimeoutError):
            assert ask(lab.pods[CLIENT], "10.96.0.30", 80, timeout_s=SILENT_S) is None
        proxy.rules.forget_programmed()
        await proxy.start()
        assert ask(lab.pods[CLIENT], "10.96.0.30", 80)[0] == REMOTE
        assert ask(lab.pods[CLIENT], IP, 80)[0] == REMOTE

    async def sabotage(self, proxy: Proxy) -> None:
        """Take away, behind the backend's back, something that its next change to Service `web` needs."""
        raise NotImplementedError


def _eth0(lab: Lab) -> int:
    return _eth0_of(lab.nodes["node-1"])


def _eth0_of(place: Place) -> int:
    link = place.netlink.link("eth0")
    assert link is not None
    return link.index
