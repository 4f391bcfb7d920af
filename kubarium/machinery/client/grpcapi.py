"""The API over gRPC: one channel a process, objects as JSON bytes inside protobuf messages."""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
import grpc.aio
import orjson

from kubarium.machinery.client import ListResult, PatchType, WatchEvent, codec
from kubarium.machinery.errors import ApiError, ServiceUnavailable
from kubarium.machinery.kubeconfig import ClientConfig
from kubarium.machinery.pb import api_pb2, api_pb2_grpc
from kubarium.machinery.resources import Resource

if TYPE_CHECKING:
    from kubarium.machinery.client.restapi import RestApi

T = TypeVar("T")

EOF: Any = grpc.aio.EOF  # type: ignore[attr-defined]
STATUS_KEY = "kubernetes-status-bin"
UNREACHABLE = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
REASON_CODES = {
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.OUT_OF_RANGE: 410,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
}
CHANNEL_OPTIONS = (
    # A server that was cut off sends nothing: pings find out within seconds, with or without a call under way.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.http2.ping_timeout_ms", 4_000),  # grpc 1.85 waits this long (60 s by default) for the answer to such a ping
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    # A server that restarts is found again at once; the "min" is how long one connection attempt may take.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 2_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    # Errors travel as whole Status objects in the trailing metadata.
    ("grpc.max_metadata_size", 1 << 20),
    ("grpc.absolute_max_metadata_size", 1 << 20),
    ("grpc.enable_retries", 0),
)


