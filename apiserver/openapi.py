"""The OpenAPI documents, version 2 (one) and version 3 (one a group and version), as kubectl reads them.

Built on first request from the definitions in `apiserver.schemas`. Paths are given as far as clients use them: kubectl
looks there for the kinds that PATCH accepts and whether it knows `fieldValidation`.
Source: Kubernetes documentation, "The Kubernetes API", "OpenAPI interface definition"; OpenAPI 2.0 and 3.0.
"""

from __future__ import annotations

import hashlib
from functools import cache
from typing import Any

from apiserver import schemas
from apiserver.discovery import SUBRESOURCES
from apiserver.registry.base import Registry, ResourceDef

Json = dict[str, Any]

VERSION = "v1.36.0"
_V2_REF, _V3_REF = "#/definitions/", "#/components/schemas/"
_PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_JSON = "application/json"
_METHODS = {
    "list": "get",
    "create": "post",
    "deletecollection": "delete",
    "get": "get",
    "update": "put",
    "patch": "patch",
    "delete": "delete",
}
_ACTIONS = {"create": "post", "update": "put"}
_COLLECTION, _SINGLE = ("list", "create", "deletecollection"), ("get", "update", "patch", "delete")
_QUERY = {
    "pretty": "string",
    "dryRun": "string",
    "fieldManager": "string",
    "fieldValidation": "string",
    "force": "boolean",
    "labelSelector": "string",
    "fieldSelector": "string",
    "limit": "integer",
    "continue": "string",
    "resourceVersion": "string",
    "resourceVersionMatch": "string",
    "timeoutSeconds": "integer",
    "watch": "boolean",
    "allowWatchBookmarks": "boolean",
    "sendInitialEvents": "boolean",
    "gracePeriodSeconds": "integer",
    "propagationPolicy": "string",
}
_LIST_QUERY = (
    "allowWatchBookmarks",
    "continue",
    "fieldSelector",
    "labelSelector",
    "limit",
    "resourceVersion",
    "resourceVersionMatch",
    "sendInitialEvents",
    "timeoutSeconds",
    "watch",
)
_WRITE_QUERY = ("dryRun", "fieldManager", "fieldValidation")
_QUERIES = {
    "list": _LIST_QUERY,
    "create": _WRITE_QUERY,
    "update": _WRITE_QUERY,
    "patch": (*_WRITE_QUERY, "force"),
    "delete": ("dryRun", "gracePeriodSeconds", "propagationPolicy"),
    "deletecollection": ("dryRun", "gracePeriodSeconds", "propagationPolicy", *_LIST_QUERY[1:8]),
}
_STATUS = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
_PATCH_BODY = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"


def etag(data: bytes) -> str:
    """What tells two versions of a document apart, without the quotes of the header."""
    return hashlib.sha512(data).hexdigest().upper()


def group_version_path(group: str, version: str) -> str:
    """`api/v1`, `apis/apps/v1`."""
    return f"apis/{group}/{version}" if group else f"api/{version}"


@cache
def _definition_names() -> dict[tuple[str, str, str], str]:
    """(group, version, kind) -> full name of the definition."""
    found: dict[tuple[str, str, str], str] = {}
    for name, definition in schemas.documents().items():
        for gvk in definition.get("x-kubernetes-group-version-kind", ()):
            found.setdefault((gvk["group"], gvk["version"], gvk["kind"]), name)
    return found


# --- version 2


def document_v2(registry: Registry) -> Json:
    """`/openapi/v2`."""
    paths: Json = {}
    for resource in registry:
        for path, operations in _operations(resource).items():
            paths[path] = {
                "parameters": [_parameter_v2(n, "path", "string", required=True) for n in _path_names(path)],
                **{method: _operation_v2(operation) for method, operation in operations.items()},
            }
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "definitions": {**schemas.documents(), _PATCH_BODY: {"type": "object"}},
    }


def _operation_v2(operation: Json) -> Json:
    parameters = [_parameter_v2(n, "query", _QUERY[n]) for n in operation["query"]]
    if body := operation["body"]:
        parameters.append({"in": "body", "name": "body", "required": True, "schema": {"$ref": _V2_REF + body}})
    answer = {"description": "OK", "schema": _answer_schema(operation, _V2_REF)}
    return {
        "operationId": operation["id"],
        "consumes": list(operation["consumes"]),
        "produces": [_JSON],
        "parameters": parameters,
        "responses": {"200": answer, "401": {"description": "Unauthorized"}},
        **operation["extensions"],
    }


def _parameter_v2(name: str, place: str, kind: str, *, required: bool = False) -> Json:
    found: Json = {"name": name, "in": place, "type": kind, "uniqueItems": True}
    return found | {"required": True} if required else found


def _answer_schema(operation: Json, prefix: str) -> Json:
    return {"$ref": prefix + operation["answer"]} if operation["answer"] else {"type": "string"}


# --- version 3


def index_v3(registry: Registry, hashes: dict[str, str]) -> Json:
    """`/openapi/v3`: where each group and version has its document; `hashes` maps their paths to ETags."""
    found = {path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={hashes[path]}"} for path in paths_v3(registry)}
    return {"paths": found}


def paths_v3(registry: Registry) -> list[str]:
    return [group_version_path(g, v) for g, versions in registry.groups().items() for v in versions]


def document_v3(registry: Registry, path: str) -> Json | None:
    """`/openapi/v3/PATH`, such as `apis/apps/v1`; None where there is no such group and version."""
    resources = [r for r in registry if group_version_path(r.group, r.version) == path]
    if not resources:
        return None
    paths: Json = {}
    for resource in resources:
        for url, operations in _operations(resource).items():
            paths[url] = {
                "parameters": [_parameter_v3(n, "path", "string", required=True) for n in _path_names(url)],
                **{method: _operation_v3(operation) for method, operation in operations.items()},
            }
    used = _reachable(_references(paths))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": paths,
        "components": {"schemas": {name: _schema_v3(name) for name in used}},
    }


