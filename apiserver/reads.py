"""Get, list and watch: bytes from the cache (or, for an older revision, the store) to the front end, never decoded.

Source: https://kubernetes.io/docs/reference/using-api/api-concepts/ ("Resource versions", "Streaming lists").
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import replace

import orjson

from apiserver import codec, options, replies
from apiserver.registry.base import ResourceDef
from apiserver.request import Listed, ListOptions, Request
from apiserver.selection import NAME, Selection, parse_selection, parse_selectors, selection_of
from apiserver.state import State, matching, unavailable
from apiserver.store.base import Page
from apiserver.watchcache import Batch, Entry, Event, InitialEventsEnd, Watcher
from kubarium.machinery.errors import BadRequest, Compacted, Expired, FutureRevision, StoreUnavailable, Timeout

DEFAULT_WATCH_S = 1800.0  # upstream's --min-request-timeout: a watch without a limit gets one to two times this
BOOKMARK_INTERVAL_S = 60.0
INITIAL_EVENTS_END = "k8s.io/initial-events-end"
FILTERED_PAGE = 500  # keys read at once where a selector leaves fewer than asked for


class Reader:
    """The reading half of the pipeline."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._sessions: set[WatchSession] = set()
        self._stopping = False

    def end_watches(self) -> None:
        """End every watch cleanly, and those that are still to come: the server stops."""
        self._stopping = True
        for session in tuple(self._sessions):
            session.stop()

    async def get(self, request: Request, resource_version: str = "") -> bytes:
        """The object's JSON. `resource_version` "0": whatever the cache has; else not older than it, or the newest."""
        resource = request.resource
        revision = options.watch_revision(resource_version) if resource_version else 0
        if revision:
            await self._state.wait_for(revision)
        elif not resource_version:
            await self._state.caught_up()
        entry = self._state.peek(resource, request.namespace, request.name)
        if entry is None:
            raise replies.not_found(resource, request.name)
        return served(resource, entry.data)

    def get_now(self, request: Request, resource_version: str = "") -> bytes | None:
        """The object's JSON, where the cache is known to be new enough; None: ask `get`. Raises NotFound."""
        if resource_version != "0" and (resource_version or not self._state.is_current()):
            return None
        entry = self._state.peek(request.resource, request.namespace, request.name)
        if entry is None:
            raise replies.not_found(request.resource, request.name)
        return served(request.resource, entry.data)

    # -- lists ---------------------------------------------------------------------------------------------------------

    async def list(self, request: Request, wanted: ListOptions) -> Listed:
        resource = request.resource
        selection = listed_selection(resource, wanted)
        if wanted.continue_token:
            listed = await self._continued(request, wanted, selection)
        else:
            listed = await self._first(request, wanted, selection)
        return served_list(resource, listed)

    def list_now(self, request: Request, wanted: ListOptions) -> Listed | None:
        """The list, where the cache is known to be new enough for it; None: ask `list`."""
        if wanted.continue_token or wanted.resource_version_match:
            return None
        if wanted.resource_version not in ("", "0") or (not wanted.resource_version and not self._state.is_current()):
            return None
        resource = request.resource
        selection = listed_selection(resource, wanted)
        return served_list(resource, self._cached(request, wanted, selection))

    async def _first(self, request: Request, wanted: ListOptions, selection: Selection) -> Listed:
        revision = options.list_revision(wanted.resource_version)
        exact = wanted.resource_version_match == options.EXACT or (
            wanted.limit > 0 and revision > 0 and not wanted.resource_version_match
        )
        if exact:
            return await self._page(request, "", revision, wanted.limit, selection)
        if revision:
            await self._state.wait_for(revision)
        elif wanted.resource_version != "0":
            await self._state.caught_up()
        return self._cached(request, wanted, selection)

    def _cached(self, request: Request, wanted: ListOptions, selection: Selection, start: str = "") -> Listed:
        """What the cache has now; from `start` on, the rest of a key below the request's own prefix."""
        cache, prefix = self._state.cache, prefix_of(request, selection)
        entries: Sequence[Entry]
        if selection.name is not None and (request.namespace or not request.resource.namespaced):
            found = cache.get(prefix + selection.name)
            entries = [found] if found else []
        else:
            entries = cache.list(prefix)
        if start:
            first = base_of(request) + start
            entries = [entry for entry in entries if entry.key >= first]
        found_all = matching(entries, selection.predicate)
        limit = wanted.limit
        if 0 < limit <= len(found_all) and wanted.resource_version != "0" and found_all[limit - 1] is not entries[-1]:
            known = selection.predicate is None
            return cut(found_all, base_of(request), cache.revision, limit, known=known)
        return Listed(found_all, cache.revision)

    async def _continued(self, request: Request, wanted: ListOptions, selection: Selection) -> Listed:
        token = options.parse_continue(wanted.continue_token)
        if wanted.resource_version not in ("", "0"):
            raise BadRequest("specifying resource version is not allowed when using continue")
        if token.revision > 0:
            try:
                return await self._page(request, token.start, token.revision, wanted.limit, selection)
            except Compacted as err:
                raise replies.ContinueExpired(options.ContinueToken(-1, token.start).encode()) from err
        await self._state.caught_up()
        return self._cached(request, replace(wanted, resource_version=""), selection, token.start)

    async def _page(self, request: Request, start: str, revision: int, limit: int, selection: Selection) -> Listed:
        """A list as it was at `revision`, read from the store. Raises Compacted for continued lists, else Expired.

        A selector may leave nothing of what comes after the token: upstream gives it, too.
        """
        prefix, base = prefix_of(request, selection), base_of(request)
        found: list[Entry] = []
        position = base + start if start else ""
        size = max(limit, 0)
        while True:
            page = await self._stored(prefix, position, FILTERED_PAGE if selection.predicate else size, revision, start)
            found += matching([self._state.entry_of(item) for item in page.items], selection.predicate)
            more = page.remaining > 0
            if size and len(found) >= size:
                last = found[size - 1].key
                if not more and last == page.items[-1].key:
                    return Listed(found, page.revision)
                remaining = None if selection.predicate else page.remaining
                return Listed(found[:size], page.revision, token_after(last, base, page.revision), remaining)
            if not more:
                return Listed(found, page.revision)
            position = page.items[-1].key + "\0"

    async def _stored(self, prefix: str, position: str, limit: int, revision: int, start: str) -> Page:
        try:
            return await self._state.store.list(prefix, start=position, limit=limit, revision=revision)
        except FutureRevision as err:
            raise replies.version_too_large(revision, self._state.cache.revision, again=False) from err
        except StoreUnavailable as err:
            raise unavailable(err) from err
        except Compacted as err:
            if start:
                raise
            raise Expired("The resourceVersion for the provided list is too old.") from err

    # -- watches -------------------------------------------------------------------------------------------------------

    async def open_watch(self, request: Request, wanted: ListOptions) -> WatchSession:
        """A watch that stands. `close` it at its end."""
        resource = request.resource
        parsed = parse_selectors(wanted.label_selector, wanted.field_selector)
        wanted = options.watch_defaults(wanted)
        options.check_watch(wanted)
        selection = selection_of(resource, *parsed)
        if request.name:
            if parsed[1] and selection.name != request.name:
                raise BadRequest("fieldSelector metadata.name doesn't match requested name")
            selection = parse_selection(resource, wanted.label_selector, f"{NAME}={request.name}")
        revision = options.watch_revision(wanted.resource_version)
        limit_s = wanted.timeout_s or DEFAULT_WATCH_S * random.uniform(1, 2)
        try:
            watcher = await self._watcher(prefix_of(request, selection), revision, wanted, selection)
        except (Compacted, Timeout) as err:
            return WatchSession(resource, wanted, None, limit_s, self._sessions, trouble_event(err))
        session = WatchSession(resource, wanted, watcher, limit_s, self._sessions)
        if self._stopping:
            session.stop()
        return session

    async def watch(self, request: Request, wanted: ListOptions) -> AsyncGenerator[Batch, None]:
        """See `apiserver.request.Api.watch`."""
        session = await self.open_watch(request, wanted)
        news = asyncio.Event()
        session.listen(news.set)
        try:
            yield Batch()  # the watch stands: the front end may say so
            while True:
                news.clear()
                if (batch := session.poll()) is not None:
                    yield batch
                elif session.ended:
                    return
                else:
                    await news.wait()
        finally:
            session.close()

    async def _watcher(self, prefix: str, revision: int, wanted: ListOptions, selection: Selection) -> Watcher:
        """From the state now where it is asked for (or no version is named), else from `revision` on."""
        initial = wanted.send_initial_events
        if initial is None:
            initial = revision == 0
        if not wanted.resource_version:
            await self._state.caught_up()
        elif initial and revision:
            await self._state.wait_for(revision)
        cache = self._state.cache
        after = None if initial else revision or cache.revision
        return cache.watch(prefix, after=after, predicate=selection.predicate, bookmark_interval_s=BOOKMARK_INTERVAL_S)


