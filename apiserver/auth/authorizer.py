"""Whether a user may do what he asks: system:masters may, then nodes as nodes may, then what RBAC gives.

Source: Kubernetes documentation, "Authorization"; k8s.io/apiserver, pkg/endpoints/request and handlers/responsewriters
(how a request is judged, and the words of a refusal).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from apiserver.auth.decision import ALLOWED, Asked, Decision
from apiserver.auth.node import NODE_PREFIX, NodeAuthorizer, node_of, required_value, unknown_node
from apiserver.auth.nodegraph import NodeGraph
from apiserver.auth.rbac import Rbac
from apiserver.auth.rules import EVERYTHING, Rule
from apiserver.registry.base import ResourceDef
from apiserver.registry.faults import quoted
from apiserver.registry.names import path_segment_name
from apiserver.request import MASTERS_GROUP, Request, User
from apiserver.watchcache import WatchCache
from kubarium.machinery.errors import Forbidden

__all__ = [
    "AlwaysAllow",
    "Authorizer",
    "Decision",
    "RoleAuthorizer",
    "call",
    "is_public",
    "named",
    "refusal",
    "refused",
    "refused_path",
]

# What upstream's role system:public-info-viewer opens to everybody.
PUBLIC_PATHS = frozenset({"/healthz", "/livez", "/readyz", "/version", "/version/"})
_NAME = "metadata.name"
_UNSAFE = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})


class Authorizer(Protocol):
    def authorize(self, request: Request, field_selector: str = "") -> Decision:
        """Of a call on a resource; `field_selector` of a list, watch or deletecollection as it was sent."""
        ...

    def decide(self, user: User, asked: Asked) -> Decision:
        """The same of a call that somebody asks about."""
        ...

    def authorize_path(self, user: User, verb: str, path: str) -> Decision:
        """Of a call on a path that names no resource; `verb` is the HTTP method in lower case."""
        ...

    def rules_of(self, user: User, namespace: str) -> tuple[list[Rule], str]:
        """What a user may do in a namespace and everywhere, and why that is not all that could be said."""
        ...


class RoleAuthorizer:
    """All of it from the watch cache. `settled`: the default roles are there; until then only health and version are
    told to everybody, without asking them."""

    def __init__(self, cache: WatchCache, node_rules: Iterable[Rule], settled: Callable[[], bool]) -> None:
        self.rbac = Rbac(cache)
        self._nodes = NodeAuthorizer(NodeGraph(cache), node_rules)
        self._settled = settled

    def authorize(self, request: Request, field_selector: str = "") -> Decision:
        user, resource = request.user, request.resource
        if MASTERS_GROUP in user.groups:
            return ALLOWED
        namespace, name = scope_of(request), request.name
        if not name and field_selector and _NAME in field_selector and request.verb in ("list", "watch"):
            name = named(field_selector)
        if user.name.startswith(NODE_PREFIX):
            asked = Asked(
                request.verb, resource.group, resource.plural, request.subresource, namespace, name, field_selector
            )
            return self.decide(user, asked)
        return self.rbac.authorize(
            user, request.verb, resource.group, resource.plural, request.subresource, namespace, name
        )

    def decide(self, user: User, asked: Asked) -> Decision:
        if MASTERS_GROUP in user.groups:
            return ALLOWED
        decision = self._nodes.authorize(user, asked)
        if decision.allowed:
            return decision
        granted = self.rbac.authorize(
            user, asked.verb, asked.group, asked.resource, asked.subresource, asked.namespace, asked.name
        )
        if granted.allowed or not decision.reason:
            return granted
        return Decision(False, "\n".join(filter(None, (decision.reason, granted.reason))))

    def authorize_path(self, user: User, verb: str, path: str) -> Decision:
        if MASTERS_GROUP in user.groups:
            return ALLOWED
        if not self._settled() and verb == "get" and is_public(path):
            return ALLOWED
        granted = self.rbac.authorize_path(user, verb, path)
        if not granted.allowed and node_of(user) == "":
            return unknown_node(user)
        return granted

    def rules_of(self, user: User, namespace: str) -> tuple[list[Rule], str]:
        rules, unknown = self.rbac.rules_of(user, namespace)
        texts = ["node authorizer does not support user rule resolution"] if node_of(user) is not None else []
        texts += dict.fromkeys(unknown)
        return rules, texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]" if texts else ""


class AlwaysAllow:
    """Everybody may do everything, for clusters where that is not the question."""

    def authorize(self, request: Request, field_selector: str = "") -> Decision:
        return ALLOWED

    def decide(self, user: User, asked: Asked) -> Decision:
        return ALLOWED

    def authorize_path(self, user: User, verb: str, path: str) -> Decision:
        return ALLOWED

    def rules_of(self, user: User, namespace: str) -> tuple[list[Rule], str]:
        return list(EVERYTHING), ""


def scope_of(request: Request) -> str:
    """The namespace that a request is judged in: a Namespace itself is in its own."""
    if request.name and request.resource.plural == "namespaces" and not request.resource.group:
        return request.name
    return request.namespace


def named(field_selector: str) -> str:
    """The name that a list is about, where its field selector says it: such a list may be allowed by name."""
    name = required_value(field_selector, _NAME) or ""
    return "" if path_segment_name(name) else name


def call(user: User, verb: str, group: str, plural: str, **where: str) -> Request:
    """A question about a resource that need not be served. `where`: namespace, name, subresource, version."""
    version = where.pop("version", "v1")
    resource = ResourceDef(group, version, "", plural, "", namespaced=bool(where.get("namespace")))
    return Request(user, verb, resource, **where)


def is_public(path: str) -> bool:
    """Health, with or without the name of one check, and version."""
    return path in PUBLIC_PATHS or path.startswith(("/healthz/", "/livez/", "/readyz/"))


def refusal(request: Request, reason: str = "", *, name: str = "") -> tuple[str, dict[str, str]]:
    """Message and details of the 403, as upstream words them; `name` where the request itself has none."""
    plural, group, name = request.resource.plural, request.resource.group, request.name or name
    resource = f"{plural}/{request.subresource}" if request.subresource else plural
    namespace = scope_of(request)
    where = f"in the namespace {quoted(namespace)}" if namespace else "at the cluster scope"
    text = (
        f"User {quoted(request.user.name)} cannot {request.verb} resource {quoted(resource)} in API group "
        f"{quoted(group)} {where}"
    ).translate(_UNSAFE)
    details = {key: value for key, value in (("name", name), ("group", group), ("kind", plural)) if value}
    qualified = f"{plural}.{group}" if group else plural
    target = f"{qualified} {quoted(name)}" if name else qualified
    return f"{target} is forbidden: {text}" + (f": {reason}" if reason else ""), details


class Refused(Forbidden):
    """The caller may not ask this, whatever it is about."""


class _PathForbidden(Refused):
    """Upstream sends empty details with it."""

    def to_status(self) -> dict[str, Any]:
        return super().to_status() | {"details": {}}


def refused_path(user: User, verb: str, path: str, reason: str = "") -> Forbidden:
    text = f"forbidden: User {quoted(user.name)} cannot {verb} path {quoted(path)}".translate(_UNSAFE)
    return _PathForbidden(text + (f": {reason}" if reason else ""))


def refused(request: Request, reason: str = "", *, name: str = "") -> Forbidden:
    text, details = refusal(request, reason, name=name)
    return Refused(text, details=details)
