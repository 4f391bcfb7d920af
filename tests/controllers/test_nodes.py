from __future__ import annotations

from ipaddress import IPv4Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubarium.controllers.config import Config
from kubarium.controllers.nodeipam import Pool, plan_ranges
from kubarium.controllers.nodelifecycle import (
    heartbeat_mark,
    next_check_s,
    plan_conditions,
    plan_taints,
    plan_unready,
    wire_taints,
)
from kubarium.controllers.podgc import plan_removals
from kubarium.controllers.tainteviction import evict_at
from kubarium.machinery.errors import ConfigError
from kubarium.machinery.objects import Lease, Node, Taint, convert
from tests.controllers.build import NOW, ago, node, pod

POOL = Pool(IPv4Network("10.244.0.0/16"), 24)


def ranges(*nodes: Node, given: tuple[str, ...] = ()) -> dict[str, str]:
    plan = plan_ranges(nodes, [IPv4Network(text) for text in given], (POOL,))
    return {name: str(networks[0]) for name, networks in plan.ranges.items()}


def test_nodes_that_come_together_are_served_in_order() -> None:
    assert ranges(node("node-2"), node("node-1"), node("control-plane")) == {
        "control-plane": "10.244.0.0/24",
        "node-1": "10.244.1.0/24",
        "node-2": "10.244.2.0/24",
    }


def test_the_lowest_free_range_is_taken() -> None:
    have = node("node-2", podCIDR="10.244.1.0/24", podCIDRs=["10.244.1.0/24"])
    assert ranges(node("node-9"), have, given=("10.244.0.0/24",)) == {"node-9": "10.244.2.0/24"}


def test_a_range_of_another_size_is_kept_clear_of() -> None:
    assert ranges(node("a"), node("b", podCIDR="10.244.0.0/22")) == {"a": "10.244.4.0/24"}


@given(st.lists(st.integers(0, 3), max_size=4, unique=True), st.integers(0, 6))
def test_no_range_is_given_twice(taken: list[int], count: int) -> None:
    pool = Pool(IPv4Network("10.0.0.0/22"), 24)
    nodes = [node(f"n{i}", podCIDR=str(pool.range(i))) for i in taken]
    plan = plan_ranges([*nodes, *(node(f"new-{i}") for i in range(count))], [], (pool,))
    chosen = [networks[0] for networks in plan.ranges.values()]
    everything = [*chosen, *(pool.range(i) for i in taken)]
    assert len(set(everything)) == len(everything)
    assert len(plan.refused) == max(0, count - (4 - len(taken)))


def test_cidrs_that_clash_are_refused() -> None:
    with pytest.raises(ConfigError, match="overlaps"):
        Config(cluster_cidr="10.96.0.0/12")
    with pytest.raises(ConfigError, match="cannot be cut"):
        Config(cluster_cidr="10.244.0.0/25")


@pytest.mark.parametrize(("left_s", "expected"), [(9.0, 5.0), (2.0, 2.0), (0.0, 5.0), (-60.0, 5.0)])
def test_a_lost_node_is_looked_at_once_a_period(left_s: float, expected: float) -> None:
    assert next_check_s(left_s, 5.0) == expected


def keys(taints: tuple[Taint, ...]) -> set[str]:
    return {f"{taint.key.removeprefix('node.kubernetes.io/')}:{taint.effect}" for taint in taints}


FOREIGN = {"key": "dedicated", "value": "db", "effect": "NoSchedule"}


