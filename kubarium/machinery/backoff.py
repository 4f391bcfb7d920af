"""How long to wait before trying again."""

from __future__ import annotations

import random


class Backoff:
    """Delays that double from `first_s` to `most_s`, each drawn from its upper half so that clients spread out."""

    def __init__(self, *, first_s: float = 0.1, most_s: float = 3.0) -> None:
        self._first_s = first_s
        self._most_s = most_s
        self._failures = 0

    def next_s(self) -> float:
        """Seconds to wait after one more failure."""
        delay_s: float = min(self._first_s * 2.0 ** min(self._failures, 30), self._most_s)
        self._failures += 1
        return delay_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """The last try worked."""
        self._failures = 0
