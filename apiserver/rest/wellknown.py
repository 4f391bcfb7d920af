"""Paths that name no resource: health, version, metrics, discovery, OpenAPI, the keys of ServiceAccount tokens."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import orjson

from apiserver.auth.keys import discovery as openid
from apiserver.auth.keys import jwks
from apiserver.auth.serviceaccounts import ServiceAccountTokens
from apiserver.registry import priorities
from apiserver.registry.base import Registry
from apiserver.replies import NoSuchPath, NotAllowed, not_found
from apiserver.rest import health
from apiserver.rest.answers import NO_CACHE, TEXT_HEADERS, Answer, Headers, json_answer, page_not_found, text_answer
from apiserver.rest.documents import V2_PROTOBUF, V3_PROTOBUF, Document, Documents, etag
from apiserver.rest.exchange import Exchange
from apiserver.rest.metrics import CONTENT_TYPE, Figures, Metrics
from apiserver.rest.negotiation import JSON, MEDIA_TYPES, YAML, Shape, accepted, accepted_type
from apiserver.rest.paths import Target
from apiserver.rest.query import first

KUBERNETES_MAJOR, KUBERNETES_MINOR = 1, 36
DISCOVERY_SHAPES = frozenset({Shape.DISCOVERY})
KEYS_CACHED = {"Cache-Control": "public, max-age=3600"}
IMMUTABLE = "public, immutable"
TEXT = "text/plain; charset=utf-8"
_KEY_PATHS = ("/openid/v1/jwks", "/.well-known/openid-configuration")
# Media type as asked for -> form of the document; the form with an @ is the older name.
_V2_FORMS = {JSON: JSON, V2_PROTOBUF: V2_PROTOBUF, V2_PROTOBUF.replace("v2.v1", "v2@v1"): V2_PROTOBUF}
_V3_FORMS = {JSON: JSON, V3_PROTOBUF: V3_PROTOBUF, V3_PROTOBUF.replace("v3.v1", "v3@v1"): V3_PROTOBUF}
_PATHS = (
    *("/.well-known/openid-configuration", "/api", "/api/v1", "/apis", "/apis/", "/metrics", "/openapi/v2"),
    *("/openapi/v3", "/openapi/v3/", "/openid/v1/jwks", "/version"),
)


@dataclass(frozen=True, slots=True)
class Served:
    """What these paths tell of. `checks`: name -> whether it holds; `address` is what clients may reach us by."""

    registry: Registry
    address: str
    metrics: Metrics
    checks: Mapping[str, health.Check]
    figures: Callable[[], Figures]
    tokens: ServiceAccountTokens | None = None
    encoded: dict[str, bytes] = field(default_factory=dict)


class WellKnown:
    """Answers what names no resource, whatever the method: most paths do not look at it, as upstream's do not."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self._documents = Documents(served.registry, served.address)

    async def answer(self, exchange: Exchange) -> Answer:
        """Raises NotAcceptable, NotAllowed, NoSuchPath."""
        path = exchange.path
        head = path.split("/")[1]
        if head in health.HEADS:
            return self._health(exchange, head)
        if head in ("api", "apis"):
            return self._discovery(exchange)
        if head == "openapi":
            return await self._openapi(exchange)
        if head == "version":
            return self._version(exchange)
        if path == "/metrics":
            return self._metrics(exchange)
        if path == "/":
            return json_answer(orjson.dumps({"paths": self._paths()}))
        return self._keys(exchange, path.rstrip("/"))

    def nothing_at(self, target: Target) -> Answer:
        """Of a path below a group that nothing serves.

        Raises NoSuchPath where the group is one of the API's own, NotFound below an object of a custom kind.
        """
        if self._is_own(target.group):
            raise NoSuchPath
        resource = self._served.registry.get(target.group, target.version, target.plural)
        if resource is not None and target.subresource and bool(target.namespace) == resource.namespaced:
            raise not_found(resource, target.name)
        return page_not_found()

    def _is_own(self, group: str) -> bool:
        return priorities.is_built_in(group) and group in self._served.registry.groups()

    def _once(self, name: str, make: Callable[[], object]) -> bytes:
        encoded = self._served.encoded
        if name not in encoded:
            encoded[name] = orjson.dumps(make())
        return encoded[name]

    # -- health, version, metrics --------------------------------------------------------------------------------------

    def _health(self, exchange: Exchange, head: str) -> Answer:
        checks = health.checks_of(head, self._served.checks)
        _, slash, one = exchange.path[1:].partition("/")
        if slash:
            found = health.report_one(checks, one)
            if found is None:
                return page_not_found()
            headers = {"Cache-Control": NO_CACHE, "Content-Type": TEXT}
            return Answer(found.text.encode(), found.status, headers if found.status == 200 else TEXT_HEADERS)
        verbose, excluded = "verbose" in exchange.query, exchange.query.get("exclude", ())
        whole = health.report(head, checks, verbose=verbose, excluded=excluded)
        return text_answer(whole.text, status=whole.status)

    def _version(self, exchange: Exchange) -> Answer:
        if exchange.path.rstrip("/") != "/version":
            raise NoSuchPath
        _only_get(exchange)
        accepted(exchange.accept, available=(JSON,))
        return json_answer(self._once("version", version_info))

    def _metrics(self, exchange: Exchange) -> Answer:
        if exchange.method == "DELETE":
            self._served.metrics.reset()
            return text_answer("metrics reset\n")
        text = self._served.metrics.render(self._served.figures())
        return Answer(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})

    # -- discovery -----------------------------------------------------------------------------------------------------

    def _discovery(self, exchange: Exchange) -> Answer:
        path = exchange.path.rstrip("/")
        group = path.split("/")[2] if path.count("/") > 1 and path.startswith("/apis/") else ""
        own = path == "/api" or path.startswith("/api/") or (path.count("/") > 2 and self._is_own(group))
        if own and exchange.method != "GET" and self._documents.legacy(path) is not None:
            raise NotAllowed
        if path in ("/api", "/apis"):
            wanted = accepted(exchange.accept, DISCOVERY_SHAPES, MEDIA_TYPES if path == "/api" else ())
            if wanted.shape is Shape.DISCOVERY:
                return _tagged(exchange, self._documents.aggregated(path), wanted.content_type, cache="public")
        else:
            available = MEDIA_TYPES if path.count("/") == 3 or path == "/api/v1" else ()
            wanted = accepted(exchange.accept, available=available)
        document = self._documents.legacy(path)
        if document is None:
            return self.nothing_at(Target(group, "", ""))
        return json_answer(document.json, media_type=wanted.content_type)

    # -- OpenAPI -------------------------------------------------------------------------------------------------------

    async def _openapi(self, exchange: Exchange) -> Answer:
        """Version 2 in one document, version 3 in one per group and version, immutable under the hash in its URL."""
        path = exchange.path
        if path == "/openapi/v2":
            form = accepted_type(exchange.accept, _V2_FORMS)
            if form is None:
                return Answer(status=406, headers=())
            document, body = await self._documents.openapi_v2(form)
            return _tagged(exchange, document, form, body)
        if path == "/openapi/v3":
            index = await self._documents.openapi_index()
            headers = {"Cache-Control": NO_CACHE, "Content-Type": TEXT, "ETag": f'"{etag(index)}"'}
            return Answer(index, headers=headers)
        if path.startswith("/openapi/v3/"):
            return await self._openapi_v3(exchange, path.removeprefix("/openapi/v3/"))
        return page_not_found()

    async def _openapi_v3(self, exchange: Exchange, name: str) -> Answer:
        form = accepted_type(exchange.accept, _V3_FORMS)
        if form is None:
            return Answer(status=406, headers=())
        found = await self._documents.openapi_v3(name, form)
        if found is None:
            return Answer(status=404, headers=())
        document, body = found
        wanted = first(exchange.query, "hash")
        if not wanted:
            return _tagged(exchange, document, form, body)
        if wanted != document.tag:
            headers = {"Location": f"/openapi/v3/{name}?hash={document.tag}", "ETag": f'"{document.tag}"'}
            return Answer(status=301, headers=headers)
        return _tagged(exchange, document, form, body, cache=IMMUTABLE)

    # -- the rest ------------------------------------------------------------------------------------------------------

    def _keys(self, exchange: Exchange, path: str) -> Answer:
        """What others need to check our tokens. Source: KEP-1393 (OIDC discovery of ServiceAccount tokens)."""
        tokens = self._served.tokens
        if tokens is not None and path in _KEY_PATHS and exchange.method != "GET":
            raise NotAllowed
        if tokens is not None and path == "/openid/v1/jwks":
            data = self._once("jwks", lambda: jwks(tokens.verifiers))
            return Answer(body=data, headers={"Content-Type": "application/jwk-set+json", **KEYS_CACHED})
        if tokens is not None and path == "/.well-known/openid-configuration":
            data = self._once("openid", lambda: openid(tokens.issuer, self._served.address, tokens.verifiers))
            return Answer(body=data, headers={"Content-Type": JSON, **KEYS_CACHED})
        return page_not_found()

    def _paths(self) -> list[str]:
        paths = list(_PATHS)
        for group, versions in self._served.registry.groups().items():
            if group:
                paths += [f"/apis/{group}", *(f"/apis/{group}/{version}" for version in versions)]
        for head in health.HEADS:
            paths += [f"/{head}", *(f"/{head}/{name}" for name in health.checks_of(head, self._served.checks))]
        return sorted(paths)


