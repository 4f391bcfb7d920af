"""Server-side apply, without a server."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from apiserver.fieldmanager.applying import Apply, apply, read_config
from apiserver.fieldmanager.updates import keep_times, track_update
from kubarium.machinery.errors import ApiError, BadRequest, Conflict
from tests.apiserver.objects import Json, resource
from tests.apiserver.test_fieldmanager_updates import LATER, NOW, created, owned

DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: d, labels: {a: b}}
spec:
  replicas: 2
  selector: {matchLabels: {a: b}}
  template:
    metadata: {labels: {a: b}}
    spec:
      containers:
      - {name: c, image: nginx, ports: [{containerPort: 80}]}
"""
PATHS = {"Deployment": "apps/v1/deployments", "ConfigMap": "v1/configmaps", "Pod": "v1/pods"}


def applied(
    config: str | Json, live: Json | None = None, name: str = "one", force: bool = False, at: str = NOW
) -> Json:
    """The object after an apply: defaulted, with its entries, as `modify` leaves it."""
    wanted = yaml.safe_load(config) if isinstance(config, str) else config
    found = resource(PATHS[wanted["kind"]])
    call = Apply(found, "", copy.deepcopy(wanted), name, force, at)
    new, entries = apply(call, copy.deepcopy(live or {}))
    found.strategy.default(new)
    new["metadata"].setdefault("uid", "u")
    if entries:
        new["metadata"]["managedFields"] = entries
    return new


def config_map(data: Json, **meta: Any) -> Json:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", **meta}, "data": data}


def conflict_of(config: str | Json, live: Json, name: str = "two") -> Conflict:
    with pytest.raises(Conflict) as err:
        applied(config, live, name)
    return err.value


def test_who_applies_owns_what_is_applied_and_no_default() -> None:
    assert owned(applied(DEPLOYMENT)) == {
        "one": [
            ".metadata.labels.a",
            ".spec.replicas",
            ".spec.selector",
            ".spec.template.metadata.labels.a",
            '.spec.template.spec.containers[name="c"]',
            '.spec.template.spec.containers[name="c"].image',
            '.spec.template.spec.containers[name="c"].name',
            '.spec.template.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"]',
            '.spec.template.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"].containerPort',
        ]
    }


def test_a_conflict_names_who_owns_what() -> None:
    live = applied(DEPLOYMENT)
    found = conflict_of(DEPLOYMENT.replace("replicas: 2", "replicas: 3"), live)
    assert found.message == 'Apply failed with 1 conflict: conflict with "one": .spec.replicas'
    assert found.to_status()["details"] == {
        "causes": [
            {"reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".spec.replicas"},
        ]
    }


def test_conflicts_with_several_managers() -> None:
    old = applied(DEPLOYMENT)
    live = copy.deepcopy(old)
    live["spec"]["replicas"] = 7
    track_update(resource("apps/v1/deployments"), "scale", live, old, "hpa", LATER)
    text = DEPLOYMENT.replace("replicas: 2", "replicas: 3").replace("image: nginx", "image: apache")
    assert conflict_of(text, live).message == (
        'Apply failed with 2 conflicts: conflicts with "hpa" with subresource "scale" using apps/v1:\n'
        '- .spec.replicas\nconflicts with "one":\n- .spec.template.spec.containers[name="c"].image'
    )


def test_the_same_value_is_owned_together() -> None:
    live = applied(DEPLOYMENT)
    both = applied(DEPLOYMENT, live, "two")
    assert owned(both)["one"] == owned(both)["two"]
    without = applied(DEPLOYMENT.replace("  replicas: 2\n", ""), both, "two")
    assert without["spec"]["replicas"] == 2
    assert ".spec.replicas" not in owned(without)["two"]


def test_what_is_applied_no_more_goes() -> None:
    live = applied(config_map({"a": "1", "b": "2"}, labels={"x": "y"}))
    live["metadata"]["annotations"] = {"of": "nobody"}
    new = applied(config_map({"a": "1"}), live)
    assert new["data"] == {"a": "1"}
    assert new["metadata"] | {"managedFields": 0} == {
        "name": "a",
        "uid": "u",
        "annotations": {"of": "nobody"},
        "managedFields": 0,
    }
    assert owned(new) == {"one": [".data.a"]}


def test_what_others_own_stays() -> None:
    live = applied(config_map({"a": "1", "b": "2"}))
    live = applied(config_map({"b": "2", "c": "3"}), live, "two")
    new = applied(config_map({}), live)
    assert new["data"] == {"b": "2", "c": "3"}
    assert owned(new) == {"one": [".data"], "two": [".data.b", ".data.c"]}


def test_defaults_go_with_the_item_they_belong_to() -> None:
    two = DEPLOYMENT + "      - {name: extra, image: y}\n"
    new = applied(DEPLOYMENT, applied(two))
    assert [c["name"] for c in new["spec"]["template"]["spec"]["containers"]] == ["c"]


def test_force_takes_fields_over() -> None:
    live = applied(DEPLOYMENT)
    new = applied(DEPLOYMENT.replace("replicas: 2", "replicas: 3"), live, "two", force=True)
    assert new["spec"]["replicas"] == 3
    assert ".spec.replicas" in owned(new)["two"]
    assert ".spec.replicas" not in owned(new)["one"]


def test_items_stand_as_they_are_applied_others_keep_their_place() -> None:
    def pod(*names: str) -> Json:
        containers = [{"name": name, "image": "x"} for name in names]
        return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}}

    live = applied(pod("a", "b", "c"))
    new = applied(pod("c", "d", "a"), live, "two")
    assert [c["name"] for c in new["spec"]["containers"]] == ["b", "c", "d", "a"]


