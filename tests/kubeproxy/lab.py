"""A small network in namespaces of its own: a LAN with nodes and an outsider, pods behind the nodes, servers in pods.

Nothing of ours is under test here: links, routes and addresses are set as a cluster would have them.
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubarium.machinery import netns
from kubarium.machinery.netlink import Netlink

GATEWAY, GATEWAY_MAC = "169.254.1.1", "ee:ee:ee:ee:ee:ee"
SERVICE_CIDR = "10.96.0.0/16"
QUICK_S, SILENT_S = 3.0, 0.4


@dataclass(frozen=True, slots=True)
class Place:
    """A namespace with one address."""

    name: str
    path: Path
    address: str
    netlink: Netlink


@dataclass(slots=True)
class Lab:
    """Two nodes (198.18.0.11, .12), an outsider (198.18.0.1), pods 10.244.N.x."""

    nodes: dict[str, Place] = field(default_factory=dict)
    pods: dict[str, Place] = field(default_factory=dict)
    _host: Place | None = None
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _id: str = field(default_factory=lambda: secrets.token_hex(3))

    def namespace(self, name: str, address: str = "") -> Place:
        full = f"kbt-{self._id}-{name}"
        path = netns.create(full)
        self._stack.callback(netns.delete, full)
        netlink = self._stack.enter_context(Netlink(path))
        _up(netlink, "lo")
        return Place(name, path, address, netlink)

    def build(self) -> None:
        lan = self.namespace("lan")
        lan.netlink.add_bridge("kblan")
        _up(lan.netlink, "kblan")
        self._host = self._on_lan(lan, "host", "198.18.0.1")
        for number in (1, 2):
            node = self._on_lan(lan, f"node-{number}", f"198.18.0.{10 + number}")
            sysctl(node, "net/ipv4/ip_forward", "1")
            self.nodes[node.name] = node
        for node in self.nodes.values():
            link = index_of(node.netlink, "eth0")
            node.netlink.ensure_route(SERVICE_CIDR, link=link)
            for other in self.nodes.values():
                if other is not node:
                    cidr = f"10.244.{other.name[-1]}.0/24"
                    node.netlink.ensure_route(cidr, link=link, gateway=other.address)

    @property
    def host(self) -> Place:
        """The outsider on the LAN."""
        assert self._host, "build() first"
        return self._host

    def pod(self, node: str, address: str) -> Place:
        """A pod, wired as the CNI agent does."""
        home = self.nodes[node]
        pod = self.namespace(f"pod-{address.replace('.', '-')}", address)
        host_end = f"p{len(self.pods)}"
        with pod.path.open() as file:
            home.netlink.add_veth(host_end, "eth0", peer_netns_fd=file.fileno(), mac=GATEWAY_MAC)
        near, far = index_of(home.netlink, host_end), index_of(pod.netlink, "eth0")
        link = pod.netlink.link("eth0")
        assert link is not None
        pod.netlink.ensure_address(far, f"{address}/32")
        pod.netlink.ensure_neighbour(far, GATEWAY, GATEWAY_MAC)
        _up(pod.netlink, "eth0")
        pod.netlink.ensure_route(f"{GATEWAY}/32", link=far)
        pod.netlink.ensure_route("0.0.0.0/0", link=far, gateway=GATEWAY)
        _up(home.netlink, host_end)
        home.netlink.ensure_route(f"{address}/32", link=near)
        home.netlink.ensure_neighbour(near, address, link.mac)
        self.pods[address] = pod
        return pod

    def serve(self, place: Place, port: int = 8080) -> None:
        """TCP and UDP: every client is told `OWN_ADDRESS CLIENT_ADDRESS`; a TCP connection stays open and echoes."""
        listener = netns.socket_in_netns(place.path)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((place.address, port))
        listener.listen(64)
        datagrams = netns.socket_in_netns(place.path, kind=socket.SOCK_DGRAM)
        datagrams.bind((place.address, port))
        for sock, loop in ((listener, _serve_tcp), (datagrams, _serve_udp)):
            thread = threading.Thread(target=loop, args=(sock, place.address), daemon=True)
            thread.start()
            self._stack.callback(_stop, sock, thread)

    def forward(self, place: Place, port: int) -> None:
        """127.0.0.1:PORT of a namespace leads to 127.0.0.1:PORT of the machine: how a test's node reaches its API
        server.
        """
        listener = netns.socket_in_netns(place.path)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(64)
        thread = threading.Thread(target=_forward, args=(listener, port), daemon=True)
        thread.start()
        self._stack.callback(_stop, listener, thread)

    def start(self, place: Place, command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        """A process in a namespace; killed at the end if it still runs."""
        process: subprocess.Popen[bytes] = netns.run_in_netns(place.path, lambda: subprocess.Popen(command, **options))
        self._stack.callback(process.wait)
        self._stack.callback(process.kill)
        return process

    def close(self) -> None:
        self._stack.close()

    def _on_lan(self, lan: Place, name: str, address: str) -> Place:
        place = self.namespace(name, address)
        with place.path.open() as file:
            lan.netlink.add_veth(f"l-{name}", "eth0", peer_netns_fd=file.fileno())
        lan.netlink.set_link(index_of(lan.netlink, f"l-{name}"), master=index_of(lan.netlink, "kblan"), state="up")
        place.netlink.ensure_address(index_of(place.netlink, "eth0"), f"{address}/24")
        _up(place.netlink, "eth0")
        return place


def connect(source: Place, destination: str, port: int, *, timeout_s: float = QUICK_S) -> socket.socket:
    sock = netns.socket_in_netns(source.path)
    sock.settimeout(timeout_s)
    try:
        sock.connect((destination, port))
    except OSError:
        sock.close()
        raise
    return sock


def ask(source: Place, destination: str, port: int, *, timeout_s: float = QUICK_S) -> tuple[str, str]:
    """(who answered, whom it saw) over a new TCP connection."""
    with connect(source, destination, port, timeout_s=timeout_s) as sock:
        who, seen = sock.recv(100).decode().split()
        return who, seen


def ask_udp(source: Place, destination: str, port: int) -> tuple[str, str]:
    with netns.socket_in_netns(source.path, kind=socket.SOCK_DGRAM) as sock:
        sock.settimeout(QUICK_S)
        sock.connect((destination, port))
        sock.send(b"?")
        who, seen = sock.recv(100).decode().split()
        return who, seen


def echo(sock: socket.socket, text: bytes) -> bytes:
    sock.sendall(text)
    return sock.recv(100)


def sysctl(place: Place, name: str, value: str) -> None:
    netns.run_in_netns(place.path, Path("/proc/sys", name).write_text, value)


def index_of(netlink: Netlink, name: str) -> int:
    link = netlink.link(name)
    assert link is not None, name
    return link.index


def _up(netlink: Netlink, name: str) -> None:
    netlink.set_link(index_of(netlink, name), state="up")


def _serve_tcp(listener: socket.socket, address: str) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, (peer, _) = listener.accept()
            client.sendall(f"{address} {peer}".encode())
            threading.Thread(target=_echo_until_closed, args=(client,), daemon=True).start()


def _echo_until_closed(client: socket.socket) -> None:
    with contextlib.suppress(OSError), client:
        while data := client.recv(100):
            client.sendall(data)


def _serve_udp(sock: socket.socket, address: str) -> None:
    with contextlib.suppress(OSError):
        while True:
            _, peer = sock.recvfrom(100)
            if peer is None:  # shut down
                return
            sock.sendto(f"{address} {peer[0]}".encode(), peer)


def _forward(listener: socket.socket, port: int) -> None:
    with contextlib.suppress(OSError):
        while True:
            client, _ = listener.accept()
            server = socket.create_connection(("127.0.0.1", port))
            for pair in ((client, server), (server, client)):
                threading.Thread(target=_copy, args=pair, daemon=True).start()


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _stop(sock: socket.socket, thread: threading.Thread) -> None:
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)
    sock.close()
    thread.join(timeout=2)


@contextlib.contextmanager
def running() -> Iterator[Lab]:
    lab = Lab()
    try:
        lab.build()
        yield lab
    finally:
        lab.close()
