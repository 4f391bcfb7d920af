"""managedFields of creates and updates."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from apiserver import decode
from apiserver.fieldmanager.entries import MAX_UPDATERS, manager_name
from apiserver.fieldmanager.fieldsets import path_text, paths
from apiserver.fieldmanager.updates import keep_times, track_create, track_update
from tests.apiserver.objects import Json, deployment, pod, resource, service

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
CONFIG_MAPS, PODS, DEPLOYMENTS = "v1/configmaps", "v1/pods", "apps/v1/deployments"


def config_map(data: Json | None = None, **meta: Any) -> Json:
    return {"metadata": {"name": "a", **meta}, "data": {"k": "v"} if data is None else data}


def created(path: str, obj: Json, manager: str = "one", at: str = NOW) -> Json:
    found = resource(path)
    out, _ = decode.typed(copy.deepcopy(obj), found)
    found.strategy.default(out)
    track_create(found, out, manager, at)
    return out


def updated(path: str, old: Json, change: Any, manager: str = "two", at: str = LATER, subresource: str = "") -> Json:
    """`change` changes a copy of the object in place."""
    new = copy.deepcopy(old)
    change(new)
    track_update(resource(path), subresource, new, old, manager, at)
    keep_times(new, old)
    return new


def owned(obj: Json) -> dict[str, list[str]]:
    """Manager (with its subresource) -> the fields that it owns."""
    return {
        "/".join(filter(None, (entry["manager"], entry.get("subresource")))): [
            path_text(path) for path in paths(entry["fieldsV1"])
        ]
        for entry in obj["metadata"].get("managedFields") or ()
    }


@pytest.mark.parametrize(
    ("path", "obj", "fields"),
    [
        pytest.param(CONFIG_MAPS, config_map(), [".data", ".data.k"], id="map"),
        pytest.param(
            CONFIG_MAPS,
            config_map({}, labels={"a": "b"}, finalizers=["x.io/f"], generateName="g-"),
            [
                ".metadata.finalizers",
                ".metadata.generateName",
                ".metadata.labels",
                '.metadata.finalizers[="x.io/f"]',
                ".metadata.labels.a",
            ],
            id="metadata",
        ),
        pytest.param("v1/nodes", {"metadata": {"name": "n"}}, [], id="nothing"),
        pytest.param(
            "v1/services",
            service(),
            [
                ".spec.internalTrafficPolicy",
                ".spec.ports",
                ".spec.sessionAffinity",
                ".spec.type",
                '.spec.ports[port=80,protocol="TCP"]',
                '.spec.ports[port=80,protocol="TCP"].port',
                '.spec.ports[port=80,protocol="TCP"].protocol',
                '.spec.ports[port=80,protocol="TCP"].targetPort',
            ],
            id="list with two keys",
        ),
        pytest.param(
            "v1/serviceaccounts",
            {"metadata": {"name": "s"}, "imagePullSecrets": [{"name": "x"}], "secrets": [{"name": "y"}]},
            [".imagePullSecrets", ".secrets", '.secrets[name="y"]'],
            id="atomic list, and atomic items",
        ),
        pytest.param(
            "v1/endpoints",
            {"metadata": {"name": "e"}, "subsets": [{"addresses": [{"ip": "10.0.0.1"}]}]},
            [".subsets"],
            id="atomic list",
        ),
    ],
)
def test_who_creates_owns_what_is_set(path: str, obj: Json, fields: list[str]) -> None:
    assert owned(created(path, obj)) == ({"one": fields} if fields else {})


def test_an_entry_as_it_is_written() -> None:
    (entry,) = created(DEPLOYMENTS, deployment())["metadata"]["managedFields"]
    fields = entry.pop("fieldsV1")
    assert entry == {
        "manager": "one",
        "operation": "Update",
        "apiVersion": "apps/v1",
        "time": NOW,
        "fieldsType": "FieldsV1",
    }
    assert fields["f:spec"]["f:selector"] == {}
    assert fields["f:spec"]["f:strategy"] == {
        "f:type": {},
        "f:rollingUpdate": {".": {}, "f:maxSurge": {}, "f:maxUnavailable": {}},
    }
    assert "." not in fields["f:spec"]["f:template"]["f:spec"]["f:containers"]
    assert "." in fields["f:spec"]["f:template"]["f:spec"]["f:containers"]['k:{"name":"c"}']


def test_who_changes_a_field_owns_it_alone() -> None:
    old = created(CONFIG_MAPS, config_map({"a": "1", "b": "2"}))

    def change(obj: Json) -> None:
        obj["data"] |= {"b": "3", "c": "4"}

    assert owned(updated(CONFIG_MAPS, old, change)) == {"one": [".data", ".data.a"], "two": [".data.b", ".data.c"]}


def test_what_is_gone_is_nobodys() -> None:
    old = created(CONFIG_MAPS, config_map({"a": "1", "b": "2"}))
    new = updated(CONFIG_MAPS, old, lambda obj: obj["data"].pop("b"))
    assert owned(new) == {"one": [".data", ".data.a"]}
    assert new["metadata"]["managedFields"][0]["time"] == NOW
    assert owned(updated(CONFIG_MAPS, new, lambda obj: obj.pop("data"))) == {}


def test_the_time_is_that_of_the_last_change() -> None:
    old = created(CONFIG_MAPS, config_map())
    new = updated(CONFIG_MAPS, old, lambda obj: obj["data"].update(k="w"), manager="one")
    assert [entry["time"] for entry in new["metadata"]["managedFields"]] == [LATER]
    assert updated(CONFIG_MAPS, old, lambda obj: None) == old


def test_a_change_that_is_undone_leaves_the_times() -> None:
    old = created(DEPLOYMENTS, deployment())
    new = updated(DEPLOYMENTS, old, lambda obj: obj["spec"].update(replicas=5), manager="one")
    new["spec"]["replicas"] = old["spec"]["replicas"]
    keep_times(new, old)
    assert new == old


def test_status_and_spec_have_owners_of_their_own() -> None:
    old = created(PODS, pod(uid="u"))

    def change(obj: Json) -> None:
        obj["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        obj["spec"]["nodeName"] = "n"

    new = updated(PODS, old, change, manager="kubelet", subresource="status")
    found = owned(new)
    assert all(path.startswith(".spec") for path in found["one"])
    assert found["kubelet/status"] == [
        ".status.conditions",
        ".status.phase",
        '.status.conditions[type="Ready"]',
        '.status.conditions[type="Ready"].status',
        '.status.conditions[type="Ready"].type',
    ]
    assert owned(updated(PODS, old, lambda obj: obj.update(status={"phase": "Failed"})))["one"] == found["one"]


def nested(depth: int) -> Json:
    return {"f:a": nested(depth - 1)} if depth else {}


def test_entries_of_a_client_that_does_not_send_them_stay() -> None:
    old = created(CONFIG_MAPS, config_map())
    entry = old["metadata"]["managedFields"][0]
    broken = [{"f:data": 1}, {"f:data": {"f:k": None}}, {"x:data": {}}, {"k:": {}}, {"k:1": {}}, {"v:a": {}}, None]
    given: list[Any] = [None, [{"manager": "x"}], [{}, {}], [entry | {"operation": "Sing"}]]
    given += [[entry | {"fieldsV1": fields}] for fields in (*broken, nested(200))]
    for sent in given:
        new = updated(CONFIG_MAPS, old, lambda obj, sent=sent: obj["metadata"].update(managedFields=sent))
        assert new == old


def test_one_empty_entry_takes_them_away() -> None:
    old = created(CONFIG_MAPS, config_map(uid="u"))
    new = updated(CONFIG_MAPS, old, lambda obj: obj["metadata"].update(managedFields=[{}]))
    assert "managedFields" not in new["metadata"]
    kept = updated(CONFIG_MAPS, old, lambda obj: obj["metadata"].update(managedFields=[{}]), subresource="status")
    assert owned(kept) == owned(old)
    assert "managedFields" not in updated(CONFIG_MAPS, new, lambda obj: obj["data"].update(z="1"))["metadata"]


def test_a_client_may_write_entries() -> None:
    old = created(CONFIG_MAPS, config_map(uid="u"))
    entry = old["metadata"]["managedFields"][0] | {"manager": "other"}
    new = updated(CONFIG_MAPS, old, lambda obj: obj["metadata"].update(managedFields=[entry]))
    assert owned(new) == {"other": [".data", ".data.k"]}


def test_the_oldest_updates_become_one() -> None:
    obj = created(CONFIG_MAPS, config_map({"k": "v"}, uid="u"), at="2026-01-01T00:00:00Z")
    for i in range(MAX_UPDATERS + 3):
        at = f"2026-01-01T00:00:{i + 1:02}Z"
        obj = updated(CONFIG_MAPS, obj, lambda new, i=i: new["data"].update({f"k{i}": "v"}), f"m{i}", at)
    found = owned(obj)
    assert len(found) == MAX_UPDATERS
    assert found["ancient-changes"] == [".data", ".data.k", ".data.k0", ".data.k1", ".data.k2", ".data.k3"]
    assert found["m12"] == [".data.k12"]
    assert obj["metadata"]["managedFields"][0]["time"] == "2026-01-01T00:00:04Z"


def test_items_that_repeat_a_key_are_one() -> None:
    spec = {"containers": [{"name": "c", "image": "x", "env": [{"name": "A", "value": "1"}, {"name": "A"}]}]}
    found = owned(created(PODS, pod(spec)))["one"]
    assert '.spec.containers[name="c"].env[name="A"]' in found
    assert '.spec.containers[name="c"].env[name="A"].value' not in found


@pytest.mark.parametrize(
    ("field_manager", "user_agent", "name"),
    [
        ("me", "kubectl/v1", "me"),
        ("", "kubectl/v1.36.0 (linux/amd64) kubernetes/abc", "kubectl"),
        ("", "Python-urllib", "Python-urllib"),
        ("", "", "unknown"),
        ("", "a\tb/1", "ab"),
        ("", "é" * 100, "é" * 64),
    ],
)
def test_the_managers_name(field_manager: str, user_agent: str, name: str) -> None:
    assert manager_name(field_manager, user_agent) == name
