"""What the server keeps of its own: first objects, flow control, APIServices; and the figures that it gives."""

from __future__ import annotations

from typing import Any

import pytest

from apiserver import autoregister, availability, bootstrap, flowcontrol, seeding
from apiserver.registry import REGISTRY, priorities
from apiserver.registry.base import Registry, ResourceDef
from apiserver.registry.flowcontrol_defaults import FLOWS, LEVELS, objects
from apiserver.rest.metrics import Call, Figures, Metrics, StoredObjects
from kubarium.testing.apiserver import ApiServer

NOW = "2026-11-21T10:00:00Z"
LATER = "2026-11-21T11:00:00Z"
FLOW_CONTROL = "/apis/flowcontrol.apiserver.k8s.io/v1"


# --- first objects


@pytest.mark.parametrize("seed", list(bootstrap.seeds(REGISTRY, NOW)), ids=lambda s: s.obj["metadata"]["name"])
def test_first_objects_are_as_if_they_had_come_through_the_front_door(seed: seeding.Seed) -> None:
    """They go past the checks, so they must pass them."""
    found = seeding.grown(seed, NOW, "uid")
    assert not seed.resource.strategy.validate(found)
    managers = {entry["manager"] for entry in found["metadata"].get("managedFields", ())}
    assert managers == {name for name in (seed.manager, seed.status_manager) if name} or not managers
    assert (found["metadata"]["uid"], found["metadata"]["creationTimestamp"]) == ("uid", NOW)


def test_every_cluster_has_the_defaults_of_flow_control(shared_apiserver: ApiServer) -> None:
    names = {item["metadata"]["name"] for item in shared_apiserver.get(f"{FLOW_CONTROL}/flowschemas").body["items"]}
    assert names == set(FLOWS)
    levels = shared_apiserver.get(f"{FLOW_CONTROL}/prioritylevelconfigurations").body["items"]
    assert {item["metadata"]["name"]: item["spec"] for item in levels} == LEVELS


# --- flow control


def flow(name: str, level: str, *conditions: dict[str, Any]) -> dict[str, Any]:
    spec = {"priorityLevelConfiguration": {"name": level}}
    return {"metadata": {"name": name}, "spec": spec, "status": {"conditions": list(conditions)}}


@pytest.mark.parametrize(
    ("conditions", "levels", "status"),
    [
        pytest.param((), {"a"}, "False", id="not told yet"),
        pytest.param((), set(), "True", id="no such level"),
        pytest.param((flowcontrol.dangling("a", True, NOW),), {"a"}, None, id="told"),
        pytest.param((flowcontrol.dangling("a", True, NOW),), set(), "True", id="level gone"),
        pytest.param((flowcontrol.dangling("b", True, NOW),), {"a"}, "False", id="another level"),
    ],
)
def test_a_flow_schema_tells_whether_its_level_is_there(conditions: Any, levels: set[str], status: str | None) -> None:
    found = flowcontrol.plan_status(flow("f", "a", *conditions), dict.fromkeys(levels), LATER)
    assert (found and found["status"]) == status


@pytest.mark.parametrize(
    ("name", "annotations", "generation", "stale"),
    [
        ("exempt", {"apf.kubernetes.io/autoupdate-spec": "false"}, 5, True),
        ("probes", {"apf.kubernetes.io/autoupdate-spec": "true"}, 5, True),
        ("probes", {"apf.kubernetes.io/autoupdate-spec": "false"}, 1, False),
        ("probes", {}, 1, True),
        ("probes", {}, 2, False),
    ],
)
def test_defaults_come_back_unless_somebody_took_them_over(
    name: str, annotations: dict[str, str], generation: int, stale: bool
) -> None:
    wanted = next(o for _, o in objects() if o["kind"] == "FlowSchema" and o["metadata"]["name"] == name)
    metadata = {"name": name, "annotations": annotations, "generation": generation}
    assert not flowcontrol.stale({"metadata": metadata, "spec": wanted["spec"]}, wanted)
    assert (
        flowcontrol.stale({"metadata": metadata, "spec": {**wanted["spec"], "matchingPrecedence": 7}}, wanted) == stale
    )


# --- APIServices


