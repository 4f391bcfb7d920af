"""The DNS process against a real API server."""

from __future__ import annotations

import asyncio
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import dns.message
import dns.query
import pytest

from kubarium.machinery.client import Api, connect
from kubarium.machinery.resources import ENDPOINTSLICES, NAMESPACES, SERVICES
from kubarium.testing.apiserver import ApiServer
from tests.clusterdns.build import texts

DEADLINE_S = 20.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def port(shared_apiserver: ApiServer) -> Iterator[int]:
    """Of a DNS process that says it is ready."""
    port, health = free_port(), free_port()
    argv = [sys.executable, "-m", "kubarium.clusterdns", "--kubeconfig", str(shared_apiserver.kubeconfig)]
    argv += [f"--listen=127.0.0.1:{port}", "--healthz-host=127.0.0.1", f"--healthz-port={health}"]
    process = subprocess.Popen(argv)
    try:
        wait_ready(process, f"http://127.0.0.1:{health}/readyz")
        yield port
    finally:
        process.terminate()
        assert process.wait(10) == 0


def wait_ready(process: subprocess.Popen[bytes], url: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except OSError:
            time.sleep(0.01)
        else:
            return
    raise AssertionError("the DNS server did not become ready")


@pytest.fixture
def namespace() -> str:
    return f"dns-{secrets.token_hex(4)}"


async def answers(port: int, name: str, kind: str, expected: list[str]) -> float:
    """Ask until the answer is as expected; the seconds that it took."""
    started = time.monotonic()
    while True:
        query = dns.message.make_query(name, kind)
        found = texts(await asyncio.to_thread(dns.query.udp, query, "127.0.0.1", port=port, timeout=5))
        took = time.monotonic() - started
        if found == expected:
            return took
        assert took < DEADLINE_S, f"{name} {kind}: {found}, expected {expected}"


async def make(api: Api, namespace: str) -> None:
    await api.create(NAMESPACES, {"metadata": {"name": namespace}})
    await api.create(SERVICES, {"metadata": {"name": "web"}, "spec": {"ports": [{"port": 80}]}}, namespace)


async def test_names_follow_objects(shared_apiserver: ApiServer, port: int, namespace: str) -> None:
    base = f"{namespace}.svc.cluster.local"
    async with connect(shared_apiserver.kubeconfig) as api:
        await answers(port, "kubernetes.default.svc.cluster.local", "A", ["10.96.0.1"])
        await answers(port, f"web.{base}", "A", ["NXDOMAIN"])
        await make(api, namespace)
        ip = (await api.get(SERVICES, "web", namespace)).spec.cluster_ip
        assert await answers(port, f"web.{base}", "A", [ip]) < 1
        await answers(port, base, "A", [])
        await answers(port, f"10-1-2-3.{namespace}.pod.cluster.local", "A", ["10.1.2.3"])
        await api.delete(SERVICES, "web", namespace)
        assert await answers(port, f"web.{base}", "A", ["NXDOMAIN"]) < 1


async def test_a_name_that_dns_cannot_hold_harms_no_other(
    shared_apiserver: ApiServer, port: int, namespace: str
) -> None:
    base = f"{namespace}.svc.cluster.local"
    async with connect(shared_apiserver.kubeconfig) as api:
        await make(api, namespace)
        long = {"type": "ExternalName", "externalName": f"{'a' * 70}.example.com"}  # valid for the API
        await api.create(SERVICES, {"metadata": {"name": "long"}, "spec": long}, namespace)
        ip = (await api.get(SERVICES, "web", namespace)).spec.cluster_ip
        await answers(port, f"web.{base}", "A", [ip])
        await answers(port, f"long.{base}", "A", ["NXDOMAIN"])


async def test_headless_services_list_their_ready_endpoints(
    shared_apiserver: ApiServer, port: int, namespace: str
) -> None:
    async with connect(shared_apiserver.kubeconfig) as api:
        await api.create(NAMESPACES, {"metadata": {"name": namespace}})
        headless = {"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]}
        await api.create(SERVICES, {"metadata": {"name": "db"}, "spec": headless}, namespace)
        body = {
            "metadata": {"name": "db-1", "labels": {"kubernetes.io/service-name": "db"}},
            "addressType": "IPv4",
            "ports": [{"name": "sql", "port": 5432, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": ["10.244.1.7"], "hostname": "db-0", "conditions": {"ready": True}},
                {"addresses": ["10.244.1.8"], "conditions": {"ready": False}},
            ],
        }
        await api.create(ENDPOINTSLICES, body, namespace)
        base = f"db.{namespace}.svc.cluster.local"
        await answers(port, base, "A", ["10.244.1.7"])
        await answers(port, f"db-0.{base}", "A", ["10.244.1.7"])
        await answers(port, f"_sql._tcp.{base}", "SRV", [f"0 100 5432 db-0.{base}."])
        ready = {**body, "endpoints": [{**e, "conditions": {"ready": True}} for e in body["endpoints"]]}  # type: ignore[attr-defined, dict-item]
        await api.update(ENDPOINTSLICES, ready, namespace)
        await answers(port, base, "A", ["10.244.1.7", "10.244.1.8"])
