"""A small blocking HTTPS client for one command: the standard library's, because it is there at once."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from kubarium.cli.target import Target
from kubarium.machinery.errors import ApiError, ClusterError
from kubarium.machinery.kubeconfig import ClientConfig

JSON = "application/json"
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
TIMEOUT_S = 30.0
QUERY_SAFE = "/:,=()!-._~"


class Server:
    """One kept-alive connection to the API server. Errors: ApiError from the server, ClusterError if there is none."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.config = target.config
        self._connection: http.client.HTTPConnection | None = None
        self._warned: set[str] = set()

    @property
    def namespace(self) -> str:
        """The kubeconfig's own namespace."""
        return self.config.namespace

    def get(self, path: str, query: Mapping[str, str] | None = None, *, accept: str = JSON) -> Any:
        return self.call("GET", path, query, accept=accept)

    def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        content_type: str = JSON,
        accept: str = JSON,
    ) -> Any:
        """One request; the answer decoded where it is JSON, else text."""
        response = self._send(method, path, query, body, content_type, accept, TIMEOUT_S)
        data = response.read()
        if "json" in (response.getheader("Content-Type") or ""):
            return json.loads(data)
        return data.decode(errors="replace")

    def stream(
        self, path: str, query: Mapping[str, str] | None = None, *, accept: str = JSON, timeout_s: float | None = None
    ) -> Iterator[bytes]:
        """The answer of a long GET as it comes, piece by piece; `timeout_s` bounds each wait for the next."""
        response = self._send("GET", path, query, None, JSON, accept, timeout_s)
        try:
            while piece := response.read1(65536):
                yield piece
        except (OSError, http.client.HTTPException) as err:
            if isinstance(err, TimeoutError):
                raise
            raise self.target.unreachable(_reason(err)) from err
        finally:
            self.close()

    def watch(
        self, path: str, query: Mapping[str, str], *, accept: str = JSON, timeout_s: float | None = None
    ) -> Iterator[dict[str, Any]]:
        """Watch events as dicts {"type", "object"}; an ERROR event is raised."""
        rest = b""
        for piece in self.stream(path, {**query, "watch": "true"}, accept=accept, timeout_s=timeout_s):
            *lines, rest = (rest + piece).split(b"\n")
            for line in filter(None, lines):
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError.from_status(event["object"])
                yield event

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Any,
        content_type: str,
        accept: str,
        timeout_s: float | None,
    ) -> http.client.HTTPResponse:
        headers = {"Accept": accept, "User-Agent": "kubarium", **self.authorization()}
        payload = None
        if body is not None:
            payload = body if isinstance(body, bytes) else json.dumps(body).encode()
            headers["Content-Type"] = content_type
        parts = [f"{key}={quote(value, safe=QUERY_SAFE)}" for key, value in (query or {}).items() if value]
        url = quote(path, safe="/:") + ("?" + "&".join(parts) if parts else "")
        try:
            response = self._exchange(method, url, payload, headers, timeout_s)
            self._warn(response.headers.get_all("Warning") or ())
            if response.status >= 400:
                raise _refusal(response.read(), response.status)
        except (OSError, http.client.HTTPException) as err:
            self.close()
            raise self.target.unreachable(_reason(err)) from err
        return response

    def _warn(self, headers: Iterable[str]) -> None:
        """Show the server's warnings (`299 - "text"`), each once."""
        for header in headers:
            text = header.partition('"')[2].rpartition('"')[0].replace('\\"', '"') or header
            if text not in self._warned:
                self._warned.add(text)
                print(f"Warning: {text}", file=sys.stderr)

    def _exchange(
        self, method: str, url: str, payload: bytes | None, headers: Mapping[str, str], timeout_s: float | None
    ) -> http.client.HTTPResponse:
        reused = self._connection is not None
        connection = self._connection = self._connection or self._connect()
        if connection.sock is not None:
            connection.sock.settimeout(timeout_s)
        try:
            connection.request(method, url, body=payload, headers=dict(headers))
            return connection.getresponse()
        except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
            if not reused or method != "GET":
                raise
            self.close()  # the server closed the idle connection: a read may be asked again
            return self._exchange(method, url, payload, headers, timeout_s)

    def _connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.config.server)
        host = parts.hostname or ""
        if parts.scheme == "http":
            plain = http.client.HTTPConnection(host, parts.port, timeout=TIMEOUT_S)
            plain.connect()
            return plain
        secure = http.client.HTTPSConnection(host, parts.port, timeout=TIMEOUT_S, context=tls_context(self.config))
        secure.connect()
        secure.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return secure

    def authorization(self) -> dict[str, str]:
        """The header of a bearer token, if we have one."""
        token = self.config.token
        if self.config.token_file:
            token = Path(self.config.token_file).read_text().strip()
        return {"Authorization": f"Bearer {token}"} if token else {}


def tls_context(config: ClientConfig) -> ssl.SSLContext:
    """Trust the cluster's CA, show our client certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        if config.insecure:
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        elif config.ca:
            context.load_verify_locations(cadata=config.ca.decode())
        else:
            context.load_default_certs()
        if config.certificate:
            fd = os.memfd_create("kubarium-client", os.MFD_CLOEXEC)  # OpenSSL reads certificates from a file only
            try:
                os.write(fd, config.certificate + b"\n" + config.key)
                context.load_cert_chain(f"/proc/self/fd/{fd}")
            finally:
                os.close(fd)
    except (ssl.SSLError, ValueError) as err:
        raise ClusterError(f"the kubeconfig's certificates cannot be read: {err}") from err
    return context


def _refusal(data: bytes, code: int) -> ApiError:
    try:
        status = json.loads(data)
    except ValueError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        text = data[:500].decode(errors="replace").strip() or f"the server answered {code}"
        status = {"code": code, "message": text, "reason": {401: "Unauthorized", 404: "NotFound"}.get(code, "")}
    return ApiError.from_status(status)


def _reason(err: BaseException) -> str:
    if isinstance(err, TimeoutError):
        return "no answer in time"
    if isinstance(err, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {err.verify_message}"
    if isinstance(err, OSError) and err.strerror:
        return err.strerror.lower()
    return str(err) or type(err).__name__
