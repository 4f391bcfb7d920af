"""The few calls of the Docker Engine API that the lab makes, over http.client.

The Docker SDK does all of this too, but its import costs more than the calls: it would sit in the critical path of `up`
and in every `down`. The kubelet, which runs long and uses much more of the API, uses the SDK.
Source: https://docs.docker.com/engine/api/v1.41/
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

from kubarium.machinery.errors import ContainerError

CLUSTER_LABEL = "io.kubarium.cluster"
NODE_LABEL = "io.kubarium.node"
KIND_LABEL = "io.kubarium.kind"


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout_s: float) -> None:
        super().__init__("docker", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class DockerApi:
    """An engine behind a Unix socket. Each call is a connection of its own, so it may be used from several threads.

    Calls raise ContainerError with the engine's own message; a note names the request and the HTTP status.
    """

    path: str
    timeout_s: float = 30.0

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        timeout_s: float | None = None,
        stream: BinaryIO | Iterable[bytes] | None = None,
        **query: Any,
    ) -> Any:
        """One request; the answer decoded when it is JSON (a list of messages for a stream of them), else its text."""
        headers = {"Host": "docker"}
        payload: Any = None
        if stream is not None:
            headers["Content-Type"], payload = "application/x-tar", stream
        elif body is not None:
            headers["Content-Type"], payload = "application/json", json.dumps(body).encode()
        url = path + ("?" + urlencode(query) if query else "")
        connection = _UnixConnection(self.path, self.timeout_s if timeout_s is None else timeout_s)
        try:
            with contextlib.suppress(BrokenPipeError):  # refused before all was sent: the answer says why
                connection.request(method, url, payload, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as err:
            raise ContainerError(f"Docker engine at {self.path}: {err}") from err
        finally:
            connection.close()
        if answer.status >= 400:
            error = ContainerError(f"Docker engine: {_message(text)}")
            error.add_note(f"{method} {path}: HTTP {answer.status}")
            raise error
        return _decode(text, answer.headers.get_content_type())

    def answers(self, timeout_s: float = 2.0) -> bool:
        """Whether an engine is there."""
        try:
            self.call("GET", "/_ping", timeout_s=timeout_s)
        except ContainerError:
            return False
        return True

    def containers(self, labels: Mapping[str, str | None], *, running: bool = False) -> list[dict[str, Any]]:
        """Containers that carry every label (None: with any value), dead ones included unless `running`."""
        found = self.call("GET", "/containers/json", all="false" if running else "true", filters=_filters(labels))
        return list(found)

    def inspect(self, container: str) -> dict[str, Any] | None:
        """A container as the engine describes it; None when there is none."""
        try:
            return dict(self.call("GET", f"/containers/{quote(container)}/json"))
        except ContainerError as err:
            if "No such container" in str(err):
                return None
            raise

    def remove(self, container: str) -> None:
        """Kill and remove a container with its anonymous volumes; one already gone, or going, is fine."""
        try:
            self.call("DELETE", f"/containers/{quote(container)}", force="true", v="true")
        except ContainerError as err:
            if "No such container" not in str(err) and "already in progress" not in str(err):
                raise

    def kill(self, container: str) -> None:
        """SIGKILL; a container that does not run is fine."""
        try:
            self.call("POST", f"/containers/{quote(container)}/kill", signal="KILL")
        except ContainerError as err:
            if "No such container" not in str(err) and "is not running" not in str(err):
                raise

    def remove_labelled(self, labels: Mapping[str, str | None]) -> list[str]:
        """Remove the networks and volumes that carry every label. Returns what was removed."""
        removed = []
        for network in self.call("GET", "/networks", filters=_filters(labels)) or ():
            self.call("DELETE", f"/networks/{network['Id']}")
            removed.append(f"network {network['Name']}")
        for volume in self.call("GET", "/volumes", filters=_filters(labels)).get("Volumes") or ():
            self.call("DELETE", f"/volumes/{quote(volume['Name'])}", force="true")
            removed.append(f"volume {volume['Name']}")
        return removed

    def image_labels(self, image: str) -> dict[str, str] | None:
        """The labels of an image; None when the engine does not hold it."""
        try:
            found = self.call("GET", f"/images/{quote(image)}/json")
        except ContainerError as err:
            if "No such image" in str(err):
                return None
            raise
        return dict(found["Config"].get("Labels") or {})

    def import_image(self, repository: str, tag: str, tar: BinaryIO, changes: Iterable[str]) -> None:
        """Make an image of one layer from a root file system; `changes` are Dockerfile lines."""
        query = [("fromSrc", "-"), ("repo", repository), ("tag", tag), *(("changes", line) for line in changes)]
        messages = self.call("POST", "/images/create?" + urlencode(query), stream=tar, timeout_s=300)
        _raise_streamed(messages)

    def pull(self, repository: str, tag: str, timeout_s: float = 600) -> None:
        """Pull an image from its registry. Raises ContainerError with the registry's reason."""
        _raise_streamed(self.call("POST", "/images/create", fromImage=repository, tag=tag, timeout_s=timeout_s))

    def tag(self, image: str, repository: str, tag: str) -> None:
        self.call("POST", f"/images/{quote(image)}/tag", repo=repository, tag=tag)


def _filters(labels: Mapping[str, str | None]) -> str:
    return json.dumps({"label": [key if value is None else f"{key}={value}" for key, value in labels.items()]})


def _message(text: bytes) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text.decode(errors="replace").strip()


def _decode(text: bytes, content_type: str) -> Any:
    if content_type != "application/json":
        return text.decode(errors="replace")
    try:
        return json.loads(text) if text else None
    except ValueError:  # one JSON message a line: the progress of a pull or import
        return [json.loads(line) for line in text.splitlines() if line.strip()]


def _raise_streamed(messages: Any) -> None:
    for message in messages if isinstance(messages, list) else [messages]:
        if isinstance(message, dict) and message.get("error"):
            raise ContainerError(f"Docker engine: {message['error']}")
