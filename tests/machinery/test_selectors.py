"""Label and field selectors mean what Kubernetes means by them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kubarium.machinery import selectors
from kubarium.machinery.objects import LabelSelector, convert
from kubarium.machinery.selectors import Requirement, Selector, parse_fields, parse_labels

WEB = {"app": "web", "tier": "front", "rank": "3"}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("", True),
        ("app", True),
        ("!app", False),
        ("!old", True),
        ("app=web", True),
        ("app==web", True),
        ("app = web , tier = front", True),
        ("app!=web", False),
        ("old!=yes", True),
        ("app in (api, web)", True),
        ("app notin (api,web)", False),
        ("old notin (x)", True),
        ("rank>2", True),
        ("rank>3", False),
        ("rank<4", True),
        ("app>1", False),
        ("app=", False),
        ("app in (),tier", False),
    ],
)
def test_label_selector(text: str, selected: bool) -> None:
    assert parse_labels(text).matches(WEB) is selected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("=", "found '=', expected: !, identifier, or 'end of string'"),
        ("a=b=c", "found '=', expected: ',' or 'end of string'"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a,", "found '', expected: identifier after ','"),
        ("a gt 1", "unable to parse requirement: found 'gt', expected: in, notin, =, ==, !=, gt, lt"),
        ("a in (x", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
    ],
)
def test_label_selector_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parse_labels(text)
    assert str(caught.value) == message


@pytest.mark.parametrize("text", ["-a=b", "a=-b", "a/b/c=d", "a>x", "a>" + "9" * 19, "/a", "a/", "a=" + "x" * 64])
def test_labels_that_no_object_can_have_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Invalid value"):
        parse_labels(text)


def test_what_is_wrong_with_a_key_is_told_with_its_rule() -> None:
    with pytest.raises(ValueError, match="Invalid value") as caught:
        parse_labels("Bad/-x=1")
    text = str(caught.value)
    assert text.startswith('unable to parse requirement: <nil>: Invalid value: "Bad/-x": prefix part a lowercase RFC')
    assert "; name part must consist of alphanumeric characters" in text


names = st.from_regex(r"[a-z]([-a-z0-9_.]{0,8}[a-z0-9])?", fullmatch=True).filter(
    lambda name: name not in {"in", "notin", "gt", "lt"}
)
requirements = st.one_of(
    st.builds(Requirement, names, st.sampled_from([selectors.EXISTS, selectors.MISSING]), st.just(())),
    st.builds(
        Requirement,
        names,
        st.sampled_from([selectors.IN, selectors.NOT_IN]),
        st.lists(names, min_size=1, max_size=3, unique=True).map(lambda values: tuple(sorted(values))),
    ),
    st.builds(
        Requirement,
        names,
        st.sampled_from([selectors.GREATER, selectors.LESS]),
        st.integers(0, 99).map(lambda number: (str(number),)),
    ),
)


@given(st.lists(requirements, max_size=4))
def test_text_form_reads_back_as_the_same_selector(wanted: list[Requirement]) -> None:
    selector = Selector(tuple(sorted(wanted, key=lambda requirement: requirement.key)))
    assert parse_labels(str(selector)) == selector


@given(st.dictionaries(names, names, max_size=4), st.dictionaries(names, names, max_size=4))
def test_match_labels_is_equality_on_every_key(wanted: dict[str, str], labels: dict[str, str]) -> None:
    view = LabelSelector(match_labels=wanted)
    assert selectors.matches(view, labels) is selectors.matches_map(wanted, labels)


def test_absent_selector_selects_nothing_and_an_empty_one_everything() -> None:
    assert not selectors.matches(None, WEB)
    assert selectors.matches(LabelSelector(), WEB)


@pytest.mark.parametrize(
    ("operator", "values", "selected"),
    [("In", ["web"], True), ("NotIn", ["web"], False), ("Exists", [], True), ("DoesNotExist", [], False)],
)
def test_match_expressions(operator: str, values: list[str], selected: bool) -> None:
    wire = {"matchExpressions": [{"key": "app", "operator": operator, "values": values}]}
    assert selectors.matches(convert(LabelSelector, wire), WEB) is selected


def test_field_selector() -> None:
    selector = parse_fields("metadata.name=web,status.phase!=Running")
    assert selector.exact("metadata.name") == "web"
    assert selector.matches({"metadata.name": "web", "status.phase": "Pending"})
    assert not selector.matches({"metadata.name": "web", "status.phase": "Running"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a=b=c", "invalid field selector: unescaped character in value: 61"),
        ("a=b\\c", "invalid field selector: invalid escape sequence: \\c"),
        ("a=b\\", "invalid field selector: invalid escape sequence: \\"),
    ],
)
def test_field_values_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(ValueError, match="invalid field selector") as caught:
        parse_fields(text)
    assert str(caught.value) == message


def test_a_term_of_nothing_says_nothing() -> None:
    assert parse_fields("=,a=b,!=,").requirements == parse_fields("a=b").requirements


def test_field_selector_without_operator_is_refused() -> None:
    with pytest.raises(ValueError, match="invalid selector: 'a'; can't understand 'a'"):
        parse_fields("a")


@given(st.text(max_size=8))
def test_any_field_value_can_be_asked_for(value: str) -> None:
    wanted = selectors.FieldSelector((selectors.FieldRequirement("a.b", value),))
    assert parse_fields(str(wanted)) == wanted
