"""Replies in the forms of many providers, written after their public formats, with what should be read from each."""

import json
from pathlib import Path
from typing import Any, NamedTuple

from proxy.conversation.reply import Reply
from proxy.dialects.chat import CHAT
from proxy.dialects.contract import Call, Reader

FOLDER = Path(__file__).parents[1] / "recorded"


class Sample(NamedTuple):
    name: str
    body: bytes
    stream: bool
    expected: dict[str, Any]


def load(path: Path) -> Sample:
    expected = json.loads(path.with_name(path.name + ".expected").read_text(encoding="utf-8"))
    return Sample(path.name, path.read_bytes(), path.suffix == ".sse", expected)


SAMPLES = [load(path) for path in sorted(FOLDER.iterdir()) if path.suffix != ".expected"]
STREAMS = [sample for sample in SAMPLES if sample.stream]


def asked(**members: object) -> Call:
    """A call that asks "?"."""
    body = {"model": "m", "messages": [{"role": "user", "content": "?"}], **members}
    return CHAT.read(json.dumps(body).encode())


def opened(sample: Sample) -> Reader:
    return CHAT.reader(asked(n=sample.expected.get("n", 1)), stream=sample.stream)


def plain(message: dict[str, object], finish: str | None = "stop", **call: object) -> Reply:
    """What is read from a plain reply with this message."""
    reader = CHAT.reader(asked(**call), stream=False)
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": finish}
    reader.feed(json.dumps({"model": "m", "choices": [choice]}).encode())
    reader.end()
    return reader.reply()


def event(delta: dict[str, object] | None = None, finish: str | None = None, **more: object) -> bytes:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish}
    return b"data: %b\n\n" % json.dumps({"choices": [choice], **more}, separators=(",", ":")).encode()


def streamed(*deltas: dict[str, object], finish: str | None = "stop", end: bool = True, **call: object) -> Reply:
    """What is read from a stream of these deltas; `finish` None sends no finish reason."""
    reader = CHAT.reader(asked(**call), stream=True)
    for delta in deltas:
        reader.feed(event(delta))
    if finish is not None:
        reader.feed(event(finish=finish))
    if end:
        reader.end()
    return reader.reply()