class WatchSession:
    """One watch: `poll` it until it has nothing, then it calls the listener when there is news.

    It ends by itself after `limit_s` seconds, by `stop`, or when it can no longer tell everything.
    """

    def __init__(
        self,
        resource: ResourceDef,
        wanted: ListOptions,
        watcher: Watcher | None,
        limit_s: float,
        sessions: set[WatchSession],
        trouble: Event | None = None,
    ) -> None:
        """`watcher` None: the watch could not begin, because of `trouble`. `sessions`: where it stands while open."""
        self.ended = False
        self._resource = resource
        self._bookmarks = wanted.allow_bookmarks
        self._tells_initial = bool(wanted.send_initial_events)
        self._watcher = watcher
        self._trouble = trouble
        self._convert = event_converter(resource)
        self._listener: Callable[[], None] | None = None
        self._sessions = sessions
        self._limit = asyncio.get_running_loop().call_later(max(limit_s, 0), self.stop)
        if limit_s < 0:
            self.ended = True
        sessions.add(self)

    def listen(self, listener: Callable[[], None]) -> None:
        """`listener` is called once after each `poll` that gave nothing, when polling again is of use."""
        self._listener = listener
        if self._watcher is not None:
            self._watcher.listen(listener)

    def poll(self) -> Batch | None:
        """The next events, none where there are none now or the watch has ended."""
        if self.ended:
            return None
        if self._watcher is None:
            self.ended = True
            assert self._trouble is not None
            return Batch([self._trouble])
        try:
            while (item := self._watcher.poll()) is not None:
                if isinstance(item, Batch):
                    return item if self._convert is None else Batch(map(self._convert, item))
                if self._bookmarks:
                    ends_initial = isinstance(item, InitialEventsEnd)
                    if not ends_initial or self._tells_initial:
                        return Batch([bookmark(self._resource, item.revision, initial=ends_initial)])
        except Compacted as err:
            self.ended = True
            return Batch([trouble_event(err)])
        return None

    def stop(self) -> None:
        """End the watch, cleanly."""
        self.ended = True
        if self._listener is not None:
            self._listener()

    def close(self) -> None:
        """Nobody listens any more."""
        self.ended = True
        self._listener = None
        self._limit.cancel()
        self._sessions.discard(self)
        if self._watcher is not None:
            self._watcher.close()


