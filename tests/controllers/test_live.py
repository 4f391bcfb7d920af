"""The controllers against a real API server; the tests play kubelet and scheduler where needed."""

from __future__ import annotations

import asyncio
import secrets
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from kubarium.controllers.config import Config
from kubarium.controllers.manager import Manager
from kubarium.controllers.views import DEPLOYMENTS, REPLICASETS, REPLICATIONCONTROLLERS, Deployment
from kubarium.machinery.client import connect
from kubarium.machinery.errors import NotFound
from kubarium.machinery.objects import Node, Pod
from kubarium.machinery.resources import (
    CONFIGMAPS,
    ENDPOINTS,
    ENDPOINTSLICES,
    EVENTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    SERVICEACCOUNTS,
    SERVICES,
)
from kubarium.testing.apiserver import ApiServer
from tests.controllers.live import Space, eventually, heartbeat, make_node, make_space, renew, running

LABELS = {"app": "web"}


@pytest.fixture
async def space(shared_apiserver: ApiServer, tmp_path: Path) -> AsyncIterator[Space]:
    ca = tmp_path / "ca.crt"
    ca.write_text("-----BEGIN CERTIFICATE-----\n")
    async with running(shared_apiserver.kubeconfig, Config(root_ca_file=str(ca))) as api:
        yield await make_space(api, f"t-{secrets.token_hex(4)}")


def pod_template(image: str = "nginx:1", **spec: Any) -> dict[str, Any]:
    containers = [{"name": "web", "image": image, "ports": [{"name": "http", "containerPort": 8080}]}]
    return {"metadata": {"labels": LABELS}, "spec": {"containers": containers, **spec}}


async def deploy(space: Space, replicas: int, **spec: Any) -> Deployment:
    body = {"replicas": replicas, "selector": {"matchLabels": LABELS}, "template": pod_template(), **spec}
    return await space.create(DEPLOYMENTS, metadata={"name": "web"}, spec=body)


async def status(space: Space) -> Deployment:
    return await space.api.get(DEPLOYMENTS, "web", space.name)


async def patch(space: Space, body: dict[str, Any]) -> None:
    await space.api.patch(DEPLOYMENTS, "web", body, space.name)


async def until_pods(space: Space, count: int) -> list[Pod]:
    async def check() -> list[Pod]:
        pods = await space.pods()
        assert len(pods) == count, [pod.metadata.name for pod in pods]
        return pods

    return await eventually(check) if count else []


async def until_complete(space: Space, replicas: int) -> Deployment:
    async def check() -> Deployment | None:
        await space.all_ready()
        d = await status(space)
        s = d.status
        done = s.updated_replicas == s.replicas == s.available_replicas == replicas
        return d if done and s.observed_generation == d.metadata.generation else None

    return await eventually(check)


async def test_a_namespace_gets_its_account_and_ca(space: Space) -> None:
    async def check() -> bool:
        await space.api.get(SERVICEACCOUNTS, "default", space.name)
        ca = await space.api.get(CONFIGMAPS, "kube-root-ca.crt", space.name)
        return "BEGIN CERTIFICATE" in ca.data["ca.crt"]

    await eventually(check)
    await space.api.delete(CONFIGMAPS, "kube-root-ca.crt", space.name)
    await eventually(check)


async def test_a_deployment_becomes_pods_and_reports(space: Space) -> None:
    await deploy(space, 3)
    pods = await until_pods(space, 3)
    assert all("pod-template-hash" in pod.metadata.labels for pod in pods)
    d = await until_complete(space, 3)
    assert {c.type: c.reason for c in d.status.conditions} == {
        "Available": "MinimumReplicasAvailable",
        "Progressing": "NewReplicaSetAvailable",
    }
    assert d.metadata.annotations["deployment.kubernetes.io/revision"] == "1"


async def test_scaling_up_down_and_to_zero(space: Space) -> None:
    await deploy(space, 2)
    for replicas in (5, 1):
        await patch(space, {"spec": {"replicas": replicas}})
        await until_pods(space, replicas)
    await patch(space, {"spec": {"replicas": 0}})
    await eventually(lambda: _none(space))


async def _none(space: Space) -> bool:
    return not await space.pods()


