"""Calls on resources: from method and target to the pipeline, from its bytes to an answer."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final

from apiserver import codec, deleteoptions, patching, tables
from apiserver.decode import PROTOBUF_TYPE
from apiserver.deletion import warnings_of
from apiserver.pipeline import Pipeline
from apiserver.registry.base import ResourceDef
from apiserver.replies import NotAllowed
from apiserver.request import DeleteOptions, Listed, Request, WriteOptions, Written
from apiserver.rest import query as queries
from apiserver.rest.answers import Answer, headers_of, json_answer
from apiserver.rest.exchange import Exchange
from apiserver.rest.limits import Limits
from apiserver.rest.listing import batch_encoder, include_of, list_pieces
from apiserver.rest.negotiation import JSON, LIST_TYPES, MEDIA_TYPES, STREAM_TYPES, YAML, Accepted, Shape, accepted
from apiserver.rest.paths import Target
from apiserver.rest.streams import Pieces, WatchStream
from apiserver.scaling import SCALE
from apiserver.subresources import delete_options
from apiserver.watchcache import Batch
from kubarium.machinery.errors import MethodNotAllowed, NotAcceptable, UnsupportedMediaType

NO_SHAPES: frozenset[Shape] = frozenset()  # of questions that are never stored
ALL_SHAPES = frozenset({Shape.TABLE, Shape.METADATA, Shape.METADATA_LIST})
WATCH_SHAPES = frozenset({Shape.TABLE, Shape.METADATA})
PART_METHODS = {
    "status": ("GET", "PUT", "PATCH"),
    "scale": ("GET", "PUT", "PATCH"),
    "ephemeralcontainers": ("GET", "PUT", "PATCH"),
    "resize": ("GET", "PUT", "PATCH"),
    "approval": ("GET", "PUT", "PATCH"),
    "finalize": ("PUT",),
    "binding": ("POST",),
    "eviction": ("POST",),
    "token": ("POST",),
}
ITEM_VERBS = {"GET": "get", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "POST": "create"}
_ON_ONE, _ON_ALL = frozenset({"get", "update", "patch", "delete"}), frozenset({"create", "deletecollection"})
COLLECTION_VERBS = {"GET": "list", "POST": "create", "DELETE": "deletecollection"}
WHOLE: Final = 200  # a list of more objects is sent while it is made
PATCH_TYPES = (patching.JSON, patching.MERGE, patching.STRATEGIC, "application/apply-patch+yaml")
BODY_TYPES = (JSON, "application/yaml", PROTOBUF_TYPE)


def verb_of(method: str, target: Target, resource: ResourceDef, query: queries.Query) -> str:
    """The API verb of a call. Raises MethodNotAllowed."""
    if target.watch:
        if method != "GET" or "watch" not in resource.verbs:
            raise NotAllowed
        return "watch"
    if target.subresource:
        if method not in PART_METHODS.get(target.subresource, ()):
            raise NotAllowed
        return ITEM_VERBS[method]
    if target.name:
        verb = ITEM_VERBS.get(method, "")
        if verb == "create" or verb not in resource.verbs:
            raise NotAllowed
        return verb
    verb = COLLECTION_VERBS.get(method, "")
    if verb == "list" and queries.is_watch(query):
        verb = "watch"
        if "watch" not in resource.verbs and "list" in resource.verbs:
            text = f'watch is not supported on resources of kind "{resource.plural}"'
            raise MethodNotAllowed(text, details={"kind": resource.plural})
    if verb not in resource.verbs or (verb != "list" and verb != "watch" and not in_scope(target, resource)):
        raise NotAllowed
    return verb


def has_route(target: Target, resource: ResourceDef) -> bool:
    """Whether anything at all can be done at the path of a resource."""
    if target.watch:
        return "watch" in resource.verbs
    if target.subresource:
        return True
    if target.name:
        return not _ON_ONE.isdisjoint(resource.verbs)
    return "list" in resource.verbs or (in_scope(target, resource) and not _ON_ALL.isdisjoint(resource.verbs))


def in_scope(target: Target, resource: ResourceDef) -> bool:
    """Whether the path says all that a write needs: a namespace for what lives in one."""
    return bool(target.namespace) or not resource.namespaced


class Resources:
    """Answers calls whose verb and resource are known."""

    def __init__(self, pipeline: Pipeline, limits: Limits) -> None:
        self._pipeline = pipeline
        self._limits = limits

    def at_once(self, exchange: Exchange, request: Request) -> Answer | None:
        """The answer to a get or list for which the cache is known to be new enough; None for everything else.

        Raises ApiErrors.
        """
        if request.verb == "get":
            shape = one_shape(exchange)
            version = queries.first(exchange.query, "resourceVersion") if exchange.query else ""
            data = self._pipeline.get_now(request, version)
            return None if data is None else self._object(exchange, request, shape, data)
        if request.verb == "list":
            shape = list_shape(exchange, request.resource)
            listed = self._pipeline.list_now(request, queries.list_options(exchange.query))
            return None if listed is None else self._listed(exchange, request, shape, listed)
        return None

    async def answer(self, exchange: Exchange, request: Request) -> Answer:
        """All verbs but watch. Raises ApiErrors."""
        match request.verb:
            case "get":
                return await self._get(exchange, request)
            case "list":
                return await self._list(exchange, request)
            case "create" | "update" | "patch":
                return await self._write(exchange, request)
            case "delete":
                return await self._delete(exchange, request)
            case _:
                return await self._delete_collection(exchange, request)

    async def _get(self, exchange: Exchange, request: Request) -> Answer:
        shape = one_shape(exchange)
        version = queries.first(exchange.query, "resourceVersion") if exchange.query else ""
        data = await self._pipeline.get(request, resource_version=version)
        return self._object(exchange, request, shape, data)

    async def _list(self, exchange: Exchange, request: Request) -> Answer:
        shape = list_shape(exchange, request.resource)
        listed = await self._pipeline.list(request, queries.list_options(exchange.query))
        return self._listed(exchange, request, shape, listed)

    def _listed(self, exchange: Exchange, request: Request, shape: Accepted, listed: Listed) -> Answer:
        include = included(exchange, shape)
        if shape.media_type == YAML or len(listed.entries) <= WHOLE:
            data = b"".join(list_pieces(request.resource, listed, shape, include))
            return json_answer(data, media_type=shape.content_type, warnings=exchange.warnings)
        pieces = Pieces(list_pieces(request.resource, listed, shape, include))
        return Answer(headers=headers_of(exchange.warnings, shape.content_type), stream=pieces)

    async def _write(self, exchange: Exchange, request: Request) -> Answer:
        shape = accepted(exchange.accept, ALL_SHAPES if "get" in request.resource.verbs else NO_SHAPES, MEDIA_TYPES)
        options = queries.write_options(exchange.query, exchange.user_agent)
        media_type = exchange.content_type
        if request.verb != "patch" and (media_type := media_type.lower()) not in BODY_TYPES:
            raise unsupported_body()
        if request.verb == "patch" and media_type not in PATCH_TYPES and request.resource.custom is None:
            raise NoSuchPatch
        body = await exchange.body()
        written = await self._written(request, body, media_type, options)
        status = 201 if written.created else 200
        return self._object(exchange, request, shape, written.body, status=status, warnings=written.warnings)

    async def _written(self, request: Request, body: bytes, media_type: str, options: WriteOptions) -> Written:
        if request.verb == "create":
            return await self._pipeline.create(request, body, media_type, options)
        if request.verb == "update":
            return await self._pipeline.update(request, body, media_type, options)
        return await self._pipeline.patch(request, body, media_type, options)

    async def _delete(self, exchange: Exchange, request: Request) -> Answer:
        shape = one_shape(exchange)
        wanted = await self._delete_options(exchange)
        exchange.warnings = (*exchange.warnings, *warnings_of(request.resource, wanted))
        written = await self._pipeline.delete(request, wanted)
        status = 202 if wanted.orphan_dependents is False and not written.removed else 200
        return self._object(exchange, request, shape, written.body, status=status, warnings=written.warnings)

    async def _delete_collection(self, exchange: Exchange, request: Request) -> Answer:
        shape = list_shape(exchange, request.resource, MEDIA_TYPES)
        wanted = queries.list_options(exchange.query)
        deleting = await self._delete_options(exchange)
        exchange.warnings = (*exchange.warnings, *warnings_of(request.resource, deleting))
        listed = await self._pipeline.delete_collection(request, wanted, deleting)
        return self._listed(exchange, request, shape, listed)

    async def _delete_options(self, exchange: Exchange) -> DeleteOptions:
        """Out of the body alone where there is one, else out of the query. Raises BadRequest, UnsupportedMediaType."""
        body, media_type = await exchange.body(), exchange.content_type.lower()
        if not body:
            return queries.delete_options(exchange.query)
        if media_type not in BODY_TYPES:
            raise unsupported_body()
        return delete_options(deleteoptions.read(body, media_type))

    def _object(
        self,
        exchange: Exchange,
        request: Request,
        shape: Accepted,
        data: bytes,
        *,
        status: int = 200,
        warnings: Sequence[str] = (),
    ) -> Answer:
        if shape.shape is not Shape.WHOLE:
            shown = SCALE if request.subresource == "scale" else request.resource
            data = self._shaped(exchange, shown, shape, data)
        warnings = (*exchange.warnings, *warnings)
        return json_answer(data, status=status, warnings=warnings, media_type=shape.content_type)

    def _shaped(self, exchange: Exchange, resource: ResourceDef, shape: Accepted, data: bytes) -> bytes:
        obj = codec.decode(data)
        if obj.get("kind") == "Status":
            return data
        if shape.shape is Shape.TABLE:
            version = obj["metadata"].get("resourceVersion")
            meta = {"resourceVersion": version} if version else {}
            include = include_of(exchange.query)
            return tables.render_table(resource, [obj], meta, version=shape.version, include=include)
        if shape.shape is Shape.METADATA_LIST:
            kind = f"*{internal_package(resource)}.{resource.kind}"
            text = f"you requested PartialObjectMetadataList, but the requested object is not a list ({kind})"
            raise NotAcceptable(text)
        return tables.render_metadata(obj, version=shape.version)

    # -- watch ---------------------------------------------------------------------------------------------------------

    async def watch(self, exchange: Exchange, request: Request) -> Answer:
        """A stream of events, one JSON document a line, until the pipeline ends it or the client goes."""
        shape = accepted(exchange.accept, WATCH_SHAPES, LIST_TYPES)
        if shape.media_type == YAML:
            raise NotAcceptable(f"only the following media types are accepted: {', '.join(STREAM_TYPES)}")
        session = await self._pipeline.open_watch(request, queries.list_options(exchange.query))
        counts, resource = self._limits.metrics.watch_events, request.resource
        encoded = batch_encoder(resource, shape, included(exchange, shape))
        kind = (resource.group, resource.version, resource.plural)

        def encode(batch: Batch) -> tuple[bytes, bytes]:
            counts[kind] += len(batch)
            return encoded(batch)

        running = ExitStack()
        running.enter_context(self._limits.long_running("watch"))
        stream = WatchStream(session, encode, running.close)
        return Answer(headers=headers_of(exchange.warnings, shape.content_type), stream=stream)


def included(exchange: Exchange, shape: Accepted) -> str:
    """What of the objects stands in a Table; nobody else asks. Raises BadRequest."""
    return include_of(exchange.query) if shape.shape is Shape.TABLE else ""


def deprecations(resource: ResourceDef) -> tuple[str, ...]:
    return (resource.deprecation,) if resource.deprecation else ()


def one_shape(exchange: Exchange) -> Accepted:
    """A list of metadata is refused when there is an object that it could be."""
    return accepted(exchange.accept, ALL_SHAPES, MEDIA_TYPES)


def list_shape(exchange: Exchange, resource: ResourceDef, available: tuple[str, ...] = LIST_TYPES) -> Accepted:
    shape = accepted(exchange.accept, ALL_SHAPES, available)
    if shape.shape is Shape.METADATA:
        kind = f"*{internal_package(resource)}.{resource.kind}List"
        raise NotAcceptable(f"you requested PartialObjectMetadata, but the requested object is a list ({kind})")
    return shape


def internal_package(resource: ResourceDef) -> str:
    """Where upstream's unversioned type of a kind stands, as some texts show it."""
    if resource.custom is not None:
        return "unstructured"
    return {"": "core", "events.k8s.io": "core"}.get(resource.group, resource.group.partition(".")[0])


class NoSuchPatch(UnsupportedMediaType):
    """415 from before a resource is looked at. Upstream sends empty details with it."""

    def __init__(self) -> None:
        super().__init__("415: Unsupported Media Type")

    def to_status(self) -> dict[str, Any]:
        return super().to_status() | {"details": {}}


def unsupported_body() -> UnsupportedMediaType:
    return UnsupportedMediaType(
        "the body of the request was in an unknown format - accepted media types include: " + ", ".join(BODY_TYPES)
    )
