"""The operations of the OpenAPI documents, in a form between both versions: which paths and methods a resource has,
what they take and what they answer. Pure.

Paths are given as far as clients use them: kubectl looks there for the kinds that PATCH accepts and whether it knows
`fieldValidation`. Source: the naming of operations in Kubernetes' own documents.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from apiserver.discovery import subresource
from apiserver.registry.base import ResourceDef

Json = dict[str, Any]
Gvk = tuple[str, str, str]
DefinitionName = Callable[[Gvk], str]
"""From group, version and kind to the name of the definition, "" where there is none."""

STATUS = "io.k8s.apimachinery.pkg.apis.meta.v1.Status"
DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
PATCH_BODY = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch"
QUERY = {
    "allowWatchBookmarks": "boolean",
    "command": "string",
    "container": "string",
    "continue": "string",
    "dryRun": "string",
    "fieldManager": "string",
    "fieldSelector": "string",
    "fieldValidation": "string",
    "follow": "boolean",
    "force": "boolean",
    "gracePeriodSeconds": "integer",
    "ignoreStoreReadErrorWithClusterBreakingPotential": "boolean",
    "insecureSkipTLSVerifyBackend": "boolean",
    "labelSelector": "string",
    "limit": "integer",
    "limitBytes": "integer",
    "orphanDependents": "boolean",
    "path": "string",
    "ports": "integer",
    "pretty": "string",
    "previous": "boolean",
    "propagationPolicy": "string",
    "resourceVersion": "string",
    "resourceVersionMatch": "string",
    "sendInitialEvents": "boolean",
    "sinceSeconds": "integer",
    "stderr": "boolean",
    "stdin": "boolean",
    "stdout": "boolean",
    "stream": "string",
    "tailLines": "integer",
    "timeoutSeconds": "integer",
    "timestamps": "boolean",
    "tty": "boolean",
    "watch": "boolean",
}
_LIST = (
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
_WRITE = ("dryRun", "fieldManager", "fieldValidation")
_DELETE = (
    "dryRun",
    "gracePeriodSeconds",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents",
    "propagationPolicy",
)
_COLLECTION_DELETE = tuple(sorted({*_DELETE, *_LIST} - {"allowWatchBookmarks", "watch"}))
_QUERIES = {
    "list": _LIST,
    "create": _WRITE,
    "update": _WRITE,
    "patch": (*_WRITE, "force"),
    "delete": _DELETE,
    "deletecollection": _COLLECTION_DELETE,
}
_STREAM = ("container", "stderr", "stdin", "stdout", "tty")
_CONNECT = {
    "attach": _STREAM,
    "exec": ("command", *_STREAM),
    "log": (
        *("container", "follow", "insecureSkipTLSVerifyBackend", "limitBytes", "pretty", "previous", "sinceSeconds"),
        *("stream", "tailLines", "timestamps"),
    ),
    "portforward": ("ports",),
    "proxy": ("path",),
}
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
_WORDS = {"get": "read", "update": "replace"}
_COLLECTION, _SINGLE = ("list", "create", "deletecollection"), ("get", "update", "patch", "delete")
_PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
_CUSTOM_PATCH_TYPES = tuple(t for t in _PATCH_TYPES if "strategic" not in t)
_BODY_TYPES, _CUSTOM_BODY_TYPES = ("*/*",), ("application/json", "application/yaml")


class Operation(NamedTuple):
    """`body` and `answer` are names of definitions, "" where there is none (an answer is text then)."""

    id: str
    tag: str
    query: tuple[str, ...]
    consumes: tuple[str, ...]
    body: str
    answer: str
    codes: tuple[int, ...]
    extensions: Json


Operations = dict[str, Operation]  # by HTTP method


def group_version_path(group: str, version: str) -> str:
    """`api/v1`, `apis/apps/v1`."""
    return f"apis/{group}/{version}" if group else f"api/{version}"


def path_names(path: str) -> list[str]:
    """The parameters in a path."""
    return [part[1:-1] for part in path.split("/") if part.startswith("{")]


def operations(resource: ResourceDef, name_of: DefinitionName) -> dict[str, Operations]:
    """URL -> HTTP method -> operation."""
    prefix, plural = "/" + group_version_path(resource.group, resource.version), resource.plural
    base = f"{prefix}/namespaces/{{namespace}}/{plural}" if resource.namespaced else f"{prefix}/{plural}"
    found = {base: _verbs(resource, name_of, _COLLECTION), f"{base}/{{name}}": _verbs(resource, name_of, _SINGLE)}
    if resource.namespaced and "list" in resource.verbs:
        everywhere = _operation(resource, name_of, "list", _gvk(resource), everywhere=True)
        found[f"{prefix}/{plural}"] = {"get": everywhere}
    for name in resource.subresources:
        found[f"{base}/{{name}}/{name}"] = _subresource(resource, name_of, name)
        if name == "proxy":
            below = _subresource(resource, name_of, name).items()
            found[f"{base}/{{name}}/{name}/{{path}}"] = {m: o._replace(id=f"{o.id}WithPath") for m, o in below}
    return {path: methods for path, methods in found.items() if methods}


def _gvk(resource: ResourceDef) -> Gvk:
    return resource.group, resource.version, resource.kind


def _verbs(resource: ResourceDef, name_of: DefinitionName, wanted: tuple[str, ...]) -> Operations:
    known = (verb for verb in wanted if verb in resource.verbs)
    return {_METHODS[verb]: _operation(resource, name_of, verb, _gvk(resource)) for verb in known}


def _subresource(resource: ResourceDef, name_of: DefinitionName, name: str) -> Operations:
    sub = subresource(resource, name)
    own = (resource.group, resource.version, sub.kind or resource.kind)
    gvk = (sub.group, sub.version, sub.kind) if sub.group else own
    found = ((verb, _operation(resource, name_of, verb, gvk, name)) for verb in sub.verbs)
    return {_METHODS[verb]: operation for verb, operation in found}


def _operation(
    resource: ResourceDef, name_of: DefinitionName, verb: str, gvk: Gvk, sub: str = "", *, everywhere: bool = False
) -> Operation:
    kind, connects = name_of(gvk), sub in _CONNECT and sub != "log"
    action = "connect" if connects else _ACTIONS.get(verb, verb)
    extensions: Json = {"x-kubernetes-action": action}
    if kind or connects:
        extensions["x-kubernetes-group-version-kind"] = {"group": gvk[0], "kind": gvk[2], "version": gvk[1]}
    custom = resource.custom is not None
    patch_types, body_types = (_CUSTOM_PATCH_TYPES, _CUSTOM_BODY_TYPES) if custom else (_PATCH_TYPES, _BODY_TYPES)
    return Operation(
        _operation_id(resource, verb, sub, connects=connects, everywhere=everywhere),
        f"{_group_words(resource.group, small=True)}_{resource.version}",
        _CONNECT.get(sub) or _QUERIES.get(verb, ()),
        patch_types if verb == "patch" else body_types,
        "" if connects else _body(verb, kind),
        "" if connects or sub == "log" else _answer(verb, gvk, kind, name_of),
        _codes(verb, custom=custom),
        extensions,
    )


def _codes(verb: str, *, custom: bool) -> tuple[int, ...]:
    if verb == "create":
        return (200, 201, 202)
    if verb == "delete":
        return (200, 202)
    return (200, 201) if verb == "update" or (verb == "patch" and not custom) else (200,)


def _operation_id(resource: ResourceDef, verb: str, sub: str, *, connects: bool, everywhere: bool) -> str:
    """`listAppsV1NamespacedDeployment`, `readAppsV1NamespacedDeploymentScale`."""
    where = _group_words(resource.group) + resource.version.capitalize()
    word, scope = _WORDS.get(verb, verb), "Namespaced" if resource.namespaced and not everywhere else ""
    if connects:
        word, scope = "connect", _METHODS[verb].capitalize() + scope
    if verb == "deletecollection":
        word, scope = "delete", f"Collection{scope}"
    tail = "ForAllNamespaces" if everywhere else "".join(map(str.capitalize, sub.split("-")))
    return f"{word}{where}{scope}{resource.kind}{tail}"


def _group_words(group: str, *, small: bool = False) -> str:
    """`Apps`, `Core`, `RbacAuthorization`, `ComExample`: the API's own groups lose their domain."""
    words = re.split(r"[.-]", group.removesuffix(".k8s.io") or "core")
    text = "".join(word[:1].upper() + word[1:] for word in words)
    return text[:1].lower() + text[1:] if small else text


def _body(verb: str, kind: str) -> str:
    if verb in ("create", "update"):
        return kind
    return {"patch": PATCH_BODY, "delete": DELETE_OPTIONS, "deletecollection": DELETE_OPTIONS}.get(verb, "")


def _answer(verb: str, gvk: Gvk, kind: str, name_of: DefinitionName) -> str:
    if verb in ("delete", "deletecollection"):
        return STATUS
    if verb == "list":
        group, version, name = gvk
        return name_of((group, version, f"{name}List")) or kind
    return kind
