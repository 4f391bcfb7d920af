"""Label selectors (text and LabelSelector views) and field selectors: parse once, match often.

Errors are ValueErrors with the texts that an API server answers with.
Source: apimachinery pkg/labels and pkg/fields.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from kubarium.machinery.objects import LabelSelector, NodeSelectorRequirement

IN, NOT_IN, EXISTS, MISSING, GREATER, LESS = "in", "notin", "exists", "!", "gt", "lt"
_OPERATORS = {"=": IN, "==": IN, "!=": NOT_IN, "in": IN, "notin": NOT_IN, ">": GREATER, "<": LESS}
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


_TOKEN = re.compile(r"[ \t\r\n]*(==|!=|[=!(),<>]|[^ \t\r\n=!(),<>]+)")
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
    missing = tokens.peek() == "!"
    if missing:
        tokens.take()
    key = _identifier(tokens)
    if faults := _key_faults(key):
        raise ValueError(f"<nil>: Invalid value: {_quoted(key)}: {'; '.join(faults)}")
    if tokens.peek() in (_END, ","):
        return Requirement(key, MISSING if missing else EXISTS)
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
    """The values between parentheses, in order, each once; nothing between two commas is the empty value."""
    if (word := tokens.take()) != "(":
        raise ValueError(f"found '{word}' expected: '('")
    if (word := tokens.peek()) == _END or (word in _SYMBOLS and word not in (",", ")")):
        raise ValueError(f"found '{word}', expected: ',', ')' or identifier")
    values: list[str] = []
    expect_value = True
    while (word := tokens.take()) != ")":
        if word == ",":
            if expect_value:
                values.append("")
            expect_value = True
        elif not expect_value:
            raise ValueError(f"found '{word}', expected: ',' or ')'")
        elif word == _END or word in _SYMBOLS:
            raise ValueError(f"found '{word}', expected: ',', or identifier")
        else:
            values.append(word)
            expect_value = False
    if expect_value:
        values.append("")
    return tuple(sorted(set(values)))


_KEY_NAME = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_NAME = re.compile(_KEY_NAME)
_PREFIX = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_SUBDOMAIN = re.compile(_PREFIX)
_ENDS = "and must start and end with an alphanumeric character"
_KEY_RULE = (
    f"must consist of alphanumeric characters, '-', '_' or '.', {_ENDS} "
    f"(e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '{_KEY_NAME}')"
)
_PREFIX_RULE = (
    "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    f"{_ENDS} (e.g. 'example.com', regex used for validation is '{_PREFIX}')"
)
_VALUE_RULE = (
    f"a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', {_ENDS} "
    f"(e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '({_KEY_NAME})?')"
)
_INTEGER_RULE = "for 'Gt', 'Lt' operators, the value must be an integer"


def _key_faults(key: str) -> list[str]:
    """What keeps a text from being the key of a label."""
    prefix, slash, name = key.rpartition("/")
    if "/" in prefix:
        return [
            f"a valid label key {_KEY_RULE} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
        ]
    faults = []
    if slash and not prefix:
        faults.append("prefix part must be non-empty")
    elif slash:
        if len(prefix) > 253:
            faults.append("prefix part must be no more than 253 bytes")
        if not _SUBDOMAIN.fullmatch(prefix):
            faults.append(_PREFIX_RULE)
    if not name:
        faults.append("name part must be non-empty")
    elif len(name.encode()) > 63:
        faults.append("name part must be no more than 63 bytes")
    if not _NAME.fullmatch(name):
        faults.append(f"name part {_KEY_RULE}")
    return faults


def _checked(requirement: Requirement) -> Requirement:
    """Values must be such as labels can have, and numbers where they are compared."""
    faults = []
    if requirement.operator in (GREATER, LESS) and not _is_integer(requirement.values[0]):
        faults.append(f"values[0]: Invalid value: {_quoted(requirement.values[0])}: {_INTEGER_RULE}")
    for place, value in enumerate(requirement.values):
        found = ["must be no more than 63 bytes"] if len(value.encode()) > 63 else []
        if value and not _NAME.fullmatch(value):
            found.append(_VALUE_RULE)
        if found:
            where = f"values[{place}][{requirement.key}]"
            faults.append(f"{where}: Invalid value: {_quoted(value)}: {'; '.join(found)}")
    if faults:
        raise ValueError(faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]")
    return requirement


def _is_integer(text: str) -> bool:
    """As Go reads a 64-bit number."""
    return bool(re.fullmatch(r"[+-]?[0-9]+", text)) and -(2**63) <= int(text) < 2**63


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


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
_FIELD_TERM = re.compile(r"(?:\\.|\\$|[^\\,])+", re.DOTALL)
_VALUE_PART = re.compile(r"\\(.?)|([,=])", re.DOTALL)


def parse_fields(text: str) -> FieldSelector:
    """`metadata.name=web,status.phase!=Running`; commas, equal signs and backslashes in values are escaped by `\\`.

    A term without field and value says nothing.
    """
    requirements: list[FieldRequirement] = []
    for term in _FIELD_TERM.findall(text):
        if (found := _FIELD_OPERATOR.search(term)) is None:
            raise ValueError(f"invalid selector: '{text}'; can't understand '{term}'")
        field, value = term[: found.start()], _unescaped(term[found.end() :])
        if field or value:
            requirements.append(FieldRequirement(field, value, found.group() != "!="))
    return FieldSelector(tuple(requirements))


def _unescaped(value: str) -> str:
    """Raises ValueError for the first character that is wrong: one without its backslash is told by its number."""
    for found in _VALUE_PART.finditer(value):
        escaped, bare = found.groups()
        if bare:
            raise ValueError(f"invalid field selector: unescaped character in value: {ord(bare)}")
        if escaped not in ("\\", ",", "="):
            raise ValueError(f"invalid field selector: invalid escape sequence: {found.group()}")
    return _VALUE_PART.sub(r"\1", value)


def _escaped(value: str) -> str:
    return re.sub(r"([\\,=])", r"\\\1", value)
