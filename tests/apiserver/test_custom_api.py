"""Kinds that come and go: who sees them when, their versions, and what becomes of their objects."""

from __future__ import annotations

import asyncio
import json
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from apiserver.custom.following import Definitions
from apiserver.pipeline import Request, WriteOptions
from kubarium.testing.apiserver import ApiServer
from tests.apiserver.etcd_server import etcd_server
from tests.apiserver.servers import ADMIN, in_process

PATIENCE_S = 10.0
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
Json = dict[str, Any]


def until(check: Callable[[], bool]) -> None:
    """Returns when the check holds; AssertionError where it never does."""
    end = time.monotonic() + PATIENCE_S
    while not check():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def definition(kind: str, *versions: Json, **spec: Any) -> Json:
    plural = f"{kind.lower()}s"
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind},
            "versions": list(versions or [version("v1")]),
            **spec,
        },
    }


def version(name: str, *, storage: bool = True, **properties: Json) -> Json:
    spec = {"type": "object", "properties": properties or {"a": {"type": "string"}}}
    schema = {"type": "object", "properties": {"spec": spec}}
    return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema}}


def thing(kind: str, name: str, api: str = "v1", **spec: Any) -> Json:
    return {"apiVersion": f"example.com/{api}", "kind": kind, "metadata": {"name": name}, "spec": spec}


def objects(kind: str, api: str = "v1") -> str:
    return f"/apis/example.com/{api}/namespaces/default/{kind.lower()}s"


@pytest.fixture
def defined(shared_apiserver: ApiServer) -> Iterator[ApiServer]:
    """The server; definitions that a test leaves go at its end."""
    yield shared_apiserver
    for found in shared_apiserver.get(DEFINITIONS).body["items"]:
        shared_apiserver.delete(f"{DEFINITIONS}/{found['metadata']['name']}")
    until(lambda: not shared_apiserver.get(DEFINITIONS).body["items"])


def test_a_kind_is_served_everywhere_when_its_definition_is_answered(defined: ApiServer) -> None:
    assert defined.post(DEFINITIONS, definition("Prompt")).status == 201
    assert defined.post(objects("Prompt"), thing("Prompt", "first", a="x")).status == 201
    assert [r["name"] for r in defined.get("/apis/example.com/v1").body["resources"]] == ["prompts"]
    assert "com.example.v1.Prompt" in defined.get("/openapi/v3/apis/example.com/v1").body["components"]["schemas"]
    assert "com.example.v1.Prompt" in defined.get("/openapi/v2").body["definitions"]
    status = f"{DEFINITIONS}/prompts.example.com/status"
    until(lambda: len(defined.get(status).body["status"].get("conditions") or ()) == 2)
    assert defined.get(status).body["status"]["storedVersions"] == ["v1"]


def test_a_watch_that_is_opened_with_the_kind_misses_nothing(defined: ApiServer) -> None:
    defined.post(DEFINITIONS, definition("Early"))
    request = urllib.request.Request(
        f"{defined.url}{objects('Early')}?watch=1&resourceVersion=0&timeoutSeconds=20",
        headers={"Authorization": f"Bearer {defined.token}"},
    )
    with urllib.request.urlopen(request, context=defined.tls, timeout=20) as stream:
        writer = threading.Thread(
            target=lambda: [defined.post(objects("Early"), thing("Early", f"e{n}")) for n in range(20)]
        )
        writer.start()
        names = [json.loads(stream.readline())["object"]["metadata"]["name"] for _ in range(20)]
        writer.join()
    assert names == [f"e{n}" for n in range(20)]


