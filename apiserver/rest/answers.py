"""The answers that a request can get, and their heads on the wire."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cache, lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson

from apiserver.auth.authorizer import Refused
from apiserver.rest.negotiation import JSON, YAML
from kubarium.machinery.errors import ApiError

if TYPE_CHECKING:
    from apiserver.rest.streams import Stream

Headers = tuple[tuple[str, str], ...]

NO_CACHE = "no-cache, private"
WARNINGS, WARNING = 4096, 256  # characters of all warnings of an answer; of one of them, where all do not fit
JSON_HEADERS: Headers = (("Cache-Control", NO_CACHE), ("Content-Type", JSON))
TEXT_HEADERS: Headers = (
    ("Cache-Control", NO_CACHE),
    ("Content-Type", "text/plain; charset=utf-8"),
    ("X-Content-Type-Options", "nosniff"),
)
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


class Answer:
    """`body` whole, or `stream` that is sent piece by piece. The front end adds length and date."""

    __slots__ = ("body", "headers", "status", "stream")

    def __init__(
        self,
        body: bytes = b"",
        status: int = 200,
        headers: Headers | Mapping[str, str] = JSON_HEADERS,
        stream: Stream | None = None,
    ) -> None:
        self.body = body
        self.status = status
        self.headers: Headers = headers if isinstance(headers, tuple) else tuple(headers.items())
        self.stream = stream


@lru_cache(maxsize=512)
def encode_head(status: int, headers: Headers) -> bytes:
    """The status line and header fields, without the empty line at the end."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    lines = [f"HTTP/1.1 {status} {phrase}", *(f"{name}: {_UNPRINTABLE.sub(' ', value)}" for name, value in headers), ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape")


def json_answer(data: bytes, *, status: int = 200, warnings: Sequence[str] = (), media_type: str = JSON) -> Answer:
    """JSON bytes as they are, or as YAML where that was asked for."""
    if media_type == JSON and not warnings:
        return Answer(data, status)
    if media_type == YAML:
        data = to_yaml(data)
    return Answer(data, status, headers_of(warnings, media_type))


def headers_of(warnings: Sequence[str], media_type: str) -> Headers:
    told = tuple(("Warning", warning_header(text)) for text in limited(warnings)) if warnings else ()
    return (("Cache-Control", NO_CACHE), ("Content-Type", media_type), *told)


def limited(warnings: Iterable[str]) -> list[str]:
    """As many warnings as a head has room for: whole where all fit, else the beginning of each until it is full.

    Source: k8s.io/apiserver/pkg/endpoints/filters/warning.go.
    """
    found: list[str] = []
    size, cut = 0, False
    for text in warnings:
        if cut and size >= WARNINGS:
            break
        found.append(text)
        size += min(len(text), WARNING) if cut else len(text)
        if not cut and size > WARNINGS:
            cut, size = True, sum(min(len(one), WARNING) for one in found)
    return [text[:WARNING] for text in found] if cut else found


def warning_header(text: str) -> str:
    """Code 299 and a quoted string. Source: RFC 9110 5.6.4, KEP-1693."""
    clean = _UNPRINTABLE.sub(" ", text).replace("\\", "\\\\").replace('"', '\\"')
    return f'299 - "{clean}"'


def to_yaml(data: bytes) -> bytes:
    """With sorted keys, and double quotes around texts that would be read as something else, as upstream has them."""
    import yaml

    return yaml.dump(orjson.loads(data), Dumper=_dumper(), default_flow_style=False, allow_unicode=True).encode()


@cache
def _dumper() -> Any:
    import yaml

    base: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)

    class Dumper(base):  # type: ignore[misc]
        pass

    def text(dumper: Any, value: str) -> Any:
        plain = dumper.resolve(yaml.ScalarNode, value, (True, False)) == "tag:yaml.org,2002:str"
        style = "|" if "\n" in value else None if plain else '"'
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Dumper.add_representer(str, text)
    return Dumper


def text_answer(text: str, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    return Answer(text.encode(), status, (*TEXT_HEADERS, *(headers or {}).items()))


def page_not_found() -> Answer:
    """What upstream answers on a path that nothing serves: plain text."""
    return text_answer("404 page not found\n", status=404)


def error_answer(err: ApiError, warnings: Sequence[str] = (), media_type: str = JSON) -> Answer:
    """The Status of an error; Retry-After where it says when to come again."""
    status = err.to_status()
    answer = json_answer(orjson.dumps(status), status=err.status_code, warnings=warnings, media_type=media_type)
    if isinstance(err, Refused):
        answer.headers = (*answer.headers, ("X-Content-Type-Options", "nosniff"))
    if after := (status.get("details") or {}).get("retryAfterSeconds"):
        answer.headers = (*answer.headers, ("Retry-After", str(after)))
    return answer
