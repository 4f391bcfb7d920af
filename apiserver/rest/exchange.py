"""One HTTP request on its way through the front end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from apiserver.auth.authenticator import Subject
from apiserver.request import User
from apiserver.rest.negotiation import JSON
from apiserver.rest.paths import Target
from apiserver.rest.query import EMPTY, Query
from kubarium.machinery.errors import RequestEntityTooLarge, Timeout

if TYPE_CHECKING:
    from aiohttp import web

BODY_LIMIT = 3 * 1024 * 1024
NOBODY = User("")


class Exchange:
    """`path` and `query_text` as they were sent, no further decoded than the HTTP parser did.

    `headers` has names in lower case; of a repeated header the first value, the others are in `repeated`. `content` is
    the body, None where it is larger than BODY_LIMIT. `http` is aiohttp's request where that serves the connection.
    Filled in once they are known: `user`, `query`, `verb` and `target`, and `warnings` that go with every answer.
    """

    __slots__ = (
        "begun", "closes", "content", "counted", "headers", "http", "http_10", "method", "path", "query", "query_text",
        "repeated", "subject", "target", "user", "verb", "warnings",
    )  # fmt: skip

    def __init__(
        self,
        method: str,
        url: bytes,
        headers: Mapping[bytes, bytes],
        repeated: Sequence[tuple[bytes, bytes]] = (),
        *,
        subject: Subject | None = None,
        begun: float = 0.0,
    ) -> None:
        path, _, query_text = url.decode("utf-8", "surrogateescape").partition("?")
        if path[:1] != "/":
            path = without_origin(path)
        self.method = method
        self.path = path
        self.query_text = query_text
        self.headers = headers
        self.repeated = repeated
        self.subject = subject
        self.begun = begun
        self.content: bytes | None = b""
        self.closes = False  # the connection ends with the answer
        self.http_10 = False
        self.counted = False  # it stands in the figures
        self.http: web.BaseRequest | None = None
        self.query: Query = EMPTY
        self.user = NOBODY
        self.verb = ""
        self.target: Target | None = None
        self.warnings: tuple[str, ...] = ()

    def header(self, name: str) -> str:
        """The first value of a header, "" where there is none; bytes that are no UTF-8 come as lone surrogates."""
        return self.headers.get(name.lower().encode(), b"").decode("utf-8", "surrogateescape")

    def header_values(self, name: str) -> list[str]:
        """Every value of a header that may be sent more than once."""
        key = name.lower().encode()
        found = [self.headers[key]] if key in self.headers else []
        found += [value for other, value in self.repeated if other == key]
        return [value.decode("utf-8", "surrogateescape") for value in found]

    def header_names(self) -> list[str]:
        """In lower case, each once."""
        return [name.decode("utf-8", "surrogateescape") for name in self.headers]

    @property
    def accept(self) -> str:
        if self.repeated:
            return ",".join(self.header_values("accept"))
        return self.headers.get(b"accept", b"").decode("utf-8", "surrogateescape")

    @property
    def user_agent(self) -> str:
        return self.headers.get(b"user-agent", b"").decode("utf-8", "surrogateescape")

    @property
    def content_type(self) -> str:
        """The media type of the body, its parameters cut off; JSON where none is given."""
        value = self.headers.get(b"content-type", b"")
        if value == b"application/json" or not value:
            return JSON
        return value.decode("utf-8", "surrogateescape").partition(";")[0].strip() or JSON

    async def body(self) -> bytes:
        """The whole body. Raises RequestEntityTooLarge (413)."""
        if self.content is None:
            raise too_large()
        return self.content


def without_origin(url: str) -> str:
    """The path of a URL in absolute form, as clients send it to proxies. Source: RFC 9112 3.2.2."""
    _, separator, rest = url.partition("://")
    if not separator:
        return url
    _, slash, path = rest.partition("/")
    return slash + path or "/"


def too_large() -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"Request entity too large: limit is {BODY_LIMIT}")


def timed_out() -> Timeout:
    return Timeout("Timeout: request did not complete within the allotted timeout")
