"""The Status objects of the API, with the words that kube-apiserver uses."""

from __future__ import annotations

from typing import Any

import orjson

from apiserver.registry.base import ResourceDef
from apiserver.request import Request
from kubarium.machinery.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Expired,
    Forbidden,
    MethodNotAllowed,
    NotFound,
    StatusCause,
    Timeout,
)

MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
CONTINUE_EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


def qualified(resource: ResourceDef) -> str:
    """`deployments.apps`, `pods`."""
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def details(resource: ResourceDef, name: str = "", uid: str = "") -> dict[str, Any]:
    found = {"name": name, "group": resource.group, "kind": resource.plural, "uid": uid}
    return {key: value for key, value in found.items() if value}


def not_found(resource: ResourceDef, name: str) -> NotFound:
    return NotFound(f'{qualified(resource)} "{name}" not found', details=details(resource, name))


def already_exists(resource: ResourceDef, name: str) -> AlreadyExists:
    return AlreadyExists(f'{qualified(resource)} "{name}" already exists', details=details(resource, name))


def no_unique_name(resource: ResourceDef, name: str) -> AlreadyExists:
    text = "already exists, the server was not able to generate a unique name for the object"
    return AlreadyExists(
        f'{qualified(resource)} "{name}" {text}', details=details(resource, name) | {"retryAfterSeconds": 1}
    )


def conflict(resource: ResourceDef, name: str, text: str = MODIFIED, *, subresource: str = "") -> Conflict:
    """`Operation cannot be fulfilled on pods/binding "p": ...`."""
    suffix = f"/{subresource}" if subresource else ""
    found = details(resource, name)
    found["kind"] += suffix
    group = f".{resource.group}" if resource.group else ""
    return Conflict(
        f'Operation cannot be fulfilled on {resource.plural}{suffix}{group} "{name}": {text}', details=found
    )


# Where upstream keeps objects of these resources; all others under their plural.
_PLACES = {
    ("", "endpoints"): "services/endpoints",
    ("", "nodes"): "minions",
    ("", "replicationcontrollers"): "controllers",
    ("", "services"): "services/specs",
    ("networking.k8s.io", "ingresses"): "ingress",
}


def uid_mismatch(resource: ResourceDef, request: Request, wanted: str, found: str, *, dry_run: bool) -> Conflict:
    """Of an update that names another uid."""
    return precondition(resource, request, "UID", wanted, found, dry_run=dry_run)


def precondition(
    resource: ResourceDef, request: Request, field: str, wanted: str, found: str, *, dry_run: bool = False
) -> Conflict:
    """`field` is UID or ResourceVersion. The key is upstream's, not ours; a dry run shows it without its root."""
    place = _PLACES.get((resource.group, resource.plural), resource.plural)
    root = "" if dry_run else "/registry"
    key = root + "/" + "/".join(filter(None, (place, request.namespace, request.name)))
    text = (
        f"StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: "
        f"Precondition failed: {field} in precondition: {wanted}, {field} in object meta: {found}"
    )
    return conflict(resource, request.name, text)


def delete_precondition(resource: ResourceDef, name: str, field: str, wanted: str, found: str) -> Conflict:
    """`field` is UID or ResourceVersion. Upstream names the kind here, not the resource."""
    since = "deleted and then recreated" if field == "UID" else "modified"
    text = (
        f"the {field} in the precondition ({wanted}) does not match the {field} in record ({found}). "
        f"The object might have been {since}"
    )
    group = f".{resource.group}" if resource.group else ""
    found_details = details(resource, name) | {"kind": resource.kind}
    return Conflict(f'Operation cannot be fulfilled on {resource.kind}{group} "{name}": {text}', details=found_details)


def forbidden(resource: ResourceDef, name: str, text: str, causes: tuple[StatusCause, ...] = ()) -> Forbidden:
    found = details(resource, name)
    if causes:
        found["causes"] = [cause.to_dict() for cause in causes]
    target = f'{qualified(resource)} "{name}"' if name else qualified(resource)
    return Forbidden(f"{target} is forbidden: {text}", details=found)


def version_too_large(wanted: int, current: int, *, again: bool = True) -> Timeout:
    """`again`: whether it may help to ask again in a second."""
    found: dict[str, Any] = {"causes": [StatusCause("ResourceVersionTooLarge", "Too large resource version").to_dict()]}
    if again:
        found["retryAfterSeconds"] = 1
    return Timeout(f"Timeout: Too large resource version: {wanted}, current: {current}", details=found)


class ContinueExpired(Expired):
    """410 with a fresh token in `metadata.continue`: the rest of the list as it is now."""

    def __init__(self, token: str) -> None:
        super().__init__(CONTINUE_EXPIRED)
        self.token = token

    def to_status(self) -> dict[str, Any]:
        return super().to_status() | {"metadata": {"continue": self.token}}


class NotAllowed(MethodNotAllowed):
    """405: the resource has no such verb. Upstream sends empty details with it."""

    def __init__(self) -> None:
        super().__init__("the server does not allow this method on the requested resource")

    def to_status(self) -> dict[str, Any]:
        return super().to_status() | {"details": {}}


class NoSuchPath(NotFound):
    """404: one of the API's own groups has no such path. Upstream sends empty details with it."""

    def __init__(self) -> None:
        super().__init__("the server could not find the requested resource")

    def to_status(self) -> dict[str, Any]:
        return super().to_status() | {"details": {}}


def unnamed_error(text: str, code: int = 500) -> ApiError:
    """An error that upstream does not type: a message and a code, no reason."""
    return ApiError(text, code=code, reason="")


def deleted(resource: ResourceDef, name: str, uid: str) -> bytes:
    """The answer to a delete that is done."""
    return orjson.dumps(
        {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "details": details(resource, name, uid),
        }
    )


CREATED = orjson.dumps({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
