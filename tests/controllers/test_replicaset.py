from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from kubarium.controllers.children import slow_start
from kubarium.controllers.config import Config
from kubarium.controllers.controller import Context, Informers, NotYet
from kubarium.controllers.expectations import Expectations
from kubarium.controllers.refs import plan_claims
from kubarium.controllers.replicaset import (
    ReplicaSetController,
    next_available_in,
    plan_pods,
    plan_status,
    pod_from_template,
    rank_for_deletion,
)
from kubarium.machinery.client import Api
from kubarium.machinery.errors import ServiceUnavailable
from kubarium.machinery.objects import ObjectKey, Pod
from tests.controllers.build import NOW, ago, owner, pod, replicaset
from tests.machinery.fakeapi import FakeApi

OURS = {"ownerReferences": [owner("ReplicaSet", "web-1")]}


def test_missing_pods_are_created_and_finished_ones_replaced() -> None:
    owned = [
        pod("running", ready_s=5),
        pod("failed", phase="Failed"),
        pod("leaving", ready_s=5, metadata={"deletionTimestamp": ago(1)}),
    ]
    assert plan_pods(replicaset("web-1", 3), owned, owned, NOW).create == 2


def test_a_replicaset_being_deleted_creates_nothing() -> None:
    assert plan_pods(replicaset("web-1", 3, metadata={"deletionTimestamp": ago(1)}), [], [], NOW).create == 0


RANKS = [
    pytest.param(pod("b", node="", phase="Pending"), pod("a", phase="Pending"), id="unassigned before assigned"),
    pytest.param(pod("b", phase="Pending"), pod("a"), id="pending before running"),
    pytest.param(pod("b"), pod("a", ready_s=900), id="unready before ready"),
    pytest.param(
        pod("b", ready_s=900, metadata={"annotations": {"controller.kubernetes.io/pod-deletion-cost": "-1"}}),
        pod("a", ready_s=1),
        id="cheaper before dearer",
    ),
    pytest.param(pod("b", ready_s=1), pod("a", ready_s=900), id="ready for a shorter time first"),
    pytest.param(
        pod("b", ready_s=900, containerStatuses=[{"restartCount": 3}]),
        pod("a", ready_s=900),
        id="restarted more often first",
    ),
    pytest.param(
        pod("b", ready_s=900, metadata={"creationTimestamp": ago(1)}), pod("a", ready_s=900), id="younger first"
    ),
]


@pytest.mark.parametrize(("first", "second"), RANKS)
def test_deletion_order(first: Pod, second: Pod) -> None:
    assert [p.metadata.name for p in rank_for_deletion([second, first], [], NOW)] == ["b", "a"]


def test_the_fuller_node_loses_a_pod_first() -> None:
    pods = [pod("a", node="n1", ready_s=9), pod("b", node="n2", ready_s=9), pod("c", node="n2", ready_s=9)]
    assert plan_pods(replicaset("web-1", 2), pods, pods, NOW).delete[0].spec.node_name == "n2"


def test_status_counts_active_pods_only() -> None:
    rs = replicaset("web-1", 3, metadata={"generation": 4})
    owned = [
        pod("a", ready_s=60),
        pod("b", ready_s=2, metadata={"labels": {}}),
        pod("c"),
        pod("d", ready_s=9, metadata={"deletionTimestamp": ago(1)}),
    ]
    assert plan_status(rs, owned, None, NOW) == {
        "replicas": 3,
        "fullyLabeledReplicas": 2,
        "readyReplicas": 2,
        "availableReplicas": 2,
        "observedGeneration": 4,
        "conditions": None,
    }


def test_min_ready_seconds_delay_availability() -> None:
    rs = replicaset("web-1", 2)
    rs = type(rs)(metadata=rs.metadata, spec=type(rs.spec)(replicas=2, min_ready_seconds=10), status=rs.status)
    owned = [pod("a", ready_s=60), pod("b", ready_s=4)]
    assert plan_status(rs, owned, None, NOW)["availableReplicas"] == 1
    assert next_available_in(rs, owned, NOW) == pytest.approx(6)


