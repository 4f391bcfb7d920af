"""StatefulSets: the plan by table, and a real API server where the test plays the kubelet."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubarium.controllers.config import Config
from kubarium.controllers.setviews import STATEFULSETS, StatefulSet
from kubarium.controllers.statefulsets.plan import POD_INDEX, POD_NAME, REVISION, Revisions, plan_set
from kubarium.controllers.views import CLAIMS
from kubarium.machinery.objects import Pod, convert
from kubarium.testing.apiserver import ApiServer
from tests.controllers.live import Space, eventually, make_space, running

ONLY = ("statefulset-controller", "garbage-collector-controller")
OLD, NEW = "s-old", "s-new"


def a_set(replicas: int, **spec: Any) -> StatefulSet:
    return convert(StatefulSet, {"metadata": {"name": "s", "namespace": "ns"}, "spec": {"replicas": replicas, **spec}})


def a_pod(ordinal: int, revision: str = NEW, *, ready: bool = True, phase: str = "Running", going: bool = False) -> Pod:
    name = f"s-{ordinal}"
    labels = {REVISION: revision, POD_NAME: name, POD_INDEX: str(ordinal)}
    meta = {"name": name, "namespace": "ns", "uid": name, "labels": labels}
    meta |= {"deletionTimestamp": "2026-01-01T00:00:00Z"} if going else {}
    condition = {"type": "Ready", "status": "True" if ready else "False", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    return convert(Pod, {"metadata": meta, "status": {"phase": phase, "conditions": [condition]}})


PARALLEL = {"podManagementPolicy": "Parallel"}
ON_DELETE = {"updateStrategy": {"type": "OnDelete"}}


def partition(number: int) -> dict[str, Any]:
    return {"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": number}}}


@pytest.mark.parametrize(
    ("stateful_set", "pods", "create", "delete"),
    [
        pytest.param(a_set(2), [], [0], [], id="the first"),
        pytest.param(a_set(2), [a_pod(0, ready=False)], [], [], id="the second waits for the first"),
        pytest.param(a_set(2), [a_pod(0)], [1], [], id="the second"),
        pytest.param(a_set(3, **PARALLEL), [], [0, 1, 2], [], id="all at once"),
        pytest.param(a_set(2, ordinals={"start": 5}), [], [5], [], id="another first number"),
        pytest.param(a_set(2), [a_pod(0, phase="Failed", ready=False)], [], [0], id="a failed one is replaced"),
        pytest.param(a_set(1), [a_pod(0), a_pod(1), a_pod(2)], [], [2], id="the highest goes first"),
        pytest.param(a_set(1), [a_pod(0), a_pod(1), a_pod(2, going=True)], [], [], id="one goes at a time"),
        pytest.param(a_set(1), [a_pod(0, ready=False), a_pod(1)], [], [], id="none goes while one below is not well"),
        pytest.param(a_set(1, **PARALLEL), [a_pod(0), a_pod(1), a_pod(2)], [], [2, 1], id="all go at once"),
        pytest.param(a_set(2), [a_pod(0, OLD), a_pod(1, OLD)], [], [1], id="the update begins at the top"),
        pytest.param(a_set(2), [a_pod(0, OLD), a_pod(1)], [], [0], id="and goes down"),
        pytest.param(
            a_set(2, **PARALLEL), [a_pod(0, OLD), a_pod(1, ready=False)], [], [], id="when the one above is well"
        ),
        pytest.param(a_set(2, **partition(1)), [a_pod(0, OLD), a_pod(1)], [], [], id="down to the partition"),
        pytest.param(a_set(2, **ON_DELETE), [a_pod(0, OLD), a_pod(1, OLD)], [], [], id="or not by itself"),
    ],
)
def test_plan(stateful_set: StatefulSet, pods: list[Pod], create: list[int], delete: list[int]) -> None:
    plan = plan_set(stateful_set, pods, Revisions(OLD, NEW), 1e10)
    assert [ordinal for ordinal, _ in plan.create] == create
    assert [pod.metadata.name for pod in plan.delete] == [f"s-{ordinal}" for ordinal in delete]


def test_below_the_partition_pods_come_back_with_their_old_revision() -> None:
    plan = plan_set(a_set(2, **partition(1), **PARALLEL), [], Revisions(OLD, NEW), 1e10)
    assert plan.create == ((0, OLD), (1, NEW))


# -- live --------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def space(shared_apiserver: ApiServer, tmp_path: Path) -> AsyncIterator[Space]:
    async with running(shared_apiserver.kubeconfig, Config(controllers=ONLY)) as api:
        yield await make_space(api, f"t-{secrets.token_hex(4)}")


def template(image: str = "x:1") -> dict[str, Any]:
    mounts = [{"name": "data", "mountPath": "/data"}]
    containers = [{"name": "c", "image": image, "volumeMounts": mounts}]
    return {"metadata": {"labels": {"app": "db"}}, "spec": {"containers": containers}}


async def make(space: Space, replicas: int, **spec: Any) -> StatefulSet:
    size = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    claims = [{"metadata": {"name": "data"}, "spec": size}]
    body = {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "db"}},
        "serviceName": "db",
        "template": template(),
    }
    return await space.create(
        STATEFULSETS, metadata={"name": "s"}, spec={**body, "volumeClaimTemplates": claims, **spec}
    )


async def until_ready(space: Space, replicas: int, image: str = "x:1") -> StatefulSet:
    """Every pod runs as soon as it is there."""

    async def check() -> StatefulSet:
        await space.all_ready()
        found = await space.api.get(STATEFULSETS, "s", space.name)
        status = found.status
        assert status.observed_generation == found.metadata.generation
        assert (status.replicas, status.ready_replicas, status.updated_replicas) == (replicas,) * 3
        assert status.current_revision == status.update_revision
        pods = await space.pods()
        assert sorted(pod.metadata.name for pod in pods) == [f"s-{number}" for number in range(replicas)]
        assert {pod.spec.containers[0].image for pod in pods} == {image}
        return found

    return await eventually(check)


async def test_a_set_comes_up_in_order_grows_shrinks_and_is_updated(space: Space) -> None:
    await make(space, 2)
    found = await until_ready(space, 2)
    pods = {pod.metadata.name: pod for pod in await space.pods()}
    assert pods["s-1"].metadata.creation_timestamp >= pods["s-0"].metadata.creation_timestamp
    assert (pods["s-0"].spec.hostname, pods["s-0"].spec.subdomain) == ("s-0", "db")
    assert pods["s-0"].metadata.labels[REVISION] == found.status.update_revision
    claims = await space.list(CLAIMS)
    assert sorted(claim.metadata.name for claim in claims) == ["data-s-0", "data-s-1"]
    await space.api.patch(STATEFULSETS, "s", {"spec": {"replicas": 3}}, space.name)
    await until_ready(space, 3)
    await space.api.patch(STATEFULSETS, "s", {"spec": {"replicas": 1}}, space.name)
    await until_ready(space, 1)
    assert len(await space.list(CLAIMS)) == 3  # volumes stay
    await space.api.patch(STATEFULSETS, "s", {"spec": {"template": template("x:2")}}, space.name)
    await until_ready(space, 1, "x:2")
    await space.api.patch(STATEFULSETS, "s", {"spec": {"template": template("x:1")}}, space.name)
    again = await until_ready(space, 1, "x:1")
    assert again.status.update_revision == found.status.update_revision


async def test_volumes_go_with_the_set_where_the_policy_says_so(space: Space) -> None:
    await make(space, 1, persistentVolumeClaimRetentionPolicy={"whenDeleted": "Delete", "whenScaled": "Retain"})
    await until_ready(space, 1)
    [claim] = await space.list(CLAIMS)
    assert [ref.kind for ref in claim.metadata.owner_references] == ["StatefulSet"]
