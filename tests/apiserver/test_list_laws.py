"""Laws of lists and watches that hold whatever is written meanwhile; on a real SQLite store, without a front end."""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from apiserver.codec import decode, head_reader, stored_form
from apiserver.reads import Reader
from apiserver.registry import REGISTRY
from apiserver.request import Listed, ListOptions, Request, User
from apiserver.state import State
from apiserver.store import open_store
from apiserver.store.base import Store
from apiserver.watchcache import WatchCache
from kubarium.machinery.errors import KeyExists, KeyMissing

ADMIN = User("admin", ("system:masters",))
DEADLINE_S = 15.0
KEYS, VALUES = ("app", "tier", "example.com/n"), ("", "a", "b", "1", "22")

Labels = dict[str, str]
Write = tuple[str, Labels | None]  # name of the object, its labels; None deletes it
Term = tuple[str, str, tuple[str, ...]]  # key, operator, values

names = st.sampled_from([f"{c}{n}" for c in "abc" for n in range(4)])
labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=3)
writes = st.lists(st.tuples(names, st.none() | labels), min_size=2, max_size=16)
some = st.lists(st.sampled_from(VALUES), min_size=1, max_size=3, unique=True).map(tuple)
terms = st.one_of(
    st.tuples(st.sampled_from(KEYS), st.sampled_from(["in", "notin"]), some),
    st.tuples(st.sampled_from(KEYS), st.sampled_from(["=", "==", "!="]), some.map(lambda values: values[:1])),
    st.tuples(st.sampled_from(KEYS), st.sampled_from([">", "<"]), st.sampled_from([("1",), ("5",), ("-3",)])),
    st.tuples(st.sampled_from(KEYS), st.sampled_from(["", "!"]), st.just(())),
).filter(lambda term: term[2] != ("-3",))
selectors = st.lists(terms, max_size=3)
spaces = st.sampled_from(["", " ", "\t"])


def text_of(selector: list[Term], space: str) -> str:
    """The selector as a client writes it, with space wherever it may be."""

    def one(term: Term) -> str:
        key, operator, values = term
        if operator == "":
            return f"{space}{key}{space}"
        if operator == "!":
            return f"{space}!{space}{key}"
        if operator in ("in", "notin"):
            return f"{space}{key} {operator}{space}({space}{f'{space},{space}'.join(values)}{space}){space}"
        return f"{space}{key}{space}{operator}{space}{values[0]}{space}"

    return ",".join(map(one, selector))


def selected(selector: list[Term], own: Labels) -> bool:
    """What the documentation of labels says of it, word by word."""
    for key, operator, values in selector:
        value = own.get(key)
        number = int(value) if value is not None and re.fullmatch(r"-?\d+", value) else None
        holds = {
            "in": value in values and value is not None,
            "=": value == values[0] if values else False,
            "==": value == values[0] if values else False,
            "notin": value is None or value not in values,
            "!=": value is None or value != (values[0] if values else ""),
            "": value is not None,
            "!": value is None,
            ">": number is not None and bool(values) and values[0].isdigit() and number > int(values[0]),
            "<": number is not None and bool(values) and values[0].isdigit() and number < int(values[0]),
        }
        if not holds[operator]:
            return False
    return True


class World:
    """A store, what reads it, and what ought to be in it."""

    def __init__(self, store: Store, cache: WatchCache, reader: Reader) -> None:
        self.store, self.cache, self.reader = store, cache, reader
        found = REGISTRY.get("", "v1", "configmaps")
        assert found is not None
        self.resource = found
        self.state: dict[str, tuple[Labels, int]] = {}

    def request(self, verb: str) -> Request:
        return Request(ADMIN, verb, self.resource, "default")

    async def write(self, changes: list[Write]) -> None:
        for name, own in changes:
            key = self.resource.key("default", name)
            metadata = {"name": name, "namespace": "default", "labels": own or {}}
            data = stored_form({"kind": "ConfigMap", "apiVersion": "v1", "metadata": metadata})
            with suppress(KeyExists, KeyMissing):
                if own is None:
                    if name in self.state:
                        await self.store.delete(key, expected=self.state.pop(name)[1])
                elif name in self.state:
                    revision = await self.store.update(key, data, expected=self.state[name][1])
                    self.state[name] = own, revision
                else:
                    self.state[name] = own, await self.store.create(key, data)

    async def listed(self, **wanted: Any) -> Listed:
        return await self.reader.list(self.request("list"), ListOptions(**wanted))

    async def events(self, session: Any) -> list[tuple[str, str, int]]:
        """Type, name and version of everything that a watch has told when it knows of all that was written."""
        await self.cache.wait_for(await self.cache.consistent_revision(), DEADLINE_S)
        found = []
        while (batch := session.poll()) is not None:
            for event in batch:
                if event.type != "BOOKMARK":
                    metadata = decode(event.data)["metadata"]
                    found.append((event.type, metadata["name"], int(metadata["resourceVersion"])))
        return found

    def now(self, selector: list[Term]) -> dict[str, int]:
        """Name and version of what is selected."""
        return {name: revision for name, (own, revision) in self.state.items() if selected(selector, own)}


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite://{folder}/store.db")
        head = head_reader(lambda prefix: {})
        cache = WatchCache(store, head=head)
        task = asyncio.create_task(cache.run())
        try:
            await asyncio.wait_for(cache.synced(), DEADLINE_S)
            yield World(store, cache, Reader(State(store, cache, head)))
        finally:
            task.cancel()
            await asyncio.wait([task])
            await store.close()


