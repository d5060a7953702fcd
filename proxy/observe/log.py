"""One JSON line an exchange, on standard output. Never content, never a credential."""

import asyncio
import os
import select
import sys
from collections.abc import Iterator

import msgspec

from proxy.exchange.record import ExchangeRecord

LINES_AT_MOST = 10_000
"""Lines that wait for a slow reader of the log; beyond, they are dropped and counted."""
FLUSH_S = 0.05

_json = msgspec.json.Encoder().encode


class Log:
    """Lines are gathered and written off the event loop, so that a slow terminal slows no request."""

    def __init__(self, descriptor: int | None = None) -> None:
        self._descriptor = sys.stdout.fileno() if descriptor is None else descriptor
        self._lines: list[bytes] = []
        self._dropped = 0
        self._told = False
        self._flushing: asyncio.Task[None] | None = None

    def exchange(self, record: ExchangeRecord) -> None:
        if len(self._lines) >= LINES_AT_MOST:
            self._dropped += 1
            return
        self._lines.append(_json(record))
        if self._flushing is None:
            self._flushing = asyncio.get_running_loop().create_task(self._flush_soon())

    async def close(self) -> None:
        """Writes what is waiting."""
        if self._flushing is not None:
            await self._flushing
        if self._lines:
            await asyncio.to_thread(self._write, self._taken())

    async def _flush_soon(self) -> None:
        try:
            await asyncio.sleep(FLUSH_S)
            await asyncio.to_thread(self._write, self._taken())
        finally:
            self._flushing = None
        if self._lines:
            self._flushing = asyncio.get_running_loop().create_task(self._flush_soon())

    def _taken(self) -> list[bytes]:
        lines, self._lines = self._lines, []
        if self._dropped:
            lines.append(b'{"event":"log_lines_dropped","count":%d}' % self._dropped)
            self._dropped = 0
        return lines

    def _write(self, lines: list[bytes]) -> None:
        try:
            for piece in _pieces(lines):
                view = memoryview(piece)
                while view:
                    view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            # nobody reads the log any more: that is no reason to serve worse, or to stop in disorder
            if not self._told:
                print(f"the log cannot be written: {error.strerror}", file=sys.stderr, flush=True)  # noqa: T201
            self._told = True


def _pieces(lines: list[bytes]) -> Iterator[bytes]:
    """Whole lines in pieces that a pipe takes at once: several workers may write to the same one."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) + 1 > select.PIPE_BUF:
            yield b"".join(piece)
            piece, size = [], 0
        piece += (line, b"\n")
        size += len(line) + 1
    yield b"".join(piece)