def _operation_v3(operation: Json) -> Json:
    answer = {"description": "OK", "content": {_JSON: {"schema": _answer_schema(operation, _V3_REF)}}}
    found: Json = {
        "operationId": operation["id"],
        "parameters": [_parameter_v3(n, "query", _QUERY[n]) for n in operation["query"]],
        "responses": {"200": answer, "401": {"description": "Unauthorized"}},
        **operation["extensions"],
    }
    if body := operation["body"]:
        schema = {"schema": {"$ref": _V3_REF + body}}
        found["requestBody"] = {"content": dict.fromkeys(operation["consumes"], schema), "required": True}
    return found


def _parameter_v3(name: str, place: str, kind: str, *, required: bool = False) -> Json:
    found: Json = {"name": name, "in": place, "schema": {"type": kind, "uniqueItems": True}}
    return found | {"required": True} if required else found


def _schema_v3(name: str) -> Json:
    schema: Json = {"type": "object"} if name == _PATCH_BODY else _converted(schemas.documents()[name])
    return schema


def _converted(node: Any) -> Any:
    """A definition in the form of version 3: a described reference is an `allOf`, types that may be two are `oneOf`."""
    if isinstance(node, list):
        return [_converted(value) for value in node]
    if not isinstance(node, dict):
        return node
    if isinstance(ref := node.get("$ref"), str):
        target = {"$ref": ref.replace(_V2_REF, _V3_REF)}
        rest = {key: _converted(value) for key, value in node.items() if key != "$ref"}
        return {**rest, "allOf": [target]} if rest else target
    if node.get("format") == "int-or-string":
        return {"oneOf": [{"type": "integer"}, {"type": "string"}], "format": "int-or-string"}
    return {key: _converted(value) for key, value in node.items()}


def _references(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"].rpartition("/")[2]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(_references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(_references(value) for value in node))
    return set()


def _reachable(roots: set[str]) -> list[str]:
    found: set[str] = set()
    todo = list(roots)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += _references(schemas.documents().get(name, {}))
    return sorted(found)


# --- operations, in a form between both versions


def _path_names(path: str) -> list[str]:
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def _operations(resource: ResourceDef) -> dict[str, dict[str, Json]]:
    """URL -> HTTP method -> operation."""
    prefix = "/" + group_version_path(resource.group, resource.version)
    base = (
        f"{prefix}/namespaces/{{namespace}}/{resource.plural}" if resource.namespaced else f"{prefix}/{resource.plural}"
    )
    found = {base: _verbs(resource, _COLLECTION), f"{base}/{{name}}": _verbs(resource, _SINGLE)}
    if resource.namespaced:
        everywhere = _verbs(resource, ("list",))
        for operation in everywhere.values():
            operation["id"] += "ForAllNamespaces"
        found[f"{prefix}/{resource.plural}"] = everywhere
    for name in resource.subresources:
        found[f"{base}/{{name}}/{name}"] = _subresource(resource, name)
    return {path: operations for path, operations in found.items() if operations}


def _verbs(resource: ResourceDef, wanted: tuple[str, ...]) -> dict[str, Json]:
    gvk = (resource.group, resource.version, resource.kind)
    return {_METHODS[verb]: _operation(resource, verb, gvk) for verb in wanted if verb in resource.verbs}


def _subresource(resource: ResourceDef, name: str) -> dict[str, Json]:
    sub = SUBRESOURCES[name]
    own = (resource.group, resource.version, sub.kind or resource.kind)
    gvk = (sub.group, sub.version, sub.kind) if sub.group else own
    return {_METHODS[verb]: _operation(resource, verb, gvk, name) for verb in sub.verbs}


def _operation(resource: ResourceDef, verb: str, gvk: tuple[str, str, str], sub: str = "") -> Json:
    names = _definition_names()
    kind = names.get(gvk, "")
    group = (resource.group.partition(".")[0] or "core").capitalize()
    scope = "Namespaced" if resource.namespaced else ""
    action = {"get": "read", "update": "replace", "deletecollection": "deleteCollection"}.get(verb, verb)
    group_, version, name = gvk
    known = kind or sub in ("exec", "attach", "portforward")
    extensions: Json = {"x-kubernetes-action": _ACTIONS.get(verb, verb)}
    if known:
        extensions["x-kubernetes-group-version-kind"] = {"group": group_, "kind": name, "version": version}
    return {
        "id": f"{action}{group}{resource.version.capitalize()}{scope}{resource.kind}{sub.capitalize()}",
        "query": _QUERIES.get(verb, ()),
        "body": _body(verb, kind),
        "answer": _answer(verb, gvk, kind, sub),
        "consumes": _PATCH_TYPES if verb == "patch" else ("*/*",),
        "extensions": extensions,
    }


def _body(verb: str, kind: str) -> str:
    if verb in ("create", "update"):
        return kind
    return {"patch": _PATCH_BODY, "delete": _DELETE_OPTIONS, "deletecollection": _DELETE_OPTIONS}.get(verb, "")


def _answer(verb: str, gvk: tuple[str, str, str], kind: str, sub: str) -> str:
    if verb in ("delete", "deletecollection"):
        return _STATUS
    if sub == "log":
        return ""
    if verb == "list":
        group, version, name = gvk
        return _definition_names().get((group, version, f"{name}List"), kind)
    return kind
