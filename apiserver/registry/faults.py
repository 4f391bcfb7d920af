"""What validation finds: causes with upstream's texts, collected in upstream's order.

Source: k8s.io/apimachinery/pkg/util/validation/field (the forms of the texts).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from kubarium.machinery.errors import StatusCause


def go_value(value: Any) -> str:
    """A value as field errors print it: strings quoted, numbers bare, everything else as compact JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class Faults(list[StatusCause]):
    """A list of causes with one method a kind of fault. Paths are such as `spec.ports[0].port`."""

    def _add(self, reason: str, message: str, path: str) -> None:
        self.append(StatusCause(reason, message, path))

    def required(self, path: str, detail: str = "") -> None:
        self._add("FieldValueRequired", f"Required value: {detail}" if detail else "Required value", path)

    def invalid(self, path: str, value: Any, detail: str) -> None:
        self._add("FieldValueInvalid", f"Invalid value: {go_value(value)}: {detail}", path)

    def each(self, path: str, value: Any, details: Iterable[str]) -> None:
        """One `invalid` for each text that a check of the value gave."""
        for detail in details:
            self.invalid(path, value, detail)

    def unsupported(self, path: str, value: Any, supported: Iterable[str]) -> None:
        """`supported` is printed in the order given: upstream sorts it in most places, but not in all."""
        allowed = ", ".join(go_value(s) for s in supported)
        text = f"Unsupported value: {go_value(value)}"
        self._add("FieldValueNotSupported", f"{text}: supported values: {allowed}" if allowed else text, path)

    def duplicate(self, path: str, value: Any) -> None:
        self._add("FieldValueDuplicate", f"Duplicate value: {go_value(value)}", path)

    def forbidden(self, path: str, detail: str) -> None:
        self._add("FieldValueForbidden", f"Forbidden: {detail}", path)

    def not_found(self, path: str, value: Any) -> None:
        self._add("FieldValueNotFound", f"Not found: {go_value(value)}", path)

    def too_long(self, path: str, limit: int) -> None:
        self._add("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", path)

    def too_many(self, path: str, actual: int, limit: int) -> None:
        self._add("FieldValueTooMany", f"Too many: {actual}: must have at most {limit} items", path)
