"""The store in etcd v3, on aetcd's messages with calls and a watch loop of our own.

aetcd's own watcher hides cancellation, header revisions and compaction, which are what a watch cache lives on; and
grpc.aio below it took more time than all the rest of a write. Every
write is one transaction on one key, so that each has a revision of its own; many are in flight on one connection. A
write that fails with StoreUnavailable may or may not have happened: it is never repeated here.

A watch asks etcd for the whole key space and filters: every revision of etcd then shows up on it, so that a reader who
waits for a revision never waits for one that another prefix has taken (progress requests, which would tell the same,
can run ahead of events before etcd 3.4.31). Source: https://etcd.io/docs/v3.4/learning/api/
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from aetcd import rpc

from apiserver.store.base import KeyValue, Page, Progress, StoreEvent, prefix_end
from apiserver.store.grpcclient import (
    INVALID_ARGUMENT,
    OUT_OF_RANGE,
    Connection,
    GrpcError,
    open_connection,
)
from kubarium.machinery.errors import (
    Compacted,
    FutureRevision,
    KeyExists,
    KeyMissing,
    RevisionMismatch,
    StoreError,
    StoreUnavailable,
    ValueTooLarge,
)

log = logging.getLogger(__name__)

EVERYTHING: Final = b"\0"  # as key and range_end: all keys
LEASE_KEYS: Final = 1000  # keys on one lease: expiring many at once would stall etcd
LEASE_SHARE: Final = 0.05  # of the time to live, and at most LEASE_SHARE_MAX_S: how much later a shared lease may end
LEASE_SHARE_MAX_S: Final = 60.0
DELETE_EVENT: Final = 1
RANGE, TXN, COMPACT = "/etcdserverpb.KV/Range", "/etcdserverpb.KV/Txn", "/etcdserverpb.KV/Compact"
WATCH, GRANT = "/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseGrant"


@dataclass(slots=True)
class _Lease:
    """A lease that keys of one time to live share for a while."""

    id: int
    until: float  # event loop time up to which new keys may join
    keys: int = 0


class EtcdStore:
    """A Store in an etcd cluster; `endpoints` are `host:port`, used one at a time, the next one when one fails.

    Nothing is connected before the first call, which must come from the event loop that all later ones come from.
    """

    def __init__(self, endpoints: Sequence[str], *, timeout_s: float = 10.0) -> None:
        self._endpoints = tuple(endpoints)
        self._timeout_s = timeout_s
        self._current = 0
        self._connections: dict[str, Connection] = {}
        self._connecting = asyncio.Lock()
        self._leases: dict[int, _Lease] = {}
        self._granting = asyncio.Lock()  # one grant at a time, so that keys created together share it
        self._closed = False

    async def revision(self) -> int:
        request = rpc.RangeRequest(key=EVERYTHING, count_only=True)
        response = await self._call(RANGE, request, rpc.RangeResponse)
        return int(response.header.revision)

    def revision_now(self) -> int | None:
        return None  # others write too

    async def get(self, key: str, revision: int = 0) -> KeyValue | None:
        request = rpc.RangeRequest(key=key.encode(), revision=revision)
        response = await self._call(RANGE, request, rpc.RangeResponse)
        return _key_value(response.kvs[0]) if response.kvs else None

    async def list(self, prefix: str, *, start: str = "", limit: int = 0, revision: int = 0) -> Page:
        first, end = _span(prefix)
        request = rpc.RangeRequest(key=max(first, start.encode()), range_end=end, limit=limit, revision=revision)
        response = await self._call(RANGE, request, rpc.RangeResponse)
        items = tuple(map(_key_value, response.kvs))
        return Page(items, revision or response.header.revision, response.count - len(items))

    async def count(self, prefix: str) -> int:
        first, end = _span(prefix)
        request = rpc.RangeRequest(key=first, range_end=end, count_only=True)
        response = await self._call(RANGE, request, rpc.RangeResponse)
        return int(response.count)

    async def create(self, key: str, value: bytes, *, ttl_s: int = 0) -> int:
        put = rpc.PutRequest(key=key.encode(), value=value, lease=await self._lease_for(ttl_s))
        response = await self._transaction(key, 0, rpc.RequestOp(request_put=put))
        if not response.succeeded:
            raise KeyExists(f"{key} exists")
        return int(response.header.revision)

    async def update(self, key: str, value: bytes, *, expected: int, ttl_s: int = 0) -> int:
        put = rpc.PutRequest(key=key.encode(), value=value, lease=await self._lease_for(ttl_s))
        response = await self._transaction(key, expected, rpc.RequestOp(request_put=put))
        if not response.succeeded:
            raise _refusal(key, expected, response)
        return int(response.header.revision)

    async def delete(self, key: str, *, expected: int) -> tuple[int, KeyValue]:
        delete = rpc.DeleteRangeRequest(key=key.encode(), prev_kv=True)
        response = await self._transaction(key, expected, rpc.RequestOp(request_delete_range=delete))
        if not response.succeeded:
            raise _refusal(key, expected, response)
        return response.header.revision, _key_value(response.responses[0].response_delete_range.prev_kvs[0])

    async def compact(self, revision: int) -> None:
        request = rpc.CompactionRequest(revision=revision)
        try:
            await self._call(COMPACT, request, rpc.CompactionResponse)
        except Compacted:
            log.debug("store: already compacted beyond revision %d", revision)

    async def watch(self, prefix: str, *, after: int) -> AsyncGenerator[tuple[StoreEvent, ...] | Progress, None]:
        # From `after`, not from the next: etcd then says when changes since are gone, deletions at its compaction's own
        # revision included. What was written at `after` itself is left out again below.
        create = rpc.WatchCreateRequest(
            key=EVERYTHING, range_end=EVERYTHING, start_revision=max(after, 1), prev_kv=True
        )
        first = prefix.encode()
        endpoint, connection = await self._connection()
        try:
            stream = connection.stream(WATCH)
        except GrpcError as err:
            raise self._translate(endpoint, err) from err
        try:
            stream.write(rpc.WatchRequest(create_request=create).SerializeToString())
            while True:
                events: list[StoreEvent] = []
                reached, stands = 0, False
                for response in map(rpc.WatchResponse.FromString, await stream.read()):
                    if response.canceled:
                        raise _watch_refusal(endpoint, after, response)
                    stands = stands or response.created
                    for event in response.events:
                        reached = event.kv.mod_revision
                        if reached > after and event.kv.key.startswith(first):
                            events.append(_event(event))
                if stands:
                    yield Progress(after)
                if events:
                    yield tuple(events)
                if reached > after and (not events or events[-1].revision < reached):
                    yield Progress(reached)
        except GrpcError as err:
            raise self._translate(endpoint, err) from err
        finally:
            stream.cancel()

    async def close(self) -> None:
        self._closed = True
        connections, self._connections = self._connections, {}
        for connection in connections.values():
            connection.close()

    async def _connection(self) -> tuple[str, Connection]:
        """The endpoint in use and a connection to it. Raises StoreUnavailable."""
        endpoint = self._endpoints[self._current]
        found = self._connections.get(endpoint)
        if found is not None and not found.closed and not self._closed:
            return endpoint, found
        async with self._connecting:
            if self._closed:
                raise StoreUnavailable("the store is closed")
            endpoint = self._endpoints[self._current]
            found = self._connections.get(endpoint)
            if found is None or found.closed:
                host, _, port = endpoint.rpartition(":")
                try:
                    found = self._connections[endpoint] = await open_connection(
                        host.strip("[]"), int(port), self._timeout_s
                    )
                except GrpcError as err:
                    raise self._translate(endpoint, err) from err
            return endpoint, found

    async def _call(self, method: str, request: Any, answer: Any) -> Any:
        """`answer` is the type of the answer. The call goes on though the caller is cancelled."""
        endpoint, connection = await self._connection()
        try:
            return answer.FromString(await connection.unary(method, request.SerializeToString(), self._timeout_s))
        except GrpcError as err:
            translated = self._translate(endpoint, err)
            if isinstance(translated, Compacted):
                translated = Compacted(str(translated), await self._oldest_revision())
            raise translated from err

    def _translate(self, endpoint: str, err: GrpcError) -> StoreError:
        """The store's error for a gRPC one; after one that speaks against the member the next call goes to another."""
        text = err.details
        if err.code == OUT_OF_RANGE:  # etcd has one code for both, and tells them apart by text alone
            return Compacted(text) if "compacted" in text else FutureRevision(text)
        if err.code == INVALID_ARGUMENT and "too large" in text:
            return ValueTooLarge(text)
        if self._endpoints[self._current] == endpoint:
            self._current = (self._current + 1) % len(self._endpoints)
        return StoreUnavailable(f"etcd {endpoint}: {text}")

    async def _oldest_revision(self) -> int:
        """The revision of the last compaction, when there was one: etcd tells it only to watches that come too late."""
        first = rpc.WatchCreateRequest(key=EVERYTHING, start_revision=1)
        _, connection = await self._connection()
        with suppress(GrpcError, TimeoutError):
            stream = connection.stream(WATCH)
            try:
                stream.write(rpc.WatchRequest(create_request=first).SerializeToString())
                async with asyncio.timeout(self._timeout_s):
                    while True:
                        for response in map(rpc.WatchResponse.FromString, await stream.read()):
                            if response.compact_revision:
                                return int(response.compact_revision)
            finally:
                stream.cancel()
        return 0

    async def _transaction(self, key: str, expected: int, operation: Any) -> Any:
        """One operation, if the key's mod_revision is `expected` (0: it does not exist); else what is there."""
        raw = key.encode()
        guard = rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.MOD, key=raw, mod_revision=expected)
        look = rpc.RequestOp(request_range=rpc.RangeRequest(key=raw, keys_only=True))
        request = rpc.TxnRequest(compare=[guard], success=[operation], failure=[look] if expected else [])
        return await self._call(TXN, request, rpc.TxnResponse)

    async def _lease_for(self, ttl_s: int) -> int:
        """A lease that lasts at least `ttl_s`, shared by the keys of the same time to live; 0 for none."""
        if not ttl_s:
            return 0
        async with self._granting:
            now = asyncio.get_running_loop().time()
            lease = self._leases.get(ttl_s)
            if lease is None or now > lease.until or lease.keys >= LEASE_KEYS:
                share_s = min(ttl_s * LEASE_SHARE, LEASE_SHARE_MAX_S)
                request = rpc.LeaseGrantRequest(TTL=ttl_s + round(share_s))
                response = await self._call(GRANT, request, rpc.LeaseGrantResponse)
                lease = self._leases[ttl_s] = _Lease(response.ID, now + share_s)
            lease.keys += 1
            return lease.id


