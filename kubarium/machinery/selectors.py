"""Label selectors (text and LabelSelector views) and field selectors: parse once, match often.

Errors are ValueErrors with the texts that an API server answers with.
Source: apimachinery pkg/labels and pkg/fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kubarium.machinery.objects import LabelSelector, NodeSelectorRequirement

IN, NOT_IN, EXISTS, MISSING, GREATER, LESS = "in", "notin", "exists", "!", "gt", "lt"
_OPERATORS = {"=": IN, "==": IN, "!=": NOT_IN, "in": IN, "notin": NOT_IN, ">": GREATER, "<": LESS}
_OPERATORS |= {"gt": GREATER, "lt": LESS}
_VIEW_OPERATORS = {"In": IN, "NotIn": NOT_IN, "Exists": EXISTS, "DoesNotExist": MISSING, "Gt": GREATER, "Lt": LESS}


class Requirement(NamedTuple):
    """`operator` is one of the constants above; `values` has one entry for gt and lt, none for exists and missing."""

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        value = labels.get(self.key)
        if self.operator == IN:
            return value is not None and value in self.values
        if self.operator == NOT_IN:
            return value is None or value not in self.values
        if self.operator == EXISTS:
            return value is not None
        if self.operator == MISSING:
            return value is None
        return value is not None and _compare(self.operator, value, self.values[0])

    def __str__(self) -> str:
        if self.operator == EXISTS:
            return self.key
        if self.operator == MISSING:
            return f"!{self.key}"
        if self.operator in (GREATER, LESS):
            return f"{self.key}{'>' if self.operator == GREATER else '<'}{self.values[0]}"
        if len(self.values) == 1:
            return f"{self.key}{'=' if self.operator == IN else '!='}{self.values[0]}"
        return f"{self.key} {self.operator} ({','.join(sorted(self.values))})"


def _compare(operator: str, value: str, bound: str) -> bool:
    try:
        number, limit = int(value), int(bound)
    except ValueError:
        return False
    return number > limit if operator == GREATER else number < limit


class Selector(NamedTuple):
    """All requirements must hold; none at all selects everything."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    def __str__(self) -> str:
        """The text form, as it goes into a query."""
        return ",".join(str(requirement) for requirement in self.requirements)


def from_view(selector: LabelSelector | None) -> Selector | None:
    """A LabelSelector of the API; None (an absent one) selects nothing and stays None."""
    if selector is None:
        return None
    labels = [Requirement(key, IN, (value,)) for key, value in sorted(selector.match_labels.items())]
    rest = [Requirement(e.key, _view_operator(e.operator), e.values) for e in selector.match_expressions]
    return Selector((*labels, *rest))


def matches(selector: LabelSelector | None, labels: Mapping[str, str]) -> bool:
    """Whether a LabelSelector of the API selects these labels."""
    parsed = from_view(selector)
    return parsed is not None and parsed.matches(labels)


def matches_map(selector: Mapping[str, str], labels: Mapping[str, str]) -> bool:
    """Equality on every key, as Service.spec.selector and nodeSelector have it; an empty one matches everything."""
    return all(labels.get(key) == value for key, value in selector.items())


def node_requirement_matches(requirement: NodeSelectorRequirement, labels: Mapping[str, str]) -> bool:
    """A requirement of node affinity (In, NotIn, Exists, DoesNotExist, Gt, Lt)."""
    return Requirement(requirement.key, _view_operator(requirement.operator), requirement.values).matches(labels)


def _view_operator(operator: str) -> str:
    try:
        return _VIEW_OPERATORS[operator]
    except KeyError:
        raise ValueError(f'"{operator}" is not a valid label selector operator') from None


_TOKEN = re.compile(r"\s*(==|!=|[=!(),<>]|[^\s=!(),<>]+)")
_SYMBOLS = {"==", "!=", "=", "!", "(", ")", ",", "<", ">"}
_END = ""


class _Tokens:
    """The words and symbols of a selector, with one word of lookahead."""

    def __init__(self, text: str) -> None:
        self._words: Iterator[str] = (found.group(1) for found in _TOKEN.finditer(text))
        self._ahead = next(self._words, _END)

    def peek(self) -> str:
        return self._ahead

    def take(self) -> str:
        word, self._ahead = self._ahead, next(self._words, _END)
        return word


def parse_labels(text: str) -> Selector:
    """`app=web,tier in (a, b),!old,rank>2` to a Selector. Raises ValueError with upstream's text."""
    tokens = _Tokens(text)
    requirements: list[Requirement] = []
    while tokens.peek() != _END:
        word = tokens.peek()
        if word != "!" and word in _SYMBOLS:
            raise ValueError(f"found '{word}', expected: !, identifier, or 'end of string'")
        try:
            requirements.append(_requirement(tokens))
        except ValueError as err:
            raise ValueError(f"unable to parse requirement: {err}") from None
        word = tokens.take()
        if word == _END:
            break
        if word != ",":
            raise ValueError(f"found '{word}', expected: ',' or 'end of string'")
        if tokens.peek() != "!" and (tokens.peek() in _SYMBOLS or tokens.peek() == _END):
            raise ValueError(f"found '{tokens.peek()}', expected: identifier after ','")
    return Selector(tuple(sorted(requirements, key=lambda requirement: requirement.key)))


