"""Network namespaces: work inside one, sockets from one, named ones made and deleted as `ip netns` does.

A namespace belongs to a thread: whatever enters one here does so in a thread of its own, so that no other code of the
process finds itself elsewhere. Sockets stay in the namespace where they were made.
"""

from __future__ import annotations

import ctypes
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from kubarium.machinery.errors import NetworkError

P = ParamSpec("P")
R = TypeVar("R")

FOLDER = Path("/run/netns")
CLONE_NEWNET = 0x40000000
MS_BIND, MS_REC, MS_SHARED = 0x1000, 0x4000, 1 << 20
MNT_DETACH = 2
_libc = ctypes.CDLL(None, use_errno=True)


def enter(path: str | Path) -> None:
    """Move the calling thread into the namespace at `path`; for a process of its own, or a thread of its own."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as err:
        raise NetworkError(f"network namespace {path}: {err.strerror}") from err
    try:
        _checked(_libc.setns(fd, CLONE_NEWNET), f"enter network namespace {path}")
    finally:
        os.close(fd)


def run_in_netns(path: str | Path, fn: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call `fn` inside the namespace at `path` and give its result. Blocks: from an event loop use a thread."""

    def inside() -> R:
        enter(path)
        return fn(*args, **kwargs)

    return _in_thread(inside)


def socket_in_netns(
    path: str | Path, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, protocol: int = 0
) -> socket.socket:
    """A socket that lives in the namespace at `path`, for use from anywhere."""
    return run_in_netns(path, socket.socket, family, kind, protocol)


def create(name: str) -> Path:
    """A fresh namespace under /run/netns/NAME, its loopback down. Raises NetworkError if the name is taken."""
    _prepare_folder()
    target = FOLDER / name
    try:
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_RDONLY | os.O_CLOEXEC, 0o444))
    except OSError as err:
        raise NetworkError(f"network namespace {target}: {err.strerror}") from err

    def make() -> None:
        _checked(_libc.unshare(CLONE_NEWNET), "make a network namespace")
        source = f"/proc/self/task/{threading.get_native_id()}/ns/net"
        _checked(_libc.mount(source.encode(), bytes(target), None, MS_BIND, None), f"mount {target}")

    try:
        _in_thread(make)
    except NetworkError:
        target.unlink(missing_ok=True)
        raise
    return target


def delete(name: str) -> None:
    """Take the name away; the namespace itself goes with its last process and socket. A name not there is no error."""
    target = FOLDER / name
    _libc.umount2(bytes(target), MNT_DETACH)
    target.unlink(missing_ok=True)


def names(prefix: str = "") -> list[str]:
    """The named namespaces that begin with `prefix`."""
    return sorted(path.name for path in FOLDER.glob(f"{prefix}*")) if FOLDER.is_dir() else []


def _in_thread(fn: Callable[[], R]) -> R:
    results: list[R] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(fn())
        except BaseException as err:
            errors.append(err)

    thread = threading.Thread(target=run, name="netns", daemon=True)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]


def _prepare_folder() -> None:
    """/run/netns as a shared mount, so that names reach other mount namespaces (a kubelet's, a container's)."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    if f" {FOLDER} " not in Path("/proc/self/mountinfo").read_text():
        path = bytes(FOLDER)
        _checked(_libc.mount(path, path, None, MS_BIND | MS_REC, None), f"mount {FOLDER}")
        _checked(_libc.mount(b"", path, None, MS_SHARED | MS_REC, None), f"share {FOLDER}")


def _checked(result: int, what: str) -> None:
    if result != 0:
        reason = os.strerror(ctypes.get_errno())
        raise NetworkError(f"cannot {what}: {reason}")