def test_an_object_without_entries_was_written_by_somebody_before() -> None:
    live = created("v1/configmaps", config_map({"a": "1"}, uid="u"))
    del live["metadata"]["managedFields"]
    found = conflict_of(config_map({"a": "2"}), live)
    assert found.message == 'Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.a'
    new = applied(config_map({"a": "1"}), live)
    assert owned(new) == {"one": [".data.a"], "before-first-apply": [".data", ".data.a"]}


def test_kubectl_takes_over_what_it_applied_from_the_clients_side() -> None:
    last = config_map({"a": "1", "b": "1"})
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": json.dumps(last)}
    sent = config_map({"a": "1", "b": "1"}, uid="u", annotations=annotations)
    live = created("v1/configmaps", sent, "kubectl-client-side-apply")
    new = applied(config_map({"a": "2", "b": "1"}), live, "kubectl")
    assert new["data"]["a"] == "2"
    assert json.loads(new["metadata"]["annotations"].popitem()[1])["data"] == {"a": "2", "b": "1"}
    live["data"]["a"] = "changed"
    assert "conflict" in conflict_of(config_map({"a": "2", "b": "1"}), live, "kubectl").message
    live["data"]["a"] = "1"
    assert "conflict" in conflict_of(config_map({"a": "2", "b": "1"}), live, "another").message


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        pytest.param(
            {"apiVersion": "v1"},
            BadRequest,
            "invalid object type: /v1, Kind=Deployment",
            id="version",
        ),
        pytest.param(
            {"metadata": {"managedFields": [{}]}}, BadRequest, "metadata.managedFields must be nil", id="entries"
        ),
        pytest.param(
            {"spec": {"foo": 1}},
            ApiError,
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.foo: "
            "field not declared in schema",
            id="unknown field",
        ),
        pytest.param(
            {"spec": {"replicas": "3"}},
            ApiError,
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.replicas: "
            "expected numeric (int or float), got string",
            id="type",
        ),
        pytest.param(
            {"spec": {"template": {"spec": {"containers": [{"name": "c"}, {"name": "c"}]}}}},
            ApiError,
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.template.spec.containers: "
            'duplicate entries for key [name="c"]',
            id="repeated item",
        ),
        pytest.param(
            {"spec": {"template": {"spec": {"containers": [{"image": "c"}, {"image": "d"}]}}}},
            ApiError,
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): .spec.template.spec.containers: "
            'duplicate entries for key [name=""]',
            id="items without key",
        ),
        pytest.param(
            {"spec": {"x": 1, "y": 2}},
            ApiError,
            "failed to create typed patch object (/d; apps/v1, Kind=Deployment): errors:\n"
            "  .spec.x: field not declared in schema\n  .spec.y: field not declared in schema",
            id="two faults",
        ),
    ],
)
def test_configurations_that_are_refused(change: Json, error: type[ApiError], message: str) -> None:
    config = {"apiVersion": "apps/v1", "kind": "Deployment"} | change
    config["metadata"] = {"name": "d"} | change.get("metadata", {})
    found = resource("apps/v1/deployments")
    with pytest.raises(error) as err:
        apply(Apply(found, "", config, "one", False, NOW), {})
    assert err.value.message == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"a: [", "error decoding YAML: error converting YAML to JSON: yaml: "),
        (b"- a", "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal array"),
        (b"{", "error decoding YAML: error converting YAML to JSON: yaml: line 1: did not find expected node content"),
    ],
)
def test_bodies_that_are_refused(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as err:
        read_config(body, resource("v1/pods"), "")
    assert err.value.message.startswith(message)


# --- laws

NAMES = st.sampled_from(["a", "b", "c"])
VALUES = st.sampled_from(["1", "2"])
ENV = st.dictionaries(NAMES, VALUES, max_size=3).map(lambda d: [{"name": k, "value": v} for k, v in d.items()])
CONTAINER = st.fixed_dictionaries({"image": VALUES}, optional={"env": ENV, "command": st.lists(VALUES, max_size=2)})
CONTAINERS = st.dictionaries(NAMES, CONTAINER, min_size=1, max_size=3).map(
    lambda d: [{"name": name, **container} for name, container in d.items()]
)
META = st.fixed_dictionaries(
    {"name": st.just("p")},
    optional={
        "labels": st.dictionaries(NAMES, VALUES, max_size=2),
        "finalizers": st.lists(st.sampled_from(["x.io/a", "x.io/b"]), unique=True),
    },
)
SPEC = st.fixed_dictionaries({"containers": CONTAINERS}, optional={"nodeSelector": st.dictionaries(NAMES, VALUES)})
POD = st.fixed_dictionaries(
    {"apiVersion": st.just("v1"), "kind": st.just("Pod"), "metadata": META, "spec": SPEC},
)


def contains(obj: Any, config: Any) -> bool:
    """Whether the object has all that the configuration says (lists with keys in any order)."""
    if isinstance(config, dict):
        return all(not value or (key in obj and contains(obj[key], value)) for key, value in config.items())
    if isinstance(config, list) and config and isinstance(config[0], dict):
        found = {item["name"]: item for item in obj}
        return all(item["name"] in found and contains(found[item["name"]], item) for item in config)
    return bool(obj == config) or (isinstance(config, list) and set(config) <= set(obj))


@settings(max_examples=60, deadline=None)
@given(POD, POD)
def test_applying_twice_changes_nothing(first: Json, second: Json) -> None:
    live = applied(second, applied(first, name="other"), force=True)
    again = applied(second, live, at=LATER)
    keep_times(again, live)
    assert again == live


@settings(max_examples=60, deadline=None)
@given(POD, POD)
def test_force_has_its_way_and_owns_it(first: Json, second: Json) -> None:
    new = applied(second, applied(first, name="other"), force=True)
    assert contains(new, second)
    assert owned(new)["one"] == owned(applied(second))["one"]


@settings(max_examples=60, deadline=None)
@given(POD, POD)
def test_the_last_configuration_of_one_manager_is_all_that_stays(first: Json, second: Json) -> None:
    def bare(obj: Json) -> Json:
        out = copy.deepcopy(obj)
        del out["metadata"]["managedFields"]
        out["spec"]["containers"].sort(key=lambda c: c["name"])
        for container in out["spec"]["containers"]:
            container.get("env", []).sort(key=lambda e: e["name"])
        out["metadata"].get("finalizers", []).sort()
        return out

    assert bare(applied(second, applied(first))) == bare(applied(second))
