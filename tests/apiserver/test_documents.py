"""Discovery, OpenAPI and health over REST: what is kept, what is made anew, what kubectl asks of every kind."""

from __future__ import annotations

import http.client
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from apiserver.registry import REGISTRY
from apiserver.registry.base import Registry, ResourceDef
from apiserver.rest import health
from apiserver.rest.documents import V2_PROTOBUF, V3_PROTOBUF, Documents
from apiserver.rest.negotiation import JSON, LIST_TYPES, MEDIA_TYPES, accepted, accepted_type
from kubarium.machinery.errors import NotAcceptable
from kubarium.testing.apiserver import ApiServer

DEADLINE_S = 10.0
AGGREGATED = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
Kubectl = Callable[..., str]


@pytest.fixture(scope="module")
def kc(shared_apiserver: ApiServer, kubectl: Path) -> Kubectl:
    env = {
        "KUBECONFIG": str(shared_apiserver.kubeconfig),
        "HOME": str(shared_apiserver.log.parent),
        "PATH": os.environ["PATH"],
    }

    def run(*args: str) -> str:
        argv = [str(kubectl), *args]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, env=env, check=False)
        assert not done.returncode, f"{args}: {done.stdout}{done.stderr}"
        return done.stdout

    return run


def raw(server: ApiServer, path: str, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPSConnection(urlsplit(server.url).netloc, context=server.tls)
    fields = {"Authorization": f"Bearer {server.token}", **{k.replace("_", "-"): v for k, v in headers.items()}}
    connection.request("GET", path, headers=fields)
    return connection.getresponse()


# --- what kubectl does with every kind


def test_kubectl_gets_every_kind(kc: Kubectl) -> None:
    names = kc("api-resources", "--verbs=list", "-o", "name").split()
    assert len(names) >= len({(r.group, r.plural) for r in REGISTRY if "list" in r.verbs and r.version != "v2"})
    kc("get", ",".join(names), "-A", "-L", "app")


@pytest.mark.parametrize("resource", [r for r in REGISTRY if "list" in r.verbs], ids=lambda r: f"{r.plural}.{r.group}")
def test_kubectl_explains_every_kind(kc: Kubectl, resource: ResourceDef) -> None:
    text = kc("explain", resource.plural, "--recursive", "--api-version", resource.api_version)
    assert f"KIND:       {resource.kind}\n" in text
    assert "  metadata\t<ObjectMeta>" in text


def test_kubectl_reads_version_2_as_protobuf(kc: Kubectl) -> None:
    text = kc("explain", "deployments.spec.strategy", "--output=plaintext-openapiv2")
    assert "RESOURCE: strategy <Object>" in text


def test_the_names_of_versions(kc: Kubectl) -> None:
    assert set(kc("api-versions").split()) >= {"apps/v1", "v1", "flowcontrol.apiserver.k8s.io/v1", "autoscaling/v2"}


# --- documents over REST


@pytest.mark.parametrize(("path", "form"), [("/openapi/v2", V2_PROTOBUF), ("/openapi/v3/apis/apps/v1", V3_PROTOBUF)])
def test_a_document_has_one_tag_in_all_forms(shared_apiserver: ApiServer, path: str, form: str) -> None:
    as_json, older = raw(shared_apiserver, path), form.replace(".v1.0", "@v1.0")
    tag = as_json.headers["ETag"]
    assert as_json.headers["Content-Type"] == JSON
    for accept in (form, older):
        encoded = raw(shared_apiserver, path, Accept=accept)
        assert (encoded.headers["Content-Type"], encoded.headers["ETag"]) == (form, tag)
    again = raw(shared_apiserver, path, If_None_Match=tag)
    assert (again.status, again.read()) == (304, b"")
    assert raw(shared_apiserver, path, Accept="text/html").status == 406


def test_documents_under_their_hash_stay(shared_apiserver: ApiServer) -> None:
    url = shared_apiserver.get("/openapi/v3").body["paths"]["api/v1"]["serverRelativeURL"]
    assert raw(shared_apiserver, url).headers["Cache-Control"] == "public, immutable"
    moved = raw(shared_apiserver, "/openapi/v3/api/v1?hash=OLD")
    assert (moved.status, moved.headers["Location"]) == (301, url)


def test_large_documents_are_compressed_if_asked(shared_apiserver: ApiServer) -> None:
    whole = raw(shared_apiserver, "/openapi/v2").read()
    packed = raw(shared_apiserver, "/openapi/v2", Accept_Encoding="gzip")
    assert packed.headers["Content-Encoding"] == "gzip"
    assert len(packed.read()) < len(whole) / 4


def custom(group: str) -> dict[str, Any]:
    names = {"plural": "things", "singular": "thing", "kind": "Thing"}
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}}
    versions = [{"name": "v1", "served": True, "storage": True, "schema": schema}]
    spec = {"group": group, "scope": "Namespaced", "names": names, "versions": versions}
    metadata = {"name": f"things.{group}"}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": metadata,
        "spec": spec,
    }


