"""Stored bytes: the slot is found wherever objects hide look-alikes, and nothing else of the object changes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiserver.codec import decode, event_line, head_reader, resource_prefix, stored_form, with_revision

text = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["resourceVersion", '"resourceVersion":"', "metadata", '\\"', "\\", 'x","resourceVersion":"']
)
scalars = st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | text
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3))
metadata = st.fixed_dictionaries(
    {},
    optional={
        "name": text,
        "generateName": text,
        "namespace": text,
        "uid": text,
        "resourceVersion": text,
        "labels": st.dictionaries(text, text, max_size=3),
        "annotations": st.dictionaries(text, text, max_size=3),
        "ownerReferences": st.lists(st.dictionaries(text, text, max_size=3), max_size=2),
    },
)
objects = st.builds(
    lambda rest, kind, meta: rest | {"kind": kind, "apiVersion": "v1", "metadata": meta},
    st.dictionaries(text, values, max_size=4),
    text,
    metadata,
)


def with_version(obj: dict[str, Any], version: str) -> dict[str, Any]:
    return obj | {"metadata": obj["metadata"] | {"resourceVersion": version}}


@given(objects, st.integers(0, 2**63), st.integers(0, 2**63))
def test_only_the_version_changes_however_often_it_is_filled(obj: dict[str, Any], first: int, second: int) -> None:
    stored = stored_form(obj)
    assert decode(stored) == with_version(obj, "")
    filled = with_revision(stored, first)
    assert decode(filled) == with_version(obj, str(first))
    assert with_revision(filled, second) == with_revision(stored, second)


def test_the_object_itself_is_left_as_it_is() -> None:
    obj = {"kind": "Pod", "metadata": {"name": "web", "resourceVersion": "7"}}
    stored_form(obj)
    assert obj == {"kind": "Pod", "metadata": {"name": "web", "resourceVersion": "7"}}


def test_order_is_that_of_kubernetes() -> None:
    obj = {"spec": {}, "metadata": {"labels": {}, "uid": "u", "name": "web"}, "apiVersion": "v1", "kind": "Pod"}
    assert with_revision(stored_form(obj), 5) == (
        b'{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","uid":"u","resourceVersion":"5","labels":{}},"spec":{}}'
    )


def test_an_object_without_metadata_gets_a_slot() -> None:
    assert decode(with_revision(stored_form({"kind": "Pod"}), 3))["metadata"] == {"resourceVersion": "3"}


def test_bytes_without_a_slot_are_refused() -> None:
    with pytest.raises(ValueError, match="not found"):
        with_revision(b'{"kind":"Pod"}', 1)


def test_head_has_labels_and_the_fields_of_its_resource() -> None:
    read = head_reader(
        lambda prefix: (
            {"spec.nodeName": lambda o: o["spec"].get("nodeName", "")} if prefix == "/registry/core/pods/" else {}
        )
    )
    pod = {"metadata": {"name": "web", "namespace": "a", "labels": {"app": "web"}}, "spec": {"nodeName": "node-1"}}
    head = read("/registry/core/pods/a/web", stored_form(pod))
    assert (head.namespace, head.name, head.labels) == ("a", "web", {"app": "web"})
    assert head.fields == {"metadata.name": "web", "metadata.namespace": "a", "spec.nodeName": "node-1"}
    node = read("/registry/core/nodes/n", stored_form({"metadata": {"name": "n"}}))
    assert (node.namespace, node.labels, node.fields) == ("", {}, {"metadata.name": "n", "metadata.namespace": ""})


def test_head_of_what_is_no_object_is_an_error() -> None:
    with pytest.raises(msgspec.DecodeError):
        head_reader(lambda _: {})("/registry/core/pods/a/web", b"[1]")


@pytest.mark.parametrize(
    "key",
    ["/registry/apps/deployments/default/web", "/registry/apps/deployments/default/", "/registry/apps/deployments/"],
)
def test_resource_prefix(key: str) -> None:
    assert resource_prefix(key) == "/registry/apps/deployments/"


def test_event_line() -> None:
    assert event_line("ADDED", b'{"a":1}') == b'{"type":"ADDED","object":{"a":1}}\n'
