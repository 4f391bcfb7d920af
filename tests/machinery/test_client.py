"""What `Api` promises, over both transports, against a real API server."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from kubarium.machinery import kubeconfig, pki
from kubarium.machinery.client import Api, PatchType, WatchEvent, codec, connect, open_api
from kubarium.machinery.errors import (
    AlreadyExists,
    BadRequest,
    ConfigError,
    Conflict,
    Expired,
    Invalid,
    NotFound,
    ServiceUnavailable,
    Unauthorized,
)
from kubarium.machinery.informer import Informer
from kubarium.machinery.objects import ConfigMap, ObjectKey
from kubarium.machinery.resources import CONFIGMAPS, NAMESPACES, PODS, SERVICEACCOUNTS, SERVICES
from kubarium.testing.apiserver import ApiServer, api_server
from tests.machinery.test_informer import Recorder, eventually


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port: int = sock.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def grpc_port() -> int:
    return free_port()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, grpc_port: int) -> Iterator[ApiServer]:
    with api_server(tmp_path_factory.mktemp("api"), "--grpc-port", str(grpc_port)) as running:
        yield running


def config_of(server: ApiServer, grpc_port: int) -> kubeconfig.ClientConfig:
    return kubeconfig.read(server.kubeconfig)._replace(grpc=f"127.0.0.1:{grpc_port}")


@pytest.fixture
async def ns(server: ApiServer) -> str:
    name = f"client-{secrets.token_hex(4)}"
    assert server.post("/api/v1/namespaces", {"metadata": {"name": name}}).status == 201
    return name


def cm(name: str, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": {"app": name}}, "data": data}


async def take(events: AsyncIterator[WatchEvent[ConfigMap]], count: int) -> list[tuple[str, str]]:
    """(type, name) of the next events that are no bookmarks."""
    found: list[tuple[str, str]] = []
    async with asyncio.timeout(10):
        while len(found) < count:
            event = await anext(events)
            if event.object is not None:
                assert event.resource_version == event.object.metadata.resource_version
                found.append((event.type, event.object.metadata.name))
    return found


class ApiConformance:
    """Subclasses give `transport`."""

    transport: str

    @pytest.fixture
    async def api(self, server: ApiServer, grpc_port: int) -> AsyncIterator[Api]:
        api = open_api(config_of(server, grpc_port), transport=self.transport, user_agent="test")
        yield api
        await api.close()

    async def test_create_get_update_patch_delete(self, api: Api, ns: str) -> None:
        made = await api.create(CONFIGMAPS, cm("a", v="1"), ns)
        assert (made.kind, made.api_version, made.key) == ("ConfigMap", "v1", ObjectKey(ns, "a"))
        assert await api.get(CONFIGMAPS, "a", ns) == made
        raw = await api.get_raw(CONFIGMAPS, "a", ns)
        raw["data"]["v"] = "2"
        updated = await api.update(CONFIGMAPS, raw)
        assert updated.data == {"v": "2"} and updated.metadata.uid == made.metadata.uid
        with pytest.raises(Conflict):
            await api.update(CONFIGMAPS, raw)
        patched = await api.patch(CONFIGMAPS, "a", {"data": {"w": "3"}}, ns)
        assert patched.data == {"v": "2", "w": "3"}
        operations = [{"op": "remove", "path": "/data/v"}]
        assert (await api.patch(CONFIGMAPS, "a", operations, ns, patch_type=PatchType.JSON)).data == {"w": "3"}
        with pytest.raises(Conflict):
            await api.delete(CONFIGMAPS, "a", ns, uid="another")
        await api.delete(CONFIGMAPS, "a", ns, uid=made.metadata.uid, propagation="Background")
        with pytest.raises(NotFound, match=r'configmaps "a" not found'):
            await api.get(CONFIGMAPS, "a", ns)

    async def test_errors_keep_their_class_and_details(self, api: Api, ns: str) -> None:
        await api.create(CONFIGMAPS, cm("a"), ns)
        with pytest.raises(AlreadyExists):
            await api.create(CONFIGMAPS, cm("a"), ns)
        with pytest.raises(Invalid) as caught:
            await api.create(CONFIGMAPS, cm("UPPER"), ns)
        assert caught.value.status_code == 422
        assert caught.value.details["causes"][0]["field"] == "metadata.name"
        with pytest.raises(BadRequest):
            await api.list(CONFIGMAPS, ns, label_selector="a b")

    async def test_an_error_with_very_many_causes_arrives(self, api: Api, ns: str) -> None:
        ports = [{"name": f"port-number-{n}", "port": 0} for n in range(200)]
        service = {"metadata": {"name": "a"}, "spec": {"ports": ports}}
        with pytest.raises(Invalid) as caught:
            await api.create(SERVICES, service, ns)
        assert len(caught.value.details["causes"]) >= 200

    async def test_list_by_page_and_by_selector(self, api: Api, ns: str) -> None:
        for name in ("a", "b", "c"):
            await api.create(CONFIGMAPS, cm(name), ns)
        first = await api.list(CONFIGMAPS, ns, limit=2)
        assert [item.metadata.name for item in first.items] == ["a", "b"] and first.continue_token
        rest = await api.list(CONFIGMAPS, ns, limit=2, continue_token=first.continue_token)
        assert [item.metadata.name for item in rest.items] == ["c"] and not rest.continue_token
        chosen = await api.list(CONFIGMAPS, ns, label_selector="app in (a,c)")
        assert [item.metadata.name for item in chosen.items] == ["a", "c"]
        assert [item.kind for item in chosen.items] == ["ConfigMap", "ConfigMap"]
        named = await api.list(CONFIGMAPS, ns, field_selector="metadata.name=b")
        assert [item.metadata.name for item in named.items] == ["b"]

    async def test_watch_tells_what_happened_after_a_list(self, api: Api, ns: str) -> None:
        await api.create(CONFIGMAPS, cm("a", v="1"), ns)
        listed = await api.list(CONFIGMAPS, ns)
        async with aclosing(api.watch(CONFIGMAPS, ns, resource_version=listed.resource_version)) as events:
            await api.create(CONFIGMAPS, cm("b"), ns)
            await api.patch(CONFIGMAPS, "a", {"data": {"v": "2"}}, ns)
            await api.delete(CONFIGMAPS, "b", ns)
            assert await take(events, 3) == [("ADDED", "b"), ("MODIFIED", "a"), ("DELETED", "b")]

    async def test_watch_with_selector_says_deleted_when_an_object_leaves_it(self, api: Api, ns: str) -> None:
        listed = await api.list(CONFIGMAPS, ns)
        watch = api.watch(CONFIGMAPS, ns, resource_version=listed.resource_version, label_selector="app=a")
        async with aclosing(watch) as events:
            for name in ("a", "b"):
                await api.create(CONFIGMAPS, cm(name), ns)
            await api.patch(CONFIGMAPS, "a", {"metadata": {"labels": {"app": "x"}}}, ns)
            assert await take(events, 2) == [("ADDED", "a"), ("DELETED", "a")]

    async def test_watch_with_initial_events_ends_them_with_a_bookmark(self, api: Api, ns: str) -> None:
        await api.create(CONFIGMAPS, cm("a"), ns)
        watch = api.watch(CONFIGMAPS, ns, resource_version="", send_initial_events=True)
        async with aclosing(watch) as events, asyncio.timeout(10):
            first, second = await anext(events), await anext(events)
        assert first.type == "ADDED" and first.object is not None
        assert (second.type, second.annotations.get("k8s.io/initial-events-end")) == ("BOOKMARK", "true")

    async def test_watch_ends_by_itself_after_its_time(self, api: Api, ns: str) -> None:
        listed = await api.list(CONFIGMAPS, ns)
        async with asyncio.timeout(10):
            events = api.watch(CONFIGMAPS, ns, resource_version=listed.resource_version, timeout_s=1)
            assert [event.type async for event in events if event.type != "BOOKMARK"] == []

    async def test_an_object_of_a_megabyte_fits_a_watch(self, api: Api, ns: str) -> None:
        listed = await api.list(CONFIGMAPS, ns)
        async with aclosing(api.watch(CONFIGMAPS, ns, resource_version=listed.resource_version)) as events:
            await api.create(CONFIGMAPS, cm("big", v="x" * 900_000), ns)
            assert await take(events, 1) == [("ADDED", "big")]
        assert len((await api.get(CONFIGMAPS, "big", ns)).data["v"]) == 900_000

    async def test_subresources_that_answer_with_something_else(self, api: Api, ns: str) -> None:
        pod = {"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "x"}]}}
        await api.create(SERVICEACCOUNTS, {"metadata": {"name": "default"}}, ns)
        await api.create(PODS, pod, ns)
        binding = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"name": "node-1"}}
        await api.create(PODS, binding, ns, name="p", subresource="binding")
        assert (await api.get(PODS, "p", ns)).spec.node_name == "node-1"
        phase = await api.patch(PODS, "p", {"status": {"phase": "Running"}}, ns, subresource="status")
        assert phase.status.phase == "Running"
        wanted = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        answer = await api.create_raw(SERVICEACCOUNTS, wanted, ns, name="default", subresource="token")
        assert answer["status"]["token"].count(".") == 2
        await api.delete(PODS, "p", ns, grace_period_s=0)

    async def test_cluster_scoped_resources(self, api: Api, ns: str) -> None:
        assert (await api.get(NAMESPACES, ns)).metadata.name == ns
        assert ns in {item.metadata.name for item in (await api.list(NAMESPACES)).items}

    async def test_a_token_that_is_none_is_refused(self, server: ApiServer, grpc_port: int, ns: str) -> None:
        api = open_api(config_of(server, grpc_port)._replace(token="no"), transport=self.transport)
        try:
            with pytest.raises(Unauthorized):
                await api.get(NAMESPACES, ns)
        finally:
            await api.close()

    async def test_a_token_file_is_read_again_when_it_changes(
        self, server: ApiServer, grpc_port: int, ns: str, tmp_path: Path
    ) -> None:
        file = tmp_path / "token"
        file.write_text("old")
        config = config_of(server, grpc_port)._replace(token="", token_file=str(file))
        api = open_api(config, transport=self.transport)
        try:
            with pytest.raises(Unauthorized):
                await api.get(NAMESPACES, ns)
            file.with_suffix(".new").write_text(server.token)
            file.with_suffix(".new").replace(file)
            assert (await api.get(NAMESPACES, ns)).metadata.name == ns
        finally:
            await api.close()

    async def test_no_server_is_service_unavailable(self, server: ApiServer, grpc_port: int) -> None:
        config = config_of(server, grpc_port)._replace(server="https://127.0.0.1:1", grpc="127.0.0.1:1")
        api = open_api(config, transport=self.transport)
        try:
            async with asyncio.timeout(20):
                with pytest.raises(ServiceUnavailable, match=r"127\.0\.0\.1:1"):
                    await api.get(NAMESPACES, "default")
                with pytest.raises(ServiceUnavailable):
                    await anext(api.watch(NAMESPACES, resource_version="1"))
        finally:
            await api.close()

    async def test_informer_over_a_killed_and_restarted_server(self, tmp_path: Path) -> None:
        """kill -9 under a watch: the informer goes on from where it was, nothing lost, nothing twice."""
        server = Restartable(tmp_path)
        api = open_api(server.config, transport=self.transport)
        informer, told = Informer(api, CONFIGMAPS, namespace="default"), Recorder()
        informer.on_change(told)
        running = asyncio.create_task(informer.run())
        try:
            for number in range(3):
                with server.running():
                    for place in range(5):
                        await _patiently(api, cm(f"r{number}-{place}"))
                    if number:
                        await api.delete(CONFIGMAPS, f"r{number - 1}-0", "default")
                    wanted = {f"r{n}-{place}" for n in range(number + 1) for place in range(5)}
                    wanted -= {f"r{n}-0" for n in range(number)}
                    await eventually(lambda wanted=wanted: {key.name for key in told.world} == wanted, 20)  # type: ignore[misc]
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await api.close()
        assert len(told.versions) == 15


async def _patiently(api: Api, obj: dict[str, Any]) -> None:
    """Create as soon as the server answers."""
    async with asyncio.timeout(30):
        while True:
            try:
                await api.create(CONFIGMAPS, obj, "default")
            except (ServiceUnavailable, NotFound):  # not up yet, or its namespaces are not there yet
                await asyncio.sleep(0.05)
            else:
                return


class Restartable:
    """An API server that comes back at the same addresses with the same certificate."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._ports = free_port(), free_port()
        rest, grpc = self._ports
        ca = pki.make_ca(folder)
        pki.issue(ca, "apiserver", dns_names=["localhost"], ips=["127.0.0.1"], usages=["server"]).write(folder, "api")
        self.config = kubeconfig.ClientConfig(
            f"https://127.0.0.1:{rest}", ca=ca.certificate, token="secret", grpc=f"127.0.0.1:{grpc}"
        )

    @contextmanager
    def running(self) -> Iterator[None]:
        rest, grpc = self._ports
        folder = self._folder
        flags = [f"--store=sqlite://{folder}/store.db", "--bind-address=127.0.0.1", "--token=secret"]
        flags += [f"--secure-port={rest}", f"--grpc-port={grpc}", f"--tls-cert-file={folder}/api.crt"]
        flags += [f"--tls-private-key-file={folder}/api.key", f"--client-ca-file={folder}/ca.crt"]
        with (folder / "log").open("ab") as log:
            process = subprocess.Popen([sys.executable, "-m", "apiserver", *flags], stdout=log, stderr=log)
        try:
            yield
        finally:
            process.kill()
            process.wait()


