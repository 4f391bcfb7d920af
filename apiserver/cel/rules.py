"""The rules of a schema (x-kubernetes-validations) applied to objects.

Source: Kubernetes documentation, "Validation rules"; k8s.io/apiextensions-apiserver pkg/apiserver/schema/cel (order,
texts, budgets).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apiserver.cel.declared import Declared, declared
from apiserver.cel.environment import CompileError, Environment, InstantiationError, Program
from apiserver.cel.objects import to_value
from apiserver.cel.values import NONE, CelError, CostExceeded, Maybe
from apiserver.custom import fieldpaths
from apiserver.custom.lists import by_keys, key_of
from apiserver.custom.ratchet import Correlated
from apiserver.custom.structural import Node, structural
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from kubarium.machinery.errors import StatusCause

BUDGET = 10_000_000
MAX_MESSAGE_B = 5 * 1024
_REASONS = ("FieldValueForbidden", "FieldValueRequired", "FieldValueDuplicate")


class Spent(Exception):
    """The budget of one object is gone: no further rule is looked at."""


class Rule:
    """One rule, compiled. `fault` says why it could not be."""

    __slots__ = ("fault", "message", "path", "program", "uses_old", "wire")

    def __init__(self, wire: Object, plain: Environment, optional: Environment, node: Node) -> None:
        self.wire = wire
        self.fault = ""
        self.program: Program | None = None
        self.message: Program | None = None
        env = optional if wire.get("optionalOldSelf") else plain
        try:
            if (wire.get("rule") or "").strip():
                self.program = env.compile(wire["rule"])
            if wire.get("messageExpression"):
                self.message = env.compile(wire["messageExpression"])
        except CompileError as err:
            what = "program instantiation" if isinstance(err, InstantiationError) else "compilation"
            self.fault = f"{what} failed: {err}"
        self.uses_old = self.program is not None and "oldSelf" in self.program.names
        self.path = ""
        if wire.get("fieldPath"):
            try:
                self.path = fieldpaths.resolve(wire["fieldPath"], node)[0]
            except fieldpaths.BadFieldPath:
                self.path = ""

    @property
    def text(self) -> str:
        return str((self.wire.get("message") or self.wire.get("rule") or "").strip())

    @property
    def detail(self) -> str:
        """What is told where no message expression says it."""
        return self.wire["message"].strip() if self.wire.get("message") else f"failed rule: {self.text}"


class _Check:
    """One object on its way through the rules."""

    __slots__ = ("budget", "faults", "warnings")

    def __init__(self, faults: Faults, warnings: list[str]) -> None:
        self.faults = faults
        self.warnings = warnings
        self.budget = BUDGET

    def spend(self, cost: int) -> None:
        self.budget -= cost


class Rules:
    """All rules of a schema. `root`: the schema is that of a whole object."""

    __slots__ = ("_all", "_compiled", "_declared", "_inner", "_node", "_root", "_wire")

    def __init__(
        self, node: Node, *, root: bool = True, wire: Object | None = None, type_: Declared | None = None
    ) -> None:
        self._node = node
        self._wire = node.wire if wire is None else wire
        self._root = root
        self._declared = type_ if type_ is not None else declared(node, root=root)
        self._compiled: list[Rule] | None = None
        self._inner: dict[str, Rules | None] = {}
        self._all = [Rules(node, root=root, wire=inner) for inner in self._wire.get("allOf") or ()]

    def _child(self, key: str, node: Node | None, wire: Any) -> Rules | None:
        """The rules below, where there are any."""
        if key not in self._inner:
            has = node is not None and isinstance(wire, dict) and _has_rules(wire)
            self._inner[key] = Rules(node, root=node.embedded, wire=wire) if has and node is not None else None
        return self._inner[key]

    @property
    def _rules(self) -> list[Rule]:
        if self._compiled is None:
            wires = self._wire.get("x-kubernetes-validations") or ()
            self._compiled = []
            if wires and self._declared is not None:
                plain, optional = environments(self._declared)
                self._compiled = [Rule(wire, plain, optional, self._node) for wire in wires]
        return self._compiled

    def check(
        self,
        obj: Any,
        old: Any,
        correlated: Correlated | None,
        faults: Faults,
        warnings: list[str],
        *,
        path: str = "",
    ) -> None:
        """Add what rules find. `old` None: there is no old object. Faults in what has not changed become warnings."""
        try:
            self._check(obj, old, path, (correlated, None), _Check(faults, warnings))
        except Spent:
            return

    def _check(
        self, obj: Any, old: Any, path: str, where: tuple[Correlated | None, Correlated | None], check: _Check
    ) -> None:
        """`where`: the value with its old one, and the nearest above that has one."""
        if obj is None:
            return
        if isinstance(obj, dict):
            old = old if isinstance(old, dict) else None
        elif isinstance(obj, list):
            old = old if isinstance(old, list) else None
        self._check_own(obj, old, path, where, check)
        for rules in self._all:
            rules._check(obj, old, path, where, check)
        if isinstance(obj, dict):
            self._check_map(obj, old, path, where, check)
        elif isinstance(obj, list):
            self._check_list(obj, old, path, where, check)

    def _check_map(
        self,
        obj: Mapping[str, Any],
        old: Any,
        path: str,
        where: tuple[Correlated | None, Correlated | None],
        check: _Check,
    ) -> None:
        before: Mapping[str, Any] = old or {}
        node, properties = self._node, self._wire.get("properties") or {}
        additional = self._wire.get("additionalProperties")
        if (rules := self._child("{}", node.additional, additional)) is not None:
            for key, value in obj.items():
                rules._check(value, before.get(key), f"{path}[{key}]", _below(where, key), check)
        for key, value in obj.items():
            if (rules := self._child(f".{key}", node.properties.get(key), properties.get(key))) is not None:
                inner = f"{path}.{key}" if path else key
                rules._check(value, before.get(key), inner, _below(where, key), check)

    def _check_list(
        self, obj: list[Any], old: Any, path: str, where: tuple[Correlated | None, Correlated | None], check: _Check
    ) -> None:
        rules = self._child("[]", self._node.items, self._wire.get("items"))
        if rules is None:
            return
        node = self._node
        before = by_keys(old, node.list_keys) if node.list_type == "map" else {}
        for i, item in enumerate(obj):
            label = key_of(item, node.list_keys)
            rules._check(item, before.get(label or b""), f"{path}[{i}]", _item(where, i), check)

    # -- the rules of one value ----------------------------------------------------------------------------------------

    def _check_own(
        self, obj: Any, old: Any, path: str, where: tuple[Correlated | None, Correlated | None], check: _Check
    ) -> None:
        if not self._rules:
            return
        at, type_ = path or "<nil>", self._node.type
        if check.budget <= 0:
            text = "validation failed due to running out of cost budget, no further validation rules will be run"
            check.faults.invalid(at, type_, text)
            raise Spent
        value = to_value(obj, self._node, root=self._root)
        before = None if old is None else to_value(old, self._node, root=self._root)
        for rule in self._rules:
            if rule.fault:
                check.faults.invalid(at, type_, f"rule compile error: {rule.fault}")
                continue
            optional = bool(rule.wire.get("optionalOldSelf"))
            if rule.program is None or (rule.uses_old and old is None and not optional):
                continue
            variables = {"self": value}
            if optional:
                variables["oldSelf"] = NONE if old is None else Maybe(before)
            elif old is not None:
                variables["oldSelf"] = before
            self._judge(rule, variables, obj, path, where, check)

    def _judge(
        self,
        rule: Rule,
        variables: Mapping[str, Any],
        obj: Any,
        path: str,
        where: tuple[Correlated | None, Correlated | None],
        check: _Check,
    ) -> None:
        assert rule.program is not None
        at, type_ = path or "<nil>", self._node.type
        over = "validation failed due to running out of cost budget, no further validation rules will be run"
        try:
            found, cost = rule.program.run(variables)
        except CostExceeded as err:
            text = (
                f"'{err}': no further validation rules will be run due to call cost exceeds limit for rule: {rule.text}"
            )
            check.faults.invalid(at, type_, text)
            raise Spent from err
        except CelError as err:
            check.spend(getattr(err, "cost", 0))
            if str(err).startswith("no such overload"):
                text = (
                    f"'{err}': call arguments did not match a supported operator, function or macro signature for rule"
                )
                check.faults.invalid(at, type_, f"{text}: {rule.text}")
            else:
                check.faults.invalid(at, type_, f"{err} evaluating rule: {rule.text}")
            return
        if cost > check.budget:
            check.faults.invalid(at, type_, over)
            raise Spent
        check.spend(cost)
        if found is True:
            return
        field = path
        if rule.path:
            field = f"{path}{'' if rule.path.startswith('[') or not path else '.'}{rule.path}"
        cause = self._cause(rule, self._message(rule, variables, field, check), obj, field)
        if not rule.uses_old and _unchanged(where):
            check.warnings.append(f"{cause.field}: {cause.message}")
        else:
            check.faults.append(cause)

    def _message(self, rule: Rule, variables: Mapping[str, Any], path: str, check: _Check) -> str:
        if rule.message is None:
            return rule.detail
        try:
            found, cost = rule.message.run(variables)
        except CostExceeded as err:
            text = "no further validation rules will be run due to call cost exceeds limit for messageExpression: "
            check.faults.invalid(path or "<nil>", self._node.type, f'{text}"{rule.wire["messageExpression"]}"')
            raise Spent from err
        except CelError as err:
            check.spend(getattr(err, "cost", 0))
            return rule.detail
        if cost > check.budget:
            text = (
                "messageExpression evaluation failed due to running out of cost budget, no further validation rules "
                "will be run"
            )
            check.faults.invalid(path or "<nil>", self._node.type, text)
            raise Spent
        check.spend(cost)
        text = found.strip() if isinstance(found, str) else ""
        return text if text and len(text.encode()) <= MAX_MESSAGE_B and "\n" not in text else rule.detail

    def _cause(self, rule: Rule, detail: str, obj: Any, path: str) -> StatusCause:
        faults, at = Faults(), path or "<nil>"
        reason = rule.wire.get("reason")
        compound = self._node.type in ("object", "array")
        if reason == "FieldValueForbidden":
            faults.forbidden(at, detail)
        elif reason == "FieldValueRequired":
            faults.required(at, detail)
        elif reason == "FieldValueDuplicate":
            if compound:
                return StatusCause(reason, "Duplicate value", at)
            faults.duplicate(at, obj)
        elif compound:
            return StatusCause("FieldValueInvalid", f"Invalid value: {detail}", at)
        else:
            faults.invalid(at, obj, detail)
        return faults[0]


def _below(where: tuple[Correlated | None, Correlated | None], key: str) -> tuple[Correlated | None, Correlated | None]:
    current, nearest = where
    if current is None:
        return where
    if nearest is None and key in ("apiVersion", "kind"):
        return (None, None)
    return (current.key(key), current)


def _item(where: tuple[Correlated | None, Correlated | None], i: int) -> tuple[Correlated | None, Correlated | None]:
    current, _ = where
    return where if current is None else (current.index(i), current)


def _unchanged(where: tuple[Correlated | None, Correlated | None]) -> bool:
    current, nearest = where
    if current is not None:
        return current.unchanged
    return nearest is not None and nearest.unchanged


def _has_rules(wire: Any) -> bool:
    if not isinstance(wire, dict):
        return False
    if wire.get("x-kubernetes-validations"):
        return True
    inner = [*(wire.get("properties") or {}).values(), wire.get("items"), wire.get("additionalProperties")]
    return any(map(_has_rules, [*inner, *(wire.get("allOf") or ())]))


def environments(type_: Declared) -> tuple[Environment, Environment]:
    """For rules that know the old value as it is, and for those that get it as an optional one."""
    plain, optional = Environment(), Environment()
    for env in (plain, optional):
        env.declare("self", type_)
        env.declare("oldSelf", type_, optional=env is optional)
    return plain, optional


def rules_of(schema: Object) -> Rules:
    """The rules of a schema as it is written."""
    return Rules(structural(schema))
