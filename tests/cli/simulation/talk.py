"""Conversations of an exact size to replay, no two turns of which say the same."""

import json
import random
from pathlib import Path

from proxy.dialects import DIALECTS
from proxy.tokens import counter

(CHAT,) = [dialect for dialect in DIALECTS if dialect.name == "chat"]
MODEL = "gpt-4o"

Json = dict[str, object]

_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


def said(role: str, tokens: int, chance: random.Random) -> Json:
    """A message that weighs so much, of words made by chance."""
    words: list[str] = []
    while True:
        message: Json = {"role": role, "content": " ".join(words)}
        missing = tokens - weight(message)
        if missing <= 0:
            break
        # a word is three to six tokens: near the end, one that is a single token and that nothing is found by
        words += [_word(chance) if missing > 12 else "the" for _ in range(max(1, missing // 6))]
    assert weight(message) == tokens, weight(message)
    return message


def _word(chance: random.Random) -> str:
    return "".join(chance.choice(_CONSONANTS) + chance.choice(_VOWELS) for _ in range(chance.randint(4, 6)))


def weight(message: Json) -> int:
    (read,) = CHAT.messages(json.dumps(message).encode())
    return counter.count(read, MODEL)


def turns(count: int, user: int = 100, reply: int = 400, seed: int = 1) -> list[Json]:
    """So many equal turns."""
    chance = random.Random(seed)
    return [said(role, size, chance) for _ in range(count) for role, size in (("user", user), ("assistant", reply))]


def write(path: Path, messages: list[Json]) -> Path:
    path.write_text("".join(json.dumps(message) + "\n" for message in messages))
    return path
