"""The chains of one conversation while it is replayed: read as from a store, but kept in memory."""

from bisect import bisect_left, bisect_right
from collections.abc import Generator, Sequence
from operator import attrgetter
from typing import TypeVar

from proxy.context.contract import Read
from proxy.conversation.entry import Chain, Entry, Preamble
from proxy.conversation.summary import Summary
from proxy.stores.picking import kept_from, shown

_T = TypeVar("_T")

_upto = attrgetter("upto")
_tokens_upto = attrgetter("tokens_upto")


class Branches:
    """All entries of a conversation, and the branch that is being read."""

    def __init__(self) -> None:
        self.summaries: list[Summary] = []
        """All of the conversation, in the order in which they were made."""
        self._entries: dict[str, Entry] = {}
        self._line: list[Entry] = []

    def add(self, entry: Entry) -> None:
        self._go(entry.parent)
        self._entries[entry.id] = entry
        self._line.append(entry)

    @property
    def line(self) -> Sequence[Entry]:
        """From the root to the entry that was loaded or added last."""
        return self._line

    def load(self, head: str, *, key: str, reach: int | None, preamble: Preamble | None) -> Chain | None:
        """What `Store.load` gives for the entry `head`; None where it is ""."""
        if not head:
            return None
        self._go(head)
        line = self._line
        end = line[-1]
        kept = kept_from(end, key)
        if kept is not None:
            first = bisect_right(line, kept, key=_upto)
        elif reach is None:
            first = 0
        else:
            first = bisect_right(line, end.tokens_upto - reach, key=_tokens_upto)
        entries = tuple(line[min(first, len(line) - 1) :])
        summaries = shown(end, entries, self.summaries)
        return Chain(end, entries, preamble, end.id, whole=False, summaries=summaries)

    def read(self, need: Read) -> Sequence[Entry]:
        """What `Store.read` gives for the chain that was loaded last."""
        line = self._line
        return line[bisect_right(line, need.first, key=_upto) : bisect_left(line, need.upto, key=_upto) + 1]

    def pick(self, positions: Sequence[int]) -> Sequence[Entry]:
        """The entries of that chain that hold these positions, oldest first."""
        line = self._line
        places = {bisect_right(line, position, key=_upto) for position in positions}
        return [line[place] for place in sorted(places) if place < len(line)]

    def answer(self, steps: Generator[Read, Sequence[Entry], _T]) -> _T:
        """Runs a planner on the chain that was loaded last."""
        try:
            need = next(steps)
            while True:
                need = steps.send(self.read(need))
        except StopIteration as stop:
            done: _T = stop.value
            return done

    def between(self, first: int, upto: int) -> Sequence[Entry]:
        """The entries of that chain that hold a position in [first, upto)."""
        return self.read(Read(first, upto)) if first < upto else ()

    def _go(self, id: str) -> None:
        """Makes the line the one that ends with this entry."""
        back: list[Entry] = []
        while id and not self._on_line(id):
            back.append(self._entries[id])
            id = back[-1].parent
        keep = bisect_left(self._line, self._entries[id].upto, key=_upto) + 1 if id else 0
        if back or keep < len(self._line):
            self._line[keep:] = reversed(back)

    def _on_line(self, id: str) -> bool:
        line = self._line
        index = bisect_left(line, self._entries[id].upto, key=_upto)
        return index < len(line) and line[index].id == id
