"""nftables through libnftables in this process: whole transactions, no `nft` command, no fork.

The library's netlink socket belongs to the namespace in which its context was made, and a context serves one caller at
a time: each `Nft` has a thread of its own, which enters the namespace, makes the context and runs every command.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from kubarium.machinery import netns
from kubarium.machinery.errors import NftError

_PLACE = re.compile(r"^/proc/self/fd/\d+:(\d+):\d+(?:-\d+)?: (?:Error: )?(.*)$", re.MULTILINE)


class Nft:
    """nftables of one namespace: the one of the process, or the one at `path`."""

    def __init__(self, path: str | Path | None = None) -> None:
        self._path = path
        self._context: Any = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="nft")

    async def commit(self, text: str) -> None:
        """Apply commands in nft's language, all of them or none. Raises NftError with the line that was refused."""
        await self._run(self._command, text)

    async def list_table(self, family: str, name: str) -> list[dict[str, Any]]:
        """The objects of a table as libnftables' JSON has them, each {"chain": {...}}, {"rule": ...}; [] without it.

        Slow with thousands of elements (0.3 s for ten thousand): for start-up and tests, not for every change.
        """
        listing = await self._run(self._list, f"list table {family} {name}")
        return [entry for entry in listing if "metainfo" not in entry]

    async def list_tables(self) -> list[tuple[str, str]]:
        """(family, name) of every table."""
        listing = await self._run(self._list, "list tables")
        return [(entry["table"]["family"], entry["table"]["name"]) for entry in listing if "table" in entry]

    async def list_chains(self, family: str, table: str) -> list[str]:
        """The names of a table's chains; [] without it. Cheap however many elements the table has."""
        listing = await self._run(self._list, f"list chains {family}")
        return [e["chain"]["name"] for e in listing if "chain" in e and e["chain"]["table"] == table]

    async def close(self) -> None:
        """Free the context and its thread; what was committed stays in the kernel."""
        await self._run(self._drop)
        self._thread.shutdown(wait=False)

    async def _run(self, fn: Any, *args: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, fn, *args)

    def _open(self) -> Any:
        if self._context is None:
            import nftables

            if self._path is not None:
                netns.enter(self._path)
            try:
                self._context = nftables.Nftables()
            except OSError as err:
                raise NftError(f"libnftables cannot be loaded: {err}; install the package libnftables1") from err
        return self._context

    def _command(self, text: str) -> None:
        if self._open().cmd(text)[0] == 0:
            return
        # libnftables 1.0.6 knows no lines in a buffer, only in files: nothing was applied, so try once more as a file.
        with os.fdopen(os.memfd_create("nft", os.MFD_CLOEXEC), "wb", buffering=0) as file:
            file.write(text.encode())
            code, _, error = self._open().cmd(f'include "/proc/self/fd/{file.fileno()}"')
        if code:
            raise NftError(_explained(error, text))

    def _list(self, command: str) -> list[dict[str, Any]]:
        context = self._open()
        context.set_json_output(True)
        try:
            code, output, error = context.cmd(command)
        finally:
            context.set_json_output(False)
        if code:
            if "No such file or directory" in error:
                return []
            raise NftError(_explained(error, command))
        entries: list[dict[str, Any]] = json.loads(output)["nftables"] if output else []
        return entries

    def _drop(self) -> None:
        self._context = None


def _explained(error: str, text: str) -> str:
    """libnftables' complaint with the line of ours that it is about."""
    found = _PLACE.search(error)
    if found is None:
        return f"nftables: {error.strip() or 'refused without a reason'}"
    lines = text.splitlines()
    number = int(found.group(1))
    line = lines[number - 1].strip() if 0 < number <= len(lines) else ""
    return f"nftables: {found.group(2)} in line {number}: {line}"
