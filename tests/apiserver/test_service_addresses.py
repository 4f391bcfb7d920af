"""The ServiceCIDR of the server's own range, and the IPAddresses that follow the Services."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable
from ipaddress import ip_network
from typing import Any

import pytest

from apiserver import codec, seeding, serviceaddresses
from apiserver.registry import REGISTRY
from apiserver.watchcache import Entry
from kubarium.testing.apiserver import ApiServer

NOW = "2026-11-21T10:00:00Z"
GROUP = "/apis/networking.k8s.io/v1"
WEB = "/registry/core/services/a/web"


def entry(name: str, **labels: str) -> Entry:
    head = codec.Head(namespace="", name=name, labels=labels)
    return Entry(
        key=f"/registry/networking.k8s.io/ipaddresses/{name}", revision=1, create_revision=1, data=b"{}", head=head
    )


def ours(name: str) -> Entry:
    return entry(name, **{"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io"})


@pytest.mark.parametrize(
    ("wanted", "entries", "missing", "unwanted"),
    [
        pytest.param({"10.0.0.1": WEB}, [], ["10.0.0.1"], [], id="new"),
        pytest.param({"10.0.0.1": WEB}, [ours("10.0.0.1")], [], [], id="there"),
        pytest.param({}, [ours("10.0.0.1")], [], ["10.0.0.1"], id="gone"),
        pytest.param({}, [entry("10.0.0.1")], [], [], id="somebody's own"),
        pytest.param({"10.0.0.1": WEB}, [entry("10.0.0.1")], [], [], id="somebody's own at an address in use"),
        pytest.param({"10.0.0.1": WEB}, [ours("10.0.0.2")], ["10.0.0.1"], ["10.0.0.2"], id="another"),
    ],
)
def test_what_is_missing_and_what_is_too_much(
    wanted: dict[str, str], entries: list[Entry], missing: list[str], unwanted: list[str]
) -> None:
    assert [name for name, _ in serviceaddresses.missing(wanted, entries)] == missing
    assert [found.head.name for found in serviceaddresses.unwanted(wanted, entries)] == unwanted


def seeds() -> Iterable[seeding.Seed]:
    yield from serviceaddresses.range_seed(REGISTRY, ip_network("10.96.0.0/16"), NOW)
    resource = REGISTRY.get("networking.k8s.io", "v1", "ipaddresses")
    assert resource is not None
    for name in ("10.96.0.1", "fd00::1"):
        yield seeding.Seed(resource, serviceaddresses.address_of(name, WEB))


@pytest.mark.parametrize("seed", list(seeds()), ids=lambda seed: seed.obj["metadata"]["name"])
def test_what_is_written_past_the_checks_would_pass_them(seed: seeding.Seed) -> None:
    found = seeding.grown(seed, NOW, "uid")
    assert not seed.resource.strategy.validate(found)


def eventually(probe: Callable[[], Any], wanted: Any) -> None:
    deadline = time.monotonic() + 10
    while (found := probe()) != wanted:
        assert time.monotonic() < deadline, found
        time.sleep(0.05)


def test_the_range_is_ready(shared_apiserver: ApiServer) -> None:
    found = shared_apiserver.get(f"{GROUP}/servicecidrs/kubernetes").body
    assert [c["type"] for c in found["status"]["conditions"] if c["status"] == "True"] == ["Ready"]


def test_addresses_follow_the_services(shared_apiserver: ApiServer) -> None:
    namespace = f"t-{secrets.token_hex(4)}"
    path = f"/api/v1/namespaces/{namespace}/services"
    shared_apiserver.post(
        "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    )

    def make(name: str, **spec: Any) -> str:
        body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}}
        made = shared_apiserver.post(path, body | {"spec": {"ports": [{"port": 80}], **spec}})
        assert made.status == 201, made.body
        return str(made.body["spec"]["clusterIP"])

    def owner(ip: str) -> str:
        found = shared_apiserver.get(f"{GROUP}/ipaddresses/{ip}")
        return found.body["spec"]["parentRef"]["name"] if found.status == 200 else ""

    ip = make("first")
    make("headless", clusterIP="None")
    eventually(lambda: owner(ip), "first")
    assert owner("None") == ""
    shared_apiserver.delete(f"{GROUP}/ipaddresses/{ip}")  # by hand: it comes back
    eventually(lambda: owner(ip), "first")
    shared_apiserver.delete(f"{path}/first")
    assert make("second", clusterIP=ip) == ip  # at once: the address is free, whatever the object says
    eventually(lambda: owner(ip), "second")
    shared_apiserver.delete(f"{path}/second")
    eventually(lambda: owner(ip), "")
