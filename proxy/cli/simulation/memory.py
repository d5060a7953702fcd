"""Recall without a store: the words of one conversation's messages, and what bears on a new one.

No vectors are made: a policy that recalls by them is answered as one whose model is out of reach, so keywords serve.
"""

import sys
from array import array
from collections.abc import Callable, Sequence

from proxy.cli.simulation.branch import Branches
from proxy.cli.simulation.transcript import Exchange, Weighed
from proxy.context.contract import Embed, Pick, Recall, Recalled, Search
from proxy.context.recall import Answers, Needs, recall
from proxy.context.words import words
from proxy.conversation.entry import Entry
from proxy.conversation.words import Found, Words
from proxy.stores.picking import posting
from proxy.tokens import counter


class Memory:
    """Searches the chain that `branches` loaded last."""

    def __init__(self, branches: Branches) -> None:
        self._branches = branches
        self._words: dict[str, tuple[Words, ...]] = {}
        self._indexed: list[str] = []
        """The ids of the entries, from the root on, that the two below hold."""
        self._postings: dict[bytes, array[int]] = {}
        self._length = 0

    def add(self, entry: Entry, exchange: Exchange) -> None:
        """What was said becomes searchable."""
        self._words[entry.id] = tuple(words(message.text) for message, _ in (*exchange.new, *exchange.reply))

    def recall(
        self, asked: Weighed, settings: Recall, exchange: Exchange, window_start: int, now_ms: int
    ) -> Recalled | None:
        """What bears on the message `asked` of the turns before `window_start`."""
        steps = recall(
            asked.message.text,
            settings,
            window_start=window_start,
            texts=lambda wire: [(message.role, message.text) for message in exchange.dialect.messages(wire)],
            count=lambda text: counter.count_text(text, exchange.model),
            now_ms=now_ms,
        )
        try:
            need = next(steps)
            while True:
                need = steps.send(self._answer(need))
        except StopIteration as stop:
            recalled: Recalled | None = stop.value
            return recalled

    def _answer(self, need: Needs) -> Answers:
        match need:
            case Search():
                positions = need.choose(self._found(need.terms, need.wanted))
                return self._branches.pick(positions) if positions else []
            case Pick():
                return self._branches.pick(need.positions)
            case Embed():
                return None

    def _found(self, terms: Sequence[bytes], wanted: Callable[[int, Sequence[int]], Sequence[bool]]) -> Found:
        line = self._branches.line
        if self._indexed and (len(line) < len(self._indexed) or line[len(self._indexed) - 1].id != self._indexed[-1]):
            # another branch
            self._indexed, self._postings, self._length = [], {}, 0
        for entry in line[len(self._indexed) :]:
            self._index(entry)
        held = [self._postings.get(term) or array("Q") for term in terms]
        messages, counts = line[-1].upto if line else 0, list(map(len, held))
        kept = zip(held, counts, wanted(messages, counts), strict=True)
        return Found(messages, self._length, tuple(_bytes(each) if want else count for each, count, want in kept))

    def _index(self, entry: Entry) -> None:
        for position, each in enumerate(self._words[entry.id], entry.first):
            self._length += each.length
            for term, count in each.terms:
                self._postings.setdefault(term, array("Q")).append(posting(position, each.length, count))
        self._indexed.append(entry.id)


def _bytes(numbers: "array[int]") -> bytes:
    """Little-endian."""
    if sys.byteorder == "big":
        numbers = numbers[:]
        numbers.byteswap()
    return numbers.tobytes()
