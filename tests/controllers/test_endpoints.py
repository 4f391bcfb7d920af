from __future__ import annotations

from typing import Any

import pytest

from kubarium.controllers.endpoints import plan_endpoints, same
from kubarium.controllers.endpointslice import Plan, plan_slices
from kubarium.machinery.objects import Endpoints, EndpointSlice, Pod, Service, convert
from tests.controllers.build import ago, pod, service


def backend(number: int, **more: Any) -> Pod:
    more.setdefault("ready_s", 10)
    return pod(f"web-{number}", ip=f"10.244.{number // 250}.{number % 250 + 2}", **more)


def stored(plan: Plan, before: list[EndpointSlice] | None = None) -> list[EndpointSlice]:
    """The slices after a plan was carried out."""
    slices = {each.metadata.name: each for each in before or ()}
    for each in plan.delete:
        del slices[each.metadata.name]
    for current, body in plan.update:
        slices[current.metadata.name] = as_slice({**body["metadata"], "name": current.metadata.name}, body)
    for body in plan.create:
        slices[body["metadata"]["name"]] = as_slice(body["metadata"], body)
    return list(slices.values())


def as_slice(metadata: dict[str, Any], body: dict[str, Any]) -> EndpointSlice:
    return convert(EndpointSlice, {**body, "metadata": {"namespace": "default", **metadata}})


def settle(svc: Service, pods: list[Pod], before: list[EndpointSlice] | None = None) -> list[EndpointSlice]:
    slices = stored(plan_slices(svc, pods, before or [], {}), before)
    assert plan_slices(svc, pods, slices, {}) == Plan()  # planned again, nothing is left to do
    return slices


def test_a_slice() -> None:
    (body,) = plan_slices(service(), [backend(1)], [], {"node-1": "z1"}).create
    assert body["metadata"]["labels"] == {
        "kubernetes.io/service-name": "web",
        "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
    }
    assert body["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]
    assert body["endpoints"] == [
        {
            "addresses": ["10.244.0.3"],
            "conditions": {"ready": True, "serving": True, "terminating": False},
            "targetRef": {"kind": "Pod", "namespace": "default", "name": "web-1", "uid": "uid-web-1"},
            "nodeName": "node-1",
            "zone": "z1",
        }
    ]


@pytest.mark.parametrize(
    ("member", "spec", "expected"),
    [
        pytest.param(backend(1), {}, (True, True, False), id="ready"),
        pytest.param(backend(1, ready_s=None), {}, (False, False, False), id="not ready"),
        pytest.param(backend(1, metadata={"deletionTimestamp": ago(1)}), {}, (False, True, True), id="terminating"),
        pytest.param(
            backend(1, ready_s=None), {"publishNotReadyAddresses": True}, (True, False, False), id="published anyway"
        ),
    ],
)
def test_conditions(member: Pod, spec: dict[str, Any], expected: tuple[bool, bool, bool]) -> None:
    ((found,),) = (each.endpoints for each in settle(service(**spec), [member]))
    assert (found.conditions.ready, found.conditions.serving, found.conditions.terminating) == expected


@pytest.mark.parametrize(
    "outsider",
    [
        pytest.param(pod("a", ready_s=1), id="no address yet"),
        pytest.param(backend(1, phase="Succeeded"), id="finished"),
        pytest.param(backend(1, metadata={"labels": {"app": "other"}}), id="other labels"),
    ],
)
def test_who_is_no_endpoint(outsider: Pod) -> None:
    (empty,) = settle(service(), [outsider])
    assert empty.endpoints == ()


def test_named_ports_may_differ_from_pod_to_pod() -> None:
    def with_port(number: int, port: int) -> Pod:
        ports = [{"name": "web", "containerPort": port, "protocol": "TCP"}]
        return backend(number, spec={"containers": [{"name": "c", "ports": ports}]})

    svc = service(ports=[{"name": "http", "port": 80, "targetPort": "web", "protocol": "TCP"}])
    slices = settle(svc, [with_port(1, 8080), with_port(2, 9090), with_port(3, 8080)])
    assert {each.ports[0].port: len(each.endpoints) for each in slices} == {8080: 2, 9090: 1}


def test_a_hundred_to_a_slice_and_a_change_touches_one() -> None:
    pods = [backend(number) for number in range(250)]
    slices = settle(service(), pods)
    assert sorted(len(each.endpoints) for each in slices) == [50, 100, 100]
    plan = plan_slices(service(), pods[1:], slices, {})
    assert (len(plan.update), plan.create, plan.delete) == (1, [], [])
    plan = plan_slices(service(), [*pods, backend(300)], slices, {})
    assert (len(plan.update), plan.create, plan.delete) == (1, [], [])


def test_slices_that_empty_out_are_deleted_but_one_stays() -> None:
    slices = settle(service(), [backend(number) for number in range(150)])
    (left,) = settle(service(), [], slices)
    assert left.endpoints == ()


def test_names_are_the_same_in_every_try() -> None:
    pods = [backend(number) for number in range(150)]
    names = [[body["metadata"]["name"] for body in plan_slices(service(), pods, [], {}).create] for _ in range(2)]
    assert names[0] == names[1]
    assert len(set(names[0])) == 2


def test_changed_ports_rewrite_the_slice() -> None:
    before = settle(service(), [backend(1)])
    svc = service(ports=[{"name": "http", "port": 80, "targetPort": 9000, "protocol": "TCP"}])
    (after,) = settle(svc, [backend(1)], before)
    assert (after.metadata.name, after.ports[0].port) == (before[0].metadata.name, 9000)


def test_headless_services_keep_hostnames() -> None:
    spec = {"containers": [{"name": "c"}], "hostname": "db-0", "subdomain": "web"}
    ((endpoint,),) = (s.endpoints for s in settle(service(clusterIP="None"), [backend(1, spec=spec)]))
    assert endpoint.hostname == "db-0"
    (body,) = plan_slices(service(clusterIP="None"), [], [], {}).create
    assert body["metadata"]["labels"]["service.kubernetes.io/headless"] == ""


def test_two_families_have_slices_of_their_own() -> None:
    dual = backend(1, podIPs=[{"ip": "10.244.0.3"}, {"ip": "fd00::3"}])
    slices = settle(service(ipFamilies=["IPv4", "IPv6"]), [dual])
    assert {each.address_type: each.endpoints[0].addresses for each in slices} == {
        "IPv4": ("10.244.0.3",),
        "IPv6": ("fd00::3",),
    }


def test_endpoints_tell_ready_and_not_ready_apart() -> None:
    leaving = backend(3, metadata={"deletionTimestamp": ago(1)})
    wire = plan_endpoints(service(), [backend(2), backend(1), backend(4, ready_s=None), leaving])
    (subset,) = wire["subsets"]
    assert [address["ip"] for address in subset["addresses"]] == ["10.244.0.3", "10.244.0.4"]
    assert [address["ip"] for address in subset["notReadyAddresses"]] == ["10.244.0.6"]
    assert subset["ports"] == [{"name": "http", "protocol": "TCP", "port": 8080}]
    assert same(convert(Endpoints, wire), wire)


def test_endpoints_without_pods_have_no_subsets() -> None:
    assert plan_endpoints(service(), [])["subsets"] == []
