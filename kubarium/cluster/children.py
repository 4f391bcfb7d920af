"""Forking without a loop: how the supervisor makes its children, and what a child must shed to be on its own."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from kubarium.cluster import cgroups, namespaces
from kubarium.machinery.errors import ClusterError

MAX_FD = 4096


@dataclass(frozen=True, slots=True)
class Job:
    """A short piece of work in a process of its own; its result comes back as one line of JSON through `reader`."""

    name: str
    pid: int
    reader: int
    done: Callable[[Any], None]
    failed: Callable[[str], None]

    def finish(self) -> None:
        """Called once the process has ended: hand on its result, or why there is none."""
        with os.fdopen(self.reader, "rb") as file:
            text = file.read()
        try:
            answer = json.loads(text)
        except ValueError:
            answer = {"error": "died without a word"}
        if "error" in answer:
            self.failed(answer["error"])
        else:
            self.done(answer["result"])


def fork_job(
    name: str,
    work: Callable[[], Any],
    *,
    log: Path,
    shed: Callable[[], None],
    done: Callable[[Any], None],
    failed: Callable[[str], None],
) -> Job:
    """Run `work` in a child; the result must fit a pipe's buffer (64 KiB) and JSON."""
    reader, writer = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid:
        os.close(writer)
        return Job(name, pid, reader, done, failed)
    _leave_parent(f"kb-{name}", log, shed, keep=(writer,))
    try:
        answer = {"result": work()}
    except ClusterError as err:
        answer = {"error": str(err)}
    except BaseException as err:
        traceback.print_exc()
        answer = {"error": repr(err)}
    with contextlib.suppress(BrokenPipeError):  # the supervisor was killed meanwhile
        os.write(writer, json.dumps(answer).encode())
    return _exit(0)


def fork_component(
    name: str,
    *,
    run: Callable[[], int],
    netns: Path,
    cgroup: str,
    log: Path,
    shed: Callable[[], None],
    keep: Iterable[int] = (),
) -> int:
    """Run a component's `main` in a child that is in the node's namespace and cgroup. Returns its pid."""
    pid = os.fork()
    if pid:
        return pid
    _leave_parent(name, log, shed, keep)
    code = 1
    try:
        cgroups.join(cgroup)
        namespaces.enter_netns(netns)  # before the first gRPC object: its threads take the namespace of their maker
        gc.enable()
        code = run()
    except SystemExit as err:
        code = err.code if isinstance(err.code, int) else 1
    except BaseException:
        traceback.print_exc()
    return _exit(code)


def execute(program: str, argv: Iterable[str]) -> NoReturn:
    """Become another program, found on PATH."""
    os.execvp(program, [program, *argv])


def _leave_parent(name: str, log: Path, shed: Callable[[], None], keep: Iterable[int]) -> None:
    """Drop what belongs to the supervisor: signal handlers, sockets, its output. `keep` stays open."""
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    shed()
    log.parent.mkdir(parents=True, exist_ok=True)
    null = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(null, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    low = 3
    for fd in sorted(set(keep)):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, MAX_FD)
    namespaces.set_process_name(name)


def _exit(code: int) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
