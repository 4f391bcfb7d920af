"""Patches: what each media type does, what it refuses, and laws that hold for any of them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiserver import jsonpatch, patching, strategic
from apiserver.equality import same
from kubarium.machinery.errors import ApiError, BadRequest, Invalid, UnsupportedMediaType
from tests.apiserver.objects import deployment, resource, stored

Json = dict[str, Any]
CONFIGMAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "v"}}


def patch(
    obj: Json, body: Any, media: str, path: str = "v1/configmaps", mode: str = "Strict"
) -> tuple[Json, list[str]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return patching.apply_patch(media, obj, data, resource(path), field_validation=mode)


def pod(*containers: Json, **spec: Any) -> Json:
    return {"metadata": {"name": "p"}, "spec": {"containers": list(containers), **spec}}


# --- strategic


def smp(original: Json, patch: Json, type_name: str = "core.v1.Pod") -> Json:
    return strategic.merge(original, patch, type_name)


class TestStrategic:
    def test_lists_of_objects_merge_by_key(self) -> None:
        old = pod({"name": "a", "image": "1"}, {"name": "b", "image": "1"})
        new = smp(old, {"spec": {"containers": [{"name": "b", "image": "2"}, {"name": "c", "image": "3"}]}})
        assert new["spec"]["containers"] == [
            {"name": "a", "image": "1"},
            {"name": "b", "image": "2"},
            {"name": "c", "image": "3"},
        ]

    def test_atomic_lists_are_replaced(self) -> None:
        old = pod({"name": "a", "args": ["1", "2"]})
        assert smp(old, {"spec": {"containers": [{"name": "a", "args": ["3"]}]}})["spec"]["containers"][0] == {
            "name": "a",
            "args": ["3"],
        }

    def test_primitive_lists_are_united_and_deleted_from(self) -> None:
        old = {"metadata": {"finalizers": ["a", "b"]}}
        assert smp(old, {"metadata": {"finalizers": ["c", "a"]}})["metadata"]["finalizers"] == ["c", "a", "b"]
        assert smp(old, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}})["metadata"] == {
            "finalizers": ["b"]
        }

    def test_delete_and_replace_directives(self) -> None:
        old = pod({"name": "a"}, {"name": "b"}, nodeSelector={"x": "1"})
        assert smp(old, {"spec": {"containers": [{"name": "a", "$patch": "delete"}]}})["spec"]["containers"] == [
            {"name": "b"}
        ]
        assert smp(old, {"spec": {"containers": [{"$patch": "replace"}, {"name": "c"}]}})["spec"]["containers"] == [
            {"name": "c"}
        ]
        assert smp(old, {"spec": {"nodeSelector": {"$patch": "replace", "y": "2"}}})["spec"]["nodeSelector"] == {
            "y": "2"
        }

    def test_retain_keys(self) -> None:
        old = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
        change = {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}}
        assert smp(old, change, "apps.v1.Deployment") == {"spec": {"strategy": {"type": "Recreate"}}}

    def test_the_order_of_the_patch(self) -> None:
        old = pod({"name": "a"}, {"name": "b"}, {"name": "c"})
        change = {
            "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}],
            "containers": [{"name": "a", "image": "2"}],
        }
        new = smp(old, {"spec": change})
        assert [c["name"] for c in new["spec"]["containers"]] == ["b", "c", "a"]

    def test_null_deletes_and_nothing_of_the_directives_stays(self) -> None:
        new = smp(pod({"name": "a", "image": "1"}), {"spec": {"containers": [{"name": "a", "image": None}]}})
        assert new["spec"]["containers"] == [{"name": "a"}]
        new = smp({}, {"spec": {"containers": [{"$patch": "delete", "name": "a"}], "x": {"$patch": "replace", "a": 1}}})
        assert new == {"spec": {"containers": []}}

    @pytest.mark.parametrize(
        ("change", "text"),
        [
            pytest.param(
                {"spec": {"$patch": "fly"}}, "unknown patch type: fly in map: map[$patch:fly]", id="directive"
            ),
            pytest.param(
                {"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}},
                "invalid patch format of retainKeys",
                id="keys that are not retained",
            ),
        ],
    )
    def test_bad_patches(self, change: Json, text: str) -> None:
        with pytest.raises(strategic.PatchError) as err:
            smp({"spec": {"strategy": {}}}, change, "apps.v1.Deployment")
        assert str(err.value) == text


names = st.sampled_from("abcd")
containers = st.lists(
    st.fixed_dictionaries({"name": names}, optional={"image": st.sampled_from("xyz"), "tty": st.booleans()}),
    max_size=4,
    unique_by=lambda c: c["name"],
)
specs = st.fixed_dictionaries(
    {"containers": containers},
    optional={
        "nodeSelector": st.dictionaries(names, names, max_size=3),
        "hostname": names,
        "hostNetwork": st.booleans(),
    },
)


@given(specs, specs)
def test_a_strategic_patch_without_nulls_is_idempotent_and_wins(old: Json, change: Json) -> None:
    before = copy.deepcopy(old)
    once = smp({"spec": old}, {"spec": change})
    assert smp(once, {"spec": change}) == once
    assert old == before
    found = {c["name"]: c for c in once["spec"]["containers"]}
    assert set(found) == {c["name"] for c in [*old["containers"], *change["containers"]]}
    for container in change["containers"]:
        assert container.items() <= found[container["name"]].items()
    for key, value in change.get("nodeSelector", {}).items():
        assert once["spec"]["nodeSelector"][key] == value


@given(specs)
def test_an_object_patched_with_itself_stays(spec: Json) -> None:
    assert smp({"spec": spec}, {"spec": spec}) == {"spec": spec}


@given(specs, st.permutations("abcd"))
def test_set_element_order_is_obeyed(spec: Json, order: list[str]) -> None:
    change = {"$setElementOrder/containers": [{"name": name} for name in order]}
    new = [c["name"] for c in smp({"spec": spec}, {"spec": change})["spec"]["containers"]]
    assert new == [name for name in order if name in new]
    assert set(new) == {c["name"] for c in spec["containers"]}


# --- JSON patch and merge patch

leaves = st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from("abc")
documents = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3), max_leaves=10
)


def without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    return value


@given(documents, documents)
def test_merge_patch_laws(target: Any, change: Any) -> None:
    """RFC 7396: a second time changes nothing; nothing patched with X is X without its nulls."""
    before = copy.deepcopy(target)
    once = jsonpatch.merge(target, change)
    assert target == before
    assert same(jsonpatch.merge(once, change), once)
    assert same(jsonpatch.merge(None, change), without_nulls(change))


def pointers(value: Any, path: str = "") -> list[str]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for key, item in inner for p in pointers(item, f"{path}/{key}"))]


@given(documents, st.data())
def test_json_patch_laws(document: Any, data: st.DataObject) -> None:
    """What is there can be tested; removed and added again where it was, all is as before."""
    path = data.draw(st.sampled_from(pointers(document)))
    value = document
    for part in path.split("/")[1:]:
        value = value[int(part)] if isinstance(value, list) else value[part]
    jsonpatch.apply(document, [{"op": "test", "path": path, "value": value}])
    if path:
        back = [{"op": "remove", "path": path}, {"op": "add", "path": path, "value": value}]
        assert same(jsonpatch.apply(document, back), document)


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ({"op": "add", "path": "/l/-", "value": 3}, {"l": [1, 2, 3], "m": {"a/b": 1}}),
        ({"op": "add", "path": "/l/0", "value": 0}, {"l": [0, 1, 2], "m": {"a/b": 1}}),
        ({"op": "replace", "path": "/m/a~1b", "value": 2}, {"l": [1, 2], "m": {"a/b": 2}}),
        ({"op": "move", "from": "/l/0", "path": "/x"}, {"l": [2], "m": {"a/b": 1}, "x": 1}),
        ({"op": "copy", "from": "/l", "path": "/m/l"}, {"l": [1, 2], "m": {"a/b": 1, "l": [1, 2]}}),
    ],
)
def test_json_patch_operations(operation: Json, expected: Json) -> None:
    assert jsonpatch.apply({"l": [1, 2], "m": {"a/b": 1}}, [operation]) == expected


def test_a_json_patch_replaces_what_is_not_there_as_upstream_does() -> None:
    assert (
        patch(CONFIGMAP, [{"op": "replace", "path": "/data/new", "value": "1"}], patching.JSON)[0]["data"]["new"] == "1"
    )


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "remove", "path": "/none"},
        {"op": "test", "path": "/data/k", "value": "no"},
        {"op": "add", "path": "/none/k", "value": 1},
        {"op": "add", "path": "/data/x"},
        {"op": "add", "path": "data", "value": 1},
        {"op": "fly"},
    ],
)
def test_a_json_patch_that_does_not_fit(operation: Json) -> None:
    with pytest.raises(Invalid) as err:
        patch(CONFIGMAP, [operation], patching.JSON)
    status = err.value.to_status()
    assert (status["code"], status["details"]) == (422, {})
    assert status["message"] == "the server rejected our request due to an error in our request"


# --- the whole way


@pytest.mark.parametrize("into", ["/d/{}", "/d/a/{}"])
def test_a_json_patch_does_not_copy_without_end(into: str) -> None:
    """Each copy doubles what there is."""
    operations = [{"op": "copy", "from": "/d", "path": into.format(i)} for i in range(300)]
    with pytest.raises(jsonpatch.JsonPatchError, match="unable to complete the copy"):
        jsonpatch.apply({"d": {"a": {}, "b": "x" * 100}}, operations)


def test_a_json_patch_does_not_copy_too_deep() -> None:
    """Put into a new object each time, a value gets deeper than JSON may be."""
    around = [
        {"op": "add", "path": "/n", "value": {}},
        {"op": "move", "from": "/d", "path": "/n/d"},
        {"op": "move", "from": "/n", "path": "/d"},
    ]
    with pytest.raises(jsonpatch.JsonPatchError, match="unable to complete the copy"):
        jsonpatch.apply({"d": {}}, [*around * 400, {"op": "copy", "from": "/d", "path": "/m"}])


def test_all_three_reach_the_object() -> None:
    for media, body in (
        (patching.JSON, [{"op": "add", "path": "/data/z", "value": "1"}]),
        (patching.MERGE, {"data": {"z": "1"}}),
        (patching.STRATEGIC, {"data": {"z": "1"}}),
    ):
        assert patch(CONFIGMAP, body, media) == (CONFIGMAP | {"data": {"k": "v", "z": "1"}}, [])
    assert CONFIGMAP["data"] == {"k": "v"}


@pytest.mark.parametrize(
    ("media", "body", "error", "message"),
    [
        pytest.param(
            patching.JSON,
            {"a": 1},
            BadRequest,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
            id="no list of operations",
        ),
        pytest.param(
            patching.MERGE,
            {"data": "x"},
            Invalid,
            ' "" is invalid: patch: Invalid value: "{\\"apiVersion\\":\\"v1\\",\\"data\\":\\"x\\",'
            '\\"kind\\":\\"ConfigMap\\",\\"metadata\\":{\\"name\\":\\"a\\"}}": json: cannot unmarshal string '
            "into Go struct field ConfigMap.data of type map[string]string",
            id="wrong type",
        ),
        pytest.param(
            patching.STRATEGIC,
            {"data": "x"},
            Invalid,
            ' "" is invalid: patch: Invalid value: "map[data:x]": cannot restore map from string',
            id="wrong type, strategic",
        ),
        pytest.param(
            patching.STRATEGIC,
            {"data": {"k": 5}},
            Invalid,
            ' "" is invalid: patch: Invalid value: "map[data:map[k:5]]": cannot convert int64 to string',
            id="wrong scalar that Go would convert, strategic",
        ),
        pytest.param(
            patching.STRATEGIC,
            {"data": {"k": []}},
            Invalid,
            ' "" is invalid: patch: Invalid value: "map[data:map[k:[]]]": unrecognized type: string',
            id="wrong scalar, strategic",
        ),
        pytest.param(
            patching.STRATEGIC,
            {"dat": {}},
            Invalid,
            ' "" is invalid: patch: Invalid value: "map[dat:map[]]": strict decoding error: unknown field "dat"',
            id="unknown field",
        ),
        pytest.param(
            "text/plain",
            {},
            UnsupportedMediaType,
            "the body of the request was in an unknown format - accepted media types include: ",
            id="no patch at all",
        ),
    ],
)
def test_refusals(media: str, body: Any, error: type[ApiError], message: str) -> None:
    with pytest.raises(error) as err:
        patch(CONFIGMAP, body, media)
    assert err.value.message.startswith(message)


def test_warnings_are_of_the_patch() -> None:
    assert patch(CONFIGMAP, {"dat": {}}, patching.MERGE, mode="Warn")[1] == ['unknown field "dat"']


def test_kubectl_scale_and_set_image_of_a_deployment() -> None:
    old = stored("apps/v1/deployments", deployment())
    body = {"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "nginx:2"}]}}}}
    new, _ = patch(old, body, patching.STRATEGIC, "apps/v1/deployments")
    before = copy.deepcopy(old)
    before["spec"]["template"]["spec"]["containers"][0]["image"] = "nginx:2"
    assert new == before


def test_an_error_quotes_the_document_as_it_is_written_with_the_patched_parts_sorted() -> None:
    obj = {"kind": "Service", "apiVersion": "v1", "metadata": {"uid": "u", "name": "s", "labels": {"b": "<", "a": "1"}}}
    obj["spec"] = {"type": "ClusterIP", "ports": [{"targetPort": 80, "port": 80, "name": "x"}]}
    for media, body in (
        (patching.MERGE, {"spec": {"type": 5}}),
        (patching.JSON, [{"op": "replace", "path": "/spec/type", "value": 5}]),
    ):
        with pytest.raises(Invalid) as err:
            patch(obj, body, media, "v1/services")
        text = err.value.message.replace("\\", "")
        assert (
            '"apiVersion":"v1","kind":"Service","metadata":{"name":"s","uid":"u","labels":{"a":"1","b":"u003c"}}'
            in text
        )
        assert '"spec":{"ports":[{"name":"x","port":80,"targetPort":80}],"type":5}' in text