def until(holds: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def test_a_custom_kind_appears_in_all_documents_and_goes(shared_apiserver: ApiServer) -> None:
    group, definitions = "documents.example.com", "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    server, service = shared_apiserver, "/apis/apiregistration.k8s.io/v1/apiservices/v1.documents.example.com"
    paths = [f"/apis/{group}/v1", f"/openapi/v3/apis/{group}/v1", service]

    def in_discovery() -> bool:
        found = server.get("/apis", accept=AGGREGATED).body["items"]
        return group in {item["metadata"]["name"] for item in found}

    before = server.get("/openapi/v3").body["paths"]
    assert server.post(definitions, custom(group)).status == 201
    for path in paths:
        until(lambda path=path: server.get(path).status == 200, path)
    until(in_discovery, "discovery")
    index = server.get("/openapi/v3").body["paths"]
    assert index.pop(f"apis/{group}/v1") and index == before
    assert "com.example.documents.v1.Thing" in server.get("/openapi/v2").body["definitions"]
    server.delete(f"{definitions}/things.{group}")
    for path in paths:
        until(lambda path=path: server.get(path).status == 404, path)
    until(lambda: not in_discovery(), "discovery")


async def test_only_what_has_changed_is_made_anew() -> None:
    registry = Registry(REGISTRY)
    documents = Documents(registry, "192.0.2.1:6443")
    first, _ = await documents.openapi_v3("apis/apps/v1") or (None, None)
    index, legacy = await documents.openapi_index(), documents.legacy("/apis")
    registry.serve("things", [ResourceDef("example.com", "v1", "Thing", "things", "thing")])
    again, _ = await documents.openapi_v3("apis/apps/v1") or (None, None)
    assert first is again
    assert await documents.openapi_index() != index
    assert documents.legacy("/apis") is not legacy
    assert documents.legacy("/apis/nobody.example.com/v1") is None


# --- negotiation, health


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("text/html", "406: Not Acceptable\n\nAvailable representations: "),
        ("application/*", "406: Not Acceptable\n\nAvailable representations: "),
        ("application/json;as=Foo", "only the following media types are accepted: "),
    ],
)
def test_two_ways_of_not_being_acceptable(header: str, message: str) -> None:
    for available in (MEDIA_TYPES, LIST_TYPES):
        with pytest.raises(NotAcceptable) as refused:
            accepted(header, frozenset(), available)
        assert refused.value.message.startswith(message)
    assert ", ".join(LIST_TYPES) in refused.value.message or "Foo" in header


@pytest.mark.parametrize(
    ("header", "form"),
    [("", "a"), ("*/*", "a"), ("y", "b"), ("y;q=0.1,x", "a"), ("z,y;v=1", "b"), ("z", None)],
)
def test_the_form_of_a_document_is_chosen_by_media_type_alone(header: str, form: str | None) -> None:
    assert accepted_type(header, {"x": "a", "y": "b"}) == form


def test_health_tells_what_fails_and_what_was_left_out() -> None:
    checks = {"ping": lambda: True, "etcd": lambda: False, "log": lambda: True}
    assert health.report("readyz", checks, verbose=False) == (
        500,
        "[+]ping ok\n[-]etcd failed: reason withheld\n[+]log ok\nreadyz check failed\n",
    )
    assert health.report("readyz", checks, verbose=False, excluded=["etcd"]) == (200, "ok")
    told = health.report("livez", checks, verbose=True, excluded=["etcd", "b", "a"]).text
    assert told.splitlines()[1:] == [
        "[+]etcd excluded: ok",
        "[+]log ok",
        'warn: some health checks cannot be excluded: no matches for "a","b"',
        "livez check passed",
    ]
    assert health.report_one(checks, "etcd") == (500, "internal server error: etcd does not hold\n")
    assert health.report_one(checks, "none") is None


def test_what_readiness_waits_for() -> None:
    names = health.checks_of("readyz", {"store": lambda: True, "cache": lambda: True, "bootstrap": lambda: False})
    failing = {name for name, check in names.items() if not check()}
    assert "poststarthook/rbac/bootstrap-roles" in failing
    assert not failing & {"ping", "etcd", "informer-sync"}
    assert "informer-sync" not in health.checks_of("livez", {})
