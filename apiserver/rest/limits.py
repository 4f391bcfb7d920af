"""How many requests may be under way at once, and who is next when there are as many.

A full server lets a few requests of each user wait and takes the users in turn, so that one busy client cannot starve
the others; what comes beyond that gets 429 at once, rather than making everybody wait.
Source: Kubernetes documentation, "API Priority and Fairness" (queues by flow, served in turn; waits a quarter of the
request's time at most).
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from apiserver.rest.metrics import Metrics
from kubarium.machinery.errors import TooManyRequests

READ_ONLY, MUTATING = "readOnly", "mutating"
WAIT_S = 15.0

Turn = asyncio.Future[None]


class Limits:
    """Long-running requests (watch, log, exec) are counted but not limited: they cost little once they stand."""

    def __init__(self, metrics: Metrics, *, read_only: int, mutating: int, wait_s: float = WAIT_S) -> None:
        """A limit of 0 is none."""
        self.metrics = metrics
        self._limit = {READ_ONLY: read_only, MUTATING: mutating}
        self._waiting = {READ_ONLY: Queues(read_only), MUTATING: Queues(mutating)}
        self._wait_s = wait_s

    def enter(self, kind: str) -> bool:
        """Take a place if one is free; `leave` it afterwards. False: wait with `turn`."""
        in_flight = self.metrics.in_flight
        if 0 < self._limit[kind] <= in_flight[kind]:
            return False
        in_flight[kind] += 1
        return True

    async def turn(self, kind: str, user: str) -> None:
        """Wait for a place; `leave` it afterwards. Raises TooManyRequests with retryAfterSeconds."""
        queues = self._waiting[kind]
        turn: Turn = asyncio.get_running_loop().create_future()
        if not queues.join(user, turn):
            raise self._refusal()
        try:
            async with asyncio.timeout(self._wait_s):
                await turn
        except TimeoutError as err:
            queues.drop(user, turn)
            if not turn.done() or turn.cancelled():  # else the place came at the last moment
                raise self._refusal() from err
        except asyncio.CancelledError:
            queues.drop(user, turn)
            if turn.done() and not turn.cancelled():
                self.leave(kind)
            raise

    def leave(self, kind: str) -> None:
        """Give the place back: to who is next, if somebody waits."""
        if (turn := self._waiting[kind].next()) is not None:
            turn.set_result(None)
        else:
            self.metrics.in_flight[kind] -= 1

    @asynccontextmanager
    async def admitted(self, kind: str, user: str) -> AsyncIterator[None]:
        """Raises TooManyRequests with retryAfterSeconds."""
        if not self.enter(kind):
            await self.turn(kind, user)
        try:
            yield
        finally:
            self.leave(kind)

    @contextmanager
    def long_running(self, verb: str) -> Iterator[None]:
        self.metrics.long_running[verb] += 1
        try:
            yield
        finally:
            self.metrics.long_running[verb] -= 1

    def _refusal(self) -> TooManyRequests:
        self.metrics.rejected += 1
        return TooManyRequests("Too many requests, please try again later.", details={"retryAfterSeconds": 1})


class Queues:
    """Who waits for a place, user by user. A user has at most a quarter of the limit waiting, all together the limit;
    one who has nothing waiting may always join (up to four times the limit)."""

    def __init__(self, limit: int) -> None:
        self._per_user = max(1, limit // 4)
        self._limit = max(1, limit)
        self._size = 0
        self._users: OrderedDict[str, deque[Turn]] = OrderedDict()

    def join(self, user: str, turn: Turn) -> bool:
        """False where the queue is full."""
        mine = self._users.get(user)
        if mine is None:
            if self._size >= 4 * self._limit:
                return False
            mine = self._users[user] = deque()
        elif len(mine) >= self._per_user or self._size >= self._limit:
            return False
        mine.append(turn)
        self._size += 1
        return True

    def drop(self, user: str, turn: Turn) -> None:
        """Its caller has gone; nothing where it is no longer there."""
        mine = self._users.get(user)
        if mine is not None and turn in mine:
            mine.remove(turn)
            self._size -= 1
            if not mine:
                del self._users[user]

    def next(self) -> Turn | None:
        """The first of the user whose turn it is; he goes behind the other users."""
        while self._users:
            user, mine = self._users.popitem(last=False)
            turn = mine.popleft()
            self._size -= 1
            if mine:
                self._users[user] = mine
            if not turn.done():
                return turn
        return None
