"""One HTTP request on its way through the front end, and the answers that it can get."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson
from aiohttp import web
from multidict import CIMultiDict

from apiserver.request import User
from apiserver.rest.negotiation import JSON, YAML
from apiserver.rest.paths import Target
from apiserver.rest.query import Query
from kubarium.machinery.errors import ApiError, BadRequest, RequestEntityTooLarge, Timeout

BODY_LIMIT = 3 * 1024 * 1024
NO_CACHE = "no-cache, private"
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


@dataclass(slots=True)
class Exchange:
    """`path` is decoded no further than the HTTP parser did.

    Filled in once they are known: `verb` and `target`, for the figures, and `warnings` that go with every answer.
    """

    http: web.BaseRequest
    path: str
    query: Query
    user: User
    verb: str = ""
    target: Target | None = None
    warnings: tuple[str, ...] = ()

    @property
    def method(self) -> str:
        return self.http.method

    @property
    def accept(self) -> str:
        return self.http.headers.get("Accept", "")

    @property
    def user_agent(self) -> str:
        return self.http.headers.get("User-Agent", "")

    @property
    def content_type(self) -> str:
        """The media type of the body, its parameters cut off; JSON where none is given."""
        return self.http.headers.get("Content-Type", JSON).partition(";")[0].strip() or JSON

    async def body(self) -> bytes:
        """The whole body, at most BODY_LIMIT. Raises RequestEntityTooLarge (413), BadRequest where the client stops."""
        http = self.http
        if not http.body_exists:
            return b""
        if (http.content_length or 0) > BODY_LIMIT:
            raise too_large()
        if http.headers.get("Expect", "").lower() == "100-continue":
            await http.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            http.writer.output_size = 0
        chunks, size = [], 0
        try:
            while chunk := await http.content.readany():
                size += len(chunk)
                if size > BODY_LIMIT:
                    raise too_large()
                chunks.append(chunk)
        except (web.RequestPayloadError, ConnectionError) as err:
            raise BadRequest(f"the body of the request could not be read: {err}") from err
        return b"".join(chunks)


def too_large() -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"Request entity too large: limit is {BODY_LIMIT}")


def timed_out() -> Timeout:
    return Timeout("Timeout: request did not complete within the allotted timeout")


def json_answer(
    data: bytes, *, status: int = 200, warnings: Sequence[str] = (), media_type: str = JSON
) -> web.Response:
    """JSON bytes as they are, or as YAML where that was asked for."""
    if media_type == YAML:
        data = to_yaml(data)
    return web.Response(body=data, status=status, headers=headers_of(warnings, media_type))


def headers_of(warnings: Sequence[str], media_type: str) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict({"Content-Type": media_type, "Cache-Control": NO_CACHE})
    for text in warnings:
        headers.add("Warning", warning_header(text))
    return headers


def warning_header(text: str) -> str:
    """Code 299 and a quoted string. Source: RFC 9110 5.6.4, KEP-1693."""
    clean = _UNPRINTABLE.sub(" ", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{clean}"'


def to_yaml(data: bytes) -> bytes:
    import yaml

    return yaml.safe_dump(orjson.loads(data), sort_keys=False, default_flow_style=False).encode()


def text_answer(text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        text=text,
        status=status,
        headers={"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff", **(headers or {})},
    )


def page_not_found() -> web.Response:
    """What upstream answers on a path that nothing serves: plain text."""
    return text_answer("404 page not found\n", status=404)


def error_answer(err: ApiError, warnings: Sequence[str] = ()) -> web.Response:
    """The Status of an error; Retry-After where it says when to come again."""
    status = err.to_status()
    answer = json_answer(orjson.dumps(status), status=err.status_code, warnings=warnings)
    if after := (status.get("details") or {}).get("retryAfterSeconds"):
        answer.headers["Retry-After"] = str(after)
    return answer
