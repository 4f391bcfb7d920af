"""Whether a CustomResourceDefinition is valid, and what may not change in one.

What all versions have in common upstream moves out of `versions` before it looks: faults of it are told at
`spec.validation`, `spec.subresources` and so on.
Source: k8s.io/apiextensions-apiserver pkg/apis/apiextensions/validation (order and texts).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from apiserver.custom import conditions
from apiserver.custom.checks_conversion import check_conversion
from apiserver.custom.checks_defaults import check_defaults
from apiserver.custom.checks_fields import check_columns, check_selectable, check_subresources
from apiserver.custom.checks_schema import check_schema
from apiserver.custom.checks_structural import check_structural
from apiserver.custom.structural import NotStructural, nested, structural
from apiserver.registry import names
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults, inner

_SHARED = (
    ("subresources", "subresources"),
    ("schema", "validation"),
    ("additionalPrinterColumns", "additionalPrinterColumns"),
    ("selectableFields", "selectableFields"),
)
# Keywords at the root of a schema of a kind with a status, in Go's order of the fields.
_ROOT_KEYWORDS = (
    "id", "$schema", "$ref", "description", "type", "nullable", "format", "title", "maximum", "exclusiveMaximum",
    "minimum", "exclusiveMinimum", "maxLength", "minLength", "pattern", "maxItems", "minItems", "uniqueItems",
    "multipleOf", "enum", "maxProperties", "minProperties", "required", "items", "allOf", "oneOf", "anyOf", "not",
    "properties", "additionalProperties", "patternProperties", "dependencies", "additionalItems", "definitions",
    "externalDocs", "example", "default", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string", "x-kubernetes-list-map-keys", "x-kubernetes-list-type", "x-kubernetes-map-type",
    "x-kubernetes-validations",
)  # fmt: skip
_ALLOWED_AT_ROOT = {
    "description", "type", "format", "title", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "maxLength",
    "minLength", "pattern", "maxItems", "minItems", "uniqueItems", "multipleOf", "required", "items", "properties",
    "externalDocs", "example", "x-kubernetes-preserve-unknown-fields", "x-kubernetes-validations",
}  # fmt: skip
_ALLOWED_NAMES = (
    "Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern "
    "MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields "
    "XValidations"
)


_STRUCTURAL = (
    "default",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-validations",
)
_WITH_STATUS = "if the status subresource is enabled"


@dataclass(frozen=True, slots=True)
class Leniency:
    """What an update need not mend, because it was so before."""

    any_schema: bool = False  # some version has none
    any_structure: bool = False
    unpruned_defaults: bool = False
    immutable_names: bool = False
    unchanged: frozenset[str] = frozenset()  # versions whose schema is as it was


def shared(spec: Object) -> Object:
    """The spec with what all versions have in common taken out of them."""
    versions = [dict(version) for version in spec.get("versions") or ()]
    out = {**spec, "versions": versions}
    for key, name in _SHARED:
        first = versions[0].get(key) if versions else None
        if first is not None and all(version.get(key) == first for version in versions):
            out[name] = first
            for version in versions:
                del version[key]
    return out


def check_spec(spec: Object, faults: Faults, lenient: Leniency) -> None:
    wide = shared(spec)
    _check_group(spec.get("group") or "", faults)
    scope = spec.get("scope") or ""
    if not scope:
        faults.required("spec.scope")
    elif scope not in ("Cluster", "Namespaced"):
        faults.unsupported("spec.scope", scope, ("Cluster", "Namespaced"))
    versions: list[Object] = wide["versions"]
    if not lenient.any_schema and _schema(wide.get("validation")) is None:
        for i, version in enumerate(versions):
            if _schema(version.get("schema")) is None:
                faults.required(f"spec.versions[{i}].schema.openAPIV3Schema")
    for i, version in enumerate(versions):
        _check_version(wide, version, f"spec.versions[{i}]", faults, lenient)
    _check_repeated(wide, versions, faults)
    _check_names_given(spec.get("names") or {}, faults)
    check_names(spec.get("names") or {}, "spec.names", faults)
    has_status = any("status" in (subresources_of(wide, v) or {}) for v in versions)
    unchanged = bool(versions) and versions[0].get("name") in lenient.unchanged
    _check_validation(wide.get("validation"), has_status, "spec.validation", faults, lenient, unchanged=unchanged)
    check_subresources(wide.get("subresources"), "spec.subresources", faults)
    check_columns(wide.get("additionalPrinterColumns"), "spec.additionalPrinterColumns", faults)
    if wide.get("selectableFields"):
        schema = wide.get("validation")
        check_selectable(wide["selectableFields"], _schema(schema), "spec.selectableFields", faults)
    check_conversion(spec.get("conversion"), "spec.conversion", faults)


def _schema(validation: Object | None) -> Object | None:
    return (validation or {}).get("openAPIV3Schema")


def subresources_of(wide: Object, version: Object) -> Object | None:
    """Those of a version: its own where any version has its own."""
    if any(v.get("subresources") is not None for v in wide["versions"]):
        return version.get("subresources")
    found: Object | None = wide.get("subresources")
    return found


def _check_group(group: str, faults: Faults) -> None:
    if not group:
        faults.required("spec.group")
    elif texts := names.dns1123_subdomain(group):
        faults.invalid("spec.group", group, ",".join(texts))
    elif "." not in group:
        faults.invalid("spec.group", group, "should be a domain with at least one dot")


def _check_version(wide: Object, version: Object, path: str, faults: Faults, lenient: Leniency) -> None:
    name = version.get("name") or ""
    if texts := names.dns1035_label(name):
        faults.invalid(f"{path}.name", name, ",".join(texts))
    warning = version.get("deprecationWarning")
    for text in _deprecation_texts(bool(version.get("deprecated")), warning):
        faults.invalid(f"{path}.deprecationWarning", warning, text)
    has_status = "status" in (subresources_of(wide, version) or {})
    unchanged = version.get("name") in lenient.unchanged
    _check_validation(version.get("schema"), has_status, f"{path}.schema", faults, lenient, unchanged=unchanged)
    check_subresources(version.get("subresources"), f"{path}.subresources", faults)
    check_columns(version.get("additionalPrinterColumns"), f"{path}.additionalPrinterColumns", faults)
    if version.get("selectableFields"):
        if _schema(version.get("schema")) is None:
            text = "may only be set when `version.schema.openAPIV3Schema` is not included"
            faults.invalid(f"{path}.selectableFields", "", text)
        else:
            fields, schema = version["selectableFields"], version.get("schema")
            check_selectable(fields, _schema(schema), f"{path}.selectableFields", faults)


def _deprecation_texts(deprecated: bool, warning: str | None) -> Iterable[str]:
    if warning is None:
        return
    if not deprecated:
        yield "can only be set for deprecated versions"
        return
    if len(warning.encode()) > 256:
        yield "must be <= 256 characters long"
    if not warning:
        yield "must not be an empty string"
    for i, char in enumerate(warning):
        if not char.isprintable():
            at = len(warning[:i].encode())
            yield f"must only contain printable UTF-8 characters; non-printable character found at index {at}"
            break


def _check_repeated(wide: Object, versions: list[Object], faults: Faults) -> None:
    found = [version.get("name") for version in versions]
    shown = inner("[]apiextensions.v1.CustomResourceDefinitionVersion", versions)
    if len(set(found)) < len(found):
        faults.invalid("spec.versions", shown, "must contain unique version names")
    if sum(bool(version.get("storage")) for version in versions) != 1:
        faults.invalid("spec.versions", shown, "must have exactly one version marked as storage version")
    if versions and (first := versions[0].get("name")) and (texts := names.dns1035_label(first)):
        faults.invalid("spec.version", first, ",".join(texts))


def _check_names_given(wanted: Object, faults: Faults) -> None:
    for key in ("plural", "singular", "kind", "listKind"):
        if not wanted.get(key):
            faults.required(f"spec.names.{key}")


def check_names(wanted: Object, path: str, faults: Faults) -> None:
    for key in ("plural", "singular"):
        if (value := wanted.get(key)) and (texts := names.dns1035_label(value)):
            faults.invalid(f"{path}.{key}", value, ",".join(texts))
    for key in ("kind", "listKind"):
        if (value := wanted.get(key)) and (texts := names.dns1035_label(value.lower())):
            text = f"may have mixed case, but should otherwise match: {','.join(texts)}"
            faults.invalid(f"{path}.{key}", value, text)
    for i, value in enumerate(wanted.get("shortNames") or ()):
        if texts := names.dns1035_label(value):
            faults.invalid(f"{path}.shortNames[{i}]", value, ",".join(texts))
    if wanted.get("kind") and wanted.get("kind") == wanted.get("listKind"):
        faults.invalid(f"{path}.listKind", wanted["listKind"], "kind and listKind may not be the same")
    for i, value in enumerate(wanted.get("categories") or ()):
        if texts := names.dns1035_label(value):
            faults.invalid(f"{path}.categories[{i}]", value, ",".join(texts))


# --- schemas


def _check_validation(
    validation: Object | None, has_status: bool, path: str, faults: Faults, lenient: Leniency, *, unchanged: bool
) -> None:
    """`unchanged`: the schema is as it was."""
    schema = _schema(validation)
    if validation is None or schema is None:
        return
    at = f"{path}.openAPIV3Schema"
    own = Faults()
    if has_status:
        _check_root(schema, at, own)
    if schema.get("nullable"):
        own.forbidden(f"{at}.nullable", "nullable cannot be true at the root")
    rules = None
    late = Faults()
    if not lenient.any_structure or needs_structure(schema):
        try:
            node = structural(schema)
        except NotStructural as err:
            late.invalid(at, "", str(err))
        else:
            found = check_structural(node, at) or check_defaults(node, at, pruned=not lenient.unpruned_defaults)
            own.extend(found)
            if not found and has_rules(schema):
                from apiserver.cel.definitions import RuleChecks

                rules = RuleChecks.of(node, lenient=unchanged)
    own.extend(check_schema(schema, at, rules))
    if not own:
        own.extend(late)
    if rules is not None:
        rules.check_total(at, own)
    faults.extend(own)


def _check_root(schema: Object, path: str, faults: Faults) -> None:
    """What may stand at the root of a schema where the status is written on its own."""
    for key in _ROOT_KEYWORDS:
        if schema.get(key) in (None, "", False, [], {}):
            continue
        if key == "type":
            if schema["type"] != "object":
                text = f'only "object" is allowed as the type at the root of the schema {_WITH_STATUS}'
                faults.invalid(f"{path}.type", schema["type"], text)
                return
        elif key not in _ALLOWED_AT_ROOT:
            text = f"only [{_ALLOWED_NAMES}] fields are allowed at the root of the schema {_WITH_STATUS}"
            faults.invalid(path, inner("apiextensions.v1.JSONSchemaProps", schema), text)
            return


def any_schema(schema: Object, wanted: Any) -> bool:
    return bool(wanted(schema)) or any(any_schema(value, wanted) for value in nested(schema))


def needs_structure(schema: Object) -> bool:
    """Whether it uses what only structural schemas can have."""
    return any_schema(schema, lambda s: any(s.get(key) not in (None, False, []) for key in _STRUCTURAL))


def has_rules(schema: Object) -> bool:
    return any_schema(schema, lambda s: s.get("x-kubernetes-validations"))


# --- status and the rest


def check_stored(definition: Object, faults: Faults) -> None:
    """storedVersions must have the storage version, and be among the versions."""
    stored = (definition.get("status") or {}).get("storedVersions") or []
    path = "status.storedVersions"
    if not stored:
        faults.invalid(path, None, "must have at least one stored version")
        return
    versions = definition["spec"].get("versions") or ()
    left = set(stored)
    for version in versions:
        if version.get("storage") and version["name"] not in left:
            faults.invalid(path, stored, f"must have the storage version {version['name']}")
        left.discard(version["name"])
    known = {version["name"] for version in versions}
    for i, name in enumerate(stored):
        if name not in known:
            text = (
                f"missing from spec.versions; {name} was previously a storage version, and must remain in "
                f"spec.versions until a storage migration ensures no data remains persisted in {name} and removes "
                f"{name} from status.storedVersions"
            )
            faults.invalid(f"{path}[{i}]", name, text)


def check_approval(new: Object, old: Object | None, faults: Faults) -> None:
    if not conditions.is_protected(new["spec"].get("group") or ""):
        return
    reason, text = conditions.approval(new)
    if old is not None and conditions.approval(old)[0] == reason:
        return
    path = f"metadata.annotations[{conditions.APPROVED_ANNOTATION}]"
    if reason == "MissingAnnotation":
        faults.required(path, text)
    elif reason == "InvalidAnnotation":
        faults.invalid(path, new["metadata"]["annotations"][conditions.APPROVED_ANNOTATION], text)


def check_preserve(new: Object, old: Object | None, faults: Faults) -> None:
    if (old or {}).get("spec", {}).get("preserveUnknownFields"):
        return
    if new["spec"].get("preserveUnknownFields"):
        text = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
        faults.invalid("spec.preserveUnknownFields", True, text)
