"""The gRPC front end over real TLS on a whole server: who is asked for, what is answered, how it ends."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import orjson
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from apiserver import assembly
from apiserver.config import parse_config
from apiserver.grpcdoor import STATUS_KEY, Behind, grpc_door
from apiserver.grpctls import FOLDER_PREFIX
from apiserver.rest.limits import Limits
from apiserver.rest.metrics import Metrics
from apiserver.store import open_store
from kubarium.machinery import pki
from kubarium.machinery.errors import ConfigError
from kubarium.machinery.pb import api_pb2, api_pb2_grpc

TOKEN = "a-token"
PODS = api_pb2.ResourceRef(version="v1", resource="pods", namespace="default")
CONFIGMAPS = api_pb2.ResourceRef(version="v1", resource="configmaps", namespace="default")
DEADLINE_S = 15.0


@dataclass
class Door:
    """A running front end and the CA that it and its clients' certificates come from."""

    ca: pki.Ca
    port: int
    behind: Behind
    host: str = "127.0.0.1"

    def channel(self, certificate: pki.CertKey | None = None) -> grpc.aio.Channel:
        key, chain = (certificate.key, certificate.certificate) if certificate else (None, None)
        credentials = grpc.ssl_channel_credentials(self.ca.certificate, key, chain)
        return grpc.aio.secure_channel(f"{self.host}:{self.port}", credentials)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    ca = pki.make_ca(tmp_path)
    pki.issue(ca, "kube-apiserver", (), ("localhost",), ("127.0.0.1",), ("server",)).write(tmp_path, "apiserver")
    config = parse_config(
        [
            *(f"--store=sqlite://{tmp_path}/store.db", "--bind-address=127.0.0.1", "--secure-port=0", "--grpc-port=0"),
            *(f"--tls-cert-file={tmp_path}/apiserver.crt", f"--tls-private-key-file={tmp_path}/apiserver.key"),
            *(f"--client-ca-file={tmp_path}/ca.crt", f"--token={TOKEN}"),
            "--disable-admission-plugins=ServiceAccount",
        ]
    )
    store = open_store(config.store)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(store.close)
        sockets = assembly.open_sockets(config)
        server = await stack.enter_async_context(assembly.running(config, store, sockets))
        metrics = Metrics()
        limits = Limits(metrics, read_only=100, mutating=100)
        behind = Behind(server.registry, server.pipeline, server.authenticator, limits, metrics, 30.0)
        port = await stack.enter_async_context(grpc_door(behind, "127.0.0.1", 0, assembly.tls_context(config)))
        yield Door(ca, port, behind)


class Client:
    """Calls with an administrator's token."""

    def __init__(self, channel: grpc.aio.Channel, token: str = TOKEN) -> None:
        self.stub: Any = api_pb2_grpc.ApiStub(channel)
        self.metadata = (("authorization", f"Bearer {token}"),) if token else ()

    async def call(self, method: str, message: Any) -> dict[str, Any]:
        reply = await getattr(self.stub, method)(message, metadata=self.metadata, timeout=DEADLINE_S)
        found: dict[str, Any] = orjson.loads(reply.object)
        return found

    async def create(self, name: str, **labels: str) -> dict[str, Any]:
        return await self.call("Create", api_pb2.CreateRequest(ref=CONFIGMAPS, object=configmap(name, **labels)))


@pytest.fixture
async def client(door: Door) -> AsyncIterator[Client]:
    async with door.channel() as channel:
        yield Client(channel)


def configmap(name: str, **labels: str) -> bytes:
    metadata = {"name": name, "labels": labels}
    return orjson.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"key": "value"}})


def status_of(err: grpc.aio.AioRpcError) -> dict[str, Any]:
    trailing: Any = err.trailing_metadata()
    found: dict[str, Any] = orjson.loads(dict(trailing)[STATUS_KEY])
    return found


async def refusal(client: Client, method: str, message: Any) -> tuple[grpc.StatusCode, dict[str, Any]]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await client.call(method, message)
    return refused.value.code(), status_of(refused.value)


# -- who ---------------------------------------------------------------------------------------------------------------


