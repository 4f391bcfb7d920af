"""Expressions: what they evaluate to, what they cost, and how they are refused."""

from __future__ import annotations

from typing import Any

import pytest

from apiserver.cel import estimate
from apiserver.cel.declared import Declared
from apiserver.cel.environment import CompileError, Environment
from apiserver.cel.escaping import escape
from apiserver.cel.values import CelError, CostExceeded

TEXT = Declared("string", 2, 100)
OBJECT = Declared(
    "object",
    fields={
        "n": Declared("int", 1),
        "s": TEXT,
        "l": Declared("list", 2, 10, items=TEXT),
        "m": Declared("map", 2, 10, items=Declared("int", 1)),
    },
)
SELF = {"n": 5, "s": "hällo", "l": ["b", "a", "b"], "m": {"x": 1, "y": 2}}


@pytest.fixture(scope="module")
def env() -> Environment:
    made = Environment()
    made.declare("self", OBJECT)
    return made


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("self.n + 2 * 3 - 7 / 2", 8),
        ("-7 / 2 == -3 && -7 % 3 == -1", True),
        ("7u / 2u", 3),
        ("self.n < 5.5 && self.n > 4u", True),
        ("self.s.size() == 5 && size(b'h\\xc3\\xa4') == 3", True),
        ("self.s.startsWith('h') || 1 / 0 == 1", True),
        ("1 / 0 == 1 || self.s.startsWith('h')", True),
        ("has(self.s) && !has(self.m.z)", True),
        ("'x' in self.m && 'a' in self.l", True),
        ("self.l.all(x, x.size() == 1) && self.l.exists_one(x, x == 'a')", True),
        ("self.l.map(x, x + '!').filter(x, x != 'b!')", ["a!"]),
        ("self.m.all(k, self.m[k] > 0) && self.m.exists(k, v, k == 'y' && v == 2)", True),
        ("self.l.transformList(i, v, i > 0, v)", ["a", "b"]),
        ("self.m.transformMap(k, v, v + 1)", {"x": 2, "y": 3}),
        ("self.l.isSorted()", False),
        ("self.l.sort() == ['a', 'b', 'b'] && self.l.distinct() == ['b', 'a']", True),
        ("[1, 2, 3].sum() == 6 && [3, 1].min() == 1 && self.l.indexOf('a') == 1", True),
        ("lists.range(3).reverse()", [2, 1, 0]),
        ("sets.contains(self.l, ['a']) && !sets.intersects(self.l, ['z']) && sets.equivalent([1, 1], [1])", True),
        ("'a,b,c'.split(',', 2)", ["a", "b,c"]),
        ("['a', 'b'].join('-') + 'xyz'.substring(1, 2) + 'AbC'.lowerAscii() + ' t '.trim()", "a-byabct"),
        ("'aXbX'.replace('X', 'y', 1)", "aybX"),
        ("'a1b22'.findAll('[0-9]+') == ['1', '22'] && 'abc'.find('z') == ''", True),
        ("'%s %d %.2f %x'.format(['a', 3, 2.5, 255])", "a 3 2.50 ff"),
        ("'%s'.format([[1, 'a', {'k': true}]])", '[1, "a", {"k":true}]'),
        ("quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1500m').asApproximateFloat() == 1.5", True),
        ("quantity('2').add(quantity('3')).compareTo(quantity('5')) == 0 && !isQuantity('1 Gi')", True),
        ("ip('10.0.0.1').family() == 4 && isIP('::1') && !isIP('1.2.3') && ip.isCanonical('::1')", True),
        ("cidr('10.0.0.0/8').containsIP('10.2.3.4') && cidr('10.0.0.0/8').prefixLength() == 8", True),
        ("url('https://a:80/b?c=d').getPort() == '80' && url('https://a/b?c=d').getQuery()['c'] == ['d']", True),
        ("format.dns1123Label().validate('Not_ok').hasValue() && !format.uuid().validate('x').hasValue()", False),
        ("semver('1.10.0').isGreaterThan(semver('1.9.0')) && semver('1.2.3').minor() == 2 && !isSemver('1.2')", True),
        ("duration('90m') == duration('1h30m') && duration('1h').getMinutes() == 60", True),
        ("timestamp('2024-02-29T12:00:00Z') + duration('24h') == timestamp('2024-03-01T12:00:00Z')", True),
        ("timestamp('2024-02-29T12:00:00Z').getDayOfWeek() == 4", True),
        ("optional.of(3).orValue(4) == 3 && optional.none().orValue(4) == 4 && self.?s.hasValue()", True),
        ("self.m[?'z'].orValue(9)", 9),
        ("type(self.n) == int && string(1.5) == '1.5' && int('7') == 7 && double('1') == 1.0", True),
        ("dyn(1) == 1.0 && dyn([1, 2]) == [1.0, 2.0] && dyn({'a': 1}) == {'a': 1.0}", True),
    ],
)
def test_an_expression_has_its_value(env: Environment, text: str, value: Any) -> None:
    assert env.compile(text).run({"self": SELF})[0] == value


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("1 / (self.n - 5) == 0", "division by zero"),
        ("9223372036854775807 + self.n == 0", "integer overflow"),
        ("self.m['z'] == 1", "no such key: z"),
        ("self.l[7] == ''", "index out of bounds: 7"),
        ("dyn(self.n) + 'a' == ''", "no such overload"),
        ("optional.none().value() == 1", "optional.none() dereference"),
    ],
)
def test_an_expression_without_a_value_says_why(env: Environment, text: str, error: str) -> None:
    with pytest.raises(CelError, match=f"^{error.replace('(', '.').replace(')', '.')}$"):
        env.compile(text).run({"self": SELF})


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("self.x == 1", "1:5: undefined field 'x'"),
        ("self.n == 'a'", "1:8: found no matching overload for '_==_' applied to '(int, string)'"),
        ("self.s.foo()", "1:11: undeclared reference to 'foo' (in container '')"),
        ("other == 1", "1:1: undeclared reference to 'other' (in container '')"),
        ("self.n ==", "1:10: Syntax error: mismatched input '<EOF>' expecting"),
        ("self.s.matches('[')", "1:16: invalid matches argument"),
        ("duration('x') == duration('1s')", "1:10: invalid duration argument"),
    ],
)
def test_what_does_not_compile_is_told_as_upstream_tells_it(env: Environment, text: str, error: str) -> None:
    with pytest.raises(CompileError) as caught:
        env.compile(text)
    assert str(caught.value).startswith(f"ERROR: <input>:{error}")
    assert text in str(caught.value)


