"""Logs and exec through the API server, with kubectl at one end and a stand-in for the kubelet at the other."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import WSMsgType, web

from kubarium.machinery import pki
from kubarium.testing.apiserver import ApiServer, api_server

NS = "/api/v1/namespaces/default"
STDIN, STDOUT, ERROR = b"\0", b"\1", b"\3"


@dataclass
class Kubelet:
    """Answers as a kubelet would, and keeps what it was asked. It only talks to the API server's certificate."""

    asked: list[str] = field(default_factory=list)
    port: int = 0
    more: asyncio.Event = field(default_factory=asyncio.Event)

    async def logs(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path_qs)
        if request.match_info["name"] == "gone":
            return web.Response(status=404, text="container not found")
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"first\n")
        if "follow" in request.query:
            await self.more.wait()
            await response.write(b"second\n")
        return response

    async def exec(self, request: web.Request) -> web.StreamResponse:
        """Repeats each line of its input in capitals."""
        self.asked.append(request.path_qs)
        stream = web.WebSocketResponse(protocols=("v5.channel.k8s.io",))
        await stream.prepare(request)
        if "input" in request.query:
            async for message in stream:
                assert message.type is WSMsgType.BINARY
                if message.data[:1] != STDIN:
                    break  # the end of the input
                await stream.send_bytes(STDOUT + message.data[1:].upper())
        else:
            await stream.send_bytes(STDOUT + b"done\n")
        await stream.send_bytes(ERROR + json.dumps({"metadata": {}, "status": "Success"}).encode())
        await stream.close()
        return stream


@pytest.fixture
async def kubelet(tmp_path: Path) -> AsyncIterator[Kubelet]:
    ca = pki.make_ca(tmp_path)
    pki.issue(ca, "system:node:n1", ("system:nodes",), (), ("127.0.0.1",), ("server",)).write(tmp_path, "kubelet")
    pki.issue(ca, "kube-apiserver-kubelet-client", ("system:masters",)).write(tmp_path, "client")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=str(tmp_path / "ca.crt"))
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(tmp_path / "kubelet.crt", tmp_path / "kubelet.key")
    found = Kubelet()
    app = web.Application()
    app.router.add_get("/containerLogs/{ns}/{pod}/{name}", found.logs)
    app.router.add_get("/exec/{ns}/{pod}/{name}", found.exec)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls)
    await site.start()
    found.port = runner.addresses[0][1]
    yield found
    await runner.cleanup()


@pytest.fixture
async def cluster(tmp_path: Path, kubelet: Kubelet) -> AsyncIterator[ApiServer]:
    """An API server that knows of the node n1 and of a pod on it."""
    files = {"client-certificate": "client.crt", "client-key": "client.key", "certificate-authority": "ca.crt"}
    flags = [f"--kubelet-{flag}={tmp_path / name}" for flag, name in files.items()]
    with api_server(tmp_path / "api", *flags) as server:
        server.post("/api/v1/nodes", {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": kubelet.port}},
        }
        assert server.patch("/api/v1/nodes/n1/status", {"status": status}).status == 200
        containers = [{"name": name, "image": "x"} for name in ("c", "gone")]
        pod: dict[str, Any] = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}}
        assert server.post(f"{NS}/pods", pod | {"spec": {"nodeName": "n1", "containers": containers}}).status == 201
        yield server


async def run(kubectl: Path, server: ApiServer, *args: str, stdin: bytes | None = None) -> tuple[int, str, str]:
    env = {"KUBECONFIG": str(server.kubeconfig), "HOME": str(server.log.parent), "PATH": os.environ["PATH"]}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(kubectl, *args, stdin=pipe, stdout=pipe, stderr=pipe, env=env)
    out, err = await asyncio.wait_for(process.communicate(stdin), 30)
    return process.returncode or 0, out.decode(), err.decode()


async def get(server: ApiServer, path: str) -> Any:
    return await asyncio.to_thread(server.get, path)


async def test_logs(kubectl: Path, cluster: ApiServer, kubelet: Kubelet) -> None:
    code, out, err = await run(kubectl, cluster, "logs", "p", "-c", "c", "--tail=3", "--timestamps")
    assert (code, out) == (0, "first\n"), err
    assert kubelet.asked == ["/containerLogs/default/p/c?timestamps=true&tailLines=3"]


async def test_followed_logs_come_as_they_are_written(kubectl: Path, cluster: ApiServer, kubelet: Kubelet) -> None:
    follow = asyncio.create_task(run(kubectl, cluster, "logs", "-f", "p", "-c", "c"))
    while not kubelet.asked and not follow.done():
        await asyncio.sleep(0.01)
    kubelet.more.set()
    assert (await follow)[:2] == (0, "first\nsecond\n")


async def test_logs_of_a_pod_with_several_containers_need_a_name(cluster: ApiServer) -> None:
    answer = await get(cluster, f"{NS}/pods/p/log")
    text = "a container name must be specified for pod p, choose one of: [c gone]"
    assert (answer.status, answer.body["message"]) == (400, text)
    unknown = await get(cluster, f"{NS}/pods/p/log?container=other")
    assert unknown.body["message"] == "container other is not valid for pod p"
    assert (await get(cluster, f"{NS}/pods/none/log")).status == 404
    assert (await get(cluster, f"{NS}/pods/p/log?container=gone")).status == 404


async def test_exec_with_input(kubectl: Path, cluster: ApiServer, kubelet: Kubelet) -> None:
    args = ["exec", "-i", "p", "-c", "c", "--", "tr", "a b", "&c"]
    code, out, err = await run(kubectl, cluster, *args, stdin=b"hello\n")
    assert (code, out) == (0, "HELLO\n"), err
    assert kubelet.asked == ["/exec/default/p/c?input=1&output=1&error=1&command=tr&command=a+b&command=%26c"]


async def test_exec_without_input(kubectl: Path, cluster: ApiServer) -> None:
    code, out, err = await run(kubectl, cluster, "exec", "p", "-c", "c", "--", "true")
    assert (code, out) == (0, "done\n"), err


async def test_exec_without_an_upgrade_is_a_bad_request(cluster: ApiServer) -> None:
    answer = await asyncio.to_thread(cluster.post, f"{NS}/pods/p/exec?container=c&command=x&stdout=true", "")
    assert (answer.status, answer.body["reason"], answer.body["message"]) == (
        400, "BadRequest", "Upgrade request required",
    )  # fmt: skip


async def test_a_kubelet_that_does_not_answer(kubectl: Path, cluster: ApiServer, kubelet: Kubelet) -> None:
    nothing = {"daemonEndpoints": {"kubeletEndpoint": {"Port": 1}}}
    await asyncio.to_thread(cluster.patch, "/api/v1/nodes/n1/status", {"status": nothing})
    answer = await get(cluster, f"{NS}/pods/p/log?container=c")
    assert answer.status == 500
    assert "error dialing backend" in answer.body["message"]
