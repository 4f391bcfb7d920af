"""The pure parts of the pipeline: options, deletion, metadata, selectors."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiserver import deletion, objectmeta, options
from apiserver.codec import Head
from apiserver.registry import REGISTRY, ResourceDef
from apiserver.request import DeleteOptions, ListOptions, WriteOptions
from apiserver.scaling import scale_of, selector_text
from apiserver.selection import parse_selection
from kubarium.machinery.errors import ApiError, BadRequest, Invalid
from kubarium.machinery.times import format_timestamp

NOW = 1_800_000_000.0


def resource(plural: str, group: str = "") -> ResourceDef:
    found = REGISTRY.get(group, "v1", plural)
    assert found is not None
    return found


# -- deletion ----------------------------------------------------------------------------------------------------------


def obj(**meta: Any) -> dict[str, Any]:
    return {"metadata": {"name": "a", "generation": 1, **meta}, "spec": {}}


def pod(node: str = "n1", **meta: Any) -> dict[str, Any]:
    spec = {"nodeName": node, "terminationGracePeriodSeconds": 30, "containers": []}
    return obj(**meta) | {"kind": "Pod", "spec": spec, "status": {"phase": "Running"}}


ENDING: dict[str, Any] = {"deletionTimestamp": format_timestamp(NOW + 30), "deletionGracePeriodSeconds": 30}


@pytest.mark.parametrize(
    ("what", "wanted", "remove", "grace"),
    [
        pytest.param(pod(), DeleteOptions(), False, 30, id="the pod's own grace period"),
        pytest.param(pod(), DeleteOptions(5), False, 5, id="the one asked for"),
        pytest.param(pod(), DeleteOptions(0), True, 0, id="at once"),
        pytest.param(pod(node=""), DeleteOptions(), True, 0, id="no node has it"),
        pytest.param(pod(**ENDING), DeleteOptions(), False, 30, id="ending already"),
        pytest.param(pod(**ENDING), DeleteOptions(50), False, 30, id="longer"),
        pytest.param(pod(**ENDING), DeleteOptions(10), False, 10, id="shorter"),
        pytest.param(pod(**ENDING), DeleteOptions(0), True, 0, id="the kubelet confirms"),
        pytest.param(pod(finalizers=["x/y"]), DeleteOptions(0), False, 0, id="a finalizer holds it"),
    ],
)
def test_deletion_of_pods(what: dict[str, Any], wanted: DeleteOptions, remove: bool, grace: int) -> None:
    plan = deletion.plan_delete(resource("pods"), what, wanted, NOW)
    assert plan.remove is remove
    assert plan.obj["metadata"]["deletionGracePeriodSeconds"] == grace
    assert plan.obj["metadata"]["deletionTimestamp"] == format_timestamp(NOW + grace)


def test_deletion_of_everything_else_is_at_once_or_waits_for_finalizers() -> None:
    maps = resource("configmaps")
    assert deletion.plan_delete(maps, obj(), DeleteOptions(30), NOW).remove
    held = deletion.plan_delete(maps, obj(finalizers=["x/y"]), DeleteOptions(), NOW)
    assert (held.changed, held.remove) == (True, False)
    again = deletion.plan_delete(maps, held.obj, DeleteOptions(), NOW + 9)
    assert (again.changed, again.remove) == (False, False)


def test_background_takes_the_other_policies_back() -> None:
    meta: dict[str, Any] = {"finalizers": ["x/y", "orphan"]}
    assert deletion.set_finalizers(meta, DeleteOptions(propagation_policy="Background"))
    assert meta["finalizers"] == ["x/y"]
    assert deletion.set_finalizers(meta, DeleteOptions(orphan_dependents=True))
    assert meta["finalizers"] == ["x/y", "orphan"]


@pytest.mark.parametrize(
    ("meta", "spec", "released"),
    [
        ({}, {}, False),
        ({"deletionTimestamp": "t"}, {}, True),
        ({"deletionTimestamp": "t", "finalizers": ["x"]}, {}, False),
        ({"deletionTimestamp": "t", "deletionGracePeriodSeconds": 30}, {}, False),
        ({"deletionTimestamp": "t", "deletionGracePeriodSeconds": 0}, {}, True),
    ],
)
def test_released(meta: dict[str, Any], spec: dict[str, Any], released: bool) -> None:
    assert deletion.is_released({"kind": "Pod", "metadata": meta, "spec": spec}) is released


def test_a_namespace_is_held_by_its_own_finalizers() -> None:
    held = {"kind": "Namespace", "metadata": {"deletionTimestamp": "t"}, "spec": {"finalizers": ["kubernetes"]}}
    assert not deletion.is_released(held)
    assert deletion.is_released(held | {"spec": {}})


# -- options -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (ListOptions(resource_version_match="Exact"), "forbidden unless resourceVersion is provided"),
        (ListOptions(resource_version="0", resource_version_match="Exact"), 'is forbidden for resourceVersion "0"'),
        (ListOptions(resource_version="1", resource_version_match="x"), 'Unsupported value: "x"'),
        (ListOptions(send_initial_events=True), "sendInitialEvents is forbidden for list"),
    ],
)
def test_list_options(wanted: ListOptions, text: str) -> None:
    with pytest.raises(Invalid, match=r"ListOptions\.meta\.k8s\.io") as err:
        options.check_list(wanted)
    assert text in str(err.value)


def test_write_and_delete_options() -> None:
    options.check_write("CreateOptions", WriteOptions(("All",), "me", "Strict"))
    with pytest.raises(Invalid, match="fieldManager: Too long"):
        options.check_write("PatchOptions", WriteOptions(field_manager="x" * 129))
    with pytest.raises(Invalid, match="orphanDependents and deletionPropagation cannot be both set"):
        options.check_delete(DeleteOptions(propagation_policy="Orphan", orphan_dependents=True))
    with pytest.raises(Invalid, match='propagationPolicy: Unsupported value: "x"'):
        options.check_delete(DeleteOptions(propagation_policy="x"))


@given(st.integers(-1, 2**62).filter(bool), st.text(min_size=1).filter(lambda s: ".." not in s))
def test_continue_tokens_come_back(revision: int, start: str) -> None:
    token = options.ContinueToken(revision, start)
    assert options.parse_continue(token.encode()) == token


@given(st.text(max_size=40))
def test_any_text_as_a_continue_token_is_good_or_a_bad_request(text: str) -> None:
    try:
        options.parse_continue(text)
    except BadRequest as err:
        assert "invalid continue token" in str(err)


def test_a_continue_token_cannot_leave_its_resource() -> None:
    body = json.dumps({"v": "meta.k8s.io/v1", "rv": 1, "start": "../secrets/x"})
    with pytest.raises(BadRequest):
        options.parse_continue(base64.urlsafe_b64encode(body.encode()).decode())


@pytest.mark.parametrize("text", ["-1", "1.0", " 1", "x", "99999999999999999999999"])
def test_bad_versions(text: str) -> None:
    with pytest.raises(ApiError, match=r"strconv\.ParseUint"):
        options.list_revision(text)


# -- metadata ----------------------------------------------------------------------------------------------------------


def test_generated_names_stay_labels() -> None:
    assert objectmeta.generated_name("web-", "abcde") == "web-abcde"
    assert len(objectmeta.generated_name("x" * 100, "abcde")) == 63


def test_an_update_carries_over_what_it_cannot_change() -> None:
    old = {"metadata": {"uid": "u", "creationTimestamp": "t", "generation": 4, **ENDING}}
    new: dict[str, Any] = {"metadata": {"name": "a", "generation": 9, "deletionTimestamp": None, "labels": {}}}
    objectmeta.carry_over(new, old)
    assert new["metadata"] == {"name": "a", "uid": "u", "creationTimestamp": "t", "generation": 4, **ENDING}


# -- selectors ---------------------------------------------------------------------------------------------------------


def test_a_selection_asks_labels_and_fields() -> None:
    chosen = parse_selection(resource("pods"), "app=web", "spec.nodeName=n1,metadata.namespace=shop")
    assert chosen.predicate is not None
    fields = {"spec.nodeName": "n1", "metadata.namespace": "shop"}
    assert chosen.predicate(Head("shop", "a", {"app": "web"}, fields))
    assert not chosen.predicate(Head("shop", "a", {"app": "db"}, fields))
    assert not chosen.predicate(Head("shop", "a", {"app": "web"}, fields | {"spec.nodeName": "n2"}))
    assert chosen.namespace == "shop"


def test_no_selector_is_no_predicate() -> None:
    assert parse_selection(resource("pods"), "", "").predicate is None
    assert parse_selection(resource("pods"), " ", "").predicate is None


def test_selector_text() -> None:
    expressions = [
        {"key": "b", "operator": "In", "values": ["y", "x"]},
        {"key": "c", "operator": "Exists"},
        {"key": "d", "operator": "DoesNotExist"},
    ]
    assert selector_text({"matchLabels": {"a": "1"}, "matchExpressions": expressions}) == "a=1,b in (x,y),c,!d"
    scale = scale_of({"metadata": {}, "spec": {}}, REGISTRY.get("apps", "v1", "deployments"))
    assert scale["status"] == {"replicas": 0}