@pytest.mark.parametrize(
    ("before", "all_lost", "expected"),
    [
        pytest.param(node("n"), False, set(), id="ready"),
        pytest.param(node("n", ready="False"), False, {"not-ready:NoSchedule", "not-ready:NoExecute"}, id="not ready"),
        pytest.param(
            node("n", ready="Unknown"), False, {"unreachable:NoSchedule", "unreachable:NoExecute"}, id="unreachable"
        ),
        pytest.param(node("n", ready="Unknown"), True, {"unreachable:NoSchedule"}, id="all lost: nobody is evicted"),
        pytest.param(node("n", ready=""), False, {"not-ready:NoSchedule"}, id="has not spoken yet"),
        pytest.param(node("n", unschedulable=True), False, {"unschedulable:NoSchedule"}, id="cordoned"),
        pytest.param(node("n", taints=[FOREIGN]), False, {"dedicated:NoSchedule"}, id="others' taints stay"),
        pytest.param(
            node("n", taints=[{"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}]),
            False,
            set(),
            id="healed",
        ),
    ],
)
def test_taints_follow_conditions(before: Node, all_lost: bool, expected: set[str]) -> None:
    assert keys(plan_taints(before, all_lost=all_lost, now=NOW)) == expected


def test_a_taint_that_is_there_keeps_its_time() -> None:
    since = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute", "timeAdded": ago(50)}
    planned = wire_taints(plan_taints(node("n", ready="Unknown", taints=[since]), all_lost=False, now=NOW))
    assert since in planned
    assert {taint["timeAdded"] for taint in planned} == {ago(50), ago(0)}


def test_a_silent_node_is_unknown_in_every_condition() -> None:
    planned = plan_conditions(node("n"), NOW)
    assert {(c["type"], c["status"], c["reason"]) for c in planned} == {
        ("Ready", "Unknown", "NodeStatusUnknown"),
        ("MemoryPressure", "Unknown", "NodeStatusNeverUpdated"),
        ("DiskPressure", "Unknown", "NodeStatusNeverUpdated"),
        ("PIDPressure", "Unknown", "NodeStatusNeverUpdated"),
    }


def test_a_renewed_lease_is_a_heartbeat() -> None:
    marks = [heartbeat_mark(node("n"), convert(Lease, {"spec": {"renewTime": ago(s)}})) for s in (1, 2, 2)]
    assert marks[0] != marks[1] == marks[2]


def test_pods_of_a_lost_node_are_not_ready() -> None:
    (patched,) = plan_unready([pod("a", ready_s=9), pod("b")], NOW)
    assert patched[0].metadata.name == "a"
    assert patched[1]["status"]["conditions"][0]["status"] == "False"


LOST = Taint(key="node.kubernetes.io/unreachable", effect="NoExecute", time_added=ago(100))


@pytest.mark.parametrize(
    ("tolerations", "expected"),
    [
        pytest.param([], NOW, id="not tolerated: at once"),
        pytest.param([{"operator": "Exists"}], None, id="tolerated for ever"),
        pytest.param([{"key": LOST.key, "operator": "Exists", "tolerationSeconds": 300}], NOW + 200, id="for a time"),
        pytest.param([{"key": LOST.key, "operator": "Exists", "tolerationSeconds": 30}], NOW - 70, id="time is up"),
        pytest.param(
            [
                {"key": LOST.key, "operator": "Exists", "tolerationSeconds": 300},
                {"operator": "Exists", "tolerationSeconds": 150},
            ],
            NOW + 50,
            id="the shortest counts",
        ),
        pytest.param([{"key": LOST.key, "operator": "Exists", "effect": "NoSchedule"}], NOW, id="another effect"),
    ],
)
def test_eviction_time(tolerations: list[dict[str, object]], expected: float | None) -> None:
    assert evict_at(pod("p", spec={"tolerations": tolerations}), [LOST], NOW) == expected


def test_a_taint_that_does_not_execute_evicts_nobody() -> None:
    assert evict_at(pod("p"), [Taint(key="a", effect="NoSchedule")], NOW) is None


OUT = {"key": "node.kubernetes.io/out-of-service", "effect": "NoExecute"}


def test_pods_that_nobody_will_finish_are_removed() -> None:
    leaving = {"deletionTimestamp": ago(1)}
    pods = [
        pod("fine", node="up"),
        pod("orphaned", node="gone"),
        pod("leaving-out-of-service", node="out", metadata=leaving),
        pod("leaving-silent", node="silent", metadata=leaving),
        pod("never-placed", node="", metadata=leaving),
    ]
    nodes = {
        "up": node("up"),
        "silent": node("silent", ready="Unknown"),
        "out": node("out", ready="Unknown", taints=[OUT]),
    }
    names = {removal.pod.metadata.name for removal in plan_removals(pods, nodes, threshold=10)}
    assert names == {"orphaned", "leaving-out-of-service", "never-placed"}


def test_finished_pods_beyond_the_threshold_go_oldest_first() -> None:
    pods = [pod(f"p{i}", phase="Succeeded", metadata={"creationTimestamp": ago(100 - i)}) for i in range(5)]
    removed = plan_removals(pods, {"node-1": node("node-1")}, threshold=3)
    assert [removal.pod.metadata.name for removal in removed] == ["p0", "p1"]


def test_ranges_are_networks() -> None:
    assert POOL.range(255) == ip_network("10.244.255.0/24")
    with pytest.raises(IndexError):
        POOL.range(256)
