"""CEL expressions of webhooks and admission policies: which variables each may use, and what it must yield.

Source: k8s.io/apiserver/pkg/admission/plugin/cel, Kubernetes documentation "Validating Admission Policy".
"""

from __future__ import annotations

from dataclasses import dataclass

from apiserver.registry.faults import Faults


@dataclass(frozen=True, slots=True)
class Expressions:
    """The checks of one policy's or webhook's expressions; `with_params`: there is a variable `params`."""

    with_params: bool = False

    def condition(self, expression: str, path: str, faults: Faults) -> None:
        """A match condition: yields a bool."""

    def variable(self, name: str, expression: str, path: str, faults: Faults) -> None:
        """A variable, which later expressions may use as `variables.NAME`."""

    def validation(self, expression: str, path: str, faults: Faults) -> None:
        """Yields a bool."""

    def message(self, expression: str, path: str, faults: Faults) -> None:
        """Yields a string."""

    def annotation(self, expression: str, path: str, faults: Faults) -> None:
        """Yields a string, or null."""

    def mutation(self, kind: str, expression: str, path: str, faults: Faults) -> None:
        """Of `kind` ApplyConfiguration: yields an object; of JSONPatch: a list of patches."""
