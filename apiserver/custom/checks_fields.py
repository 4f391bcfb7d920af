"""What a definition says about fields of its objects: where replicas are, what is printed, what can be selected.

Source: k8s.io/apiextensions-apiserver pkg/apis/apiextensions/validation (order and texts).
"""

from __future__ import annotations

from apiserver.custom import fieldpaths
from apiserver.custom.structural import NotStructural, structural
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults

COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
COLUMN_FORMATS = ("byte", "date", "date-time", "double", "float", "int32", "int64", "password")
MAX_SELECTABLE = 8
_NOT_SELECTABLE = (
    "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed."
)


def check_subresources(wanted: Object | None, path: str, faults: Faults) -> None:
    scale = (wanted or {}).get("scale")
    if scale is None:
        return
    for key, head in (("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")):
        value, at = scale.get(key) or "", f"{path}.scale.{key}"
        if not value:
            faults.required(at)
        elif not _check_path(value, at, faults) and not value.startswith(head):
            faults.invalid(at, value, f"should be a json path under {head[:-1]}")
    value, at = scale.get("labelSelectorPath") or "", f"{path}.scale.labelSelectorPath"
    if value and not _check_path(value, at, faults) and not value.startswith((".spec.", ".status.")):
        faults.invalid(at, value, "should be a json path under either .spec or .status")


def _check_path(value: str, path: str, faults: Faults) -> bool:
    """True where it is bad."""
    if not value.startswith("."):
        faults.invalid(path, value, "must be a simple json path starting with .")
        return True
    return False


def check_columns(columns: list[Object] | None, path: str, faults: Faults) -> None:
    for i, column in enumerate(columns or ()):
        at = f"{path}[{i}]"
        if not column.get("name"):
            faults.required(f"{at}.name")
        type_, format_, json_path = (column.get(key) or "" for key in ("type", "format", "jsonPath"))
        text = f"must be one of {','.join(COLUMN_TYPES)}"
        if not type_:
            faults.required(f"{at}.type", text)
        elif type_ not in COLUMN_TYPES:
            faults.invalid(f"{at}.type", type_, text)
        if format_ and format_ not in COLUMN_FORMATS:
            faults.invalid(f"{at}.format", format_, f"must be one of {','.join(COLUMN_FORMATS)}")
        if not json_path:
            faults.required(f"{at}.JSONPath")
        else:
            _check_path(json_path, f"{at}.JSONPath", faults)


def check_selectable(fields: list[Object], schema: Object | None, path: str, faults: Faults) -> None:
    if schema is None:
        faults.invalid(path, "", "may only be set when validations.schema is included")
        return
    try:
        node = structural(schema)
    except NotStructural:
        return
    seen: set[str] = set()
    for i, field in enumerate(fields):
        at, wanted = f"{path}[{i}].jsonPath", field.get("jsonPath") or ""
        if not wanted:
            faults.required(at)
            continue
        try:
            text, found, first = fieldpaths.resolve(wanted, node, brackets=False)
        except fieldpaths.BadFieldPath as err:
            faults.invalid(at, wanted, f"is an invalid path: {err}")
            continue
        if first == "metadata":
            faults.invalid(at, wanted, "must not point to fields in metadata")
        if found is None or found.type not in ("string", "boolean", "integer"):
            faults.invalid(at, wanted, _NOT_SELECTABLE)
        if text in seen:
            faults.duplicate(at, wanted)
        seen.add(text)
    if len(seen) > MAX_SELECTABLE:
        faults.too_many(path, len(seen), MAX_SELECTABLE)