class TestRest(ApiConformance):
    transport = "rest"


class TestGrpc(ApiConformance):
    transport = "grpc"


async def test_connect_reads_a_kubeconfig(server: ApiServer) -> None:
    async with connect(server.kubeconfig, transport="rest") as api:
        assert (await api.get(NAMESPACES, "default")).metadata.name == "default"


async def test_connect_from_inside_a_pod(server: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = kubeconfig.read(server.kubeconfig)
    mount = tmp_path / kubeconfig.SERVICE_ACCOUNT
    mount.mkdir(parents=True)
    (mount / "ca.crt").write_bytes(config.ca)
    (mount / "token").write_text(server.token)
    (mount / "namespace").write_text("default")
    monkeypatch.setenv("CONTAINER_SANDBOX_MOUNT_POINT", str(tmp_path))
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", server.url.rpartition(":")[2])
    async with connect() as api:
        assert (await api.get(NAMESPACES, "default")).metadata.name == "default"


def test_a_transport_that_cannot_be_is_refused() -> None:
    config = kubeconfig.ClientConfig("https://127.0.0.1:1")
    with pytest.raises(ConfigError, match="names no gRPC address"):
        open_api(config, transport="grpc")
    with pytest.raises(ConfigError, match="expected auto, grpc or rest"):
        open_api(config, transport="carrier-pigeon")


async def test_a_watch_from_an_expired_revision_raises_expired(server: ApiServer) -> None:
    status = {"kind": "Status", "code": 410, "reason": "Gone", "message": "too old resource version"}
    with pytest.raises(Expired):
        codec.event_of(CONFIGMAPS, "ERROR", json.dumps(status).encode())