async def test_a_certificate_or_a_token_says_who_calls_and_neither_is_anonymous(door: Door) -> None:
    request = api_pb2.GetRequest(ref=api_pb2.ResourceRef(version="v1", resource="namespaces"), name="default")
    certificate = pki.issue(door.ca, "someone", ("system:masters",), (), (), ("client",))
    async with door.channel(certificate) as channel:
        assert (await Client(channel, token="").call("Get", request))["metadata"]["name"] == "default"
    async with door.channel(pki.issue(door.ca, "someone", ("some:group",), (), (), ("client",))) as channel:
        _, status = await refusal(Client(channel, token=""), "Get", request)
        assert 'User "someone" cannot get resource "namespaces"' in status["message"]
    async with door.channel() as channel:
        assert (await Client(channel).call("Get", request))["metadata"]["name"] == "default"
        code, status = await refusal(Client(channel, token=""), "Get", request)
        assert (code, status["code"]) == (grpc.StatusCode.PERMISSION_DENIED, 403)
        assert 'User "system:anonymous" cannot get resource "namespaces"' in status["message"]
        code, status = await refusal(Client(channel, token="wrong"), "Get", request)
        assert (code, status["reason"]) == (grpc.StatusCode.UNAUTHENTICATED, "Unauthorized")


async def test_what_clients_make_up_has_no_figure_of_its_own(door: Door, client: Client) -> None:
    for number in range(3):
        ref = api_pb2.ResourceRef(version="v1", resource=f"bananas-{number}")
        await refusal(client, "Get", api_pb2.GetRequest(ref=ref, name="x"))
    await client.create("known")
    found = {(call.resource, call.code): times for call, times in door.behind.metrics.requests.items()}
    assert found == {("", 404): 3, ("configmaps", 200): 1}
    assert {(call.verb, call.resource) for call in door.behind.metrics.seconds} == {("create", "configmaps")}


async def test_a_certificate_of_another_ca_is_refused(door: Door, tmp_path: Path) -> None:
    other = pki.make_ca(tmp_path / "other")
    async with door.channel(pki.issue(other, "someone", (), (), (), ("client",))) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await Client(channel, token="").call("Get", api_pb2.GetRequest(ref=PODS, name="x"))
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


# -- what --------------------------------------------------------------------------------------------------------------


async def test_an_object_through_its_life(client: Client) -> None:
    created = await client.create("web", app="web")
    assert (created["kind"], created["metadata"]["namespace"], created["data"]) == (
        "ConfigMap",
        "default",
        {"key": "value"},
    )
    changed = orjson.dumps(created | {"data": {"key": "other"}})
    updated = await client.call("Update", api_pb2.UpdateRequest(ref=CONFIGMAPS, name="web", object=changed))
    assert updated["data"] == {"key": "other"}
    code, status = await refusal(client, "Update", api_pb2.UpdateRequest(ref=CONFIGMAPS, name="web", object=changed))
    assert (code, status["reason"]) == (grpc.StatusCode.ABORTED, "Conflict")
    patch = api_pb2.PatchRequest(
        ref=CONFIGMAPS, name="web", patch=b'{"data":{"key":"patched"}}', content_type="application/merge-patch+json"
    )
    assert (await client.call("Patch", patch))["data"] == {"key": "patched"}
    assert (await client.call("Get", api_pb2.GetRequest(ref=CONFIGMAPS, name="web")))["data"] == {"key": "patched"}
    await client.call("Delete", api_pb2.DeleteRequest(ref=CONFIGMAPS, name="web"))
    code, status = await refusal(client, "Get", api_pb2.GetRequest(ref=CONFIGMAPS, name="web"))
    assert (code, status["message"]) == (grpc.StatusCode.NOT_FOUND, 'configmaps "web" not found')


async def test_errors_carry_the_whole_status(client: Client) -> None:
    await client.create("web")
    code, status = await refusal(client, "Create", api_pb2.CreateRequest(ref=CONFIGMAPS, object=configmap("web")))
    assert code is grpc.StatusCode.ALREADY_EXISTS
    assert (status["kind"], status["code"], status["details"]) == (
        "Status",
        409,
        {"name": "web", "kind": "configmaps"},
    )
    code, status = await refusal(client, "Create", api_pb2.CreateRequest(ref=CONFIGMAPS, object=configmap("NOT OK")))
    assert (code, status["reason"]) == (grpc.StatusCode.INVALID_ARGUMENT, "Invalid")
    assert status["details"]["causes"][0]["field"] == "metadata.name"


@pytest.mark.parametrize(
    ("method", "message", "code"),
    [
        pytest.param("Get", api_pb2.GetRequest(ref=CONFIGMAPS), 400, id="no name"),
        pytest.param("Get", api_pb2.GetRequest(ref=CONFIGMAPS, name="a/b"), 400, id="a slash in the name"),
        pytest.param("Get", api_pb2.GetRequest(name="x"), 404, id="no resource"),
        pytest.param(
            "Get", api_pb2.GetRequest(ref=CONFIGMAPS, name="x", subresource="status"), 404, id="no such subresource"
        ),
        pytest.param(
            "Update", api_pb2.UpdateRequest(ref=PODS, name="x", subresource="binding"), 405, id="no such verb"
        ),
        pytest.param("Create", api_pb2.CreateRequest(ref=CONFIGMAPS, object=b"{"), 400, id="no JSON"),
        pytest.param("Create", api_pb2.CreateRequest(ref=CONFIGMAPS, object=b" " * 3_200_000), 413, id="too large"),
    ],
)
async def test_what_cannot_be_done_is_refused(client: Client, method: str, message: Any, code: int) -> None:
    assert (await refusal(client, method, message))[1]["code"] == code


