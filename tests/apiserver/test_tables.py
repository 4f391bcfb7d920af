"""Tables: one word for what a pod is doing, and the shape of the answer."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from apiserver import tables
from apiserver.registry import REGISTRY, Column, ResourceDef
from apiserver.registry.cells import human_duration
from tests.apiserver.objects import resource

Json = dict[str, Any]
NOW = 1767225600.0 + 3600  # an hour after BORN
BORN = "2026-01-01T00:00:00Z"


def cells(path: str, obj: Json, *, wide: bool = False) -> list[Any]:
    found = resource(path)
    obj = {"metadata": {"name": "x", "creationTimestamp": BORN} | obj.get("metadata", {})} | {
        k: v for k, v in obj.items() if k != "metadata"
    }
    return [c.cell(obj, NOW) for c in found.columns if wide or not c.priority]


def status(phase: str, *states: Json, init: list[Json] | None = None, **more: Any) -> Json:
    containers = [{"name": f"c{i}", "restartCount": 0, **state} for i, state in enumerate(states)]
    spec = {"containers": [{"name": f"c{i}"} for i in range(len(states) or 1)]}
    if init is not None:
        spec["initContainers"] = [{"name": f"i{i}"} for i in range(len(init))]
        more["initContainerStatuses"] = [{"name": f"i{i}", "restartCount": 0, **s} for i, s in enumerate(init)]
    return {"spec": spec, "status": {"phase": phase, "containerStatuses": containers, **more}}


RUNNING = {"ready": True, "state": {"running": {"startedAt": BORN}}}
DONE = {"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}


def waiting(reason: str) -> Json:
    return {"state": {"waiting": {"reason": reason}}}


@pytest.mark.parametrize(
    ("pod", "ready", "word"),
    [
        pytest.param(status("Pending"), "0/1", "Pending", id="not scheduled"),
        pytest.param(status("Running", RUNNING, RUNNING), "2/2", "Running", id="running"),
        pytest.param(status("Pending", waiting("ImagePullBackOff")), "0/1", "ImagePullBackOff", id="waiting"),
        pytest.param(
            status("Failed", {"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}),
            "0/1",
            "OOMKilled",
            id="killed",
        ),
        pytest.param(status("Failed", {"state": {"terminated": {"exitCode": 3}}}), "0/1", "ExitCode:3", id="exit code"),
        pytest.param(
            status("Running", RUNNING, DONE, conditions=[{"type": "Ready", "status": "False"}]),
            "1/2",
            "NotReady",
            id="one done, one running, not ready",
        ),
        pytest.param(
            status("Running", DONE, RUNNING, conditions=[{"type": "Ready", "status": "True"}]),
            "1/2",
            "Running",
            id="one done, one running",
        ),
        pytest.param(
            status("Pending", waiting("PodInitializing"), init=[DONE, {"state": {"running": {}}}]),
            "0/1",
            "Init:1/2",
            id="second init container",
        ),
        pytest.param(
            status("Pending", waiting("PodInitializing"), init=[waiting("CrashLoopBackOff")]),
            "0/1",
            "Init:CrashLoopBackOff",
            id="init container crashes",
        ),
        pytest.param(status("Failed", reason="Evicted"), "0/1", "Evicted", id="evicted"),
        pytest.param(
            status("Running", RUNNING) | {"metadata": {"deletionTimestamp": BORN}},
            "1/1",
            "Terminating",
            id="terminating",
        ),
    ],
)
def test_pod_status(pod: Json, ready: str, word: str) -> None:
    assert cells("v1/pods", pod)[1:3] == [ready, word]


def test_restarts_say_when_the_last_was() -> None:
    state = RUNNING | {"restartCount": 3, "lastState": {"terminated": {"exitCode": 1, "finishedAt": BORN}}}
    assert cells("v1/pods", status("Running", state))[3] == "3 (60m ago)"


@pytest.mark.parametrize(
    ("path", "obj", "expected"),
    [
        pytest.param(
            "v1/services",
            {
                "spec": {
                    "type": "NodePort",
                    "clusterIP": "10.96.0.7",
                    "clusterIPs": ["10.96.0.7"],
                    "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}],
                }
            },
            ["x", "NodePort", "10.96.0.7", "<none>", "80:30080/TCP,53/UDP", "60m"],
            id="service",
        ),
        pytest.param(
            "v1/nodes",
            {
                "metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}},
                "spec": {"unschedulable": True},
                "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1"}},
            },
            ["x", "Ready,SchedulingDisabled", "control-plane", "60m", "v1"],
            id="node",
        ),
        pytest.param(
            "apps/v1/deployments",
            {"spec": {"replicas": 3}, "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 2}},
            ["x", "2/3", 3, 2, "60m"],
            id="deployment",
        ),
        pytest.param(
            "networking.k8s.io/v1/ingresses",
            {
                "spec": {"ingressClassName": "k", "rules": [{"host": "a"}, {"host": "b"}], "tls": [{}]},
                "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}},
            },
            ["x", "k", "a,b", "1.2.3.4", "80, 443", "60m"],
            id="ingress",
        ),
        pytest.param(
            "v1/endpoints",
            {"subsets": [{"addresses": [{"ip": f"10.0.0.{i}"} for i in range(5)], "ports": [{"port": 80}]}]},
            ["x", "10.0.0.0:80,10.0.0.1:80,10.0.0.2:80 + 2 more...", "60m"],
            id="endpoints",
        ),
        pytest.param(
            "v1/events",
            {
                "lastTimestamp": BORN,
                "type": "Normal",
                "reason": "R",
                "message": "m\n",
                "involvedObject": {"kind": "Pod", "name": "p"},
            },
            ["60m", "Normal", "R", "pod/p", "m"],
            id="event",
        ),
        pytest.param("v1/configmaps", {"data": {"a": "1"}, "binaryData": {"b": ""}}, ["x", 2, "60m"], id="configmap"),
    ],
)
def test_cells(path: str, obj: Json, expected: list[Any]) -> None:
    assert cells(path, obj) == expected


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "<invalid>"),
        (0, "0s"),
        (119, "119s"),
        (130, "2m10s"),
        (600, "10m"),
        (3600 * 3, "3h"),
        (3600 * 5 + 60, "5h1m"),
        (3600 * 49, "2d1h"),
        (3600 * 24 * 30, "30d"),
        (3600 * 24 * 800, "2y70d"),
    ],
)
def test_ages(seconds: int, text: str) -> None:
    assert human_duration(seconds) == text


def test_the_answer() -> None:
    obj = {"metadata": {"name": "x", "creationTimestamp": BORN}, "status": {"phase": "Succeeded"}}
    table = orjson.loads(tables.render_table(resource("v1/pods"), [obj], {"resourceVersion": "7"}, now=NOW))
    assert (table["kind"], table["apiVersion"], table["metadata"]) == (
        "Table",
        "meta.k8s.io/v1",
        {"resourceVersion": "7"},
    )
    (row,) = table["rows"]
    assert row["object"] == {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }
    assert row["conditions"][0]["reason"] == "Succeeded"
    name = table["columnDefinitions"][0]
    assert name["description"].startswith("Name must be unique within a namespace.")
    bare = orjson.loads(tables.render_table(resource("v1/pods"), [obj], {}, include="None", now=NOW))
    assert bare["rows"][0]["object"] is None


def _described() -> list[Any]:
    return [pytest.param(r, c, id=f"{r.plural}.{r.group} {c.name}") for r in REGISTRY for c in r.columns]


@pytest.mark.parametrize(("found", "column"), _described())
def test_every_column_works_on_an_empty_object_and_says_what_it_is(found: ResourceDef, column: Column) -> None:
    column.cell({"metadata": {"name": "x"}}, NOW)
    if (found.plural, column.name) != ("runtimeclasses", "Handler"):  # upstream looks for its text where there is none
        assert tables._description(column)
