"""DaemonSets: which nodes take their pods, updates by table, and a real API server where the test plays the nodes."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubarium.controllers.config import Config
from kubarium.controllers.daemonsets.plan import (
    REVISION,
    Fit,
    World,
    fit,
    node_of,
    plan_nodes,
    plan_update,
    pod_of,
    template_pod,
)
from kubarium.controllers.setviews import DAEMONSETS, DaemonSet
from kubarium.machinery.objects import Node, Pod, convert
from kubarium.machinery.resources import NODES
from kubarium.testing.apiserver import ApiServer
from tests.controllers.live import Space, eventually, make_node, make_space, running

ONLY = ("daemonset-controller", "garbage-collector-controller")
NEW, OLD = "new", "old"


def a_set(strategy: dict[str, Any] | None = None, **spec: Any) -> DaemonSet:
    body = {"template": {"spec": spec}, "updateStrategy": strategy or {}}
    return convert(DaemonSet, {"metadata": {"name": "d", "namespace": "ns"}, "spec": body})


def a_node(name: str = "n1", *taints: tuple[str, str], **labels: str) -> Node:
    spec = {"taints": [{"key": key, "effect": effect} for key, effect in taints]}
    return convert(Node, {"metadata": {"name": name, "labels": labels}, "spec": spec})


def in_zone(zone: str) -> dict[str, Any]:
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"affinity": {"nodeAffinity": required}}


@pytest.mark.parametrize(
    ("daemon_set", "node", "expected"),
    [
        pytest.param(a_set(), a_node(), Fit(True, True), id="any node"),
        pytest.param(a_set(nodeSelector={"gpu": "yes"}), a_node(), Fit(False, False), id="not selected"),
        pytest.param(a_set(nodeSelector={"gpu": "yes"}), a_node(gpu="yes"), Fit(True, True), id="selected"),
        pytest.param(a_set(**in_zone("a")), a_node(zone="b"), Fit(False, False), id="another zone"),
        pytest.param(a_set(**in_zone("a")), a_node(zone="a"), Fit(True, True), id="its zone"),
        pytest.param(a_set(), a_node("n1", ("x", "NoSchedule")), Fit(False, True), id="those who are there may stay"),
        pytest.param(a_set(), a_node("n1", ("x", "NoExecute")), Fit(False, False), id="nobody may stay"),
        pytest.param(
            a_set(),
            a_node(
                "n1", ("node.kubernetes.io/not-ready", "NoExecute"), ("node.kubernetes.io/unschedulable", "NoSchedule")
            ),
            Fit(True, True),
            id="a node in trouble",
        ),
        pytest.param(
            a_set(),
            a_node("n1", ("node.kubernetes.io/network-unavailable", "NoSchedule")),
            Fit(False, True),
            id="no network",
        ),
        pytest.param(
            a_set(hostNetwork=True),
            a_node("n1", ("node.kubernetes.io/network-unavailable", "NoSchedule")),
            Fit(True, True),
            id="who makes the network",
        ),
    ],
)
def test_which_nodes_take_a_daemon(daemon_set: DaemonSet, node: Node, expected: Fit) -> None:
    assert fit(template_pod(daemon_set), node) == expected


def test_a_pod_is_pinned_to_its_node() -> None:
    pod = convert(Pod, pod_of(a_set(**in_zone("a")), "n7", NEW))
    assert node_of(pod) == "n7"
    assert pod.metadata.labels[REVISION] == NEW


def a_pod(name: str, node: str, revision: str = NEW, *, ready: bool = True, phase: str = "Running") -> Pod:
    meta = {"name": name, "labels": {REVISION: revision}, "creationTimestamp": f"2026-01-01T00:00:0{name[-1]}Z"}
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return convert(
        Pod, {"metadata": meta, "spec": {"nodeName": node}, "status": {"phase": phase, "conditions": [condition]}}
    )


def world(daemon_set: DaemonSet, *pods: Pod, nodes: tuple[str, ...] = ("a", "b", "c")) -> World:
    by_node: dict[str, list[Pod]] = {}
    for pod in pods:
        by_node.setdefault(node_of(pod), []).append(pod)
    return World(daemon_set, dict.fromkeys(nodes, Fit(True, True)), by_node, NEW, 1e10)


def rolling(**limits: Any) -> dict[str, Any]:
    return {"type": "RollingUpdate", "rollingUpdate": limits}


def test_one_pod_a_node() -> None:
    plan = plan_nodes(world(a_set(), a_pod("p1", "a"), a_pod("p2", "a"), a_pod("p3", "b", phase="Failed")))
    assert plan.create == ("c",)
    assert [pod.metadata.name for pod in plan.delete] == ["p2"]
    assert [pod.metadata.name for pod in plan.ended] == ["p3"]


@pytest.mark.parametrize(
    ("strategy", "pods", "create", "delete"),
    [
        pytest.param(rolling(), [a_pod("p1", "a", OLD), a_pod("p2", "b", OLD)], [], ["p1"], id="one at a time"),
        pytest.param(rolling(), [a_pod("p1", "a", ready=False), a_pod("p2", "b", OLD)], [], [], id="one is not well"),
        pytest.param(
            rolling(), [a_pod("p1", "a", OLD), a_pod("p2", "b", OLD, ready=False)], [], ["p2"], id="that one goes first"
        ),
        pytest.param(
            rolling(maxUnavailable="50%"),
            [a_pod(f"p{n}", node, OLD) for n, node in enumerate("abc")],
            [],
            ["p0", "p1"],
            id="half",
        ),
        pytest.param(
            rolling(maxSurge=1, maxUnavailable=0),
            [a_pod("p1", "a", OLD), a_pod("p2", "b", OLD)],
            ["a"],
            [],
            id="one more",
        ),
        pytest.param(
            rolling(maxSurge=1, maxUnavailable=0),
            [a_pod("p1", "a", OLD), a_pod("p3", "a"), a_pod("p2", "b", OLD)],
            ["b"],
            ["p1"],
            id="the new one is well",
        ),
        pytest.param({"type": "OnDelete"}, [a_pod("p1", "a", OLD)], [], [], id="not by itself"),
    ],
)
def test_update(strategy: dict[str, Any], pods: list[Pod], create: list[str], delete: list[str]) -> None:
    plan = plan_update(world(a_set(strategy), *pods))
    assert (list(plan.create), [pod.metadata.name for pod in plan.delete]) == (create, delete)


# -- live --------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def space(shared_apiserver: ApiServer, tmp_path: Path) -> AsyncIterator[Space]:
    async with running(shared_apiserver.kubeconfig, Config(controllers=ONLY)) as api:
        yield await make_space(api, f"t-{secrets.token_hex(4)}")


async def until_ready(space: Space, nodes: set[str], image: str = "x:1") -> DaemonSet:
    async def check() -> DaemonSet:
        await space.all_ready()
        pods = await space.pods()
        assert {node_of(pod) for pod in pods} == nodes
        assert {pod.spec.containers[0].image for pod in pods} == ({image} if nodes else set())
        found = await space.api.get(DAEMONSETS, "d", space.name)
        status, count = found.status, len(nodes)
        assert (status.desired_number_scheduled, status.number_ready, status.updated_number_scheduled) == (count,) * 3
        assert status.observed_generation == found.metadata.generation
        return found

    return await eventually(check)


async def test_every_node_has_a_pod_and_a_new_one_after_an_update(space: Space) -> None:
    names = [f"{space.name}-{letter}" for letter in "ab"]
    for name in names:
        await make_node(space.api, name)
    container = {"name": "c", "image": "x:1"}
    selected = {"kubernetes.io/hostname": names[0]}
    template = {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [container]}}
    # Nodes of a server without the node lifecycle controller keep the taint that they are made with.
    template["spec"]["tolerations"] = [{"operator": "Exists"}]  # type: ignore[index]
    spec = {"selector": {"matchLabels": {"app": "d"}}, "template": template}
    await space.create(DAEMONSETS, metadata={"name": "d"}, spec=spec)
    await until_ready(space, set(names))
    patch = {"spec": {"template": {"spec": {"containers": [{**container, "image": "x:2"}]}}}}
    await space.api.patch(DAEMONSETS, "d", patch, space.name)
    await until_ready(space, set(names), "x:2")
    await space.api.patch(DAEMONSETS, "d", {"spec": {"template": {"spec": {"nodeSelector": selected}}}}, space.name)
    await until_ready(space, {names[0]}, "x:2")
    for name in names:
        await space.api.delete(NODES, name)
