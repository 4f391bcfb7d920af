"""Whatever comes in, an answer goes out that says what was wrong, and the server lives on.

No request of a client may end in a 500, a closed connection or a crash. Bodies, paths, headers and protobuf are made up
by hypothesis from parts that mean something to the server.
"""

from __future__ import annotations

import http.client
import json
import struct
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kubarium.testing.apiserver import ApiServer

FEW = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "BREW")
MEDIA = (
    "application/json",
    "application/yaml",
    "application/vnd.kubernetes.protobuf",
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
    "text/plain",
    "",
    ";;;",
)
PARTS = (
    "api",
    "apis",
    "v1",
    "apps",
    "namespaces",
    "default",
    "pods",
    "deployments",
    "x",
    "status",
    "scale",
    "log",
    "..",
    "",
)
MEMBERS = (
    "kind",
    "apiVersion",
    "metadata",
    "name",
    "labels",
    "spec",
    "containers",
    "ports",
    "data",
    "status",
    "items",
    "",
)
QUERY = (
    "watch",
    "limit",
    "continue",
    "resourceVersion",
    "resourceVersionMatch",
    "labelSelector",
    "fieldSelector",
    "dryRun",
)
QUERY += (
    "timeoutSeconds",
    "sendInitialEvents",
    "fieldValidation",
    "fieldManager",
    "force",
    "gracePeriodSeconds",
    "pretty",
)

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
values = st.recursive(
    scalars | st.sampled_from(("v1", "Pod", "a", "NotOnHere", "apps/v1")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(MEMBERS) | st.text(max_size=4), inner),
    max_leaves=12,
)
documents = st.fixed_dictionaries(
    {
        "apiVersion": st.sampled_from(("v1", "apps/v1", "")),
        "kind": st.sampled_from(("Pod", "ConfigMap", "Service", "")),
    },
    optional={"metadata": values, "spec": values, "data": values, "status": values},
)
paths = st.lists(st.sampled_from(PARTS) | st.text(max_size=5), max_size=8).map(
    lambda parts: "/" + "/".join(quote(part, safe="") for part in parts)
)
queries = st.dictionaries(
    st.sampled_from(QUERY), st.sampled_from(("true", "0", "-1", "1", "x", "a=b", "!", "All", "é"))
).map(
    lambda found: "&".join(f"{key}={quote(value)}" for key, value in found.items() if (key, value) != ("watch", "true"))
)


def ask(server: ApiServer, method: str, path: str, body: bytes | None = None, **headers: str) -> tuple[int, bytes]:
    host = server.url.removeprefix("https://")
    link = http.client.HTTPSConnection(host, context=server.tls, timeout=20)
    try:
        link.request(method, path, body, {"Authorization": f"Bearer {server.token}", **headers})
        answer = link.getresponse()
        return answer.status, answer.read()
    finally:
        link.close()


def assert_answered(server: ApiServer, status: int, body: bytes) -> None:
    assert status < 500 or status == 504, body
    if status >= 400 and body.startswith(b"{"):
        told = json.loads(body)
        assert told["kind"] == "Status"
        assert told["message"]
    assert server.process.poll() is None


@FEW
@given(method=st.sampled_from(METHODS), path=paths, query=queries, accept=st.sampled_from((*MEDIA, "*/*")))
def test_any_path_is_answered(shared_apiserver: ApiServer, method: str, path: str, query: str, accept: str) -> None:
    if method == "DELETE" and path.count("/") < 4:
        return  # it would take the namespaces of the other tests away
    assert_answered(shared_apiserver, *ask(shared_apiserver, method, f"{path}?{query}", Accept=accept))


@FEW
@given(document=documents, media=st.sampled_from(MEDIA[:2]), strict=st.sampled_from(("Strict", "Warn", "Ignore")))
def test_any_document_is_judged(shared_apiserver: ApiServer, document: Any, media: str, strict: str) -> None:
    for plural in ("pods", "services", "configmaps"):
        path = f"/api/v1/namespaces/default/{plural}?dryRun=All&fieldValidation={strict}"
        body = json.dumps(document).encode()
        assert_answered(shared_apiserver, *ask(shared_apiserver, "POST", path, body, **{"Content-Type": media}))


