"""A real API server process for tests: SQLite and certificates in a folder of the test, on a free port of 127.0.0.1."""

from __future__ import annotations

import json
import secrets
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

READY_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is decoded where it is JSON."""

    status: int
    headers: Mapping[str, str]
    body: Any
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ApiServer:
    """A running server; `token` is an administrator's, `kubeconfig` has it and the CA."""

    url: str
    token: str
    kubeconfig: Path
    store: Path
    log: Path
    process: subprocess.Popen[bytes]
    tls: ssl.SSLContext = field(default_factory=ssl.create_default_context)

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        content_type: str = "application/json",
        accept: str = "application/json",
        token: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 20.0,
    ) -> Answer:
        """One request; `body` bytes and str go as they are, anything else as JSON. `token` "": anonymous."""
        data = None if body is None else body if isinstance(body, bytes) else _text(body).encode()
        request = urllib.request.Request(self.url + path, data, method=method, headers={"Accept": accept})
        if data is not None:
            request.add_header("Content-Type", content_type)
        if token := self.token if token is None else token:
            request.add_header("Authorization", f"Bearer {token}")
        for name, value in (headers or {}).items():
            request.add_header(name, value)
        try:
            with urllib.request.urlopen(request, context=self.tls, timeout=timeout_s) as found:
                return _answer(found.status, found.headers, found.read())
        except urllib.error.HTTPError as err:
            with err:
                return _answer(err.code, err.headers, err.read())

    def get(self, path: str, **kwargs: Any) -> Answer:
        return self.call("GET", path, **kwargs)

    def post(self, path: str, body: Any, **kwargs: Any) -> Answer:
        return self.call("POST", path, body, **kwargs)

    def put(self, path: str, body: Any, **kwargs: Any) -> Answer:
        return self.call("PUT", path, body, **kwargs)

    def patch(self, path: str, body: Any, kind: str = "merge-patch", **kwargs: Any) -> Answer:
        """`kind`: merge-patch, strategic-merge-patch or json-patch."""
        return self.call("PATCH", path, body, content_type=f"application/{kind}+json", **kwargs)

    def delete(self, path: str, body: Any = None, **kwargs: Any) -> Answer:
        return self.call("DELETE", path, body, **kwargs)

    def watch(self, path: str, **kwargs: Any) -> list[dict[str, Any]]:
        """The events of a watch that ends by itself (timeoutSeconds in its query)."""
        found = self.get(path, **kwargs).body
        if isinstance(found, dict):
            return [found]
        return [json.loads(line) for line in found.splitlines()]


def _text(body: Any) -> str:
    return body if isinstance(body, str) else json.dumps(body)


def _answer(status: int, headers: Any, data: bytes) -> Answer:
    text = data.decode()
    warnings = tuple(headers.get_all("Warning") or ())
    try:
        return Answer(status, dict(headers), json.loads(text), warnings)
    except ValueError:
        return Answer(status, dict(headers), text, warnings)


@contextmanager
def api_server(folder: Path, *flags: str, kill: bool = False, ca: Path | None = None) -> Iterator[ApiServer]:
    """Start one, wait until it is ready, stop it at the end (`kill`: with SIGKILL).

    `ca` is who has issued the certificate that `flags` name; without one the server makes its own. The same folder
    again is the same store. AssertionError with the server's log where it does not start or stop.
    """
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = _start(folder, sock, flags)
    try:
        _wait_ready(server, ca)
        yield server
    finally:
        _stop(server, signal.SIGKILL if kill else signal.SIGTERM)


def _start(folder: Path, sock: socket.socket, flags: tuple[str, ...]) -> ApiServer:
    folder.mkdir(parents=True, exist_ok=True)
    token, config, log = secrets.token_hex(16), folder / "kubeconfig", folder / "apiserver.log"
    config.unlink(missing_ok=True)
    store = folder / "store.db"
    argv = [sys.executable, "-m", "apiserver", "--listen-fd", str(sock.fileno()), "--grpc-port", "0"]
    argv += ["--store", f"sqlite://{store}", "--token", token, "--write-kubeconfig", str(config), *flags]
    with log.open("ab") as output:
        process = subprocess.Popen(argv, pass_fds=[sock.fileno()], stdout=output, stderr=output)
    url = f"https://127.0.0.1:{sock.getsockname()[1]}"
    return ApiServer(url, token, config, store, log, process)


def _wait_ready(server: ApiServer, ca: Path | None) -> None:
    end = time.monotonic() + READY_TIMEOUT_S
    trusted = False
    while time.monotonic() < end and server.process.poll() is None:
        if not trusted and (ca or server.kubeconfig.exists()):
            _trust(server, ca)
            trusted = True
        if trusted and _is_ready(server):
            return
        time.sleep(0.02)
    _stop(server, signal.SIGKILL)
    raise AssertionError(f"the API server did not become ready:\n{server.log.read_text()}")


def _trust(server: ApiServer, ca: Path | None) -> None:
    from kubarium.machinery import kubeconfig

    found = ca.read_bytes() if ca else kubeconfig.read(server.kubeconfig).ca
    server.tls.load_verify_locations(cadata=found.decode())


def _is_ready(server: ApiServer) -> bool:
    try:
        return server.get("/readyz", timeout_s=2).status == 200
    except OSError:
        return False


def _stop(server: ApiServer, number: signal.Signals) -> None:
    server.process.send_signal(number)
    try:
        code = server.process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
        raise AssertionError(f"the API server did not stop on {number.name}:\n{server.log.read_text()}") from None
    if number is signal.SIGTERM and code != 0:
        raise AssertionError(f"the API server ended with {code}:\n{server.log.read_text()}")
