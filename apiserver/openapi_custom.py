"""Custom kinds in the OpenAPI documents: the schema of the definition, with the metadata that every object has. Pure.

Version 3 has all of the schema; version 2 knows neither alternatives nor null, and there what it cannot say is left
open. Source: k8s.io/apiextensions-apiserver pkg/controller/openapi/{builder,v2}.
"""

from __future__ import annotations

from typing import Any

from apiserver.registry.base import ResourceDef

Json = dict[str, Any]

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_PRESERVE, _EMBEDDED = "x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource"
_INT_OR_STRING = "x-kubernetes-int-or-string"
_ALTERNATIVES = ("oneOf", "anyOf", "allOf", "not")
_DOCS = "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"


def definition_name(group: str, version: str, kind: str) -> str:
    """`com.example.stable.v1.CronTab` for CronTab of stable.example.com/v1."""
    return ".".join([*reversed(group.split(".")), version, kind])


def definitions(resource: ResourceDef, documents: Json, prefix: str, *, version: int) -> dict[str, Json]:
    """The definitions of a custom kind and of its list; `documents` are those of the API's own types, `prefix` stands
    in front of names in references."""
    assert resource.custom is not None
    group, api_version, kind = resource.group, resource.version, resource.kind
    own, whole = definition_name(group, api_version, kind), resource.custom.schema
    list_kind = resource.list_kind or f"{kind}List"
    type_fields = documents[META + "Status"]["properties"]
    texts = {name: {"description": type_fields[name]["description"], "type": "string"} for name in _TYPE_META}

    def reference(name: str, text: str) -> Json:
        target = {"$ref": prefix + META + name}
        described = {"description": f"Standard {text}"}
        return {**described, **target} if version == 2 else {**described, "allOf": [target]}

    metadata = reference("ObjectMeta", f"object's metadata. More info: {_DOCS}#metadata")
    schema: Json = {"type": "object"} if version == 2 and whole.get(_PRESERVE) else _converted(whole, metadata, version)
    if "x-kubernetes-preserve-unknown-fields" not in whole or version != 2:
        schema["properties"] = {**schema.get("properties", {}), **texts, "metadata": metadata}
    schema["x-kubernetes-group-version-kind"] = [{"group": group, "kind": kind, "version": api_version}]
    items = {"description": f"List of {resource.plural}. More info: {_DOCS}", "type": "array"}
    listed: Json = {
        "description": f"{list_kind} is a list of {kind}",
        "type": "object",
        "required": ["items"],
        "properties": {
            **texts,
            "items": {**items, "items": {"$ref": prefix + own}},
            "metadata": reference("ListMeta", f"list metadata. More info: {_DOCS}#types-kinds"),
        },
        "x-kubernetes-group-version-kind": [{"group": group, "kind": list_kind, "version": api_version}],
    }
    return {own: schema, definition_name(group, api_version, list_kind): listed}


_TYPE_META = ("apiVersion", "kind")


def _converted(schema: Json, metadata: Json, version: int) -> Json:
    """One node of a schema, and all below it."""
    if version == 2:
        return _converted_v2(schema, metadata)
    out = _with_children(schema, metadata, 3)
    if schema.get(_INT_OR_STRING):
        out["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    if schema.get(_EMBEDDED):
        about = {
            "apiVersion": "apiVersion defines the versioned schema of this representation of an object. "
            f"More info: {_DOCS}#resources",
            "kind": "kind is a string value representing the type of this object. In CamelCase. "
            f"More info: {_DOCS}#types-kinds",
        }
        texts = {name: {"description": text, "type": "string"} for name, text in about.items()}
        out["properties"] = {**out.get("properties", {}), **texts, "metadata": metadata}
        out["required"] = [*out.get("required", ()), "kind", "apiVersion"]
    return out


def _converted_v2(schema: Json, metadata: Json) -> Json:
    out = {key: value for key, value in schema.items() if key not in (*_ALTERNATIVES, "default", "nullable")}
    if schema.get(_PRESERVE) or schema.get("nullable"):
        open_ended = ("type", "items", "properties", "additionalProperties", "required")
        return {key: value for key, value in out.items() if key not in open_ended}
    if schema.get(_INT_OR_STRING):
        out.pop("type", None)
    return _with_children(out, metadata, 2)


def _with_children(schema: Json, metadata: Json, version: int) -> Json:
    out = dict(schema)
    if properties := schema.get("properties"):
        out["properties"] = {name: _converted(value, metadata, version) for name, value in properties.items()}
    for key in ("items", "additionalProperties"):
        if isinstance(value := schema.get(key), dict):
            out[key] = _converted(value, metadata, version)
    return out
