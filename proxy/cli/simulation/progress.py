"""How far a long command is: a bar on a terminal, redrawn in place, and gone when it is done."""

from typing import TextIO

WIDTH = 30


class Progress:
    """Draws on `out` if it is a terminal; says nothing otherwise."""

    def __init__(self, out: TextIO, total: int) -> None:
        self._out = out if total > 0 and out.isatty() else None
        self._total = total
        self._shown = -1

    def at(self, done: float) -> None:
        """So much of the total is done. Drawn once for each percent."""
        percent = min(100, int(100 * done / self._total)) if self._out else -1
        if self._out is None or percent == self._shown:
            return
        self._shown = percent
        filled = WIDTH * percent // 100
        self._out.write(f"\r[{'#' * filled}{'.' * (WIDTH - filled)}] {percent:3d} %")
        self._out.flush()

    def close(self) -> None:
        """Leaves an empty line."""
        if self._out is not None and self._shown >= 0:
            self._out.write(f"\r{' ' * (WIDTH + 8)}\r")
            self._out.flush()
