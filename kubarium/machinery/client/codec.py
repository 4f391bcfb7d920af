"""What both transports share: bytes to views and events, dicts to bytes, Status objects to errors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import orjson

from kubarium.machinery import objects
from kubarium.machinery.client import WatchEvent
from kubarium.machinery.errors import ApiError, Expired, Gone, InternalError
from kubarium.machinery.kubeconfig import ClientConfig
from kubarium.machinery.resources import Resource

T = TypeVar("T")


class _Meta(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    annotations: dict[str, str] | None = None


class _Head(msgspec.Struct):
    kind: str = ""
    metadata: _Meta = msgspec.field(default_factory=_Meta)


class _ListMeta(msgspec.Struct):
    resourceVersion: str = ""  # noqa: N815
    continue_: str = msgspec.field(default="", name="continue")


class RawList(msgspec.Struct):
    """A list whose items stay bytes until their view decodes them."""

    metadata: _ListMeta = msgspec.field(default_factory=_ListMeta)
    items: list[msgspec.Raw] | None = None


class RawEvent(msgspec.Struct):
    """One line of a REST watch."""

    type: str
    object: msgspec.Raw


_head = msgspec.json.Decoder(_Head)
raw_list = msgspec.json.Decoder(RawList)
raw_event = msgspec.json.Decoder(RawEvent)


def view_of(resource: Resource[T], data: bytes) -> T:
    """Decode an answer. Subresources such as pods/binding answer with a Status: that gives an empty view."""
    try:
        return objects.decode(resource.view, data)
    except msgspec.MsgspecError as err:
        if _is_status(data):
            return objects.convert(resource.view, {})
        raise InternalError(f"the API server sent a {resource.kind} that cannot be read: {err}") from err


def _is_status(data: bytes) -> bool:
    try:
        return _head.decode(data).kind == "Status"
    except msgspec.MsgspecError:
        return False


def event_of(resource: Resource[T], kind: str, data: bytes) -> WatchEvent[T]:
    """A watch event. An ERROR event is raised as the error that it carries, 410 always as Expired."""
    if kind == "ERROR":
        raise error_of(data)
    if kind == "BOOKMARK":
        meta = _head.decode(data).metadata
        return WatchEvent(kind, None, meta.resource_version, meta.annotations or {})
    view = view_of(resource, data)
    return WatchEvent(kind, view, view.metadata.resource_version)  # type: ignore[attr-defined]


def error_of(data: bytes, code: int = 500) -> ApiError:
    """The error in a Status; text that is no Status becomes the message of an error with that code."""
    try:
        status = orjson.loads(data)
    except ValueError:
        status = None
    if not isinstance(status, dict) or status.get("kind") != "Status":
        text = data[:500].decode(errors="replace").strip()
        status = {"code": code, "reason": REASONS.get(code, "InternalError"), "message": text or f"HTTP {code}"}
    error = ApiError.from_status(status)
    if isinstance(error, Gone) or error.status_code == 410:
        return Expired(error.message, details=error.details)
    return error


REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
    504: "Timeout",
}


def body_of(resource: Resource[Any], obj: Mapping[str, Any]) -> bytes:
    """An object as JSON with apiVersion and kind in place."""
    return orjson.dumps({"apiVersion": resource.api_version, "kind": resource.kind} | dict(obj))


def delete_options(grace_period_s: int | None, uid: str, resource_version: str, propagation: str) -> bytes:
    """meta/v1 DeleteOptions as JSON, empty where nothing is asked for."""
    options: dict[str, Any] = {}
    if grace_period_s is not None:
        options["gracePeriodSeconds"] = grace_period_s
    preconditions = {key: value for key, value in (("uid", uid), ("resourceVersion", resource_version)) if value}
    if preconditions:
        options["preconditions"] = preconditions
    if propagation:
        options["propagationPolicy"] = propagation
    return orjson.dumps({"apiVersion": "v1", "kind": "DeleteOptions"} | options) if options else b""


class BearerToken:
    """The token to send, read again when its file changes (the kubelet rotates it)."""

    def __init__(self, config: ClientConfig) -> None:
        self._token = config.token
        self._path = Path(config.token_file) if config.token_file else None
        self._seen: tuple[int, int] | None = None

    def header(self) -> str:
        """`Bearer ...`, or "" where we authenticate by certificate."""
        if self._path is not None:
            self._refresh(self._path)
        return f"Bearer {self._token}" if self._token else ""

    def _refresh(self, path: Path) -> None:
        try:
            stat = path.stat()
            if self._seen != (seen := (stat.st_mtime_ns, stat.st_ino)):
                self._token, self._seen = path.read_text().strip(), seen
        except OSError:
            return  # between two versions of the volume: the old token is still good
