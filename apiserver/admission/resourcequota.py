"""ResourceQuota: what a write takes is charged to the quotas of its namespace before it is stored.

A charge is a write of the quota's status, guarded by the revision that was read: of two servers, or two writes at a
time, one is told to look again, so that together they cannot take more than there is. Writes that come while a charge
of their namespace is under way are charged together by the next one. What fails after its charge leaves the quota
too full until the quota controller has counted again.
Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

from apiserver import codec, replies
from apiserver.admission.chain import CREATE, UPDATE, Attributes, Plugin
from apiserver.admission.quotachecks import Ledger, charge, concerns, ledger_of
from apiserver.fieldmanager import updates
from apiserver.registry.base import Object, Registry, ResourceDef
from apiserver.state import State
from kubarium.machinery.errors import ApiError, KeyMissing, RevisionMismatch
from kubarium.machinery.quota import rule_of
from kubarium.machinery.quotarules import Rule
from kubarium.machinery.resourcelists import same, wire_list
from kubarium.machinery.times import format_timestamp

TRIES = 20
MANAGER = "kube-apiserver"
MOST_WRITTEN = 1000
"""So many quotas are remembered before those that are gone are forgotten."""


@dataclass(slots=True, eq=False)
class _Waiter:
    """A write that waits for its charge."""

    attributes: Attributes
    rule: Rule
    done: bool = False
    error: ApiError | None = None

    def finish(self, error: ApiError | None = None) -> None:
        self.done, self.error = True, error


class ResourceQuota(Plugin):
    def __init__(self, state: State, registry: Registry, clock: Callable[[], float] = time.time) -> None:
        self._state = state
        self._registry = registry
        self._clock = clock
        self._pending: dict[str, list[_Waiter]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._written: dict[str, tuple[int, Object]] = {}  # our own writes that the cache may not have yet

    def handles(self, resource: ResourceDef, subresource: str, operation: str) -> bool:
        if not resource.namespaced or operation not in (CREATE, UPDATE):
            return False
        rule = rule_of(resource.group, resource.plural)
        if rule is None:
            return False
        return type(rule) is not Rule or (operation == CREATE and not subresource)

    async def validate(self, attributes: Attributes) -> None:
        quotas = self._registry.get("", "v1", "resourcequotas")
        if quotas is None or not self._state.cache.log_of(quotas.key()).entries:
            return
        namespace = attributes.namespace
        if not self._state.cache.list(quotas.key(namespace)):
            return
        rule = rule_of(attributes.resource.group, attributes.resource.plural)
        if rule is None or not concerns(rule, attributes):
            return
        waiter = _Waiter(attributes, rule)
        self._pending.setdefault(namespace, []).append(waiter)
        lock = self._locks.get(namespace)
        if lock is None:
            lock = self._locks[namespace] = asyncio.Lock()
        async with lock:
            if not waiter.done:
                waiters = self._pending.pop(namespace, [])
                try:
                    await self._charge_all(quotas, namespace, waiters)
                finally:
                    # Where the store did not answer the others try for themselves: none goes on without its charge.
                    if left := [one for one in waiters if one is not waiter and not one.done]:
                        self._pending[namespace] = [*left, *self._pending.get(namespace, ())]
        if waiter.error is not None:
            raise waiter.error

    async def _charge_all(self, quotas: ResourceDef, namespace: str, waiters: list[_Waiter]) -> None:
        """Decide on every waiter; what went wrong is each one's error."""
        ledgers = self._ledgers(quotas, namespace)
        for _ in range(TRIES):
            charged = self._judge(ledgers, [waiter for waiter in waiters if not waiter.done])
            failed = set()
            for before, after in zip(ledgers, charged, strict=True):
                if not same(before.used, after.used) and not await self._write(quotas, before, after):
                    failed.add(after.key)
            if not failed:
                break
            await self._state.caught_up()
            ledgers = [ledger for ledger in self._ledgers(quotas, namespace) if ledger.key in failed]
        else:
            conflict = replies.conflict(quotas, ledgers[0].name if ledgers else "")
            for waiter in waiters:
                if not waiter.done:
                    waiter.finish(conflict)
        for waiter in waiters:
            if not waiter.done:
                waiter.finish()

    def _judge(self, ledgers: list[Ledger], waiters: list[_Waiter]) -> list[Ledger]:
        """The quotas after all writes that they allow, in the order in which these came."""
        charged = list(ledgers)
        for waiter in waiters:
            try:
                after = charge(charged, waiter.rule, waiter.attributes, self._clock())
            except ApiError as err:
                waiter.finish(err)
                continue
            if waiter.attributes.dry_run:
                waiter.finish()
            else:
                charged = after
        return charged

    def _ledgers(self, quotas: ResourceDef, namespace: str) -> list[Ledger]:
        """The newest known state of the namespace's quotas."""
        found = []
        if len(self._written) > MOST_WRITTEN:
            self._written = {key: one for key, one in self._written.items() if self._state.cache.get(key) is not None}
        for entry in self._state.cache.list(quotas.key(namespace)):
            revision, quota = self._written.get(entry.key, (0, {}))
            if revision <= entry.revision:
                self._written.pop(entry.key, None)
                revision, quota = entry.revision, codec.decode(entry.data)
            found.append(ledger_of(entry.key, revision, quota))
        return found

    async def _write(self, quotas: ResourceDef, before: Ledger, after: Ledger) -> bool:
        """False where somebody else has changed the quota meanwhile."""
        quota = {**after.quota, "status": {**after.quota["status"], "used": wire_list(after.used)}}
        quota["metadata"] = dict(quota["metadata"])
        updates.track_update(quotas, "status", quota, before.quota, MANAGER, format_timestamp(self._clock()))
        try:
            revision = await self._state.store.update(after.key, codec.stored_form(quota), expected=before.revision)
        except (RevisionMismatch, KeyMissing):
            self._written.pop(after.key, None)
            return False
        self._written[after.key] = revision, quota
        return True
