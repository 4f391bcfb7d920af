"""Kind, apiVersion and metadata of custom objects, and of whole objects embedded in them.

Metadata is read as the type that it has everywhere: unknown fields go, empty ones too, wrong types are refused (or, of
what is already stored, dropped).
Source: Kubernetes documentation, "RawExtension" (x-kubernetes-embedded-resource); API conventions, "Metadata".
"""

from __future__ import annotations

from typing import Any

from apiserver.custom.structural import Node
from apiserver.registry import meta, names
from apiserver.registry.faults import Faults
from apiserver.schemas import shape

_TYPE = "meta.v1.ObjectMeta"
_GO_TYPE = "v1.ObjectMeta"


class BadMetadata(ValueError):
    """Metadata of a wrong type, in the words of Go's decoder."""


def read_metadata(value: Any, path: str, unknown: list[str] | None, *, lenient: bool = False) -> dict[str, Any]:
    """Metadata in written form. Unknown fields are appended to `unknown`; `lenient` drops fields of a wrong type.

    Raises BadMetadata.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        if lenient:
            return {}
        raise BadMetadata(f"json: cannot unmarshal {shape.json_kind(value)} into Go value of type {_GO_TYPE}")
    report = shape.Report()
    found = shape.struct(_TYPE).convert(value, "", report)
    if report.error and not lenient:
        raise BadMetadata(report.error)
    if report.error:
        found = {}
        for key, item in value.items():
            one = shape.Report()
            part = shape.struct(_TYPE).convert({key: item}, "", one)
            if not one.error:
                found |= part
    if unknown is not None:
        unknown.extend(f"{path}.{name}" for name in report.unknown)
    return found


def coerce(value: Any, node: Node | None, path: str, unknown: list[str], *, lenient: bool = False) -> None:
    """Metadata of embedded objects, in place. Raises BadMetadata as `path: Invalid value: ...` would have it."""
    if node is None:
        return
    if isinstance(value, dict):
        for key in list(value):
            inner = f"{path}.{key}" if path else key
            if node.embedded and key in ("apiVersion", "kind") and not isinstance(value[key], str):
                if not lenient:
                    raise BadEmbedded(inner, value[key], "must be a string")
                del value[key]
                continue
            if node.embedded and key == "metadata":
                try:
                    value[key] = read_metadata(value[key], inner, unknown, lenient=lenient)
                except BadMetadata as err:
                    raise BadEmbedded(inner, value[key], str(err)) from err
            if (field := node.child(key)) is not None:
                coerce(value[key], field, inner, unknown, lenient=lenient)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            coerce(item, node.items, f"{path}[{i}]", unknown, lenient=lenient)


class BadEmbedded(ValueError):
    """An embedded object that is none."""

    def __init__(self, path: str, value: Any, detail: str) -> None:
        faults = Faults()
        faults.invalid(path, value, detail)
        super().__init__(f"{path}: {faults[0].message}")
        self.cause = faults[0]


def check(value: Any, node: Node | None, path: str, faults: Faults) -> None:
    """Kind, apiVersion and metadata of every embedded object."""
    if node is None:
        return
    if isinstance(value, dict):
        if node.embedded:
            _check_object(value, path, faults)
        for key, item in value.items():
            if (field := node.properties.get(key)) is not None:
                check(item, field, f"{path}.{key}" if path else key, faults)
            elif node.additional is not None:
                check(item, node.additional, f"{path}[{key}]", faults)
    elif isinstance(value, list):
        for i, item in enumerate(value):
            check(item, node.items, f"{path}[{i}]", faults)


def _check_object(value: dict[str, Any], path: str, faults: Faults) -> None:
    prefix = f"{path}." if path else ""
    for key in ("apiVersion", "kind"):
        if key not in value:
            faults.required(prefix + key)
    if "apiVersion" in value:
        _check_version(value["apiVersion"], f"{prefix}apiVersion", faults)
    if "kind" in value:
        _check_kind(value["kind"], f"{prefix}kind", faults)
    if "metadata" in value:
        try:
            found = read_metadata(value["metadata"], f"{prefix}metadata", None)
        except BadMetadata as err:
            faults.invalid(f"{prefix}metadata", value["metadata"], str(err))
            return
        own = Faults()
        namespaced = bool(found.get("namespace"))
        meta.check_accessor({"name": "fakename", **found}, namespaced, names.path_segment_name, own)
        faults.extend(type(cause)(cause.reason, cause.message, prefix + cause.field) for cause in own)


def _check_version(version: Any, path: str, faults: Faults) -> None:
    if not isinstance(version, str):
        faults.invalid(path, version, "must be a string")
    elif not version:
        faults.invalid(path, version, "must not be empty")
    elif version.count("/") > 1:
        faults.invalid(path, version, f"unexpected GroupVersion string: {version}")


def _check_kind(kind: Any, path: str, faults: Faults) -> None:
    if not isinstance(kind, str):
        faults.invalid(path, kind, "must be a string")
    elif not kind:
        faults.invalid(path, kind, "must not be empty")
    elif texts := names.dns1035_label(kind.lower()):
        faults.invalid(path, kind, f"may have mixed case, but should otherwise match: {','.join(texts)}")