def _requirement(tokens: _Tokens) -> Requirement:
    if tokens.peek() == "!":
        tokens.take()
        return _checked(Requirement(_identifier(tokens), MISSING))
    key = _identifier(tokens)
    if tokens.peek() in (_END, ","):
        return _checked(Requirement(key, EXISTS))
    word = tokens.take()
    if word not in _OPERATORS:
        raise ValueError(f"found '{word}', expected: in, notin, =, ==, !=, gt, lt")
    if word in ("in", "notin"):
        return _checked(Requirement(key, _OPERATORS[word], _value_set(tokens)))
    value = "" if tokens.peek() in (_END, ",") else tokens.take()
    if value in _SYMBOLS:
        raise ValueError(f"found '{value}', expected: identifier")
    return _checked(Requirement(key, _OPERATORS[word], (value,)))


def _identifier(tokens: _Tokens) -> str:
    word = tokens.take()
    if word == _END or word in _SYMBOLS:
        raise ValueError(f"found '{word}', expected: identifier")
    return word


def _value_set(tokens: _Tokens) -> tuple[str, ...]:
    if (word := tokens.take()) != "(":
        raise ValueError(f"found '{word}' expected: '('")
    values: list[str] = []
    expect_value = True
    while (word := tokens.take()) != ")":
        if word == _END:
            raise ValueError("found '', expected: ',', ')' or identifier")
        if word == ",":
            if expect_value:
                values.append("")
            expect_value = True
        elif word in _SYMBOLS:
            raise ValueError(f"found '{word}', expected: ',', or ')'")
        else:
            values.append(word)
            expect_value = False
    if expect_value:
        values.append("")
    return tuple(dict.fromkeys(values))


_NAME = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
_SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_NAME_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character "
    "(e.g. '{examples}', regex used for validation is '{regex}')"
)
_KEY_RULE = "name part " + _NAME_RULE.format(
    examples="MyName',  or 'my.name',  or '123-abc", regex="([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)


def _checked(requirement: Requirement) -> Requirement:
    """Keys and values must be such as labels can have."""
    prefix, _, name = requirement.key.rpartition("/")
    if prefix and (len(prefix) > 253 or not _SUBDOMAIN.fullmatch(prefix)):
        raise ValueError(f'key: Invalid value: "{requirement.key}": prefix part is not a DNS subdomain')
    if len(name) > 63:
        raise ValueError(f'key: Invalid value: "{requirement.key}": name part must be no more than 63 bytes')
    if not _NAME.fullmatch(name):
        raise ValueError(f'key: Invalid value: "{requirement.key}": {_KEY_RULE}')
    if requirement.operator in (GREATER, LESS) and not re.fullmatch(r"[+-]?\d+", requirement.values[0]):
        raise ValueError(
            f"values[0]: Invalid value: \"{requirement.values[0]}\": for 'Gt', 'Lt' operators, the value must be "
            "an integer"
        )
    for place, value in enumerate(requirement.values):
        if len(value) > 63:
            raise ValueError(
                f'values[{place}][{requirement.key}]: Invalid value: "{value}": must be no more than 63 bytes'
            )
        if value and not _NAME.fullmatch(value):
            raise ValueError(f'values[{place}][{requirement.key}]: Invalid value: "{value}": {_VALUE_RULE}')
    return requirement


class FieldRequirement(NamedTuple):
    """`field=value`, or `field!=value` where `equal` is False."""

    field: str
    value: str
    equal: bool = True


class FieldSelector(NamedTuple):
    """All requirements must hold. A field that an object lacks counts as ""."""

    requirements: tuple[FieldRequirement, ...] = ()

    def matches(self, fields: Mapping[str, str]) -> bool:
        return all((fields.get(r.field, "") == r.value) is r.equal for r in self.requirements)

    def exact(self, field: str) -> str | None:
        """The value that `field` must have, if one is asked for."""
        return next((r.value for r in self.requirements if r.field == field and r.equal), None)

    def __str__(self) -> str:
        return ",".join(f"{r.field}{'=' if r.equal else '!='}{_escaped(r.value)}" for r in self.requirements)


_FIELD_OPERATOR = re.compile(r"!=|==|=")
_FIELD_TERM = re.compile(r"(?:\\.|[^\\,])+", re.DOTALL)


def parse_fields(text: str) -> FieldSelector:
    """`metadata.name=web,status.phase!=Running`; commas, equal signs and backslashes in values are escaped by `\\`."""
    requirements: list[FieldRequirement] = []
    for term in _FIELD_TERM.findall(text):
        if (found := _FIELD_OPERATOR.search(term)) is None:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{term}'")
        value = _unescaped(term[found.end() :])
        requirements.append(FieldRequirement(term[: found.start()], value, found.group() != "!="))
    return FieldSelector(tuple(requirements))


def _unescaped(value: str) -> str:
    escapes = re.compile(r"\\(.?)", re.DOTALL)
    for found in escapes.finditer(value):
        if found.group(1) not in ("\\", ",", "="):
            raise ValueError(f"invalid field selector: invalid escape sequence: {found.group()}")
    if "=" in escapes.sub("", value):
        raise ValueError(f"invalid field selector: unescaped character in value: {value}")
    return escapes.sub(r"\1", value)


def _escaped(value: str) -> str:
    return re.sub(r"([\\,=])", r"\\\1", value)
