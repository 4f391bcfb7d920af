"""Namespaces, links and nftables in the real kernel."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from kubarium.machinery import netns
from kubarium.machinery.errors import NetlinkError, NetworkError, NftError
from kubarium.machinery.netlink import Netlink
from kubarium.machinery.nft import Nft

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make network namespaces")


@pytest.fixture
def namespace() -> Iterator[Path]:
    name = f"kubarium-test-{secrets.token_hex(4)}"
    yield netns.create(name)
    netns.delete(name)


def _inode(path: str = "/proc/thread-self/ns/net") -> int:
    return os.stat(path).st_ino  # noqa: PTH116 - Path.stat would be the same


def test_work_in_a_namespace_leaves_the_caller_where_it_is(namespace: Path) -> None:
    before = _inode()
    assert netns.run_in_netns(namespace, _inode) == namespace.stat().st_ino
    assert _inode() == before


def test_a_socket_stays_in_its_namespace(namespace: Path) -> None:
    with Netlink(namespace) as inside:
        loopback = inside.link("lo")
        assert loopback is not None
        inside.set_link(loopback.index, state="up")
    with netns.socket_in_netns(namespace) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        address = listener.getsockname()
        with netns.socket_in_netns(namespace) as client:
            client.connect(address)
        with socket.socket() as outside, pytest.raises(ConnectionRefusedError):
            outside.connect(address)


def test_errors_inside_a_namespace_come_out(namespace: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        netns.run_in_netns(namespace, lambda: 1 // 0)


def test_a_name_is_given_once_and_a_missing_namespace_is_named(namespace: Path) -> None:
    with pytest.raises(NetworkError, match="File exists"):
        netns.create(namespace.name)
    assert namespace.name in netns.names("kubarium-test-")
    with pytest.raises(NetworkError, match=r"/run/netns/kubarium-none: No such file"):
        netns.run_in_netns("/run/netns/kubarium-none", _inode)


def test_wiring_two_namespaces(namespace: Path) -> None:
    name = f"kubarium-test-{secrets.token_hex(4)}"
    other = netns.create(name)
    try:
        with Netlink(namespace) as here, Netlink(other) as there, other.open() as file:
            here.add_veth("v0", "eth0", peer_netns_fd=file.fileno(), mac="ee:ee:ee:ee:ee:ee", mtu=1400)
            assert "eth0" not in here.links()
            near, far = here.link("v0"), there.link("eth0")
            assert near is not None and far is not None
            assert (near.kind, near.mac, near.mtu, near.up) == ("veth", "ee:ee:ee:ee:ee:ee", 1400, False)
            for netlink, link, address in ((here, near, "10.9.0.1/32"), (there, far, "10.9.0.2/32")):
                netlink.set_link(link.index, state="up")
                netlink.ensure_address(link.index, address)
                netlink.ensure_address(link.index, address)
            here.ensure_route("10.9.0.2/32", link=near.index)
            here.ensure_route("10.9.0.2/32", link=near.index)
            there.ensure_route("10.9.0.1/32", link=far.index)
            here.ensure_neighbour(near.index, "10.9.0.2", far.mac)
            assert [route.destination for route in here.routes()] == ["10.9.0.2/32"]
            assert here.addresses(near.index)[0] == "10.9.0.1/32"
            _send_one_way(namespace, other)
            here.delete_route("10.9.0.2/32")
            here.delete_route("10.9.0.2/32")
            here.delete_link("v0")
            here.delete_link("v0")
            assert there.link("eth0") is None
    finally:
        netns.delete(name)


def _send_one_way(source: Path, target: Path) -> None:
    with netns.socket_in_netns(target, kind=socket.SOCK_DGRAM) as receiver:
        receiver.settimeout(0.05)
        receiver.bind(("10.9.0.2", 9))
        deadline = time.monotonic() + 5
        with netns.socket_in_netns(source, kind=socket.SOCK_DGRAM) as sender:
            while time.monotonic() < deadline:
                sender.sendto(b"hello", ("10.9.0.2", 9))
                with contextlib.suppress(TimeoutError):  # sent before the kernel saw the carrier: dropped
                    assert receiver.recv(100) == b"hello"
                    return
    raise AssertionError("nothing arrived within 5 s")


def test_a_refused_link_says_what_was_asked(namespace: Path) -> None:
    with Netlink(namespace) as inside, pytest.raises(NetlinkError, match="set link 4711"):
        inside.set_link(4711, state="up")


async def test_nft_transactions_are_all_or_nothing(namespace: Path) -> None:
    nft = Nft(namespace)
    try:
        await nft.commit("add table ip kubarium-t\nadd set ip kubarium-t s { type ipv4_addr; }")
        with pytest.raises(NftError, match="in line 2: add element ip kubarium-t nothing"):
            await nft.commit("add element ip kubarium-t s { 10.0.0.1 }\nadd element ip kubarium-t nothing { 10.0.0.1 }")
        listing = await nft.list_table("ip", "kubarium-t")
        assert [entry["set"].get("elem") for entry in listing if "set" in entry] == [None]
        assert await nft.list_tables() == [("ip", "kubarium-t")]
        assert await nft.list_table("ip", "kubarium-none") == []
    finally:
        await nft.close()


async def test_nft_says_which_line_it_does_not_understand(namespace: Path) -> None:
    nft = Nft(namespace)
    try:
        with pytest.raises(NftError, match=r"syntax error.* in line 2: add rubbish"):
            await nft.commit("add table ip t\nadd rubbish\n")
        assert await nft.list_tables() == []
    finally:
        await nft.close()
