"""Facts and chatter -> long dialogues over months, and questions whose evidence is known. Deterministic by its seed.

A split is a text file. A line of its `[facts]` is `category | said | asked | beside`. In `said`, `||` parts what is
said on different days, `>>` a message from the next one; `A:` and `B:` are the two speakers, `*` marks evidence, `*old`
what was true once. `beside` shares words with the question and answers nothing. `[chatter]` fills the days. `{slot}` is
drawn from `[pools]`, the same one all over a fact; `{slot2}` and `{slot3}` are others of the same pool.
"""

import random
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

START_MS = 1_700_000_000_000
DAY_MS = 86_400_000
SESSIONS = 40
CHATTER_LINES = 18
"""Of each session, on average."""


class Split(NamedTuple):
    facts: Sequence[str]
    chatter: Sequence[str]
    pools: Mapping[str, Sequence[str]]


class Said(NamedTuple):
    role: str
    text: str
    at_ms: int


class Question(NamedTuple):
    category: str
    text: str
    evidence: tuple[int, ...]
    """Positions of the messages that it takes to answer; () for one that nothing in the dialogue bears on."""


class Dialogue(NamedTuple):
    said: tuple[Said, ...]
    questions: tuple[Question, ...]


class _Line(NamedTuple):
    speaker: str
    text: str
    fact: int
    """Whose evidence this is, -1 for nobody's."""


def load(name: str) -> Split:
    """The split `tuning` or `heldout`."""
    text = Path(__file__).with_name(f"{name}.txt").read_text(encoding="utf-8")
    _, facts, chatter, pools = re.split(r"^\[\w+\]$", text, flags=re.MULTILINE)
    values = dict(line.split(": ", 1) for line in pools.strip().splitlines())
    return Split(
        facts.strip().splitlines(),
        chatter.strip().splitlines(),
        {name: re.split(r";" if ";" in each else r"\s+", each) for name, each in values.items()},
    )


def make(split: Split, seed: int) -> Dialogue:
    """One dialogue, of about 800 messages, with one question for each fact of the split."""
    chance = random.Random(f"recall {seed}")
    pools = split.pools
    cast = {"A": chance.choice(pools["A"]), "B": chance.choice(pools["B"])}
    sessions: list[list[list[_Line]]] = [[] for _ in range(SESSIONS)]
    asked: list[tuple[str, str]] = []
    for fact, row in enumerate(split.facts):
        category, said, question, beside = [part.strip() for part in re.split(r"(?<!\|)\|(?!\|)", row)]
        slots = cast | _draw(pools, chance)
        asked.append((category, question.format(**slots)))
        days = [part.strip() for part in said.split("||") if part]
        for at, day in zip(sorted(chance.sample(range(SESSIONS), len(days))), days, strict=True):
            sessions[at].append([_line(part, slots, fact) for part in day.split(">>")])
        sessions[chance.randrange(SESSIONS)].append([_line(beside, slots, -1)])
    chatter = [[row for row in split.chatter if row.startswith(speaker)] for speaker in "AB"]
    lines: list[tuple[_Line, int]] = []
    for number, groups in enumerate(sessions):
        for _ in range(chance.randint(CHATTER_LINES - 6, CHATTER_LINES + 6)):
            row = chance.choice(chance.choice(chatter))
            groups.append([_line(row, cast | _draw(pools, chance), -1)])
        chance.shuffle(groups)
        start = START_MS + number * 5 * DAY_MS + chance.randrange(DAY_MS // 2)
        flat = [line for group in groups for line in group]
        lines += [(line, start + i * 40_000) for i, line in enumerate(flat)]
    said_all = tuple(Said("user" if line.speaker == "A" else "assistant", line.text, at_ms) for line, at_ms in lines)
    evidence: dict[int, list[int]] = {}
    for position, (line, _) in enumerate(lines):
        evidence.setdefault(line.fact, []).append(position)
    questions = tuple(Question(category, text, tuple(evidence.get(i, ()))) for i, (category, text) in enumerate(asked))
    return Dialogue(said_all, questions)


def _draw(pools: Mapping[str, Sequence[str]], chance: random.Random) -> dict[str, str]:
    """A value for each slot; `{slot2}` and `{slot3}` are others of the same pool."""
    drawn: dict[str, str] = {}
    for name, pool in pools.items():
        if name in ("A", "B"):
            continue
        values = chance.sample(pool, 3)
        drawn |= {name: values[0], f"{name}2": values[1], f"{name}3": values[2]}
    numbers = chance.sample(range(3, 29), 2)
    return drawn | {"num": str(numbers[0]), "num2": str(numbers[1])}


def _line(text: str, slots: Mapping[str, str], fact: int) -> _Line:
    match = re.fullmatch(r"\s*(\*old |\*)?([AB]): (.*?)\s*", text, re.DOTALL)
    assert match, text
    holds = re.sub(r"\{(\w+)\}", lambda slot: slots.get(slot[1], slot[0]), match[3]).replace("\\n", "\n")
    return _Line(match[2], holds, fact if match[1] == "*" else -1)
