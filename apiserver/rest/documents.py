"""Discovery and OpenAPI as bytes: made when first asked for, kept until another kind is served.

What takes long is made beside the event loop. The OpenAPI document of a group and version is made anew only when
something of that group and version has changed.
Source: Kubernetes documentation, "The Kubernetes API" (discovery, OpenAPI interface definition).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field

import orjson

from apiserver import discovery
from apiserver.registry.base import Registry, ResourceDef
from apiserver.rest.negotiation import JSON

V2_PROTOBUF = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
V3_PROTOBUF = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf"


def etag(data: bytes) -> str:
    """What tells two versions of a document apart, without the quotes of the header."""
    return hashlib.sha512(data).hexdigest().upper()


@dataclass(slots=True)
class Document:
    """One document in the forms that were asked for; its tag is that of the JSON form, whatever the form."""

    json: bytes
    forms: dict[str, bytes] = field(default_factory=dict)
    tag: str = ""

    def __post_init__(self) -> None:
        self.tag = etag(self.json)


class Documents:
    """One per server; used from its event loop."""

    def __init__(self, registry: Registry, address: str) -> None:
        self._registry = registry
        self._address = address
        self._generation = registry.generation
        self._kept: dict[str, Document] = {}
        self._parts: dict[str, tuple[tuple[ResourceDef, ...], Document]] = {}
        self._making = asyncio.Lock()

    def _keep(self, name: str, make: Callable[[], object]) -> Document:
        self._forget_old()
        if name not in self._kept:
            self._kept[name] = Document(orjson.dumps(make()))
        return self._kept[name]

    def _forget_old(self) -> None:
        if self._generation != self._registry.generation:
            self._generation = self._registry.generation
            self._kept.clear()

    # -- discovery -----------------------------------------------------------------------------------------------------

    def aggregated(self, path: str) -> Document:
        """`/api` or `/apis` in one document."""
        make = discovery.aggregated_core if path == "/api" else discovery.aggregated_groups
        return self._keep(f"{path} aggregated", lambda: make(self._registry))

    def legacy(self, path: str) -> Document | None:
        """`/api`, `/apis` and what is below them; None where there is no such group or version."""
        if path == "/api":
            return self._keep(path, lambda: discovery.api_versions(self._address))
        if path == "/apis":
            return self._keep(path, lambda: discovery.api_group_list(self._registry))
        found = self._keep(path, lambda: discovery.legacy(self._registry, path))
        if found.json == b"null":
            del self._kept[path]  # else whoever asks for what is not there fills the memory
            return None
        return found

    # -- OpenAPI -------------------------------------------------------------------------------------------------------

    async def openapi_v2(self, form: str = JSON) -> tuple[Document, bytes]:
        """The document, and it in the form JSON or V2_PROTOBUF."""
        async with self._making:
            self._forget_old()
            document = self._kept.get("v2")
            if document is None:
                document = self._kept["v2"] = await asyncio.to_thread(_make_v2, self._registry.all())
            return document, await _form(document, form)

    async def openapi_v3(self, path: str, form: str = JSON) -> tuple[Document, bytes] | None:
        """The document of a group and version such as `apis/apps/v1`; None where there is none."""
        async with self._making:
            resources = self._parts_of().get(path)
            if resources is None:
                return None
            document = await self._part(path, resources)
            return document, await _form(document, form)

    async def openapi_index(self) -> bytes:
        """Where each group and version has its document."""
        async with self._making:
            self._forget_old()
            if (found := self._kept.get("v3")) is not None:
                return found.json
            generation, tags = self._generation, {}
            for path, resources in self._parts_of().items():
                tags[path] = (await self._part(path, resources)).tag
            paths = {path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={tags[path]}"} for path in sorted(tags)}
            index = Document(orjson.dumps({"paths": paths}))
            if generation == self._registry.generation:
                self._kept["v3"] = index
            return index.json

    def _parts_of(self) -> dict[str, tuple[ResourceDef, ...]]:
        """Path of a group and version -> its resources."""
        found: dict[str, list[ResourceDef]] = {}
        for r in self._registry:
            found.setdefault(f"apis/{r.group}/{r.version}" if r.group else f"api/{r.version}", []).append(r)
        for path in self._parts.keys() - found.keys():
            del self._parts[path]
        return {path: tuple(resources) for path, resources in found.items()}

    async def _part(self, path: str, resources: tuple[ResourceDef, ...]) -> Document:
        known = self._parts.get(path)
        if known is not None and len(known[0]) == len(resources) and all(map(_same, known[0], resources)):
            return known[1]
        document = await asyncio.to_thread(_make_v3, resources)
        self._parts[path] = (resources, document)
        return document


def _same(a: ResourceDef, b: ResourceDef) -> bool:
    return a is b


def _make_v2(resources: tuple[ResourceDef, ...]) -> Document:
    from apiserver import openapi

    return Document(orjson.dumps(openapi.document_v2(resources)))


def _make_v3(resources: tuple[ResourceDef, ...]) -> Document:
    from apiserver import openapi

    return Document(orjson.dumps(openapi.document_v3(resources)))


async def _form(document: Document, form: str) -> bytes:
    if form == JSON:
        return document.json
    if form not in document.forms:
        document.forms[form] = await asyncio.to_thread(_encode, document.json, form)
    return document.forms[form]


def _encode(data: bytes, form: str) -> bytes:
    from apiserver import openapi_protobuf

    encode = openapi_protobuf.version2 if form == V2_PROTOBUF else openapi_protobuf.version3
    return encode(orjson.loads(data))
