"""Who may ask a kubelet: the API server says who somebody is (TokenReview) and what he may (SubjectAccessReview).

Source: https://kubernetes.io/docs/reference/access-authn-authz/kubelet-authn-authz/
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from kubarium.machinery.client import Api
from kubarium.machinery.errors import ApiError
from kubarium.machinery.resources import Resource

MASTERS, AUTHENTICATED = "system:masters", "system:authenticated"
KEPT_S, REFUSED_S = 300.0, 30.0  # how long answers hold
KEPT = 1000
VERBS = {"POST": "create", "GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
PARTS = {"metrics": "metrics", "stats": "stats", "logs": "log", "spec": "spec", "checkpoint": "checkpoint"}
FINE = {"pods": "pods", "runningpods": "pods", "healthz": "healthz", "configz": "configz"}  # else proxy

TOKEN_REVIEWS: Resource[Any] = Resource(
    "authentication.k8s.io", "v1", "tokenreviews", "TokenReview", dict, namespaced=False
)
ACCESS_REVIEWS: Resource[Any] = Resource(
    "authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview", dict, namespaced=False
)


@dataclass(frozen=True, slots=True)
class Caller:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """An HTTP code and its text."""

    code: int
    text: str


def plan_parts(path: str) -> tuple[str, ...]:
    """Subresources of `nodes` of which one opens a path, in the order to ask."""
    head = path.strip("/").partition("/")[0].lower()
    if head in FINE:
        return FINE[head], "proxy"
    return (PARTS.get(head, "proxy"),)


class Access:
    """Answers are kept for a while: a client that streams asks often."""

    def __init__(self, api: Api, node: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._node = node
        self._clock = clock
        self._known: dict[tuple[object, ...], tuple[float, object]] = {}

    async def refusal(self, method: str, path: str, caller: Caller | None, token: str) -> Refusal | None:
        """None where the call may go on. `caller` is who the client certificate names."""
        if caller is None and token:
            caller = await self._reviewed(token)
        if caller is None:
            return Refusal(401, "Unauthorized")
        if MASTERS in caller.groups:
            return None
        verb, parts = VERBS.get(method, ""), plan_parts(path)
        for part in parts:
            if await self._allowed(caller, verb, part):
                return None
        shown = f"user={caller.name}, verb={verb}, resource=nodes, subresource(s)=[{' '.join(parts)}]"
        return Refusal(403, f"Forbidden ({shown})\n")

    async def _reviewed(self, token: str) -> Caller | None:
        key = ("token", token)
        if (known := self._known_at(key)) is not None:
            return known[0] if isinstance(known[0], Caller) else None
        try:
            status = (await self._api.create_raw(TOKEN_REVIEWS, {"spec": {"token": token}})).get("status") or {}
        except ApiError:
            return None
        user = status.get("user") or {}
        found = None
        if status.get("authenticated"):
            found = Caller(user.get("username", ""), tuple(user.get("groups") or ()), user.get("uid", ""))
        self._keep(key, found, KEPT_S / 2 if found else 0)
        return found

    async def _allowed(self, caller: Caller, verb: str, part: str) -> bool:
        key = (caller, verb, part)
        if (known := self._known_at(key)) is not None:
            return bool(known[0])
        attributes = {"verb": verb, "version": "v1", "resource": "nodes", "subresource": part, "name": self._node}
        spec = {"user": caller.name, "groups": list(caller.groups), "uid": caller.uid, "resourceAttributes": attributes}
        try:
            answer: Mapping[str, object] = (await self._api.create_raw(ACCESS_REVIEWS, {"spec": spec}))["status"]
        except ApiError:
            return False
        allowed = bool(answer.get("allowed"))
        self._keep(key, allowed, KEPT_S if allowed else REFUSED_S)
        return allowed

    def _known_at(self, key: tuple[object, ...]) -> tuple[object] | None:
        found = self._known.get(key)
        return (found[1],) if found is not None and found[0] > self._clock() else None

    def _keep(self, key: tuple[object, ...], answer: object, seconds: float) -> None:
        if seconds:
            if len(self._known) >= KEPT:
                self._known.clear()
            self._known[key] = self._clock() + seconds, answer
