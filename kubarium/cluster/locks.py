"""Locks between commands: one per cluster, one for what clusters share. A killed holder's lock is free at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import zlib
from collections.abc import Iterator

from kubarium.cluster.paths import RUN

SHARED = 0  # the byte that guards the choice of networks; each cluster has one of its own


@contextlib.contextmanager
def held(name: str = "", *, timeout_s: float = 120.0) -> Iterator[bool]:
    """Hold the lock of cluster `name` ("": what clusters share). Yields False when it could not be had in time."""
    folder = RUN / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    byte = 1 + zlib.crc32(name.encode()) if name else SHARED
    fd = os.open(folder / "commands", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _lock(fd, byte, time.monotonic() + timeout_s)
    finally:
        os.close(fd)


def _lock(fd: int, byte: int, deadline: float) -> bool:
    while True:
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            return True
        except OSError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
