"""The rules of a definition judged when it is written: do they compile, and what may they cost.

Source: k8s.io/apiextensions-apiserver pkg/apis/apiextensions/validation (texts, limits).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from apiserver.cel import estimate
from apiserver.cel.declared import MAX_REQUEST_B, Declared, declared
from apiserver.cel.environment import CompileError, Environment, InstantiationError, Program
from apiserver.cel.ranges import MAX
from apiserver.cel.rules import environments
from apiserver.custom.checks_schema import shown_rule
from apiserver.custom.structural import Node
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from kubarium.machinery.errors import StatusCause

LIMIT: Final = 10_000_000  # of one expression
TOTAL_LIMIT: Final = 100_000_000  # of all expressions of a schema
_SHOWN: Final = 4  # of the most expensive ones


@dataclass(slots=True)
class Total:
    """What all rules of a schema may cost together; `parts` are those of more than a hundredth of the limit."""

    cost: int = 0
    parts: list[tuple[int, str]] = field(default_factory=list)

    def add(self, cost: int, path: str) -> None:
        self.cost = min(MAX, self.cost + cost)
        if cost >= TOTAL_LIMIT // 100:
            self.parts.append((cost, path))


@dataclass(frozen=True, slots=True)
class RuleChecks:
    """One node of a schema on the way down, as far as its rules can be compiled."""

    node: Node | None
    whole: bool  # objects with a kind
    many: int | None  # values of the node that an object can have, None where there is no limit
    lenient: bool  # one rule may cost more than the limit: the schema is as it was
    total: Total

    @staticmethod
    def of(node: Node, *, lenient: bool) -> RuleChecks:
        return RuleChecks(node, True, 1, lenient, Total())

    def _below(self, node: Node | None) -> RuleChecks:
        many = None
        if self.many is not None and self.node is not None and (factor := _most(self.node)) is not None:
            many = min(MAX, self.many * factor)
        return RuleChecks(node, node is not None and node.embedded, many, self.lenient, self.total)

    def property(self, name: str, _: Object) -> RuleChecks | None:
        return self._below(self.node.properties.get(name) if self.node else None)

    def items(self, _: Object) -> RuleChecks | None:
        return self._below(self.node.items if self.node else None)

    def additional(self, _: Object) -> RuleChecks | None:
        return self._below(self.node.additional if self.node else None)

    def check(self, schema: Object, path: str, old_forbidden: str | None, faults: Faults) -> None:
        type_ = None if self.node is None else declared(self.node, root=self.whole)
        if type_ is None:
            text = "internal error: failed to retrieve type information for x-kubernetes-validations"
            faults.append(StatusCause("InternalError", f"Internal error: {text}", f"{path}.x-kubernetes-validations"))
            return
        plain, optional = environments(type_)
        for i, rule in enumerate(schema["x-kubernetes-validations"]):
            at = f"{path}.x-kubernetes-validations[{i}]"
            env = optional if rule.get("optionalOldSelf") else plain
            program = self._rule(env, rule, type_, at, faults)
            uses_old = program is not None and "oldSelf" in program.names
            if uses_old and old_forbidden is not None:
                text = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {old_forbidden}"
                faults.invalid(f"{at}.rule", rule["rule"], text)
            elif not uses_old and rule.get("optionalOldSelf") is not None:
                text = "may not be set if oldSelf is not used in rule"
                faults.invalid(f"{at}.optionalOldSelf", rule["optionalOldSelf"], text)

    def _rule(self, env: Environment, rule: Object, type_: Declared, path: str, faults: Faults) -> Program | None:
        """A rule and its message, and what they cost."""
        program = self._compiled(env, rule, "rule", "bool", path, faults)
        if program is None:
            return None
        many = MAX_REQUEST_B // (type_.min_size + 1) if self.many is None else self.many
        cost = min(MAX, estimate.most(program.tree, type_) * many)
        self._spend("rule", cost, f"{path}.rule", faults)
        if rule.get("messageExpression"):
            message = self._compiled(env, rule, "messageExpression", "string", path, faults)
            if message is not None:
                cost = estimate.most(message.tree, type_)
                self._spend("messageExpression", cost, f"{path}.messageExpression", faults)
        return program

    def _spend(self, what: str, cost: int, path: str, faults: Faults) -> None:
        if cost > LIMIT and not self.lenient:
            faults.forbidden(path, _exceeded(f"estimated {what} cost", cost, LIMIT))
        self.total.add(cost, path)

    def _compiled(
        self, env: Environment, rule: Object, key: str, wanted: str, path: str, faults: Faults
    ) -> Program | None:
        about = "" if key == "rule" else "messageExpression "
        try:
            program: Program = env.compile(rule[key])
        except InstantiationError as err:
            what = "program" if key == "rule" else "messageExpression"
            faults.invalid(f"{path}.{key}", shown_rule(rule), f"{what} instantiation failed: {err}")
            return None
        except CompileError as err:
            faults.invalid(f"{path}.{key}", shown_rule(rule), f"{about}compilation failed: {err}")
            return None
        if program.result != wanted and (program.is_typed or program.result != "dyn"):
            text = "cel expression must evaluate to a bool" if key == "rule" else f"{about}must evaluate to a string"
            faults.invalid(f"{path}.{key}", shown_rule(rule), text)
            return None
        return program

    def check_total(self, path: str, faults: Faults) -> None:
        """Costs of all rules together."""
        if self.total.cost <= TOTAL_LIMIT:
            return
        text = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"
        for _, at in sorted(self.total.parts, key=lambda part: -part[0])[:_SHOWN]:
            faults.forbidden(at, text)
        what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema"
        faults.forbidden(path, _exceeded(what, self.total.cost, TOTAL_LIMIT))


def _most(node: Node) -> int | None:
    """How many values of the nodes below one value of this node can have; None where there is no limit."""
    key = {"array": "maxItems", "object": "maxProperties"}.get(node.type)
    if key is None or (node.type == "object" and not node.has_additional):
        return 1
    limit = node.wire.get(key)
    return None if limit is None else max(0, limit)


def _exceeded(what: str, cost: int, limit: int) -> str:
    factor = cost / limit
    shown = "more than 100x" if factor > 100 else f"{factor:f}x" if factor < 1.5 else f"{factor:.1f}x"
    return (
        f"{what} exceeds budget by factor of {shown} (try simplifying the rule, or adding maxItems, maxProperties, and "
        "maxLength where arrays, maps, and strings are declared)"
    )
