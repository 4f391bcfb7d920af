"""The objects that show what Services have: the ServiceCIDR `kubernetes`, which is the range of their addresses, and an
IPAddress for each address that a Service has.

The addresses are given out from the table in `apiserver.allocators`; the IPAddresses follow, when no Service has
changed for a moment, so that making Services is as fast as without them. They are written past the front ends' checks,
which they are known to pass. Source: KEP-1880; k8s.io/kubernetes/pkg/controlplane/controller/defaultservicecidr,
pkg/registry/core/service/ipallocator (labels, texts).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from ipaddress import ip_address

from apiserver import codec
from apiserver.allocators import Network
from apiserver.registry.base import Object, Registry
from apiserver.registry.servicecidrs import GROUP
from apiserver.seeding import Seed, sow
from apiserver.servicekeeper import ServiceKeeper
from apiserver.state import State
from apiserver.watchcache import Entry
from kubarium.machinery.errors import KeyMissing, RevisionMismatch, StoreUnavailable

log = logging.getLogger(__name__)

_API_VERSION = f"{GROUP}/v1"
_MANAGED_BY, _ALLOCATOR = "ipaddress.kubernetes.io/managed-by", "ipallocator.k8s.io"
_FAMILY = "ipaddress.kubernetes.io/ip-family"
QUIET_S = 0.5  # without a change of any Service, before their addresses are looked at; or
LONGEST_WAIT = 20  # times as long, where Services change all the time
YIELD_EVERY = 256  # addresses, so that requests are answered meanwhile
BATCH = 32  # addresses written at once
PAUSE_S, BUSY_PAUSE_S = 0.02, 0.25  # between batches: where no Service changes meanwhile, and where some do
RETRY_S = 1.0


# --- the range


def range_seed(registry: Registry, network: Network, now: str) -> Iterator[Seed]:
    """The default ServiceCIDR, ready from its first moment."""
    if (resource := registry.get(GROUP, "v1", "servicecidrs")) is None:
        return
    metadata, spec = {"name": "kubernetes"}, {"cidrs": [str(network)]}
    obj: Object = {"apiVersion": _API_VERSION, "kind": "ServiceCIDR", "metadata": metadata, "spec": spec}
    condition = {
        "type": "Ready",
        "status": "True",
        "lastTransitionTime": now,
        "reason": "",
        "message": "Kubernetes default Service CIDR is ready",
    }
    owned: Object = {f"f:{key}": {} for key in ("lastTransitionTime", "message", "status", "type")}
    fields = {"f:status": {"f:conditions": {'k:{"type":"Ready"}': {".": {}, **owned}}}}
    yield Seed(
        resource,
        obj,
        status={"conditions": [condition]},
        status_manager="kubernetes-service-cidr-controller",
        status_fields=fields,
    )


# --- the addresses


@lru_cache(1 << 16)
def shown(number: int) -> str:
    return str(ip_address(number))


def address_of(name: str, service_key: str) -> Object:
    """The IPAddress `name` of the Service at a store key such as /registry/core/services/default/web."""
    namespace, service = service_key.rsplit("/", 2)[1:]
    labels = {_FAMILY: f"IPv{ip_address(name).version}", _MANAGED_BY: _ALLOCATOR}
    return {
        "apiVersion": _API_VERSION,
        "kind": "IPAddress",
        "metadata": {"name": name, "labels": labels},
        "spec": {"parentRef": {"resource": "services", "namespace": namespace, "name": service}},
    }


def missing(wanted: Mapping[str, str], entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """(address, key of its Service) of those that have no IPAddress; somebody's own is one, too."""
    there = {entry.head.name for entry in entries}
    return [(name, key) for name, key in wanted.items() if name not in there]


def unwanted(wanted: Mapping[str, str], entries: Iterable[Entry]) -> list[Entry]:
    """The IPAddresses, made here, of addresses that no Service has."""
    return [e for e in entries if e.head.name not in wanted and e.head.labels.get(_MANAGED_BY) == _ALLOCATOR]


class ServiceAddresses:
    """Keeps the IPAddresses at what the Services have. `run` for ever."""

    def __init__(self, state: State, registry: Registry, services: ServiceKeeper, now: Callable[[], str]) -> None:
        self._state = state
        self._services = services
        self._now = now
        service, address = registry.get("", "v1", "services"), registry.get(GROUP, "v1", "ipaddresses")
        assert service is not None and address is not None
        self._service, self._address = service, address
        self._owners: dict[str, str] = {}  # of the addresses that this server has made
        self._changed = asyncio.Event()
        self._busy = False  # whether a Service has changed since the last batch
        state.cache.observe(service.key(), self._service_changed)
        state.cache.observe(address.key(), self._changed.set)

    def _service_changed(self) -> None:
        self._busy = True
        self._changed.set()

    async def run(self) -> None:
        self._changed.set()
        while True:
            await self._changed.wait()
            for _ in range(LONGEST_WAIT):
                self._changed.clear()
                await asyncio.sleep(QUIET_S)
                if not self._changed.is_set():
                    break
            try:
                await self._settle()
            except StoreUnavailable:
                self._changed.set()
                await asyncio.sleep(RETRY_S)

    async def _settle(self) -> None:
        wanted = {shown(number): key for number, key in self._services.addresses()}
        entries = self._state.cache.list(self._address.key())
        for entry in unwanted(wanted, entries):
            await self._remove(entry)
        for looked_at, entry in enumerate(entries):
            if not self._is_right(entry, wanted.get(entry.head.name)):
                await self._remove(entry)  # the address has changed hands: it is made anew in the next round
            if not looked_at % YIELD_EVERY:
                await asyncio.sleep(0)
        lacking = missing(wanted, entries)
        for first in range(0, len(lacking), BATCH):
            batch = lacking[first : first + BATCH]
            await sow(self._state, (Seed(self._address, address_of(*one)) for one in batch), self._now())
            self._owners.update(batch)
            await asyncio.sleep(BUSY_PAUSE_S if self._busy else PAUSE_S)
            self._busy = False

    def _is_right(self, entry: Entry, key: str | None) -> bool:
        """Whether an IPAddress made here names the Service (of this store key) that has the address."""
        name = entry.head.name
        if key is None or self._owners.get(name) == key or entry.head.labels.get(_MANAGED_BY) != _ALLOCATOR:
            return True
        parent = codec.decode(entry.data)["spec"]["parentRef"]
        found = self._service.key(parent.get("namespace", ""), parent.get("name", ""))
        if found == key:
            self._owners[name] = key
        return bool(found == key)

    async def _remove(self, entry: Entry) -> None:
        """Unless its Service, which this server may not have looked at yet, has it all the same."""
        parent = codec.decode(entry.data)["spec"]["parentRef"]
        service = self._state.peek(self._service, parent.get("namespace", ""), parent.get("name", ""))
        if service is not None and entry.head.name in (codec.decode(service.data)["spec"].get("clusterIPs") or ()):
            return
        self._owners.pop(entry.head.name, None)
        try:
            await self._state.store.delete(entry.key, expected=entry.revision)
        except (KeyMissing, RevisionMismatch):
            return
