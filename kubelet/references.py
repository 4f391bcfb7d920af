"""ConfigMaps and Secrets that the node's pods refer to: each watched by name, for as long as a pod wants it.

A kubelet may read only what its pods name, so it watches single objects and never whole collections.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from kubarium.machinery.client import Api
from kubarium.machinery.informer import Informer
from kubarium.machinery.objects import ConfigMap, ObjectKey, Secret
from kubarium.machinery.resources import CONFIGMAPS, SECRETS, Resource

Wanted = tuple[str, ObjectKey]  # plural, key


class References:
    """Shared by all pod workers; the tasks belong to `group`."""

    def __init__(self, api: Api, group: asyncio.TaskGroup) -> None:
        self._api, self._group = api, group
        self._informers: dict[Wanted, Informer[Any]] = {}
        self._tasks: dict[Wanted, asyncio.Task[None]] = {}
        self._users: dict[Wanted, dict[object, Callable[[], None]]] = {}

    def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        found: ConfigMap | None = self._get(CONFIGMAPS, ObjectKey(namespace, name))
        return found

    def secret(self, namespace: str, name: str) -> Secret | None:
        found: Secret | None = self._get(SECRETS, ObjectKey(namespace, name))
        return found

    def _get(self, resource: Resource[Any], key: ObjectKey) -> Any:
        informer = self._informers.get((resource.plural, key))
        return informer.get(key) if informer else None

    async def acquire(
        self,
        user: object,
        namespace: str,
        config_maps: frozenset[str],
        secrets: frozenset[str],
        changed: Callable[[], None],
    ) -> None:
        """Watch these for `user`, who hears of changes; returns when the state of each is known."""
        wanted: list[tuple[Resource[Any], ObjectKey]] = [
            *((CONFIGMAPS, ObjectKey(namespace, name)) for name in config_maps),
            *((SECRETS, ObjectKey(namespace, name)) for name in secrets),
        ]
        informers = [self._watch(resource, key, user, changed) for resource, key in wanted]
        for informer in informers:
            await informer.synced()

    def _watch(
        self, resource: Resource[Any], key: ObjectKey, user: object, changed: Callable[[], None]
    ) -> Informer[Any]:
        wanted = (resource.plural, key)
        informer = self._informers.get(wanted)
        if informer is None:
            selector = f"metadata.name={key.name}"
            informer = Informer(self._api, resource, namespace=key.namespace, field_selector=selector)
            informer.on_change(lambda _old, _new: self._tell(wanted))
            self._informers[wanted] = informer
            self._tasks[wanted] = self._group.create_task(informer.run(), name=f"informer/{resource.plural}/{key}")
        self._users.setdefault(wanted, {})[user] = changed
        return informer

    def _tell(self, wanted: Wanted) -> None:
        for changed in tuple(self._users.get(wanted, {}).values()):
            changed()

    def release(self, user: object) -> None:
        """Forget a user; what nobody wants any more is no longer watched."""
        for wanted, users in tuple(self._users.items()):
            users.pop(user, None)
            if not users:
                del self._users[wanted]
                del self._informers[wanted]
                self._tasks.pop(wanted).cancel()