def _only_get(exchange: Exchange) -> None:
    """Some paths answer nothing else. Raises NotAllowed."""
    if exchange.method != "GET":
        raise NotAllowed


def _tagged(
    exchange: Exchange, document: Document, media_type: str, body: bytes | None = None, *, cache: str = NO_CACHE
) -> Answer:
    """With an ETag, so that a client that has the document already need not read it again."""
    headers: Headers = (("ETag", f'"{document.tag}"'), ("Cache-Control", cache), ("Vary", "Accept"))
    if exchange.header("If-None-Match").removeprefix("W/").strip('"') == document.tag:
        return Answer(status=304, headers=headers)
    data = document.json if body is None else body
    if media_type.startswith(YAML):
        return json_answer(data, media_type=YAML)
    return Answer(data, headers=(*headers, ("Content-Type", media_type)))


def version_info() -> dict[str, str]:
    """What clients compare their own version with: the Kubernetes release whose API this is."""
    from kubarium import __version__

    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    minor = str(KUBERNETES_MINOR)
    return {
        "major": str(KUBERNETES_MAJOR),
        "minor": minor,
        "emulationMajor": str(KUBERNETES_MAJOR),
        "emulationMinor": minor,
        "minCompatibilityMajor": str(KUBERNETES_MAJOR),
        "minCompatibilityMinor": str(KUBERNETES_MINOR - 1),
        "gitVersion": f"v{KUBERNETES_MAJOR}.{KUBERNETES_MINOR}.0+kubarium.{__version__}",
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation(),
        "platform": f"linux/{machine}",
    }
