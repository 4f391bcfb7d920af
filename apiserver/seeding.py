"""The server's own first objects, written all at once: past the front ends' checks, which they are known to pass.

A hundred and more objects stand in every new store before it is ready, so each costs what it must: its default values,
the owners of its fields, and its bytes. What another server has made meanwhile is left alone.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterable
from typing import NamedTuple

from apiserver import codec, objectmeta
from apiserver.fieldmanager.entries import APPLY, Manager, make
from apiserver.fieldmanager.updates import track_create
from apiserver.registry.base import Object, ResourceDef
from apiserver.state import State
from kubarium.machinery.errors import KeyExists

KUBE_APISERVER = "kube-apiserver"


class Seed(NamedTuple):
    """`obj` is in written form, with apiVersion, kind and a name, and the callee's own; `manager` owns its fields.

    `status`, where there is one, was applied by `status_manager`, which owns `status_fields` (FieldsV1) of it.
    """

    resource: ResourceDef
    obj: Object
    manager: str = KUBE_APISERVER
    status: Object | None = None
    status_manager: str = ""
    status_fields: Object | None = None


def fresh_uid() -> str:
    return str(uuid.uuid4())


async def sow(state: State, seeds: Iterable[Seed], now: str, new_uid: Callable[[], str] = fresh_uid) -> None:
    """Make what is not there. Raises StoreUnavailable."""
    missing = (seed for seed in seeds if state.cache.get(_key(seed)) is None)
    await asyncio.gather(*(_create(state, seed, now, new_uid()) for seed in missing))


def _key(seed: Seed) -> str:
    metadata = seed.obj["metadata"]
    return seed.resource.key(metadata.get("namespace", ""), metadata["name"])


async def _create(state: State, seed: Seed, now: str, uid: str) -> None:
    data = codec.stored_form(grown(seed, now, uid))
    try:
        await state.store.create(_key(seed), data, ttl_s=seed.resource.ttl_s)
    except KeyExists:
        return


def grown(seed: Seed, now: str, uid: str) -> Object:
    """The object as it is stored. Pure, but for `seed.obj`, which becomes it."""
    resource, obj, strategy = seed.resource, seed.obj, seed.resource.strategy
    strategy.default(obj)
    track_create(resource, obj, seed.manager, now)
    objectmeta.stamp_new(obj, uid=uid, now=now)
    strategy.prepare_create(obj)
    strategy.default(obj)
    if seed.status is not None:
        obj["status"] = seed.status
        applier = Manager(seed.status_manager, APPLY, "", "status")
        entry = make(applier, resource.api_version, seed.status_fields or {}, now)
        obj["metadata"].setdefault("managedFields", []).insert(0, entry)
    return obj
