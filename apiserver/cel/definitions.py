"""The rules of a definition judged when it is written: do they compile, and what may they cost.

Source: k8s.io/apiextensions-apiserver pkg/apis/apiextensions/validation (texts, limits).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from apiserver.cel.declared import Declared, declared
from apiserver.cel.environment import CompileError, Program
from apiserver.cel.rules import environments
from apiserver.custom.checks_schema import shown_rule
from apiserver.custom.structural import Node
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from kubarium.machinery.errors import StatusCause


@dataclass(slots=True)
class Total:
    """What all rules of a schema may cost together."""

    cost: int = 0
    parts: list[tuple[str, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class RuleChecks:
    """One node of a schema on the way down, as far as its rules can be compiled."""

    node: Node | None
    type: Declared | None
    known: frozenset[str]  # expressions that were there before
    total: Total

    @staticmethod
    def of(node: Node, known: frozenset[str]) -> RuleChecks:
        return RuleChecks(node, declared(node, root=True), known, Total())

    def _below(self, node: Node | None) -> RuleChecks | None:
        if node is None:
            return None
        return RuleChecks(node, declared(node, root=node.embedded), self.known, self.total)

    def property(self, name: str, _: Object) -> RuleChecks | None:
        return self._below(self.node.properties.get(name) if self.node else None)

    def items(self, _: Object) -> RuleChecks | None:
        return self._below(self.node.items if self.node else None)

    def additional(self, _: Object) -> RuleChecks | None:
        return self._below(self.node.additional if self.node else None)

    def check(self, schema: Object, path: str, old_forbidden: str | None, faults: Faults) -> None:
        if self.type is None:
            text = "internal error: failed to retrieve type information for x-kubernetes-validations"
            faults.append(StatusCause("InternalError", f"Internal error: {text}", f"{path}.x-kubernetes-validations"))
            return
        plain, optional = environments(self.type)
        for i, rule in enumerate(schema["x-kubernetes-validations"]):
            at = f"{path}.x-kubernetes-validations[{i}]"
            env = optional if rule.get("optionalOldSelf") else plain
            program = self._compiled(env, rule, "rule", "bool", at, faults)
            if program is not None and rule.get("messageExpression"):
                self._compiled(env, rule, "messageExpression", "string", at, faults)
            uses_old = program is not None and "oldSelf" in program.names
            if uses_old and old_forbidden is not None:
                text = f"oldSelf cannot be used on the uncorrelatable portion of the schema within {old_forbidden}"
                faults.invalid(f"{at}.rule", rule["rule"], text)
            elif not uses_old and rule.get("optionalOldSelf") is not None:
                text = "may not be set if oldSelf is not used in rule"
                faults.invalid(f"{at}.optionalOldSelf", rule["optionalOldSelf"], text)

    def _compiled(self, env: Any, rule: Object, key: str, wanted: str, path: str, faults: Faults) -> Program | None:
        about = "" if key == "rule" else "messageExpression "
        try:
            program: Program = env.compile(rule[key])
        except CompileError as err:
            faults.invalid(f"{path}.{key}", shown_rule(rule), f"{about}compilation failed: {err}")
            return None
        if program.result not in (wanted, "dyn" if not program.tree.types else wanted):
            text = "cel expression must evaluate to a bool" if key == "rule" else f"{about}must evaluate to a string"
            faults.invalid(f"{path}.{key}", shown_rule(rule), text)
            return None
        return program

    def check_total(self, path: str, faults: Faults) -> None:
        """Costs of all rules together."""
