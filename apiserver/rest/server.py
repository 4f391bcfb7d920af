"""The HTTPS server: authenticate, limit, dispatch, and turn every error into a Status.

aiohttp's low-level server is used without its router and middlewares: a path of the API is parsed by `paths` alone.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from aiohttp import web

from apiserver.auth.authenticator import Authenticator, subject_of
from apiserver.auth.authorizer import Authorizer, call, is_public
from apiserver.pipeline import Pipeline
from apiserver.registry.base import Registry, ResourceDef
from apiserver.replies import NotAllowed
from apiserver.request import Request, User
from apiserver.rest import query as queries
from apiserver.rest.exchange import Exchange, error_answer, page_not_found, timed_out
from apiserver.rest.kubelet import PARTS, STREAMS, KubeletProxy
from apiserver.rest.limits import MUTATING, READ_ONLY, Limits
from apiserver.rest.metrics import Call, Metrics
from apiserver.rest.paths import Target, parse_path
from apiserver.rest.resources import ITEM_VERBS, Resources, deprecations, in_scope, verb_of
from apiserver.rest.wellknown import WellKnown
from kubarium.machinery.errors import ApiError, BadRequest, Forbidden, InternalError, ServiceUnavailable

log = logging.getLogger(__name__)

READING = frozenset({"GET", "HEAD"})
BEARER = "bearer "
START_S = 3.0  # a request that comes before the server has filled its cache waits so long for that


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


class RestServer:
    """`start` it on sockets; `stop` ends watches, lets other requests finish, and closes."""

    def __init__(self, doors: Doors, limits: Limits, metrics: Metrics, *, request_timeout_s: float) -> None:
        self._doors = doors
        self._limits = limits
        self._metrics = metrics
        self._timeout_s = request_timeout_s
        self._resources = Resources(doors.pipeline)
        self._server: web.Server | None = None
        self._listeners: list[asyncio.Server] = []

    async def start(self, sockets: Sequence[socket.socket], tls: ssl.SSLContext) -> None:
        self._server = web.Server(self._handle, handler_cancellation=True, access_log=None, keepalive_timeout=180.0)
        loop = asyncio.get_running_loop()
        for sock in sockets:
            self._listeners.append(
                await loop.create_server(self._server, sock=sock, ssl=tls, backlog=1024, ssl_handshake_timeout=10.0)
            )

    async def stop(self, grace_s: float = 5.0) -> None:
        for listener in self._listeners:
            listener.close()
        self._doors.pipeline.end_watches()
        with suppress(TimeoutError):
            async with asyncio.timeout(grace_s):
                await self._doors.pipeline.finish_writes()
        if self._server is not None:
            self._server.pre_shutdown()  # without it, idle connections are waited for as long as busy ones
            await self._server.shutdown(grace_s)
        await self._doors.kubelets.close()

    # -- one request ---------------------------------------------------------------------------------------------------

    async def _handle(self, http: web.BaseRequest) -> web.StreamResponse:
        begun = time.perf_counter()
        path, _, query_text = http.raw_path.partition("?")
        exchange = Exchange(http, path, {}, User(""))
        answer: web.StreamResponse
        try:
            if not self._doors.filled.is_set() and not is_public(path):
                await self._until_filled()
            exchange.query = queries.parse_query(query_text)
            exchange.user = self._user(http)
            target = parse_path(path)
            if target is None:
                answer = await self._path(exchange)
            else:
                answer = await self._resource(exchange, target)
        except ApiError as err:
            answer = error_answer(err, (*exchange.warnings, *err.warnings))
        except ConnectionError:
            raise
        except Exception:
            log.exception("%s %s failed", http.method, path)
            answer = error_answer(InternalError("Internal error occurred: see the log of the API server"))
        self._count(exchange, answer.status, begun)
        return answer

    async def _until_filled(self) -> None:
        """An empty cache would deny objects, addresses and tokens that are there. Raises ServiceUnavailable."""
        try:
            async with asyncio.timeout(START_S):
                await self._doors.filled.wait()
        except TimeoutError as err:
            text = "the API server is starting: it has not read the store yet"
            raise ServiceUnavailable(text, details={"retryAfterSeconds": 1}) from err

    def _count(self, exchange: Exchange, status: int, begun: float) -> None:
        """By resource where it is one of ours: what else clients come up with has no figure of its own."""
        verb, target = exchange.verb, exchange.target
        call = Call(verb, code=status)
        if target:
            scope = "resource" if target.name or verb == "create" else "namespace" if target.namespace else "cluster"
            dry_run = "All" if exchange.query and "dryRun" in exchange.query else ""
            call = Call(verb, *target[:3], target.subresource, status, scope, dry_run)
        self._metrics.count(call, None if verb == "watch" else time.perf_counter() - begun)

    def _user(self, http: web.BaseRequest) -> User:
        """Certificate first, then bearer token. Raises Unauthorized."""
        authenticator = self._doors.authenticator
        subject = None
        if http.transport is not None and (certificate := http.transport.get_extra_info("peercert")):
            subject = subject_of(certificate)
        header = http.headers.get("Authorization", "")
        token = header[len(BEARER) :].strip() if header[: len(BEARER)].lower() == BEARER else ""
        if not token and not header and "Sec-WebSocket-Protocol" in http.headers:
            token = websocket_token(http.headers["Sec-WebSocket-Protocol"])
        return authenticator.authenticate(token=token, subject=subject)

    async def _path(self, exchange: Exchange) -> web.StreamResponse:
        exchange.verb = exchange.method.lower()
        verb = "get" if exchange.method in READING else exchange.verb
        decision = self._doors.authorizer.authorize_path(exchange.user, verb, exchange.path)
        if not decision.allowed:
            text = f'forbidden: User "{exchange.user.name}" cannot {verb} path "{exchange.path}"'
            raise Forbidden(text + (f": {decision.reason}" if decision.reason else ""), details={})
        if verb != "get":
            return page_not_found()
        return await self._doors.wellknown.answer(exchange)

    async def _resource(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        resource = self._doors.registry.get(target.group, target.version, target.plural)
        if resource is None or not is_served(target, resource):
            await self._doors.pipeline.allow(asked(exchange, target))
            return page_not_found()
        exchange.target = target
        exchange.warnings = deprecations(resource)
        if target.subresource in PARTS:
            return await self._proxied(exchange, target, resource)
        try:
            exchange.verb = verb = verb_of(exchange.method, target, resource, exchange.query)
        except NotAllowed:
            exchange.warnings = ()
            await self._doors.pipeline.allow(asked(exchange, target))
            raise
        request = Request(exchange.user, verb, resource, target.namespace, object_name(target), target.subresource)
        if verb == "watch":
            with self._limits.long_running(verb):
                return await self._resources.watch(exchange, request)
        with self._limits.admitted(READ_ONLY if verb in ("get", "list") else MUTATING):
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._resources.answer(exchange, request)
            except TimeoutError as err:
                raise timed_out() from err

    async def _proxied(self, exchange: Exchange, target: Target, resource: ResourceDef) -> web.StreamResponse:
        if exchange.method not in ("GET", "POST") or (target.subresource == "log" and exchange.method != "GET"):
            raise NotAllowed
        # A stream into a container is a write, whatever the method of its request is.
        exchange.verb = verb = "create" if target.subresource in STREAMS else "get"
        request = Request(exchange.user, verb, resource, target.namespace, target.name, target.subresource)
        if exchange.method == "GET" and verb != "get":
            await self._doors.pipeline.allow(replace(request, verb="get"))
        await self._doors.pipeline.allow(request)
        with self._limits.long_running(target.subresource):
            return await self._doors.kubelets.answer(exchange, request)


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
    if target.rest or (target.subresource and target.subresource not in resource.subresources):
        return False
    return not target.name or in_scope(target, resource)


def object_name(target: Target) -> str:
    if "\0" in target.name or "/" in target.name:
        raise BadRequest(f"invalid resource name {target.name!r}: may not contain '/'")
    return target.name


def websocket_token(protocols: str) -> str:
    """The token that browsers put among the protocols: base64url.bearer.authorization.k8s.io.TOKEN."""
    import base64
    import binascii

    prefix = "base64url.bearer.authorization.k8s.io."
    for protocol in protocols.split(","):
        if protocol.strip().startswith(prefix):
            text = protocol.strip()[len(prefix) :]
            with suppress(binascii.Error, UnicodeDecodeError):
                return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    return ""
