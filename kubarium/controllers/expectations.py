"""What a controller has done and its cache may not show yet.

Children with random names are counted from a cache; planned again before the cache shows the last creations, they would
be doubled. So the writes are remembered by uid until the cache has caught up. Source: client-go's controller
expectations, here with resourceVersions instead of a timeout: a creation that the cache never shows (the child was
gone again before a relist) is over once the cache is past its revision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kubarium.machinery.informer import Informer
from kubarium.machinery.objects import ObjectKey


class Expectations:
    """Writes of one controller not yet seen in `cache`, per owner."""

    def __init__(self, cache: Informer[Any]) -> None:
        self._cache = cache
        self._created: dict[str, dict[str, tuple[ObjectKey, int]]] = {}
        self._deleted: dict[str, dict[str, ObjectKey]] = {}

    def created(self, owner_uid: str, key: ObjectKey, uid: str, resource_version: str) -> None:
        self._created.setdefault(owner_uid, {})[uid] = (key, int(resource_version))

    def deleted(self, owner_uid: str, key: ObjectKey, uid: str) -> None:
        self._deleted.setdefault(owner_uid, {})[uid] = key

    def satisfied(self, owner_uid: str) -> bool:
        """Whether the cache shows all that was done for this owner; what it shows is forgotten."""
        revision = int(self._cache.resource_version or 0)
        _drop(self._created, owner_uid, lambda uid, made: revision >= made[1] or self._shows(made[0], uid))
        _drop(self._deleted, owner_uid, lambda uid, key: not self._shows_alive(key, uid))
        return owner_uid not in self._created and owner_uid not in self._deleted

    def forget(self, owner_uid: str) -> None:
        """The owner is gone."""
        self._created.pop(owner_uid, None)
        self._deleted.pop(owner_uid, None)

    def _shows(self, key: ObjectKey, uid: str) -> bool:
        found = self._cache.get(key)
        return found is not None and found.metadata.uid == uid

    def _shows_alive(self, key: ObjectKey, uid: str) -> bool:
        found = self._cache.get(key)
        return found is not None and found.metadata.uid == uid and not found.metadata.deletion_timestamp


def _drop(table: dict[str, dict[str, Any]], owner_uid: str, done: Callable[[str, Any], bool]) -> None:
    waiting = {uid: value for uid, value in table.get(owner_uid, {}).items() if not done(uid, value)}
    if waiting:
        table[owner_uid] = waiting
    else:
        table.pop(owner_uid, None)
