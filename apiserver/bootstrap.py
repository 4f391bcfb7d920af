"""What every cluster has from its first moment: namespaces, priority classes, roles, flow control, APIServices, the
range of Services; and what is also kept as it is: the `kubernetes` Service with this server behind it, and the CA of
its clients.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address

import orjson

from apiserver import autoregister, codec, flowcontrol
from apiserver.admission.priorities import PREEMPT, SYSTEM_PRIORITIES
from apiserver.allocators import Network
from apiserver.auth import defaults
from apiserver.pipeline import Pipeline
from apiserver.registry.base import Object, Registry, ResourceDef
from apiserver.registry.rbac import GROUP
from apiserver.request import AUTHENTICATED_GROUP, MASTERS_GROUP, DeleteOptions, Request, User, WriteOptions
from apiserver.seeding import Seed, sow
from apiserver.serviceaddresses import range_seed
from kubarium.machinery.errors import AlreadyExists, ApiError, Conflict, StoreUnavailable

log = logging.getLogger(__name__)

SELF = User("system:apiserver", (MASTERS_GROUP, AUTHENTICATED_GROUP))
OPTIONS = WriteOptions(field_manager="kube-apiserver")
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
SERVICE = "kubernetes"
HTTPS_PORT = 443
EVERY_S = 5.0
DESCRIPTIONS = {
    "system-cluster-critical": (
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."
    ),
    "system-node-critical": "Used for system critical pods that must not be moved from their current node.",
}


@dataclass(frozen=True, slots=True)
class Identity:
    """Where this server is: behind the first address of the Service range. `client_ca` (PEM, "" for none) has signed
    the certificates of its clients."""

    address: str
    port: int
    network: Network
    client_ca: str = ""

    @property
    def service_ip(self) -> str:
        return str(self.network[1])

    @property
    def family(self) -> str:
        return f"IPv{ip_address(self.address).version}"


def first_objects(today: str) -> Iterator[tuple[str, str, Object]]:
    """(group, plural, object) of what is made once; later changes by the user stay. `today` is such as 2026-11-21."""
    for name in NAMESPACES:
        yield "", "namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
    yield "", "configmaps", _config_map("kube-apiserver-legacy-service-account-token-tracking", since=today)
    for name, value in SYSTEM_PRIORITIES.items():
        yield (
            "scheduling.k8s.io",
            "priorityclasses",
            {
                "apiVersion": "scheduling.k8s.io/v1",
                "kind": "PriorityClass",
                "metadata": {"name": name},
                "value": value,
                "preemptionPolicy": PREEMPT,
                "description": DESCRIPTIONS[name],
            },
        )


def _config_map(name: str, **data: str) -> Object:
    metadata = {"name": name, "namespace": "kube-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def seeds(registry: Registry, now: str) -> Iterator[Seed]:
    """All that is made once, of the kinds that are served."""
    roles = ((GROUP, plural, obj) for plural, obj in defaults.default_objects())
    for group, plural, obj in (*first_objects(now[:10]), *roles):
        if (resource := registry.get(group, "v1", plural)) is not None:
            yield Seed(resource, obj)
    yield from flowcontrol.seeds(registry, now)
    yield from autoregister.seeds(registry)


def kept_objects(identity: Identity) -> Iterator[tuple[str, str, Object]]:
    """(group, plural, object) of what is kept as it is here.

    A server on loopback is nobody's endpoint (Endpoints cannot even hold such an address).
    """
    if identity.client_ca:
        data = {"client-ca-file": identity.client_ca}
        yield "", "configmaps", _config_map("extension-apiserver-authentication", **data)
    ports = [{"name": "https", "port": identity.port, "protocol": "TCP"}]
    yield (
        "",
        "services",
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": _meta(component="apiserver", provider="kubernetes"),
            "spec": {
                "clusterIP": identity.service_ip,
                "clusterIPs": [identity.service_ip],
                "ipFamilies": [identity.family],
                "ports": [{"name": "https", "port": HTTPS_PORT, "protocol": "TCP", "targetPort": identity.port}],
                "sessionAffinity": "None",
                "type": "ClusterIP",
            },
        },
    )
    if ip_address(identity.address).is_loopback:
        return
    yield (
        "",
        "endpoints",
        {
            "apiVersion": "v1",
            "kind": "Endpoints",
            "metadata": _meta(**{"endpointslice.kubernetes.io/skip-mirror": "true"}),
            "subsets": [{"addresses": [{"ip": identity.address}], "ports": ports}],
        },
    )
    yield (
        "discovery.k8s.io",
        "endpointslices",
        {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": _meta(**{"kubernetes.io/service-name": SERVICE}),
            "addressType": identity.family,
            "endpoints": [{"addresses": [identity.address], "conditions": {"ready": True}}],
            "ports": ports,
        },
    )


def _meta(**labels: str) -> Object:
    return {"name": SERVICE, "namespace": "default", "labels": labels}


class Bootstrap:
    """`run` for ever; `done` is set once all of it is there for the first time."""

    def __init__(self, pipeline: Pipeline, registry: Registry, identity: Identity) -> None:
        self._pipeline = pipeline
        self._registry = registry
        self._identity = identity
        self.done = asyncio.Event()
        self._told = ""

    async def run(self) -> None:
        while True:
            try:
                await self._ensure()
                self.done.set()
            except (ApiError, StoreUnavailable) as err:
                if str(err) != self._told:
                    log.warning("bootstrap: %s; trying again", err)
                self._told = str(err)
            await asyncio.sleep(EVERY_S if self.done.is_set() else 0.2)

    async def _ensure(self) -> None:
        if not self.done.is_set():
            state, now = self._pipeline.state, self._pipeline.writer.now()
            await asyncio.gather(*(self._reconcile(plural, obj) for plural, obj in defaults.default_objects()))
            await sow(state, seeds(self._registry, now), now)
            await sow(state, range_seed(self._registry, self._identity.network, now), now)
            await state.caught_up()
        for group, plural, obj in kept_objects(self._identity):
            await self._keep(self._resource(group, plural), obj)

    def _resource(self, group: str, plural: str) -> ResourceDef | None:
        return self._registry.get(group, "v1", plural)

    async def _create(self, resource: ResourceDef | None, obj: Object) -> None:
        if resource is None:
            return
        namespace = obj["metadata"].get("namespace", "")
        if self._pipeline.state.peek(resource, namespace, obj["metadata"]["name"]) is not None:
            return
        request = Request(SELF, "create", resource, namespace)
        try:
            await self._pipeline.create(request, orjson.dumps(obj), "application/json", OPTIONS)
        except AlreadyExists:
            return

    async def _reconcile(self, plural: str, wanted: Object) -> None:
        """A role or binding that every cluster has: where there is one, it is given what it lacks."""
        resource = self._resource(GROUP, plural)
        assert resource is not None, plural
        name, namespace = wanted["metadata"]["name"], wanted["metadata"].get("namespace", "")
        entry = self._pipeline.state.peek(resource, namespace, name)
        if entry is None:
            return
        found = codec.decode(entry.data)
        if defaults.is_other_binding(found, wanted):
            await self._pipeline.delete(Request(SELF, "delete", resource, namespace, name), DeleteOptions())
            await self._pipeline.state.caught_up()
            await self._create(resource, wanted)
        elif (new := defaults.reconciled(found, wanted)) is not None:
            request = Request(SELF, "update", resource, namespace, name)
            with suppress(Conflict):  # somebody else is at it; it is looked at again at the next start
                await self._pipeline.update(request, orjson.dumps(new), "application/json", OPTIONS)

    async def _keep(self, resource: ResourceDef | None, wanted: Object) -> None:
        """Write only where something differs: this runs every few seconds."""
        if resource is None:
            return
        name, namespace = wanted["metadata"]["name"], wanted["metadata"]["namespace"]
        entry = self._pipeline.state.peek(resource, namespace, name)
        if entry is None:
            await self._create(resource, wanted)
            return
        if covers(codec.decode(entry.data), wanted):
            return
        request = Request(SELF, "patch", resource, namespace, name)
        media_type = "application/merge-patch+json"
        try:
            await self._pipeline.patch(request, orjson.dumps(wanted), media_type, OPTIONS)
        except Conflict:
            log.debug("bootstrap: %s changed meanwhile", resource.plural)


def covers(found: object, wanted: object) -> bool:
    """Whether all of `wanted` stands in `found`, which may hold more (defaults)."""
    if isinstance(wanted, Mapping):
        return isinstance(found, Mapping) and all(covers(found.get(key), value) for key, value in wanted.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(covers, found, wanted))
    return found == wanted