async def test_a_deleted_pod_is_replaced_once(space: Space) -> None:
    await deploy(space, 3)
    pods = await until_pods(space, 3)
    await space.api.delete(PODS, pods[0].metadata.name, space.name, grace_period_s=0)

    async def check() -> bool:
        names = {pod.metadata.name for pod in await space.pods()}
        return len(names) == 3 and pods[0].metadata.name not in names

    await eventually(check)


async def test_a_rollout_and_back(space: Space) -> None:
    await deploy(space, 3)
    await until_complete(space, 3)
    await patch(space, {"spec": {"template": pod_template("nginx:2")}})
    d = await until_complete(space, 3)
    assert d.metadata.annotations["deployment.kubernetes.io/revision"] == "2"
    assert {pod.spec.containers[0].image for pod in await space.pods()} == {"nginx:2"}
    await patch(space, {"spec": {"template": pod_template("nginx:1")}})
    d = await until_complete(space, 3)
    assert d.metadata.annotations["deployment.kubernetes.io/revision"] == "3"
    sets = await space.list(REPLICASETS)
    assert sorted(rs.spec.replicas for rs in sets) == [0, 3]


async def test_recreate(space: Space) -> None:
    await deploy(space, 2, strategy={"type": "Recreate"})
    await until_complete(space, 2)
    await patch(space, {"spec": {"template": pod_template("nginx:2")}})
    await until_complete(space, 2)
    assert {pod.spec.containers[0].image for pod in await space.pods()} == {"nginx:2"}


@pytest.mark.parametrize("propagation", ["Background", "Foreground"])
async def test_deleting_a_deployment_takes_everything(space: Space, propagation: str) -> None:
    await deploy(space, 2)
    await until_pods(space, 2)
    await space.api.delete(DEPLOYMENTS, "web", space.name, propagation=propagation)

    async def check() -> bool:
        left = [*await space.list(DEPLOYMENTS), *await space.list(REPLICASETS), *await space.list(PODS)]
        assert not left, [(each.kind, each.metadata.name) for each in left]
        return True

    await eventually(check)


async def test_orphans_are_left_and_adopted_again(space: Space) -> None:
    await deploy(space, 2)
    pods = await until_pods(space, 2)
    await space.api.delete(DEPLOYMENTS, "web", space.name, propagation="Orphan")

    async def orphaned() -> bool:
        (rs,) = await space.list(REPLICASETS)
        return not rs.metadata.owner_references and not await space.list(DEPLOYMENTS)

    await eventually(orphaned)
    d = await deploy(space, 2)

    async def adopted() -> bool:
        (rs,) = await space.list(REPLICASETS)
        return [ref.uid for ref in rs.metadata.owner_references] == [d.metadata.uid]

    await eventually(adopted)
    assert {pod.metadata.uid for pod in await space.pods()} == {pod.metadata.uid for pod in pods}


async def test_a_replicaset_adopts_and_releases_pods(space: Space) -> None:
    stray = await space.create(PODS, metadata={"name": "stray", "labels": LABELS}, spec=pod_template()["spec"])
    rs = await space.create(
        REPLICASETS,
        metadata={"name": "rs"},
        spec={"replicas": 2, "selector": {"matchLabels": LABELS}, "template": pod_template()},
    )

    async def adopted() -> bool:
        pods = await space.pods()
        owners = {ref.uid for pod in pods for ref in pod.metadata.owner_references}
        return len(pods) == 2 and owners == {rs.metadata.uid}

    await eventually(adopted)
    await space.api.patch(PODS, stray.metadata.name, {"metadata": {"labels": {"app": "other"}}}, space.name)

    async def released() -> bool:
        found = await space.api.get(PODS, "stray", space.name)
        return not found.metadata.owner_references and len(await space.pods()) == 3

    await eventually(released)


