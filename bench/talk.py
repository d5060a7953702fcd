"""What is said in the long sessions that recall is measured in: made-up talk, and the stores filled with it."""

import asyncio
import itertools
import random
import re
from collections import Counter
from collections.abc import Sequence
from pydoc_data.topics import topics

import msgspec
import orjson

from bench.load import MODEL
from bench.procs import BenchError
from bench.seed import TTL_S
from proxy.context.words import words
from proxy.conversation.entry import Entry, grow, new_id
from proxy.conversation.message import Message
from proxy.conversation.words import Words
from proxy.stores.contract import Append, Appended, Index, Ref, Store
from proxy.tokens import counter

TOPIC_TURNS = 20
"""After so many turns they talk about something else."""
ENTRIES_AT_ONCE = 64

_SMALL = "the of and to a in is that for it on was with as be at by this from or are an not which you we have I can but"


class Talk:
    """Texts of 20 to 60 words: stop words, words as frequent as in English, and names and numbers that are rare."""

    ENDS = ("ra", "len", "mir", "dak", "vo", "sti", "quen", "bor", "ila", "hart", "wick", "sen", "tova", "grim", "pell")

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.small = _SMALL.split(" ")
        counts = Counter(re.findall(r"(?<![\w.`_])[a-z]{3,}(?![\w`(=.])", "\n".join(topics.values())))
        self.common = [word for word, _ in counts.most_common() if word not in self.small]
        self.names = sorted({"".join(some).capitalize() for some in itertools.permutations(self.ENDS, 3)})
        self.random.shuffle(self.names)
        self._small = self._zipf(self.small)
        self._common = self._zipf(self.common)
        self._names = self._zipf(self.names)
        self.topic: list[str] = []

    @staticmethod
    def _zipf(ranked: Sequence[str]) -> list[float]:
        return list(itertools.accumulate(1 / (rank + 3) for rank in range(len(ranked))))

    def turn_to(self) -> None:
        """Goes on to something else."""
        tail = self.common[len(self.common) // 8 :]
        self.topic = [*self.random.choices(tail, k=12), *self.random.choices(self.names, cum_weights=self._names, k=3)]

    def said(self, length: int) -> list[str]:
        """So many words."""
        draw = self.random.random
        found = []
        for _ in range(length):
            at = draw()
            if at < 0.45:
                found += self.random.choices(self.small, cum_weights=self._small)
            elif at < 0.84:
                found += self.random.choices(self.common, cum_weights=self._common)
            elif at < 0.96 and self.topic:
                found.append(self.random.choice(self.topic))
            elif at < 0.985:
                found += self.random.choices(self.names, cum_weights=self._names)
            else:
                found.append(self._identifier())
        return found

    def text(self) -> str:
        said = self.said(self.random.randint(20, 60))
        for at in range(11, len(said) - 5, 13):
            said[at] += "," if self.random.random() < 0.6 else "."
        return f"{said[0].capitalize()} {' '.join(said[1:])}."

    def _identifier(self) -> str:
        number, some = self.random.randrange(10**5), self.random.choice(self.common)
        return self.random.choice((f"INV-{number:05d}", f"{some}_{number % 1000}", f"{number:05x}b"))


class Story(msgspec.Struct, frozen=True):
    """What was said in every session."""

    entries: tuple[Entry, ...]
    """One a turn; their ids are replaced in each session."""
    found: tuple[tuple[Words, ...], ...]
    """What each of them is found by."""
    rare: tuple[tuple[str, ...], ...]
    """Of each turn, the four words that stand in the fewest others."""


def story(turns: int, key: bytes, talk: Talk) -> Story:
    texts: list[tuple[str, str]] = []
    for turn in range(turns):
        if turn % TOPIC_TURNS == 0:
            talk.turn_to()
        texts.append((talk.text(), talk.text()))
    split = [tuple(dict.fromkeys(re.findall(r"[\w.-]*\w", f"{one} {two}"))) for one, two in texts]
    often = Counter(itertools.chain.from_iterable(split))
    entries: list[Entry] = []
    for pair in texts:
        messages = [
            Message(role=role, wire=orjson.dumps({"role": role, "content": text}), text=text)
            for role, text in zip(("user", "assistant"), pair, strict=True)
        ]
        entries.append(
            grow(
                id=new_id(),
                parent=entries[-1] if entries else None,
                key=key,
                messages=messages,
                tokens=[counter.count(message, MODEL) for message in messages],
                dialect="chat",
                model=MODEL,
                finish="stop",
            )
        )
    return Story(
        tuple(entries),
        tuple((words(one), words(two)) for one, two in texts),
        tuple(tuple(sorted(each, key=often.__getitem__)[:4]) for each in split),
    )


async def fill(store: Store, refs: Sequence[Ref], told: Story, turns: int, *, indexed: bool) -> None:
    """The sessions take each turn together: the store commits them as one group."""
    heads: list[str | None] = [None] * len(refs)
    for start in range(0, turns, ENTRIES_AT_ONCE):
        upto = min(turns, start + ENTRIES_AT_ONCE)
        made: list[list[Index]] = [[] for _ in refs]
        for at in range(start, upto):
            rows = [msgspec.structs.replace(told.entries[at], id=new_id(), parent=head or "") for head in heads]
            answers = await asyncio.gather(
                *[
                    store.append(Append(ref=ref, expected=head, entry=row, ttl_s=TTL_S))
                    for ref, head, row in zip(refs, heads, rows, strict=True)
                ]
            )
            if not all(isinstance(answer, Appended) for answer in answers):
                raise BenchError("the store holds these sessions already")
            heads = [row.id for row in rows]
            for some, row in zip(made, rows, strict=True):
                some.append(Index(row.id, words=told.found[at]))
        if indexed:
            await asyncio.gather(*[store.index(ref, some, revision=0) for ref, some in zip(refs, made, strict=True)])
