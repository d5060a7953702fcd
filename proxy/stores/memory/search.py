"""What entries are found by: their words and vectors, counted anew for each search."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import TypeVar

from proxy.conversation.entry import Entry
from proxy.conversation.words import Choose, Postings, Wanted
from proxy.stores.contract import Index, Ref, Unindexed, Vectors
from proxy.stores.memory.lines import Lines
from proxy.stores.picking import posting, seek

T = TypeVar("T")


def _index(known: dict[str, tuple[T, ...]], entry: Entry, of_each: tuple[T, ...]) -> None:
    if entry.id in known or (entry.parent and entry.parent not in known):
        return
    known[entry.id] = of_each


class Searching(Lines):
    """See the contract."""

    async def index(self, ref: Ref, indexes: Sequence[Index], *, revision: int) -> bool:
        line = self._line(ref)
        if line is None or line.revision != revision:
            return False
        for each in indexes:
            entry = line.branched.get(each.entry)
            for count in (len(each.words), len(each.vectors)):
                if entry and count not in (0, entry.count):
                    raise ValueError(f"entry {entry.id} has {entry.count} messages, not {count}")
        for each in indexes:
            if entry := line.branched.get(each.entry):
                if each.words:
                    _index(line.words, entry, each.words)
                if each.vectors:
                    _index(line.vectors.setdefault(each.model, {}), entry, each.vectors)
        return True

    async def unindexed(self, ref: Ref, entry: str, *, model: str, most: int) -> Unindexed:
        line = self._line(ref)
        if not line:
            return Unindexed(0, ())
        known = line.vectors.get(model, {}) if model else line.words
        return Unindexed(line.revision, [each for each in line.chain(entry) if each.id not in known][:most])

    async def postings(self, ref: Ref, entry: str, terms: Sequence[bytes]) -> Postings | None:
        line = self._line(ref)
        chain = line and line.chain(entry)
        if not line or not chain:
            return None
        length = 0
        found: dict[bytes, list[bytes]] = {term: [] for term in terms}
        for each in chain:
            for position, words in enumerate(line.words.get(each.id, ()), each.first):
                length += words.length
                for term, count in words.terms:
                    if term in found:
                        found[term].append(posting(position, words.length, count).to_bytes(8, "little"))
        return Postings(chain[-1].upto, length, tuple(b"".join(found[term]) for term in terms))

    async def seek(
        self, ref: Ref, entry: str, terms: Sequence[bytes], wanted: Wanted, choose: Choose
    ) -> Sequence[Entry]:
        return await seek(self, ref, entry, terms, wanted, choose)

    async def vectors(self, ref: Ref, entry: str, model: str) -> Vectors | None:
        line = self._line(ref)
        chain = line and line.chain(entry)
        if not line or not chain:
            return None
        kept = line.vectors.get(model, {})
        all = [item for each in chain for item in enumerate(kept.get(each.id, ()), each.first) if item[1]]
        return Vectors(b"".join(at.to_bytes(4, "little") for at, _ in all), b"".join(vector for _, vector in all))

    async def pick(self, ref: Ref, entry: str, positions: Sequence[int]) -> Sequence[Entry]:
        line = self._line(ref)
        chain = line.chain(entry) if line else []
        at = {bisect_right(chain, position, key=lambda each: each.upto) for position in positions if position >= 0}
        return [chain[n] for n in sorted(at) if n < len(chain)]
