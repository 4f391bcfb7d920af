"""A process that writes to a store as fast as it can and says what was acknowledged, until it is killed.

`python -m tests.apiserver.store_writer URL SEED AFTER` prints a line an acknowledgement (`ack REVISION KEY VALUE`,
VALUE `-` for a deletion) and a line an event of its watch from AFTER on (`event REVISION`), each in one write.
"""

from __future__ import annotations

import asyncio
import os
import random
import sys
from collections.abc import Callable

from apiserver.store import open_store
from apiserver.store.base import Progress, Store

PREFIX = "/registry/core/pods/"
WRITERS = 16


def say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def say_acknowledged(revision: int, key: str, value: str) -> None:
    say(f"ack {revision} {key} {value}")


async def write(store: Store, key: str, rng: random.Random, acknowledged: Callable[[int, str, str], None]) -> None:
    """Create, update and delete one key for ever, telling each acknowledgement."""
    found = await store.get(key)
    revision = found.mod_revision if found else 0
    while True:
        value = f"{key}={rng.getrandbits(64):016x}" * rng.choice([1, 1, 50])
        if revision and rng.random() < 0.2:
            gone, _ = await store.delete(key, expected=revision)
            acknowledged(gone, key, "-")
            revision = 0
            continue
        if revision:
            revision = await store.update(key, value.encode(), expected=revision)
        else:
            revision = await store.create(key, value.encode())
        acknowledged(revision, key, value)


async def follow(store: Store, after: int) -> None:
    async for item in store.watch(PREFIX, after=after):
        if not isinstance(item, Progress):
            for event in item:
                say(f"event {event.revision}")


async def main(url: str, seed: int, after: int) -> None:
    store = open_store(url)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(follow(store, after))
        for n in range(WRITERS):
            tasks.create_task(write(store, f"{PREFIX}default/{n}", random.Random(seed * 1000 + n), say_acknowledged))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