def in_a_world(law: Callable[[World], Coroutine[Any, Any, None]]) -> None:
    async def run() -> None:
        async with world() as found:
            await law(found)

    asyncio.run(run())


def shown(listed: Listed) -> list[tuple[str, int]]:
    return [(entry.head.name, entry.revision) for entry in listed.entries]


@settings(max_examples=60, deadline=None)
@given(writes, st.lists(writes, min_size=1, max_size=4), st.integers(1, 5), selectors)
def test_pages_are_one_list_whatever_is_written_meanwhile(
    before: list[Write], between: list[list[Write]], limit: int, selector: list[Term]
) -> None:
    async def law(found: World) -> None:
        await found.write(before)
        wanted, count = sorted(found.now(selector).items()), len(found.state)
        page = await found.listed(limit=limit, label_selector=text_of(selector, ""))
        revision, told = page.revision, shown(page)
        for turn in range(len(wanted) + 2):
            assert len(page.entries) <= limit
            assert page.revision == revision
            if not page.continue_token:
                break
            if not selector:
                assert page.remaining == count - len(told)
            await found.write(between[turn % len(between)])
            again = {"limit": limit, "continue_token": page.continue_token, "label_selector": text_of(selector, "")}
            page = await found.listed(**again)
            told += shown(page)
        assert not page.continue_token
        assert told == wanted

    in_a_world(law)


@settings(max_examples=150, deadline=None)
@given(writes, selectors, spaces)
def test_a_selector_selects_what_its_documentation_says(before: list[Write], selector: list[Term], space: str) -> None:
    async def law(found: World) -> None:
        await found.write(before)
        listed = await found.listed(label_selector=text_of(selector, space))
        assert shown(listed) == sorted(found.now(selector).items())
        for name in found.state:
            alone = await found.listed(field_selector=f"metadata.name={name}", label_selector=text_of(selector, space))
            assert [entry.head.name for entry in alone.entries] == [name] * (name in found.now(selector))

    in_a_world(law)


@settings(max_examples=60, deadline=None)
@given(writes, writes, selectors, st.booleans())
def test_a_list_and_the_events_behind_it_are_the_state(
    before: list[Write], after: list[Write], selector: list[Term], initial: bool
) -> None:
    """Whatever comes to be selected is ADDED, and DELETED when it is no longer, with its versions in order."""

    async def law(found: World) -> None:
        await found.write(before)
        text = text_of(selector, "")
        listed = await found.listed(label_selector=text)
        replayed = {} if initial else dict(shown(listed))
        version = "0" if initial else str(listed.revision)
        wanted = ListOptions(label_selector=text, resource_version=version)
        session = await found.reader.open_watch(found.request("watch"), wanted)
        try:
            last = -1 if initial else listed.revision
            told = await found.events(session) if initial else []
            assert sorted((name, revision) for _, name, revision in told) == (shown(listed) if initial else [])
            await found.write(after)
            for kind, name, revision in told + await found.events(session):
                assert (name in replayed) is (kind != "ADDED")
                if kind == "DELETED":
                    assert revision > replayed.pop(name)
                else:
                    assert revision > replayed.get(name, 0)
                    replayed[name] = revision
                if (kind, name, revision) not in told:
                    assert revision > last
                    last = revision
        finally:
            session.close()
        assert replayed == found.now(selector)

    in_a_world(law)
