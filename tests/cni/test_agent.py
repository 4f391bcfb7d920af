"""The agent in a node's namespace: sandboxes that talk, calls that repeat, and kill -9 between any two steps."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest

import cni
from cni.wiring import GATEWAY, GATEWAY_MAC
from kubarium.machinery import cniclient, netns
from kubarium.machinery.cniclient import CniError
from kubarium.machinery.netlink import Netlink
from kubarium.machinery.pb import ipam_pb2, ipam_pb2_grpc

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces")

ROOT = Path(cni.__file__).parent.parent
CIDR = "10.244.1.0/24"


@dataclass(slots=True)
class Node:
    """A namespace with an agent in it, and sandboxes: processes that hold a namespace."""

    directory: Path
    path: Path
    agent: subprocess.Popen[bytes] | None = None
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    @property
    def socket(self) -> Path:
        return self.directory / "cni.sock"

    def start(self, cidr: str = CIDR, *, crash_after: str = "") -> None:
        self.stop()
        command = [sys.executable, "-m", "tests.cni.agent_process", str(self.directory), cidr, crash_after]
        self.agent = netns.run_in_netns(self.path, subprocess.Popen, command, cwd=ROOT)
        eventually(lambda: answers(self.socket), "the agent's socket answers")

    def stop(self) -> None:
        """kill -9, as everything here ends."""
        if self.agent:
            self.agent.kill()
            self.agent.wait()

    def died(self) -> bool:
        assert self.agent
        return self.agent.wait(timeout=10) == -9

    def sandbox(self) -> str:
        """The path of a fresh namespace, held by a process."""
        process = subprocess.Popen(["unshare", "--net", "sleep", "1000"])
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        path = f"/proc/{process.pid}/ns/net"
        mine = Path("/proc/self/ns/net").readlink()
        eventually(lambda: Path(path).readlink() != mine, "the sandbox has a namespace of its own")
        return path

    def close(self) -> None:
        self.stop()
        self._stack.close()


def eventually(true: Callable[[], bool], what: str, within_s: float = 10) -> None:
    deadline = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < deadline, f"not within {within_s} s: {what}"
        time.sleep(0.01)


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as sock, contextlib.suppress(OSError):
        sock.connect(str(path))
        sock.sendall(b'{"command": "VERSION"}\n')
        return bool(sock.recv(10))
    return False


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    name = f"kbt-{secrets.token_hex(4)}"
    path = netns.create(name)
    (netns.run_in_netns(path, Path("/proc/sys/net/ipv4/ip_forward").write_text, "1"))
    node = Node(tmp_path, path)
    try:
        yield node
    finally:
        node.close()
        netns.delete(name)


async def add(node: Node, container_id: str, sandbox: str, **more: Any) -> str:
    """The address that ADD gave."""
    args = {"K8S_POD_NAMESPACE": "default", "K8S_POD_NAME": f"pod-{container_id}", "K8S_POD_UID": f"uid-{container_id}"}
    result = await cniclient.add(node.socket, container_id=container_id, netns=sandbox, args=args, **more)
    return str(result["ips"][0]["address"].partition("/")[0])


def exchange(source: str, destination: str, address: str, *, port: int = 8080) -> str:
    """The client's address as a server at `address` in `destination` sees it, connected to from `source`."""
    with netns.socket_in_netns(destination) as listener:
        listener.bind((address, port))
        listener.listen()
        with netns.socket_in_netns(source) as client:
            client.settimeout(5)
            client.connect((address, port))
            server, (seen, _) = listener.accept()
            server.close()
            return str(seen)


def held(node: Node) -> dict[str, str]:
    """Container -> address, from the IPAM service."""
    with grpc.insecure_channel(f"unix:{node.directory / 'ipam.sock'}") as channel:
        reply = ipam_pb2_grpc.IpamStub(channel).List(ipam_pb2.ListAllocationsRequest())
    return {a.owner: a.addresses[0] for a in reply.allocations}


