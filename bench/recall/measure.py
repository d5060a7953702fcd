"""Asks the questions of a dialogue with the real `words` and `recall`, from memory, and says what came back."""

import struct
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import orjson

from bench.recall.dialogue import DAY_MS, Dialogue, Question, Said
from proxy.context.contract import Embed, Embedded, Pick, Recall, Recalled, Search
from proxy.context.recall import recall
from proxy.context.words import words
from proxy.conversation.entry import Entry, grow
from proxy.conversation.message import Message
from proxy.conversation.words import Found
from proxy.tokens.counter import count_text

MODEL = "gpt-4o"
KEY = bytes(32)
Embedder = Callable[[Sequence[str]], Sequence[bytes]]
"""Texts -> their vectors: 32-bit floats of length 1."""


class Outcome(NamedTuple):
    question: Question
    found: tuple[int, ...]
    """The evidence that stands in the recalled text."""
    tokens: int
    seconds: float
    """CPU of recall itself, its needs answered aside."""


class Memory:
    """One dialogue, as a store would answer for it."""

    def __init__(self, said: Sequence[Said], embedder: Embedder | None = None) -> None:
        self.entries: list[Entry] = []
        for each in said:
            wire = orjson.dumps({"role": each.role, "content": each.text})
            message = Message(each.role, wire, each.text)
            tokens = count_text(each.text, MODEL) + 4
            parent = self.entries[-1] if self.entries else None
            self.entries.append(
                grow(
                    id=f"{len(self.entries):032x}",
                    parent=parent,
                    key=KEY,
                    messages=[message],
                    tokens=[tokens],
                    dialect="chat",
                    model=MODEL,
                    at_ms=each.at_ms,
                )
            )
        self.now_ms = (said[-1].at_ms if said else 0) + DAY_MS
        self.length = 0
        self.chosen_in = 0.0
        self.postings: dict[bytes, list[int]] = {}
        for position, each in enumerate(said):
            found = words(each.text)
            self.length += found.length
            for term, often in found.terms:
                packed = position << 24 | min(found.length, 4095) << 12 | min(often, 4095)
                self.postings.setdefault(term, []).append(packed)
        self.embedder = embedder
        self.positions = b"".join(i.to_bytes(4, "little") for i in range(len(said))) if embedder else b""
        self.matrix = _halves(embedder([each.text for each in said])) if embedder else b""

    def answer(self, need: Search | Embed | Pick) -> Embedded | Sequence[Entry] | None:
        match need:
            case Search(terms):
                held = [self.postings.get(term, []) for term in terms]
                kept = zip(held, need.wanted(len(self.entries), list(map(len, held))), strict=True)
                found = tuple(struct.pack(f"<{len(each)}Q", *each) if want else len(each) for each, want in kept)
                before = time.process_time()
                positions = need.choose(Found(len(self.entries), self.length, found))
                self.chosen_in = time.process_time() - before
                return [self.entries[position] for position in positions]
            case Pick(positions):
                return [self.entries[position] for position in positions]
            case Embed(text):
                return Embedded(self.embedder([text])[0], self.positions, self.matrix) if self.embedder else None

    def ask(self, query: str, settings: Recall, window_start: int | None = None) -> tuple[Recalled | None, float]:
        """What is recalled, and the seconds of CPU it took."""
        steps = recall(
            query,
            settings,
            window_start=len(self.entries) if window_start is None else window_start,
            texts=texts,
            count=lambda text: count_text(text, MODEL),
            now_ms=self.now_ms,
            mean_tokens=self.entries[-1].tokens_upto / len(self.entries) if self.entries else 0.0,
        )
        spent, answer, self.chosen_in = 0.0, None, 0.0
        while True:
            before = time.process_time()
            try:
                need = steps.send(answer)
            except StopIteration as stop:
                return stop.value, spent + self.chosen_in + time.process_time() - before
            spent += time.process_time() - before
            answer = self.answer(need)


def _halves(vectors: Sequence[bytes]) -> bytes:
    import numpy as np

    return b"".join(np.frombuffer(vector, "<f4").astype("<f2").tobytes() for vector in vectors)


def texts(wire: bytes) -> list[tuple[str, str]]:
    return [(each["role"], each["content"]) for each in orjson.loads(b"[" + wire + b"]")]


def measure(dialogue: Dialogue, settings: Recall, embedder: Embedder | None = None) -> list[Outcome]:
    memory = Memory(dialogue.said, embedder)
    outcomes = []
    for question in dialogue.questions:
        recalled, seconds = memory.ask(question.text, settings)
        held = {at for each in recalled.excerpts for at in range(each.first, each.upto)} if recalled else set()
        # a position that is named counts only if its words are in the text as well
        flat = _flat(recalled.text) if recalled else ""
        found = tuple(at for at in question.evidence if at in held and _flat(dialogue.said[at].text) in flat)
        outcomes.append(Outcome(question, found, recalled.tokens if recalled else 0, seconds))
    return outcomes


def _flat(text: str) -> str:
    return " ".join(text.split())
