"""Nodes and processes die, and nothing that was promised is lost.

Each test has a cluster of its own state to leave as it found it: the fixture `lab` is shared.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kubarium.machinery.client import Api, connect
from kubarium.machinery.errors import AlreadyExists, ApiError
from kubarium.machinery.informer import Informer
from kubarium.machinery.resources import CONFIGMAPS
from tests.e2e import web_app
from tests.e2e.lab import KUBARIUM, Lab, condition, eventually, run


def processes_of(lab: Lab, node: str, module: str) -> list[int]:
    """Process IDs of one component on one node, from the lab's own status."""
    status = json.loads(run([KUBARIUM, "status", "--name", lab.name, "-o", "json"]))
    return [p["pid"] for p in status["processes"] if p["node"] == node and p["component"] == module and p["pid"]]


def kill_9(lab: Lab, node: str, module: str) -> int:
    (pid,) = processes_of(lab, node, module)
    os.kill(pid, signal.SIGKILL)
    return pid


def back(lab: Lab, node: str, module: str, old: int) -> bool:
    return any(pid != old for pid in processes_of(lab, node, module))


def addresses(lab: Lab) -> dict[str, str]:
    """Pod name -> IP of all pods that have a network of their own."""
    pods = lab.get("pods", "-A")["items"]
    return {
        p["metadata"]["name"]: p["status"]["podIP"]
        for p in pods
        if p["status"].get("podIP") and not p["spec"].get("hostNetwork")
    }


def sandboxes(lab: Lab) -> Counter[str]:
    """Running sandboxes per pod UID, as Docker knows them."""
    docker = run([KUBARIUM, "status", "--name", lab.name, "-o", "json"])
    socket = json.loads(docker)["docker_socket"]
    out = run(
        [
            "docker",
            "-H",
            f"unix://{socket}",
            "ps",
            "--filter",
            f"label=io.kubarium.cluster={lab.name}",
            "--filter",
            "label=io.kubarium.kind=sandbox",
            "--format",
            '{{.Label "io.kubernetes.pod.uid"}}',
        ]
    )
    return Counter(out.split())


async def test_api_server_killed_under_load_loses_no_write_and_no_event(lab: Lab) -> None:
    """Writers and a watcher go on over three kills of the API server; every acknowledged write is there, seen once."""
    namespace = f"load-{secrets.token_hex(2)}"
    lab.kubectl("create", "namespace", namespace)
    acknowledged: list[str] = []
    seen: Counter[str] = Counter()
    stop = asyncio.Event()

    async def write(api: Api, writer: int) -> None:
        number = 0
        while not stop.is_set():
            name = f"w{writer}-{number}"
            try:
                await api.create(CONFIGMAPS, {"metadata": {"name": name}, "data": {"n": str(number)}}, namespace)
            except AlreadyExists:
                pass  # written, but the acknowledgement was cut off
            except ApiError:
                await asyncio.sleep(0.02)
                continue
            acknowledged.append(name)
            number += 1

    async def kill_three_times() -> None:
        for _ in range(3):
            before = len(acknowledged)
            async with asyncio.timeout(30):
                while len(acknowledged) < before + 50:
                    await asyncio.sleep(0.01)
            old = await asyncio.to_thread(kill_9, lab, "control-plane", "apiserver")
            await asyncio.to_thread(
                eventually, lambda o=old: back(lab, "control-plane", "apiserver", o), "API server back"
            )  # type: ignore[misc]
        stop.set()

    async with connect(lab.kubeconfig) as api:
        informer = Informer(api, CONFIGMAPS, namespace=namespace)
        informer.on_change(lambda old, new: seen.update([new.metadata.name]) if old is None and new else None)
        async with asyncio.TaskGroup() as tasks:
            watch = tasks.create_task(informer.run(), name="informer")
            async with asyncio.TaskGroup() as load:
                for writer in range(4):
                    load.create_task(write(api, writer), name=f"writer/{writer}")
                load.create_task(kill_three_times(), name="killer")
            async with asyncio.timeout(30):
                while not set(acknowledged) - {"kube-root-ca.crt"} <= set(seen):
                    await asyncio.sleep(0.02)
            stored = {c.metadata.name for c in (await api.list(CONFIGMAPS, namespace)).items}
            watch.cancel()
    assert len(acknowledged) == len(set(acknowledged)) >= 150
    assert set(acknowledged) <= stored, "acknowledged writes are lost"
    assert max(seen.values()) == 1, f"events came twice: {[n for n, c in seen.items() if c > 1][:5]}"
    lab.kubectl("delete", "namespace", namespace, "--timeout=60s")


