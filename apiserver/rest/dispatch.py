"""From a request to its answer: authenticate, find the resource, limit, call; every error becomes a Status."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from apiserver.auth import impersonation
from apiserver.auth.authenticator import Authenticator
from apiserver.auth.authorizer import Authorizer, call, is_public, refused, refused_path
from apiserver.pipeline import Pipeline
from apiserver.registry.base import Registry, ResourceDef
from apiserver.registry.names import path_segment_name
from apiserver.replies import NotAllowed
from apiserver.request import Request, User
from apiserver.rest import query as queries
from apiserver.rest.answers import Answer, error_answer, text_answer
from apiserver.rest.exchange import Exchange, timed_out
from apiserver.rest.identity import Identity
from apiserver.rest.limits import MUTATING, READ_ONLY, Limits
from apiserver.rest.metrics import Call, Metrics
from apiserver.rest.negotiation import error_type
from apiserver.rest.paths import PARTS, PROXY_VERBS, STREAMS, Target, parse_path
from apiserver.rest.resources import ITEM_VERBS, Resources, deprecations, has_route, in_scope, verb_of
from apiserver.rest.streams import GZIP_ABOVE, Pieces, cut, gzipped
from apiserver.rest.wellknown import WellKnown
from kubarium.machinery.errors import ApiError, BadRequest, Forbidden, InternalError, ServiceUnavailable

if TYPE_CHECKING:
    from aiohttp import web

    from apiserver.rest.kubelet import KubeletProxy

log = logging.getLogger(__name__)

READING: Final = frozenset({"GET", "HEAD"})
READING_VERBS: Final = frozenset({"get", "list"})
START_S: Final = 3.0  # a request that comes before the server has filled its cache waits so long for that

Work = Coroutine[Any, Any, Answer]


@dataclass(frozen=True, slots=True)
class Doors:
    """What the front end stands in front of. `filled`: the cache holds the store's state, and the allocator knows what
    is taken; before that only health and version are told."""

    registry: Registry
    pipeline: Pipeline
    authenticator: Authenticator
    authorizer: Authorizer
    wellknown: WellKnown
    kubelets: KubeletProxy
    filled: asyncio.Event


class Dispatcher:
    """One per server."""

    def __init__(self, doors: Doors, limits: Limits, metrics: Metrics) -> None:
        self._doors = doors
        self._limits = limits
        self._metrics = metrics
        self._identity = Identity(doors.authenticator)
        self._impersonation = impersonation.Impersonation(doors.authorizer)
        self._resources = Resources(doors.pipeline, limits)

    def answer(self, exchange: Exchange) -> Answer | Work:
        """At once where everything is at hand. Raises nothing, and neither does the coroutine."""
        try:
            if not self._doors.filled.is_set() and not is_public(exchange.path):
                return self._awaited(exchange, self._when_filled(exchange))
            found = self._begin(exchange)
        except Exception as err:
            return self.failure(exchange, err)
        return packed(exchange, found) if isinstance(found, Answer) else self._awaited(exchange, found)

    def failure(self, exchange: Exchange, err: Exception) -> Answer:
        if isinstance(err, ApiError):
            return error_answer(err, (*exchange.warnings, *err.warnings), error_type(exchange.accept))
        log.error("%s %s failed", exchange.method, exchange.path, exc_info=err)
        return error_answer(InternalError("Internal error occurred: see the log of the API server"))

    async def _awaited(self, exchange: Exchange, work: Work) -> Answer:
        try:
            return packed(exchange, await work)
        except Exception as err:
            return self.failure(exchange, err)

    async def passed(self, exchange: Exchange, timeout_s: float) -> Answer | web.StreamResponse:
        """For a connection that aiohttp serves. Raises ConnectionError where the client has gone."""
        try:
            if not self._doors.filled.is_set():
                await self._until_filled()
            target = self._admit(exchange)
            if target is not None and target.subresource in PARTS:
                await self._impersonate(exchange, target)
                return await self._passed_on(exchange, target)
            exchange.content = await exchange.body()
            async with asyncio.timeout(timeout_s):
                found = self._begin(exchange)
                return found if isinstance(found, Answer) else await found
        except ConnectionError:
            raise
        except TimeoutError:
            return error_answer(timed_out())
        except Exception as err:
            return self.failure(exchange, err)

    async def _when_filled(self, exchange: Exchange) -> Answer:
        await self._until_filled()
        found = self._begin(exchange)
        return found if isinstance(found, Answer) else await found

    async def _until_filled(self) -> None:
        """An empty cache would deny objects, addresses and tokens that are there. Raises ServiceUnavailable."""
        try:
            async with asyncio.timeout(START_S):
                await self._doors.filled.wait()
        except TimeoutError as err:
            text = "the API server is starting: it has not read the store yet"
            raise ServiceUnavailable(text, details={"retryAfterSeconds": 1}) from err

    # -- one request ---------------------------------------------------------------------------------------------------

    def _admit(self, exchange: Exchange) -> Target | None:
        """Find out who asks, and for what. Raises Unauthorized."""
        exchange.query = queries.parse_query(exchange.query_text)
        exchange.user = self._identity.user(exchange)
        return parse_path(exchange.path)

    def _begin(self, exchange: Exchange) -> Answer | Work:
        """The answer, or what makes it. Raises ApiErrors."""
        target = self._admit(exchange)
        for name in exchange.headers:
            if name[:12] == impersonation.HEADER:
                return self._as_other(exchange, target)
        return self._found(exchange, target)

    async def _as_other(self, exchange: Exchange, target: Target | None) -> Answer:
        """The call in the name of whom the caller says he is now. Raises BadRequest, Forbidden."""
        await self._impersonate(exchange, target)
        found = self._found(exchange, target)
        return found if isinstance(found, Answer) else await found

    async def _impersonate(self, exchange: Exchange, target: Target | None) -> None:
        wanted = impersonation.wanted_user(exchange.header_names(), exchange.header_values)
        if wanted is None:
            return
        caller, authorizer = exchange.user, self._doors.authorizer

        def judge(user: User, prefix: str) -> Forbidden | None:
            if target is not None:
                request = asked(exchange, target)
                request = replace(request, user=user, verb=prefix + request.verb)
                decision = authorizer.authorize(request)
                return None if decision.allowed else refused(request, decision.reason)
            verb = prefix + path_verb(exchange)
            decision = authorizer.authorize_path(user, verb, exchange.path)
            return None if decision.allowed else refused_path(user, verb, exchange.path, decision.reason)

        try:
            exchange.user = self._impersonation.user(caller, wanted, judge)
        except Forbidden:
            await self._doors.pipeline.state.caught_up()
            exchange.user = self._impersonation.user(caller, wanted, judge)

    def _found(self, exchange: Exchange, target: Target | None) -> Answer | Work:
        return self._path(exchange) if target is None else self._resource(exchange, target)

    def _path(self, exchange: Exchange) -> Answer | Work:
        exchange.verb = exchange.method.lower()
        verb = path_verb(exchange)
        decision = self._doors.authorizer.authorize_path(exchange.user, verb, exchange.path)
        if not decision.allowed:
            raise refused_path(exchange.user, verb, exchange.path, decision.reason)
        return self._doors.wellknown.answer(exchange)

    def _resource(self, exchange: Exchange, target: Target) -> Answer | Work:
        resource = self._doors.registry.get(target.group, target.version, target.plural)
        if resource is None or not is_served(target, resource):
            return self._not_served(exchange, target)
        exchange.target = target
        exchange.warnings = deprecations(resource)
        try:
            exchange.verb = verb = verb_of(exchange.method, target, resource, exchange.query)
        except NotAllowed:
            exchange.warnings, exchange.verb = (), exchange.method.lower()
            if not has_route(target, resource):
                return self._not_served(exchange, target)
            return self._not_allowed(exchange, target)
        request = Request(exchange.user, verb, resource, target.namespace, object_name(target), target.subresource)
        if verb == "watch":
            return self._resources.watch(exchange, request)
        if (done := self._resources.at_once(exchange, request)) is not None:
            return done
        kind = READ_ONLY if verb in READING_VERBS else MUTATING
        return self._placed(exchange, request, kind)

    async def _not_served(self, exchange: Exchange, target: Target) -> Answer:
        if target.plural == "watch" and not target.namespace and not target.name:
            text = "failed to create RequestInfo: unable to determine kind and namespace from url"
            return text_answer(f'Internal Server Error: "{exchange.path}": {text}, {exchange.path}\n', status=500)
        await self._doors.pipeline.allow(asked(exchange, target))
        return self._doors.wellknown.nothing_at(target)

    async def _not_allowed(self, exchange: Exchange, target: Target) -> Answer:
        await self._doors.pipeline.allow(asked(exchange, target))
        raise NotAllowed

    async def _placed(self, exchange: Exchange, request: Request, kind: str) -> Answer:
        """The call, when there is a place for it. Raises TooManyRequests."""
        if not self._limits.enter(kind):
            await self._limits.turn(kind, exchange.user.name)
        try:
            return await self._resources.answer(exchange, request)
        finally:
            self._limits.leave(kind)

    async def _passed_on(self, exchange: Exchange, target: Target) -> Answer | web.StreamResponse:
        resource = self._doors.registry.get(target.group, target.version, target.plural)
        if resource is None or not is_served(target, resource):
            return await self._not_served(exchange, target)
        exchange.target = target
        exchange.warnings = deprecations(resource)
        if target.subresource == "proxy":
            verb = PROXY_VERBS.get(exchange.method)
        else:
            # A stream into a container is a write, whatever the method of its request is.
            methods = ("GET", "POST") if target.subresource in STREAMS else ("GET",)
            verb = ("create" if target.subresource in STREAMS else "get") if exchange.method in methods else None
        if verb is None:
            raise NotAllowed
        exchange.verb = verb
        request = Request(exchange.user, verb, resource, target.namespace, target.name, target.subresource)
        if exchange.method == "GET" and verb == "create":
            await self._doors.pipeline.allow(replace(request, verb="get"))
        await self._doors.pipeline.allow(request)
        with self._limits.long_running(target.subresource):
            return await self._doors.kubelets.answer(exchange, request)

    # -- figures -------------------------------------------------------------------------------------------------------

    def count(self, exchange: Exchange, status: int, now: float) -> None:
        """By resource where it is one of ours: what else clients come up with has no figure of its own. Once only."""
        if exchange.counted:
            return
        exchange.counted = True
        verb, target = exchange.verb, exchange.target
        if target is None:
            found = Call(verb, code=status)
        else:
            scope = "resource" if target.name or verb == "create" else "namespace" if target.namespace else "cluster"
            dry_run = "All" if exchange.query and "dryRun" in exchange.query else ""
            group, version, plural = target[:3]
            found = Call(verb, group, version, plural, target.subresource, status, scope, dry_run)
        self._metrics.count(found, None if verb == "watch" else now - exchange.begun)


def packed(exchange: Exchange, answer: Answer) -> Answer:
    """Large answers to reads in gzip, where the client takes that. Source: KEP-156 (APIResponseCompression)."""
    if (answer.stream is None and len(answer.body) <= GZIP_ABOVE) or exchange.method != "GET" or answer.status != 200:
        return answer
    if b"gzip" not in exchange.headers.get(b"accept-encoding", b"") or exchange.verb == "watch":
        return answer
    headers = (*answer.headers, ("Content-Encoding", "gzip"), ("Vary", "Accept-Encoding"))
    if isinstance(answer.stream, Pieces):
        return Answer(headers=headers, stream=answer.stream.through(gzipped))
    return Answer(headers=headers, stream=Pieces(gzipped(cut(answer.body))))


def path_verb(exchange: Exchange) -> str:
    """Of a path that names no resource: the method."""
    return "get" if exchange.method in READING else exchange.method.lower()


def asked(exchange: Exchange, target: Target) -> Request:
    """The question behind a call that is not served: whoever may not ask is told that, and not what there is."""
    verb = ITEM_VERBS.get(exchange.method, "get")
    if not target.name:
        verb = {"get": "list", "delete": "deletecollection"}.get(verb, verb)
        if verb == "list" and (target.watch or queries.is_watch(exchange.query)):
            verb = "watch"
    where = {"namespace": target.namespace, "name": target.name, "subresource": target.subresource}
    return call(exchange.user, verb, target.group, target.plural, version=target.version, **where)


def is_served(target: Target, resource: ResourceDef) -> bool:
    """Whether the resource has such a path at all."""
    if target.namespace and not resource.namespaced:
        return False
    if target.rest and target.subresource != "proxy":
        return False
    if target.watch and target.subresource:
        return False
    if target.subresource and target.subresource not in resource.subresources:
        return False
    return not target.name or in_scope(target, resource)


def object_name(target: Target) -> str:
    """Raises BadRequest for what can be no name."""
    name = target.name
    if "/" in name or "%" in name or name in (".", ".."):
        faults = "; ".join(path_segment_name(name))
        raise BadRequest(f'Name parameter invalid: "{name}": {faults}')
    if "\0" in name:
        raise BadRequest(f"invalid resource name {name!r}")
    return name
