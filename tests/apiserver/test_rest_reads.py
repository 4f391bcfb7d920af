"""Lists and watches over HTTPS, against a real server process."""

from __future__ import annotations

import json
import secrets
import threading
from typing import Any

import pytest

from kubarium.testing.apiserver import ApiServer, api_server


@pytest.fixture
def ns(shared_apiserver: ApiServer) -> str:
    """A namespace of this test's own with five ConfigMaps c0..c4; the path of its core resources."""
    name = f"t-{secrets.token_hex(4)}"
    path = f"/api/v1/namespaces/{name}"
    shared_apiserver.post("/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
    for number in range(5):
        create(shared_apiserver, path, f"c{number}", labels={"i": str(number), "odd": str(number % 2)})
    return path


def create(server: ApiServer, ns: str, name: str, **meta: Any) -> dict[str, Any]:
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, **meta}, "data": {"k": "v"}}
    answer = server.post(f"{ns}/configmaps", body)
    assert answer.status == 201, answer.body
    return dict(answer.body)


def names(items: list[dict[str, Any]]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def told(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(e["type"], e["object"]["metadata"].get("name", "")) for e in events]


# -- lists -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("labelSelector=odd%3D1", "c1 c3"),
        ("labelSelector=i%20in%20(1,3),odd", "c1 c3"),
        ("labelSelector=!odd", ""),
        ("fieldSelector=metadata.name%3Dc2", "c2"),
        ("fieldSelector=metadata.name!%3Dc2", "c0 c1 c3 c4"),
        ("fieldSelector=metadata.name%3Dnone", ""),
        ("labelSelector=odd%3D0&fieldSelector=metadata.name!%3Dc0", "c2 c4"),
    ],
)
def test_selectors(shared_apiserver: ApiServer, ns: str, query: str, expected: str) -> None:
    assert names(shared_apiserver.get(f"{ns}/configmaps?{query}").body["items"]) == expected.split()


def test_pods_are_selected_by_their_node(shared_apiserver: ApiServer, ns: str) -> None:
    for node in ("n1", "n2"):
        spec = {"nodeName": node, "containers": [{"name": "c", "image": "x"}]}
        body = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": f"on-{node}"}, "spec": spec}
        assert shared_apiserver.post(f"{ns}/pods", body).status == 201
    assert names(shared_apiserver.get(f"{ns}/pods?fieldSelector=spec.nodeName%3Dn2").body["items"]) == ["on-n2"]
    refused = shared_apiserver.get(f"{ns}/pods?fieldSelector=spec.foo%3Dn2")
    assert (refused.status, refused.body["message"]) == (400, "field label not supported: spec.foo")


def test_list_items_do_not_repeat_their_kind(shared_apiserver: ApiServer, ns: str) -> None:
    body = shared_apiserver.get(f"{ns}/configmaps").body
    assert (body["kind"], body["apiVersion"]) == ("ConfigMapList", "v1")
    assert all("kind" not in item and "apiVersion" not in item for item in body["items"])


def test_pages_are_of_one_revision_whatever_changes_meanwhile(shared_apiserver: ApiServer, ns: str) -> None:
    first = shared_apiserver.get(f"{ns}/configmaps?limit=2").body
    assert names(first["items"]) == ["c0", "c1"]
    assert first["metadata"]["remainingItemCount"] == 3
    shared_apiserver.delete(f"{ns}/configmaps/c3")
    create(shared_apiserver, ns, "c9")
    second = shared_apiserver.get(f"{ns}/configmaps?limit=2&continue={first['metadata']['continue']}").body
    third = shared_apiserver.get(f"{ns}/configmaps?limit=2&continue={second['metadata']['continue']}").body
    assert names(second["items"] + third["items"]) == ["c2", "c3", "c4"]
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    assert "continue" not in third["metadata"]


def test_pages_with_a_selector(shared_apiserver: ApiServer, ns: str) -> None:
    query = f"{ns}/configmaps?limit=2&labelSelector=odd%3D0"
    first = shared_apiserver.get(query).body
    assert "remainingItemCount" not in first["metadata"]
    second = shared_apiserver.get(f"{query}&continue={first['metadata']['continue']}").body
    assert names(first["items"] + second["items"]) == ["c0", "c2", "c4"]
    assert "continue" not in second["metadata"]


