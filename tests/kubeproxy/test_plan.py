"""Packets walk through the plan: what each meets on node-1, by Kubernetes' documentation of Services."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from kubarium.machinery.objects import EndpointSlice, Service
from kubeproxy.plan import NOTHING, NodeView, Protocol, Scope, Target, plan_service
from kubeproxy.ruleset import Ruleset
from kubeproxy.walk import Fate, Origin, Packet, Rules, Verdict, walk
from tests.kubeproxy.objects import endpoint, endpoint_slice, service

NODE = NodeView("node-1", (IPv4Address("198.18.0.11"),))
POD, OTHER_POD, HOST, NODE_IP = "10.244.1.5", "10.244.2.9", "198.18.0.1", "198.18.0.11"


def rules_of(*pairs: tuple[Service, Iterable[EndpointSlice]], node: NodeView = NODE) -> Rules:
    ruleset = Ruleset()
    for svc, slices in pairs:
        ruleset.update(svc.key, plan_service(svc, slices, node))
    ruleset.confirm(ruleset.changes())
    return Rules(
        ruleset.programmed,
        ruleset.cluster_ips,
        ruleset.hairpin,
        cluster_cidrs=(IPv4Network("10.244.0.0/16"),),
        service_cidrs=(IPv4Network("10.96.0.0/16"),),
        node_addresses=node.addresses,
    )


def packet(source: str, destination: str, port: int, protocol: str = "tcp") -> Packet:
    origin = Origin.NODE if source == NODE_IP else Origin.LINK
    return Packet(IPv4Address(source), IPv4Address(destination), Protocol(protocol), port, origin)


def targets(*texts: str) -> tuple[Target, ...]:
    return tuple(Target(IPv4Address(a), int(p)) for a, p in (t.split(":") for t in texts))


def summary(verdict: Verdict) -> tuple[str, list[str], list[str]]:
    return verdict.fate.value, [str(t) for t in verdict.targets], sorted(str(t) for t in verdict.masqueraded)


def meets(rules: Rules, source: str, destination: str, port: int, protocol: str = "tcp") -> Any:
    return summary(walk(rules, packet(source, destination, port, protocol)))


WEB = service(ports=[{"name": "http", "port": 80, "nodePort": 30080, "protocol": "TCP"}], type="NodePort")
WEB_SLICE = endpoint_slice(
    endpoint("10.244.1.7", "node-1"),
    endpoint("10.244.2.7", "node-2"),
    ports=[{"name": "http", "port": 8080, "protocol": "TCP"}],
)
BOTH = ["10.244.1.7:8080", "10.244.2.7:8080"]


@pytest.mark.parametrize(
    ("source", "destination", "port", "expected"),
    [
        pytest.param(POD, "10.96.0.10", 80, ("translated", BOTH, []), id="pod to ClusterIP keeps its address"),
        pytest.param(NODE_IP, "10.96.0.10", 80, ("translated", BOTH, []), id="node to ClusterIP"),
        pytest.param(HOST, "10.96.0.10", 80, ("translated", BOTH, BOTH), id="outsider to ClusterIP is masqueraded"),
        pytest.param(HOST, NODE_IP, 30080, ("translated", BOTH, BOTH), id="outsider to NodePort is masqueraded"),
        pytest.param(POD, NODE_IP, 30080, ("translated", BOTH, BOTH), id="pod to NodePort"),
        pytest.param(NODE_IP, NODE_IP, 30080, ("translated", BOTH, BOTH), id="node to its own NodePort"),
        pytest.param("10.244.1.7", "10.96.0.10", 80, ("translated", BOTH, BOTH[:1]), id="hairpin only is masqueraded"),
        pytest.param(POD, "10.96.0.10", 81, ("rejected", [], []), id="port the Service lacks"),
        pytest.param(POD, "10.96.9.9", 80, ("dropped", [], []), id="address of no Service"),
        pytest.param(POD, "10.244.2.7", 8080, ("untouched", [], []), id="pod to pod"),
        pytest.param(HOST, NODE_IP, 22, ("untouched", [], []), id="a port of the node's own"),
        pytest.param(POD, "198.18.0.12", 30080, ("untouched", [], []), id="NodePort of another node is its affair"),
    ],
)
def test_packet_to_a_node_port_service(source: str, destination: str, port: int, expected: Any) -> None:
    assert meets(rules_of((WEB, [WEB_SLICE])), source, destination, port) == expected


def test_protocols_of_one_port_are_apart() -> None:
    dns = service(ports=[{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53}])
    udp = endpoint_slice("10.244.1.3", ports=[{"name": "dns", "port": 5353, "protocol": "UDP"}], name="a")
    rules = rules_of((dns, [udp]))
    assert meets(rules, POD, "10.96.0.10", 53, "udp") == ("translated", ["10.244.1.3:5353"], [])
    assert meets(rules, POD, "10.96.0.10", 53, "tcp") == ("rejected", [], [])


def test_service_without_endpoints_rejects() -> None:
    rules = rules_of((WEB, []))
    assert meets(rules, POD, "10.96.0.10", 80)[0] == "rejected"
    assert meets(rules, HOST, NODE_IP, 30080)[0] == "rejected"


def test_only_ready_endpoints_are_drawn() -> None:
    slices = [endpoint_slice("10.244.1.7", endpoint("10.244.2.7", "node-2", ready=False))]
    assert meets(rules_of((service(), slices)), POD, "10.96.0.10", 80) == ("translated", ["10.244.1.7:8080"], [])


def test_terminating_endpoints_serve_when_none_is_ready() -> None:
    leaving = endpoint("10.244.1.7", ready=False, serving=True, terminating=True)
    gone = endpoint("10.244.1.8", ready=False, serving=False, terminating=True)
    rules = rules_of((service(), [endpoint_slice(leaving, gone)]))
    assert meets(rules, POD, "10.96.0.10", 80) == ("translated", ["10.244.1.7:8080"], [])


def test_an_endpoint_in_two_slices_counts_once_and_ready_wins() -> None:
    slices = [
        endpoint_slice(endpoint("10.244.1.7", ready=False), name="old"),
        endpoint_slice("10.244.1.7", name="new"),
    ]
    assert meets(rules_of((service(), slices)), POD, "10.96.0.10", 80) == ("translated", ["10.244.1.7:8080"], [])


def test_named_target_ports_may_differ_per_slice() -> None:
    svc = service(ports=[{"name": "http", "port": 80, "targetPort": "http"}])
    slices = [
        endpoint_slice("10.244.1.7", ports=[{"name": "http", "port": 8080}], name="a"),
        endpoint_slice("10.244.1.8", ports=[{"name": "http", "port": 9090}], name="b"),
    ]
    assert meets(rules_of((svc, slices)), POD, "10.96.0.10", 80)[1] == ["10.244.1.7:8080", "10.244.1.8:9090"]


@pytest.mark.parametrize(
    ("source", "local_endpoint", "expected"),
    [
        pytest.param(HOST, True, ("translated", BOTH[:1], []), id="outsider keeps its address, local endpoints only"),
        pytest.param(HOST, False, ("dropped", [], []), id="outsider where no endpoint is local"),
        pytest.param(POD, True, ("translated", BOTH, BOTH), id="pod gets all endpoints"),
        pytest.param(NODE_IP, False, ("translated", BOTH[1:], BOTH[1:]), id="node gets all endpoints"),
    ],
)
def test_external_traffic_policy_local(source: str, local_endpoint: bool, expected: Any) -> None:
    svc = service(ports=[{"port": 80, "nodePort": 30080}], type="NodePort", externalTrafficPolicy="Local")
    pods = [endpoint("10.244.1.7", "node-1")] if local_endpoint else []
    rules = rules_of((svc, [endpoint_slice(*pods, endpoint("10.244.2.7", "node-2"))]))
    assert meets(rules, source, NODE_IP, 30080) == expected


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        pytest.param(["node-1", "node-2"], ("translated", ["10.244.1.7:8080"], []), id="local ones"),
        pytest.param(["node-2", "node-2"], ("dropped", [], []), id="none is local"),
        pytest.param([], ("rejected", [], []), id="none at all"),
    ],
)
def test_internal_traffic_policy_local(nodes: list[str], expected: Any) -> None:
    svc = service(internalTrafficPolicy="Local")
    pods = [endpoint(f"10.244.{n + 1}.7", node) for n, node in enumerate(nodes)]
    assert meets(rules_of((svc, [endpoint_slice(*pods)])), POD, "10.96.0.10", 80) == expected


def test_load_balancer_address_admits_its_source_ranges_only() -> None:
    svc = service(
        type="LoadBalancer",
        loadBalancerSourceRanges=["198.18.0.0/24"],
        status={"loadBalancer": {"ingress": [{"ip": "198.18.0.200", "ipMode": "VIP"}]}},
    )
    rules = rules_of((svc, [endpoint_slice("10.244.1.7")]))
    assert meets(rules, HOST, "198.18.0.200", 80)[0] == "translated"
    assert meets(rules, "203.0.113.9", "198.18.0.200", 80)[0] == "dropped"


def test_external_ips_are_frontends() -> None:
    svc = service(externalIPs=["198.18.0.99"])
    rules = rules_of((svc, [endpoint_slice("10.244.1.7")]))
    assert meets(rules, HOST, "198.18.0.99", 80) == ("translated", ["10.244.1.7:8080"], ["10.244.1.7:8080"])


def test_zone_hints_hold_where_every_endpoint_has_one() -> None:
    def hinted(address: str, zone: str) -> dict[str, Any]:
        return endpoint(address, hints={"forZones": [{"name": zone}]})

    node = NodeView("node-1", NODE.addresses, zone="a")
    all_hinted = endpoint_slice(hinted("10.244.1.7", "a"), hinted("10.244.2.7", "b"))
    one_without = endpoint_slice(hinted("10.244.1.7", "a"), "10.244.2.7")
    other_zone = endpoint_slice(hinted("10.244.2.7", "b"))
    for piece, expected in ((all_hinted, 1), (one_without, 2), (other_zone, 1)):
        plan = plan_service(service(), [piece], node)
        assert len(plan.rules[0].targets) == expected


@pytest.mark.parametrize(
    "svc",
    [
        pytest.param(service(ip="None"), id="headless"),
        pytest.param(service(ip="", type="ExternalName", externalName="example.com"), id="ExternalName"),
        pytest.param(service(labels={"service.kubernetes.io/service-proxy-name": "other"}), id="another proxy's"),
    ],
)
def test_services_that_need_no_rules(svc: Service) -> None:
    assert plan_service(svc, [endpoint_slice("10.244.1.7")], NODE) == NOTHING


def test_affinity_has_the_timeout_of_the_service() -> None:
    def affinity(**spec: Any) -> int:
        svc = service(sessionAffinity="ClientIP", **spec)
        return plan_service(svc, [endpoint_slice("10.244.1.7")], NODE).rules[0].affinity_s

    assert affinity() == 10800
    assert affinity(sessionAffinityConfig={"clientIP": {"timeoutSeconds": 60}}) == 60


def test_ipv6_addresses_are_left_to_the_ipv6_twin() -> None:
    svc = service(clusterIPs=["10.96.0.10", "fd00::10"])
    pieces = [endpoint_slice("10.244.1.7"), endpoint_slice("fd00:1::7", name="v6", address_type="IPv6")]
    plan = plan_service(svc, pieces, NODE)
    assert [str(r.frontend.address) for r in plan.rules] == ["10.96.0.10"]
    assert plan.rules[0].targets == targets("10.244.1.7:8080")


def test_reasons_say_why() -> None:
    far = endpoint_slice(endpoint("10.244.2.7", "node-2"), endpoint("10.244.2.8", "node-2", ready=False))
    reason = plan_service(service(), [far], NODE).rules[0].reason
    local = plan_service(service(internalTrafficPolicy="Local"), [far], NODE).rules[0].reason
    none = plan_service(service(), [], NODE).rules[0].reason
    assert reason == "1 usable of 2 endpoints"
    assert local == "none of 1 usable endpoints is on this node (traffic policy Local)"
    assert none == "no usable endpoint among 0"


def test_scopes_only_where_they_differ() -> None:
    plan = plan_service(WEB, [WEB_SLICE], NODE)
    assert {rule.frontend.scope for rule in plan.rules} == {Scope.ANY}
    assert walk(rules_of(), packet(POD, "10.244.2.7", 80)).fate == Fate.UNTOUCHED
