"""The informer against an API server that breaks: nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from kubarium.machinery.client import Api
from kubarium.machinery.informer import Informer
from kubarium.machinery.objects import ConfigMap, ObjectKey
from kubarium.machinery.resources import CONFIGMAPS
from tests.machinery.fakeapi import FakeApi

Change = tuple[str, str, str]  # what, name, data


class Recorder:
    """Handlers' view of the world; complains of an event that cannot be."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.world: dict[ObjectKey, ConfigMap] = {}
        self.versions: set[tuple[str, str]] = set()

    def __call__(self, old: ConfigMap | None, new: ConfigMap | None) -> None:
        if new is None:
            assert old is not None
            assert self.world.pop(old.key).metadata.uid == old.metadata.uid
            self.changes.append(("deleted", old.metadata.name, old.data.get("v", "")))
            return
        version = (new.metadata.uid, new.metadata.resource_version)
        assert version not in self.versions, f"{version} was told twice"
        self.versions.add(version)
        assert self.world.get(new.key) == old, "old must be what the handler was told last"
        assert old is None or old.metadata.uid == new.metadata.uid
        self.world[new.key] = new
        self.changes.append(("changed" if old else "added", new.metadata.name, new.data.get("v", "")))


@asynccontextmanager
async def running(informer: Informer[ConfigMap]) -> AsyncIterator[None]:
    task = asyncio.create_task(informer.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def eventually(check: Callable[[], bool], within_s: float = 10) -> None:
    async with asyncio.timeout(within_s):
        while not check():
            await asyncio.sleep(0.005)


async def make(api: Api, name: str, value: str = "1", namespace: str = "ns") -> None:
    await api.create(CONFIGMAPS, {"metadata": {"name": name}, "data": {"v": value}}, namespace)


async def change(api: Api, name: str, value: str) -> None:
    await api.patch(CONFIGMAPS, name, {"data": {"v": value}}, "ns")


@pytest.fixture
def api() -> FakeApi:
    return FakeApi()


async def test_it_follows_changes_and_is_synced_after_the_first_list(api: FakeApi) -> None:
    await make(api, "a")
    informer, told = Informer(api, CONFIGMAPS), Recorder()
    informer.on_change(told)
    assert not informer.has_synced
    async with running(informer):
        await informer.synced()
        assert told.changes == [("added", "a", "1")]
        await make(api, "b")
        await change(api, "a", "2")
        await api.delete(CONFIGMAPS, "b", "ns")
        await eventually(lambda: len(told.changes) == 4)
    assert told.changes[1:] == [("added", "b", "1"), ("changed", "a", "2"), ("deleted", "b", "1")]
    found = informer.get(ObjectKey("ns", "a"))
    assert found is not None and found.data == {"v": "2"}
    assert informer.get(ObjectKey("ns", "b")) is None


async def test_a_broken_watch_resumes_where_it_was_without_a_new_list(api: FakeApi) -> None:
    informer, told = Informer(api, CONFIGMAPS), Recorder()
    informer.on_change(told)
    async with running(informer):
        await informer.synced()
        await make(api, "a")
        api.break_watches()
        await change(api, "a", "2")
        await api.delete(CONFIGMAPS, "a", "ns")
        await eventually(lambda: len(told.changes) == 3)
    assert told.changes == [("added", "a", "1"), ("changed", "a", "2"), ("deleted", "a", "1")] or told.changes == [
        ("added", "a", "1"),
        ("changed", "a", "2"),
        ("deleted", "a", "2"),
    ]
    assert api.lists == 1


async def test_after_an_expired_revision_missed_deletes_and_recreations_are_told(api: FakeApi) -> None:
    for name in ("gone", "again", "same"):
        await make(api, name)
    informer, told = Informer(api, CONFIGMAPS), Recorder()
    informer.on_change(told)
    async with running(informer):
        await informer.synced()
        api.down = True
        api.break_watches()
        api.down = False
        await api.delete(CONFIGMAPS, "gone", "ns")
        await api.delete(CONFIGMAPS, "again", "ns")
        await make(api, "again", "new")
        api.compact()
        told.changes.clear()
        await eventually(lambda: api.lists == 2 and len(told.changes) >= 3)
    assert sorted(told.changes) == [("added", "again", "new"), ("deleted", "again", "1"), ("deleted", "gone", "1")]


async def test_a_server_that_is_down_at_the_start_is_waited_for(api: FakeApi) -> None:
    api.down = True
    informer = Informer(api, CONFIGMAPS)
    async with running(informer):
        await asyncio.sleep(0)
        assert not informer.has_synced
        api.down = False
        async with asyncio.timeout(5):
            await informer.synced()


async def test_indices_follow_the_objects(api: FakeApi) -> None:
    informer = Informer(api, CONFIGMAPS, indexers={"value": lambda cm: [cm.data["v"]]})

    def names(value: str) -> list[str]:
        return sorted(found.metadata.name for found in informer.by_index("value", value))

    async with running(informer):
        await informer.synced()
        await make(api, "a", "x")
        await make(api, "b", "x")
        await eventually(lambda: names("x") == ["a", "b"])
        await change(api, "a", "y")
        await eventually(lambda: names("x") == ["b"] and names("y") == ["a"])
        await api.delete(CONFIGMAPS, "b", "ns")
        await eventually(lambda: names("x") == [])


async def test_a_late_handler_is_told_what_is_there(api: FakeApi) -> None:
    await make(api, "a")
    informer, told = Informer(api, CONFIGMAPS), Recorder()
    async with running(informer):
        await informer.synced()
        informer.on_change(told)
        assert told.changes == [("added", "a", "1")]


async def test_only_the_wanted_namespace_and_labels_are_cached(api: FakeApi) -> None:
    await make(api, "a", namespace="other")
    await api.create(CONFIGMAPS, {"metadata": {"name": "b", "labels": {"app": "web"}}}, "ns")
    await make(api, "c")
    informer = Informer(api, CONFIGMAPS, namespace="ns", label_selector="app=web")
    async with running(informer):
        await informer.synced()
        assert [found.metadata.name for found in informer.all()] == ["b"]


@pytest.mark.parametrize("seed", range(5))
async def test_no_event_is_lost_or_doubled_under_faults(
    api: FakeApi, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kubarium.machinery.backoff.random.uniform", lambda low, high: 0.01)
    draw = random.Random(seed)
    informer, told = Informer(api, CONFIGMAPS), Recorder()
    informer.on_change(told)
    async with running(informer):
        for step in range(300):
            name = f"cm-{draw.randrange(6)}"
            exists = ("configmaps", ObjectKey("ns", name)) in api.objects
            match draw.randrange(12):
                case 0:
                    api.break_watches()
                case 1:
                    api.compact()
                case 2 | 3 if exists:
                    await api.delete(CONFIGMAPS, name, "ns")
                case _ if exists:
                    await change(api, name, str(step))
                case _:
                    await make(api, name, str(step))
            if draw.random() < 0.5:
                await asyncio.sleep(0.001)
        wanted = {key: obj["metadata"]["resourceVersion"] for (_, key), obj in api.objects.items()}
        await eventually(lambda: {obj.key: obj.metadata.resource_version for obj in informer.all()} == wanted)
    assert told.world == {obj.key: obj for obj in informer.all()}
