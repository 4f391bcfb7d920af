"""What a change touches, who owns a contested frontend, and that targets keep their places."""

from __future__ import annotations

from ipaddress import IPv4Address

from hypothesis import given
from hypothesis import strategies as st

from kubarium.machinery.objects import ObjectKey
from kubeproxy.plan import NOTHING, Frontend, NodeView, Protocol, Target, plan_service
from kubeproxy.ruleset import Ruleset, arrange
from tests.kubeproxy.objects import endpoint_slice, service

NODE = NodeView("node-1", (IPv4Address("198.18.0.11"),))
FRONTEND = Frontend(IPv4Address("10.96.0.10"), Protocol.TCP, 80)
TARGETS = st.lists(st.integers(1, 30).map(lambda n: Target(IPv4Address(n), 80)), unique=True, max_size=20)


def put(ruleset: Ruleset, *pods: str, name: str = "web", ip: str = "10.96.0.10") -> None:
    svc = service(name, ip=ip)
    ruleset.update(svc.key, plan_service(svc, [endpoint_slice(*pods, service=name)], NODE))


def settle(ruleset: Ruleset) -> int:
    """Confirm what is due, and say how many frontends that touched."""
    changes = ruleset.changes()
    ruleset.confirm(changes)
    return len(changes.rules)


@given(TARGETS, TARGETS)
def test_arranging_keeps_all_wanted_and_moves_only_into_holes(old: list[Target], wanted: list[Target]) -> None:
    new = arrange(old, wanted)
    assert sorted(new) == sorted(wanted)
    stayed = [t for t in old if t in wanted]
    moved = [t for t in stayed if new.index(t) != old.index(t)]
    newcomers = len(wanted) - len(stayed)
    assert len(moved) <= max(0, len(old) - len(stayed) - newcomers)


def test_the_last_target_moves_into_the_hole() -> None:
    a, b, c = (Target(IPv4Address(n), 80) for n in (1, 2, 3))
    assert arrange([a, b, c], [b, c]) == (c, b)
    assert arrange([a, b, c], [a, b]) == (a, b)
    assert arrange([a, b], [b, c]) == (c, b)


def test_the_same_plan_again_changes_nothing() -> None:
    ruleset = Ruleset()
    put(ruleset, "10.244.1.7", "10.244.1.8")
    assert settle(ruleset) == 1
    put(ruleset, "10.244.1.8", "10.244.1.7")
    assert settle(ruleset) == 0


def test_one_service_among_many_touches_only_its_own() -> None:
    ruleset = Ruleset()
    for n in range(100):
        put(ruleset, f"10.244.1.{n + 2}", name=f"s{n}", ip=f"10.96.1.{n}")
    assert settle(ruleset) == 100
    put(ruleset, "10.244.1.2", "10.244.2.2", name="s7", ip="10.96.1.7")
    changes = ruleset.changes()
    assert [c.new.service.name for c in changes.rules if c.new] == ["s7"]
    assert not changes.cluster_ips_added
    assert changes.hairpin_added == (IPv4Address("10.244.2.2"),)


def test_changes_are_the_same_until_confirmed() -> None:
    ruleset = Ruleset()
    put(ruleset, "10.244.1.7")
    assert ruleset.changes() == ruleset.changes()
    assert ruleset.changes()
    ruleset.confirm(ruleset.changes())
    assert not ruleset.changes()


def test_a_withdrawn_service_takes_everything_along() -> None:
    ruleset = Ruleset()
    put(ruleset, "10.244.1.7")
    settle(ruleset)
    ruleset.update(ObjectKey("default", "web"), NOTHING)
    changes = ruleset.changes()
    assert [(c.old is None, c.new) for c in changes.rules] == [(False, None)]
    assert changes.cluster_ips_removed == (IPv4Address("10.96.0.10"),)
    assert changes.hairpin_removed == (IPv4Address("10.244.1.7"),)
    ruleset.confirm(changes)
    assert (ruleset.programmed, ruleset.cluster_ips, ruleset.hairpin) == ({}, {}, set())


def test_a_cluster_ip_handed_on_in_one_step() -> None:
    ruleset = Ruleset()
    put(ruleset, "10.244.1.7", name="old")
    settle(ruleset)
    put(ruleset, "10.244.1.8", name="new")  # both are in the cache for a moment
    put_nothing = ObjectKey("default", "old")
    ruleset.update(put_nothing, NOTHING)
    settle(ruleset)
    assert ruleset.programmed[FRONTEND].owner == "default/new:80"
    assert ruleset.cluster_ips[FRONTEND.address] == "default/new"


def test_a_contested_frontend_goes_to_the_first_name_and_then_to_the_next() -> None:
    ruleset = Ruleset()
    put(ruleset, "10.244.1.8", name="b")
    settle(ruleset)
    put(ruleset, "10.244.1.7", name="a")
    settle(ruleset)
    assert ruleset.programmed[FRONTEND].owner == "default/a:80"
    assert [r.owner for r in ruleset.contested(ObjectKey("default", "b"))] == ["default/b:80"]
    ruleset.update(ObjectKey("default", "a"), NOTHING)
    settle(ruleset)
    assert ruleset.programmed[FRONTEND].owner == "default/b:80"


def test_a_pod_of_two_services_stays_in_the_hairpin_set_until_both_are_gone() -> None:
    ruleset = Ruleset()
    put(ruleset, "10.244.1.7", name="a", ip="10.96.0.1")
    put(ruleset, "10.244.1.7", name="b", ip="10.96.0.2")
    settle(ruleset)
    ruleset.update(ObjectKey("default", "a"), NOTHING)
    assert ruleset.changes().hairpin_removed == ()
    settle(ruleset)
    ruleset.update(ObjectKey("default", "b"), NOTHING)
    assert ruleset.changes().hairpin_removed == (IPv4Address("10.244.1.7"),)


def test_after_forgetting_everything_counts_as_new() -> None:
    ruleset = Ruleset()
    put(ruleset, "10.244.1.7")
    settle(ruleset)
    ruleset.forget_programmed()
    changes = ruleset.changes()
    assert [c.old for c in changes.rules] == [None]
    assert changes.cluster_ips_added
    assert changes.hairpin_added
