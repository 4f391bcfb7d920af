"""Garbage collection and namespace deletion over all kinds, against a real API server; custom kinds come and go."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubarium.controllers.config import Config
from kubarium.testing.apiserver import ApiServer
from tests.controllers.live import eventually, running

ONLY = ("garbage-collector-controller", "namespace-controller")
Obj = dict[str, Any]


@pytest.fixture
async def ns(shared_apiserver: ApiServer) -> AsyncIterator[str]:
    """The path of a namespace, with the two controllers at work."""
    name = f"t-{secrets.token_hex(4)}"
    async with running(shared_apiserver.kubeconfig, Config(controllers=ONLY)):
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        assert shared_apiserver.post("/api/v1/namespaces", body).status == 201
        yield f"/api/v1/namespaces/{name}"


class World:
    """Objects of the namespace by collection and name."""

    def __init__(self, server: ApiServer, ns: str) -> None:
        self.server = server
        self.ns = ns

    def path(self, plural: str, name: str = "") -> str:
        prefix = self.ns.replace("/api/v1", "/apis/" + CUSTOM) if plural == "widgets" else self.ns
        return f"{prefix}/{plural}" + (f"/{name}" if name else "")

    def make(self, plural: str, name: str, *owners: Obj, block: bool = False, **meta: Any) -> Obj:
        kind, version = KINDS[plural]
        refs = [reference(owner, block) for owner in owners]
        body = {"apiVersion": version, "kind": kind, "metadata": {"name": name, "ownerReferences": refs, **meta}}
        if plural == "pods":
            body["spec"] = {"containers": [{"name": "c", "image": "x"}]}
        answer = self.server.post(self.path(plural), body)
        assert answer.status == 201, answer.body
        return dict(answer.body)

    def delete(self, plural: str, name: str, policy: str) -> None:
        answer = self.server.delete(self.path(plural, name) + f"?propagationPolicy={policy}")
        assert answer.status < 300, answer.body

    def get(self, plural: str, name: str) -> Obj | None:
        answer = self.server.get(self.path(plural, name))
        return dict(answer.body) if answer.status == 200 else None

    def owners(self, plural: str, name: str) -> list[str]:
        found = self.get(plural, name)
        assert found is not None, f"{plural}/{name} is gone"
        return [ref["name"] for ref in found["metadata"].get("ownerReferences") or ()]

    async def gone(self, *objects: tuple[str, str]) -> None:
        async def check() -> bool:
            left = [(plural, name) for plural, name in objects if self.get(plural, name)]
            assert not left, f"still there: {left}"
            return True

        await eventually(check)

    def own(self, plural: str, name: str, *owners: Obj, block: bool = False) -> None:
        """Set the owners of an object that is there."""
        patch = {"metadata": {"ownerReferences": [reference(owner, block) for owner in owners]}}
        assert self.server.patch(self.path(plural, name), patch).status == 200

    def free(self, plural: str, name: str) -> None:
        """Take all finalizers that are not the garbage collector's."""
        found = self.get(plural, name)
        assert found is not None
        kept = [f for f in found["metadata"]["finalizers"] if f in ("orphan", "foregroundDeletion")]
        assert self.server.patch(self.path(plural, name), {"metadata": {"finalizers": kept or None}}).status == 200


CUSTOM = "collected.example.com/v1"
KINDS = {
    "configmaps": ("ConfigMap", "v1"),
    "secrets": ("Secret", "v1"),
    "pods": ("Pod", "v1"),
    "widgets": ("Widget", CUSTOM),
}
HOLD = ["example.com/hold"]


def reference(owner: Obj, block: bool = False) -> Obj:
    meta = owner["metadata"]
    ref = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"]}
    return {**ref, **({"blockOwnerDeletion": True} if block else {})}


@pytest.fixture
def world(shared_apiserver: ApiServer, ns: str) -> World:
    return World(shared_apiserver, ns)


async def test_dependents_of_dependents_go_in_the_background(world: World) -> None:
    a = world.make("configmaps", "a")
    b = world.make("secrets", "b", a)
    world.make("configmaps", "c", b)
    world.make("configmaps", "d")
    world.delete("configmaps", "a", "Background")
    await world.gone(("configmaps", "a"), ("secrets", "b"), ("configmaps", "c"))
    assert world.get("configmaps", "d")


