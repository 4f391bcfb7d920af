"""The algebra of sets of fields, against sets of paths."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apiserver.fieldmanager.fieldsets import (
    Fields,
    Path,
    difference,
    intersection,
    path_text,
    paths,
    union,
    without,
)

ELEMENTS = st.sampled_from(["f:a", "f:b", "f:c", 'k:{"name":"x"}', 'v:"y"'])
PATHS = st.frozensets(st.lists(ELEMENTS, min_size=1, max_size=4).map(tuple), max_size=8)


def of(found: frozenset[Path] | set[Path]) -> Fields:
    """The set of these paths, written from the definition of the wire form."""
    out: Fields = {}
    for path in found:
        node = out
        for key in path:
            node = node.setdefault(key, {})
        node["."] = {}
    return {key: lean(node) for key, node in out.items()}


def lean(node: Fields) -> Fields:
    """A path with nothing below it is an empty node."""
    return {} if set(node) == {"."} else {k: v if k == "." else lean(v) for k, v in node.items()}


def below(path: Path, others: frozenset[Path]) -> bool:
    return any(path[: len(other)] == other for other in others)


@given(PATHS)
def test_a_set_has_the_paths_it_was_made_of(a: frozenset[Path]) -> None:
    assert sorted(paths(of(a))) == sorted(a)


@given(PATHS, PATHS)
def test_the_algebra_is_that_of_sets(a: frozenset[Path], b: frozenset[Path]) -> None:
    assert union(of(a), of(b)) == of(a | b)
    assert difference(of(a), of(b)) == of(a - b)
    assert intersection(of(a), of(b)) == of(a & b)
    assert without(of(a), of(b)) == of({path for path in a if not below(path, b)})


@given(PATHS, PATHS, PATHS)
def test_laws_of_union(a: frozenset[Path], b: frozenset[Path], c: frozenset[Path]) -> None:
    x, y, z = of(a), of(b), of(c)
    assert union(x, y) == union(y, x)
    assert union(union(x, y), z) == union(x, union(y, z))
    assert union(x, x) is x
    assert union(x, {}) is x
    assert difference(union(x, y), y) == difference(x, y)


@given(PATHS, PATHS)
def test_a_result_that_equals_the_first_is_the_first(a: frozenset[Path], b: frozenset[Path]) -> None:
    x = of(a)
    assert union(x, of(a & b)) is x
    assert difference(x, of(b - a)) is x
    assert intersection(x, of(a | b)) is x


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("f:spec", "f:replicas"), ".spec.replicas"),
        (("f:spec", "f:ports", 'k:{"port":80,"protocol":"TCP"}'), '.spec.ports[port=80,protocol="TCP"]'),
        (("f:metadata", "f:finalizers", 'v:"example.com/f"'), '.metadata.finalizers[="example.com/f"]'),
        (("f:metadata", "f:labels", "f:app.kubernetes.io/name"), ".metadata.labels.app.kubernetes.io/name"),
    ],
)
def test_paths_in_messages(path: Path, text: str) -> None:
    assert path_text(path) == text


def test_paths_come_level_by_level() -> None:
    fields: Fields = {"f:b": {".": {}, "f:y": {}}, "f:a": {"f:x": {}}, "f:c": {}}
    assert [path_text(path) for path in paths(fields)] == [".b", ".c", ".a.x", ".b.y"]
