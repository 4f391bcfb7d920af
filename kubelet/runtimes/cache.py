"""The cache that every runtime keeps of its pods: entries in, PodRecords out, changes told (see runtimes/base.py)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from kubelet.runtimes.base import Container, ContainerId, PodIdentity, PodRecord, PodUid, Sandbox, State


@dataclass(frozen=True, slots=True)
class Entry:
    """One sandbox or container with the pod it belongs to."""

    pod: PodIdentity
    what: Sandbox | Container
    grace_s: int = 30

    @property
    def id(self) -> ContainerId:
        return self.what.id


class PodCache:
    """Entries by ID; the newest word on an entry wins, and waiters learn of its exit."""

    def __init__(self) -> None:
        self._entries: dict[ContainerId, Entry] = {}
        self._by_pod: dict[PodUid, set[ContainerId]] = {}
        self._records: dict[PodUid, PodRecord] = {}
        self._handlers: list[Callable[[PodUid], None]] = []
        self._exits: dict[ContainerId, asyncio.Event] = {}

    def on_change(self, handler: Callable[[PodUid], None]) -> None:
        self._handlers.append(handler)

    def get(self, container: ContainerId) -> Entry | None:
        return self._entries.get(container)

    def records(self) -> Mapping[PodUid, PodRecord]:
        return self._records

    def put(self, entry: Entry) -> None:
        """Remember an entry; a state never goes back (an inspect may overtake another)."""
        old = self._entries.get(entry.id)
        if old == entry or (old is not None and _rank(entry.what.state) < _rank(old.what.state)):
            return
        self._entries[entry.id] = entry
        self._by_pod.setdefault(entry.pod.uid, set()).add(entry.id)
        if entry.what.state is State.EXITED and (exited := self._exits.pop(entry.id, None)):
            exited.set()
        self._changed(entry.pod)

    def drop(self, container: ContainerId) -> None:
        entry = self._entries.pop(container, None)
        if exited := self._exits.pop(container, None):
            exited.set()
        if entry is None:
            return
        ids = self._by_pod[entry.pod.uid]
        ids.discard(container)
        if not ids:
            del self._by_pod[entry.pod.uid]
        self._changed(entry.pod)

    def keep_only(self, present: Iterable[ContainerId]) -> None:
        """After a full listing: what it did not show is gone."""
        for missing in self._entries.keys() - set(present):
            self.drop(missing)

    def exited(self, container: ContainerId) -> asyncio.Event:
        """An event that is set once the container has exited or gone."""
        entry = self._entries.get(container)
        if entry is None or entry.what.state is State.EXITED:
            done = asyncio.Event()
            done.set()
            return done
        return self._exits.setdefault(container, asyncio.Event())

    def _changed(self, pod: PodIdentity) -> None:
        entries = [self._entries[i] for i in self._by_pod.get(pod.uid, ())]
        if entries:
            sandboxes = sorted((e.what for e in entries if isinstance(e.what, Sandbox)), key=lambda s: s.attempt)
            containers = sorted(
                (e.what for e in entries if isinstance(e.what, Container)),
                key=lambda c: (c.name, c.restart_count, c.created_at),
            )
            grace = next((e.grace_s for e in entries if isinstance(e.what, Sandbox)), 30)
            self._records[pod.uid] = PodRecord(entries[0].pod, tuple(sandboxes), tuple(containers), grace)
        else:
            self._records.pop(pod.uid, None)
        for handler in self._handlers:
            handler(pod.uid)


def _rank(state: State) -> int:
    return (State.CREATED, State.RUNNING, State.EXITED).index(state)
