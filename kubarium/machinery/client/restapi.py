"""The API over HTTPS and JSON: works with every API server, ours and upstream's."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import AsyncGenerator, Mapping
from typing import Any, TypeVar

import aiohttp
import orjson

from kubarium.machinery.client import ListResult, PatchType, WatchEvent, codec
from kubarium.machinery.errors import ApiError, ConfigError, ServiceUnavailable
from kubarium.machinery.kubeconfig import ClientConfig
from kubarium.machinery.resources import Resource

T = TypeVar("T")

# A peer that was cut off sends nothing: the kernel probes an idle connection and gives up after about 10 s.
KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 4),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)

SILENCE_S = 90.0  # a watch brings a bookmark every minute; one that is silent for longer hangs, and is begun anew


class RestApi:
    """`Api` on REST. Made and used on one event loop."""

    def __init__(self, config: ClientConfig, *, user_agent: str, timeout_s: float) -> None:
        self._server = config.server
        self._token = codec.BearerToken(config)
        self._manager = user_agent
        self._timeout = aiohttp.ClientTimeout(total=timeout_s, connect=5.0)
        self._ssl = tls_context(config) if config.server.startswith("https:") else False
        self._server_name = config.tls_server_name or None
        self._user_agent = user_agent
        self._session: aiohttp.ClientSession | None = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, ssl=self._ssl, socket_factory=_probed_socket)
            headers = {"User-Agent": self._user_agent, "Accept": "application/json"}
            self._session = aiohttp.ClientSession(connector=connector, headers=headers, auto_decompress=True)
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def get(self, resource: Resource[T], name: str, namespace: str = "") -> T:
        return codec.view_of(resource, await self._call("GET", resource.path(namespace, name)))

    async def get_raw(
        self, resource: Resource[Any], name: str, namespace: str = "", subresource: str = ""
    ) -> dict[str, Any]:
        found: dict[str, Any] = orjson.loads(await self._call("GET", resource.path(namespace, name, subresource)))
        return found

    async def document(self, path: str, accept: str = "application/json") -> bytes:
        return await self._call("GET", path, accept=accept)

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
        query = {
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "limit": str(limit or ""),
            "continue": continue_token,
            "resourceVersion": resource_version,
        }
        answer = await self._call("GET", resource.path(namespace), query, accept=_accept(resource, "List"))
        reply = codec.raw_list.decode(answer)
        items = tuple(codec.view_of(resource, bytes(item)) for item in reply.items or ())
        return ListResult(items, reply.metadata.resourceVersion, reply.metadata.continue_)

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
        query = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "labelSelector": label_selector,
            "fieldSelector": field_selector,
            "timeoutSeconds": str(timeout_s),
        }
        if send_initial_events:
            query |= {"sendInitialEvents": "true", "resourceVersionMatch": "NotOlderThan"}
        limit_s = timeout_s + (self._timeout.total or 0)
        timeout = aiohttp.ClientTimeout(total=limit_s, connect=5.0, sock_read=min(limit_s, SILENCE_S))
        path = resource.path(namespace)
        response = await self._send("GET", path, query, timeout=timeout, accept=_accept(resource, ""))
        try:
            async for line in self._lines(response):
                event = codec.raw_event.decode(line)
                yield codec.event_of(resource, event.type, bytes(event.object))
        finally:
            response.close()

    async def _lines(self, response: aiohttp.ClientResponse) -> AsyncGenerator[bytes, None]:
        """The answer's lines, however long: aiohttp's own reader refuses one beyond its buffer."""
        rest = b""
        while True:
            try:
                chunk = await response.content.readany()
            except (aiohttp.ClientError, TimeoutError, OSError) as err:
                raise self._unreachable(err) from err
            if not chunk:
                return
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                if line:
                    yield line

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
        namespace = namespace or str((obj.get("metadata") or {}).get("namespace") or "")
        path = resource.path(namespace, name, subresource)
        return await self._call("POST", path, {"fieldManager": self._manager}, body=codec.body_of(resource, obj))

    async def update(
        self, resource: Resource[T], obj: Mapping[str, Any], namespace: str = "", *, subresource: str = ""
    ) -> T:
        metadata = obj["metadata"]
        path = resource.path(namespace or str(metadata.get("namespace") or ""), metadata["name"], subresource)
        body = codec.body_of(resource, obj)
        return codec.view_of(resource, await self._call("PUT", path, {"fieldManager": self._manager}, body=body))

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
        query = {"fieldManager": self._manager}
        if patch_type is PatchType.APPLY:
            query["force"] = "true"
        path = resource.path(namespace, name, subresource)
        answer = await self._call("PATCH", path, query, body=orjson.dumps(patch), content_type=patch_type.value)
        return codec.view_of(resource, answer)

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
        await self._call("DELETE", resource.path(namespace, name), body=options)

    async def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: bytes = b"",
        content_type: str = "application/json",
        accept: str = "",
    ) -> bytes:
        response = await self._send(method, path, query, body=body, content_type=content_type, accept=accept)
        try:
            return await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            raise self._unreachable(err) from err
        finally:
            response.release()

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        *,
        body: bytes = b"",
        content_type: str = "application/json",
        accept: str = "",
        timeout: aiohttp.ClientTimeout | None = None,
    ) -> aiohttp.ClientResponse:
        """The answer's head; any status that is no success is raised as its error."""
        headers = {"Content-Type": content_type} if body else {}
        if accept:
            headers["Accept"] = accept
        if header := self._token.header():
            headers["Authorization"] = header
        try:
            response = await self._open().request(
                method,
                self._server + path,
                params={key: value for key, value in (query or {}).items() if value},
                data=body or None,
                headers=headers,
                timeout=timeout or self._timeout,
                server_hostname=self._server_name,
            )
            if response.status < 400:
                return response
            async with response:
                raise codec.error_of(await response.read(), response.status)
        except (aiohttp.ClientError, TimeoutError, OSError) as err:
            raise self._unreachable(err) from err

    def _unreachable(self, err: BaseException) -> ApiError:
        reason = "no answer in time" if isinstance(err, TimeoutError) else str(err) or type(err).__name__
        return ServiceUnavailable(f"API server at {self._server}: {reason}")


def _accept(resource: Resource[Any], of: str) -> str:
    """What to accept of a list (`of` is List) or of a single object; "" for the object as it is."""
    shape = f"application/json;as=PartialObjectMetadata{of};g=meta.k8s.io;v=v1"
    return f"{shape},application/json" if resource.metadata_only else ""


def _probed_socket(address: Any) -> socket.socket:
    """A connection that notices within seconds that its peer is gone."""
    family, kind, protocol, *_ = address
    made = socket.socket(family, kind, protocol)
    for level, option, value in KEEPALIVE:
        made.setsockopt(level, option, value)
    return made


def tls_context(config: ClientConfig) -> ssl.SSLContext:
    """Trust the cluster's CA, show our client certificate. Raises ConfigError for certificates that cannot be read."""
    try:
        context = ssl.create_default_context(cadata=config.ca.decode() or None)
        if config.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        if config.certificate:
            _load_chain(context, config.certificate + b"\n" + config.key)
    except (ssl.SSLError, ValueError) as err:
        raise ConfigError(f"certificates for {config.server} cannot be read: {err}") from err
    return context


def _load_chain(context: ssl.SSLContext, pem: bytes) -> None:
    """OpenSSL reads certificates from a file only; an anonymous one keeps the key off the disk."""
    fd = os.memfd_create("kubarium-client", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
