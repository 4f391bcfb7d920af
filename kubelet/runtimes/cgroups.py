"""Cgroups of pods: the same path in every hierarchy (v1) or in the one (v2)."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
JOINED_V1 = ("freezer", "pids", "systemd")  # enough to find, freeze and count; limits are Docker's business


def hierarchies() -> tuple[Path, ...]:
    """Root of each hierarchy that is mounted: one with v2, one a controller with v1 (links are skipped)."""
    if (ROOT / "cgroup.controllers").exists():
        return (ROOT,)
    return tuple(path for path in sorted(ROOT.iterdir()) if path.is_dir() and not path.is_symlink())


def _joined(path: str) -> Iterator[Path]:
    for root in hierarchies():
        if root == ROOT or root.name in JOINED_V1:
            yield root / path.lstrip("/")


def make(path: str) -> tuple[Path, ...]:
    """Make the cgroup; gives the files that a process ID is written to in order to join it."""
    for directory in _joined(path):
        directory.mkdir(parents=True, exist_ok=True)
    return tuple(directory / "cgroup.procs" for directory in _joined(path))


def join(path: str, pid: int = 0) -> None:
    """Put a process (0: the caller) into the cgroup, making it where it is missing."""
    for procs in make(path):
        procs.write_text(str(pid))


def pids(path: str) -> set[int]:
    """Processes in the cgroup and below it."""
    found: set[int] = set()
    for directory in _joined(path):
        for procs in (directory / "cgroup.procs", *directory.glob("**/cgroup.procs")):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in procs.read_text().split())
    return found


def kill(path: str, *, limit_s: float = 2.0) -> None:
    """SIGKILL until nothing is left in the cgroup; blocks for at most `limit_s`."""
    deadline = time.monotonic() + limit_s
    while left := pids(path):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            return
        time.sleep(0.005)


def remove(path: str) -> None:
    """Remove the cgroup's directories, leaves first; one that is still in use stays."""
    for root in hierarchies():
        top = root / path.lstrip("/")
        if not top.is_dir():
            continue
        for directory in sorted((d for d in top.glob("**/") if d.is_dir()), key=lambda d: -len(d.parts)):
            with contextlib.suppress(OSError):
                directory.rmdir()
        with contextlib.suppress(OSError):
            top.rmdir()