async def test_a_dry_run_changes_nothing(client: Client) -> None:
    request = api_pb2.CreateRequest(ref=CONFIGMAPS, object=configmap("web"), dry_run=True)
    assert (await client.call("Create", request))["metadata"]["name"] == "web"
    assert (await refusal(client, "Get", api_pb2.GetRequest(ref=CONFIGMAPS, name="web")))[1]["code"] == 404


async def test_lists_in_pages_and_by_selector(client: Client) -> None:
    for n in range(5):
        await client.create(f"c{n}", odd=str(n % 2))

    async def listed(**options: Any) -> Any:
        request = api_pb2.ListRequest(ref=CONFIGMAPS, **options)
        return await client.stub.List(request, metadata=client.metadata, timeout=DEADLINE_S)

    first = await listed(limit=2)
    assert (len(first.items), first.remaining_item_count) == (2, 3)
    rest = await listed(limit=10, continue_token=first.continue_token)
    names = [orjson.loads(item)["metadata"]["name"] for item in [*first.items, *rest.items]]
    assert names == [f"c{n}" for n in range(5)]
    assert rest.resource_version == first.resource_version
    odd = await listed(label_selector="odd=1")
    assert [orjson.loads(item)["metadata"]["name"] for item in odd.items] == ["c1", "c3"]
    assert orjson.loads(odd.items[0])["kind"] == "ConfigMap"


# -- watches -----------------------------------------------------------------------------------------------------------