def interfaces(path: Path | str) -> set[str]:
    with Netlink(path) as netlink:
        return set(netlink.links()) - {"lo"}


async def test_two_pods_of_a_node_reach_each_other_without_translation(node: Node) -> None:
    node.start()
    one, two = node.sandbox(), node.sandbox()
    first, second = await asyncio.gather(add(node, "c1", one), add(node, "c2", two))
    assert {first, second} == {"10.244.1.2", "10.244.1.3"}
    assert exchange(one, two, second) == first
    assert exchange(two, one, first) == second
    with Netlink(one) as pod, Netlink(node.path) as home:
        link = pod.link("eth0")
        assert link and link.up and link.mtu == 1400
        assert pod.addresses(link.index)[0] == f"{first}/32"
        assert {(r.destination, r.gateway) for r in pod.routes()} == {(f"{GATEWAY}/32", ""), ("0.0.0.0/0", GATEWAY)}
        ours = [ln for name, ln in home.links().items() if name.startswith("kb")]
        assert {ln.alias for ln in ours} == {"default/pod-c1", "default/pod-c2"}
        assert {ln.mac for ln in ours} == {GATEWAY_MAC}


async def test_add_again_changes_nothing_and_cuts_nothing(node: Node) -> None:
    node.start()
    one, two = node.sandbox(), node.sandbox()
    address, other = await add(node, "c1", one), await add(node, "c2", two)
    with netns.socket_in_netns(two) as listener, netns.socket_in_netns(one) as client:
        listener.bind((other, 9000))
        listener.listen()
        client.connect((other, 9000))
        server, _ = listener.accept()
        assert await add(node, "c1", one) == address
        client.sendall(b"still there")
        assert server.recv(100) == b"still there"
        server.close()
    assert held(node) == {"c1": address, "c2": other}


async def test_delete_frees_all_and_may_be_repeated(node: Node) -> None:
    node.start()
    sandbox = node.sandbox()
    address = await add(node, "c1", sandbox)
    for _ in range(2):
        await cniclient.delete(node.socket, container_id="c1", netns=sandbox)
    await cniclient.delete(node.socket, container_id="never-seen")
    assert held(node) == {}
    assert interfaces(node.path) == interfaces(sandbox) == set()
    assert await add(node, "c2", sandbox) == address


async def test_check_says_what_is_missing(node: Node) -> None:
    node.start()
    sandbox = node.sandbox()
    await add(node, "c1", sandbox)
    await cniclient.check(node.socket, container_id="c1", netns=sandbox)
    with Netlink(sandbox) as pod:
        pod.delete_route("0.0.0.0/0")
    with pytest.raises(CniError, match="default/pod-c1: the pod has no default route"):
        await cniclient.check(node.socket, container_id="c1", netns=sandbox)
    await add(node, "c1", sandbox)
    await cniclient.check(node.socket, container_id="c1", netns=sandbox)
    with pytest.raises(CniError) as refused:
        await cniclient.check(node.socket, container_id="c9", netns=sandbox)
    assert refused.value.code == 3


async def test_collection_frees_what_no_sandbox_vouches_for(node: Node) -> None:
    node.start()
    sandboxes = [node.sandbox() for _ in range(3)]
    addresses = [await add(node, f"c{n}", sandbox) for n, sandbox in enumerate(sandboxes)]
    with Netlink(node.path) as home:
        home.add_veth("kb0123456789a", "stray")  # what a lost journal would leave
        home.add_veth("kb-not-ours", "other")
    await cniclient.gc(node.socket, ["c1"])
    assert held(node) == {"c1": addresses[1]}
    assert {n for n in interfaces(node.path) if n.startswith("kb")} - {"kb-not-ours"} != set()
    assert len(interfaces(node.path)) == 3  # the pod's, and the foreign pair
    assert [len(interfaces(s)) for s in sandboxes] == [0, 1, 0]


