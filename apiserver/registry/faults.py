"""What validation finds: causes with upstream's texts, collected in upstream's order.

Source: k8s.io/apimachinery/pkg/util/validation/field (the forms of the texts).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from apiserver.schemas import internal
from kubarium.machinery.errors import StatusCause

if TYPE_CHECKING:
    from apiserver.schemas import shape

_QUOTED = {7: "\\a", 8: "\\b", 9: "\\t", 10: "\\n", 11: "\\v", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


class Printed(str):
    """A value in the form in which a field error shows it."""

    __slots__ = ()


def inner(type_name: str, value: Any) -> Printed:
    """A value of a type that upstream shows as its own, unversioned type prints itself (`core.v1.PodTemplateSpec`)."""
    return Printed(internal.text(type_name, value))


def quoted(text: str) -> str:
    """A string as Go's %q has it."""
    if text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join(map(_quoted, text)) + '"'


def _quoted(char: str) -> str:
    code = ord(char)
    if known := _QUOTED.get(code):
        return known
    if char.isprintable():
        return char
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def go_value(value: Any) -> str:
    """A value as field errors print it: strings quoted, numbers bare, everything else as compact JSON."""
    if isinstance(value, Printed):
        return str(value)
    return quoted(value) if isinstance(value, str) else internal.dumps(value)


class Faults(list[StatusCause]):
    """A list of causes with one method a kind of fault. Paths are such as `spec.ports[0].port`.

    `warnings`: what is told without being a fault.
    """

    warnings: Sequence[str] = ()

    def _add(self, reason: str, message: str, path: str) -> None:
        self.append(StatusCause(reason, message, path))

    def required(self, path: str, detail: str = "") -> None:
        self._add("FieldValueRequired", f"Required value: {detail}" if detail else "Required value", path)

    def invalid(self, path: str, value: Any, detail: str) -> None:
        text = f"Invalid value: {go_value(value)}"
        self._add("FieldValueInvalid", f"{text}: {detail}" if detail else text, path)

    def wrong(self, path: str, detail: str) -> None:
        """An `invalid` that does not show the value."""
        self._add("FieldValueInvalid", f"Invalid value: {detail}", path)

    def each(self, path: str, value: Any, details: Iterable[str]) -> None:
        """One `invalid` for each text that a check of the value gave."""
        for detail in details:
            self.invalid(path, value, detail)

    def unsupported(self, path: str, value: Any, supported: Iterable[str]) -> None:
        """`supported` is printed in the order given: upstream sorts it in most places, but not in all."""
        allowed = ", ".join(go_value(s) for s in supported)
        text = f"Unsupported value: {go_value(value)}"
        self._add("FieldValueNotSupported", f"{text}: supported values: {allowed}" if allowed else text, path)

    def duplicate(self, path: str, value: Any, detail: str = "") -> None:
        text = f"Duplicate value: {go_value(value)}"
        self._add("FieldValueDuplicate", f"{text}: {detail}" if detail else text, path)

    def forbidden(self, path: str, detail: str) -> None:
        self._add("FieldValueForbidden", f"Forbidden: {detail}", path)

    def not_found(self, path: str, value: Any, detail: str = "") -> None:
        text = f"Not found: {go_value(value)}"
        self._add("FieldValueNotFound", f"{text}: {detail}" if detail else text, path)

    def too_long(self, path: str, limit: int) -> None:
        self._add("FieldValueTooLong", f"Too long: may not be more than {limit} bytes", path)

    def too_many(self, path: str, actual: int, limit: int) -> None:
        self._add("FieldValueTooMany", f"Too many: {actual}: must have at most {limit} items", path)

    def internal(self, path: str, detail: str) -> None:
        self._add("InternalError", f"Internal error: {detail}", path)


def shown_as_sent(causes: Sequence[StatusCause], empty: Sequence[shape.Empty]) -> Sequence[StatusCause]:
    """The causes, with null as the empty list or map that the client sent at that place."""
    if not empty:
        return causes
    values = {one.path: one.value for one in empty}
    if (rules := values.get("spec.rules")) is not None:
        values["spec"] = rules  # an Ingress
    return [_as_sent(cause, values) for cause in causes]


def _as_sent(cause: StatusCause, values: Mapping[str, object]) -> StatusCause:
    head, found, tail = cause.message.partition(" value: null")
    if not found or head not in ("Invalid", "Unsupported", "Duplicate") or cause.field not in values:
        return cause
    return cause._replace(message=f"{head} value: {internal.dumps(values[cause.field])}{tail}")