async def test_endpoints_follow_pods(space: Space) -> None:
    spec = {"selector": LABELS, "ports": [{"port": 80, "targetPort": "http"}]}
    await space.create(SERVICES, metadata={"name": "web"}, spec=spec)
    await deploy(space, 2)
    await until_pods(space, 2)
    await space.all_ready()

    async def addresses() -> tuple[set[str], set[str]]:
        (each,) = await space.list(ENDPOINTSLICES)
        ready = {e.addresses[0] for e in each.endpoints if e.conditions.ready}
        endpoints = await space.api.get(ENDPOINTS, "web", space.name)
        return ready, {a.ip for subset in endpoints.subsets for a in subset.addresses}

    async def both_there() -> bool:
        return await addresses() == ({"10.244.1.1", "10.244.1.2"},) * 2

    await eventually(both_there)
    (each,) = await space.list(ENDPOINTSLICES)
    assert each.ports[0].port == 8080
    await patch(space, {"spec": {"replicas": 1}})

    async def one_left() -> bool:
        slices, endpoints = await addresses()
        return len(slices) == 1 and slices == endpoints

    await eventually(one_left)
    await space.api.delete(SERVICES, "web", space.name)

    async def gone() -> bool:
        return not await space.list(ENDPOINTSLICES) and not await space.list(ENDPOINTS)

    await eventually(gone)


async def test_a_namespace_goes_with_all_that_is_in_it(space: Space) -> None:
    await deploy(space, 2)
    await space.create(SERVICES, metadata={"name": "web"}, spec={"selector": LABELS, "ports": [{"port": 80}]})
    held = {"name": "held", "finalizers": ["example.com/hold"]}
    await space.create(CONFIGMAPS, metadata=held, data={"a": "b"})
    await until_pods(space, 2)
    await space.api.delete(NAMESPACES, space.name)

    async def waiting() -> bool:
        namespace = await space.api.get(NAMESPACES, space.name)
        reasons = {c.reason for c in namespace.status.conditions}
        return namespace.status.phase == "Terminating" and {"SomeResourcesRemain", "SomeFinalizersRemain"} <= reasons

    await eventually(waiting)
    await space.api.patch(CONFIGMAPS, "held", {"metadata": {"finalizers": None}}, space.name)

    async def gone() -> bool:
        try:
            await space.api.get(NAMESPACES, space.name)
        except NotFound:
            return True
        return False

    await eventually(gone)
    assert not await space.list(PODS)


async def test_nodes_get_ranges_in_order(apiserver: ApiServer) -> None:
    async with running(apiserver.kubeconfig) as api:
        for name in ("node-2", "node-1", "control-plane"):
            await make_node(api, name)

        async def ranges() -> dict[str, str] | None:
            nodes = (await api.list(NODES)).items
            found = {node.metadata.name: node.spec.pod_cidr for node in nodes}
            return found if all(found.values()) else None

        assert await eventually(ranges) == {
            "control-plane": "10.244.0.0/24",
            "node-1": "10.244.1.0/24",
            "node-2": "10.244.2.0/24",
        }


SHORT = Config(node_monitor_period_s=0.2, node_monitor_grace_period_s=1.0)