async def test_a_raw_watch_resumes_without_gap_or_double_over_a_kill(lab: Lab) -> None:
    """A watch by resourceVersion, cut by kill -9 and taken up from the last version seen, shows each write once."""
    namespace = f"watch-{secrets.token_hex(2)}"
    lab.kubectl("create", "namespace", namespace)
    url = json.loads(Path(lab.kubeconfig).read_text())["clusters"][0]["cluster"]["server"]
    token = run([KUBARIUM, "token", "--name", lab.name]).strip()
    path = f"{url}/api/v1/namespaces/{namespace}/configmaps"
    headers = {"Authorization": f"Bearer {token}"}
    expected = [f"n{i}" for i in range(60)]
    events: list[str] = []

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=False), headers=headers) as http:
        async with http.get(path) as reply:
            version = (await reply.json())["metadata"]["resourceVersion"]

        async def watch() -> None:
            nonlocal version
            while len(events) < len(expected):
                try:
                    async with http.get(f"{path}?watch=1&resourceVersion={version}") as reply:
                        async for line in reply.content:
                            event: dict[str, Any] = json.loads(line)
                            assert event["type"] in ("ADDED", "BOOKMARK"), event
                            version = event["object"]["metadata"]["resourceVersion"]
                            name = event["object"]["metadata"].get("name", "")
                            if event["type"] == "ADDED" and name in expected:
                                events.append(name)
                            if len(events) == len(expected):
                                return
                except aiohttp.ClientError:
                    await asyncio.sleep(0.02)

        async def write() -> None:
            for number, name in enumerate(expected):
                if number == 30:
                    await asyncio.to_thread(kill_9, lab, "control-plane", "apiserver")
                body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}}
                async with asyncio.timeout(30):
                    while True:
                        try:
                            async with http.post(path, json=body) as reply:
                                if reply.status in (201, 409):
                                    break
                        except aiohttp.ClientError:
                            await asyncio.sleep(0.02)

        async with asyncio.timeout(60), asyncio.TaskGroup() as tasks:
            tasks.create_task(watch(), name="watch")
            tasks.create_task(write(), name="write")
    assert events == expected
    lab.kubectl("delete", "namespace", namespace, "--timeout=60s")


def test_kubelet_killed_while_pods_start_loses_and_doubles_none(lab: Lab) -> None:
    """Six pods are asked for while the kubelet dies twice: each runs once, each with an address of its own."""
    web_app.start(lab)
    lab.kubectl("scale", "deployment/web-app", "--replicas=6")
    for _ in range(2):
        old = kill_9(lab, "node-1", "kubelet")
        eventually(lambda o=old: back(lab, "node-1", "kubelet", o), "kubelet back")  # type: ignore[misc]
    eventually(lambda: len(lab.ready_pods(web_app.WEB)) == 6, "six ready pods")
    uids = {p["metadata"]["uid"] for p in lab.pods(web_app.WEB)}
    assert len(uids) == 6

    def one_sandbox_each() -> bool:
        running = sandboxes(lab)
        return uids <= set(running) and max(running.values()) == 1

    eventually(one_sandbox_each, "exactly one sandbox for each pod")
    given = addresses(lab)
    assert len(given) == len(set(given.values())), f"an address is given twice: {given}"
    lab.kubectl("scale", "deployment/web-app", "--replicas=3")
    eventually(lambda: len(lab.pods(web_app.WEB)) == 3, "three pods")


