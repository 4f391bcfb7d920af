"""The cgroup /kubarium/NAME/NODE/...: every process of a cluster is found, frozen and killed by it.

Component processes join `NODE/system`, the supervisor `supervisor`, containers a folder per pod. Works with cgroup v1
(the freezer and pids hierarchies; Docker makes the same path in all others) and with v2.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from kubarium.machinery.errors import ClusterError

ROOT = Path("/sys/fs/cgroup")
OURS = "kubarium"


@dataclass(frozen=True, slots=True)
class Hierarchies:
    """The mounted cgroup trees. `joined` are those our own processes enter, `all` those where folders may be ours."""

    joined: tuple[Path, ...]
    all: tuple[Path, ...]
    v2: bool


def hierarchies(root: Path = ROOT) -> Hierarchies:
    """Find the trees below `root`: one for cgroup v2, one a controller for v1."""
    if (root / "cgroup.controllers").exists():
        return Hierarchies((root,), (root,), v2=True)
    trees = (
        tuple(sorted(p for p in root.iterdir() if (p / "cgroup.procs").exists() and not p.is_symlink()))
        if root.is_dir()
        else ()
    )
    joined = tuple(p for p in trees if p.name in ("freezer", "pids"))
    return Hierarchies(joined, trees, v2=False)


def join(path: str, pid: int = 0) -> None:
    """Move a process (0: the caller) into /kubarium/`path`, made if it is missing.

    Raises ClusterError when no tree takes it: a cluster whose processes could not be found again must not start.
    """
    trees = hierarchies().joined
    if not trees:
        raise ClusterError("no cgroup hierarchy (v2, or v1 freezer and pids) is mounted at /sys/fs/cgroup")
    for tree in trees:
        folder = tree / OURS / path
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cgroup.procs").write_text(f"{pid or os.getpid()}")
        except OSError as err:
            raise ClusterError(f"cannot join cgroup {folder}: {err.strerror}") from err


def pids(path: str) -> set[int]:
    """All processes in /kubarium/`path` and below."""
    found: set[int] = set()
    for tree in hierarchies().joined:
        for folder in _below(tree / OURS / path):
            with contextlib.suppress(OSError):
                found.update(int(line) for line in (folder / "cgroup.procs").read_text().split())
    found.discard(0)  # a process of another pid namespace
    return found


def kill(path: str, *, timeout_s: float = 10.0) -> None:
    """Kill everything in /kubarium/`path` and below at once: frozen first, so that nothing forks its way out.

    Returns when no process is left. Raises ClusterError when some outlive `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = 0.001
    with frozen(path):
        _signal_all(path)
    while left := pids(path) - {os.getpid()}:
        if time.monotonic() > deadline:
            raise ClusterError(f"processes {sorted(left)} of cgroup /{OURS}/{path} do not die")
        _signal_all(path)  # a container joined while we froze
        time.sleep(pause_s)
        pause_s = min(pause_s * 2, 0.05)


@contextlib.contextmanager
def frozen(path: str) -> Iterator[None]:
    """Hold every process of /kubarium/`path` still. Where freezing is not to be had, they run on."""
    files = [
        tree / OURS / path / ("cgroup.freeze" if hierarchies().v2 else "freezer.state") for tree in hierarchies().joined
    ]
    on, off = ("1", "0") if hierarchies().v2 else ("FROZEN", "THAWED")
    _write_all(files, on)
    try:
        yield
    finally:
        _write_all(files, off)


def remove(path: str = "") -> None:
    """Remove the empty folders of /kubarium/`path` from every tree; ones in use stay."""
    for tree in hierarchies().all:
        for folder in sorted(_below(tree / OURS / path), key=lambda p: len(p.parts), reverse=True):
            with contextlib.suppress(OSError):
                folder.rmdir()
        with contextlib.suppress(OSError):
            (tree / OURS).rmdir()


def names() -> set[str]:
    """Clusters that have a cgroup."""
    return {
        p.name for tree in hierarchies().all if (tree / OURS).is_dir() for p in (tree / OURS).iterdir() if p.is_dir()
    }


def _below(folder: Path) -> list[Path]:
    return [Path(where) for where, _, _ in os.walk(folder)]


def _signal_all(path: str) -> None:
    for pid in pids(path) - {os.getpid()}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _write_all(files: list[Path], text: str) -> None:
    for file in files:
        with contextlib.suppress(OSError):
            file.write_text(text)
