"""The OpenAPI documents, version 2 (one) and version 3 (one a group and version), as kubectl reads them. Pure.

Made from the definitions in `apiserver.schemas`, the schemas of custom kinds, and the operations of all resources.
Source: Kubernetes documentation, "The Kubernetes API", "OpenAPI interface definition"; OpenAPI 2.0 and 3.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from apiserver import schemas
from apiserver.openapi_custom import definition_name, definitions
from apiserver.openapi_paths import PATCH_BODY, QUERY, Gvk, Operation, operations, path_names
from apiserver.registry.base import ResourceDef

Json = dict[str, Any]

INFO = {"title": "Kubernetes", "version": "v1.36.0"}
V2_REF, V3_REF = "#/definitions/", "#/components/schemas/"
_JSON = "application/json"
_PRODUCES = (_JSON, "application/yaml")
_BEARER = {
    "type": "apiKey",
    "description": "Bearer Token authentication",
    "name": "authorization",
    "in": "header",
}
_PHRASES = {200: "OK", 201: "Created", 202: "Accepted"}
_PATCH = {"description": "The body of a patch: what it holds depends on the media type.", "type": "object"}


@cache
def _definition_names() -> dict[Gvk, str]:
    """(group, version, kind) -> full name of the definition."""
    found: dict[Gvk, str] = {}
    for name, definition in schemas.documents().items():
        for gvk in definition.get("x-kubernetes-group-version-kind", ()):
            found.setdefault((gvk["group"], gvk["version"], gvk["kind"]), name)
    return found


@cache
def _enums() -> dict[str, dict[str, list[str]]]:
    """Short name of a type -> field -> its values; of the items of lists where the field ends in `[]`."""
    lines = Path(__file__).with_name("openapi_enums.txt").read_text().splitlines()
    found: dict[str, dict[str, list[str]]] = {}
    for line in lines[1:]:
        name, *fields = line.split(" ")
        found[name] = {field: values.split(",") for field, _, values in (entry.partition("=") for entry in fields)}
    return found


def _definition(name: str) -> Json:
    """A definition of the API's own types, with the values that fields may have."""
    definition: Json = schemas.documents()[name]
    enums = _enums().get(".".join(name.split(".")[-3:]))
    if enums is None:
        return definition
    properties = dict(definition["properties"])
    for field, values in enums.items():
        schema = properties.get(field.removesuffix("[]"))
        if schema is None:
            continue
        if field.endswith("[]"):
            properties[field[:-2]] = {**schema, "items": {**schema["items"], "enum": values}}
        else:
            properties[field] = {**schema, "enum": values}
    return {**definition, "properties": properties}


def _paths(resources: Sequence[ResourceDef]) -> Iterator[tuple[str, dict[str, Operation]]]:
    """Every path with its operations by method."""
    custom = {r.group for r in resources if r.custom is not None}
    known = _definition_names()

    def name_of(gvk: Gvk) -> str:
        return known.get(gvk) or (definition_name(*gvk) if gvk[0] in custom else "")

    for resource in resources:
        yield from operations(resource, name_of).items()


# --- version 2


def document_v2(resources: Sequence[ResourceDef]) -> Json:
    """`/openapi/v2`, of all resources."""
    documents = schemas.documents()
    paths: Json = {}
    for path, methods in _paths(resources):
        parameters = [_parameter_v2(name, "path", "string", required=True) for name in path_names(path)]
        paths[path] = {"parameters": parameters} | {m: _operation_v2(operation) for m, operation in methods.items()}
    found = {**{name: _definition(name) for name in documents}, PATCH_BODY: _PATCH}
    for resource in resources:
        if resource.custom is not None:
            found |= definitions(resource, documents, V2_REF, version=2)
    return {
        "swagger": "2.0",
        "info": INFO,
        "paths": paths,
        "definitions": found,
        "securityDefinitions": {"BearerToken": _BEARER},
        "security": [{"BearerToken": []}],
    }


