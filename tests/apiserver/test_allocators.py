"""Cluster IPs and node ports: nothing twice, nothing lost."""

from __future__ import annotations

import random
from ipaddress import ip_address, ip_network
from typing import Any

import pytest

from apiserver.allocators import PortRange, ServiceAllocator
from kubarium.machinery.errors import InternalError, Invalid


def allocator(network: str = "10.96.0.0/24", ports: PortRange = PortRange(30000, 30099)) -> ServiceAllocator:  # noqa: B008
    return ServiceAllocator(ip_network(network), ports, random.Random(7))


def service(name: str = "s", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"type": "ClusterIP", "ports": [{"port": 80}], **spec}}


def node_port(name: str = "s", *numbers: int) -> dict[str, Any]:
    return service(
        name, type="NodePort", ports=[{"port": 80 + i, "nodePort": n} for i, n in enumerate(numbers or (0,))]
    )


def causes(err: pytest.ExceptionInfo[Invalid]) -> list[tuple[str, str]]:
    return [(c["field"], c["message"]) for c in err.value.details["causes"]]


def test_every_service_gets_an_address_of_its_own_until_the_range_is_full() -> None:
    services = allocator("10.96.0.0/27")
    found = []
    for number in range(30):
        one = service()
        services.allocate(f"/s/{number}", one)
        found.append(one["spec"]["clusterIP"])
        assert one["spec"]["clusterIPs"] == [found[-1]]
    assert len(set(found)) == 30
    assert all(ip_address(address) in ip_network("10.96.0.0/27") for address in found)
    with pytest.raises(InternalError, match="range is full"):
        services.allocate("/s/one-too-many", service())


def test_dynamic_addresses_leave_the_lower_part_to_those_whom_people_name() -> None:
    services = allocator("10.96.0.0/24")
    for number in range(100):
        one = service()
        services.allocate(f"/s/{number}", one)
        assert int(ip_address(one["spec"]["clusterIP"])) & 0xFF > 16


def test_a_named_address_is_given_once() -> None:
    services = allocator()
    services.allocate("/s/a", service(clusterIP="10.96.0.9"))
    with pytest.raises(Invalid) as err:
        services.allocate("/s/b", service(clusterIP="10.96.0.9"))
    assert causes(err) == [
        (
            "spec.clusterIPs",
            'Invalid value: ["10.96.0.9"]: failed to allocate IP 10.96.0.9: provided IP is already allocated',
        )
    ]


@pytest.mark.parametrize("address", ["10.97.0.1", "10.96.0.0", "10.96.0.255"])
@pytest.mark.parametrize(
    ("dry_run", "text"),
    [
        (False, r"the provided network does not match the current range"),
        (True, r"is not in the valid range\. The range of valid IPs is 10\.96\.0\.0/24"),
    ],
)
def test_addresses_outside_the_range_are_refused(address: str, dry_run: bool, text: str) -> None:
    with pytest.raises(Invalid, match=text):
        allocator().allocate("/s/a", service(clusterIP=address), dry_run=dry_run)


def test_headless_and_external_services_hold_nothing() -> None:
    services = allocator()
    headless, external = service(clusterIP="None"), service(type="ExternalName", externalName="x.example.com")
    assert services.allocate("/s/a", headless).items == []
    assert services.allocate("/s/b", external).items == []
    assert headless["spec"]["clusterIPs"] == ["None"]
    assert "clusterIP" not in external["spec"]


def test_node_ports_are_filled_in_and_kept() -> None:
    services = allocator()
    one = node_port("s", 30007, 0)
    services.allocate("/s/a", one)
    first, second = (port["nodePort"] for port in one["spec"]["ports"])
    assert first == 30007
    assert 30000 <= second <= 30099
    assert second != first
    with pytest.raises(Invalid, match="provided port is already allocated"):
        services.allocate("/s/b", node_port("t", 30007))
    with pytest.raises(Invalid, match="The range of valid ports is 30000-30099"):
        services.allocate("/s/b", node_port("t", 80))


def test_two_protocols_may_share_a_port_of_one_service() -> None:
    both = [{"port": 53, "protocol": p, "nodePort": 30053} for p in ("TCP", "UDP")]
    assert len(allocator().allocate("/s/dns", service(type="NodePort", ports=both)).items) == 2


def test_a_refused_service_takes_nothing() -> None:
    services = allocator()
    services.allocate("/s/a", node_port("a", 30001))
    with pytest.raises(Invalid):
        services.allocate(
            "/s/b", service(clusterIP="10.96.0.5", type="NodePort", ports=[{"port": 1, "nodePort": 30001}])
        )
    services.allocate("/s/c", service(clusterIP="10.96.0.5"))


def test_a_cancelled_reservation_is_free_again_and_a_confirmed_one_is_not() -> None:
    services = allocator()
    services.cancel(services.allocate("/s/a", service(clusterIP="10.96.0.5")))
    one = service(clusterIP="10.96.0.5")
    reservation = services.allocate("/s/b", one)
    services.observe("/s/b", 7, one)
    services.cancel(reservation)
    with pytest.raises(Invalid):
        services.allocate("/s/c", service(clusterIP="10.96.0.5"))


def test_what_a_service_gives_up_is_free_again() -> None:
    services = allocator()
    one = node_port("a", 30001)
    services.allocate("/s/a", one)
    services.observe("/s/a", 5, one)
    plain = service("a", clusterIP=one["spec"]["clusterIP"])
    services.allocate("/s/a", plain, one)
    services.observe("/s/a", 6, plain)
    services.allocate("/s/b", node_port("b", 30001))
    services.observe("/s/a", 7, None)
    services.allocate("/s/c", service(clusterIP=one["spec"]["clusterIP"]))


def test_old_news_of_a_deleted_service_does_not_free_what_its_successor_holds() -> None:
    services = allocator()
    first = service(clusterIP="10.96.0.5")
    services.allocate("/s/a", first)
    services.observe("/s/a", 5, first)
    services.observe("/s/a", 6, None)  # our own delete
    second = service(clusterIP="10.96.0.6")
    services.allocate("/s/a", second)
    services.observe("/s/a", 8, second)  # our own create
    services.observe("/s/a", 5, first)  # the watch comes after
    services.forget("/s/a", 6)
    with pytest.raises(Invalid):
        services.allocate("/s/b", service(clusterIP="10.96.0.6"))
    services.allocate("/s/c", service(clusterIP="10.96.0.5"))


def test_the_table_follows_from_the_stored_services() -> None:
    services = allocator()
    services.observe("/s/a", 3, node_port("a", 30001) | {"spec": {"clusterIP": "10.96.0.5", "type": "ClusterIP"}})
    with pytest.raises(Invalid):
        services.allocate("/s/b", service(clusterIP="10.96.0.5"))


def test_a_load_balancer_with_local_traffic_gets_a_health_port() -> None:
    one = service(type="LoadBalancer", externalTrafficPolicy="Local")
    allocator().allocate("/s/a", one)
    assert one["spec"]["healthCheckNodePort"] != one["spec"]["ports"][0]["nodePort"]
    without = service(type="LoadBalancer", allocateLoadBalancerNodePorts=False)
    allocator().allocate("/s/b", without)
    assert "nodePort" not in without["spec"]["ports"][0]
