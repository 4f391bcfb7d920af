"""The sockets, on loopback, with dnspython as the client."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator

import dns.asyncquery
import dns.message
import dns.rcode
import pytest

from kubarium.clusterdns.answers import Responder
from kubarium.clusterdns.server import Address, Forwarder, UdpServer, serve_tcp, udp_socket
from kubarium.clusterdns.zone import Zone
from tests.clusterdns.build import Server, endpoints, service, texts

NAME = "web.default.svc.cluster.local"


@contextlib.asynccontextmanager
async def serving(responder: Responder, forwarder: Forwarder | None = None) -> AsyncIterator[int]:
    """The port, UDP and TCP, on 127.0.0.1."""
    sock = udp_socket(("127.0.0.1", 0))
    port: int = sock.getsockname()[1]
    tasks = [
        asyncio.create_task(UdpServer(sock, responder, forwarder).run()),
        asyncio.create_task(serve_tcp(("127.0.0.1", port), responder, forwarder)),
    ]
    try:
        await until_listening(("127.0.0.1", port))
        yield port
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until_listening(address: Address) -> None:
    async with asyncio.timeout(5):
        while True:
            try:
                _, writer = await asyncio.open_connection(*address)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


@pytest.fixture
def server() -> Server:
    made = Server()
    made.put(service("web"))
    made.put(service("many", ip="None"), endpoints(*(f"10.244.0.{number}" for number in range(1, 250))))
    return made


async def test_udp_and_tcp(server: Server) -> None:
    query = dns.message.make_query(NAME, "A")
    async with serving(server.responder) as port:
        assert texts(await dns.asyncquery.udp(query, "127.0.0.1", port=port, timeout=5)) == ["10.96.0.7"]
        assert texts(await dns.asyncquery.tcp(query, "127.0.0.1", port=port, timeout=5)) == ["10.96.0.7"]
        many = dns.message.make_query("many.default.svc.cluster.local", "A")
        answer, used_tcp = await dns.asyncquery.udp_with_fallback(many, "127.0.0.1", port=port, timeout=5)
        assert (len(texts(answer)), used_tcp) == (249, True)


async def test_a_connection_carries_many_questions(server: Server) -> None:
    async with serving(server.responder) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for number in range(3):
            query = dns.message.make_query(NAME, "A", id=number).to_wire()
            writer.write(len(query).to_bytes(2, "big") + query)
        for number in range(3):
            length = int.from_bytes(await reader.readexactly(2), "big")
            assert dns.message.from_wire(await reader.readexactly(length)).id == number
        writer.close()


async def test_other_names_go_upstream(server: Server) -> None:
    upstream = Server()
    upstream.put(service("outside"))
    responder = Responder(Zone("other.domain"), forwarding=True)
    responder.ready = True
    query = dns.message.make_query("outside.default.svc.cluster.local", "A")
    async with serving(upstream.responder) as upstream_port:
        forwarder = Forwarder([("127.0.0.1", 1), ("127.0.0.1", upstream_port)], responder)
        async with serving(responder, forwarder) as port:
            assert texts(await dns.asyncquery.udp(query, "127.0.0.1", port=port, timeout=5)) == ["10.96.0.7"]
            assert texts(await dns.asyncquery.tcp(query, "127.0.0.1", port=port, timeout=5)) == ["10.96.0.7"]


async def test_an_upstream_that_is_gone_is_a_failure(server: Server) -> None:
    responder = Responder(Zone("other.domain"), forwarding=True)
    responder.ready = True
    async with serving(responder, Forwarder([("127.0.0.1", 1)], responder)) as port:
        answer = await dns.asyncquery.udp(dns.message.make_query("a.b", "A"), "127.0.0.1", port=port, timeout=5)
        assert answer.rcode() == dns.rcode.SERVFAIL


def test_the_process_stays_light() -> None:
    """What a DNS pod imports before it serves: no gRPC, no dnspython."""
    parts = ("answers", "server", "service", "zone", "__main__")
    code = "; ".join(f"import kubarium.clusterdns.{part}" for part in parts)
    code += "; import kubarium.machinery.client.restapi, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "aiohttp" in loaded
    assert not {"grpc", "dns", "google.protobuf", "prometheus_client"} & set(loaded)