async def test_a_namespace_that_is_gone_takes_no_address(node: Node) -> None:
    node.start()
    with pytest.raises(CniError, match="No such file") as refused:
        await add(node, "c1", "/proc/999999999/ns/net")
    assert refused.value.code == 3
    assert held(node) == {}


async def test_the_nodes_own_namespace_is_never_wired(node: Node) -> None:
    node.start()
    assert node.agent
    with pytest.raises(CniError, match="the node's own"):
        await add(node, "c1", f"/proc/{node.agent.pid}/ns/net")
    assert held(node) == {}


async def test_a_failed_add_leaves_nothing_behind(node: Node) -> None:
    node.start()
    sandbox = node.sandbox()
    with Netlink(sandbox) as pod:
        pod.add_bridge("eth0")
    with pytest.raises(CniError) as refused:
        await add(node, "c1", sandbox)
    assert refused.value.code == 100
    assert held(node) == {}
    assert interfaces(node.path) == set()


async def test_without_a_range_add_is_told_to_try_again(node: Node) -> None:
    node.start(cidr="")
    with pytest.raises(CniError, match="no pod CIDR yet") as refused:
        await cniclient.status(node.socket)
    assert refused.value.code == 50


async def test_a_full_pool_names_itself_and_recovers(node: Node) -> None:
    node.start("10.244.1.0/30")
    sandboxes = [node.sandbox(), node.sandbox()]
    await add(node, "c1", sandboxes[0])
    with pytest.raises(CniError, match=r"no free address in 10\.244\.1\.0/30: all 1 of 1 are in use") as refused:
        await add(node, "c2", sandboxes[1])
    assert refused.value.code == 11
    await cniclient.delete(node.socket, container_id="c1")
    assert await add(node, "c2", sandboxes[1]) == "10.244.1.2"


@pytest.mark.parametrize("crash_after", ["allocated", "linked", "wired"])
async def test_add_killed_in_the_middle_and_repeated(node: Node, crash_after: str) -> None:
    node.start()
    keeper, sandbox = node.sandbox(), node.sandbox()
    kept = await add(node, "keeper", keeper)
    node.start(crash_after=crash_after)
    with pytest.raises(CniError):
        await add(node, "c1", sandbox)
    assert node.died()
    node.start()
    assert held(node) == {"keeper": kept, "c1": "10.244.1.3"}
    other = await add(node, "c2", node.sandbox())
    assert other == "10.244.1.4", "the address of the killed ADD is not given to somebody else"
    assert await add(node, "c1", sandbox) == "10.244.1.3"
    assert exchange(keeper, sandbox, "10.244.1.3") == kept


@pytest.mark.parametrize("crash_after", ["allocated", "linked", "wired"])
async def test_add_killed_in_the_middle_and_never_repeated(node: Node, crash_after: str) -> None:
    node.start(crash_after=crash_after)
    with pytest.raises(CniError):
        await add(node, "c1", node.sandbox())
    assert node.died()
    node.start()
    await cniclient.gc(node.socket, [])
    assert (held(node), interfaces(node.path)) == ({}, set())
    assert await add(node, "c2", node.sandbox()) == "10.244.1.2"


@pytest.mark.parametrize("crash_after", ["unwired", "released"])
async def test_delete_killed_in_the_middle_and_repeated(node: Node, crash_after: str) -> None:
    node.start()
    sandbox = node.sandbox()
    await add(node, "c1", sandbox)
    node.start(crash_after=crash_after)
    with pytest.raises(CniError):
        await cniclient.delete(node.socket, container_id="c1", netns=sandbox)
    assert node.died()
    node.start()
    await cniclient.delete(node.socket, container_id="c1", netns=sandbox)
    assert (held(node), interfaces(node.path)) == ({}, set())
    assert await add(node, "c2", node.sandbox()) == "10.244.1.2"


