"""The scheduler against a real API server; the tests play kubelet."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubarium.machinery.client import Api
from kubarium.machinery.objects import Pod
from kubarium.machinery.resources import EVENTS, NODES, PODS
from kubarium.testing.apiserver import ApiServer
from tests.controllers.live import Space, eventually, make_node, make_space, running


@pytest.fixture
async def space(apiserver: ApiServer) -> AsyncIterator[Space]:
    async with running(apiserver.kubeconfig, controllers=False, scheduler=True) as api:
        yield await make_space(api, "t")


async def submit(space: Space, name: str, *, cpu: str = "100m", **spec: Any) -> Pod:
    container = {"name": "c", "image": "nginx", "resources": {"requests": {"cpu": cpu}}}
    labels = {"app": "web"}
    spec = {"containers": [container], **spec}
    return await space.create(PODS, metadata={"name": name, "labels": labels}, spec=spec)


async def placed(space: Space, name: str) -> str:
    async def check() -> str:
        return (await space.api.get(PODS, name, space.name)).spec.node_name

    return await eventually(check)


async def reason(space: Space, name: str) -> str:
    """The message of the pod's condition PodScheduled=False."""

    async def check() -> str:
        pod = await space.api.get(PODS, name, space.name)
        found = [c for c in pod.status.conditions if (c.type, c.reason) == ("PodScheduled", "Unschedulable")]
        return found[0].message if found else ""

    return await eventually(check)


async def event(space: Space, kind: str) -> str:
    async def check() -> str:
        return next((e.message for e in await space.list(EVENTS) if e.reason == kind), "")

    return await eventually(check)


async def free(api: Api, name: str) -> None:
    await api.patch(NODES, name, {"spec": {"taints": None}})


async def test_pods_are_bound_and_spread(space: Space) -> None:
    for name in ("node-1", "node-2"):
        await make_node(space.api, name)
        await free(space.api, name)
    for number in range(4):
        await submit(space, f"p{number}")
    assert sorted([await placed(space, f"p{number}") for number in range(4)]) == ["node-1"] * 2 + ["node-2"] * 2
    assert (await event(space, "Scheduled")).startswith("Successfully assigned t/p")


async def test_a_pod_that_fits_nowhere_says_why_and_is_placed_when_it_does(space: Space) -> None:
    await submit(space, "early")
    assert await reason(space, "early") == "no nodes available to schedule pods"
    await make_node(space.api, "node-1", cpu="1")
    await free(space.api, "node-1")
    started = time.monotonic()
    assert await placed(space, "early") == "node-1"
    assert time.monotonic() - started < 1
    await submit(space, "big", cpu="950m")
    assert await reason(space, "big") == "0/1 nodes are available: 1 Insufficient cpu."
    assert await event(space, "FailedScheduling")
    await space.api.delete(PODS, "early", space.name, grace_period_s=0)
    assert await placed(space, "big") == "node-1"


async def test_a_cordoned_node_takes_pods_again_when_it_is_uncordoned(space: Space) -> None:
    await make_node(space.api, "node-1", unschedulable=True)
    await submit(space, "p")
    assert "unschedulable" in await reason(space, "p")
    await space.api.patch(NODES, "node-1", {"spec": {"unschedulable": None, "taints": None}})
    assert await placed(space, "p") == "node-1"