def test_every_group_and_version_has_an_api_service() -> None:
    custom = Registry(REGISTRY)
    custom.serve(
        "things", [ResourceDef("example.com", version, "Thing", "things", "thing") for version in ("v1", "v2")]
    )
    found = {obj["metadata"]["name"]: obj for obj in autoregister.wanted(custom)}
    assert len(found) == sum(len(versions) for versions in custom.groups().values()) - 1
    assert found["v1."]["spec"] == {"version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1}
    labels = {name: obj["metadata"]["labels"][autoregister.MANAGED] for name, obj in found.items()}
    assert (labels["v2.autoscaling"], labels["v2.example.com"]) == ("onstart", "true")
    assert found["v1.example.com"]["spec"]["groupPriorityMinimum"] == 1000


def test_versions_and_groups_in_the_order_of_discovery() -> None:
    versions = ["foo", "v1alpha1", "v1", "v2beta1", "v10", "v2", "v1beta2", "v1beta1"]
    assert priorities.versions_in_order("example.com", versions) == [
        *("v10", "v2", "v1", "v2beta1", "v1beta2", "v1beta1", "v1alpha1", "foo"),
    ]
    assert priorities.versions_in_order("autoscaling", ["v1", "v2"]) == ["v2", "v1"]
    assert priorities.in_order(["b.com", "a.com", "apps", ""]) == ["", "apps", "a.com", "b.com"]


SERVICE = {"spec": {"type": "ClusterIP", "ports": [{"port": 443, "name": "https"}]}}
SLICE = {"ports": [{"name": "https"}], "endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": True}}]}


@pytest.mark.parametrize(
    ("service", "slices", "reason"),
    [
        pytest.param(None, [], "ServiceNotFound", id="no Service"),
        pytest.param({"spec": {"type": "ExternalName"}}, [], None, id="elsewhere"),
        pytest.param({"spec": {"type": "ClusterIP", "ports": [{"port": 80}]}}, [], "ServicePortError", id="port"),
        pytest.param(SERVICE, [], "EndpointsNotFound", id="no slice"),
        pytest.param(SERVICE, [{**SLICE, "ports": [{"name": "http"}]}], "MissingEndpoints", id="other port"),
        pytest.param(SERVICE, [{**SLICE, "endpoints": []}], "MissingEndpoints", id="no endpoint"),
        pytest.param(SERVICE, [{"ports": [], "endpoints": []}, SLICE], None, id="there"),
    ],
)
def test_what_is_missing_behind_an_api_service(service: Any, slices: list[Any], reason: str | None) -> None:
    found = availability.judge({"name": "a", "namespace": "b", "port": 443}, service, slices)
    assert (found and found[0]) == reason


def test_a_condition_keeps_the_time_of_its_status() -> None:
    first = {"type": "Available", "status": "False", "reason": "A", "lastTransitionTime": NOW}
    assert availability.updated([], first) == [first]
    assert availability.updated([first], {**first, "lastTransitionTime": LATER}) is None
    other = {**first, "reason": "B", "lastTransitionTime": LATER}
    assert availability.updated([first], other) == [{**other, "lastTransitionTime": NOW}]
    good = {**first, "status": "True", "lastTransitionTime": LATER}
    assert availability.updated([{"type": "X"}, first], good) == [{"type": "X"}, good]


# --- figures


def test_figures_have_upstreams_names_and_labels() -> None:
    metrics = Metrics()
    created = Call("create", "apps", "v1", "deployments", "", 201, "resource", "All")
    metrics.count(created, 0.03)
    metrics.count(created._replace(code=409), 9.0)
    metrics.count(Call("get", subresource='/a"b'), None)
    lines = metrics.render(Figures(objects=(StoredObjects("apps", "deployments", 3),))).splitlines()
    labels = (
        'dry_run="All",group="apps",resource="deployments",scope="resource",subresource="",verb="POST",version="v1"'
    )
    for line in (
        f'apiserver_request_total{{code="201",component="apiserver",{labels}}} 1',
        f'apiserver_request_total{{code="409",component="apiserver",{labels}}} 1',
        f'apiserver_request_duration_seconds_bucket{{component="apiserver",{labels},le="0.025"}} 0',
        f'apiserver_request_duration_seconds_bucket{{component="apiserver",{labels},le="0.05"}} 1',
        f'apiserver_request_duration_seconds_bucket{{component="apiserver",{labels},le="10"}} 2',
        f'apiserver_request_duration_seconds_bucket{{component="apiserver",{labels},le="+Inf"}} 2',
        f'apiserver_request_duration_seconds_sum{{component="apiserver",{labels}}} 9.03',
        f'apiserver_request_duration_seconds_count{{component="apiserver",{labels}}} 2',
        'apiserver_storage_objects{resource="deployments.apps"} 3',
        'apiserver_resource_objects{group="apps",resource="deployments"} 3',
    ):
        assert line in lines
    assert any(r'subresource="/a\"b"' in line for line in lines)
    metrics.reset()
    assert not metrics.requests
