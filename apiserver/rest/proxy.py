"""Proxy subresources of pods, services and nodes: any request goes on to them, its answer comes back.

Paths in HTML and in redirects are put below the path of the subresource, as they would lead elsewhere otherwise.
Sources: Kubernetes documentation, "Access Services Running on Clusters"; k8s.io/apimachinery/pkg/util/proxy (what is
rewritten, errors).
"""

from __future__ import annotations

import asyncio
import ipaddress
import random
import re
import ssl
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from aiohttp import web

from apiserver import codec, replies
from apiserver.registry.base import Object, ResourceDef
from apiserver.request import Request
from apiserver.rest.exchange import Exchange
from apiserver.rest.identity import TOKEN_PROTOCOL
from apiserver.state import State
from kubarium.machinery.errors import BadRequest, ServiceUnavailable

if TYPE_CHECKING:
    import aiohttp

_HOP = frozenset(
    ("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
     "transfer-encoding", "upgrade")
)  # fmt: skip
_OURS = frozenset(("authorization", "host", "content-length", "sec-websocket-protocol"))
_LINKS = re.compile(
    rb"""(\s(?:action|background|cite|classid|codebase|data|formaction|href|icon|longdesc|manifest|poster|profile|src"""
    rb"""|usemap)\s*=\s*)(?:"([^"]*)"|'([^']*)')""",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Location:
    """Where a request goes on to: `https://10.0.0.5:8443`, and who trusts whom there."""

    base: str
    kubelet: bool = False


def split_name(name: str, what: str) -> tuple[str, str, str]:
    """`https:web:8443` -> its scheme, name and port, each but the name may be empty. Raises BadRequest."""
    parts = name.split(":")
    scheme = parts[0] if len(parts) == 3 else ""
    bare, port = parts[-2:] if len(parts) > 1 else (parts[0], "")
    if len(parts) > 3 or not bare or scheme not in ("", "http", "https"):
        raise BadRequest(f'invalid {what} request "{name}"')
    return scheme, bare, port


def host_port(host: str, port: str) -> str:
    """Raises ServiceUnavailable for what is no port: the rest of a URL may stand in the name of an object."""
    if port and not (port.isascii() and port.isdecimal()):
        raise ServiceUnavailable(f"error trying to reach service: dial tcp: lookup tcp/{port}: unknown port")
    shown = f"[{host}]" if ":" in host else host
    return f"{shown}:{port}" if port else shown


def pod_location(pod: Object, scheme: str, port: str) -> Location:
    """Raises BadRequest for pods without an address that may be asked."""
    status = pod.get("status") or {}
    address = next((entry.get("ip", "") for entry in status.get("podIPs") or ()), status.get("podIP", ""))
    declared = (one[0] for c in pod["spec"].get("containers") or () if (one := c.get("ports")))
    port = port or next((str(one.get("containerPort", "")) for one in declared), "")
    if not _is_unicast(address):
        raise BadRequest("address not allowed")
    return Location(f"{scheme or 'http'}://{host_port(address, port)}")


def _is_unicast(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    return not (ip.is_unspecified or ip.is_loopback or ip.is_multicast or ip.is_link_local)


def port_name(service: Object, port: str) -> str:
    """The name of the service's port with this number. Raises ServiceUnavailable."""
    for one in service["spec"].get("ports") or ():
        if one.get("port") == int(port):
            return str(one.get("name", ""))
    raise ServiceUnavailable(f'no service port {port} found for service "{service["metadata"]["name"]}"')


def service_location(endpoints: Object, scheme: str, port: str) -> Location:
    """One of the endpoints that have the port of this name. Raises ServiceUnavailable."""
    found = [
        (address["ip"], one["port"])
        for subset in endpoints.get("subsets") or ()
        for one in subset.get("ports") or ()
        for address in subset.get("addresses") or ()
        if one.get("name", "") == port
    ]
    if not found:
        raise ServiceUnavailable(f'no endpoints available for service "{endpoints["metadata"]["name"]}"')
    address, number = random.choice(found)
    return Location(f"{scheme or 'http'}://{host_port(address, str(number))}")


def rewritten(link: str, prefix: str, source: str, host: str) -> str:
    """A link of the answer as it leads to the same place through the API server.

    `source` is the host that was asked, `host` the one that the client asked for.
    """
    url = urlsplit(link)
    if (url.netloc and url.netloc not in (source, host)) or not url.path.startswith("/"):
        return link
    kept = (url.scheme, url.netloc) if url.netloc == host and host else ("", "")
    path = url.path if url.path.startswith(prefix) else prefix.rstrip("/") + url.path
    return urlunsplit((*kept, path, url.query, url.fragment))


def rewritten_html(page: bytes, change: Callable[[str], str]) -> bytes:
    def link(match: re.Match[bytes]) -> bytes:
        quote = b'"' if match[2] is not None else b"'"
        target = (match[2] if match[2] is not None else match[3]).decode("utf-8", "surrogateescape")
        return match[1] + quote + change(target).encode("utf-8", "surrogateescape") + quote

    return _LINKS.sub(link, page)


class Proxy:
    """Made on the event loop; `close` it at the end. `kubelets` opens the session that kubelets trust."""

    def __init__(
        self,
        state: State,
        resources: Callable[[str], ResourceDef],
        kubelets: Callable[[], aiohttp.ClientSession],
        kubelet_url: Callable[[Object], str],
    ) -> None:
        self._state = state
        self._resources = resources
        self._kubelets = kubelets
        self._kubelet_url = kubelet_url
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    def _http(self) -> aiohttp.ClientSession:
        """Certificates of pods and services are nobody's that the API server would know."""
        import aiohttp

        if self._session is None:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            connector = aiohttp.TCPConnector(limit=0, ssl=context)
            timeout = aiohttp.ClientTimeout(total=None, connect=30)
            self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False)
        return self._session

    async def answer(self, exchange: Exchange, request: Request) -> web.StreamResponse:
        """Raises NotFound, BadRequest, ServiceUnavailable."""
        assert exchange.http is not None
        http = exchange.http
        location = await self._location(request)
        prefix, path = split_path(http.raw_path.partition("?")[0], bool(request.namespace))
        query = http.raw_path.partition("?")[2]
        if not path and http.method in ("GET", "HEAD"):
            target = f"{prefix}/" + (f"?{query}" if query else "")
            return web.Response(status=301, headers={"Location": target})
        url = location.base + (path or "/") + (f"?{query}" if query else "")
        session = self._kubelets() if location.kubelet else self._http()
        if http.headers.get("Upgrade", "").lower() == "websocket":
            return await self._joined(http, session, url)
        return await self._passed(http, session, url, prefix, location)

    # -- where to ------------------------------------------------------------------------------------------------------

    async def _found(self, plural: str, namespace: str, name: str) -> Object:
        resource = self._resources(plural)
        entry = await self._state.found(resource, namespace, name)
        if entry is None:
            raise replies.not_found(resource, name)
        found: Object = codec.decode(entry.data)
        return found

    async def _location(self, request: Request) -> Location:
        plural = request.resource.plural
        scheme, name, port = split_name(request.name, request.resource.singular)
        if plural == "pods":
            return pod_location(await self._found("pods", request.namespace, name), scheme, port)
        if plural == "nodes":
            base = self._kubelet_url(await self._found("nodes", "", name))
            own, _, kubelet_port = base.rpartition(":")
            if port in ("", kubelet_port):
                return Location(base, kubelet=True)
            host = own.partition("//")[2].strip("[]")
            return Location(f"{scheme or 'http'}://{host_port(host, port)}")
        if port.isdecimal():
            port = port_name(await self._found("services", request.namespace, name), port)
        return service_location(await self._found("endpoints", request.namespace, name), scheme, port)

    # -- there and back ------------------------------------------------------------------------------------------------

    async def _passed(
        self, http: web.BaseRequest, session: aiohttp.ClientSession, url: str, prefix: str, location: Location
    ) -> web.StreamResponse:
        from aiohttp import ClientError
        from yarl import URL

        headers = [
            (key, value)
            for key, value in http.headers.items()
            if (name := key.lower()) not in _HOP | _OURS and not name.startswith("impersonate-")
        ]
        headers.append(("X-Forwarded-Uri", http.raw_path.partition("?")[0]))
        if http.remote:
            headers.append(("X-Forwarded-For", http.remote))
        body = http.content if http.can_read_body else None
        if body is not None and http.content_length is not None:
            headers.append(("Content-Length", str(http.content_length)))
        target = URL(url, encoded=True)
        try:
            async with session.request(
                http.method, target, headers=headers, data=body, allow_redirects=False, skip_auto_headers=_AUTO
            ) as answer:
                change = None
                if not location.kubelet:
                    source, host = target.authority, http.headers.get("Host", "")
                    change = lambda link: rewritten(link, prefix, source, host)  # noqa: E731
                return await _returned(http, answer, change)
        except (ClientError, TimeoutError) as err:
            raise ServiceUnavailable(f"error trying to reach service: {err}") from err

    async def _joined(self, http: web.BaseRequest, session: aiohttp.ClientSession, url: str) -> web.StreamResponse:
        from aiohttp import ClientError

        from apiserver.rest.kubelet import FRAME_LIMIT, join

        protocols = offered(http.headers.get("Sec-WebSocket-Protocol", ""))
        try:
            async with session.ws_connect(url, protocols=protocols, max_msg_size=FRAME_LIMIT) as there:
                chosen = (there.protocol,) if there.protocol else ()
                client = web.WebSocketResponse(protocols=chosen, max_msg_size=FRAME_LIMIT)
                await client.prepare(http)
                await join(client, there)
                return client
        except ClientError as err:
            raise ServiceUnavailable(f"error trying to reach service: {err}") from err


_AUTO = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")


def offered(protocols: str) -> list[str]:
    """The protocols that a client offers, without the one that is its token for the API server."""
    every = (one.strip() for one in protocols.split(","))
    return [one for one in every if one and not one.startswith(TOKEN_PROTOCOL)]


def split_path(path: str, namespaced: bool) -> tuple[str, str]:
    """`/api/v1/nodes/n/proxy/a/b` -> the part up to `proxy`, and the rest with its slash."""
    parts = path.split("/")
    count = 8 if namespaced else 6
    rest = parts[count:]
    return "/".join(parts[:count]), "/" + "/".join(rest) if rest else ""


async def _returned(
    http: web.BaseRequest, answer: aiohttp.ClientResponse, change: Callable[[str], str] | None
) -> web.StreamResponse:
    headers = [(k, v) for k, v in answer.headers.items() if k.lower() not in _HOP]
    if change is not None and "Location" in answer.headers:
        headers = [(k, change(v) if k.lower() == "location" else v) for k, v in headers]
    elif change is not None and http.method != "HEAD" and _is_html(answer):
        page = rewritten_html(await _page(answer), change)
        response = web.Response(status=answer.status, reason=answer.reason, body=page)
        for key, value in headers:
            if key.lower() == "content-type":
                response.headers[key] = value
            elif key.lower() not in ("content-length", "content-encoding"):
                response.headers.add(key, value)
        return response
    stream = web.StreamResponse(status=answer.status, reason=answer.reason)
    for key, value in headers:
        stream.headers.add(key, value)
    if "Content-Length" not in stream.headers:
        stream.enable_chunked_encoding()
    await stream.prepare(http)
    with suppress(ConnectionError, asyncio.IncompleteReadError):
        async for chunk in answer.content.iter_any():
            await stream.write(chunk)
        await stream.write_eof()
    return stream


def _is_html(answer: aiohttp.ClientResponse) -> bool:
    known = answer.headers.get("Content-Encoding", "") in ("", "identity", "gzip", "deflate")
    return known and answer.headers.get("Content-Type", "").startswith("text/html")


async def _page(answer: aiohttp.ClientResponse) -> bytes:
    """The page without its packing."""
    data = await answer.read()
    return zlib.decompress(data, wbits=47) if answer.headers.get("Content-Encoding") in ("gzip", "deflate") else data
