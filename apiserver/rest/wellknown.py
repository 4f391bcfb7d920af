"""Paths that name no resource: health, version, metrics, discovery, OpenAPI, the keys of ServiceAccount tokens."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import orjson

from apiserver import discovery, openapi
from apiserver.auth.keys import discovery as openid
from apiserver.auth.keys import jwks
from apiserver.auth.serviceaccounts import ServiceAccountTokens
from apiserver.registry.base import Registry
from apiserver.rest import health
from apiserver.rest.answers import NO_CACHE, Answer, json_answer, page_not_found, text_answer
from apiserver.rest.exchange import Exchange
from apiserver.rest.metrics import CONTENT_TYPE, Figures, Metrics
from apiserver.rest.negotiation import JSON, Shape, accepted
from apiserver.rest.query import first

KUBERNETES_MAJOR, KUBERNETES_MINOR = 1, 36
DISCOVERY_SHAPES = frozenset({Shape.DISCOVERY})
KEYS_CACHED = {"Cache-Control": "public, max-age=3600"}
IMMUTABLE = "public, max-age=31536000, immutable"


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
    """Answers GET; None for a path that is nobody's."""

    def __init__(self, served: Served) -> None:
        self._served = served

    async def answer(self, exchange: Exchange) -> Answer:
        path = exchange.path
        head = path.split("/")[1]
        if head in health.HEADS:
            return self._health(exchange, head)
        if head in ("api", "apis"):
            return self._discovery(exchange)
        if head == "openapi":
            return self._openapi(exchange)
        if path in ("/version", "/version/"):
            return json_answer(self._once("version", version_info))
        if path == "/metrics":
            text = self._served.metrics.render(self._served.figures())
            return Answer(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})
        if path == "/":
            return json_answer(orjson.dumps({"paths": self._paths()}))
        return self._keys(path)

    def _once(self, name: str, make: Callable[[], object]) -> bytes:
        encoded = self._served.encoded
        if name not in encoded:
            encoded[name] = orjson.dumps(make())
        return encoded[name]

    # -- health --------------------------------------------------------------------------------------------------------

    def _health(self, exchange: Exchange, head: str) -> Answer:
        checks = health.checks_of(head, self._served.checks)
        _, slash, one = exchange.path[1:].partition("/")
        if slash:
            found = health.report_one(checks, one)
            return page_not_found() if found is None else text_answer(found.text, status=found.status)
        verbose, excluded = "verbose" in exchange.query, exchange.query.get("exclude", ())
        whole = health.report(head, checks, verbose=verbose, excluded=excluded)
        return text_answer(whole.text, status=whole.status)

    # -- discovery -----------------------------------------------------------------------------------------------------

    def _discovery(self, exchange: Exchange) -> Answer:
        path, registry = exchange.path.rstrip("/"), self._served.registry
        if path in ("/api", "/apis"):
            shape = accepted(exchange.accept, DISCOVERY_SHAPES)
            if shape.shape is Shape.DISCOVERY:
                make = discovery.aggregated_core if path == "/api" else discovery.aggregated_groups
                return self._tagged(
                    exchange, self._once(f"{path} aggregated", lambda: make(registry)), shape.content_type
                )
            if path == "/api":
                encoded = self._once(path, lambda: discovery.api_versions(self._served.address))
            else:
                encoded = self._once(path, lambda: discovery.api_group_list(registry))
            return json_answer(encoded, media_type=accepted(exchange.accept).content_type)
        document = discovery.legacy(registry, path)
        if document is None:
            return page_not_found()
        return json_answer(orjson.dumps(document), media_type=accepted(exchange.accept).content_type)

    # -- OpenAPI -------------------------------------------------------------------------------------------------------

    def _openapi(self, exchange: Exchange) -> Answer:
        """Version 2 in one document, version 3 in one per group and version, immutable under the hash in its URL."""
        registry, path = self._served.registry, exchange.path.rstrip("/")
        media_type = accepted(exchange.accept).media_type
        if path == "/openapi/v2":
            return self._tagged(exchange, self._once(path, lambda: openapi.document_v2(registry)), media_type)
        if path == "/openapi/v3":
            return self._tagged(exchange, self._once(path, self._openapi_index), media_type)
        name = path.removeprefix("/openapi/v3/")
        if name not in openapi.paths_v3(registry):
            return page_not_found()
        data = self._openapi_document(name)
        wanted = first(exchange.query, "hash")
        if not wanted:
            return self._tagged(exchange, data, media_type)
        if wanted != (found := openapi.etag(data)):
            return Answer(status=301, headers={"Location": f"{path}?hash={found}"})
        return Answer(body=data, headers={"Content-Type": media_type, "Cache-Control": IMMUTABLE})

    def _openapi_document(self, name: str) -> bytes:
        return self._once(f"openapi {name}", lambda: openapi.document_v3(self._served.registry, name))

    def _openapi_index(self) -> object:
        registry = self._served.registry
        hashes = {name: openapi.etag(self._openapi_document(name)) for name in openapi.paths_v3(registry)}
        return openapi.index_v3(registry, hashes)

    def _tagged(self, exchange: Exchange, data: bytes, media_type: str) -> Answer:
        """With an ETag, so that a client that has the document already need not read it again."""
        etag = openapi.etag(data)
        headers = {"ETag": f'"{etag}"', "Cache-Control": NO_CACHE, "Vary": "Accept"}
        if exchange.header("If-None-Match").strip('"') == etag:
            return Answer(status=304, headers=headers)
        return Answer(body=data, headers={**headers, "Content-Type": media_type})

    # -- the rest ------------------------------------------------------------------------------------------------------

    def _keys(self, path: str) -> Answer:
        """What others need to check our tokens. Source: KEP-1393 (OIDC discovery of ServiceAccount tokens)."""
        tokens = self._served.tokens
        if tokens is not None and path == "/openid/v1/jwks":
            data = self._once("jwks", lambda: jwks(tokens.verifiers))
            return Answer(body=data, headers={"Content-Type": "application/jwk-set+json", **KEYS_CACHED})
        if tokens is not None and path == "/.well-known/openid-configuration":
            data = self._once("openid", lambda: openid(tokens.issuer, self._served.address, tokens.verifiers))
            return Answer(body=data, headers={"Content-Type": JSON, **KEYS_CACHED})
        return page_not_found()

    def _paths(self) -> list[str]:
        groups = self._served.registry.groups()
        paths = ["/api", "/api/v1", "/apis", "/healthz", "/livez", "/metrics", "/openapi/v2", "/openapi/v3", "/readyz"]
        for group, versions in groups.items():
            if group:
                paths += [f"/apis/{group}", *(f"/apis/{group}/{version}" for version in versions)]
        return sorted([*paths, "/version", "/openid/v1/jwks", "/.well-known/openid-configuration"])


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
