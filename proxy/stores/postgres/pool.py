"""The connections: so many at most, opened when they are needed, given up when they fail.

The driver's own pool asks the server to reset each connection after each use, a second round trip for every call;
here nothing is ever set on a connection, so there is nothing to reset.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import asyncpg

from proxy.errors import StoreUnavailable
from proxy.stores.postgres import failures

T = TypeVar("T")
if TYPE_CHECKING:
    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record]
else:
    Connection = asyncpg.Connection  # generic for the type checker only

ACQUIRE_S = 5.0
MOST_WAITING = 10_000


class Pool:
    """`connect` opens a connection. `shown` is the server's name in messages."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], most: int, shown: str) -> None:
        self._connect = connect
        self._most = most
        self.shown = shown
        self._count = 0
        """Open, or being opened."""
        self._idle: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._used: set[Connection] = set()
        self._closed = False

    async def use(self, ask: Callable[[Connection], Awaitable[T]]) -> T:
        """What `ask` answers, given a connection of its own for that long. Raises StoreUnavailable, and whatever
        else a mistake leads to. If the waiting task is cancelled, the connection is given up."""
        connection = self._take() or await self._wait()
        self._used.add(connection)
        try:
            answer = await ask(connection)
        except Exception as error:
            failure = failures.unavailable(error, self.shown)
            if failure and failures.stale(error):
                self._drop_idle()
                self._give_up(connection)
            elif isinstance(error, asyncpg.PostgresError) and not connection.is_closed():
                self._give_back(connection)
            else:
                self._give_up(connection)
            if failure:
                raise failure from error
            raise
        except BaseException:
            self._give_up(connection)
            raise
        self._give_back(connection)
        return answer

    def close(self) -> None:
        """Ends all connections, and whatever is under way on them."""
        self._closed = True
        self._drop_idle()
        for connection in tuple(self._used):
            connection.terminate()
        for future in self._waiting:
            if not future.done():
                future.set_result(None)

    def _take(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
            self._count -= 1
        return None

    async def _wait(self) -> Connection:
        if self._count >= self._most:
            if len(self._waiting) >= MOST_WAITING:
                raise StoreUnavailable("Too many requests wait for the database; send fewer at once.", retry_after_s=1)
            future: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            try:
                async with asyncio.timeout(ACQUIRE_S):
                    connection = await future
            except BaseException as error:
                self._turn_away(future)
                if isinstance(error, TimeoutError):
                    raise StoreUnavailable(
                        f"{self.shown} is too slow: no connection became free in {ACQUIRE_S:.0f} s.", retry_after_s=1
                    ) from None
                raise
            if connection:
                return connection
            # one was given up: its place is this one's, to open another in
        else:
            self._count += 1
        try:
            self._open_still()
            connection = await self._connect()
        except Exception as error:
            self._leave()
            failure = failures.unavailable(error, self.shown)
            if failure:
                raise failure from error
            raise
        except BaseException:
            self._leave()
            raise
        if self._closed:
            connection.terminate()
            self._leave()
        self._open_still()
        return connection

    def _open_still(self) -> None:
        if self._closed:
            raise StoreUnavailable("The store is closed; the proxy is stopping, send the request again.")

    def _give_back(self, connection: Connection) -> None:
        self._used.discard(connection)
        if connection.is_closed():
            self._leave()
        elif not self._hand_over(connection):
            self._idle.append(connection)

    def _give_up(self, connection: Connection) -> None:
        self._used.discard(connection)
        if not connection.is_closed():
            connection.terminate()
        self._leave()

    def _leave(self) -> None:
        """A place is free: for the next who waits, or for nobody."""
        if not self._hand_over(None):
            self._count -= 1

    def _turn_away(self, future: "asyncio.Future[Connection | None]") -> None:
        """Who waited for it waits no longer; perhaps a place was just handed over."""
        if not future.done() or future.cancelled():
            if future in self._waiting:
                self._waiting.remove(future)
        elif connection := future.result():
            self._give_back(connection)
        else:
            self._leave()

    def _hand_over(self, connection: Connection | None) -> bool:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(connection)
                return True
        return False

    def _drop_idle(self) -> None:
        for connection in self._idle:
            connection.terminate()
        self._count -= len(self._idle)
        self._idle.clear()
