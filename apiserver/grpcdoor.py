"""The gRPC front end: `protos/kubarium/v1/api.proto` on the pipeline that REST stands on too.

Names, verbs and refusals are judged by the very functions of the REST front end, so that both doors have one meaning.
Every error is a gRPC code and the whole Status in the trailing metadata. A watch event is encoded once for everybody.
Health (grpc.health.v1) and server reflection answer everybody, as /healthz does: they tell nothing of the cluster.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import ssl
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

import grpc
import grpc.aio
import orjson
from grpc_health.v1 import health as health_service
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from apiserver import deleteoptions, options
from apiserver.auth.authenticator import Authenticator, subject_of
from apiserver.grpctls import TlsFront, private_folder
from apiserver.pipeline import Pipeline
from apiserver.registry.base import Registry
from apiserver.request import DeleteOptions, Listed, ListOptions, Request, User, WriteOptions
from apiserver.rest.dispatch import is_served, object_name
from apiserver.rest.exchange import BODY_LIMIT, timed_out, too_large
from apiserver.rest.identity import BEARER
from apiserver.rest.limits import MUTATING, READ_ONLY, Limits
from apiserver.rest.metrics import Call, Metrics
from apiserver.rest.paths import Target
from apiserver.rest.resources import verb_of
from apiserver.subresources import delete_options
from apiserver.watchcache import Event
from kubarium.machinery.errors import ApiError, BadRequest, InternalError, NotFound, Unauthorized
from kubarium.machinery.pb import api_pb2

log = logging.getLogger(__name__)

T = TypeVar("T")

BUSY, PAUSE_S = 4, 0.02
"""A watch that is told of so many events at once is told of the next ones a little later, together: under load it is
the messages that cost, not the events."""

SERVICE: Final = "kubarium.v1.Api"
STATUS_KEY: Final = "kubernetes-status-bin"
JSON: Final = "application/json"
GRACE_S: Final = 5.0  # for calls under way when the server stops
DETAILS_LIMIT: Final = 1000  # characters of a message that are repeated outside the Status
SERVER_OPTIONS: Final = (
    ("grpc.max_receive_message_length", BODY_LIMIT + (1 << 20)),  # what is too large is said by a Status
    ("grpc.max_send_message_length", -1),
    # Clients ping every few seconds to notice a server that was cut off; by default gRPC hangs up on them for it.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.so_reuseport", 0),
)
CODES: Final = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    405: grpc.StatusCode.UNIMPLEMENTED,
    409: grpc.StatusCode.ABORTED,
    410: grpc.StatusCode.OUT_OF_RANGE,
    413: grpc.StatusCode.INVALID_ARGUMENT,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    422: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    500: grpc.StatusCode.INTERNAL,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
METHODS: Final = {"Get": "GET", "List": "GET", "Watch": "GET", "Create": "POST", "Update": "PUT", "Patch": "PATCH"} | {
    "Delete": "DELETE",
    "DeleteCollection": "DELETE",
}
NAMED: Final = frozenset({"Get", "Update", "Patch", "Delete"})

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Behind:
    """What the door stands in front of; the same parts as for REST."""

    registry: Registry
    pipeline: Pipeline
    authenticator: Authenticator
    limits: Limits
    metrics: Metrics
    request_timeout_s: float


@asynccontextmanager
async def grpc_door(
    behind: Behind, host: str, port: int, tls: ssl.SSLContext, run_dir: Path | None = None
) -> AsyncIterator[int]:
    """The front end answers until the block is left; gives the port. `tls` must be a context of its own; the sockets
    between TLS and gRPC are in a folder of their own in `run_dir`."""
    folder = private_folder(run_dir)
    front = TlsFront(folder)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((GrpcDoor(behind, front).handlers(),))
    health = health_service.aio.HealthServicer()  # type: ignore[attr-defined]  # grpc-stubs 1.53 lacks it
    health_pb2_grpc.add_HealthServicer_to_server(health, server)
    reflection.enable_server_reflection((SERVICE, health_service.SERVICE_NAME, reflection.SERVICE_NAME), server)
    server.add_insecure_port(f"unix:{front.backend}")
    try:
        await server.start()
        for name in ("", SERVICE):
            await health.set(name, health_pb2.HealthCheckResponse.SERVING)
        yield await front.start(host, port, tls)
    finally:
        await health.enter_graceful_shutdown()
        await front.stop()
        behind.pipeline.end_watches()
        await server.stop(GRACE_S)
        shutil.rmtree(folder, ignore_errors=True)


class GrpcDoor:
    """The methods of the service."""

    def __init__(self, behind: Behind, front: TlsFront) -> None:
        self._behind = behind
        self._pipeline = behind.pipeline
        self._front = front

    def handlers(self) -> grpc.GenericRpcHandler[Any, Any]:
        unary: dict[str, tuple[Callable[[Request, Any, str], Awaitable[Any]], Any]] = {
            "Get": (self._get, api_pb2.GetRequest),
            "List": (self._list, api_pb2.ListRequest),
            "Create": (self._create, api_pb2.CreateRequest),
            "Update": (self._update, api_pb2.UpdateRequest),
            "Patch": (self._patch, api_pb2.PatchRequest),
            "Delete": (self._delete, api_pb2.DeleteRequest),
            "DeleteCollection": (self._delete_collection, api_pb2.DeleteCollectionRequest),
        }
        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            name: grpc.unary_unary_rpc_method_handler(
                self._answering(name, method),
                request_deserializer=message.FromString,
                response_serializer=_serialize,
            )
            for name, (method, message) in unary.items()
        }
        handlers["Watch"] = grpc.unary_stream_rpc_method_handler(
            self._watch, request_deserializer=api_pb2.WatchRequest.FromString
        )
        return grpc.method_handlers_generic_handler(SERVICE, handlers)

    # -- who and what --------------------------------------------------------------------------------------------------

    def _user(self, context: Context, metadata: dict[str, str]) -> User:
        """Certificate first, then bearer token. Raises Unauthorized."""
        peer = context.peer()
        if not self._front.knows(peer):
            raise Unauthorized("Unauthorized")
        header = metadata.get("authorization", "")
        token = header[len(BEARER) :].strip() if header[: len(BEARER)].lower() == BEARER else ""
        return self._behind.authenticator.authenticate(token=token, subject=subject_of(self._front.certificate(peer)))

    def _request(self, method: str, message: Any, user: User) -> Request:
        """Raises NotFound, MethodNotAllowed, BadRequest."""
        ref = message.list.ref if method == "DeleteCollection" else message.ref
        name, subresource = getattr(message, "name", ""), getattr(message, "subresource", "")
        if method in NAMED and not name:
            raise BadRequest("resource name may not be empty")
        target = Target(ref.group, ref.version, ref.resource, ref.namespace, name, subresource, watch=method == "Watch")
        resource = self._behind.registry.get(target.group, target.version, target.plural)
        if resource is None or not is_served(target, resource):
            raise NotFound("the server could not find the requested resource", details={})
        verb = verb_of(METHODS[method], target, resource, {})
        return Request(user, verb, resource, target.namespace, object_name(target), subresource)

    def _answering(
        self, method: str, answer: Callable[[Request, Any, str], Awaitable[T]]
    ) -> Callable[[Any, Context], Awaitable[T]]:
        """A handler round a method: identity, limits, time, errors, figures."""
        kind = READ_ONLY if METHODS[method] == "GET" else MUTATING

        async def handle(message: Any, context: Context) -> T:
            begun = time.perf_counter()
            metadata = _metadata(context)
            request, code = None, 200
            try:
                request = self._request(method, message, self._user(context, metadata))
                async with asyncio.timeout(self._behind.request_timeout_s):
                    async with self._behind.limits.admitted(kind, request.user.name):
                        return await answer(request, message, metadata.get("user-agent", ""))
            except Exception as err:
                failure = _failure(err, method)
                code = failure.status_code
                await _abort(context, failure)
            finally:
                self._count(request, code, begun)

        return handle

    def _count(self, request: Request | None, code: int, begun: float) -> None:
        """By resource where it is one of ours: what else clients come up with has no figure of its own."""
        metrics = self._behind.metrics
        if request is None:
            metrics.count(Call("", code=code), None)
            return
        verb, resource = request.verb, request.resource
        scope = "resource" if request.name or verb == "create" else "namespace" if request.namespace else "cluster"
        call = Call(verb, resource.group, resource.version, resource.plural, request.subresource, code, scope)
        metrics.count(call, None if verb == "watch" else time.perf_counter() - begun)

    # -- the methods ---------------------------------------------------------------------------------------------------

    async def _get(self, request: Request, message: api_pb2.GetRequest, _: str) -> api_pb2.ObjectReply:
        data = await self._pipeline.get(request, resource_version=message.resource_version)
        return api_pb2.ObjectReply(object=data)

    async def _list(self, request: Request, message: api_pb2.ListRequest, _: str) -> api_pb2.ListReply:
        return _listed(await self._pipeline.list(request, _list_options(message)))

    async def _create(self, request: Request, message: api_pb2.CreateRequest, agent: str) -> api_pb2.ObjectReply:
        body = _checked(message.object)
        written = await self._pipeline.unbroken(
            self._pipeline.create(request, body, JSON, _write_options(message, agent))
        )
        return api_pb2.ObjectReply(object=written.body)

    async def _update(self, request: Request, message: api_pb2.UpdateRequest, agent: str) -> api_pb2.ObjectReply:
        body = _checked(message.object)
        written = await self._pipeline.unbroken(
            self._pipeline.update(request, body, JSON, _write_options(message, agent))
        )
        return api_pb2.ObjectReply(object=written.body)

    async def _patch(self, request: Request, message: api_pb2.PatchRequest, agent: str) -> api_pb2.ObjectReply:
        body = _checked(message.patch)
        written = await self._pipeline.unbroken(
            self._pipeline.patch(request, body, message.content_type, _write_options(message, agent))
        )
        return api_pb2.ObjectReply(object=written.body)

    async def _delete(self, request: Request, message: api_pb2.DeleteRequest, _: str) -> api_pb2.ObjectReply:
        written = await self._pipeline.unbroken(self._pipeline.delete(request, _delete_options(message.options)))
        return api_pb2.ObjectReply(object=written.body)

    async def _delete_collection(
        self, request: Request, message: api_pb2.DeleteCollectionRequest, _: str
    ) -> api_pb2.ListReply:
        wanted = _delete_options(message.options)
        return _listed(await self._pipeline.delete_collection(request, _list_options(message.list), wanted))

    async def _watch(self, message: api_pb2.WatchRequest, context: Context) -> AsyncGenerator[bytes, None]:
        begun = time.perf_counter()
        request, code = None, 200
        try:
            request = self._request("Watch", message, self._user(context, _metadata(context)))
            with self._behind.limits.long_running("watch"):
                async with aclosing(self._pipeline.watch(request, _watch_options(message))) as batches:
                    async for batch in batches:
                        if not batch:  # the watch stands: the first says no more than that
                            await context.send_initial_metadata(())
                        elif message.batches:
                            yield batch.joined(_item)
                            if len(batch) >= BUSY:
                                await asyncio.sleep(PAUSE_S)
                        else:
                            for event in batch:
                                yield event.view("grpc", _encode)
        except Exception as err:
            failure = _failure(err, "Watch")
            code = failure.status_code
            await _abort(context, failure)
        finally:
            self._count(request, code, begun)


def _metadata(context: Context) -> dict[str, str]:
    return {key: value for key, value in context.invocation_metadata() or () if isinstance(value, str)}


def _serialize(reply: Any) -> bytes:
    data: bytes = reply.SerializeToString()
    return data


def _encode(event: Event) -> bytes:
    return api_pb2.WatchEvent(type=event.type, object=event.data).SerializeToString()


def _item(event: Event) -> bytes:
    """An event as an element of WatchEvent.more: joined, they are a message."""
    return event.view("grpc item", _encode_item)


def _encode_item(event: Event) -> bytes:
    return api_pb2.WatchEvent(more=[api_pb2.WatchEvent(type=event.type, object=event.data)]).SerializeToString()


def _checked(body: bytes) -> bytes:
    """Raises RequestEntityTooLarge (413)."""
    if len(body) > BODY_LIMIT:
        raise too_large()
    return body


def _write_options(
    message: api_pb2.CreateRequest | api_pb2.UpdateRequest | api_pb2.PatchRequest, user_agent: str
) -> WriteOptions:
    return WriteOptions(
        dry_run=(options.ALL,) if message.dry_run else (),
        field_manager=message.field_manager,
        field_validation=message.field_validation,
        force=message.force if isinstance(message, api_pb2.PatchRequest) and message.HasField("force") else None,
        user_agent=user_agent,
    )


def _delete_options(body: bytes) -> DeleteOptions:
    """Raises BadRequest."""
    return delete_options(deleteoptions.read(_checked(body), JSON)) if body else DeleteOptions()


def _list_options(message: api_pb2.ListRequest) -> ListOptions:
    return ListOptions(
        label_selector=message.label_selector,
        field_selector=message.field_selector,
        limit=message.limit,
        continue_token=message.continue_token,
        resource_version=message.resource_version,
        resource_version_match=message.resource_version_match,
    )


def _listed(listed: Listed) -> api_pb2.ListReply:
    return api_pb2.ListReply(
        items=[entry.data for entry in listed.entries],
        resource_version=str(listed.revision),
        continue_token=listed.continue_token,
        remaining_item_count=listed.remaining or 0,
    )


def _watch_options(message: api_pb2.WatchRequest) -> ListOptions:
    initial = message.send_initial_events
    return ListOptions(
        label_selector=message.label_selector,
        field_selector=message.field_selector,
        resource_version=message.resource_version,
        resource_version_match=options.NOT_OLDER_THAN if initial else "",
        timeout_s=message.timeout_seconds,
        allow_bookmarks=message.allow_bookmarks,
        send_initial_events=True if initial else None,
    )


def _failure(err: Exception, method: str) -> ApiError:
    """What the client is told of an error."""
    if isinstance(err, ApiError):
        return err
    if isinstance(err, TimeoutError):
        return timed_out()
    log.error("grpc: %s failed", method, exc_info=err)
    return InternalError("Internal error occurred: see the log of the API server")


async def _abort(context: Context, err: ApiError) -> NoReturn:
    code = CODES.get(err.status_code, grpc.StatusCode.UNKNOWN)
    if err.status_reason == "AlreadyExists":
        code = grpc.StatusCode.ALREADY_EXISTS
    await context.abort(code, err.message[:DETAILS_LIMIT], ((STATUS_KEY, orjson.dumps(err.to_status())),))
    raise AssertionError("abort does not return")
