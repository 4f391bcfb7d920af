"""The loop: what changed since the last transaction is planned, and committed in one.

Handlers only note which Services are dirty. The loop takes all that are, so a burst that arrives while a transaction
is under way becomes the next one: nothing waits for a timer. A refused transaction is followed by a whole
replacement, with back-off.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address

from kubarium.machinery.errors import NetworkError
from kubarium.machinery.informer import Informer
from kubarium.machinery.objects import EndpointSlice, Node, ObjectKey, Service
from kubarium.machinery.process import wait_synced
from kubarium.machinery.times import parse_timestamp
from kubeproxy.backends.base import Backend
from kubeproxy.conntrack import Conntrack, udp_frontends
from kubeproxy.metrics import Metrics
from kubeproxy.node import NodeEdge
from kubeproxy.plan import NOTHING, SERVICE_NAME_LABEL, NodeView, Rule, plan_service
from kubeproxy.ruleset import Changes, Ruleset

log = logging.getLogger("kubeproxy")

INSPECT_S = 5.0  # how often the node's addresses, route and hooks are looked at
RETRY_S, RETRY_MOST_S = 0.1, 5.0
ZONE_LABEL = "topology.kubernetes.io/zone"
TRIGGER_ANNOTATION = "endpoints.kubernetes.io/last-change-trigger-time"
SLICES_OF = "service"  # name of the informer's index


def service_of(piece: EndpointSlice) -> Iterable[str]:
    """Index of EndpointSlices: `ns/service`."""
    if name := piece.metadata.labels.get(SERVICE_NAME_LABEL):
        yield f"{piece.metadata.namespace}/{name}"


@dataclass(frozen=True, slots=True)
class Caches:
    """`slices` has the index SLICES_OF; `nodes` holds the own Node alone."""

    services: Informer[Service]
    slices: Informer[EndpointSlice]
    nodes: Informer[Node]


class ServiceProxy:
    def __init__(
        self,
        node_name: str,
        caches: Caches,
        backend: Backend,
        edge: NodeEdge,
        conntrack: Conntrack,
        metrics: Metrics,
    ) -> None:
        self.rules = Ruleset()
        self.generation = 0
        self.last_sync = 0.0  # seconds since the epoch; 0: never
        self._node_name = node_name
        self._caches = caches
        self._backend = backend
        self._edge = edge
        self._conntrack = conntrack
        self._metrics = metrics
        self._view = NodeView(node_name)
        self._addresses: tuple[IPv4Address, ...] = ()
        self._dirty: set[ObjectKey] = set()
        self._triggers: dict[ObjectKey, float] = {}
        self._wake = asyncio.Event()
        self._whole = True  # the next transaction replaces everything
        self._failures = 0

    @property
    def healthy(self) -> bool:
        """Whether all that is known is programmed, or about to be."""
        return self.generation > 0 and self._failures == 0

    async def run(self) -> None:
        await asyncio.to_thread(self._edge.ensure_service_route)
        await wait_synced(self._caches.services, self._caches.slices, self._caches.nodes)
        self._caches.services.on_change(self._service_changed)
        self._caches.slices.on_change(self._slice_changed)
        self._caches.nodes.on_change(lambda old, new: self._wake.set())
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._inspect(), name="inspect")
            tasks.create_task(self._sync_forever(), name="sync")

    async def _sync_forever(self) -> None:
        await self._look_at_node()
        while True:
            try:
                await self.sync()
                self._failures = 0
            except NetworkError as err:
                self._failures += 1
                self._whole = True
                delay_s = min(RETRY_S * 2**self._failures, RETRY_MOST_S)
                log.warning("kube-proxy: rules not committed, all will be replaced in %.1f s: %s", delay_s, err)
                await asyncio.sleep(delay_s)
                continue
            await self._wake.wait()
            self._wake.clear()

    async def sync(self) -> None:
        """Plan what is dirty and commit it. Raises NetworkError; nothing is lost then."""
        started = time.monotonic()
        self._refresh_view()
        dirty, self._dirty = self._dirty, set()
        triggers, self._triggers = self._triggers, {}
        for key in dirty:
            self._plan(key)
        whole = self._whole
        if whole:
            self.rules.forget_programmed()
        changes = self.rules.changes()
        if not whole and not changes:
            return
        try:
            await (self._backend.replace(changes) if whole else self._backend.apply(changes))
        except BaseException:
            self._triggers = triggers | self._triggers
            raise
        self.rules.confirm(changes)
        self._whole = False
        self.generation += 1
        self.last_sync = time.time()
        self._metrics.committed(time.monotonic() - started, len(self.rules.programmed), triggers.values())
        log.debug("kube-proxy: generation %d: %d frontends touched", self.generation, len(changes.rules))
        await self._drop_stale_flows(changes)

    def knows(self, key: ObjectKey) -> bool:
        return self._caches.services.get(key) is not None

    def explain(self, key: ObjectKey) -> list[tuple[Rule, str]]:
        """The programmed rules of one Service, each with what the backend calls it."""
        rules = sorted((r for r in self.rules.programmed.values() if r.service == key), key=lambda r: r.frontend)
        return [(rule, self._backend.verdict(rule)) for rule in rules]

    def _plan(self, key: ObjectKey) -> None:
        service = self._caches.services.get(key)
        if service is None:
            self.rules.update(key, NOTHING)
            return
        try:
            plan = plan_service(service, self._caches.slices.by_index(SLICES_OF, str(key)), self._view)
        except ValueError as err:  # an address that is none; the API server should have refused it
            log.error("kube-proxy: %s keeps its old rules: %s", key, err)
            return
        self.rules.update(key, plan)
        for rule in self.rules.contested(key):
            log.warning("kube-proxy: %s: %s is taken by another Service", rule.owner, rule.frontend)

    def _refresh_view(self) -> None:
        """Addresses and zone of the node; when they change, every Service is planned anew."""
        node = self._caches.nodes.get(ObjectKey("", self._node_name))
        zone = node.metadata.labels.get(ZONE_LABEL, "") if node else ""
        view = NodeView(self._node_name, self._addresses, zone)
        if view != self._view:
            self._view = view
            self._dirty.update(service.key for service in self._caches.services.all())

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        for service in (old, new):
            if service:
                self._mark(service.key)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for piece in (old, new):
            for name in service_of(piece) if piece else ():
                key = ObjectKey(*name.split("/", 1))
                if piece is new and piece and (text := piece.metadata.annotations.get(TRIGGER_ANNOTATION)):
                    self._note_trigger(key, text)
                self._mark(key)

    def _note_trigger(self, key: ObjectKey, text: str) -> None:
        try:
            at = parse_timestamp(text)
        except ValueError:  # somebody else's slice; only the metric would miss it
            return
        if at is not None and self.generation:  # what stood before our start says nothing about our speed
            self._triggers[key] = min(at, self._triggers.get(key, at))

    def _mark(self, key: ObjectKey) -> None:
        self._dirty.add(key)
        self._wake.set()

    async def _inspect(self) -> None:
        """What no watch tells: addresses of the node, its route to the Services, somebody flushing our table."""
        while True:
            await asyncio.sleep(INSPECT_S)
            try:
                await self._look_at_node()
                if self.generation and not self._whole and not await self._backend.intact():
                    log.warning("kube-proxy: the rules were taken away by somebody else; putting them back")
                    self._whole = True
                    self._wake.set()
            except NetworkError as err:
                log.warning("kube-proxy: node not inspected, will try again: %s", err)

    async def _look_at_node(self) -> None:
        await asyncio.to_thread(self._edge.ensure_service_route)
        addresses = await asyncio.to_thread(self._edge.addresses)
        if addresses != self._addresses:
            log.info("kube-proxy: NodePorts answer at %s", ", ".join(map(str, addresses)) or "no address")
            self._addresses = addresses
            self._wake.set()

    async def _drop_stale_flows(self, changes: Changes) -> None:
        frontends = udp_frontends(changes.rules)
        if not frontends:
            return
        try:
            count = await asyncio.to_thread(self._conntrack.drop_stale, frontends, dict(self.rules.programmed))
        except NetworkError as err:
            log.warning("kube-proxy: stale UDP flows may live on: %s", err)
            return
        if count:
            log.info("kube-proxy: %d stale UDP flows ended", count)
