from __future__ import annotations

import itertools
from typing import Any

import pytest

from kubarium.machinery.objects import Node, Pod, convert
from kubarium.scheduler.plan import Placement, Unschedulable, plan_placement
from kubarium.scheduler.queue import SchedulingQueue
from kubarium.scheduler.state import ClusterState, NodeState, PodInfo, node_state, pod_requests

_numbers = itertools.count()


def node(name: str, *, cpu: str = "2", labels: dict[str, str] | None = None, **spec: Any) -> Node:
    allocatable = {"cpu": cpu, "memory": "4Gi", "pods": "110"}
    own = {"kubernetes.io/hostname": name, **(labels or {})}
    wire = {"metadata": {"name": name, "labels": own}, "spec": spec, "status": {"allocatable": allocatable}}
    return convert(Node, wire)


def pod(
    *,
    cpu: str = "",
    owner: str = "",
    labels: dict[str, str] | None = None,
    ports: list[dict[str, Any]] | None = None,
    on: str = "",
    **spec: Any,
) -> Pod:
    name = f"p{next(_numbers)}"
    refs = [{"uid": owner, "controller": True}] if owner else []
    container: dict[str, Any] = {"name": "c", "ports": ports or []}
    if cpu:
        container["resources"] = {"requests": {"cpu": cpu}}
    metadata = {"name": name, "namespace": "default", "uid": name, "labels": labels or {}, "ownerReferences": refs}
    return convert(Pod, {"metadata": metadata, "spec": {"containers": [container], "nodeName": on, **spec}})


def place(member: Pod, *nodes: NodeState) -> str:
    """The node chosen, or the reasons for none."""
    match plan_placement(PodInfo.of(member), nodes):
        case Placement(name):
            return name
        case Unschedulable(message):
            return message


CONTROL_PLANE = {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"}


def three_nodes() -> list[NodeState]:
    return [
        node_state(node("control-plane", taints=[CONTROL_PLANE])),
        node_state(node("node-1")),
        node_state(node("node-2")),
    ]


def test_the_reasons_are_upstream_s() -> None:
    assert place(pod(cpu="4"), *three_nodes()) == (
        "0/3 nodes are available: 1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }, "
        "2 Insufficient cpu."
    )


AFFINITY = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}]
        }
    }
}


@pytest.mark.parametrize(
    ("member", "state", "reason"),
    [
        pytest.param(
            pod(nodeSelector={"disk": "ssd"}),
            node_state(node("n")),
            "1 node(s) didn't match Pod's node affinity/selector",
            id="nodeSelector",
        ),
        pytest.param(
            pod(affinity=AFFINITY),
            node_state(node("n", labels={"disk": "hdd"})),
            "1 node(s) didn't match Pod's node affinity/selector",
            id="node affinity",
        ),
        pytest.param(pod(), node_state(node("n", unschedulable=True)), "1 node(s) were unschedulable", id="cordoned"),
        pytest.param(
            pod(),
            node_state(node("n", taints=[{"key": "a", "value": "b", "effect": "NoExecute"}])),
            "1 node(s) had untolerated taint {a: b}",
            id="taint",
        ),
        pytest.param(
            pod(ports=[{"hostPort": 80, "containerPort": 80, "protocol": "TCP"}]),
            node_state(node("n"), [pod(ports=[{"hostPort": 80, "containerPort": 8080, "protocol": "TCP"}])]),
            "1 node(s) didn't have free ports for the requested pod ports",
            id="host port",
        ),
        pytest.param(
            pod(cpu="1500m"), node_state(node("n"), [pod(cpu="600m")]), "1 Insufficient cpu", id="cpu is taken"
        ),
        pytest.param(pod(), node_state(node("n"), [pod() for _ in range(110)]), "1 Too many pods", id="pods"),
    ],
)
def test_why_a_node_is_refused(member: Pod, state: NodeState, reason: str) -> None:
    assert place(member, state) == f"0/1 nodes are available: {reason}."


@pytest.mark.parametrize(
    "member",
    [
        pytest.param(pod(tolerations=[{"operator": "Exists"}], nodeSelector={"disk": "ssd"}), id="tolerates all"),
        pytest.param(
            pod(
                ports=[{"hostPort": 80, "hostIP": "10.0.0.1", "protocol": "TCP"}], tolerations=[{"operator": "Exists"}]
            ),
            id="host port of another address",
        ),
    ],
)
def test_what_fits(member: Pod) -> None:
    taints = [{"key": "a", "effect": "NoSchedule"}]
    state = node_state(node("n", labels={"disk": "ssd"}, taints=taints))
    state.add(PodInfo.of(pod(ports=[{"hostPort": 80, "hostIP": "10.0.0.2", "protocol": "TCP"}])))
    assert place(member, state) == "n"


