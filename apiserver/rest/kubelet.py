"""Logs, exec, attach and port-forward: passed on to the kubelet of the pod's node.

The client's stream and the kubelet's are joined frame by frame; nothing of the protocol inside is looked at. kubectl
asks for a WebSocket first; the older SPDY upgrade is refused. What a kubelet says instead of a stream goes to clients
of v5.channel.k8s.io as the Status that ends it, as they take a refused WebSocket for a reason to try SPDY.
Sources: KEP-4006 (WebSocket streams); Kubernetes documentation, "Communication between Nodes and the Control Plane".
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

import orjson

from apiserver import codec, replies
from apiserver.registry.base import Object, ResourceDef
from apiserver.registry.faults import quoted
from apiserver.request import Request
from apiserver.rest import query as queries
from apiserver.rest.answers import Answer
from apiserver.rest.exchange import Exchange
from apiserver.rest.proxy import Proxy
from apiserver.state import State, decoded
from kubarium.machinery.errors import ApiError, BadRequest, InternalError

if TYPE_CHECKING:
    import aiohttp
    from aiohttp import web

V5 = "v5.channel.k8s.io"
STATUS_CHANNEL = 3
PROTOCOLS = (V5, "v4.channel.k8s.io", "SPDY/3.1+portforward.k8s.io", "v4.base64.channel.k8s.io")
DEFAULT_PORT = 10250
CONNECT_TIMEOUT_S = 10.0
FRAME_LIMIT = 32 * 1024 * 1024
LOG_OPTIONS = (
    "follow", "previous", "sinceSeconds", "sinceTime", "timestamps", "tailLines", "limitBytes", "stream",
)  # fmt: skip
EXEC_OPTIONS = (("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty"))


@dataclass(frozen=True, slots=True)
class KubeletClient:
    """How the API server shows itself to kubelets; empty paths mean no certificate, or no check of theirs."""

    certificate: str = ""
    key: str = ""
    authority: str = ""

    def context(self) -> ssl.SSLContext:
        """Kubelets have certificates for their node's name and address; a cluster may also leave them self-signed."""
        context = ssl.create_default_context(cafile=self.authority or None)
        if not self.authority:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if self.certificate:
            context.load_cert_chain(self.certificate, self.key or None)
        return context


