"""What may not change in a CustomResourceDefinition, what need not be mended, and what only deserves a warning.

Source: k8s.io/apiextensions-apiserver pkg/apis/apiextensions/validation and pkg/registry/customresourcedefinition.
"""

from __future__ import annotations

from collections.abc import Iterator

from apiserver.custom import conditions, formats
from apiserver.custom.checks import Leniency, any_schema
from apiserver.custom.checks_defaults import check_defaults
from apiserver.custom.checks_structural import check_structural
from apiserver.custom.structural import NotStructural, nested, structural
from apiserver.registry.base import Object
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_immutable as immutable


def schemas_of(definition: Object) -> Iterator[tuple[str, Object | None]]:
    """Version and schema."""
    for version in definition["spec"].get("versions") or ():
        yield version.get("name") or "", (version.get("schema") or {}).get("openAPIV3Schema")


def leniency(new: Object, old: Object) -> Leniency:
    before = dict(schemas_of(old))
    schemas = [schema for schema in before.values() if schema]
    return Leniency(
        any_schema=any(schema is None for schema in before.values()),
        any_structure=any(_is_loose(schema) for schema in schemas),
        unpruned_defaults=any(_has_unpruned(schema) for schema in schemas),
        immutable_names=conditions.is_true(old, "Established"),
        unchanged=frozenset(name for name, schema in schemas_of(new) if schema and schema == before.get(name)),
    )


def _is_loose(schema: Object) -> bool:
    try:
        return bool(check_structural(structural(schema), ""))
    except NotStructural:
        return True


def _has_unpruned(schema: Object) -> bool:
    if not any_schema(schema, lambda s: s.get("default") is not None):
        return False
    try:
        faults = check_defaults(structural(schema), "")
    except NotStructural:
        return False
    return any(cause.message.endswith("must not have unknown fields") for cause in faults)


def check_immutable(new: Object, old: Object, faults: Faults, *, established: bool) -> None:
    names, before = new.get("names") or {}, old.get("names") or {}
    if established:
        immutable(new.get("scope"), old.get("scope"), "spec.scope", faults)
        immutable(names.get("kind"), before.get("kind"), "spec.names.kind", faults)
    immutable(new.get("group"), old.get("group"), "spec.group", faults)
    immutable(names.get("plural"), before.get("plural"), "spec.names.plural", faults)


def unknown_formats(definition: Object) -> list[str]:
    """Formats that no value of their type can have: they are not checked."""
    return [name for _, schema in schemas_of(definition) if schema for name in _unknown(schema)]


def _unknown(schema: Object) -> Iterator[str]:
    if (name := schema.get("format") or "") and not formats.is_known(name, schema.get("type") or ""):
        yield name
    for inner in nested(schema):
        yield from _unknown(inner)