class GrpcApi:
    """`Api` on kubarium.v1.Api. Made and used on one event loop, the only one of its process that touches gRPC."""

    def __init__(self, config: ClientConfig, *, user_agent: str, timeout_s: float) -> None:
        logging.getLogger("grpc._cython.cygrpc").setLevel(logging.WARNING)  # else a line per call at DEBUG
        self._token = codec.BearerToken(config)
        self._timeout_s = timeout_s
        self._manager = user_agent
        self._address = config.grpc
        self._channel = _channel(config, user_agent)
        self._stub = api_pb2_grpc.ApiStub(self._channel)
        self._config = config
        self._rest: RestApi | None = None

    async def close(self) -> None:
        await self._channel.close(None)
        if self._rest is not None:
            await self._rest.close()

    async def document(self, path: str, accept: str = "application/json") -> bytes:
        """Documents have no gRPC form."""
        if self._rest is None:
            from kubarium.machinery.client.restapi import RestApi

            self._rest = RestApi(self._config, user_agent=self._manager, timeout_s=self._timeout_s)
        return await self._rest.document(path, accept)

    async def get(self, resource: Resource[T], name: str, namespace: str = "") -> T:
        return codec.view_of(resource, await self._get(resource, name, namespace, ""))

    async def get_raw(
        self, resource: Resource[Any], name: str, namespace: str = "", subresource: str = ""
    ) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(await self._get(resource, name, namespace, subresource))
        return found

    async def _get(self, resource: Resource[Any], name: str, namespace: str, subresource: str) -> bytes:
        request = api_pb2.GetRequest(ref=_ref(resource, namespace), name=name, subresource=subresource)
        return _object(await self._call(self._stub.Get(request, **self._options())))

    async def list(
        self,
        resource: Resource[T],
        namespace: str = "",
        *,
        label_selector: str = "",
        field_selector: str = "",
        limit: int = 0,
        continue_token: str = "",
        resource_version: str = "",
    ) -> ListResult[T]:
        request = api_pb2.ListRequest(
            ref=_ref(resource, namespace),
            label_selector=label_selector,
            field_selector=field_selector,
            limit=limit,
            continue_token=continue_token,
            resource_version=resource_version,
        )
        reply = await self._call(self._stub.List(request, **self._options()))
        items = tuple(codec.view_of(resource, item) for item in reply.items)
        return ListResult(items, reply.resource_version, reply.continue_token)

    async def watch(
        self,
        resource: Resource[T],
        namespace: str = "",
        *,
        resource_version: str,
        label_selector: str = "",
        field_selector: str = "",
        send_initial_events: bool = False,
        timeout_s: int = 300,
    ) -> AsyncGenerator[WatchEvent[T], None]:
        request = api_pb2.WatchRequest(
            ref=_ref(resource, namespace),
            label_selector=label_selector,
            field_selector=field_selector,
            resource_version=resource_version,
            allow_bookmarks=True,
            send_initial_events=send_initial_events,
            timeout_seconds=timeout_s,
            batches=True,
        )
        call = self._stub.Watch(request, timeout=timeout_s + self._timeout_s, metadata=self._metadata())
        try:
            while (message := await self._call(call.read())) is not EOF:
                for event in message.more or (message,):
                    yield codec.event_of(resource, event.type, event.object)
        finally:
            call.cancel()

    async def create(
        self,
        resource: Resource[T],
        obj: Mapping[str, Any],
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
    ) -> T:
        return codec.view_of(resource, await self._create(resource, obj, namespace, name, subresource))

    async def create_raw(
        self,
        resource: Resource[Any],
        obj: Mapping[str, Any],
        namespace: str = "",
        *,
        name: str = "",
        subresource: str = "",
    ) -> dict[str, Any]:
        made: dict[str, Any] = orjson.loads(await self._create(resource, obj, namespace, name, subresource))
        return made

    async def _create(
        self, resource: Resource[Any], obj: Mapping[str, Any], namespace: str, name: str, subresource: str
    ) -> bytes:
        request = api_pb2.CreateRequest(
            ref=_ref(resource, namespace or _namespace_in(obj)),
            object=codec.body_of(resource, obj),
            name=name,
            subresource=subresource,
            field_manager=self._manager,
        )
        return _object(await self._call(self._stub.Create(request, **self._options())))

    async def update(
        self, resource: Resource[T], obj: Mapping[str, Any], namespace: str = "", *, subresource: str = ""
    ) -> T:
        request = api_pb2.UpdateRequest(
            ref=_ref(resource, namespace or _namespace_in(obj)),
            name=obj["metadata"]["name"],
            object=codec.body_of(resource, obj),
            subresource=subresource,
            field_manager=self._manager,
        )
        return codec.view_of(resource, _object(await self._call(self._stub.Update(request, **self._options()))))

    async def patch(
        self,
        resource: Resource[T],
        name: str,
        patch: Any,
        namespace: str = "",
        *,
        patch_type: PatchType = PatchType.MERGE,
        subresource: str = "",
    ) -> T:
        request = api_pb2.PatchRequest(
            ref=_ref(resource, namespace),
            name=name,
            patch=orjson.dumps(patch),
            content_type=patch_type.value,
            subresource=subresource,
            field_manager=self._manager,
        )
        return codec.view_of(resource, _object(await self._call(self._stub.Patch(request, **self._options()))))

    async def delete(
        self,
        resource: Resource[Any],
        name: str,
        namespace: str = "",
        *,
        grace_period_s: int | None = None,
        uid: str = "",
        resource_version: str = "",
        propagation: str = "",
    ) -> None:
        options = codec.delete_options(grace_period_s, uid, resource_version, propagation)
        request = api_pb2.DeleteRequest(ref=_ref(resource, namespace), name=name, options=options)
        await self._call(self._stub.Delete(request, **self._options()))

    async def _call(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        except grpc.aio.AioRpcError as err:
            raise _error(err, self._address) from err

    def _options(self) -> dict[str, Any]:
        return {"timeout": self._timeout_s, "metadata": self._metadata()}

    def _metadata(self) -> tuple[tuple[str, str], ...] | None:
        header = self._token.header()
        return (("authorization", header),) if header else None


def _channel(config: ClientConfig, user_agent: str) -> grpc.aio.Channel:
    options: list[tuple[str, Any]] = [*CHANNEL_OPTIONS, ("grpc.primary_user_agent", user_agent)]
    if config.tls_server_name:
        options.append(("grpc.ssl_target_name_override", config.tls_server_name))
    credentials = grpc.ssl_channel_credentials(config.ca or None, config.key or None, config.certificate or None)
    return grpc.aio.secure_channel(config.grpc, credentials, options=options)


def _ref(resource: Resource[Any], namespace: str) -> Any:
    return api_pb2.ResourceRef(
        group=resource.group,
        version=resource.version,
        resource=resource.plural,
        namespace=namespace if resource.namespaced else "",
    )


def _object(reply: Any) -> bytes:
    data: bytes = reply.object
    return data


def _namespace_in(obj: Mapping[str, Any]) -> str:
    return str((obj.get("metadata") or {}).get("namespace") or "")


def _error(err: grpc.aio.AioRpcError, address: str) -> ApiError:
    """The Status that the server sent along, or what the gRPC code says where it sent none."""
    trailing: Any = err.trailing_metadata()
    for key, value in trailing or ():
        if key == STATUS_KEY:
            return codec.error_of(value if isinstance(value, bytes) else value.encode())
    code, details = err.code(), err.details() or ""
    if code in UNREACHABLE or code not in REASON_CODES:
        return ServiceUnavailable(f"API server at {address} (gRPC): {code.name}: {details}")
    return codec.error_of(details.encode(), REASON_CODES[code])