def _span(prefix: str) -> tuple[bytes, bytes]:
    """The range of etcd keys under a prefix."""
    return (prefix.encode(), prefix_end(prefix).encode()) if prefix else (EVERYTHING, EVERYTHING)


def _key_value(kv: Any) -> KeyValue:
    return KeyValue(kv.key.decode(), kv.value, kv.create_revision, kv.mod_revision)


def _event(event: Any) -> StoreEvent:
    kv, before = event.kv, event.prev_kv
    previous = before.value if before.mod_revision else None
    if event.type == DELETE_EVENT:
        return StoreEvent(kv.key.decode(), kv.mod_revision, None, previous, before.create_revision)
    return StoreEvent(kv.key.decode(), kv.mod_revision, kv.value, previous, kv.create_revision)


def _refusal(key: str, expected: int, response: Any) -> StoreError:
    found = response.responses[0].response_range.kvs if response.responses else ()
    if not found:
        return KeyMissing(f"{key} does not exist")
    current = int(found[0].mod_revision)
    return RevisionMismatch(f"{key} is at revision {current}, not {expected}", current)


def _watch_refusal(endpoint: str, after: int, response: Any) -> StoreError:
    if response.compact_revision:
        oldest = int(response.compact_revision)
        return Compacted(f"changes after revision {after} have been compacted; the oldest is {oldest}", oldest)
    return StoreUnavailable(f"etcd {endpoint} cancelled the watch: {response.cancel_reason}")
