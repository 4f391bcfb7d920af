"""Network namespaces and mounts by bare system calls.

The supervisor and the jobs it forks before its imports are paid need these at once; the standard library has them only
from Python 3.12 on.
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

from kubarium.machinery.errors import NetworkError

CLONE_NEWNET = 0x40000000
MS_REMOUNT, MS_BIND, MS_REC, MS_SHARED = 0x20, 0x1000, 0x4000, 1 << 20
MNT_DETACH = 2
PR_SET_PDEATHSIG, PR_SET_NAME = 1, 15
_libc = ctypes.CDLL(None, use_errno=True)


def _call(what: str, result: int) -> None:
    if result != 0:
        code = ctypes.get_errno()
        raise NetworkError(f"{what}: {os.strerror(code)}") from OSError(code, os.strerror(code))


def enter_netns(path: str | Path) -> None:
    """Move the calling thread into the network namespace at `path`. Raises NetworkError, FileNotFoundError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _call(f"enter {path}", _libc.setns(fd, CLONE_NEWNET))
    finally:
        os.close(fd)


def new_netns() -> None:
    """Move the calling thread into a fresh network namespace."""
    _call("make a network namespace", _libc.unshare(CLONE_NEWNET))


def name_netns(source: str | Path, target: Path) -> None:
    """Give the namespace file `source` (/proc/PID/ns/net) the name `target` below /run/netns, as `ip netns` does.

    A target that names another namespace is replaced.
    """
    target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _share_mounts(target.parent)
    if is_same_netns(source, target):
        return
    unname_netns(target)
    target.touch(mode=0o444)
    try:
        _call(f"mount {target}", _libc.mount(os.fsencode(source), os.fsencode(target), None, MS_BIND, None))
    except NetworkError:
        target.unlink(missing_ok=True)
        raise


def unname_netns(target: Path) -> None:
    """Take the name away; the namespace goes when no process is in it."""
    unmount(target)
    target.unlink(missing_ok=True)


def is_same_netns(one: str | Path, other: str | Path) -> bool:
    """Whether both files are names of one namespace. False when either is missing or no namespace."""
    try:
        a, b = Path(one).stat(), Path(other).stat()
    except OSError:
        return False
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def is_netns(path: Path) -> bool:
    """Whether `path` is a mounted namespace, not a file left over from a lost mount."""
    try:
        return path.stat().st_dev == Path("/proc/self/ns/net").stat().st_dev
    except OSError:
        return False


def unmount(target: Path) -> None:
    """Lazily unmount everything stacked on `target`; nothing mounted there is fine."""
    while _libc.umount2(os.fsencode(target), MNT_DETACH) == 0:
        pass


def make_writable(point: str) -> None:
    """Mount anew for writing what a container runtime has mounted read-only. Raises NetworkError."""
    _call(f"remount {point}", _libc.mount(None, os.fsencode(point), None, MS_REMOUNT | MS_BIND, None))


def set_process_name(name: str) -> None:
    """The name in /proc/PID/comm, which `ps` and `top` show: 15 characters."""
    _libc.prctl(PR_SET_NAME, os.fsencode(name[:15]), 0, 0, 0)


def set_parent_death_signal(number: int) -> None:
    """Have the kernel send this process a signal when the thread that started it ends."""
    _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)


def _share_mounts(folder: Path) -> None:
    """Make /run/netns a shared mount of its own, as `ip netns add` does: names then reach other mount namespaces."""
    marker = f" {folder} "
    if any(marker in line for line in Path("/proc/self/mountinfo").read_text().splitlines()):
        return
    path = os.fsencode(folder)
    _call(f"mount {folder}", _libc.mount(path, path, None, MS_BIND | MS_REC, None))
    _call(f"mount {folder}", _libc.mount(None, path, None, MS_SHARED | MS_REC, None))