async def events(call: Any, count: int) -> list[tuple[str, str]]:
    """Type and name of the next events."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(DEADLINE_S):
        while len(found) < count:
            event = await call.read()
            assert event is not grpc.aio.EOF, "the watch ended"  # type: ignore[attr-defined]
            found.append((event.type, orjson.loads(event.object)["metadata"].get("name", "")))
    return found


async def test_a_collection_is_deleted_by_selector(client: Client) -> None:
    for name, app in (("a", "web"), ("b", "db"), ("c", "web")):
        await client.create(name, app=app)
    chosen = api_pb2.ListRequest(ref=CONFIGMAPS, label_selector="app=web")
    reply = await client.stub.DeleteCollection(
        api_pb2.DeleteCollectionRequest(list=chosen, options=b'{"gracePeriodSeconds":0}'), metadata=client.metadata
    )
    assert [orjson.loads(item)["metadata"]["name"] for item in reply.items] == ["a", "c"]
    left = await client.stub.List(api_pb2.ListRequest(ref=CONFIGMAPS, label_selector="app"), metadata=client.metadata)
    assert [orjson.loads(item)["metadata"]["name"] for item in left.items] == ["b"]


async def test_an_apply_takes_over_by_force_only(client: Client) -> None:
    def apply(manager: str, value: str, **force: bool) -> api_pb2.PatchRequest:
        body = orjson.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": value}})
        return api_pb2.PatchRequest(
            ref=CONFIGMAPS,
            name="a",
            patch=body,
            content_type="application/apply-patch+yaml",
            field_manager=manager,
            **force,
        )

    await client.call("Patch", apply("one", "1"))
    code, status = await refusal(client, "Patch", apply("two", "2"))
    assert (code, status["reason"]) == (grpc.StatusCode.ABORTED, "Conflict")
    assert (await client.call("Patch", apply("two", "2", force=True)))["data"] == {"k": "2"}


async def test_health_and_reflection_answer_everybody(door: Door) -> None:
    async with door.channel() as channel:
        health = health_pb2_grpc.HealthStub(channel)
        for name in ("", "kubarium.v1.Api"):
            reply = await health.Check(health_pb2.HealthCheckRequest(service=name), timeout=DEADLINE_S)
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await health.Check(health_pb2.HealthCheckRequest(service="nothing"), timeout=DEADLINE_S)
        assert refused.value.code() is grpc.StatusCode.NOT_FOUND
        ask = reflection_pb2.ServerReflectionRequest(list_services="")
        stub: Any = reflection_pb2_grpc.ServerReflectionStub(channel)
        async for answer in stub.ServerReflectionInfo(iter([ask]), timeout=DEADLINE_S):
            names = {service.name for service in answer.list_services_response.service}
            assert {"kubarium.v1.Api", "grpc.health.v1.Health"} < names


async def test_a_streaming_list_then_live_events_then_the_end_of_the_time(client: Client) -> None:
    await client.create("before", app="web")
    await client.create("other")
    request = api_pb2.WatchRequest(
        ref=CONFIGMAPS, label_selector="app=web", send_initial_events=True, allow_bookmarks=True, timeout_seconds=2
    )
    call = client.stub.Watch(request, metadata=client.metadata)
    assert await events(call, 2) == [("ADDED", "before"), ("BOOKMARK", "")]
    await client.create("after", app="web")
    await client.call("Delete", api_pb2.DeleteRequest(ref=CONFIGMAPS, name="before"))
    assert await events(call, 2) == [("ADDED", "after"), ("DELETED", "before")]
    async with asyncio.timeout(DEADLINE_S):
        assert await call.read() is grpc.aio.EOF  # type: ignore[attr-defined]
        assert await call.code() is grpc.StatusCode.OK


async def test_events_come_several_in_a_message_where_the_client_reads_that(client: Client) -> None:
    version = (await client.create("zero"))["metadata"]["resourceVersion"]
    for name in ("one", "two", "three"):
        await client.create(name)
    request = api_pb2.WatchRequest(ref=CONFIGMAPS, resource_version=version, batches=True, timeout_seconds=20)
    call = client.stub.Watch(request, metadata=client.metadata)
    async with asyncio.timeout(DEADLINE_S):
        message = await call.read()
        assert (message.type, message.object) == ("", b"")
        found = [(event.type, orjson.loads(event.object)["metadata"]["name"]) for event in message.more]
        assert found == [("ADDED", "one"), ("ADDED", "two"), ("ADDED", "three")]
    call.cancel()


async def test_a_watch_that_stands_says_so_before_anything_happens(client: Client) -> None:
    version = (await client.create("one"))["metadata"]["resourceVersion"]
    call = client.stub.Watch(api_pb2.WatchRequest(ref=CONFIGMAPS, resource_version=version), metadata=client.metadata)
    async with asyncio.timeout(DEADLINE_S):
        await call.initial_metadata()
    await client.create("two")
    assert await events(call, 1) == [("ADDED", "two")]
    call.cancel()


async def test_a_watch_without_rights_is_refused(door: Door) -> None:
    async with door.channel() as channel:
        call = Client(channel, token="").stub.Watch(api_pb2.WatchRequest(ref=CONFIGMAPS))
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call.read()
    assert status_of(refused.value)["code"] == 403


async def test_a_cancelled_watch_is_let_go(door: Door, client: Client) -> None:
    call = client.stub.Watch(api_pb2.WatchRequest(ref=CONFIGMAPS), metadata=client.metadata)
    async with asyncio.timeout(DEADLINE_S):
        await call.initial_metadata()
        assert door.behind.metrics.long_running["watch"] == 1
        call.cancel()
        while door.behind.metrics.long_running["watch"]:
            await asyncio.sleep(0.01)


async def test_a_large_answer_and_many_calls_at_once(client: Client) -> None:
    big = orjson.dumps({"kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"k": "x" * 900_000}})
    await client.call("Create", api_pb2.CreateRequest(ref=CONFIGMAPS, object=big))
    request = api_pb2.GetRequest(ref=CONFIGMAPS, name="big")
    for found in await asyncio.gather(*(client.call("Get", request) for _ in range(20))):
        assert len(found["data"]["k"]) == 900_000


async def test_what_a_killed_server_left_is_removed_and_nothing_else(door: Door, tmp_path: Path) -> None:
    def folder(name: str) -> tuple[Path, socket.socket]:
        made = tmp_path / (FOLDER_PREFIX + name)
        made.mkdir()
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(made / "grpc.sock"))
        return made, sock

    (killed, its), (starting, bound), (running, listening) = map(folder, ("killed", "starting", "running"))
    its.close()
    (starting / "grpc.sock").unlink()
    listening.listen()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    async with grpc_door(door.behind, "127.0.0.1", 0, tls, run_dir=tmp_path):
        assert len(list(tmp_path.glob(FOLDER_PREFIX + "*"))) == 3
        assert (killed.exists(), starting.exists(), running.exists()) == (False, True, True)
    assert len(list(tmp_path.glob(FOLDER_PREFIX + "*"))) == 2
    bound.close()
    listening.close()


async def test_a_port_in_use_is_said(door: Door) -> None:
    with pytest.raises(ConfigError, match="--grpc-port"):
        async with grpc_door(door.behind, "127.0.0.1", door.port, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)):
            pass
