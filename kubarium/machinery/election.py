"""One leader among several copies of a component, by a Lease that the leader keeps renewing.

A copy that cannot renew in time must stop leading before another may begin: `lead` cancels the work then.
Source: https://kubernetes.io/docs/concepts/architecture/leases/, client-go tools/leaderelection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from kubarium.machinery import times
from kubarium.machinery.client import Api
from kubarium.machinery.errors import AlreadyExists, ApiError, Conflict, NotFound
from kubarium.machinery.objects import Lease
from kubarium.machinery.resources import LEASES

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Election:
    """One election: the Lease, who we are, and how long a lost leader blocks the others."""

    name: str
    identity: str
    namespace: str = "kube-system"
    lease_s: float = 15.0
    renew_deadline_s: float = 10.0
    retry_s: float = 2.0


async def lead(api: Api, election: Election, work: Callable[[], Awaitable[None]]) -> None:
    """Wait to become leader, then run `work`; return when it ends, raise TimeoutError when leadership is lost.

    A process that lost leadership should exit: what it began with the old caches must not go on.
    """
    candidate = _Candidate(api, election)
    while not await candidate.try_acquire():  # noqa: ASYNC110 - the Lease is elsewhere, nobody wakes us
        await asyncio.sleep(election.retry_s)
    log.info("leading as %s", election.identity)
    working = asyncio.ensure_future(work())
    renewing = asyncio.ensure_future(candidate.keep())
    try:
        await asyncio.wait({working, renewing}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
        else:
            renewing.result()
    finally:
        for task in (working, renewing):
            task.cancel()
        await asyncio.gather(working, renewing, return_exceptions=True)
        await candidate.release()


class _Candidate:
    """Reads and writes the Lease. Another's lease is timed by our own clock from when we saw it change."""

    def __init__(self, api: Api, election: Election) -> None:
        self._api = api
        self._election = election
        self._seen: tuple[str, str] = ("", "")
        self._seen_at = 0.0
        self._transitions = 0

    async def try_acquire(self) -> bool:
        """Take or renew the Lease; False while another holds it or the API server does not answer."""
        e = self._election
        try:
            async with asyncio.timeout(e.renew_deadline_s):
                return await self._try_acquire()
        except (ApiError, TimeoutError) as err:
            log.debug("lease %s/%s: %s", e.namespace, e.name, err)
            return False

    async def _try_acquire(self) -> bool:
        e = self._election
        try:
            lease = await self._api.get(LEASES, e.name, e.namespace)
        except NotFound:
            body = {"metadata": {"name": e.name, "namespace": e.namespace}, "spec": self._spec(acquired=True)}
            try:
                await self._api.create(LEASES, body, e.namespace)
            except AlreadyExists:
                return False
            return True
        ours = lease.spec.holder_identity == e.identity
        if not ours and self._held(lease):
            return False
        self._transitions = lease.spec.lease_transitions + (0 if ours else 1)
        guard = {"resourceVersion": lease.metadata.resource_version}
        try:
            await self._api.patch(
                LEASES, e.name, {"metadata": guard, "spec": self._spec(acquired=not ours)}, e.namespace
            )
        except Conflict:
            return False
        return True

    def _held(self, lease: Lease) -> bool:
        state = (lease.spec.holder_identity, lease.spec.renew_time)
        if state != self._seen:
            self._seen, self._seen_at = state, time.monotonic()
        duration_s = lease.spec.lease_duration_seconds or self._election.lease_s
        return bool(lease.spec.holder_identity) and time.monotonic() < self._seen_at + duration_s

    def _spec(self, *, acquired: bool) -> dict[str, Any]:
        now = times.format_micro(time.time())
        spec: dict[str, Any] = {
            "holderIdentity": self._election.identity,
            "leaseDurationSeconds": max(1, round(self._election.lease_s)),
            "renewTime": now,
            "leaseTransitions": self._transitions,
        }
        return spec | {"acquireTime": now} if acquired else spec

    async def keep(self) -> None:
        """Renew until it fails for too long; raises TimeoutError then."""
        e = self._election
        try:
            while True:
                async with asyncio.timeout(e.renew_deadline_s):  # also round the last try, which may hang
                    await asyncio.sleep(e.retry_s)
                    while not await self.try_acquire():  # noqa: ASYNC110 - the Lease is elsewhere, nobody wakes us
                        await asyncio.sleep(e.retry_s)
        except TimeoutError as err:
            raise TimeoutError(f"lease {e.name} could not be renewed: no longer the leader") from err

    async def release(self) -> None:
        """Let the next one begin at once."""
        e = self._election
        try:
            async with asyncio.timeout(2):
                lease = await self._api.get(LEASES, e.name, e.namespace)
                if lease.spec.holder_identity == e.identity:
                    guard = {"resourceVersion": lease.metadata.resource_version}
                    patch = {"metadata": guard, "spec": {"holderIdentity": "", "leaseDurationSeconds": 1}}
                    await self._api.patch(LEASES, e.name, patch, e.namespace)
        except (ApiError, TimeoutError) as err:
            log.debug("lease %s not released: %s", e.name, err)
