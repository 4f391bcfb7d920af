"""Allocations on disk: each change is a line, fsynced before the change is used.

A line is `CRC32 JSON`, the JSON a list of records. A crash can only tear the last line; it was never acknowledged, so
it is dropped. At start, and after some thousand lines, the file is written anew (to a neighbour, fsynced, renamed),
so it does not grow without end. Changes that arrive while a write is under way share the next line and fsync.
"""

from __future__ import annotations

import asyncio
import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cni.ipam import Allocation, Owner, PodRef
from kubarium.machinery.errors import ConfigError

FILE = "allocations.journal"
COMPACT_AFTER = 4096  # lines

Record = Mapping[str, Any]


def encode(batch: Sequence[Record]) -> bytes:
    """One line for all that is written at once, so that a crash tears one line at most."""
    body = json.dumps(batch, separators=(",", ":"), sort_keys=True).encode()
    return b"%08x %s\n" % (zlib.crc32(body), body)


def decode(data: bytes, source: str) -> list[Record]:
    """The records of a journal. A torn last line is left out; a damaged line before it raises ConfigError."""
    lines = data.split(b"\n")
    tail = lines.pop()  # b"" where the last line is whole
    records: list[Record] = []
    for number, line in enumerate(lines, start=1):
        checksum, _, body = line.partition(b" ")
        if checksum == b"%08x" % zlib.crc32(body):
            records += json.loads(body)
        elif tail or number < len(lines):
            raise ConfigError(
                f"{source} line {number}: the checksum does not match, the file is damaged; "
                "remove the pods of this node, then the file, and start the agent again"
            )
    return records


def allocated(allocation: Allocation) -> dict[str, Any]:
    pod = allocation.pod
    return {
        "op": "allocate",
        "containerID": allocation.owner.container_id,
        "ifname": allocation.owner.interface,
        "addresses": [str(a) for a in allocation.addresses],
        "pod": {"namespace": pod.namespace, "name": pod.name, "uid": pod.uid},
    }


def released(owner: Owner) -> dict[str, Any]:
    return {"op": "release", "containerID": owner.container_id, "ifname": owner.interface}


def fold(held: Mapping[Owner, Allocation], records: Iterable[Record]) -> dict[Owner, Allocation]:
    """What is held after all `records`, beginning with `held`."""
    held = dict(held)
    for record in records:
        owner = Owner(record["containerID"], record["ifname"])
        held.pop(owner, None)
        if record["op"] == "allocate":
            addresses = tuple(IPv4Address(a) for a in record["addresses"])
            held[owner] = Allocation(owner, addresses, PodRef(**record["pod"]))
    return held


class Journal:
    """The file. `open` first; `write` returns when its records are on disk; they reach it in the order of the calls."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / FILE
        self._fd = -1
        self._lines = 0
        self._held: dict[Owner, Allocation] = {}
        self._pending: list[tuple[Sequence[Record], asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None

    def open(self) -> dict[Owner, Allocation]:
        """Read what is held, and start a compacted file with it."""
        self._directory.mkdir(parents=True, exist_ok=True)
        self._held = fold({}, decode(self._path.read_bytes(), str(self._path)) if self._path.exists() else ())
        self._rewrite()
        return dict(self._held)

    async def write(self, records: Sequence[Record]) -> None:
        """Raises OSError where the disk refused; nothing of `records` is in the file then."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pending.append((records, done))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush(), name="journal/flush")
        await asyncio.shield(done)

    async def close(self) -> None:
        if self._flushing:
            await self._flushing
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    async def _flush(self) -> None:
        """Write until nothing is pending: one line and one fsync for all that came meanwhile."""
        try:
            while self._pending:
                batch, self._pending = self._pending, []
                records = [record for some, _ in batch for record in some]
                try:
                    await asyncio.to_thread(self._append, records)
                except Exception as err:  # told to those who wait, whatever it is
                    failure: Exception | None = err
                else:
                    failure = None
                for _, done in batch:
                    if done.cancelled():
                        continue
                    if failure:
                        done.set_exception(failure)
                    else:
                        done.set_result(None)
        finally:
            self._flushing = None

    def _append(self, records: Sequence[Record]) -> None:
        """All of a batch or nothing of it: a half-written line is cut off again."""
        data, size = encode(records), os.fstat(self._fd).st_size
        try:
            if os.write(self._fd, data) != len(data):
                raise OSError(f"{self._path}: short write")
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, size)
            raise
        self._held = fold(self._held, records)
        self._lines += 1
        if self._lines > COMPACT_AFTER:
            self._rewrite()

    def _rewrite(self) -> None:
        """Replace the file by one that says the same in one line."""
        fresh = self._path.with_suffix(".new")
        fd = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_CLOEXEC, 0o600)
        os.write(fd, encode([allocated(a) for a in self._held.values()]))
        os.fsync(fd)
        fresh.replace(self._path)
        directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
        os.fsync(directory)
        os.close(directory)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._lines = fd, 1