def test_an_optional_old_value_is_type_checked() -> None:
    env = Environment()
    env.declare("self", OBJECT)
    env.declare("oldSelf", OBJECT, optional=True)
    assert env.compile("oldSelf.hasValue() ? self.n >= oldSelf.value().n : true").result == "bool"
    with pytest.raises(CompileError, match="optional_type"):
        env.compile("oldSelf.n == 1")
    with pytest.raises(CompileError, match="undefined field 'x'"):
        env.compile("oldSelf.value().x == 1")


def test_an_expression_that_costs_too_much_is_stopped(env: Environment) -> None:
    program = env.compile("self.l.all(x, self.l.all(y, self.l.all(z, x + y + z != '')))")
    long = {"self": SELF | {"l": ["x"] * 200}}
    with pytest.raises(CostExceeded):
        program.run(long)
    assert program.run({"self": SELF})[1] < 1000


def test_no_run_costs_more_than_was_estimated(env: Environment) -> None:
    most = SELF | {"l": ["x" * 25] * 10, "s": "s" * 25}
    for text in (
        "self.l.all(x, x.contains('abc') || x.startsWith(self.s) || x.size() > 3)",
        "self.l.map(x, x + self.s).filter(x, x.size() > 1).all(x, x.matches('^[a-z]+$'))",
        "self.m.all(k, self.m[k] > 0) && self.l.exists(x, x == self.s) && self.s in self.l",
    ):
        program = env.compile(text)
        assert 0 < program.run({"self": most})[1] <= estimate.most(program.tree, OBJECT)


@pytest.mark.parametrize(
    ("name", "escaped"),
    [
        ("plain", "plain"),
        ("a-b", "a__dash__b"),
        ("a.b/c", "a__dot__b__slash__c"),
        ("a__b", "a__underscores__b"),
        ("namespace", "__namespace__"),
        ("9a", None),
        ("ä", None),
    ],
)
def test_names_of_fields_are_escaped(name: str, escaped: str | None) -> None:
    assert escape(name) == escaped