def test_who_asks_for_nothing_fits_on_a_node_that_is_overcommitted() -> None:
    assert place(pod(cpu="0"), node_state(node("n", cpu="1"), [pod(cpu="1500m")])) == "n"


def test_no_nodes() -> None:
    assert place(pod()) == "no nodes available to schedule pods"


def test_replicas_spread_over_nodes() -> None:
    state = ClusterState()
    for name in ("node-1", "node-2"):
        state.set_node(node(name))
    for _ in range(6):
        info = PodInfo.of(pod(cpu="50m", owner="rs"))
        decision = plan_placement(info, state.nodes())
        assert isinstance(decision, Placement)
        state.assume(info, decision.node)
    assert [len(each.pods) for each in state.nodes()] == [3, 3]


def test_a_preferred_node_wins_over_a_bit_more_room() -> None:
    preferred = {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 10, "preference": {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}}
            ]
        }
    }
    ssd = node_state(node("ssd", labels={"disk": "ssd"}), [pod(cpu="100m")])
    assert place(pod(affinity=preferred), node_state(node("other")), ssd) == "ssd"


APART = {
    "podAntiAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"app": "db"}}, "topologyKey": "kubernetes.io/hostname"}
        ]
    }
}
TOGETHER = {"podAffinity": APART["podAntiAffinity"]}


def test_pods_that_want_to_be_apart() -> None:
    db = {"app": "db"}
    one, two = node_state(node("n1"), [pod(labels=db, affinity=APART)]), node_state(node("n2"))
    assert place(pod(labels=db, affinity=APART), one, two) == "n2"
    assert place(pod(labels=db), one) == (
        "0/1 nodes are available: 1 node(s) didn't satisfy existing pods anti-affinity rules."
    )
    assert place(pod(affinity=APART), one) == (
        "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules."
    )


def test_pods_that_want_to_be_together() -> None:
    db = {"app": "db"}
    one, two = node_state(node("n1")), node_state(node("n2"), [pod(labels=db)])
    assert place(pod(affinity=TOGETHER), one, two) == "n2"
    assert place(pod(affinity=TOGETHER), one) == ("0/1 nodes are available: 1 node(s) didn't match pod affinity rules.")
    assert place(pod(labels=db, affinity=TOGETHER), one) == "n1"  # the first of its group may go anywhere


def test_topology_spread() -> None:
    constraint = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "db"}},
    }
    db = {"app": "db"}
    a = node_state(node("a", labels={"zone": "a"}), [pod(labels=db)])
    b = node_state(node("b", labels={"zone": "b"}, taints=[CONTROL_PLANE]))
    member = pod(labels=db, topologySpreadConstraints=[constraint])
    assert place(member, a, b) == (
        "0/2 nodes are available: 1 node(s) didn't match pod topology spread constraints, "
        "1 node(s) had untolerated taint {node-role.kubernetes.io/control-plane: }."
    )
    assert place(member, a) == "a"


def test_requests_of_init_containers_and_sidecars() -> None:
    def container(cpu: str, **more: Any) -> dict[str, Any]:
        return {"name": "c", "resources": {"requests": {"cpu": cpu}}, **more}

    member = convert(
        Pod,
        {
            "spec": {
                "initContainers": [container("100m", restartPolicy="Always"), container("1")],
                "containers": [container("500m"), container("300m")],
                "overhead": {"cpu": "10m"},
            }
        },
    )
    assert pod_requests(member) == {"cpu": 1110}  # the init container beside its sidecar, and the overhead


def test_an_assumed_pod_counts_until_it_is_bound_forgotten_or_gone() -> None:
    state = ClusterState()
    state.set_node(node("n"))
    waiting = pod(cpu="1")
    state.assume(PodInfo.of(waiting), "n")
    state.set_pod(waiting)  # the cache still shows it without a node
    assert state.nodes()[0].requested["cpu"] == 1000
    state.forget(waiting.metadata.uid)
    assert state.nodes()[0].requested["cpu"] == 0
    bound = pod(cpu="1", on="n")
    state.set_pod(bound)
    state.set_node(node("n", labels={"new": "label"}))
    assert state.nodes()[0].requested["cpu"] == 1000
    state.remove_pod(bound.metadata.uid)
    assert not state.nodes()[0].pods


async def test_the_queue_serves_priority_then_order() -> None:
    queue = SchedulingQueue()
    first, second, urgent = pod(), pod(), pod(priority=10)
    for each in (first, second, urgent):
        queue.add(each)
    assert [await queue.pop() for _ in range(3)] == [urgent, first, second]


async def test_unschedulable_pods_wait_for_a_change() -> None:
    queue = SchedulingQueue()
    waiting, gone = pod(), pod()
    queue.park(waiting)
    queue.park(gone)
    queue.remove(gone.metadata.uid)
    queue.wake()
    assert await queue.pop() == waiting
    assert len(queue) == 0
