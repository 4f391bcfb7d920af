"""The scale subresource of custom kinds: where an object has its replicas and its selector.

Source: Kubernetes documentation, "Scale subresource"; k8s.io/apiextensions-apiserver pkg/registry/customresource.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from apiserver.registry.base import Object
from apiserver.registry.faults import Faults, go_value
from kubarium.machinery.errors import InternalError

_INT32 = (1 << 31) - 1
_GO_TYPES = {str: "string", bool: "bool", float: "float64", list: "[]interface {}", dict: "map[string]interface {}"}


class BadScale(ValueError):
    """A value on the way to the replicas that is of another type."""


@dataclass(frozen=True, slots=True)
class ScalePaths:
    """Dotted paths such as `.spec.replicas`; `selector` is "" where there is none."""

    spec: str
    status: str
    selector: str = ""

    def scale_of(self, obj: Object) -> tuple[int | None, int, str]:
        """Replicas asked for (None: not set), replicas there are, and the selector. Raises InternalError."""
        try:
            asked = nested(obj, self.spec, int)
            status = nested(obj, self.status, int)
            selector = nested(obj, self.selector, str) if self.selector else ""
        except BadScale as err:
            raise InternalError(str(err)) from err
        return asked, status or 0, selector or ""

    def is_set(self, obj: Object) -> bool:
        return nested(obj, self.spec, int) is not None

    def set_replicas(self, obj: Object, replicas: int) -> None:
        steps = self.spec.removeprefix(".").split(".")
        for step in steps[:-1]:
            obj = obj.setdefault(step, {})
        obj[steps[-1]] = replicas

    def config(self, replicas: int) -> Object:
        """An object that says no more than how many replicas there shall be."""
        out: Object = {}
        self.set_replicas(out, replicas)
        return out

    def check(self, obj: Object, faults: Faults, *, status_only: bool = False) -> None:
        if not status_only:
            _check_replicas(obj, self.spec, faults)
        _check_replicas(obj, self.status, faults)
        if self.selector:
            try:
                nested(obj, self.selector, str)
            except BadScale as err:
                faults.invalid(self.selector, "", str(err))


def _check_replicas(obj: Object, path: str, faults: Faults) -> None:
    try:
        found = nested(obj, path, int) or 0
    except BadScale as err:
        faults.invalid(path, 0, str(err))
        return
    if found < 0:
        faults.invalid(path, found, "should be a non-negative integer")
    elif found > _INT32:
        faults.invalid(path, found, f"should be less than or equal to {_INT32}")


def nested(obj: Any, path: str, wanted: type) -> Any:
    """The value at a dotted path, None where there is none. Raises BadScale."""
    steps = path.removeprefix(".").split(".")
    value = obj
    for step in steps:
        if value is None:
            return None
        if not isinstance(value, dict):
            raise BadScale(
                f".{'.'.join(steps)} accessor error: {_printed(value)} is of the type {go_type(value)}, "
                "expected map[string]interface{}"
            )
        if step not in value:
            return None
        value = value[step]
    if isinstance(value, bool) or not isinstance(value, wanted):
        name = "int64" if wanted is int else "string"
        raise BadScale(
            f".{'.'.join(steps)} accessor error: {_printed(value)} is of the type {go_type(value)}, expected {name}"
        )
    return value


def go_type(value: Any) -> str:
    return "int64" if type(value) is int else _GO_TYPES.get(type(value), "<nil>")


def _printed(value: Any) -> str:
    if isinstance(value, str):
        return value
    from apiserver.strategic import go_text

    return go_text(value) if isinstance(value, dict | list) else "<nil>" if value is None else go_value(value)