def test_the_objects_go_with_the_definition(defined: ApiServer) -> None:
    defined.post(DEFINITIONS, definition("Ending"))
    held = thing("Ending", "held")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    defined.post(objects("Ending"), held)
    defined.post(objects("Ending"), thing("Ending", "free"))
    one = f"{DEFINITIONS}/endings.example.com"
    assert defined.delete(one).status == 200
    until(lambda: [o["metadata"]["name"] for o in defined.get(objects("Ending")).body["items"]] == ["held"])
    assert defined.post(objects("Ending"), thing("Ending", "late")).status == 403
    assert defined.get(one).body["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    defined.patch(f"{objects('Ending')}/held", {"metadata": {"finalizers": None}})
    until(lambda: defined.get(one).status == 404)
    until(lambda: defined.get(objects("Ending")).status == 404)
    defined.post(DEFINITIONS, definition("Ending"))
    assert defined.get(objects("Ending")).body["items"] == []


def test_an_object_has_the_form_of_the_version_it_is_read_in(defined: ApiServer) -> None:
    old = version("v1alpha1", old={"type": "string"}, both={"type": "integer", "default": 1})
    new = version("v1", storage=False, both={"type": "integer"}, new={"type": "string", "default": "n"})
    defined.post(DEFINITIONS, definition("Form", old, new))
    made = defined.post(objects("Form"), thing("Form", "f", both=2, new="x"))
    assert made.body["spec"] == {"both": 2}  # what the stored version does not know is gone
    assert defined.get(f"{objects('Form', 'v1alpha1')}/f").body["spec"] == {"both": 2}
    change = {"spec": {"versions": [{**old, "storage": False}, {**new, "storage": True}]}}
    assert defined.patch(f"{DEFINITIONS}/forms.example.com", change).status == 200
    assert defined.get(f"{objects('Form')}/f").body["spec"] == {"both": 2}
    defined.put(f"{objects('Form')}/f", defined.get(f"{objects('Form')}/f").body)  # an update that changes nothing
    assert defined.get(f"{objects('Form')}/f").body["spec"] == {"both": 2, "new": "n"}  # but the form that is stored
    stored = defined.get(f"{DEFINITIONS}/forms.example.com").body["status"]["storedVersions"]
    assert stored == ["v1alpha1", "v1"]


def test_true_in_the_place_of_one_is_a_change(defined: ApiServer) -> None:
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    kind = {**version("v1"), "schema": {"openAPIV3Schema": anything}, "subresources": {"status": {}}}
    assert defined.post(DEFINITIONS, definition("Truth", kind)).status == 201
    path = f"{objects('Truth')}/t"
    defined.post(objects("Truth"), thing("Truth", "t"))
    for value in (1, True, 0, False):
        defined.patch(f"{path}/status", {"status": {"a": value}})
        assert defined.get(path).body["status"]["a"] is value


def test_conversion_by_a_webhook_is_refused(defined: ApiServer) -> None:
    hook = {"clientConfig": {"url": "https://127.0.0.1:1/convert"}, "conversionReviewVersions": ["v1"]}
    conversion = {"strategy": "Webhook", "webhook": hook}
    versions = (version("v1"), version("v2", storage=False))
    assert defined.post(DEFINITIONS, definition("Hook", *versions, conversion=conversion)).status == 201
    assert defined.post(objects("Hook"), thing("Hook", "h")).status == 201
    refused = defined.get(f"{objects('Hook', 'v2')}/h")
    assert refused.status == 500
    assert "conversion webhook for example.com/v1, Kind=Hook failed" in refused.body["message"]
    assert defined.post(objects("Hook", "v2"), thing("Hook", "i", "v2")).status == 500
    assert defined.get(f"{objects('Hook')}/h").status == 200


def test_a_name_is_given_to_one_definition_at_a_time(defined: ApiServer) -> None:
    defined.post(DEFINITIONS, definition("First", names={"plural": "firsts", "kind": "First", "shortNames": ["f"]}))
    second = definition("Second", names={"plural": "seconds", "kind": "Second", "shortNames": ["f"]})
    defined.post(DEFINITIONS, second)

    def accepted() -> str:
        conditions = defined.get(f"{DEFINITIONS}/seconds.example.com").body["status"].get("conditions") or ()
        return "".join(c["status"] + c["reason"] for c in conditions if c["type"] == "NamesAccepted")

    until(lambda: accepted() == "FalseShortNamesConflict")
    assert defined.get(objects("Second")).status == 404
    defined.delete(f"{DEFINITIONS}/firsts.example.com")
    until(lambda: accepted() == "TrueNoConflicts")
    until(lambda: defined.get(objects("Second")).status == 200)


async def test_servers_on_one_store_serve_the_same_kinds(tmp_path: Path) -> None:
    async with etcd_server(tmp_path) as etcd, AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        servers = [await stack.enter_async_context(in_process(f"etcd://{etcd.endpoint}")) for _ in range(2)]
        followers = [Definitions(server.cache, server.registry, server.pipeline) for server in servers]
        following = [tasks.create_task(follower.run()) for follower in followers]
        generation = servers[1].registry.generation
        resource = servers[0].registry.get("apiextensions.k8s.io", "v1", "customresourcedefinitions")
        assert resource is not None
        request = Request(ADMIN, "create", resource)
        body = json.dumps(definition("Share")).encode()
        await servers[0].pipeline.create(request, body, "application/json", WriteOptions())
        async with asyncio.timeout(PATIENCE_S):
            while any(server.registry.get("example.com", "v1", "shares") is None for server in servers):
                await asyncio.sleep(0.01)
        assert servers[1].registry.generation > generation
        late = await stack.enter_async_context(in_process(f"etcd://{etcd.endpoint}"))
        Definitions(late.cache, late.registry, late.pipeline).learn()
        assert late.registry.get("example.com", "v1", "shares") is not None
        for task in following:
            task.cancel()
