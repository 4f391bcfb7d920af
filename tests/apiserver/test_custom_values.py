"""Custom objects by their schema: laws of pruning, defaulting and ratcheting for any schema and any object."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apiserver.custom import defaulting, pruning
from apiserver.custom.ratchet import Correlated
from apiserver.custom.strategy import Judge
from apiserver.custom.structural import structural

Json = Any
NAMES = st.sampled_from(["a", "b", "c", "d"])
SCALARS: st.SearchStrategy[Json] = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.sampled_from(["", "x", "yy", "zzz"])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4), max_leaves=10
)
OBJECTS = st.dictionaries(NAMES, VALUES, max_size=4)


@st.composite
def scalars(draw: st.DrawFn) -> Json:
    type_ = draw(st.sampled_from(["string", "integer", "boolean"]))
    schema: Json = {"type": type_}
    if draw(st.booleans()):
        schema["nullable"] = True
    if draw(st.booleans()):
        schema["default"] = {"string": "d", "integer": 7, "boolean": True}[type_]
    if type_ == "string" and draw(st.booleans()):
        schema["maxLength"] = draw(st.integers(0, 3))
    if type_ == "integer" and draw(st.booleans()):
        schema["minimum"] = draw(st.integers(-2, 2))
    return schema


def wider(inner: st.SearchStrategy[Json]) -> st.SearchStrategy[Json]:
    properties = st.dictionaries(NAMES, inner, max_size=4)
    extra = st.sampled_from([{}, {"x-kubernetes-preserve-unknown-fields": True}, {"nullable": True}])
    fields = st.builds(lambda found, more: {"type": "object", "properties": found, **more}, properties, extra)
    maps = inner.map(lambda schema: {"type": "object", "additionalProperties": schema})
    lists = inner.map(lambda schema: {"type": "array", "items": schema})
    return fields | maps | lists


SCHEMAS = st.dictionaries(NAMES, st.recursive(scalars(), wider, max_leaves=8), max_size=4).map(
    lambda properties: {"type": "object", "properties": properties}
)


@settings(max_examples=50, deadline=None)
@given(SCHEMAS, OBJECTS)
def test_what_is_pruned_once_stays_as_it_is(schema: Json, obj: Json) -> None:
    node = structural(schema)
    pruning.prune(obj, node)
    once = copy.deepcopy(obj)
    assert pruning.prune(obj, node) == []
    assert obj == once


@settings(max_examples=50, deadline=None)
@given(SCHEMAS, OBJECTS)
def test_pruning_takes_only_what_the_schema_does_not_know(schema: Json, obj: Json) -> None:
    before = copy.deepcopy(obj)
    unknown = pruning.prune(obj, structural(schema))
    assert unknown == sorted(unknown)
    assert (obj == before) == (not unknown)
    for path in unknown:
        assert path.partition(".")[0].partition("[")[0] in before
    assert obj.keys() == before.keys() & schema["properties"].keys()


@settings(max_examples=50, deadline=None)
@given(SCHEMAS, OBJECTS)
def test_defaults_are_filled_in_once_and_change_nothing_that_is_there(schema: Json, obj: Json) -> None:
    node, before = structural(schema), copy.deepcopy(obj)
    pruning.drop_nulls(obj, node)
    kept = copy.deepcopy(obj)
    defaulting.fill(obj, node)
    once = copy.deepcopy(obj)
    defaulting.fill(obj, node)
    assert obj == once
    for key, value in kept.items():
        if not isinstance(value, dict | list) and value is not None:
            assert obj[key] == value
    for key, inner in schema["properties"].items():
        if inner.get("default") is not None:
            assert key in obj
    assert before.keys() <= obj.keys() | {key for key, value in before.items() if value is None}


@settings(max_examples=50, deadline=None)
@given(SCHEMAS, OBJECTS)
def test_an_object_that_does_not_change_is_valid_whatever_the_schema_says_now(schema: Json, obj: Json) -> None:
    metadata = {"name": "x", "namespace": "y", "uid": "u", "resourceVersion": "1"}
    obj = {"apiVersion": "example.com/v1", "kind": "Thing", "metadata": metadata, **obj}
    node = structural(schema)
    pruning.prune(obj, node)
    pruning.drop_nulls(obj, node)
    judge = Judge(schema, node, True, False, None)
    assert judge.validate_update(copy.deepcopy(obj), obj) == []


@pytest.mark.parametrize(
    ("new", "old", "same"),
    [
        ([{"k": "a", "v": 1}, {"k": "b"}], [{"k": "b"}, {"k": "a", "v": 1}], True),
        ([{"k": "a", "v": 1}], [{"k": "a", "v": 2}], False),
        ([{"k": "a"}], [{"k": "a"}, {"k": "b"}], False),
    ],
)
def test_items_of_a_list_map_are_the_same_in_any_order(new: Json, old: Json, same: bool) -> None:
    items = {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer"}}}
    schema = {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": items}
    assert Correlated(new, old, structural(schema)).unchanged is same