def test_running_containers_survive_their_kubelet(lab: Lab) -> None:
    web_app.start(lab)
    before = {p["metadata"]["uid"]: p["status"]["containerStatuses"][0]["containerID"] for p in lab.pods(web_app.WEB)}
    for node in lab.workers:
        old = kill_9(lab, node, "kubelet")
        eventually(lambda n=node, o=old: back(lab, n, "kubelet", o), f"kubelet of {node} back")  # type: ignore[misc]
    since = time.time()

    def reported() -> bool:
        nodes = lab.get("nodes")["items"]
        return all(condition(n, "Ready") == "True" for n in nodes) and time.time() - since > 3

    eventually(reported, "all nodes Ready after their kubelets' restart")
    after = {p["metadata"]["uid"]: p["status"]["containerStatuses"][0]["containerID"] for p in lab.pods(web_app.WEB)}
    assert after == before


def test_cni_agent_killed_gives_no_address_twice_and_leaks_none(lab: Lab) -> None:
    web_app.start(lab)
    lab.kubectl("scale", "deployment/web-app", "--replicas=6")
    old = kill_9(lab, "node-2", "cni")
    eventually(lambda: back(lab, "node-2", "cni", old), "CNI agent back")
    eventually(lambda: len(lab.ready_pods(web_app.WEB)) == 6, "six ready pods")
    given = addresses(lab)
    assert len(given) == len(set(given.values())), f"an address is given twice: {given}"
    lab.kubectl("scale", "deployment/web-app", "--replicas=3")
    eventually(lambda: len(lab.pods(web_app.WEB)) == 3, "three pods")
    web_app.check_pod_to_pod(lab)


@pytest.mark.parametrize("component", ["kubeproxy", "controllers", "scheduler"])
def test_a_killed_component_comes_back_and_works(lab: Lab, component: str) -> None:
    web_app.start(lab)
    node = "node-1" if component == "kubeproxy" else "control-plane"
    old = kill_9(lab, node, component)
    web_app.check_node_port(lab)
    eventually(lambda: back(lab, node, component, old), f"{component} back")
    web_app.check_scale(lab)
    web_app.check_service_by_name(lab)


def test_a_dead_node_is_survived_and_healed(lab: Lab) -> None:
    """kill-node: NotReady, pods run elsewhere, the Service answers throughout from survivors; heal: empty and Ready."""
    web_app.start(lab)
    (client,) = [p for p in lab.ready_pods("app=client") if p["spec"]["nodeName"] == "node-1"]
    run([KUBARIUM, "chaos", "kill-node", "node-2", "--name", lab.name])
    eventually(lambda: condition(lab.get("node", "node-2"), "Ready") == "Unknown", "node-2 NotReady")
    eventually(
        lambda: len([p for p in lab.ready_pods(web_app.WEB) if p["spec"]["nodeName"] == "node-1"]) == 3,
        "three ready pods on node-1",
    )
    survivors = {p["metadata"]["name"] for p in lab.ready_pods(web_app.WEB) if p["spec"]["nodeName"] == "node-1"}
    eventually(lambda: len(lab.endpoints("web-service")) == 3, "three endpoints")
    script = "for i in $(seq 20); do timeout 5 wget -qO- http://web-service || exit 1; done"
    lines = lab.in_pod(client["metadata"]["name"], "sh", "-c", script).splitlines()
    assert {line.split()[0] for line in lines} <= survivors

    run([KUBARIUM, "chaos", "heal", "--name", lab.name], timeout_s=90)
    eventually(lambda: condition(lab.get("node", "node-2"), "Ready") == "True", "node-2 Ready again")
    eventually(lambda: not stale_pods(lab, "node-2"), "no pod of before on node-2")
    web_app.start(lab)
    lab.kubectl("rollout", "restart", "deployment/web-app")
    lab.kubectl("rollout", "status", "deployment/web-app", "--timeout=60s")
    web_app.check_pod_to_pod(lab)
    web_app.check_node_port(lab)


def stale_pods(lab: Lab, node: str) -> list[str]:
    pods = lab.get("pods", "-A", "--field-selector", f"spec.nodeName={node}")["items"]
    return [p["metadata"]["name"] for p in pods if "deletionTimestamp" in p["metadata"]]


def test_status_of_a_cluster_that_is_not_there_is_one_clear_line() -> None:
    done = subprocess.run([KUBARIUM, "status", "--name", "nowhere"], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "nowhere" in done.stderr
    assert "Traceback" not in done.stderr
