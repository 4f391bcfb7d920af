"""The pipeline of the API server: one for both front ends. See `apiserver.request.Api` for what it promises.

authenticate -> authorize -> decode -> default -> mutate -> validate -> admit -> store; the front end has authenticated
by the time a request comes here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import wraps
from typing import TypeVar

from apiserver import replies
from apiserver.admission.chain import Chain
from apiserver.auth.authorizer import Authorizer, named, refused
from apiserver.componentstatuses import ComponentStatuses
from apiserver.options import EXACT
from apiserver.reads import Reader, WatchSession
from apiserver.request import (
    DeleteOptions,
    Listed,
    ListOptions,
    Request,
    User,
    WriteOptions,
    Written,
)
from apiserver.reviews import Reviews
from apiserver.servicekeeper import ServiceKeeper
from apiserver.state import State, unavailable
from apiserver.subresources import Subresources
from apiserver.tokenrequests import TokenIssuer
from apiserver.watchcache import Batch
from apiserver.writes import Writer
from kubarium.machinery.errors import ServiceUnavailable, StoreUnavailable, ValueTooLarge

__all__ = ["DeleteOptions", "ListOptions", "Listed", "Pipeline", "Request", "User", "WriteOptions", "Written"]

T = TypeVar("T")

PLAIN = ("", "status")  # what a get answers with the object as it is stored


def _answered(call: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
    """A store that does not answer is a 503 of ours; what it finds too large is told in its own words, as upstream."""

    @wraps(call)
    async def answered(*args: object, **kwargs: object) -> T:
        try:
            return await call(*args, **kwargs)
        except StoreUnavailable as err:
            raise unavailable(err) from err
        except ValueTooLarge as err:
            raise replies.unnamed_error(str(err)) from err

    return answered


@dataclass(frozen=True, slots=True)
class Parts:
    """What a pipeline is made of."""

    state: State
    admission: Chain
    authorizer: Authorizer
    services: ServiceKeeper
    tokens: TokenIssuer
    reviews: Reviews


class Pipeline:
    """Every call on a resource, whatever door it came through."""

    def __init__(self, parts: Parts) -> None:
        self.state = parts.state
        self.authorizer = parts.authorizer
        self.reader = Reader(parts.state)
        self.writer = Writer(parts.state, parts.admission, parts.services)
        self._reviews = parts.reviews
        self._components = ComponentStatuses(parts.state)
        self.writing: set[asyncio.Future[Written]] = set()
        self.lasting: set[asyncio.Task[None]] = set()  # a front end's tasks that nobody cancels while they write
        self._subresources = Subresources(parts.state, self.reader, self.writer, parts.tokens, parts.admission)

    async def allow(self, request: Request, field_selector: str = "") -> None:
        """Raises Forbidden. Before it does, everything written before the call is known: roles come through the
        watch cache, and whoever has just been given one may use it."""
        if not self.authorizer.authorize(request, field_selector).allowed:
            await self._know_all()
            decision = self.authorizer.authorize(request, field_selector)
            if not decision.allowed:
                name = named(field_selector) if request.verb in ("list", "watch") else ""
                raise refused(request, decision.reason, name=name)

    async def _know_all(self) -> None:
        """Wait for what was written before; without the store what is known has to do."""
        with suppress(ServiceUnavailable):
            await self.state.caught_up()

    def get_now(self, request: Request, resource_version: str = "") -> bytes | None:
        """The object, where everything is at hand; None: ask `get`, which also says what is not allowed."""
        if request.subresource not in PLAIN or request.resource.live or not self.authorizer.authorize(request).allowed:
            return None
        return self.reader.get_now(request, resource_version)

    def list_now(self, request: Request, options: ListOptions) -> Listed | None:
        """The list, where everything is at hand; None: ask `list`."""
        if request.resource.live or not self.authorizer.authorize(request, options.field_selector).allowed:
            return None
        return self.reader.list_now(request, options)

    @_answered
    async def get(self, request: Request, *, resource_version: str = "") -> bytes:
        await self.allow(request)
        if request.subresource == "scale":
            return await self._subresources.scaling.get(request)
        if request.resource.live:
            return await self._components.get(request)
        return await self.reader.get(request, resource_version)

    @_answered
    async def list(self, request: Request, options: ListOptions) -> Listed:
        await self.allow(request, options.field_selector)
        if request.resource.live:
            return await self._components.list(request, options)
        return await self.reader.list(request, options)

    @_answered
    async def create(self, request: Request, body: bytes, content_type: str, options: WriteOptions) -> Written:
        await self.allow(request)
        if self._reviews.answers(request.resource):
            await self._know_all()
            return self._reviews.create(request, body, content_type, options)
        if request.subresource or request.resource.kind == "Binding":
            return await self._subresources.create(request, body, content_type, options)
        return await self.writer.create(request, body, content_type, options)

    @_answered
    async def update(self, request: Request, body: bytes, content_type: str, options: WriteOptions) -> Written:
        await self.allow(request)
        if request.subresource in ("scale", "finalize"):
            return await self._subresources.update(request, body, content_type, options)
        return await self.writer.update(request, body, content_type, options)

    @_answered
    async def patch(self, request: Request, body: bytes, content_type: str, options: WriteOptions) -> Written:
        await self.allow(request)
        if request.subresource == "scale":
            return await self._subresources.scaling.patch(request, body, content_type, options)
        return await self.writer.patch(request, body, content_type, options)

    @_answered
    async def delete(self, request: Request, options: DeleteOptions) -> Written:
        await self.allow(request)
        return await self.writer.delete(request, options)

    @_answered
    async def delete_collection(self, request: Request, listed: ListOptions, options: DeleteOptions) -> Listed:
        """The objects as they were listed; at the very version that is named, as upstream lists them page by page."""
        await self.allow(request, listed.field_selector)
        if listed.resource_version not in ("", "0") and not listed.resource_version_match:
            listed = replace(listed, resource_version_match=EXACT)
        found = await self.reader.list(request, listed)
        await self.writer.delete_all(request, found.entries, options)
        return found

    @_answered
    async def open_watch(self, request: Request, options: ListOptions) -> WatchSession:
        await self.allow(request, options.field_selector)
        return await self.reader.open_watch(request, options)

    async def watch(self, request: Request, options: ListOptions) -> AsyncGenerator[Batch, None]:
        await self.allow(request, options.field_selector)
        async for batch in self.reader.watch(request, options):
            yield batch

    async def unbroken(self, call: Awaitable[Written]) -> Written:
        """A write that goes on to its end though the caller is cancelled: cut off half way, nobody would know what it
        had done. For those whose own task ends with their client."""
        task = asyncio.ensure_future(call)
        self.writing.add(task)
        task.add_done_callback(self.writing.discard)
        return await asyncio.shield(task)

    def end_watches(self) -> None:
        """For a graceful stop."""
        self.reader.end_watches()

    async def finish_writes(self) -> None:
        """Returns when every write that has begun is done."""
        while under_way := self.writing | self.lasting:
            await asyncio.wait(under_way)
