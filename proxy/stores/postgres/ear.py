"""The one connection of a store that listens for who moved up in lines, opened again when it is lost.

Without it those who wait ask by themselves now and then, so what befalls it is nobody's failure.
"""

import asyncio
from collections.abc import Awaitable, Callable

from proxy.stores.postgres import failures
from proxy.stores.postgres.pool import Connection
from proxy.stores.waiting import Waiting

CHANNEL = "remora"
FIRST_PAUSE_S = 0.1
LAST_PAUSE_S = 5.0
LOOK_S = 20.0
"""So often it is asked whether it lives: a server that is gone without a word says nothing for ever."""


class Ear:
    """`schema` is the one whose lines are listened for."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]], schema: str, waiting: Waiting[str]) -> None:
        self._connect = connect
        self._schema = schema
        self._waiting = waiting
        self._task: asyncio.Task[None] | None = None

    def open(self) -> None:
        """May be called again and again."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._listen())

    async def close(self) -> None:
        task, self._task = self._task, None
        if task:
            task.cancel()
            await asyncio.wait((task,))

    async def _listen(self) -> None:
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                connection = await self._connect()
            except Exception as error:
                if failures.meaning(error) is None:
                    raise
            else:
                try:
                    await self._use(connection)
                    pause_s = FIRST_PAUSE_S
                except Exception as error:
                    if failures.meaning(error) is None:
                        raise
                finally:
                    self._waiting.hearing = False
                    connection.terminate()
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LAST_PAUSE_S)

    async def _use(self, connection: Connection) -> None:
        """Returns when it is lost."""
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())
        await connection.add_listener(CHANNEL, self._hear)
        self._waiting.hearing = True
        # what happened before is heard by nobody
        self._waiting.hear_all()
        while not connection.is_closed():
            try:
                async with asyncio.timeout(LOOK_S):
                    await lost.wait()
            except TimeoutError:
                await connection.execute("SELECT 1")

    def _hear(self, _connection: object, _pid: int, _channel: str, payload: object) -> None:
        schema, _, tag = f"{payload}".partition(" ")
        if schema == self._schema:
            self._waiting.hear(tag)
