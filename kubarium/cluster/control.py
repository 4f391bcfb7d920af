"""Talking to a cluster's supervisor: one JSON object a line over its Unix socket."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from typing import Any

from kubarium.cluster.paths import ClusterPaths
from kubarium.machinery.errors import ClusterError


class NoSupervisor(ClusterError):
    """Nobody answers at the control socket."""


def ask(paths: ClusterPaths, do: str, *, timeout_s: float = 30.0, **arguments: Any) -> dict[str, Any]:
    """One request and its answer. Raises NoSupervisor, or ClusterError with the supervisor's own words."""
    with _connected(paths, timeout_s) as sock:
        _send(sock, {"do": do} | arguments)
        answer = next(_lines(sock), None)
    if answer is None:
        raise NoSupervisor(f"the supervisor of cluster {paths.name} ended before it answered")
    if "error" in answer:
        raise ClusterError(str(answer["error"]))
    return answer


def events(paths: ClusterPaths, *, timeout_s: float) -> Iterator[dict[str, Any]]:
    """Everything that happened and happens; ends with the supervisor. TimeoutError after `timeout_s` of silence."""
    with _connected(paths, timeout_s) as sock:
        _send(sock, {"do": "events"})
        yield from _lines(sock)


def answers(paths: ClusterPaths) -> bool:
    """Whether a supervisor is there."""
    try:
        ask(paths, "status", timeout_s=5)
    except (NoSupervisor, TimeoutError):
        return False
    return True


@contextlib.contextmanager
def _connected(paths: ClusterPaths, timeout_s: float) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(timeout_s)
        try:
            sock.connect(str(paths.control))
        except OSError as err:
            raise NoSupervisor(f"no supervisor of cluster {paths.name} answers at {paths.control}") from err
        yield sock


def _send(sock: socket.socket, message: dict[str, Any]) -> None:
    try:
        sock.sendall(json.dumps(message).encode() + b"\n")
    except OSError as err:
        raise NoSupervisor(f"the supervisor hung up: {err}") from err


def _lines(sock: socket.socket) -> Iterator[dict[str, Any]]:
    buffer = b""
    while True:
        try:
            text = sock.recv(65536)
        except ConnectionError:
            return
        if not text:
            return
        *lines, buffer = (buffer + text).split(b"\n")
        for line in lines:
            yield json.loads(line)
