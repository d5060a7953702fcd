"""One connection to one server, shared by all that is asked: commands go out as they come, answers return in order.

A client library's pool hands a connection to one caller at a time and costs about 100 µs of CPU a command; this costs
about 14, and callers that come together share the system calls. So no command that blocks may be sent here.
"""

import asyncio
import socket
import ssl
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias, cast

import hiredis

from proxy.errors import StoreUnavailable
from proxy.stores.redis.address import Address
from proxy.stores.redis.refusal import Refusal, meaning, unreachable

MOST_WAITING = 10_000
"""Commands that wait for their answers."""
MOST_UNSENT = 64 * 1024 * 1024
"""Bytes that the server has not taken yet."""

Reply: TypeAlias = "bytes | int | list[Reply] | None"
Argument = bytes | str | int
Answer = asyncio.Future["Reply | hiredis.ReplyError"]


class Connection(asyncio.Protocol):
    """`lost` is called once, when no answer will come any more; `told` with each message of a channel."""

    def __init__(
        self, address: Address, lost: "Callable[[Connection], None]", told: Callable[[Reply], None] | None = None
    ) -> None:
        self._address = address
        self._lost = lost
        self._told = told
        self._reader = hiredis.Reader(notEnoughData=_MORE)
        self._waiting: deque[tuple[float, Answer]] = deque()
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._watch: asyncio.TimerHandle | None = None
        self.closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's is none by its class
        self._transport = cast("asyncio.Transport", transport)
        wire = transport.get_extra_info("socket")
        if wire is not None and wire.family != socket.AF_UNIX:
            # a server that is gone without a word shall not be found out by a request
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def send(self, *arguments: Argument) -> Answer:
        """Sent when this returns, whatever becomes of who waits for the answer. A refusal is a result, not an error;
        StoreUnavailable where none will come."""
        answer: Answer = self._loop.create_future()
        if self.closed or self._transport is None:
            answer.set_exception(self._gone())
        elif len(self._waiting) >= MOST_WAITING or self._transport.get_write_buffer_size() > MOST_UNSENT:
            answer.set_exception(StoreUnavailable(f"Redis at {self._address} has too much waiting; try again."))
        else:
            self._waiting.append((time.monotonic() + self._address.timeout_s, answer))
            self._transport.write(hiredis.pack_command(arguments))  # type: ignore[arg-type]
            if self._watch is None:
                self._watch = self._loop.call_later(self._address.timeout_s / 4, self._look)
        return answer

    def data_received(self, data: bytes) -> None:
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _MORE:
                if self._told is not None and isinstance(reply, list) and reply[0] == b"message":
                    self._told(reply)
                    continue
                if not self._waiting:
                    # what nobody asked for: the server says why it closes the connection
                    self.drop(StoreUnavailable(meaning(f"{reply}", self._address)))
                    return
                _, answer = self._waiting.popleft()
                if not answer.done():
                    answer.set_result(reply)
        except hiredis.ProtocolError:
            self.drop(StoreUnavailable(f"What answers at {self._address} does not speak Redis; check the store's URL."))

    def connection_lost(self, _: Exception | None) -> None:
        self.drop(self._gone())

    def _look(self) -> None:
        self._watch = None
        if self._waiting and self._waiting[0][0] <= time.monotonic():
            waited = f"did not answer within {self._address.timeout_s:g} s"
            self.drop(StoreUnavailable(f"Redis at {self._address} {waited}; check the server."))
        elif self._waiting:
            self._watch = self._loop.call_later(self._address.timeout_s / 4, self._look)

    def _gone(self) -> StoreUnavailable:
        return StoreUnavailable(f"The connection to Redis at {self._address} was lost; check the server.")

    async def finish(self) -> None:
        """Waits for the answers to all that was sent, then ends it."""
        if self._waiting:
            await asyncio.wait([self._waiting[-1][1]], timeout=self._address.timeout_s)
        self.drop()

    def drop(self, error: StoreUnavailable | None = None) -> None:
        """Ends it; who still waits is told `error`."""
        if not self.closed:
            self.closed = True
            if self._transport is not None:
                self._transport.abort()
            if self._watch is not None:
                self._watch.cancel()
            while self._waiting:
                _, answer = self._waiting.popleft()
                if not answer.done():
                    # each its own: who catches one may mark it
                    answer.set_exception(StoreUnavailable(error.message) if error else self._gone())
            self._lost(self)


class _More:
    """What the parser returns when an answer is not whole yet."""


