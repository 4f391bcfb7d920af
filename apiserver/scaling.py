"""The Scale of whatever has replicas: read it, replace it, patch it, apply it.

Fields that a client owns through a Scale are `spec.replicas` of the object; whoever owned it before owns it no more.
Source: autoscaling/v1 Scale; k8s.io/kubernetes/pkg/registry/apps; k8s.io/apimachinery/pkg/util/managedfields.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson

from apiserver import codec, decode, objectmeta, options, patching
from apiserver.fieldmanager import applying
from apiserver.fieldmanager.roots import root_of
from apiserver.reads import Reader
from apiserver.registry import labels, names
from apiserver.registry.base import Column, Object, ResourceDef
from apiserver.registry.cells import AGE, NAME, field
from apiserver.registry.faults import Faults
from apiserver.registry.meta import check_meta
from apiserver.request import Request, WriteOptions, Written
from apiserver.writes import Job, Writer
from kubarium.machinery.errors import InternalError, Invalid

SCALE = ResourceDef(
    "autoscaling",
    "v1",
    "Scale",
    "scales",
    "scale",
    columns=(
        Column("Name", "string", NAME.description, NAME.cell),
        Column("Desired", "integer", "@ScaleSpec.replicas", field("spec.replicas", 0)),
        Column("Available", "integer", "@ScaleStatus.replicas", field("status.replicas", 0)),
        AGE,
    ),
)
_SHOWN = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


class Scaling:
    """The calls on a `scale` subresource."""

    def __init__(self, reader: Reader, writer: Writer) -> None:
        self._reader = reader
        self._writer = writer

    async def get(self, request: Request) -> bytes:
        return orjson.dumps(scale_of(codec.decode(await self._reader.get(request)), request.resource, whole=True))

    async def update(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        job = Job(request, wanted)
        asked, job.warnings = decode.decode(body, content_type, SCALE, field_validation=wanted.field_validation)
        objectmeta.match_name(asked, request.name)
        return await self._set(job, lambda _: asked)

    async def patch(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        applies = applying.is_apply(content_type)
        options.check_patch(wanted, apply=applies)
        job = Job(request, wanted)
        if applies:
            return await self._apply(job, body)

        def patched(scale: Object) -> Object:
            new, warnings = patching.apply_patch(
                content_type, scale, body, SCALE, field_validation=wanted.field_validation
            )
            job.warnings[:] = warnings
            objectmeta.match_name(new, request.name)
            return new

        return await self._set(job, patched)

    async def _apply(self, job: Job, body: bytes) -> Written:
        """The Scale as a configuration of what it scales."""
        config, job.warnings = applying.read_config(body, SCALE, job.wanted.field_validation)
        written = await self._writer.apply(job, scaled_config(config, job.resource))
        return job.done(orjson.dumps(scale_of(codec.decode(written.body), job.resource)))

    async def _set(self, job: Job, make: Callable[[Object], Object]) -> Written:
        def change(obj: Object) -> Object:
            scale = make(scale_of(obj, job.resource))
            if job.resource.custom is None:
                check_scale(scale)  # what custom objects may have is said by their own schema
            metadata = scale["metadata"]
            obj["metadata"] |= {key: metadata[key] for key in ("resourceVersion", "uid") if metadata.get(key)}
            set_replicas(obj, job.resource, (scale.get("spec") or {}).get("replicas", 0))
            return obj

        written = await self._writer.modify(job, change)
        return job.done(orjson.dumps(scale_of(codec.decode(written.body), job.resource)))


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
        selector = selector_text(spec.get("selector") or {}, plain=resource.kind == "ReplicationController")
    shown: Object = {"replicas": there}
    if selector:
        shown["selector"] = selector
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: metadata[key] for key in _SHOWN if key in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": shown,
    }


def scaled_config(scale: Object, resource: ResourceDef) -> Object:
    """An applied Scale as a configuration of the resource that has it. Raises BadRequest, Invalid."""
    root = root_of(SCALE, "")
    assert root is not None  # Scale is among the kinds that the schemas have
    applying.check_config(scale, SCALE, root)
    spec, metadata = scale.get("spec") or {}, scale.get("metadata") or {}
    if (spec.get("replicas") or 0) < 0:
        raise negative_replicas(spec["replicas"], metadata.get("name", ""))
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
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


def check_scale(scale: Object) -> None:
    """Raises Invalid."""
    faults, metadata = Faults(), scale.get("metadata") or {}
    check_meta({"metadata": {**metadata, "namespace": "any"}}, True, names.name_is_subdomain, faults)
    _check_replicas((scale.get("spec") or {}).get("replicas", 0), faults)
    if faults:
        raise Invalid.of("autoscaling", "Scale", metadata.get("name", ""), faults)


def _check_replicas(replicas: int, faults: Faults) -> None:
    if replicas < 0:
        faults.invalid("spec.replicas", replicas, "must be greater than or equal to 0")


def negative_replicas(replicas: int, name: str) -> Invalid:
    faults = Faults()
    _check_replicas(replicas, faults)
    return Invalid.of("autoscaling", "Scale", name, faults)


def selector_text(selector: Any, *, plain: bool = False) -> str:
    """A LabelSelector as a query has it: `a=b,tier in (x,y)`. `plain`: it is a map of labels itself."""
    wanted = {"matchLabels": selector} if plain else selector
    return "" if labels.is_empty(wanted) else labels.to_text(wanted)
