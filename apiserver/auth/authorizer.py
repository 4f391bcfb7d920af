"""Whether a user may do what he asks. The place of RBAC in the chain; for now every known user may do everything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from apiserver.request import Request, User

# What upstream's role system:public-info-viewer opens to everybody.
PUBLIC_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version", "/version/"})


@dataclass(frozen=True, slots=True)
class Decision:
    allowed: bool
    reason: str = ""


class Authorizer(Protocol):
    def authorize(self, request: Request) -> Decision:
        """Of a call on a resource."""
        ...

    def authorize_path(self, user: User, verb: str, path: str) -> Decision:
        """Of a call on a path that names no resource; `verb` is the HTTP method in lower case."""
        ...


class AlwaysAllowAuthenticated:
    """Everybody whom an authenticator knows may do everything; the others may ask for health and version."""

    def authorize(self, request: Request) -> Decision:
        return Decision(request.user.authenticated)

    def authorize_path(self, user: User, verb: str, path: str) -> Decision:
        return Decision(user.authenticated or (verb == "get" and is_public(path)))


def is_public(path: str) -> bool:
    """Health, with or without the name of one check, and version."""
    return path in PUBLIC_PATHS or path.startswith(("/healthz/", "/livez/", "/readyz/"))


def refusal(request: Request, reason: str = "") -> tuple[str, dict[str, str]]:
    """Message and details of the 403, as upstream words them. Source: apiserver, endpoints/handlers/responsewriters."""
    resource = request.resource.plural + (f"/{request.subresource}" if request.subresource else "")
    plural = request.resource.plural
    qualified = f"{plural}.{request.resource.group}" if request.resource.group else plural
    name = f' "{request.name}"' if request.name else ""
    if plural == "namespaces" or not request.namespace:
        scope = "at the cluster scope"
    else:
        scope = f'in the namespace "{request.namespace}"'
    text = (
        f'User "{request.user.name}" cannot {request.verb} resource "{resource}" in API group '
        f'"{request.resource.group}" {scope}'
    )
    details = {"kind": plural}
    if request.name:
        details["name"] = request.name
    if request.resource.group:
        details["group"] = request.resource.group
    return f"{qualified}{name} is forbidden: {text}" + (f": {reason}" if reason else ""), details
