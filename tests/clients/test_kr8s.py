"""kr8s, unmodified, through the scenarios of its own documentation."""

from __future__ import annotations

import secrets
from typing import Any

import kr8s
import pytest
from kr8s.asyncio import objects

from kubarium.testing.apiserver import ApiServer


@pytest.fixture
async def api(shared_apiserver: ApiServer) -> Any:
    return await kr8s.asyncio.api(kubeconfig=str(shared_apiserver.kubeconfig))


@pytest.fixture
async def namespace(api: Any) -> str:
    name = f"kr8s-{secrets.token_hex(4)}"
    await objects.Namespace({"metadata": {"name": name}}, api=api).create()
    return name


def pod(api: Any, namespace: str, name: str = "my-pod") -> Any:
    spec = {"containers": [{"name": "pause", "image": "pause"}]}
    metadata = {"name": name, "namespace": namespace, "labels": {"app": "x"}}
    return objects.Pod({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}, api=api)


async def test_a_pod_is_created_labelled_patched_and_deleted(api: Any, namespace: str) -> None:
    made = pod(api, namespace)
    await made.create()
    assert await made.exists()
    await made.label({"tier": "one"})
    await made.label(other="two")
    await made.annotate({"note": "1"})
    await made.patch({"metadata": {"labels": {"tier": "two"}}})
    await made.refresh()
    assert dict(made.labels) == {"app": "x", "tier": "two", "other": "two"}
    assert made.annotations["note"] == "1"
    await made.delete(propagation_policy="Background", grace_period=0)
    assert not await made.exists()


async def test_objects_are_listed_by_selectors(api: Any, namespace: str) -> None:
    for name in ("a", "b"):
        await pod(api, namespace, name).create()
    found = [p.name async for p in api.get("pods", namespace=namespace, label_selector={"app": "x"})]
    assert sorted(found) == ["a", "b"]
    found = [p.name async for p in api.get("pods", namespace=namespace, field_selector={"metadata.name": "a"})]
    assert found == ["a"]


async def test_a_watch_tells_the_objects_there_are(api: Any, namespace: str) -> None:
    await pod(api, namespace).create()
    async for event, seen in api.watch("pods", namespace=namespace):
        assert (event, seen.name) == ("ADDED", "my-pod")
        break


async def test_a_deployment_scales(api: Any, namespace: str) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    made = objects.Deployment({"metadata": {"name": "web", "namespace": namespace}, "spec": spec}, api=api)
    await made.create()
    await made.scale(4)
    await made.refresh()
    assert made.replicas == 4


async def test_what_the_server_is_and_has(api: Any, namespace: str) -> None:
    assert (await api.version())["major"] == "1"
    kinds = {resource["kind"] for resource in await api.api_resources()}
    assert {"Pod", "Deployment", "Ingress", "CustomResourceDefinition"} <= kinds
    who = await api.whoami()
    assert who