async def test_an_owner_waits_for_those_who_block_it_and_for_no_others(world: World) -> None:
    a = world.make("configmaps", "a")
    world.make("configmaps", "blocking", a, block=True, finalizers=HOLD)
    world.make("configmaps", "other", a, finalizers=HOLD)
    world.delete("configmaps", "a", "Foreground")

    async def is_ending() -> bool:
        found = world.get("configmaps", "blocking")
        return bool(found and found["metadata"].get("deletionTimestamp"))

    await eventually(is_ending)
    owner = world.get("configmaps", "a")
    assert owner is not None
    assert owner["metadata"]["finalizers"] == ["foregroundDeletion"]
    world.free("configmaps", "blocking")
    await world.gone(("configmaps", "a"), ("configmaps", "blocking"))
    other = world.get("configmaps", "other")
    assert other is not None
    world.free("configmaps", "other")
    await world.gone(("configmaps", "other"))


async def test_a_dependent_that_ceases_to_block_frees_its_owner(world: World) -> None:
    a = world.make("configmaps", "a")
    world.make("configmaps", "b", a, block=True, finalizers=HOLD)
    world.delete("configmaps", "a", "Foreground")
    world.own("configmaps", "b", a, block=False)
    await world.gone(("configmaps", "a"))
    world.free("configmaps", "b")


async def test_orphans_stay_without_owner(world: World) -> None:
    a = world.make("configmaps", "a")
    z = world.make("configmaps", "z")
    world.make("secrets", "b", a, z)
    world.delete("configmaps", "a", "Orphan")
    await world.gone(("configmaps", "a"))
    assert world.owners("secrets", "b") == ["z"]


async def test_who_has_another_owner_stays_when_one_waits_for_it(world: World) -> None:
    """Upstream's conformance: dependents with a valid owner and one that waits for its dependents."""
    a, b = world.make("configmaps", "a"), world.make("configmaps", "b")
    for number in range(3):
        world.make("secrets", f"both-{number}", a, b, block=True)
        world.make("secrets", f"one-{number}", a, block=True)
    world.delete("configmaps", "a", "Foreground")
    await world.gone(("configmaps", "a"), *(("secrets", f"one-{number}") for number in range(3)))
    assert [world.owners("secrets", f"both-{number}") for number in range(3)] == [["b"]] * 3


@pytest.mark.parametrize("policy", ["Foreground", "Background"])
async def test_a_circle_of_owners_goes(world: World, policy: str) -> None:
    """Upstream's conformance: three pods that own one another in turn."""
    made = {name: world.make("pods", name) for name in ("p1", "p2", "p3")}
    for name, owner in (("p1", "p3"), ("p2", "p1"), ("p3", "p2")):
        world.own("pods", name, made[owner], block=True)
    world.delete("pods", "p1", policy)
    await world.gone(*(("pods", name) for name in made))


async def test_an_owner_that_never_was_and_one_of_another_uid_are_absent(world: World) -> None:
    real = world.make("configmaps", "real")
    ghost = {**real, "metadata": {"name": "ghost", "uid": "00000000-0000-4000-8000-000000000000"}}
    renewed = {**real, "metadata": {"name": "real", "uid": "00000000-0000-4000-8000-000000000001"}}
    world.make("secrets", "of-ghost", ghost)
    world.make("secrets", "of-renewed", renewed)
    world.make("secrets", "of-both", ghost, real)
    await world.gone(("secrets", "of-ghost"), ("secrets", "of-renewed"))
    assert world.get("configmaps", "real")

    async def is_freed() -> bool:
        return world.owners("secrets", "of-both") == ["real"]

    await eventually(is_freed)


async def test_an_owner_of_another_namespace_is_absent_and_told_of(world: World, shared_apiserver: ApiServer) -> None:
    other = f"t-{secrets.token_hex(4)}"
    shared_apiserver.post(
        "/api/v1/namespaces", {"metadata": {"name": other}} | {"apiVersion": "v1", "kind": "Namespace"}
    )
    owner = World(shared_apiserver, f"/api/v1/namespaces/{other}").make("configmaps", "far")
    world.make("secrets", "lost", owner)
    await world.gone(("secrets", "lost"))
    namespace = world.ns.rpartition("/")[2]
    uid = owner["metadata"]["uid"]
    expected = (
        f"ownerRef [v1/ConfigMap, namespace: {namespace}, name: far, uid: {uid}] "
        f'does not exist in namespace "{namespace}"'
    )

    async def is_told() -> bool:
        events = shared_apiserver.get(f"{world.ns}/events").body["items"]
        assert expected in [e["message"] for e in events if e["reason"] == "OwnerRefInvalidNamespace"]
        return True

    await eventually(is_told)


