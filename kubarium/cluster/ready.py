"""Is the cluster usable? NodeReady alone lies, so each node is asked from inside.

A node is ready when the API says so and, in its own network namespace, the cluster's DNS answers and the ClusterIP of
the `kubernetes` Service connects.
"""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from kubarium.cluster import namespaces
from kubarium.cluster.components import CLUSTER_DOMAIN
from kubarium.cluster.paths import ClusterPaths
from kubarium.cluster.restapi import RestApi
from kubarium.cluster.spec import ClusterSpec
from kubarium.machinery.errors import ApiError, NetworkError

PROBE_TIMEOUT_S = 0.25
PAUSE_S = 0.02
TYPE_A, CLASS_IN = 1, 1


@dataclass
class NodeProbe:
    """What was found out about one node so far; `missing` is "" when all is well."""

    node: str
    missing: str = "its network"


def query(name: str, number: int) -> bytes:
    """A DNS question for an A record, recursion desired (RFC 1035, section 4.1)."""
    labels = b"".join(bytes([len(label)]) + label.encode() for label in name.rstrip(".").split("."))
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 0) + labels + struct.pack("!BHH", 0, TYPE_A, CLASS_IN)


def is_answer(message: bytes, number: int) -> bool:
    """Whether a message answers our question with at least one record and no error."""
    if len(message) < 12:
        return False
    got, flags, _, answers = struct.unpack_from("!4H", message)
    return got == number and bool(flags & 0x8000) and flags & 0xF == 0 and answers > 0


def dns_answers(server: str, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """Whether the DNS server resolves the name of the `kubernetes` Service, asked from the current namespace."""
    number = time.monotonic_ns() & 0xFFFF
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(timeout_s)
        try:
            sock.connect((server, 53))
            sock.send(query(f"kubernetes.default.svc.{CLUSTER_DOMAIN}", number))
            return is_answer(sock.recv(4096), number)
        except OSError:
            return False


def connects(host: str, port: int, timeout_s: float = PROBE_TIMEOUT_S) -> bool:
    """Whether a TCP connection is accepted, asked from the current namespace."""
    with socket.socket() as sock:
        sock.settimeout(timeout_s)
        return sock.connect_ex((host, port)) == 0


def wait_ready(
    spec: ClusterSpec,
    paths: ClusterPaths,
    names: Sequence[str],
    *,
    timeout_s: float,
    on_ready: Callable[[str], None] = lambda node: None,
    give_up: Callable[[], bool] = lambda: False,
) -> list[NodeProbe]:
    """Wait for every named node; returns those that are not ready when `timeout_s` is over or `give_up` says so.

    `on_ready` is called for each node the moment it is ready, from a thread of its own.
    """
    probes = [NodeProbe(name) for name in names]
    deadline = time.monotonic() + timeout_s
    ready = ApiView(spec, paths)

    def over() -> bool:
        return time.monotonic() > deadline or give_up()

    def watch(probe: NodeProbe) -> None:
        while not over():
            probe.missing = probe_node(spec, paths, probe.node) or ready.missing(probe.node)
            if not probe.missing:
                on_ready(probe.node)
                return
            time.sleep(PAUSE_S)

    threads = [threading.Thread(target=watch, args=(probe,), daemon=True) for probe in probes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return [probe for probe in probes if probe.missing]


def probe_node(spec: ClusterSpec, paths: ClusterPaths, node: str) -> str:
    """What is missing inside a node, "" if nothing. Leaves the calling thread in the node's namespace."""
    if not namespaces.is_netns(paths.netns(node)):
        return "its network"
    try:
        namespaces.enter_netns(paths.netns(node))
    except (NetworkError, OSError):
        return "its network"
    if not connects(str(spec.kubernetes_ip), 443):
        return f"a connection to the kubernetes Service at {spec.kubernetes_ip}:443"
    if not dns_answers(str(spec.dns_ip)):
        return f"an answer of the cluster's DNS at {spec.dns_ip}"
    return ""


class ApiView:
    """The Ready condition of nodes as the API shows it, asked in a thread that stays in the host's namespace."""

    def __init__(self, spec: ClusterSpec, paths: ClusterPaths) -> None:
        self._lock = threading.Lock()  # guards the two below: one question at a time, its answer shared
        self._ready: set[str] = set()
        self._asked_at = 0.0
        self._ask = partial(ready_nodes, spec, paths)
        self._pool = ThreadPoolExecutor(1)
        self._pool.submit(int).result()  # its thread is born here, in the host's namespace

    def missing(self, node: str) -> str:
        with self._lock:
            if node not in self._ready and time.monotonic() - self._asked_at > PAUSE_S:
                self._ready = self._pool.submit(self._ask).result()
                self._asked_at = time.monotonic()
            return "" if node in self._ready else "condition Ready of its Node"


def ready_nodes(spec: ClusterSpec, paths: ClusterPaths) -> set[str]:
    """Names of the nodes whose Ready condition is True; empty when the API server does not answer."""
    try:
        items = RestApi.of(spec, paths).call("GET", "/api/v1/nodes")["items"]
    except ApiError:
        return set()
    return {
        item["metadata"]["name"]
        for item in items
        for condition in (item.get("status") or {}).get("conditions") or ()
        if condition["type"] == "Ready" and condition["status"] == "True"
    }
