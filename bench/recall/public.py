"""A public dialogue file in LoCoMo's form -> dialogues with questions. Nothing of it is kept here, or tuned on.

The file is a list of samples, or one: `conversation` (or the sample itself) holds `session_1`, `session_2`, … with
`speaker`, `dia_id` and `text`, and `session_1_date_time`, …; `qa` holds `question`, `category` and `evidence`, ids of
messages (snap-research/locomo, README). Questions without evidence, or about messages that are not there, are left out.
"""

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.recall.dialogue import Dialogue, Question, Said

CATEGORIES = {1: "multi", 2: "temporal", 3: "open", 4: "single", 5: "adversarial"}


def read(path: Path, *, names: bool = True) -> list[Dialogue]:
    """`names`: each message begins with its speaker's name."""
    samples = json.loads(path.read_text(encoding="utf-8"))
    return [_sample(each, names) for each in (samples if isinstance(samples, list) else [samples])]


def _sample(sample: dict[str, Any], names: bool) -> Dialogue:
    talk = sample.get("conversation", sample)
    said: list[Said] = []
    places: dict[str, int] = {}
    for number in range(1, len(talk)):
        at_ms = _when(talk.get(f"session_{number}_date_time", ""))
        for line in talk.get(f"session_{number}") or ():
            places[line["dia_id"]] = len(said)
            role = "user" if line["speaker"] == talk["speaker_a"] else "assistant"
            said.append(Said(role, f"{line['speaker']}: {line['text']}" if names else line["text"], at_ms))
    questions = []
    for asked in sample.get("qa", ()):
        ids = re.findall(r"D\d+:\d+", " ".join(asked.get("evidence") or ()))
        evidence = tuple(sorted({places[each] for each in ids if each in places}))
        if evidence and len(evidence) == len(set(ids)):
            category = CATEGORIES.get(asked["category"], str(asked["category"]))
            questions.append(Question(category, asked["question"], evidence))
    return Dialogue(tuple(said), tuple(questions))


def _when(text: str) -> int:
    """ "1:56 pm on 8 May, 2023" in milliseconds since 1970; 0 for what is not of this form."""
    try:
        return int(datetime.strptime(text, "%I:%M %p on %d %B, %Y").replace(tzinfo=UTC).timestamp() * 1000)
    except ValueError:
        return 0