def test_a_failure_is_reported() -> None:
    (condition,) = plan_status(replicaset("web-1", 2), [], ("FailedCreate", "quota"), NOW)["conditions"]
    assert (condition["type"], condition["reason"], condition["message"]) == ("ReplicaFailure", "FailedCreate", "quota")


def test_a_pod_keeps_what_no_view_knows() -> None:
    rs = replicaset("web-1", 1)
    rs.spec.template["spec"]["aFieldOfTomorrow"] = {"x": 1}
    wire = pod_from_template(rs)
    assert wire["spec"]["aFieldOfTomorrow"] == {"x": 1}
    assert wire["metadata"]["generateName"] == "web-1-"
    (ref,) = wire["metadata"]["ownerReferences"]
    assert (ref["uid"], ref["controller"], ref["blockOwnerDeletion"]) == ("uid-web-1", True, True)


def test_slow_start() -> None:
    assert slow_start(10) == [1, 2, 4, 3]
    assert slow_start(0) == []


def test_claims() -> None:
    rs = replicaset("web-1", 1)
    owned = pod("owned", metadata=OURS)
    strayed = pod("strayed", metadata={**OURS, "labels": {"app": "other"}})
    orphan = pod("orphan")
    foreign = pod("foreign", metadata={"ownerReferences": [owner("ReplicaSet", "other")]})
    leaving = pod("leaving", metadata={"deletionTimestamp": ago(1)})
    claims = plan_claims(rs, rs.spec.selector, [owned, strayed, orphan, foreign, leaving])
    assert (claims.owned, claims.adopt, claims.release) == ((owned,), (orphan,), (strayed,))


class Cache:
    """Stands for an informer: what it shows, and up to which revision."""

    def __init__(self) -> None:
        self.pods: dict[ObjectKey, Pod] = {}
        self.resource_version = "10"

    def get(self, key: ObjectKey) -> Pod | None:
        return self.pods.get(key)


def test_expectations_hold_until_the_cache_shows_what_was_done() -> None:
    cache = Cache()
    expectations = Expectations(cache)  # type: ignore[arg-type]
    born = pod("born")
    expectations.created("rs", born.key, born.metadata.uid, "11")
    assert not expectations.satisfied("rs")
    assert expectations.satisfied("another")
    cache.pods[born.key] = born
    assert expectations.satisfied("rs")
    expectations.deleted("rs", born.key, born.metadata.uid)
    assert not expectations.satisfied("rs")
    cache.pods[born.key] = pod("born", metadata={"deletionTimestamp": ago(0)})
    assert expectations.satisfied("rs")


def test_a_creation_that_the_cache_never_shows_is_over_when_the_cache_is_past_it() -> None:
    cache = Cache()
    expectations = Expectations(cache)  # type: ignore[arg-type]
    expectations.created("rs", ObjectKey("default", "gone-before-the-relist"), "uid", "11")
    assert not expectations.satisfied("rs")
    cache.resource_version = "11"
    assert expectations.satisfied("rs")


class SilentApi(FakeApi):
    """Makes a pod and dies before it can say so."""

    silent = True

    async def create(self, resource: Any, obj: Any, namespace: str = "", **kwargs: Any) -> Any:
        name = f"{resource.plural}-{self.revision}"
        made = await super().create(resource, {**obj, "metadata": {**obj["metadata"], "name": name}}, namespace)
        if self.silent and resource.plural == "pods":
            raise ServiceUnavailable("connection reset")
        return made


async def test_a_creation_whose_answer_was_lost_is_not_done_twice() -> None:
    api = SilentApi()
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    metadata = {"name": "web", "namespace": "default", "uid": "rs-uid", "generation": 1}
    api.put("replicasets", "ADDED", {"apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": metadata, "spec": spec})
    informers = Informers(cast(Api, api))
    controller = ReplicaSetController(Context(cast(Api, api), informers, Config()))
    running = [asyncio.create_task(informer.run()) for informer in informers.all().values()]
    await asyncio.gather(*(informer.synced() for informer in informers.all().values()))
    for task in running:
        task.cancel()  # from here on the cache lags behind
    key = ObjectKey("default", "web")
    with pytest.raises(NotYet):
        await controller.sync(key)
    api.silent = False
    await controller.sync(key)
    await controller.sync(key)
    assert len([one for plural, one in api.objects if plural == "pods"]) == 1
