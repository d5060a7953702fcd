"""One worker under a supervisor: serves on the shared address, and answers the supervisor over a link.

`python -m proxy.worker FD` is started by `proxy.supervisor`; FD is a socket of its own to it, the link. On it the
supervisor sends its settings and policies, then a `?` whenever it wants to know whether the worker can serve. The
worker sends a line when it listens, and one for each `?`: why it cannot serve, nothing if it can. The end of the link
is the end of the supervisor, and stops the worker as SIGTERM does: nobody else would.
"""

import asyncio
import pickle
import signal
import socket
import struct
import sys
from collections.abc import Awaitable, Callable

from proxy.app import load, not_reloaded, running, say, settle
from proxy.cli import reported
from proxy.cli.loop import run_loop
from proxy.errors import SettingsError
from proxy.policy import Policies
from proxy.server.admin import hindrance
from proxy.settings import Settings

_LENGTH = struct.Struct(">I")


def packed(settings: Settings, policies: Policies) -> bytes:
    """What a worker is told at its start."""
    data = pickle.dumps((settings, policies))
    return _LENGTH.pack(len(data)) + data


def main(descriptor: int) -> int:
    link = socket.socket(fileno=descriptor)
    return reported(lambda: run_loop(_work(link, *_unpacked(link))))


def _unpacked(link: socket.socket) -> tuple[Settings, Policies]:
    with link.makefile("rb", buffering=0) as lines:
        (left,) = _LENGTH.unpack(lines.read(_LENGTH.size))
        data = b""
        while len(data) < left and (piece := lines.read(left - len(data))):
            data += piece
    settings, policies = pickle.loads(data)  # noqa: S301 - from our own parent, over a socket without a name
    return settings, policies


async def _work(link: socket.socket, settings: Settings, policies: Policies) -> int:
    link.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=link)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    async with running(settings, policies, shared=True) as here:

        def reload() -> None:
            try:
                here.house.policies = load(settings, here.house.store)
            except SettingsError as error:
                say(not_reloaded(error))

        loop.add_signal_handler(signal.SIGHUP, reload)
        settle()
        answering = asyncio.create_task(_answer(reader, writer, lambda: hindrance(here.house), stop))
        writer.write(b"listening\n")
        await stop.wait()
    answering.cancel()
    writer.close()
    return 0


async def _answer(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    hindrance: Callable[[], Awaitable[str]],
    stop: asyncio.Event,
) -> None:
    try:
        while await reader.read(1):
            writer.write(f"{await hindrance()}\n".encode())
            await writer.drain()
    except ConnectionError:
        pass  # as the end of the link
    stop.set()


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
