"""A command at a terminal of its own, as somebody sits before it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Sequence

DEADLINE_S = 30.0


class Terminal:
    """Starts the command at once; leaves nothing running."""

    def __init__(self, argv: Sequence[str], *, rows: int = 40, columns: int = 100) -> None:
        self._pid, self._fd = pty.fork()
        if self._pid == 0:
            os.execv(argv[0], list(argv))
        self._seen = b""
        self._code: int | None = None
        self.resize(rows, columns)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self._code is None:
            self.kill()
        os.close(self._fd)

    def kill(self) -> None:
        os.kill(self._pid, signal.SIGKILL)
        self._code = os.waitstatus_to_exitcode(os.waitpid(self._pid, 0)[1])

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        os.kill(self._pid, signal.SIGWINCH)

    def type(self, text: str) -> None:
        os.write(self._fd, text.encode())

    def expect(self, text: str) -> str:
        """What was shown up to and with this text; AssertionError when it does not come."""
        wanted, end = text.encode(), time.monotonic() + DEADLINE_S
        while wanted not in self._seen:
            left_s = end - time.monotonic()
            assert left_s > 0 and self._read(left_s), f"no {text!r} in {self._seen!r}"
        shown, _, self._seen = self._seen.partition(wanted)
        return (shown + wanted).decode(errors="replace")

    def _read(self, limit_s: float) -> bool:
        if not select.select([self._fd], [], [], limit_s)[0]:
            return False
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the command has closed its end
            return False
        self._seen += data
        return bool(data)

    def wait(self) -> int:
        """The exit code; what was shown and not expected is left in `rest`."""
        end = time.monotonic() + DEADLINE_S
        while time.monotonic() < end:
            self._read(0.05)
            pid, status = os.waitpid(self._pid, os.WNOHANG)
            if pid:
                self._code = os.waitstatus_to_exitcode(status)
                while self._read(0):
                    pass
                return self._code
        raise AssertionError(f"still running; last seen: {self._seen!r}")

    @property
    def rest(self) -> str:
        return self._seen.decode(errors="replace")
