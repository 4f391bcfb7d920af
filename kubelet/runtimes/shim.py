"""The parent of one host-runtime process: owns its output, writes its log and its exit file, outlives the kubelet.

Run as `python -I -S shim.py FOLDER` inside the pod's network namespace, in a session of its own. Standard library
only, and little of that: one such process stands beside every container of the host runtime. It reads
FOLDER/spec.json, answers one JSON line on its standard output ({"pid": ..., "ticks": ...} or {"error": ...}), writes
FOLDER/log in the CRI log format (`TIME stdout|stderr F|P TEXT`) and at the end FOLDER/exit.json.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import select
import signal
import sys
import time
from typing import Any

LOG_LIMIT_BYTES = 10 << 20
DRAIN_LIMIT_BYTES = 1 << 20
TIOCSCTTY = 0x540E
COMMAND_NOT_FOUND, COMMAND_REFUSED = 127, 126


class Log:
    """Lines of both streams, stamped; past LOG_LIMIT_BYTES the file becomes log.1 and a new one begins."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def write(self, stream: bytes, data: bytes) -> None:
        now = time.time_ns()
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9)) + f".{now % 10**9:09d}Z"
        prefix = stamp.encode() + b" " + stream
        lines = data.split(b"\n")
        whole = [prefix + b" F " + line + b"\n" for line in lines[:-1]]
        text = b"".join(whole) + (prefix + b" P " + lines[-1] + b"\n" if lines[-1] else b"")
        os.write(self._fd, text)
        self._size += len(text)
        if self._size > LOG_LIMIT_BYTES:
            os.rename(self._path, self._path + ".1")  # noqa: PTH104
            os.close(self._fd)
            self._fd, self._size = self._open(), 0


def write_json(path: str, value: dict[str, Any]) -> None:
    """Whole or not at all: a reader never sees a half-written file."""
    with open(path + ".new", "w") as file:  # noqa: PTH123
        json.dump(value, file)
    os.rename(path + ".new", path)  # noqa: PTH104


def start_ticks(pid: int) -> int:
    """When a process began, in clock ticks since boot: tells it from a later one of the same ID."""
    with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
        return int(file.read().rsplit(b")", 1)[1].split()[19])


def spawn(spec: dict[str, Any]) -> tuple[int, dict[int, bytes]]:
    """Start the process: its ID and the descriptors of its output with their names. Raises OSError if exec fails."""
    if spec["tty"]:
        master, slave = os.openpty()
        outputs, child_fds = {master: b"stdout"}, (slave, slave, slave)
    else:
        null = os.open("/dev/null", os.O_RDONLY)
        (out_read, out_write), (err_read, err_write) = os.pipe(), os.pipe()
        outputs, child_fds = {out_read: b"stdout", err_read: b"stderr"}, (null, out_write, err_write)
    report_read, report_write = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(spec, child_fds, report_write)
    for fd in {*child_fds, report_write}:
        os.close(fd)
    failure = os.read(report_read, 512)
    os.close(report_read)
    if failure:
        os.waitpid(pid, 0)
        code, _, text = failure.decode().partition(" ")
        raise OSError(int(code), text)
    return pid, outputs


def _become(spec: dict[str, Any], fds: tuple[int, int, int], report: int) -> None:
    """In the child: set up and exec; what goes wrong is told to the parent through `report`."""
    try:
        os.setsid()
        for number, fd in enumerate(fds):
            os.dup2(fd, number)
        if spec["tty"]:
            fcntl.ioctl(0, TIOCSCTTY, 0)
        for procs in spec["cgroup_procs"]:
            with open(procs, "w") as file:  # noqa: PTH123
                file.write("0")
        for number in (signal.SIGPIPE, signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        os.umask(0o022)
        os.chdir(spec["cwd"])
        if spec["uid"] is not None:
            os.setgroups(spec["groups"])
            os.setgid(spec["gid"])
            os.setuid(spec["uid"])
        os.execvpe(spec["argv"][0], spec["argv"], spec["env"])
    except OSError as err:
        os.write(report, f"{err.errno or errno.EIO} {err.strerror}".encode())
    finally:
        os._exit(COMMAND_NOT_FOUND)


def kill_all(procs_files: list[str]) -> None:
    """SIGKILL to what the process left behind in its cgroup."""
    for path in procs_files:
        try:
            with open(path) as file:  # noqa: PTH123
                pids = [int(line) for line in file.read().split()]
        except OSError:
            continue
        for pid in pids:
            try:  # noqa: SIM105  (contextlib is not worth its memory here)
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


def main(folder: str) -> None:
    with open(f"{folder}/spec.json") as file:  # noqa: PTH123
        spec = json.load(file)
    answer = os.dup(1)
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    log = Log(f"{folder}/log")
    began = time.time()
    try:
        pid, outputs = spawn(spec)
    except OSError as err:
        text = f"exec: {spec['argv'][0]!r}: {(err.strerror or str(err)).lower()}"
        code = COMMAND_NOT_FOUND if err.errno == errno.ENOENT else COMMAND_REFUSED
        write_json(f"{folder}/exit.json", {"exit_code": code, "error": text, "started_at": 0.0, "finished_at": began})
        os.write(answer, json.dumps({"error": text}).encode() + b"\n")
        return
    status = {"pid": pid, "ticks": start_ticks(pid), "shim": os.getpid(), "shim_ticks": start_ticks(os.getpid())}
    write_json(f"{folder}/status.json", status | {"started_at": began})
    os.write(answer, json.dumps(status).encode() + b"\n")
    os.close(answer)
    code = pump(pid, outputs, log, wake_read)
    kill_all(spec["cgroup_procs"])
    drain(outputs, log)
    write_json(f"{folder}/exit.json", {"exit_code": code, "error": "", "started_at": began, "finished_at": time.time()})


def pump(pid: int, outputs: dict[int, bytes], log: Log, wake: int) -> int:
    """Copy output to the log until the process ends, whoever else may still hold its pipes; gives the exit code."""
    poll = select.poll()
    for fd in (*outputs, wake):
        poll.register(fd, select.POLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == wake:
                os.read(wake, 512)
            elif not copy(fd, outputs[fd], log):
                poll.unregister(fd)
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def copy(fd: int, stream: bytes, log: Log) -> int:
    """Move what is there, at most 64 KiB; 0 at the end of the stream."""
    try:
        data = os.read(fd, 65536)
    except OSError:  # a terminal whose last user has gone
        return 0
    if data:
        log.write(stream, data)
    return len(data)


def drain(outputs: dict[int, bytes], log: Log) -> None:
    """Copy what the ended process left in its pipes, without waiting for more."""
    for fd, stream in outputs.items():
        left = DRAIN_LIMIT_BYTES
        while left > 0 and select.select([fd], [], [], 0)[0] and (size := copy(fd, stream, log)):
            left -= size


if __name__ == "__main__":
    main(sys.argv[1])
