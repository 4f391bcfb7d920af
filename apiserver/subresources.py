"""Subresources that are more than a part of their object: scale, binding, eviction, finalize, token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from apiserver import codec, decode, objectmeta, options, patching, replies
from apiserver.fieldmanager import applying
from apiserver.fieldmanager.entries import manager_name
from apiserver.fieldmanager.roots import root_of
from apiserver.reads import Reader
from apiserver.registry.base import Object, ResourceDef
from apiserver.request import DeleteOptions, Request, WriteOptions, Written
from apiserver.tokenrequests import TOKEN_REQUEST, TokenIssuer
from apiserver.writes import Job, Writer
from kubarium.machinery.errors import (
    BadRequest,
    Conflict,
    InternalError,
    Invalid,
    StatusCause,
)

SCALE = ResourceDef("autoscaling", "v1", "Scale", "scales", "scale")
BINDING = ResourceDef("", "v1", "Binding", "bindings", "binding")
EVICTION = ResourceDef("policy", "v1", "Eviction", "evictions", "eviction")


class Subresources:
    """Dispatch by name; each works on the object that the request names, through the Writer."""

    def __init__(self, reader: Reader, writer: Writer, tokens: TokenIssuer) -> None:
        self._reader = reader
        self._writer = writer
        self._tokens = tokens

    async def create(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        """The subresources that are POSTed."""
        options.check_write("CreateOptions", wanted)
        handlers = {"binding": self._bind, "eviction": self._evict, "token": self._token}
        if request.subresource not in handlers:
            raise replies.NotAllowed
        return await handlers[request.subresource](request, body, content_type, wanted)

    async def update(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        options.check_write("UpdateOptions", wanted)
        if request.subresource == "finalize":
            return await self._finalize(request, body, content_type, wanted)
        asked = _decode(body, content_type, SCALE, wanted)
        objectmeta.match_name(asked, request.name)
        return await self._set_scale(Job(request, wanted), lambda _: asked)

    # -- scale ---------------------------------------------------------------------------------------------------------

    async def scale(self, request: Request) -> bytes:
        return orjson.dumps(scale_of(codec.decode(await self._reader.get(request)), request.resource, whole=True))

    async def patch_scale(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        applies = applying.is_apply(content_type)
        options.check_patch(wanted, apply=applies)
        if applies:
            return await self._apply_scale(Job(request, wanted), body)

        def patched(scale: Object) -> Object:
            new, _ = patching.apply_patch(content_type, scale, body, SCALE, field_validation=wanted.field_validation)
            objectmeta.match_name(new, request.name)
            return new

        return await self._set_scale(Job(request, wanted), patched)

    async def _apply_scale(self, job: Job, body: bytes) -> Written:
        """The Scale as a configuration of what it scales."""
        config, job.warnings = applying.read_config(body, SCALE, job.wanted.field_validation)
        written = await self._writer.apply(job, scaled_config(config, job.resource))
        return job.done(orjson.dumps(scale_of(codec.decode(written.body), job.resource)))

    async def _set_scale(self, job: Job, make: Callable[[Object], Object]) -> Written:
        def change(obj: Object) -> Object:
            scale = make(scale_of(obj, job.resource))
            replicas = (scale.get("spec") or {}).get("replicas", 0)
            if replicas < 0:
                raise negative_replicas(replicas, job.request.name)
            metadata = scale.get("metadata") or {}
            obj["metadata"] |= {k: metadata[k] for k in ("resourceVersion", "uid") if metadata.get(k)}
            set_replicas(obj, job.resource, replicas)
            return obj

        written = await self._writer.modify(job, change)
        return job.done(orjson.dumps(scale_of(codec.decode(written.body), job.resource)))

    # -- pods ----------------------------------------------------------------------------------------------------------

    async def _bind(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        binding = _decode(body, content_type, BINDING, wanted)
        check_binding(binding, request)
        now = self._writer.now()
        await self._writer.modify(Job(request, wanted), lambda pod: bound(request, pod, binding, now))
        return Written(replies.CREATED, created=True)

    async def _evict(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        eviction = _decode(body, content_type, EVICTION, wanted)
        if (name := (eviction.get("metadata") or {}).get("name", "")) != request.name:
            raise BadRequest(f"name in URL does not match name in Eviction object: {request.name} != {name}")
        found = delete_options(eviction.get("deleteOptions") or {}, wanted.dry_run)
        await self._writer.delete(request, found)
        return Written(replies.CREATED, created=True)

    # -- the others ----------------------------------------------------------------------------------------------------

    async def _token(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        review = _decode(body, content_type, TOKEN_REQUEST, wanted)
        manager = manager_name(wanted.field_manager, wanted.user_agent)
        issued = await self._tokens.issue(request, review, manager, dry_run=bool(wanted.dry_run))
        return Written(orjson.dumps(issued), created=True)

    async def _finalize(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        asked = _decode(body, content_type, request.resource, wanted)
        objectmeta.match_name(asked, request.name)

        def change(namespace: Object) -> Object:
            version = asked["metadata"].get("resourceVersion")
            if version:
                namespace["metadata"]["resourceVersion"] = version
            finalizers = (asked.get("spec") or {}).get("finalizers") or []
            namespace["spec"] = {"finalizers": finalizers} if finalizers else {}
            return namespace

        return await self._writer.modify(Job(request, wanted), change)


def _decode(body: bytes, content_type: str, resource: ResourceDef, wanted: WriteOptions) -> Object:
    obj, _ = decode.decode(body, content_type, resource, field_validation=wanted.field_validation)
    return obj


def scale_of(obj: Object, resource: ResourceDef, *, whole: bool = False) -> Object:
    """The autoscaling/v1 Scale of anything with spec.replicas and a selector, or of a custom kind that says where its
    replicas are. `whole`: InternalError where it has none.
    """
    metadata = obj["metadata"]
    if resource.custom is not None and (paths := resource.custom.scale) is not None:
        asked, there, selector = paths.scale_of(obj)
        if asked is None and whole:
            raise InternalError(
                f'Internal error occurred: the spec replicas field "{paths.spec}" does not exist',
                details={"causes": [{"message": f'the spec replicas field "{paths.spec}" does not exist'}]},
            )
        replicas = asked or 0
    else:
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        replicas, there = spec.get("replicas", 0), status.get("replicas", 0)
        selector = selector_text(spec.get("selector") or {})
    shown: Object = {"replicas": there}
    if selector:
        shown["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {
            key: metadata[key]
            for key in ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
            if key in metadata
        },
        "spec": {"replicas": replicas} if replicas else {},
        "status": shown,
    }


def scaled_config(scale: Object, resource: ResourceDef) -> Object:
    """An applied Scale as a configuration of the resource that has it. Raises BadRequest."""
    root = root_of(SCALE, "")
    assert root is not None  # Scale is among the kinds that the schemas have
    applying.check_config(scale, SCALE, root)
    spec = scale.get("spec") or {}
    if (spec.get("replicas") or 0) < 0:
        raise negative_replicas(spec["replicas"], (scale.get("metadata") or {}).get("name", ""))
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": scale.get("metadata") or {},
        **replicas_config(resource, spec.get("replicas")),
    }


def replicas_config(resource: ResourceDef, replicas: int | None) -> Object:
    """What of an object says how many replicas there shall be."""
    if replicas is None:
        return {}
    if resource.custom is not None and resource.custom.scale is not None:
        return resource.custom.scale.config(replicas)
    return {"spec": {"replicas": replicas}}


def set_replicas(obj: Object, resource: ResourceDef, replicas: int) -> None:
    if resource.custom is not None and resource.custom.scale is not None:
        resource.custom.scale.set_replicas(obj, replicas)
    else:
        obj["spec"]["replicas"] = replicas


def negative_replicas(replicas: int, name: str) -> Invalid:
    text = f"Invalid value: {replicas}: must be greater than or equal to 0"
    return Invalid.of("autoscaling", "Scale", name, [StatusCause("FieldValueInvalid", text, "spec.replicas")])


def selector_text(selector: Object) -> str:
    """A LabelSelector as a query has it: `a=b,tier in (x,y)`."""
    parts = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for one in selector.get("matchExpressions") or ():
        key, values = one["key"], ",".join(sorted(one.get("values") or ()))
        operator = one["operator"]
        if operator in ("In", "NotIn"):
            parts.append(f"{key} {operator.lower()} ({values})")
        else:
            parts.append(key if operator == "Exists" else f"!{key}")
    return ",".join(sorted(parts))


def check_binding(binding: Object, request: Request) -> None:
    """Raises BadRequest or Invalid."""
    name, target = (binding.get("metadata") or {}).get("name", ""), binding.get("target") or {}
    if name != request.name:
        raise BadRequest(f"name in URL does not match name in Binding object: {request.name} != {name}")
    causes = []
    if target.get("kind", "Node") not in ("", "Node"):
        text = f'Unsupported value: "{target["kind"]}": supported values: "Node", "<empty>"'
        causes.append(StatusCause("FieldValueNotSupported", text, "target.kind"))
    if not target.get("name"):
        causes.append(StatusCause("FieldValueRequired", "Required value", "target.name"))
    if causes:
        raise Invalid.of("", "Binding", name, causes)


def bound(request: Request, pod: Object, binding: Object, now: str) -> Object:
    """A pod with its node, and the condition that says so. Raises Conflict where it has one or ends."""
    metadata, spec = pod["metadata"], pod["spec"]

    def refuse(text: str) -> Conflict:
        return replies.conflict(request.resource, request.name, text, subresource="binding")

    wanted = binding["metadata"]
    if wanted.get("uid") and wanted["uid"] != metadata["uid"]:
        raise refuse(
            f"Precondition failed: UID in precondition: {wanted['uid']}, UID in object meta: {metadata['uid']}"
        )
    if metadata.get("deletionTimestamp"):
        raise refuse(f"pod {request.name} is being deleted, cannot be assigned to a host")
    if spec.get("nodeName"):
        raise refuse(f'pod {request.name} is already assigned to node "{spec["nodeName"]}"')
    if spec.get("schedulingGates"):
        raise refuse(f"pod {request.name} has non-empty .spec.schedulingGates")
    spec["nodeName"] = binding["target"]["name"]
    if annotations := wanted.get("annotations"):
        metadata["annotations"] = {**(metadata.get("annotations") or {}), **annotations}
    status = pod.setdefault("status", {})
    scheduled = {"type": "PodScheduled", "status": "True", "lastProbeTime": None, "lastTransitionTime": now}
    others = [c for c in status.get("conditions") or () if c.get("type") != "PodScheduled"]
    status["conditions"] = [*others, scheduled]
    return pod


def delete_options(body: dict[str, Any], dry_run: tuple[str, ...] = ()) -> DeleteOptions:
    """DeleteOptions out of their JSON form."""
    preconditions = body.get("preconditions") or {}
    return DeleteOptions(
        body.get("gracePeriodSeconds"),
        body.get("propagationPolicy") or "",
        body.get("orphanDependents"),
        preconditions.get("uid"),
        preconditions.get("resourceVersion"),
        tuple(body.get("dryRun") or dry_run),
    )