async def test_a_cluster_scoped_object_with_a_namespaced_owner_is_left_alone(
    world: World, shared_apiserver: ApiServer
) -> None:
    a, b = world.make("configmaps", "a"), world.make("configmaps", "b")
    name = f"pc-{secrets.token_hex(4)}"
    path = f"/apis/scheduling.k8s.io/v1/priorityclasses/{name}"
    body = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "value": 1}
    meta = {"name": name, "ownerReferences": [reference(a)]}
    assert shared_apiserver.post(path.rpartition("/")[0], {**body, "metadata": meta}).status == 201
    world.make("secrets", "after", b)
    world.delete("configmaps", "a", "Background")
    world.delete("configmaps", "b", "Background")
    await world.gone(("secrets", "after"))
    assert shared_apiserver.get(path).status == 200
    shared_apiserver.delete(path)


# -- custom kinds ------------------------------------------------------------------------------------------------------


@pytest.fixture
async def widgets(shared_apiserver: ApiServer, world: World) -> AsyncIterator[World]:
    """A kind that is made while the controllers run, and goes before they end."""
    group, version = CUSTOM.split("/")
    crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    schema = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"widgets.{group}"},
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": {"plural": "widgets", "singular": "widget", "kind": "Widget"},
            "versions": [{"name": version, "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}],
        },
    }
    assert shared_apiserver.post(crds, body).status == 201

    async def is_served() -> bool:
        return shared_apiserver.get(world.path("widgets")).status == 200

    await eventually(is_served)
    yield world
    assert shared_apiserver.delete(f"{crds}/widgets.{group}").status == 200

    async def is_gone() -> bool:
        return shared_apiserver.get(f"{crds}/widgets.{group}").status == 404

    await eventually(is_gone)


async def test_custom_objects_own_and_are_owned(widgets: World) -> None:
    w = widgets.make("widgets", "w")
    widgets.make("configmaps", "of-widget", w)
    c = widgets.make("configmaps", "c")
    widgets.make("widgets", "of-map", c)
    widgets.delete("widgets", "w", "Foreground")
    widgets.delete("configmaps", "c", "Background")
    await widgets.gone(("widgets", "w"), ("configmaps", "of-widget"), ("configmaps", "c"), ("widgets", "of-map"))


async def test_custom_objects_are_orphaned_though_they_know_no_strategic_merge(widgets: World) -> None:
    a, b = widgets.make("widgets", "a"), widgets.make("widgets", "b")
    widgets.make("widgets", "child", a, b)
    widgets.delete("widgets", "a", "Orphan")
    await widgets.gone(("widgets", "a"))
    assert widgets.owners("widgets", "child") == ["b"]


async def test_a_namespace_takes_its_custom_objects_along(widgets: World, shared_apiserver: ApiServer) -> None:
    widgets.make("widgets", "w", finalizers=HOLD)
    namespace = widgets.ns.rpartition("/")[2]
    assert shared_apiserver.delete(widgets.ns).status == 200
    conditions = await held(shared_apiserver, namespace)
    assert conditions["NamespaceContentRemaining"][1] == (
        "Some resources are remaining: widgets.collected.example.com has 1 resource instances"
    )
    widgets.free("widgets", "w")
    await ended(shared_apiserver, namespace)


# -- namespaces --------------------------------------------------------------------------------------------------------


async def held(server: ApiServer, namespace: str) -> dict[str, tuple[str, str]]:
    """Status and message by condition, when something holds the namespace."""

    async def check() -> dict[str, tuple[str, str]] | None:
        found = server.get(f"/api/v1/namespaces/{namespace}").body.get("status", {}).get("conditions") or ()
        by_type = {c["type"]: (c["status"], c["message"]) for c in found}
        return by_type if by_type.get("NamespaceContentRemaining", ("",))[0] == "True" else None

    found = await eventually(check)
    assert found is not None
    return found


async def ended(server: ApiServer, namespace: str) -> None:
    async def check() -> bool:
        return server.get(f"/api/v1/namespaces/{namespace}").status == 404

    await eventually(check)


async def test_pods_go_before_anything_else_of_a_namespace(world: World, shared_apiserver: ApiServer) -> None:
    world.make("pods", "last-words", finalizers=HOLD)
    world.make("configmaps", "needed")
    namespace = world.ns.rpartition("/")[2]
    shared_apiserver.delete(world.ns)
    conditions = await held(shared_apiserver, namespace)
    assert {kind: status for kind, (status, _) in conditions.items()} == {
        "NamespaceDeletionDiscoveryFailure": "False",
        "NamespaceDeletionGroupVersionParsingFailure": "False",
        "NamespaceDeletionContentFailure": "False",
        "NamespaceContentRemaining": "True",
        "NamespaceFinalizersRemaining": "True",
    }
    assert conditions["NamespaceFinalizersRemaining"][1].endswith(": example.com/hold in 1 resource instances")
    assert world.get("configmaps", "needed")
    world.free("pods", "last-words")
    await ended(shared_apiserver, namespace)