class KubeletProxy:
    """Made on the event loop; `close` it at the end."""

    def __init__(self, state: State, client: KubeletClient, resources: Callable[[str], ResourceDef]) -> None:
        """`resources` gives the core resource of a plural."""
        self._state = state
        self._client = client
        self._resources = resources
        self._session: aiohttp.ClientSession | None = None
        self._proxy = Proxy(state, resources, self._http, kubelet_url)

    async def close(self) -> None:
        await self._proxy.close()
        if self._session is not None:
            await self._session.close()

    def _http(self) -> aiohttp.ClientSession:
        import aiohttp

        if self._session is None:
            connector = aiohttp.TCPConnector(limit=0, ssl=self._client.context())
            timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S)
            self._session = aiohttp.ClientSession(
                connector=connector, timeout=timeout, auto_decompress=False, raise_for_status=_check_upgraded
            )
        return self._session

    async def answer(self, exchange: Exchange, request: Request) -> Answer | web.StreamResponse:
        """Raises NotFound, BadRequest, InternalError, ServiceUnavailable."""
        assert exchange.http is not None
        if request.subresource == "proxy":
            return await self._proxy.answer(exchange, request)
        ports = ports_of(exchange.query) if request.subresource == "portforward" else ()
        pod = await self._pod(request)
        container = ""
        if request.subresource != "portforward":
            container = container_of(pod, queries.first(exchange.query, "container"))
        if not (node := pod["spec"].get("nodeName")):
            if request.subresource == "log":
                return Answer(status=204, headers=())
            raise BadRequest(f"pod {request.name} does not have a host assigned")
        base = await self._kubelet(node, request.resource)
        url = base + kubelet_path(request, container, exchange.query, ports)
        if request.subresource == "log":
            return await self._log(exchange.http, url)
        return await self._stream(exchange.http, url, tells=request.subresource != "portforward")

    async def _pod(self, request: Request) -> Object:
        entry = await self._state.current(request.resource, request.namespace, request.name)
        if entry is None:
            raise replies.not_found(request.resource, request.name)
        return decoded(entry)

    async def _kubelet(self, node: str, asked: ResourceDef) -> str:
        entry = await self._state.found(self._resources("nodes"), "", node)
        if entry is None:
            raise replies.not_found(asked, node)  # as upstream words it
        return kubelet_url(codec.decode(entry.data))

    # -- logs ----------------------------------------------------------------------------------------------------------

    async def _log(self, http: web.BaseRequest, url: str) -> web.StreamResponse:
        from aiohttp import ClientError, web

        try:
            async with self._http().get(url) as answer:
                if answer.status != HTTPStatus.OK:
                    raise kubelet_error(answer.status, await answer.read())
                response = web.StreamResponse(headers={"Content-Type": "text/plain"})
                response.enable_chunked_encoding()
                await response.prepare(http)
                with suppress(ConnectionError):
                    async for chunk in answer.content.iter_any():
                        await response.write(chunk)
                    await response.write_eof()
                return response
        except ClientError as err:
            raise unreachable(url, err) from err

    # -- streams -------------------------------------------------------------------------------------------------------

    async def _stream(self, http: web.BaseRequest, url: str, *, tells: bool) -> web.StreamResponse:
        """`tells`: the protocol has a channel for a Status."""
        from aiohttp import ClientError, web

        if http.headers.get("Upgrade", "").lower() != "websocket":
            if "Upgrade" in http.headers:
                await self._ask(url)
            raise BadRequest("Upgrade request required")
        offered = http.headers.get("Sec-WebSocket-Protocol", "")
        protocols = [p.strip() for p in offered.split(",") if p.strip() in PROTOCOLS]
        if offered and not protocols:
            raise BadRequest(f"unable to upgrade: none of the protocols {offered} is supported")
        try:
            async with self._http().ws_connect(url, protocols=protocols, max_msg_size=FRAME_LIMIT) as kubelet:
                chosen = (kubelet.protocol,) if kubelet.protocol else ()
                client = web.WebSocketResponse(protocols=chosen, max_msg_size=FRAME_LIMIT, autoping=True)
                await client.prepare(http)
                await join(client, kubelet)
                return client
        except ApiError as err:
            if not tells or protocols[:1] != [V5]:
                raise
            text = f"Internal error occurred: unable to upgrade connection: {err.message}"
            return await _told(http, InternalError(text))
        except ClientError as err:
            if not tells or protocols[:1] != [V5]:
                raise unreachable(url, err) from err
            return await _told(http, unreachable(url, err))

    async def _ask(self, url: str) -> None:
        """What the kubelet would refuse anyway it refuses here, with its reason."""
        from aiohttp import ClientError

        try:
            async with self._http().get(url) as answer:
                if answer.status != HTTPStatus.BAD_REQUEST:  # that is its word for: no WebSocket
                    raise kubelet_error(answer.status, await answer.read())
        except ClientError as err:
            raise unreachable(url, err) from err


async def _check_upgraded(answer: aiohttp.ClientResponse) -> None:
    """Raises what a kubelet says instead of opening a WebSocket; aiohttp's own error would be without it."""
    if "Sec-WebSocket-Key" in answer.request_info.headers and answer.status != HTTPStatus.SWITCHING_PROTOCOLS:
        raise kubelet_error(answer.status, await answer.read())


async def _told(http: web.BaseRequest, error: ApiError) -> web.StreamResponse:
    """A stream that holds nothing but the Status of its failure."""
    from aiohttp import web

    client = web.WebSocketResponse(protocols=(V5,))
    await client.prepare(http)
    with suppress(ConnectionError):
        await client.send_bytes(bytes([STATUS_CHANNEL]) + orjson.dumps(error.to_status()))
        await client.close()
    return client


async def join(client: web.WebSocketResponse, kubelet: aiohttp.ClientWebSocketResponse) -> None:
    """Pass frames both ways until one side ends; then the other is closed too."""
    async with asyncio.TaskGroup() as tasks:
        down = tasks.create_task(_pump(kubelet, client), name="exec/down")
        up = tasks.create_task(_pump(client, kubelet), name="exec/up")
        await asyncio.wait({down, up}, return_when=asyncio.FIRST_COMPLETED)
        await client.close()
        await kubelet.close()
        up.cancel()
        down.cancel()