def test_a_list_at_an_exact_version(shared_apiserver: ApiServer, ns: str) -> None:
    version = shared_apiserver.get(f"{ns}/configmaps").body["metadata"]["resourceVersion"]
    shared_apiserver.delete(f"{ns}/configmaps/c0")
    query = f"resourceVersion={version}&resourceVersionMatch="
    assert len(shared_apiserver.get(f"{ns}/configmaps?{query}Exact").body["items"]) == 5
    assert len(shared_apiserver.get(f"{ns}/configmaps?{query}NotOlderThan").body["items"]) == 4


def test_a_version_that_has_not_come_is_a_timeout_to_try_again(shared_apiserver: ApiServer, ns: str) -> None:
    answer = shared_apiserver.get(f"{ns}/configmaps?resourceVersion=99999999&resourceVersionMatch=NotOlderThan")
    assert (answer.status, answer.body["reason"], answer.headers["Retry-After"]) == (504, "Timeout", "1")
    assert answer.body["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"


@pytest.mark.parametrize(
    ("query", "code", "text"),
    [
        ("labelSelector=a%20b", 400, "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("resourceVersion=abc", 400, "invalid resource version: "),
        ("resourceVersionMatch=Exact", 422, "resourceVersionMatch is forbidden unless resourceVersion is provided"),
        ("limit=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("continue=bad", 400, "continue key is not valid"),
        ("sendInitialEvents=true", 422, "sendInitialEvents is forbidden for list"),
        ("watch=1&resourceVersion=abc", 500, 'strconv.ParseUint: parsing "abc": invalid syntax'),
        ("watch=1&sendInitialEvents=true", 422, "sendInitialEvents requires setting resourceVersionMatch"),
    ],
)
def test_bad_options(shared_apiserver: ApiServer, ns: str, query: str, code: int, text: str) -> None:
    answer = shared_apiserver.get(f"{ns}/configmaps?{query}")
    assert answer.status == code
    assert text in answer.body["message"]


def test_table_and_metadata_views(shared_apiserver: ApiServer, ns: str) -> None:
    table = shared_apiserver.get(f"{ns}/configmaps", accept="application/json;as=Table;g=meta.k8s.io;v=v1").body
    assert table["kind"] == "Table"
    assert [c["name"] for c in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert [row["cells"][:2] for row in table["rows"]] == [[f"c{i}", 1] for i in range(5)]
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    accept = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
    partial = shared_apiserver.get(f"{ns}/configmaps", accept=accept).body
    assert partial["kind"] == "PartialObjectMetadataList"
    assert all("data" not in item for item in partial["items"])
    yaml = shared_apiserver.get(f"{ns}/configmaps/c0", accept="application/yaml")
    assert "kind: ConfigMap\n" in yaml.body


# -- watches -----------------------------------------------------------------------------------------------------------


def test_a_watch_from_a_version_tells_every_change_after_it_once(shared_apiserver: ApiServer, ns: str) -> None:
    version = shared_apiserver.get(f"{ns}/configmaps").body["metadata"]["resourceVersion"]
    create(shared_apiserver, ns, "new")
    shared_apiserver.patch(f"{ns}/configmaps/new", {"data": {"k": "2"}})
    shared_apiserver.delete(f"{ns}/configmaps/new")
    events = shared_apiserver.watch(f"{ns}/configmaps?watch=1&resourceVersion={version}&timeoutSeconds=1")
    assert told(events) == [("ADDED", "new"), ("MODIFIED", "new"), ("DELETED", "new")]
    versions = [int(e["object"]["metadata"]["resourceVersion"]) for e in events]
    assert versions == sorted(set(versions))
    assert events[-1]["object"]["data"] == {"k": "2"}


def test_an_object_that_leaves_a_selector_is_deleted_for_its_watchers(shared_apiserver: ApiServer, ns: str) -> None:
    version = shared_apiserver.get(f"{ns}/configmaps").body["metadata"]["resourceVersion"]
    shared_apiserver.patch(f"{ns}/configmaps/c0", {"metadata": {"labels": {"odd": "1"}}})
    shared_apiserver.patch(f"{ns}/configmaps/c1", {"metadata": {"labels": {"odd": "0"}}})
    query = f"watch=1&labelSelector=odd%3D1&resourceVersion={version}&timeoutSeconds=1"
    assert told(shared_apiserver.watch(f"{ns}/configmaps?{query}")) == [("ADDED", "c0"), ("DELETED", "c1")]


def test_a_streaming_list_ends_with_a_bookmark(shared_apiserver: ApiServer, ns: str) -> None:
    query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
    events = shared_apiserver.watch(f"{ns}/configmaps?{query}&timeoutSeconds=1")
    assert told(events) == [*(("ADDED", f"c{i}") for i in range(5)), ("BOOKMARK", "")]
    mark = events[-1]["object"]
    assert mark["kind"] == "ConfigMap"
    assert mark["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
    assert int(mark["metadata"]["resourceVersion"]) > 0


def test_a_watch_without_a_version_begins_with_what_there_is(shared_apiserver: ApiServer, ns: str) -> None:
    events = shared_apiserver.watch(f"{ns}/configmaps?watch=true&fieldSelector=metadata.name%3Dc3&timeoutSeconds=1")
    assert told(events) == [("ADDED", "c3")]


def test_a_watch_as_a_table(shared_apiserver: ApiServer, ns: str) -> None:
    accept = "application/json;as=Table;g=meta.k8s.io;v=v1,application/json"
    events = shared_apiserver.watch(f"{ns}/configmaps?watch=true&timeoutSeconds=1", accept=accept)
    assert [e["object"]["rows"][0]["cells"][0] for e in events] == [f"c{i}" for i in range(5)]


def test_events_reach_a_watcher_while_it_waits(shared_apiserver: ApiServer, ns: str) -> None:
    import urllib.request

    request = urllib.request.Request(f"{shared_apiserver.url}{ns}/configmaps?watch=1&resourceVersion=0")
    request.add_header("Authorization", f"Bearer {shared_apiserver.token}")
    seen: list[dict[str, Any]] = []
    enough = threading.Event()
    with urllib.request.urlopen(request, context=shared_apiserver.tls, timeout=20) as stream:

        def read() -> None:
            for line in stream:
                seen.append(json.loads(line))
                if len(seen) == 6:
                    enough.set()
                    return

        reader = threading.Thread(target=read)
        reader.start()
        create(shared_apiserver, ns, "late")
        assert enough.wait(10)
        reader.join()
    assert told(seen)[-1] == ("ADDED", "late")


def test_events_core_and_new_are_one_resource(shared_apiserver: ApiServer, ns: str) -> None:
    involved = {"kind": "Pod", "name": "p", "namespace": ns.rpartition("/")[2]}
    body = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}, "involvedObject": involved}
    assert shared_apiserver.post(f"{ns}/events", body | {"reason": "Tested", "message": "it"}).status == 201
    newer = ns.replace("/api/v1", "/apis/events.k8s.io/v1") + "/events"
    found = shared_apiserver.get(f"{newer}/e").body
    assert (found["apiVersion"], found["regarding"]["name"], found["note"]) == ("events.k8s.io/v1", "p", "it")
    listed = shared_apiserver.get(newer).body
    assert listed["items"][0]["reason"] == "Tested"
    watched = shared_apiserver.watch(f"{newer}?watch=1&timeoutSeconds=1")
    assert watched[0]["object"]["apiVersion"] == "events.k8s.io/v1"


def test_a_restarted_server_has_everything_and_resumes_watches(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("api")
    with api_server(folder, kill=True) as first:
        made = create(first, "/api/v1/namespaces/default", "a")
        create(first, "/api/v1/namespaces/default", "b")
    with api_server(folder) as second:
        assert second.get("/api/v1/namespaces/default/configmaps/a").body == made
        version = made["metadata"]["resourceVersion"]
        query = f"watch=1&resourceVersion={version}&timeoutSeconds=1"
        assert told(second.watch(f"/api/v1/namespaces/default/configmaps?{query}")) == [("ADDED", "b")]
        later = create(second, "/api/v1/namespaces/default", "c")["metadata"]["resourceVersion"]
        assert int(later) > int(version)