async def test_killed_at_random_under_load_no_address_is_lost_or_given_twice(node: Node) -> None:
    sandboxes = [node.sandbox() for _ in range(8)]
    given: dict[str, str] = {}

    async def keep_adding(number: int) -> None:
        while True:
            try:
                given[f"c{number}"] = await add(node, f"c{number}", sandboxes[number])
                return
            except CniError:
                await asyncio.sleep(0.01)

    node.start()
    adding = [asyncio.create_task(keep_adding(n)) for n in range(8)]
    for _ in range(3):
        await asyncio.sleep(secrets.randbelow(20) / 1000)
        await asyncio.to_thread(node.start)
    await asyncio.gather(*adding)
    assert held(node) == given
    assert len(set(given.values())) == 8
    assert sorted(given.values()) == sorted(f"10.244.1.{n}" for n in range(2, 10))


async def test_ipam_alone_over_grpc(node: Node) -> None:
    node.start("10.244.1.0/30")
    async with grpc.aio.insecure_channel(f"unix:{node.directory / 'ipam.sock'}") as channel:
        stub = ipam_pb2_grpc.IpamStub(channel)
        request = ipam_pb2.AllocateRequest(owner="x", interface="eth0", pod_name="web")
        first = await stub.Allocate(request)
        assert (await stub.Allocate(request)).addresses == first.addresses == ["10.244.1.2"]
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.Allocate(ipam_pb2.AllocateRequest(owner="y"))
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "10.244.1.0/30: all 1 of 1" in (refused.value.details() or "")
        for _ in range(2):
            await stub.Release(ipam_pb2.ReleaseRequest(owner="x", interface="eth0"))
        listed = await stub.List(ipam_pb2.ListAllocationsRequest())
        assert (list(listed.pod_cidrs), list(listed.allocations)) == (["10.244.1.0/30"], [])


async def test_the_executable_wires_a_sandbox(node: Node) -> None:
    node.start()
    sandbox = node.sandbox()
    config = {"cniVersion": "1.1.0", "name": "kubarium", "type": "kubarium-cni", "socket": str(node.socket)}

    def plugin(command: str, **more: Any) -> Any:
        env = {"CNI_COMMAND": command, "CNI_CONTAINERID": "c1", "CNI_NETNS": sandbox, "CNI_IFNAME": "eth0"}
        done = subprocess.run(
            [str(ROOT / "cni" / "plugin.py")],
            input=json.dumps(config | more),
            env=env | {"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        return json.loads(done.stdout) if done.stdout else None

    plugin("STATUS")
    result = await asyncio.to_thread(plugin, "ADD")
    assert result["interfaces"][1]["sandbox"] == sandbox
    plugin("CHECK", prevResult=result)
    assert interfaces(sandbox) == {"eth0"}
    plugin("GC", **{"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]})
    plugin("DEL")
    assert held(node) == {}


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        pytest.param(b"{", 6, id="no JSON"),
        pytest.param(b'{"command": "FLY"}', 4, id="unknown command"),
        pytest.param(b'{"command": "ADD", "containerID": "../x", "ifname": "eth0", "netns": "/x"}', 4, id="bad ID"),
        pytest.param(b'{"command": "ADD", "containerID": "x", "ifname": "a/b", "netns": "/x"}', 4, id="bad ifname"),
        pytest.param(b'{"command": "ADD", "containerID": "x", "ifname": "eth0"}', 4, id="no netns"),
        pytest.param(b'{"command": "ADD", "containerID": 7, "ifname": "eth0"}', 6, id="wrong type"),
        pytest.param(
            b'{"command": "ADD", "containerID": "x", "ifname": "eth0", "netns": "/x", '
            b'"config": {"runtimeConfig": {"portMappings": [7]}}}',
            7,
            id="bad port mapping",
        ),
        pytest.param(b'{"command": "GC", "config": {}}', 7, id="GC without a list must not take all for stale"),
    ],
)
async def test_bad_requests_are_refused_by_field(node: Node, request_: bytes, code: int) -> None:
    node.start()
    reader, writer = await asyncio.open_unix_connection(str(node.socket))
    writer.write(request_ + b"\n")
    assert json.loads(await reader.readline())["code"] == code
    writer.close()
    assert answers(node.socket)
