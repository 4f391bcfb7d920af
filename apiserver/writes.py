"""Create, update, patch and delete: decode, default, mutate, validate, admit, store.

Every change of a stored object goes through `modify`: read the newest version, make the new one from it, write it
guarded by the version read, and start again where somebody else was faster.
Source: k8s.io/apiserver pkg/registry/generic/registry.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import NoReturn

import orjson

from apiserver import codec, decode, deletion, objectmeta, options, patching, replies
from apiserver.admission.chain import CREATE, DELETE, UPDATE, Attributes, Chain
from apiserver.admission.policies import is_policy
from apiserver.admission.serviceaccounts import random_suffix
from apiserver.allocators import Reservation
from apiserver.equality import same
from apiserver.fieldmanager import applying, updates
from apiserver.fieldmanager.entries import Entry as FieldsEntry
from apiserver.fieldmanager.entries import manager_name
from apiserver.reads import served
from apiserver.registry.base import Object, Part, ResourceDef, Strategy
from apiserver.registry.faults import shown_as_sent
from apiserver.request import DeleteOptions, Request, WriteOptions, Written
from apiserver.schemas.shape import Empty
from apiserver.servicekeeper import ServiceKeeper
from apiserver.stamps import Timestamps, Uids
from apiserver.state import State
from apiserver.watchcache import Entry
from kubarium.machinery.errors import (
    AlreadyExists,
    ApiError,
    Invalid,
    KeyExists,
    KeyMissing,
    NotFound,
    RevisionMismatch,
    StatusCause,
    StoreUnavailable,
)

NAME_TRIES = 8  # with generateName
WRITE_TRIES = 200  # where others change the same object: each round one of them is done

Change = Callable[[Object], Object]
"""From the object as it is (the callee's own copy) to the object as it shall be."""


class Job:
    """One write on its way through the pipeline.

    `applied`: the owners of fields, where server-side apply has found them. `empty`: what the body has empty.
    """

    __slots__ = ("applied", "dry_run", "empty", "request", "resource", "wanted", "warnings")

    def __init__(self, request: Request, wanted: WriteOptions) -> None:
        self.request = request
        self.resource: ResourceDef = request.resource
        self.wanted = wanted
        self.dry_run = bool(wanted.dry_run)
        self.warnings: list[str] = []
        self.applied: list[FieldsEntry] | None = None
        self.empty: list[Empty] = []

    @property
    def manager(self) -> str:
        return manager_name(self.wanted.field_manager, self.wanted.user_agent)

    def attributes(self, operation: str, name: str, obj: Object | None, old: Object | None) -> Attributes:
        return Attributes(operation, self.request, name, obj, old, self.dry_run, self.warnings)

    def warned(self, err: ApiError) -> None:
        """The error tells the client of all that it was to be warned of by then."""
        err.warnings = tuple(dict.fromkeys((*err.warnings, *self.warnings)))

    def done(self, body: bytes, *, created: bool = False) -> Written:
        return Written(body, created, tuple(dict.fromkeys(self.warnings)) if self.warnings else ())


class _Lost(Exception):
    """What a Service was given belongs to another."""


class _NothingReserved:
    """Of everything but Services."""

    disputable = False

    def __enter__(self) -> _NothingReserved:
        return self

    def __exit__(self, *_: object) -> None: ...

    def confirm(self, revision: int) -> None: ...

    async def is_lost(self, revision: int) -> bool:
        return False


_NOTHING_RESERVED = _NothingReserved()


class _Reserved:
    """What a write has reserved for a Service, while the block lasts.

    `disputable`: other servers may give out the same at the same moment; ask `is_lost` after the write.
    """

    def __init__(self, services: ServiceKeeper, reservation: Reservation, service: Object) -> None:
        self._services = services
        self._reservation = reservation
        self._service = service
        self.disputable = services.shared and bool(reservation.items)

    def __enter__(self) -> _Reserved:
        return self

    def confirm(self, revision: int) -> None:
        """The write is done."""
        self._services.observe(self._reservation.key, revision, self._service)

    async def is_lost(self, revision: int) -> bool:
        """Whether what was reserved belongs to an earlier write; then this one has to be taken back."""
        return await self._services.is_lost(self._reservation, revision)

    def __exit__(self, _: object, err: BaseException | None, __: object) -> None:
        """Where nobody can tell whether the write has happened, nobody else may have what it took."""
        if isinstance(err, StoreUnavailable | asyncio.CancelledError):
            self._services.doubt(self._reservation)
        else:
            self._services.cancel(self._reservation)


class Writer:
    """The writing half of the pipeline, subresources left aside."""

    def __init__(
        self,
        state: State,
        admission: Chain,
        services: ServiceKeeper,
        *,
        clock: Callable[[], float] = time.time,
        new_uid: Callable[[], str] | None = None,
    ) -> None:
        self._state = state
        self._admission = admission
        self._services = services
        self._clock = clock
        self._new_uid = new_uid or Uids()
        self.now = Timestamps(clock)

    # -- create --------------------------------------------------------------------------------------------------------

    async def create(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        options.check_write("CreateOptions", wanted)
        job = Job(request, wanted)
        obj = self._decode(job, body, content_type)
        return await self.insert(job, obj)

    async def insert(self, job: Job, obj: Object) -> Written:
        """Make an object out of a decoded one that the client sent (the callee's own)."""
        try:
            return await self._insert(job, obj)
        except ApiError as err:
            job.warned(err)
            raise

    async def _insert(self, job: Job, obj: Object) -> Written:
        resource = job.resource
        objectmeta.match_namespace(obj, resource, job.request.namespace)
        for field in ("deletionTimestamp", "deletionGracePeriodSeconds"):
            objectmeta.metadata_of(obj).pop(field, None)
        resource.strategy.default(obj)
        job.warnings.extend(objectmeta.drop_repeated_owners(obj))
        if job.applied is None:
            with updates.as_sent(job.empty):
                updates.track_create(resource, obj, job.manager, self.now())
        else:
            updates.set_entries(obj["metadata"], job.applied)
        metadata = obj["metadata"]
        await self._admission.admit(job.attributes(CREATE, metadata.get("name") or "", obj, None))
        prefix = "" if metadata.get("name") else str(metadata.get("generateName") or "")
        if not prefix:
            return await self._insert_undisputed(job, obj)
        template = orjson.dumps(obj)
        for tried in range(NAME_TRIES):
            fresh = orjson.loads(template) if tried else obj
            name = fresh["metadata"]["name"] = objectmeta.generated_name(prefix, random_suffix())
            try:
                return await self._insert_undisputed(job, fresh)
            except AlreadyExists:
                continue
        raise replies.no_unique_name(resource, name)

    async def _insert_undisputed(self, job: Job, obj: Object) -> Written:
        """Again, where what a Service was given turns out to belong to another: it gets something else, or is told."""
        if not (is_service(job.resource) and self._services.shared):
            return await self._insert_once(job, obj)
        template = orjson.dumps(obj)
        while True:
            with suppress(_Lost):
                return await self._insert_once(job, obj)
            obj = orjson.loads(template)

    def _prepare_new(self, job: Job, obj: Object) -> None:
        strategy = job.resource.strategy
        objectmeta.stamp_new(obj, uid=self._new_uid(), now=self.now())
        metadata = obj["metadata"]
        if options.is_revision(metadata.get("resourceVersion")) and not job.dry_run:
            raise replies.unnamed_error("resourceVersion should not be set on objects to be created")
        if not (job.dry_run and metadata.get("resourceVersion")):
            metadata.pop("resourceVersion", None)
        job.warnings.extend(strategy.prepare_create(obj) or ())
        if strategy.sign is not None:
            strategy.sign(obj, job.request.user)

    async def _insert_once(self, job: Job, obj: Object) -> Written:
        resource, strategy = job.resource, job.resource.strategy
        name = obj["metadata"].get("name", "")
        key = resource.key(job.request.namespace if resource.namespaced else "", name)
        with self._reserved(job, key, obj, None) as reserved:
            self._prepare_new(job, obj)
            attributes = job.attributes(CREATE, name, obj, None)
            if causes := strategy.validate(obj):
                check(resource, obj, [*await self._admission.causes(attributes), *causes], job.empty)
            strategy.default(obj)  # as what is read from the store is
            await self._admission.validate(attributes)
            job.warnings.extend(strategy.warnings(obj, None))
            if job.dry_run:
                if await self._state.current(resource, job.request.namespace, name):
                    raise replies.already_exists(resource, name)
                return job.done(orjson.dumps(as_stored(resource, obj)), created=True)
            data = codec.stored_form(stored(resource, obj))
            try:
                revision = await self._state.store.create(key, data, ttl_s=resource.ttl_s)
            except KeyExists as err:
                raise replies.already_exists(resource, name) from err
            reserved.confirm(revision)
            if reserved.disputable and await reserved.is_lost(revision):
                await self._take_back(resource, key, revision, None)
        if is_policy(resource):
            await self._seen(revision)
        return job.done(served(resource, codec.with_revision(data, revision)), created=True)

    # -- update and patch ----------------------------------------------------------------------------------------------

    async def update(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        options.check_write("UpdateOptions", wanted)
        job = Job(request, wanted)
        decoded = [self._decode(job, body, content_type)]
        self._match(request, decoded[0])

        def replacement(_: Object) -> Object:
            obj = decoded.pop() if decoded else self._decode(job, body, content_type)
            self._match(request, obj)
            return obj

        return await self.modify(job, replacement, create_missing=request.resource.strategy.allow_create_on_update)

    async def patch(self, request: Request, body: bytes, content_type: str, wanted: WriteOptions) -> Written:
        applies = applying.is_apply(content_type)
        options.check_patch(wanted, apply=applies)
        job = Job(request, wanted)
        if applies:
            config, job.warnings = applying.read_config(body, request.resource, wanted.field_validation)
            return await self.apply(job, config)

        def patched(old: Object) -> Object:
            new, warnings = patching.apply_patch(
                content_type, old, body, request.resource, field_validation=wanted.field_validation
            )
            job.warnings[:] = warnings
            self._match(request, new)
            return new

        return await self.modify(job, patched)

    async def apply(self, job: Job, config: Object) -> Written:
        """Server-side apply of a configuration of the resource's type; makes the object where there is none."""
        request, resource, wanted = job.request, job.resource, job.wanted
        force = bool(wanted.force)
        call = applying.Apply(resource, request.subresource, config, wanted.field_manager, force, self.now())

        def applied(old: Object) -> Object:
            new, job.applied = applying.apply(call, old)
            if not old and (uid := new["metadata"].get("uid")):
                text = f"uid mismatch: the provided object specified uid {uid}, and no existing object was found"
                raise replies.conflict(resource, request.name, text)
            self._match(request, new)
            return new

        return await self.modify(job, applied, create_missing=True)

    def _match(self, request: Request, obj: Object) -> None:
        objectmeta.match_name(obj, request.name)
        objectmeta.match_namespace(obj, request.resource, request.namespace)

    async def modify(self, job: Job, change: Change, *, create_missing: bool = False) -> Written:
        """Change the stored object that the request names. NotFound, Conflict, Invalid and all that admission says."""
        try:
            return await self._modify(job, change, create_missing)
        except ApiError as err:
            job.warned(err)
            raise

    async def _modify(self, job: Job, change: Change, create_missing: bool) -> Written:
        request = job.request
        for _ in range(WRITE_TRIES):
            entry = await self._state.current(request.resource, request.namespace, request.name)
            if entry is None:
                if not create_missing or request.subresource:
                    raise replies.not_found(request.resource, request.name)
                try:
                    return await self._create_missing(job, change({}))
                except AlreadyExists:
                    continue
            try:
                return await self._modify_once(job, entry, change)
            except (RevisionMismatch, KeyMissing, _Lost):
                continue
        raise replies.conflict(request.resource, request.name)

    async def _create_missing(self, job: Job, obj: Object) -> Written:
        metadata = obj["metadata"]
        if metadata.get("uid"):
            raise replies.uid_mismatch(job.resource, job.request, metadata["uid"], "", dry_run=job.dry_run)
        options.named_revision(metadata.get("resourceVersion") or "")
        if not job.dry_run:
            metadata.pop("resourceVersion", None)
        return await self.insert(job, obj)

    async def _modify_once(self, job: Job, entry: Entry, change: Change) -> Written:
        """Raises RevisionMismatch or KeyMissing where another write came first."""
        resource, current = job.resource, served(job.resource, entry.data)
        old = codec.decode(current)
        new = change(codec.decode(current))
        self._check_version(job, new, old)
        part = await self._admit_update(job, new, old)
        with self._reserved(job, entry.key, new, old) as reserved:
            if part is not None:
                await self._judge_update(job, part, new, old)
            updates.keep_times(new, old)
            if not job.dry_run:
                new["metadata"].pop("selfLink", None)  # it is never stored
            if new == old and same(new, old) and not self._is_outdated(resource, entry, new):
                return job.done(current)
            if job.dry_run:
                return job.done(orjson.dumps(as_stored(resource, new)))
            data = codec.stored_form(stored(resource, new))
            if deletion.is_released(new):
                revision, _ = await self._state.store.delete(entry.key, expected=entry.revision)
                self._services_gone(resource, entry.key, revision)
            else:
                revision = await self._state.store.update(
                    entry.key, data, expected=entry.revision, ttl_s=resource.ttl_s
                )
                reserved.confirm(revision)
                if reserved.disputable and await reserved.is_lost(revision):
                    await self._take_back(resource, entry.key, revision, old)
        if is_policy(resource):
            await self._seen(revision)
        return job.done(served(resource, codec.with_revision(data, revision)))

    def _is_outdated(self, resource: ResourceDef, entry: Entry, obj: Object) -> bool:
        """Whether an object would now be stored in another form than it is: its kind has another schema since."""
        if resource.custom is None or resource.from_storage is None:
            return False
        return not same(stored(resource, obj), codec.decode(entry.data))

    def _check_version(self, job: Job, new: Object, old: Object) -> None:
        metadata, was, resource = objectmeta.metadata_of(new), old["metadata"], job.resource
        if (
            job.request.verb == "update"
            and (uid := metadata.get("uid"))
            and uid != was["uid"]
            and resource.custom is None
        ):
            raise replies.uid_mismatch(resource, job.request, uid, was["uid"], dry_run=job.dry_run)
        version = metadata.get("resourceVersion")
        if version in (None, "", "0"):
            if not resource.strategy.allow_unconditional_update:
                text = "Invalid value: 0: must be specified for an update"
                cause = StatusCause("FieldValueInvalid", text, "metadata.resourceVersion")
                raise Invalid.of(resource.group, resource.plural, job.request.name, [cause])
        elif version != was["resourceVersion"]:
            options.named_revision(version)
            raise replies.conflict(resource, job.request.name)
        metadata["resourceVersion"] = was["resourceVersion"]

    async def _admit_update(self, job: Job, new: Object, old: Object) -> Part | None:
        """Default and mutate the new version; what is to prepare and judge it, where something is."""
        resource, strategy, subresource = job.resource, job.resource.strategy, job.request.subresource
        part = part_of(strategy, subresource)
        if part is not None:
            strategy.default(new)
        if not subresource:
            job.warnings.extend(objectmeta.drop_repeated_owners(new, late=job.request.verb == "patch"))
        if job.applied is not None:
            new["metadata"]["managedFields"] = job.applied
        elif (part is not None) and not is_first_scaling(resource, subresource, old):
            with updates.as_sent(job.empty):
                updates.track_update(resource, subresource, new, old, job.manager, self.now())
        if subresource == "scale":
            updates.scale_times(new, old)
        objectmeta.carry_over(new, old)
        if part is not None:
            await self._admission.admit(job.attributes(UPDATE, job.request.name, new, old))
        return part

    async def _judge_update(self, job: Job, part: Part, new: Object, old: Object) -> None:
        part.prepare(new, old)
        causes = part.validate(new, old)
        job.warnings.extend(getattr(causes, "warnings", ()))
        check(job.resource, new, causes, job.empty)
        await self._admission.validate(job.attributes(UPDATE, job.request.name, new, old))
        job.warnings.extend(part.warnings(new, old))

    # -- delete --------------------------------------------------------------------------------------------------------

    async def delete(self, request: Request, wanted: DeleteOptions) -> Written:
        options.check_delete(wanted)
        for _ in range(WRITE_TRIES):
            entry = await self._state.current(request.resource, request.namespace, request.name)
            if entry is None:
                raise replies.not_found(request.resource, request.name)
            try:
                return await self._delete_once(request, entry, wanted)
            except (RevisionMismatch, KeyMissing):
                continue
        raise replies.conflict(request.resource, request.name)

    async def delete_all(self, request: Request, entries: Sequence[Entry], wanted: DeleteOptions) -> None:
        """Delete what a list has found; what is gone by now, or has changed hands, is left alone."""
        options.check_delete(wanted)
        for entry in entries:
            one = replace(request, name=entry.head.name, namespace=entry.head.namespace)
            try:
                await self.delete(one, wanted)
            except NotFound:
                continue

    async def _delete_once(self, request: Request, entry: Entry, wanted: DeleteOptions) -> Written:
        resource = request.resource
        obj = codec.decode(served(resource, entry.data))
        check_preconditions(resource, obj, wanted)
        job = Job(request, WriteOptions(dry_run=wanted.dry_run))
        attributes = job.attributes(DELETE, request.name, None, obj)
        await self._admission.admit(attributes)
        await self._admission.validate(attributes)
        plan = deletion.plan_delete(resource, obj, wanted, self._clock())
        body = await self._carry_out(job, entry, plan)
        if plan.remove and (resource.custom is not None or resource.plural not in deletion.RETURNS_OBJECT):
            body = replies.deleted(resource, request.name, obj["metadata"]["uid"])
        return replace(job.done(body), removed=plan.remove)

    async def _carry_out(self, job: Job, entry: Entry, plan: deletion.Plan) -> bytes:
        resource = job.resource
        if job.dry_run or not (plan.changed or plan.remove):
            return orjson.dumps(plan.obj)
        data = codec.stored_form(stored(resource, plan.obj))
        if plan.remove:
            revision, _ = await self._state.store.delete(entry.key, expected=entry.revision)
            self._services_gone(resource, entry.key, revision)
        else:
            revision = await self._state.store.update(entry.key, data, expected=entry.revision, ttl_s=resource.ttl_s)
        if is_policy(resource):
            await self._seen(revision)
        return served(resource, codec.with_revision(data, revision))

    # -- shared --------------------------------------------------------------------------------------------------------

    def _decode(self, job: Job, body: bytes, content_type: str) -> Object:
        validation = job.wanted.field_validation
        obj, warnings = decode.decode(body, content_type, job.resource, field_validation=validation, empty=job.empty)
        job.warnings[:] = warnings
        return obj

    async def _seen(self, revision: int) -> None:
        """What admission goes by is in the cache before the write is answered."""
        with suppress(StoreUnavailable):
            await self._state.cache.wait_for(revision)

    def _reserved(self, job: Job, key: str, new: Object, old: Object | None) -> _Reserved | _NothingReserved:
        """Addresses and ports of a Service, given back unless the write is confirmed with its revision. They are given
        out before the Service is prepared and judged: both look at them.
        """
        resource = job.resource
        if not is_service(resource) or job.request.subresource:
            return _NOTHING_RESERVED
        return _Reserved(self._services, self._services.allocate(key, new, old, dry_run=job.dry_run), new)

    async def _take_back(self, resource: ResourceDef, key: str, revision: int, old: Object | None) -> NoReturn:
        """Undo our own write of a Service, unless somebody has gone on from it. Raises _Lost."""
        with suppress(RevisionMismatch, KeyMissing):
            if old is None:
                gone, _ = await self._state.store.delete(key, expected=revision)
                self._services.observe(key, gone, None)
            else:
                data = codec.stored_form(stored(resource, old))
                self._services.observe(key, await self._state.store.update(key, data, expected=revision), old)
        raise _Lost

    def _services_gone(self, resource: ResourceDef, key: str, revision: int) -> None:
        if is_service(resource):
            self._services.observe(key, revision, None)


def part_of(strategy: Strategy, subresource: str) -> Part | None:
    """What judges a change made this way; None for subresources that change one thing, which they check themselves."""
    if subresource in ("", "scale"):
        return Part(strategy.prepare_update, strategy.validate_update, strategy.warnings)
    if subresource == "status":
        return Part(strategy.prepare_status_update, strategy.validate_status_update, strategy.status_warnings)
    return strategy.parts.get(subresource)


def check(resource: ResourceDef, obj: Object, causes: Sequence[StatusCause], empty: Sequence[Empty] = ()) -> None:
    """Raises Invalid with the causes, if any; `empty` is what the client sent as an empty list or map."""
    if causes:
        group = resource.storage[0] if resource.storage else resource.group
        raise Invalid.of(group, resource.kind, obj["metadata"].get("name", ""), shown_as_sent(causes, empty))


def is_service(resource: ResourceDef) -> bool:
    return resource.plural == "services" and not resource.group


def stored(resource: ResourceDef, obj: Object) -> Object:
    return obj if resource.to_storage is None else resource.to_storage(obj)


def as_stored(resource: ResourceDef, obj: Object) -> Object:
    """What a client would be given of the object if it had been stored."""
    if resource.to_storage is None or resource.from_storage is None or resource.custom is not None:
        return obj
    return resource.from_storage(resource.to_storage(obj))


def is_first_scaling(resource: ResourceDef, subresource: str, old: Object) -> bool:
    """Whether a custom object gets replicas from its Scale where it had none: upstream lets nobody own these."""
    custom = resource.custom
    return subresource == "scale" and custom is not None and custom.scale is not None and not custom.scale.is_set(old)


def check_preconditions(resource: ResourceDef, obj: Object, wanted: DeleteOptions) -> None:
    metadata = obj["metadata"]
    for name, asked, found in (
        ("UID", wanted.uid, metadata["uid"]),
        ("ResourceVersion", wanted.resource_version, metadata["resourceVersion"]),
    ):
        if asked is not None and asked != found:
            raise replies.delete_precondition(resource, metadata["name"], name, asked, found)
