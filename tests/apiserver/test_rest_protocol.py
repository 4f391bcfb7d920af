"""What surrounds the resources: paths, methods, media types, health, discovery, limits, who may ask."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from apiserver.rest import answers
from apiserver.rest.negotiation import JSON, Accepted, Shape, accepted
from apiserver.rest.paths import Target, parse_path
from kubarium.machinery.errors import NotAcceptable
from kubarium.testing.apiserver import ApiServer, api_server

DEFAULT = "/api/v1/namespaces/default"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/api/v1/pods", Target("", "v1", "pods")),
        ("/api/v1/namespaces/a/pods/p/log", Target("", "v1", "pods", "a", "p", "log")),
        ("/api/v1/namespaces/a", Target("", "v1", "namespaces", "", "a")),
        ("/api/v1/namespaces/a/status", Target("", "v1", "namespaces", "", "a", "status")),
        ("/apis/apps/v1/namespaces/a/deployments/d/scale", Target("apps", "v1", "deployments", "a", "d", "scale")),
        ("/api/v1/namespaces/a/pods/p/proxy/x/y", Target("", "v1", "pods", "a", "p", "proxy", "x/y")),
        ("/api/v1/watch/namespaces/a/pods", Target("", "v1", "pods", "a", watch=True)),
        ("/api/v1/nodes/a%2Fb", Target("", "v1", "nodes", "", "a", "b")),
        ("/apis/apps/v1", None),
        ("/version", None),
        ("/", None),
    ],
)
def test_paths(path: str, target: Target | None) -> None:
    assert parse_path(path) == target


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", Accepted()),
        ("*/*", Accepted()),
        ("application/json;as=Table;v=v1;g=meta.k8s.io,application/json", Accepted(Shape.TABLE, "v1")),
        ("application/json;as=Table;v=v9;g=meta.k8s.io,application/json", Accepted()),
        ("application/vnd.kubernetes.protobuf,application/json", Accepted()),
        ("application/yaml", Accepted(media_type="application/yaml")),
        ("application/yaml;q=0.1,application/json;q=0.9", Accepted(media_type=JSON)),
    ],
)
def test_negotiation(header: str, expected: Accepted) -> None:
    assert accepted(header, frozenset({Shape.TABLE})) == expected


def test_what_cannot_be_served_is_not_acceptable(shared_apiserver: ApiServer) -> None:
    with pytest.raises(NotAcceptable):
        accepted("text/html")
    answer = shared_apiserver.get("/api/v1/pods", accept="application/vnd.kubernetes.protobuf")
    assert (answer.status, answer.body["reason"]) == (406, "NotAcceptable")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", f"{DEFAULT}/configmaps"),
        ("DELETE", "/api/v1/namespaces"),
        ("POST", f"{DEFAULT}/configmaps/x"),
        ("POST", "/api/v1/pods"),
        ("POST", f"{DEFAULT}/pods/p/log"),
        ("GET", f"{DEFAULT}/pods/p/binding"),
    ],
)
def test_methods_that_a_path_does_not_have(shared_apiserver: ApiServer, method: str, path: str) -> None:
    answer = shared_apiserver.call(method, path, {})
    assert (answer.status, answer.body["reason"]) == (405, "MethodNotAllowed")
    assert answer.body["message"] == "the server does not allow this method on the requested resource"


@pytest.mark.parametrize("path", ["/apis/x.example.com/v1/y", "/nothing"])
def test_paths_that_are_not_there(shared_apiserver: ApiServer, path: str) -> None:
    answer = shared_apiserver.get(path)
    assert (answer.status, answer.body) == (404, "404 page not found\n")


@pytest.mark.parametrize("path", ["/api/v1/bananas", f"{DEFAULT}/nodes"])
def test_resources_that_a_known_version_does_not_have(shared_apiserver: ApiServer, path: str) -> None:
    answer = shared_apiserver.get(path)
    assert (answer.status, answer.body["reason"]) == (404, "NotFound")
    assert answer.body["message"] == "the server could not find the requested resource"


def test_bodies_of_another_type_are_refused(shared_apiserver: ApiServer) -> None:
    answer = shared_apiserver.post(f"{DEFAULT}/configmaps", "x", content_type="text/plain")
    assert (answer.status, answer.body["reason"]) == (415, "UnsupportedMediaType")
    patch = shared_apiserver.call("PATCH", f"{DEFAULT}/configmaps/none", {}, content_type="application/json")
    assert patch.status in (404, 415)


def test_an_answer_has_room_for_so_many_warnings() -> None:
    few, many = ["x" * 300] * 3, [f"{i:03d}{'x' * 300}" for i in range(100)]
    assert answers.limited(few) == few
    assert answers.limited(many) == [text[:256] for text in many[:16]]


def test_so_many_unknown_fields_are_told(shared_apiserver: ApiServer) -> None:
    body = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "unknown"},
        **{f"u{i}": 1 for i in range(500)},
    }
    answer = shared_apiserver.post("/api/v1/namespaces/default/configmaps?fieldValidation=Strict", body)
    assert answer.status == 400
    assert answer.body["message"].count("unknown field") == 100


def test_a_body_beyond_three_megabytes_is_refused(shared_apiserver: ApiServer) -> None:
    big = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "big"}, "data": {"k": "x" * (3 << 20)}}
    answer = shared_apiserver.post(f"{DEFAULT}/configmaps", big)
    assert (answer.status, answer.body["reason"]) == (413, "RequestEntityTooLarge")


def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(shared_apiserver: ApiServer) -> None:
    """As curl does with large bodies. RFC 9110 10.1.1."""
    where = urlsplit(shared_apiserver.url)
    body = json.dumps({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "asked"}}).encode()
    head = (
        f"POST {DEFAULT}/configmaps HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {shared_apiserver.token}\r\n"
        f"Expect: 100-continue\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    with socket.create_connection((where.hostname or "", where.port or 0), 10) as plain:
        stream = shared_apiserver.tls.wrap_socket(plain, server_hostname="127.0.0.1")
        stream.sendall(head.encode())
        assert stream.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        stream.sendall(body)
        assert stream.recv(100).startswith(b"HTTP/1.1 201 ")


def test_health_and_version_are_open_and_nothing_else_is(shared_apiserver: ApiServer) -> None:
    for path in ("/healthz", "/livez", "/readyz"):
        assert shared_apiserver.get(path, token="").body == "ok"
    assert "[+]informer-sync ok" in shared_apiserver.get("/readyz?verbose", token="").body
    for path in ("/readyz/ping", "/readyz/etcd"):
        assert shared_apiserver.get(path).body == "ok"
        assert shared_apiserver.get(path, token="").status == 403
    assert shared_apiserver.get("/readyz/none").status == 404
    assert shared_apiserver.get("/version", token="").body["minor"] == "36"
    for method, path in (("GET", "/metrics"), ("GET", "/api"), ("GET", "/apis/x/v1/y"), ("GET", f"{DEFAULT}/pods")):
        answer = shared_apiserver.call(method, path, token="")
        assert (answer.status, answer.body["reason"]) == (403, "Forbidden"), path
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "anonymous"}}
    refused = shared_apiserver.post(f"{DEFAULT}/configmaps", body, token="")
    assert refused.body["message"] == (
        'configmaps is forbidden: User "system:anonymous" cannot create resource "configmaps" in API group "" '
        'in the namespace "default"'
    )


def test_an_unknown_token_is_unauthorized(shared_apiserver: ApiServer) -> None:
    answer = shared_apiserver.get("/version", token="wrong")
    assert (answer.status, answer.body["reason"], answer.body["message"]) == (401, "Unauthorized", "Unauthorized")


def test_discovery_in_both_forms_names_the_same_resources(shared_apiserver: ApiServer) -> None:
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    found = shared_apiserver.get("/apis", accept=accept)
    assert found.headers["Content-Type"] == "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"
    for group in found.body["items"]:
        for version in group["versions"]:
            legacy = shared_apiserver.get(f"/apis/{group['metadata']['name']}/{version['version']}").body
            names = {r["name"] for r in legacy["resources"] if "/" not in r["name"]}
            assert names == {r["resource"] for r in version["resources"]}
    etag = found.headers["ETag"]
    connection = http.client.HTTPSConnection(urlsplit(shared_apiserver.url).netloc, context=shared_apiserver.tls)
    headers = {"Authorization": f"Bearer {shared_apiserver.token}", "Accept": accept, "If-None-Match": etag}
    connection.request("GET", "/apis", headers=headers)
    assert connection.getresponse().status == 304
    connection.close()


def test_openapi_documents_hang_together(shared_apiserver: ApiServer) -> None:
    index = shared_apiserver.get("/openapi/v3").body["paths"]
    url = index["apis/apps/v1"]["serverRelativeURL"]
    document = shared_apiserver.get(url)
    assert "io.k8s.api.apps.v1.Deployment" in document.body["components"]["schemas"]
    assert "immutable" in document.headers["Cache-Control"]
    assert "io.k8s.api.core.v1.Pod" in shared_apiserver.get("/openapi/v2").body["definitions"]
    assert shared_apiserver.get("/openapi/v3/apis/none/v1").status == 404


def test_metrics_count_requests(shared_apiserver: ApiServer) -> None:
    shared_apiserver.get(f"{DEFAULT}/secrets")
    text = shared_apiserver.get("/metrics").body
    labels = 'dry_run="",group="",resource="secrets",scope="namespace",subresource="",verb="LIST",version="v1"'
    assert f'apiserver_request_total{{code="200",component="apiserver",{labels}}} 1' in text
    assert f'apiserver_request_duration_seconds_bucket{{component="apiserver",{labels},le="+Inf"}} 1' in text
    assert 'apiserver_storage_objects{resource="namespaces"} 4' in text
    shared_apiserver.get("/apis/made.up/v1/names")
    assert "made.up" not in shared_apiserver.get("/metrics").body


def test_keys_of_service_account_tokens_are_published(shared_apiserver: ApiServer) -> None:
    assert shared_apiserver.get("/openid/v1/jwks").body["keys"][0]["alg"] == "ES256"
    assert shared_apiserver.get("/.well-known/openid-configuration").body["issuer"].startswith("https://kubernetes.")


def test_a_broken_body_is_a_bad_request_and_the_server_goes_on(shared_apiserver: ApiServer) -> None:
    for body in (b"", b"\xff\xfe", b"[]", b"{" * 10000, b'{"kind":'):
        assert shared_apiserver.post(f"{DEFAULT}/configmaps", body).status == 400, body[:10]
    assert shared_apiserver.get("/readyz").status == 200


def test_a_full_server_asks_to_come_again(tmp_path: Path) -> None:
    with api_server(tmp_path / "api", "--max-mutating-requests-inflight", "1") as server:

        def create(number: int) -> int:
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c{number}"}}
            answer = server.post(f"{DEFAULT}/configmaps", body)
            assert answer.status == 201 or answer.headers["Retry-After"] == "1"
            return answer.status

        with ThreadPoolExecutor(16) as pool:
            codes = list(pool.map(create, range(100)))
        assert codes.count(201) >= 1
        assert set(codes) <= {201, 429}
        assert len(server.get(f"{DEFAULT}/configmaps").body["items"]) == codes.count(201)


def test_a_graceful_stop_ends_watches_cleanly(tmp_path: Path) -> None:
    with api_server(tmp_path / "api") as server:
        connection = http.client.HTTPSConnection(urlsplit(server.url).netloc, context=server.tls, timeout=20)
        connection.request("GET", "/api/v1/pods?watch=1", headers={"Authorization": f"Bearer {server.token}"})
        answer = connection.getresponse()
        assert answer.status == 200
        idle = http.client.HTTPSConnection(urlsplit(server.url).netloc, context=server.tls, timeout=20)
        idle.request("GET", "/healthz")
        assert idle.getresponse().read() == b"ok"  # and stays connected, as clients do
        begun = time.monotonic()
        server.process.terminate()
        assert answer.read() == b""  # IncompleteRead if the stream were cut
        assert server.process.wait(10) == 0
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (["--service-cluster-ip-range", "10.0.0.0/99"], "--service-cluster-ip-range 10.0.0.0/99: "),
        (["--service-node-port-range", "9-1"], "--service-node-port-range 9-1: expected FIRST-LAST"),
        (["--bind-address", "x"], "--bind-address x: expected an IP address"),
        (["--store", "mysql://x"], "--store mysql://x: not a store"),
        (["--store", "sqlite:///proc/x/y.db"], "--store sqlite:///proc/x/y.db: /proc/x/y.db cannot be opened: "),
        (["--tls-cert-file", "x"], "expected both or neither"),
        (["--tls-cert-file", "/none", "--tls-private-key-file", "/none"], "--tls-cert-file /none: "),
        (["--client-ca-file", "/none"], "--client-ca-file /none: "),
        (["--token-auth-file", "/none"], "--token-auth-file /none: No such file"),
        (["--event-ttl", "soon"], "--event-ttl soon: expected a duration"),
        (["--disable-admission-plugins", "Nope"], "--disable-admission-plugins Nope: unknown"),
        (["--listen-fd", "99"], "--listen-fd 99: "),
    ],
)
def test_bad_flags_are_one_line_and_exit_code_2(flags: list[str], text: str) -> None:
    argv = [sys.executable, "-m", "apiserver", "--secure-port", "0", "--grpc-port", "0", *flags]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2, done.stderr
    assert text in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_what_a_killed_server_left_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    folders: list[set[Path]] = []
    with api_server(tmp_path / "a", kill=True):
        folders.append(set(tmp_path.glob("kubarium-api-*")))
        with api_server(tmp_path / "b"):
            folders.append(set(tmp_path.glob("kubarium-api-*")))
    assert (len(folders[0]), len(folders[1])) == (1, 2)  # nobody removes what is in use
    with api_server(tmp_path / "c"):
        assert folders[0].isdisjoint(tmp_path.glob("kubarium-api-*"))
    assert not list(tmp_path.glob("kubarium-api-*"))


def test_a_port_in_use_is_one_line_and_exit_code_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = str(sock.getsockname()[1])
        argv = [sys.executable, "-m", "apiserver", "--secure-port", port, "--grpc-port", "0"]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert done.stderr == (f"apiserver: 127.0.0.1:{port}: Address already in use; choose another port or address\n")


def test_nothing_is_answered_from_a_cache_that_is_not_filled(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as door,
        socket.create_server(("127.0.0.1", 0)) as silent,  # a store that accepts and never answers
    ):
        url = f"https://127.0.0.1:{door.getsockname()[1]}"
        argv = [sys.executable, "-m", "apiserver", "--listen-fd", str(door.fileno()), "--grpc-port", "0"]
        argv += ["--token", "t", "--store", f"etcd://127.0.0.1:{silent.getsockname()[1]}"]
        with subprocess.Popen(argv, pass_fds=[door.fileno()], stderr=subprocess.DEVNULL) as process:
            tls = ssl.create_default_context()
            tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
            server = ApiServer(url, "t", tmp_path / "config", tmp_path / "db", tmp_path / "log", process, tls)
            try:
                assert server.get("/version", token="").status == 200
                for path in ("/api/v1/pods?resourceVersion=0", "/api/v1/nodes/a?resourceVersion=0"):
                    answer = server.get(path)
                    assert (answer.status, answer.body["reason"]) == (503, "ServiceUnavailable"), path
                    assert answer.headers["Retry-After"] == "1"
            finally:
                process.kill()


def test_a_client_certificate_names_its_user(tmp_path: Path) -> None:
    from kubarium.machinery import pki

    ca = pki.make_ca(tmp_path)
    pki.issue(ca, "kim", ("ops",)).write(tmp_path, "kim")
    with api_server(tmp_path / "api", "--client-ca-file", str(tmp_path / "ca.crt")) as server:
        tls = ssl.create_default_context()
        tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE
        tls.load_cert_chain(tmp_path / "kim.crt", tmp_path / "kim.key")
        connection = http.client.HTTPSConnection(urlsplit(server.url).netloc, context=tls, timeout=20)
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
        path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
        connection.request("POST", path, json.dumps(body), {"Content-Type": JSON})
        status = json.loads(connection.getresponse().read())["status"]
        connection.close()
    extra = status["userInfo"].pop("extra")
    fingerprint = hashlib.sha256(ssl.PEM_cert_to_DER_cert((tmp_path / "kim.crt").read_text())).hexdigest()
    assert extra == {"authentication.kubernetes.io/credential-id": [f"X509SHA256={fingerprint}"]}
    assert status["userInfo"] == {"username": "kim", "groups": ["ops", "system:authenticated"]}
