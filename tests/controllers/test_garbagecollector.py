from __future__ import annotations

from typing import Any

import pytest

from kubarium.controllers.namespace import Remaining, plan_conditions
from kubarium.controllers.ownership import Action, Graph, Item, Owner, blocking, plan_item
from kubarium.controllers.views import PartialObject, metadata_only
from kubarium.machinery.objects import Namespace, convert
from kubarium.machinery.resources import PODS
from tests.controllers.build import NOW, ago, meta

RESOURCE = metadata_only(PODS)


def item(name: str, *owners: str, block: bool = True, **more: Any) -> Item:
    refs = [{"uid": f"uid-{each}", "name": each, "kind": "Pod", "blockOwnerDeletion": block} for each in owners]
    return Item(RESOURCE, convert(PartialObject, {"metadata": meta(name, ownerReferences=refs, **more)}))


GOING = {"deletionTimestamp": ago(1)}


@pytest.mark.parametrize(
    ("obj", "owners", "dependents", "action", "propagation"),
    [
        pytest.param(item("a"), {}, [], Action.NOTHING, "", id="no owners"),
        pytest.param(item("a", "o"), {"o": Owner.SOLID}, [], Action.NOTHING, "", id="its owner is there"),
        pytest.param(item("a", "o"), {"o": Owner.ABSENT}, [], Action.DELETE, "Background", id="its owner is gone"),
        pytest.param(
            item("a", "o", "p"),
            {"o": Owner.ABSENT, "p": Owner.SOLID},
            [],
            Action.DROP_REFERENCES,
            "",
            id="one owner is gone",
        ),
        pytest.param(item("a", "o"), {"o": Owner.WAITING}, [], Action.DELETE, "Background", id="its owner waits"),
        pytest.param(
            item("a", "o"),
            {"o": Owner.WAITING},
            [item("d", "a")],
            Action.DELETE,
            "Foreground",
            id="its owner waits and others wait for it",
        ),
        pytest.param(
            item("a", "o", finalizers=["orphan"]), {"o": Owner.ABSENT}, [], Action.DELETE, "Orphan", id="will orphan"
        ),
        pytest.param(
            item("a", "o", **GOING), {"o": Owner.ABSENT}, [], Action.NOTHING, "", id="is being deleted already"
        ),
        pytest.param(
            item("a", finalizers=["orphan"], **GOING),
            {},
            [item("d", "a")],
            Action.ORPHAN_DEPENDENTS,
            "",
            id="orphans its dependents",
        ),
        pytest.param(
            item("a", finalizers=["foregroundDeletion"], **GOING),
            {},
            [item("d", "a")],
            Action.DELETE_DEPENDENTS,
            "",
            id="waits for its dependents",
        ),
    ],
)
def test_plan(obj: Item, owners: dict[str, Owner], dependents: list[Item], action: Action, propagation: str) -> None:
    plan = plan_item(obj, {f"uid-{name}": owner for name, owner in owners.items()}, dependents)
    assert (plan.action, plan.propagation) == (action, propagation)


def test_only_the_references_to_lost_owners_are_dropped() -> None:
    owners = {"uid-o": Owner.ABSENT, "uid-p": Owner.SOLID, "uid-q": Owner.WAITING}
    assert plan_item(item("a", "o", "p", "q"), owners, []).owners == ("uid-o", "uid-q")


def test_blocking_dependents() -> None:
    dependents = [item("a", "o"), item("b", "o", block=False)]
    assert [each.uid for each in blocking("uid-o", dependents)] == ["uid-a"]


def test_the_graph_knows_dependents_of_owners_it_does_not_know() -> None:
    graph = Graph()
    graph.put(RESOURCE, item("a", "o").obj)
    assert [each.uid for each in graph.dependents("uid-o")] == ["uid-a"]
    graph.put(RESOURCE, item("a", "p").obj)  # its owner changed
    assert graph.dependents("uid-o") == ()
    graph.drop("uid-a")
    assert graph.dependents("uid-p") == ()


def test_a_namespace_says_what_it_waits_for() -> None:
    namespace = convert(Namespace, {"metadata": meta("ns", namespace="")})
    conditions = plan_conditions(namespace, Remaining({"pods.": 2}, {"example.com/hold": 1}), NOW)
    assert {(c["type"], c["status"], c["message"]) for c in conditions} == {
        ("NamespaceDeletionDiscoveryFailure", "False", "All resources successfully discovered"),
        ("NamespaceDeletionGroupVersionParsingFailure", "False", "All legacy kube types successfully parsed"),
        (
            "NamespaceDeletionContentFailure",
            "False",
            "All content successfully deleted, may be waiting on finalization",
        ),
        ("NamespaceContentRemaining", "True", "Some resources are remaining: pods. has 2 resource instances"),
        (
            "NamespaceFinalizersRemaining",
            "True",
            "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances",
        ),
    }