def _operation_v2(operation: Operation) -> Json:
    parameters = [_parameter_v2(name, "query", QUERY[name]) for name in operation.query]
    if operation.body:
        schema = {"$ref": V2_REF + operation.body}
        parameters.append({"in": "body", "name": "body", "required": True, "schema": schema})
    answer = _answer_schema(operation, V2_REF)
    answers: Json = {str(code): {"description": _PHRASES[code], "schema": answer} for code in operation.codes}
    return {
        "consumes": list(operation.consumes),
        "produces": list(_PRODUCES),
        "schemes": ["https"],
        "tags": [operation.tag],
        "operationId": operation.id,
        "parameters": parameters,
        "responses": answers | {"401": {"description": "Unauthorized"}},
        **operation.extensions,
    }


def _parameter_v2(name: str, place: str, kind: str, *, required: bool = False) -> Json:
    found: Json = {"name": name, "in": place, "type": kind, "uniqueItems": True}
    return found | {"required": True} if required else found


def _answer_schema(operation: Operation, prefix: str) -> Json:
    return {"$ref": prefix + operation.answer} if operation.answer else {"type": "string"}


# --- version 3


def document_v3(resources: Sequence[ResourceDef]) -> Json:
    """`/openapi/v3/apis/apps/v1` and the like: of the resources of one group and version."""
    paths: Json = {}
    for path, methods in _paths(resources):
        parameters = [_parameter_v3(name, "path", "string", required=True) for name in path_names(path)]
        paths[path] = {"parameters": parameters} | {m: _operation_v3(operation) for m, operation in methods.items()}
    custom: Json = {}
    for resource in resources:
        if resource.custom is not None:
            custom |= definitions(resource, schemas.documents(), V3_REF, version=3)
    used = _reachable(_references(paths) | _references(custom), custom)
    return {
        "openapi": "3.0.0",
        "info": INFO,
        "paths": paths,
        "components": {
            "schemas": {name: custom[name] if name in custom else _schema_v3(name) for name in used},
            "securitySchemes": {"BearerToken": _BEARER},
        },
    }


def _operation_v3(operation: Operation) -> Json:
    schema = _answer_schema(operation, V3_REF)
    content = {media_type: {"schema": schema} for media_type in _PRODUCES}
    answers: Json = {str(code): {"description": _PHRASES[code], "content": content} for code in operation.codes}
    found: Json = {
        "tags": [operation.tag],
        "operationId": operation.id,
        "parameters": [_parameter_v3(name, "query", QUERY[name]) for name in operation.query],
        "responses": answers | {"401": {"description": "Unauthorized"}},
        **operation.extensions,
    }
    if operation.body:
        schema = {"schema": {"$ref": V3_REF + operation.body}}
        found["requestBody"] = {"content": dict.fromkeys(operation.consumes, schema), "required": True}
    return found


def _parameter_v3(name: str, place: str, kind: str, *, required: bool = False) -> Json:
    found: Json = {"name": name, "in": place, "schema": {"type": kind, "uniqueItems": True}}
    return found | {"required": True} if required else found


def _schema_v3(name: str) -> Json:
    schema: Json = _PATCH if name == PATCH_BODY else _converted(_definition(name))
    return schema


def _converted(node: Any) -> Any:
    """A definition in the form of version 3: a described reference is an `allOf`, types that may be two are `oneOf`."""
    if isinstance(node, list):
        return [_converted(value) for value in node]
    if not isinstance(node, dict):
        return node
    if isinstance(ref := node.get("$ref"), str):
        target = {"$ref": ref.replace(V2_REF, V3_REF)}
        rest = {key: _converted(value) for key, value in node.items() if key != "$ref"}
        return {**rest, "allOf": [target]} if rest else target
    if node.get("format") == "int-or-string":
        described = {key: value for key, value in node.items() if key == "description"}
        return {**described, "oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}
    return {key: _converted(value) for key, value in node.items()}


def _references(node: Any) -> set[str]:
    """Names of the definitions that a node leads to."""
    if isinstance(node, dict):
        own = {node["$ref"].rpartition("/")[2]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(_references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(_references(value) for value in node))
    return set()


def _reachable(roots: set[str], custom: Json) -> list[str]:
    found: set[str] = set()
    todo = list({*roots, *custom})
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += _referenced_by(name) if name not in custom else ()
    return sorted(found)


@cache
def _referenced_by(name: str) -> tuple[str, ...]:
    return tuple(_references(schemas.documents().get(name, {})))