async def _pump(source: Any, sink: Any) -> None:
    from aiohttp import WSMsgType

    with suppress(ConnectionError):
        async for message in source:
            if message.type is WSMsgType.BINARY:
                await sink.send_bytes(message.data)
            elif message.type is WSMsgType.TEXT:
                await sink.send_str(message.data)


def ports_of(query: queries.Query) -> tuple[int, ...]:
    """Ports to forward, as Go's conversion of query parameters reads them. Raises BadRequest."""
    return tuple(_number(text) for value in query.get("ports", ()) for text in value.split(","))


def _number(text: str) -> int:
    problem, digits = "invalid syntax", text.lstrip("0") or text[:1]
    if digits.isascii() and digits.isdecimal():
        if len(digits) <= 10 and int(digits) < 2**31:
            return int(digits)
        problem = "value out of range"
    raise BadRequest(f"cannot convert to []int32: strconv.ParseUint: parsing {quoted(text)}: {problem}")


def kubelet_path(request: Request, container: str, query: queries.Query, ports: Sequence[int] = ()) -> str:
    """The path on the kubelet's server. Source: pkg/registry/core/pod/strategy.go."""
    where = f"{quote(request.namespace)}/{quote(request.name)}"
    if request.subresource == "log":
        options = [(name, queries.first(query, name)) for name in LOG_OPTIONS if name in query]
        return f"/containerLogs/{where}/{quote(container)}" + (f"?{urlencode(options)}" if options else "")
    if request.subresource == "portforward":
        return f"/portForward/{where}" + (f"?port={','.join(map(str, ports))}" if ports else "")
    options = [(theirs, "1") for ours, theirs in EXEC_OPTIONS if queries.is_true(query, ours)]
    options += [("command", word) for word in query.get("command", ())]
    return f"/{request.subresource}/{where}/{quote(container)}?{urlencode(options)}"


def container_of(pod: Object, wanted: str) -> str:
    """The container that is meant: the one named, or the only one. Raises BadRequest. Source: pod/strategy.go."""
    spec, name = pod["spec"], pod["metadata"]["name"]
    every = [
        c["name"] for kind in ("initContainers", "containers", "ephemeralContainers") for c in spec.get(kind) or ()
    ]
    if wanted in every:
        return wanted
    if wanted:
        raise BadRequest(f"container {wanted} is not valid for pod {name}")
    if len(spec["containers"]) == 1:
        return str(spec["containers"][0]["name"])
    text = f"a container name must be specified for pod {name}, choose one of: [{' '.join(every)}]"
    raise BadRequest(text)


def kubelet_url(node: Object) -> str:
    """`https://198.18.1.11:10250`. Raises ApiError where the node tells no address."""
    status = node.get("status") or {}
    port = ((status.get("daemonEndpoints") or {}).get("kubeletEndpoint") or {}).get("Port") or DEFAULT_PORT
    addresses = {a["type"]: a["address"] for a in reversed(status.get("addresses") or [])}
    for kind in ("InternalIP", "ExternalIP", "Hostname", "InternalDNS", "ExternalDNS"):
        if address := addresses.get(kind):
            return f"https://[{address}]:{port}" if ":" in address else f"https://{address}:{port}"
    raise ApiError("no preferred addresses found; known addresses: []", code=500, reason="")


def kubelet_error(status: int, body: bytes) -> ApiError:
    """What the kubelet answered instead of a stream, as it said it: a Status, or text."""
    with suppress(ValueError, AttributeError):
        found = orjson.loads(body)
        if found.get("kind") == "Status":
            return ApiError.from_status(found)
    text = body.decode("utf-8", "replace").strip() or "the kubelet refused"
    reasons = {400: "BadRequest", 404: "NotFound", 403: "Forbidden", 401: "Unauthorized"}
    return ApiError(text, code=status if status >= 400 else 500, reason=reasons.get(status, "InternalError"))


def unreachable(url: str, err: Exception) -> ApiError:
    return InternalError(f"Internal error occurred: error dialing backend: {url.partition('?')[0]}: {err}")