def prefix_of(request: Request, selection: Selection) -> str:
    """Where the keys of a list or watch are; a selector on one namespace narrows it."""
    namespace = request.namespace
    if not namespace and request.resource.namespaced and selection.namespace:
        namespace = selection.namespace
    return request.resource.key(namespace)


def base_of(request: Request) -> str:
    """What the keys in continue tokens of a request stand below, whatever it selects."""
    return request.resource.key(request.namespace)


def listed_selection(resource: ResourceDef, wanted: ListOptions) -> Selection:
    """The selectors of a list whose options are right. Raises BadRequest, Invalid, in upstream's order."""
    parsed = parse_selectors(wanted.label_selector, wanted.field_selector)
    options.check_list(wanted)
    return selection_of(resource, *parsed)


def token_after(key: str, base: str, revision: int) -> str:
    return options.ContinueToken(revision, key[len(base) :] + "\0").encode()


def cut(entries: Sequence[Entry], base: str, revision: int, limit: int, *, known: bool) -> Listed:
    """The first `limit` entries and the token for the rest, whose number is told only where it is `known`."""
    token = token_after(entries[limit - 1].key, base, revision)
    return Listed(entries[:limit], revision, token, len(entries) - limit if known else None)


def served(resource: ResourceDef, data: bytes) -> bytes:
    """Stored bytes as this resource serves them: the same, but for a resource kept in another's form."""
    if resource.from_storage is None:
        return data
    return orjson.dumps(resource.from_storage(codec.decode(data)))


def served_list(resource: ResourceDef, listed: Listed) -> Listed:
    if resource.from_storage is None:
        return listed
    return replace(listed, entries=[served_entry(resource, entry) for entry in listed.entries])


def served_entry(resource: ResourceDef, entry: Entry) -> Entry:
    return Entry(entry.key, entry.revision, entry.create_revision, served(resource, entry.data), entry.head)


def event_converter(resource: ResourceDef) -> Callable[[Event], Event] | None:
    if resource.from_storage is None:
        return None
    shape = ("served", resource.api_version)
    return lambda event: Event(event.type, data=event.view(shape, lambda e: served(resource, e.data)))


def bookmark(resource: ResourceDef, revision: int, *, initial: bool) -> Event:
    metadata: dict[str, object] = {"resourceVersion": str(revision)}
    if initial:
        metadata["annotations"] = {INITIAL_EVENTS_END: "true"}
    data = {"kind": resource.kind, "apiVersion": resource.api_version, "metadata": metadata}
    return Event("BOOKMARK", data=orjson.dumps(data))


def trouble_event(err: Compacted | Timeout) -> Event:
    """A watch whose request is right says as an event why it does not go on: the answer's head may be out already."""
    told = Expired(str(err)) if isinstance(err, Compacted) else err
    return Event("ERROR", data=orjson.dumps(told.to_status()))
