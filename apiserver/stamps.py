"""What new objects are stamped with: uids and times, made cheaply because every write needs them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from kubarium.machinery.times import format_timestamp

UID_B = 16
UIDS_AT_ONCE = 256  # asking the kernel for one gives the interpreter away to whatever other thread wants it
_VARIANT = "89ab89ab89ab89ab"


class Uids:
    """Random UUIDs of version 4. Source: RFC 9562, section 5.4."""

    def __init__(self) -> None:
        self._random = ""
        self._at = 0

    def __call__(self) -> str:
        at = self._at
        if at == len(self._random):
            self._random, at = os.urandom(UIDS_AT_ONCE * UID_B).hex(), 0
        self._at = at + 2 * UID_B
        h = self._random[at : at + 2 * UID_B]
        return f"{h[:8]}-{h[8:12]}-4{h[13:16]}-{_VARIANT[int(h[16], 16)]}{h[17:20]}-{h[20:]}"


class Timestamps:
    """The time as objects carry it, written once a second."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._second = -1
        self._text = ""

    def __call__(self) -> str:
        second = int(self._clock())
        if second != self._second:
            self._second, self._text = second, format_timestamp(second)
        return self._text
