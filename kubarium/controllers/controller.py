"""What every controller is made of: shared informers, one work queue, and a `sync` that makes one object so."""

from __future__ import annotations

import asyncio
import contextlib
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from kubarium.controllers.config import Config
from kubarium.controllers.refs import HasMeta, controller_uid
from kubarium.machinery.client import Api
from kubarium.machinery.errors import ApiError, Conflict
from kubarium.machinery.events import EventRecorder
from kubarium.machinery.informer import Informer
from kubarium.machinery.resources import Resource
from kubarium.machinery.workqueue import WorkQueue, run_workers

if TYPE_CHECKING:
    from kubarium.controllers.kinds import Kinds

T = TypeVar("T")
K = TypeVar("K")

FLUSH_S = 1.0
"""What is left to tell when a controller stops gets this long."""

Clock = Callable[[], float]
"""Seconds since the epoch."""

BY_OWNER = "controller"
"""Index of pods and ReplicaSets: uid of their controller, or of orphans their namespace (see `orphans_of`)."""
BY_NODE = "node"
"""Index of pods: spec.nodeName."""
BY_NAMESPACE = "namespace"
BY_SERVICE = "service"
"""Index of EndpointSlices: namespace/name of the Service of their label."""

SERVICE_NAME = "kubernetes.io/service-name"

_NAMESPACE: Mapping[str, Callable[[Any], Any]] = {BY_NAMESPACE: lambda obj: [obj.metadata.namespace]}
_OWNER: Mapping[str, Callable[[Any], Any]] = {
    BY_OWNER: lambda obj: [controller_uid(obj) or orphans_of(obj.metadata.namespace)]
}
INDEXERS: Mapping[str, Mapping[str, Callable[[Any], Any]]] = {
    "pods": {**_NAMESPACE, **_OWNER, BY_NODE: lambda pod: [pod.spec.node_name] if pod.spec.node_name else []},
    "replicasets": {**_NAMESPACE, **_OWNER},
    "replicationcontrollers": {**_NAMESPACE, **_OWNER},
    "deployments": _NAMESPACE,
    "services": _NAMESPACE,
    "resourcequotas": _NAMESPACE,
    "jobs": {**_NAMESPACE, **_OWNER},
    "statefulsets": _NAMESPACE,
    "daemonsets": _NAMESPACE,
    "controllerrevisions": {**_NAMESPACE, **_OWNER},
    "poddisruptionbudgets": _NAMESPACE,
    "endpointslices": {
        BY_SERVICE: lambda obj: [f"{obj.metadata.namespace}/{obj.metadata.labels.get(SERVICE_NAME, '')}"]
    },
}


def orphans_of(namespace: str) -> str:
    """The value of BY_OWNER for the objects of a namespace that nobody controls."""
    return f"orphans/{namespace}"


class NotYet(Conflict):
    """What the object asks for cannot be had now; it was told so in status or Events. Tried again with back-off."""


def namespace_is_going(err: ApiError) -> bool:
    """Whether a create was refused because its namespace is being deleted: then nothing is amiss."""
    return any(cause.get("reason") == "NamespaceTerminating" for cause in err.details.get("causes", ()))


def children_and_orphans(cache: Informer[T], owner: HasMeta) -> tuple[T, ...]:
    """What `owner` controls, and what it might adopt."""
    return (
        *cache.by_index(BY_OWNER, owner.metadata.uid),
        *cache.by_index(BY_OWNER, orphans_of(owner.metadata.namespace)),
    )


class Informers:
    """One informer a collection, shared by all controllers; made when first asked for, before any of them runs."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._informers: dict[tuple[str, str, str, str], Informer[Any]] = {}

    def of(self, resource: Resource[T], *, namespace: str = "", field_selector: str = "") -> Informer[T]:
        key = (resource.group, resource.plural, namespace, field_selector)
        if (informer := self._informers.get(key)) is None:
            informer = self._informers[key] = Informer(
                self._api,
                resource,
                namespace=namespace,
                field_selector=field_selector,
                indexers=INDEXERS.get(resource.plural, {}),
            )
        return informer

    def existing(self, group: str, plural: str) -> Informer[Any] | None:
        """The informer of all objects of a kind, where a controller has asked for one."""
        return self._informers.get((group, plural, "", ""))

    def all(self) -> Mapping[str, Informer[Any]]:
        """By a name fit for tasks and logs."""
        return {"/".join(filter(None, key)): informer for key, informer in self._informers.items()}

    @property
    def synced(self) -> bool:
        return all(informer.has_synced for informer in self._informers.values())


@dataclass(frozen=True, slots=True)
class Context:
    """What the process hands to each controller."""

    api: Api
    informers: Informers
    config: Config
    clock: Clock = time.time
    kinds: Kinds | None = None

    @property
    def all_kinds(self) -> Kinds:
        """For controllers that work on every kind there is."""
        assert self.kinds is not None
        self.kinds.wanted = True
        return self.kinds


class Controller(ABC, Generic[K]):
    """Handlers enqueue keys; `sync` reads caches, asks a pure plan, and carries it out through the API."""

    name: ClassVar[str]
    workers: ClassVar[int] = 4

    def __init__(self, context: Context) -> None:
        self.api = context.api
        self.events = EventRecorder(context.api, self.name)
        self.config = context.config
        self.clock = context.clock
        self.queue: WorkQueue[K] = WorkQueue()

    @abstractmethod
    async def sync(self, key: K) -> None:
        """Make what belongs to `key` so. Run twice, it changes nothing."""

    async def run(self) -> None:
        """Until cancelled. The caches are filled before this is called."""
        try:
            await run_workers(self.queue, self.sync, count=self.workers, name=self.name)
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FLUSH_S):
                    await self.events.flush()