async def test_a_silent_node_is_tainted_emptied_and_healed(apiserver: ApiServer) -> None:
    async with running(apiserver.kubeconfig, SHORT) as api:
        space = await make_space(api, "t")
        await make_node(api, "alive")
        await make_node(api, "silent")
        alive = asyncio.create_task(renew(api, "alive"))
        seconds = {"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}
        tolerations = [{**seconds, "key": f"node.kubernetes.io/{kind}"} for kind in ("unreachable", "not-ready")]
        body = {
            "replicas": 1,
            "selector": {"matchLabels": LABELS},
            "template": pod_template(nodeName="silent", tolerations=tolerations),
        }
        await space.create(DEPLOYMENTS, metadata={"name": "web"}, spec=body)
        (first,) = await until_pods(space, 1)
        await space.ready(first, "10.244.1.9")

        async def unreachable() -> Node | None:
            node = await api.get(NODES, "silent")
            return node if "node.kubernetes.io/unreachable" in {taint.key for taint in node.spec.taints} else None

        node = await eventually(unreachable)
        assert {c.type: c.status for c in node.status.conditions}["Ready"] == "Unknown"

        async def unready() -> bool:
            pod = await api.get(PODS, first.metadata.name, "t")
            return {c.type: c.status for c in pod.status.conditions}["Ready"] == "False"

        await eventually(unready)

        async def replaced() -> bool:
            old = await api.get(PODS, first.metadata.name, "t")
            return bool(old.metadata.deletion_timestamp) and len(await space.pods()) >= 1

        await eventually(replaced)
        assert not (await api.get(NODES, "alive")).spec.taints
        await heartbeat(api, "silent")
        healed = asyncio.create_task(renew(api, "silent"))

        async def clean() -> bool:
            return not (await api.get(NODES, "silent")).spec.taints

        await eventually(clean)
        await api.delete(NODES, "silent")

        async def collected() -> bool:
            return not [pod for pod in await space.list(PODS) if pod.metadata.name == first.metadata.name]

        await eventually(collected)
        for task in (alive, healed):
            task.cancel()
        await asyncio.gather(alive, healed, return_exceptions=True)


async def test_a_restart_in_the_middle_doubles_nothing(apiserver: ApiServer) -> None:
    async with running(apiserver.kubeconfig) as api:
        space = await make_space(api, "t")
        await deploy(space, 30)
        await eventually(space.pods)
    async with running(apiserver.kubeconfig) as api:
        space = Space(api, "t")
        pods = await until_pods(space, 30)
        events = [event for event in await space.list(EVENTS) if event.reason == "SuccessfulCreate"]
        assert len({pod.metadata.uid for pod in pods}) == 30
        assert len({event.message for event in events}) <= 30


async def test_a_refused_template_is_told(space: Space) -> None:
    await deploy(space, 2, template=pod_template(runtimeClassName="none-such"))

    async def told() -> bool:
        d = await status(space)
        return {c.type: c.reason for c in d.status.conditions}.get("ReplicaFailure") == "FailedCreate"

    await eventually(told)


async def test_of_two_only_the_leader_works(apiserver: ApiServer) -> None:
    async with connect(apiserver.kubeconfig) as api:
        managers = [Manager(api, Config()) for _ in range(2)]
        tasks = [asyncio.create_task(manager.run(leader_elect=True)) for manager in managers]
        space = await make_space(api, "t")
        await deploy(space, 10)
        await until_pods(space, 10)
        lease = await api.get(LEASES, "kube-controller-manager", "kube-system")
        assert lease.spec.holder_identity
        for task in tasks:
            assert not task.done()
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert len(await space.pods()) == 10


async def test_killed_at_any_time_it_carries_on(apiserver: ApiServer) -> None:
    """The process dies by SIGKILL again and again while a Deployment is scaled and rolled."""
    async with connect(apiserver.kubeconfig) as api:
        space = await make_space(api, "t")
        await deploy(space, 5)
        for round_ in range(4):
            process = await start_process(apiserver)
            await patch(space, {"spec": {"replicas": 5 + 5 * round_, "template": pod_template(f"nginx:{round_}")}})
            await eventually(lambda: progress(space))
            process.kill()
            await process.wait()
        process = await start_process(apiserver)
        d = await until_complete(space, 20)
        assert d.metadata.annotations["deployment.kubernetes.io/revision"]
        pods = await space.pods()
        assert (len(pods), {pod.spec.containers[0].image for pod in pods}) == (20, {"nginx:3"})
        process.terminate()
        assert await process.wait() == 0


async def start_process(apiserver: ApiServer) -> asyncio.subprocess.Process:
    flags = ["--kubeconfig", str(apiserver.kubeconfig), "--healthz-port", "0"]
    return await asyncio.create_subprocess_exec(sys.executable, "-m", "kubarium.controllers", *flags)


async def progress(space: Space) -> bool:
    """The controllers have seen the last change, and are at work on it."""
    d = await status(space)
    return d.status.observed_generation == d.metadata.generation


async def test_a_replication_controller_keeps_its_number_of_pods_and_adopts_orphans(space: Space) -> None:
    await space.create(PODS, metadata={"name": "orphan", "labels": LABELS}, spec=pod_template()["spec"])
    body = {"replicas": 3, "selector": LABELS, "template": pod_template()}
    await space.create(REPLICATIONCONTROLLERS, metadata={"name": "web"}, spec=body)

    async def pods() -> list[Pod]:
        found = (await space.api.list(PODS, space.name)).items
        assert len(found) == 3
        assert all(pod.metadata.owner_references[0].kind == "ReplicationController" for pod in found)
        return list(found)

    assert "orphan" in {pod.metadata.name for pod in await eventually(pods)}

    async def counted() -> bool:
        return (await space.api.get(REPLICATIONCONTROLLERS, "web", space.name)).status.replicas == 3

    await eventually(counted)