@FEW
@given(body=st.binary(max_size=200), media=st.sampled_from(MEDIA))
def test_any_bytes_are_judged(shared_apiserver: ApiServer, body: bytes, media: str) -> None:
    path = "/api/v1/namespaces/default/configmaps"
    method = "PATCH" if "patch" in media else "POST"
    path += "/none?fieldManager=fuzz&dryRun=All" if method == "PATCH" else "?dryRun=All"
    assert_answered(shared_apiserver, *ask(shared_apiserver, method, path, body, **{"Content-Type": media}))


@FEW
@given(patch=values, media=st.sampled_from(MEDIA[3:7]))
def test_any_patch_is_judged(shared_apiserver: ApiServer, patch: Any, media: str) -> None:
    path = "/api/v1/namespaces/default/services/kubernetes?dryRun=All&fieldManager=fuzz"
    body = json.dumps(patch).encode()
    assert_answered(shared_apiserver, *ask(shared_apiserver, "PATCH", path, body, **{"Content-Type": media}))


@FEW
@given(cut=st.integers(0, 60), junk=st.binary(max_size=12), at=st.integers(0, 60))
def test_any_protobuf_is_judged(shared_apiserver: ApiServer, cut: int, junk: bytes, at: int) -> None:
    name = b"\x0a\x01a"
    meta = struct.pack("BB", 0x0A, len(name)) + name
    type_meta = b"\x0a\x02v1\x12\x09ConfigMap"
    unknown = b"\x0a" + bytes([len(type_meta)]) + type_meta + b"\x12" + bytes([len(meta)]) + meta
    message = bytearray(b"k8s\0" + unknown)
    message[at:at] = junk
    body = bytes(message[: len(message) - cut] if cut < len(message) else message)
    path = "/api/v1/namespaces/default/configmaps?dryRun=All"
    answer = ask(shared_apiserver, "POST", path, body, **{"Content-Type": "application/vnd.kubernetes.protobuf"})
    assert_answered(shared_apiserver, *answer)


@FEW
@given(value=st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=40))
@pytest.mark.parametrize("header", ["Accept", "Content-Type", "Authorization", "Impersonate-User", "If-None-Match"])
def test_any_header_is_judged(shared_apiserver: ApiServer, header: str, value: str) -> None:
    text = value.encode("latin-1", "ignore").decode("latin-1").strip()
    path = "/api/v1/namespaces/default/configmaps?limit=1"
    assert_answered(shared_apiserver, *ask(shared_apiserver, "GET", path, **{header: text}))


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 100_000, id="brackets"),
        pytest.param(b'{"a":' * 100_000, id="objects"),
        pytest.param(b'{"metadata":{"labels":{"a":' + b"9" * 100_000 + b"}}}", id="a long number"),
        pytest.param(b'{"metadata":{"name":"' + b"a" * 2_000_000 + b'"}}', id="a long name"),
        pytest.param(b"\xff\xfe" * 1000, id="no UTF-8"),
        pytest.param(b'{"metadata":{"name":"\\ud800"}}', id="half a surrogate"),
        pytest.param(b"", id="nothing"),
        pytest.param(b" ", id="a space"),
    ],
)
@pytest.mark.parametrize("media", MEDIA[:2])
def test_bodies_that_are_made_to_hurt(shared_apiserver: ApiServer, body: bytes, media: str) -> None:
    path = "/api/v1/namespaces/default/configmaps?dryRun=All"
    status, text = ask(shared_apiserver, "POST", path, body, **{"Content-Type": media})
    assert_answered(shared_apiserver, status, text)
    assert status >= 400


def test_aliases_that_multiply_are_refused(shared_apiserver: ApiServer) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)]
    body = ("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\n" + "\n".join(lines)).encode()
    path = "/api/v1/namespaces/default/configmaps?dryRun=All"
    status, text = ask(shared_apiserver, "POST", path, body, **{"Content-Type": "application/yaml"})
    assert 400 <= status < 500, text[:300]
