"""Subresources that are more than a part of their object: binding, eviction, finalize, token (and scale)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson

from apiserver import decode, objectmeta, options, replies
from apiserver.admission.chain import CREATE, Attributes, Chain
from apiserver.decode import PROTOBUF_TYPE
from apiserver.eviction import Evictions
from apiserver.fieldmanager.entries import manager_name
from apiserver.reads import Reader
from apiserver.registry.base import Object, ResourceDef
from apiserver.registry.faults import Faults
from apiserver.registry.pods import BINDINGS, PODS, put_condition
from apiserver.request import DeleteOptions, Request, WriteOptions, Written
from apiserver.scaling import Scaling
from apiserver.state import State
from apiserver.tokenrequests import TOKEN_REQUEST, TokenIssuer
from apiserver.writes import Job, Writer
from kubarium.machinery.errors import ApiError, BadRequest, Conflict

EVICTION = ResourceDef("policy", "v1", "Eviction", "evictions", "eviction")

Handler = Callable[[Request, Object, WriteOptions], Awaitable[Written]]


class Subresources:
    """Dispatch by name; each works on the object that the request names, through the Writer."""

    def __init__(self, state: State, reader: Reader, writer: Writer, tokens: TokenIssuer, admission: Chain) -> None:
        self._writer = writer
        self._admission = admission
        self._tokens = tokens
        self._evictions = Evictions(state, writer)
        self.scaling = Scaling(reader, writer)

    async def create(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        """The subresources that are POSTed, and Bindings by themselves."""
        options.check_write("CreateOptions", wanted)
        kind, handler = self._handler(request)
        if kind is EVICTION and content_type != PROTOBUF_TYPE:
            body = body.replace(b"policy/v1beta1", b"policy/v1", 1)  # old clients; the form is the same
        obj, found = decode.decode(body, content_type, kind, field_validation=wanted.field_validation)
        warnings = tuple(found)
        try:
            written = await handler(request, obj, wanted)
        except ApiError as err:
            err.warnings = (*warnings, *err.warnings)
            raise
        return replace(written, warnings=(*warnings, *written.warnings)) if warnings else written

    def _handler(self, request: Request) -> tuple[ResourceDef, Handler]:
        """What is sent, and who takes it. Raises NotAllowed where nothing may be."""
        if request.resource.kind == "Binding":
            return BINDINGS, self._bind_named
        handlers = {
            "binding": (BINDINGS, self._bind),
            "eviction": (EVICTION, self._evict),
            "token": (TOKEN_REQUEST, self._token),
        }
        if request.subresource not in handlers:
            raise replies.NotAllowed
        return handlers[request.subresource]

    async def update(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        options.check_write("UpdateOptions", wanted)
        if request.subresource == "finalize":
            return await self._finalize(request, body, content_type, wanted)
        return await self.scaling.update(request, body, content_type, wanted)

    # -- pods ----------------------------------------------------------------------------------------------------------

    async def _bind_named(self, request: Request, binding: Object, wanted: WriteOptions) -> Written:
        """A Binding that was POSTed to the namespace: it names its pod itself."""
        pod = replace(
            request, resource=PODS, name=objectmeta.metadata_of(binding).get("name", ""), subresource="binding"
        )
        return await self._bind(pod, binding, wanted)

    async def _bind(self, request: Request, binding: Object, wanted: WriteOptions) -> Written:
        objectmeta.match_namespace(binding, BINDINGS, request.namespace)
        check_binding(binding, request)
        now = self._writer.now()
        await self._writer.modify(Job(request, wanted), lambda pod: bound(request, pod, binding, now))
        return Written(replies.CREATED, created=True)

    async def _evict(self, request: Request, eviction: Object, wanted: WriteOptions) -> Written:
        objectmeta.match_namespace(eviction, EVICTION, request.namespace)
        if eviction["metadata"].get("name", "") != request.name:
            raise BadRequest("name in URL does not match name in Eviction object")
        found = eviction_options(eviction.get("deleteOptions") or {}, wanted.dry_run)
        attributes = Attributes(CREATE, request, request.name, eviction, None, bool(wanted.dry_run))
        await self._admission.admit(attributes)
        await self._admission.validate(attributes)
        await self._evictions.evict(request, found)
        return Written(replies.CREATED, created=True)

    # -- the others ----------------------------------------------------------------------------------------------------

    async def _token(self, request: Request, review: Object, wanted: WriteOptions) -> Written:
        manager = manager_name(wanted.field_manager, wanted.user_agent)
        issued = await self._tokens.issue(request, review, manager, dry_run=bool(wanted.dry_run))
        return Written(orjson.dumps(issued), created=True)

    async def _finalize(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        asked, found = decode.decode(body, content_type, request.resource, field_validation=wanted.field_validation)
        job = Job(request, wanted)
        job.warnings.extend(found)
        objectmeta.match_name(asked, request.name)

        def change(namespace: Object) -> Object:
            version = asked["metadata"].get("resourceVersion")
            if version:
                namespace["metadata"]["resourceVersion"] = version
            finalizers = (asked.get("spec") or {}).get("finalizers") or []
            namespace["spec"] = {"finalizers": finalizers} if finalizers else {}
            return namespace

        return await self._writer.modify(job, change)


def check_binding(binding: Object, request: Request) -> None:
    """Raises BadRequest, and an error without a reason where the target is no node."""
    name, target = (binding.get("metadata") or {}).get("name", ""), binding.get("target") or {}
    if name != request.name:
        raise BadRequest("name in URL does not match name in Binding object")
    faults = Faults()
    if target.get("kind", "Node") not in ("", "Node"):
        faults.unsupported("target.kind", target["kind"], ("Node", "<empty>"))
    if not target.get("name"):
        faults.required("target.name")
    if faults:
        texts = [f"{fault.field}: {fault.message}" for fault in faults]
        raise replies.unnamed_error(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")


def bound(request: Request, pod: Object, binding: Object, now: str) -> Object:
    """A pod with its node, and the condition that says so. Raises Conflict where it has one or ends."""
    metadata, spec = pod["metadata"], pod["spec"]

    def refuse(text: str) -> Conflict:
        return replies.conflict(request.resource, request.name, text, subresource="binding")

    wanted = binding["metadata"]
    for key, word in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
        if wanted.get(key) and wanted[key] != metadata[key]:
            raise replies.precondition(request.resource, request, word, wanted[key], metadata[key])
    if metadata.get("deletionTimestamp"):
        raise refuse(f"pod {request.name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise refuse(f'pod {request.name} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise refuse(f"pod {request.name} has non-empty .spec.schedulingGates")
    spec["nodeName"] = binding["target"]["name"]
    for key in ("annotations", "labels"):
        if added := wanted.get(key):
            metadata[key] = {**(metadata.get(key) or {}), **added}
    status = pod.setdefault("status", {})
    status.pop("nominatedNodeName", None)
    put_condition(status, {"type": "PodScheduled", "status": "True"}, now)
    return pod


def eviction_options(body: dict[str, Any], dry_run: tuple[str, ...]) -> DeleteOptions:
    """Those of the body; a dry run may be asked for in either place. Raises an error without a reason."""
    own = tuple(body.get("dryRun") or ())
    if own and dry_run and own != dry_run:
        shown = (f"[{' '.join(values)}]" for values in (dry_run, own))
        text = "Non-matching dry-run options in request and content: "
        raise replies.unnamed_error(text + " and ".join(shown))
    return delete_options(body, dry_run)


def delete_options(body: dict[str, Any], dry_run: tuple[str, ...] = ()) -> DeleteOptions:
    """DeleteOptions out of their JSON form."""
    preconditions = body.get("preconditions") or {}
    return DeleteOptions(
        body.get("gracePeriodSeconds"),
        body.get("propagationPolicy"),
        body.get("orphanDependents"),
        preconditions.get("uid"),
        preconditions.get("resourceVersion"),
        tuple(body.get("dryRun") or dry_run),
    )