_MORE = _More()


class Link:
    """The connection to a server, made when it is needed and made again after it was lost."""

    def __init__(self, address: Address, told: Callable[[Reply], None] | None = None) -> None:
        """`told`: see `Connection`."""
        self.address = address
        self._told = told
        self._connection: Connection | None = None
        self._connecting: asyncio.Task[Connection] | None = None
        self._queued = 0

    async def ask(self, *arguments: Argument) -> Reply:
        """Raises StoreUnavailable if there is no answer, Refusal if the server does not do it."""
        connection = self._connection or await self._connect()
        reply = await connection.send(*arguments)
        if isinstance(reply, hiredis.ReplyError):
            raise self.refused(reply)
        return reply

    async def ask_away(self, *arguments: Argument) -> Reply:
        """Of a key that is on its way to this server."""
        connection = self._connection or await self._connect()
        connection.send("ASKING").add_done_callback(lambda done: done.cancelled() or done.exception())
        reply = await connection.send(*arguments)
        if isinstance(reply, hiredis.ReplyError):
            raise self.refused(reply)
        return reply

    def tell(self, *arguments: Argument) -> Answer | None:
        """Sent behind all that was asked before, without connecting for it."""
        return self._connection.send(*arguments) if self._connection else None

    def refused(self, reply: "hiredis.ReplyError") -> Refusal:
        refusal = Refusal(str(reply), self.address)
        if refusal.elsewhere and self._connection:
            # the name may lead to another server by now
            self._connection.drop()
        return refusal

    async def _connect(self) -> Connection:
        if self._queued >= MOST_WAITING:
            raise StoreUnavailable(f"Redis at {self.address} has too much waiting; try again.")
        if self._connecting is None:
            self._connecting = asyncio.get_running_loop().create_task(self._make())
            self._connecting.add_done_callback(self._made)
        self._queued += 1
        making = self._connecting
        try:
            return await asyncio.shield(making)
        except StoreUnavailable as error:
            # each its own: who catches one may mark it
            raise StoreUnavailable(error.message) from None
        except asyncio.CancelledError:
            if making.cancelled():
                raise StoreUnavailable("The store is closed; the proxy is stopping, send the request again.") from None
            raise
        finally:
            self._queued -= 1

    def _made(self, task: asyncio.Task[Connection]) -> None:
        self._connecting = None
        if not task.cancelled() and task.exception() is None and not task.result().closed:
            self._connection = task.result()

    def _forget(self, connection: Connection) -> None:
        if self._connection is connection:
            self._connection = None

    async def _make(self) -> Connection:
        connection: Connection | None = None
        try:
            async with asyncio.timeout(self.address.timeout_s):
                connection = await self._reach()
                await self._greet(connection)
        except TimeoutError:
            error = StoreUnavailable(f"Redis at {self.address} cannot be reached in time; check the server.")
        except OSError as failure:
            error = StoreUnavailable(f"Redis at {self.address} {unreachable(failure)}.")
        except StoreUnavailable as failure:
            error = failure
        except BaseException:
            if connection is not None:
                connection.drop()
            raise
        else:
            return connection
        if connection is not None:
            connection.drop(error)
        raise error

    async def _reach(self) -> Connection:
        address, loop = self.address, asyncio.get_running_loop()
        if address.path:
            return (await loop.create_unix_connection(self._protocol, address.path))[1]
        trust = await self._trust() if address.tls else None
        return (await loop.create_connection(self._protocol, address.host, address.port, ssl=trust))[1]

    async def _trust(self) -> ssl.SSLContext | None:
        try:
            # reading certificates takes a while
            return await asyncio.to_thread(self.address.context)
        except OSError as failure:
            raise StoreUnavailable(
                f"Redis at {self.address} cannot be trusted: {self.address.ca} holds no certificates that can be read; "
                "check ssl_ca_certs in the store's URL."
            ) from failure

    def _protocol(self) -> Connection:
        return Connection(self.address, self._forget, self._told)

    async def _greet(self, connection: Connection) -> None:
        address = self.address
        answers = []
        if address.password:
            user = [address.user] if address.user else []
            answers.append(connection.send("AUTH", *user, address.password))
        if address.db:
            answers.append(connection.send("SELECT", address.db))
        answers.append(connection.send("PING"))
        for reply in await asyncio.gather(*answers):
            if isinstance(reply, hiredis.ReplyError):
                raise Refusal(str(reply), address)

    async def close(self) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        if self._connection is not None:
            await self._connection.finish()
