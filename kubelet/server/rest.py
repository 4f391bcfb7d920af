"""HTTPS for the API server: logs, streams into containers, pods; for those whom the API server lets in (see `access`).

Paths and parameters as upstream's kubelet has them. Source: https://kubernetes.io/docs/reference/access-authn-authz/
kubelet-authn-authz/
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec
from aiohttp import web

from kubarium.machinery.errors import ApiError, ConfigError, ContainerError, NotFound
from kubelet.config import Config
from kubelet.node import KUBELET_VERSION
from kubelet.pods import Pods
from kubelet.runtimes.base import PodUid
from kubelet.server import portforward
from kubelet.server.access import AUTHENTICATED, Access, Caller
from kubelet.server.logs import as_api_error, find_container, find_running, parse_options
from kubelet.server.relay import pod_ports
from kubelet.server.streams import PROTOCOLS, serve_process

log = logging.getLogger(__name__)

BEARER = "bearer "
ACCESS = web.AppKey("access", Access)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


async def serve(config: Config, pods: Pods, access: Access) -> None:
    """Until cancelled. Raises ConfigError where the port is taken or a certificate cannot be used."""
    app = web.Application(middlewares=[_authorized, _told])
    app[ACCESS] = access
    api = KubeletApi(pods)
    app.router.add_get("/healthz", _healthz)
    app.router.add_get("/pods", api.list_pods)
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", api.logs)
    for method in ("GET", "POST"):
        for verb, handler in (("exec", api.exec), ("attach", api.attach)):
            app.router.add_route(method, f"/{verb}/{{namespace}}/{{pod}}/{{container}}", handler)
            app.router.add_route(method, f"/{verb}/{{namespace}}/{{pod}}/{{uid}}/{{container}}", handler)
        app.router.add_route(method, "/portForward/{namespace}/{pod}", api.port_forward)
        app.router.add_route(method, "/portForward/{namespace}/{pod}/{uid}", api.port_forward)
    # A client that goes takes its handler along: nobody follows a log for nobody.
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0, handler_cancellation=True)
    await runner.setup()
    try:
        try:
            site = web.TCPSite(runner, config.address, config.port, ssl_context=tls(config), reuse_address=True)
            await site.start()
        except OSError as err:
            raise ConfigError(f"--port {config.port}: cannot listen on {config.address}: {err.strerror}") from err
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def tls(config: Config) -> ssl.SSLContext:
    """A client certificate is asked for, not demanded: who has none gets a 401 instead of a broken connection."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(config.tls_cert_file, config.tls_key_file)
        context.load_verify_locations(config.client_ca_file)
    except (OSError, ssl.SSLError) as err:
        raise ConfigError(f"kubelet's certificate {config.tls_cert_file} or {config.client_ca_file}: {err}") from err
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


@web.middleware
async def _authorized(request: web.Request, handler: Handler) -> web.StreamResponse:
    certificate = request.transport.get_extra_info("peercert") if request.transport else None
    caller = caller_of(certificate) if certificate else None
    header = request.headers.get("Authorization", "")
    token = header[len(BEARER) :].strip() if header[: len(BEARER)].lower() == BEARER else ""
    refusal = await request.app[ACCESS].refusal(request.method, request.path, caller, token)
    if refusal is not None:
        return web.Response(status=refusal.code, text=refusal.text)
    return await handler(request)


def caller_of(certificate: Mapping[str, Any]) -> Caller:
    """Out of the dict that `ssl.SSLObject.getpeercert` gives."""
    fields = [pair for part in certificate.get("subject", ()) for pair in part]
    name = next((value for key, value in fields if key == "commonName"), "")
    return Caller(name, (*(value for key, value in fields if key == "organizationName"), AUTHENTICATED))


@web.middleware
async def _told(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Errors as plain text with their code: the API server makes a Status of it."""
    try:
        return await handler(request)
    except (ApiError, ContainerError) as err:
        error = as_api_error(err)
        return web.Response(status=error.status_code, text=error.message)


async def _healthz(_: web.Request) -> web.Response:
    return web.Response(text="ok")


class KubeletApi:
    """The handlers, on the pods of this node."""

    def __init__(self, pods: Pods) -> None:
        self._pods = pods

    async def list_pods(self, _: web.Request) -> web.Response:
        items = msgspec.json.encode(self._pods.all())
        body = b'{"kind":"PodList","apiVersion":"v1","metadata":{},"items":' + items + b"}"
        return web.Response(body=body, content_type="application/json", headers={"Server": KUBELET_VERSION})

    async def logs(self, request: web.Request) -> web.StreamResponse:
        options, before = parse_options(request.query)
        found = find_container(self._pods, *_names(request), before=before)
        pieces = aiter(found.runtime.logs(found.container.id, options))
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        try:
            first = None if options.follow else await anext(pieces, b"")  # an error of the runtime gets its status
            await response.prepare(request)
            with suppress(ConnectionError):
                if first:
                    await response.write(first)
                async for piece in pieces:
                    await response.write(piece)
                await response.write_eof()
        finally:
            if closing := getattr(pieces, "aclose", None):
                await closing()
        return response

    async def exec(self, request: web.Request) -> web.StreamResponse:
        command = tuple(request.query.getall("command", ()))
        if not command:
            return web.Response(status=400, text="you must specify at least 1 command for exec")
        found = find_running(self._pods, *_names(request))
        tty, stdin = _flag(request, "tty"), _flag(request, "input", "stdin")
        _check_upgrade(request, PROTOCOLS)
        process = await found.runtime.exec(found.container.id, command, tty=tty, stdin=stdin)
        return await serve_process(request, process, stdin=stdin)

    async def attach(self, request: web.Request) -> web.StreamResponse:
        found = find_running(self._pods, *_names(request))
        stdin = _flag(request, "input", "stdin")
        _check_upgrade(request, PROTOCOLS)
        process = await found.runtime.attach(found.container.id, stdin=stdin)
        return await serve_process(request, process, stdin=stdin)

    async def port_forward(self, request: web.Request) -> web.StreamResponse:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        found = self._pods.find(namespace, name)
        uid = request.match_info.get("uid", found[0].metadata.uid if found else "")
        if found is None or found[0].metadata.uid != uid:
            raise NotFound("pod does not exist")
        if "Sec-WebSocket-Protocol" in request.headers:
            _check_upgrade(request, portforward.PROTOCOLS)
        return await portforward.serve_ports(request, pod_ports(self._pods, namespace, name, PodUid(uid)))


def _names(request: web.Request) -> tuple[str, str, str]:
    info = request.match_info
    return info["namespace"], info["pod"], info["container"]


def _flag(request: web.Request, *names: str) -> bool:
    return any(request.query.get(name, "").lower() in ("1", "true") for name in names)


def _check_upgrade(request: web.Request, protocols: Sequence[str]) -> None:
    """Before a process is started: can the client speak a protocol of ours?"""
    if not web.WebSocketResponse(protocols=protocols).can_prepare(request).ok:
        raise ApiError("unable to upgrade: expected a WebSocket", code=400, reason="BadRequest")
    offered = {p.strip() for p in request.headers.get("Sec-WebSocket-Protocol", "").split(",")}
    if not offered & set(protocols):
        text = f"unable to upgrade: expected one of the protocols {', '.join(protocols)}"
        raise ApiError(text, code=400, reason="BadRequest")
