"""A chat model that works in steps: in every turn it calls tools, several at once if asked to, before it answers."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tests.support.upstream import Received, Replies, Script, plain, sse

Json = dict[str, Any]
USAGE = {
    "prompt_tokens": 50,
    "completion_tokens": 7,
    "total_tokens": 57,
    "prompt_tokens_details": {"cached_tokens": 32},
    "completion_tokens_details": {"reasoning_tokens": 3},
}


def stepping(*calls: int, tool: str = "look") -> Replies:
    """`calls`: how many tools each step of a turn calls at once. Then it says "reply N", where N is the number of
    user messages that it was shown. It refuses what OpenAI's API would: a call without its result and the reverse.

    It remembers nothing itself: what it says shows what it was sent.
    """

    def answer(request: Received) -> Script:
        assert request.target == "/v1/chat/completions", request.target
        asked = request.json()
        messages = asked["messages"]
        orderly(messages)
        turn = sum(message["role"] == "user" for message in messages)
        done = 0
        for message in reversed(messages):
            if message["role"] == "user":
                break
            done += bool(message.get("tool_calls"))
        if done < len(calls) and asked.get("tools"):
            said = [{"name": tool, "arguments": at(done, n)} for n in range(calls[done])]
            made = [
                {"id": f"call_{turn}_{done}_{n}", "type": "function", "function": each} for n, each in enumerate(said)
            ]
            return completion(asked, {"content": None, "tool_calls": made}, "tool_calls")
        return completion(asked, {"content": f"reply {turn}"}, "stop")

    return answer


def at(step: int, n: int) -> str:
    return json.dumps({"at": step + n / 4})


def shown(messages: list[Json]) -> list[str]:
    """A history in a word or two a message: its text, the calls it makes, the result it brings."""
    said = []
    for message in messages:
        if message["role"] == "system":
            said.append(f"system:{text_of(message)}")
        elif message["role"] == "tool":
            said.append(f"{message['tool_call_id']}={text_of(message)}")
        elif message.get("tool_calls"):
            said += [f"call:{call['id']}" for call in message["tool_calls"]]
        else:
            said.append(text_of(message))
    return said


def text_of(message: Json) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content)


def line(texts: Sequence[str], *calls: int, system: str = "", again: bool = False) -> list[str]:
    """What `stepping(*calls)` must have been shown before its answer to the last of `texts`, where the tool brings
    back "seen" and what it was called with. `again`: the client sends its system message with every turn, and it is an
    item like others."""
    said = []
    for turn, text in enumerate(texts, 1):
        if system and (again or turn == 1):
            said.append(f"system:{system}")
        said.append(text)
        for step, count in enumerate(calls):
            said += [f"call:call_{turn}_{step}_{n}" for n in range(count)]
            said += [f"call_{turn}_{step}_{n}=seen {step + n / 4}" for n in range(count)]
        said.append(f"reply {turn}")
    return said[:-1]


def orderly(messages: list[Json]) -> None:
    """Fails on a history that OpenAI's API refuses."""
    open_: list[str] = []
    for message in messages:
        if message["role"] == "tool":
            assert message["tool_call_id"] in open_, f"a result without its call: {messages}"
            open_.remove(message["tool_call_id"])
            continue
        assert not open_, f"calls without their results: {messages}"
        open_ = [call["id"] for call in message.get("tool_calls") or ()]
        assert len(set(open_)) == len(open_)
    assert not open_, f"calls without their results: {messages}"


def completion(asked: Json, message: Json, finish: str | None, usage: Json | None = None) -> Script:
    """The reply of a chat model, plain or streamed as `asked`; text and arguments come in pieces."""
    about = {"id": "chatcmpl-1", "created": 1_700_000_000, "model": asked.get("model", "m")}
    usage = USAGE if usage is None else usage
    if not asked.get("stream"):
        choice = {"index": 0, "message": {"role": "assistant", **message}, "logprobs": None, "finish_reason": finish}
        return plain(200, {**about, "object": "chat.completion", "choices": [choice], "usage": usage})
    wanted = (asked.get("stream_options") or {}).get("include_usage")
    return sse(chunks(about, message, finish, usage if wanted else None))


def chunks(about: Json, message: Json, finish: str | None, usage: Json | None) -> Iterable[Json]:
    base = {**about, "object": "chat.completion.chunk"}

    def one(delta: Json, finish: str | None = None) -> Json:
        return {**base, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]}

    yield one({"role": "assistant", "content": ""})
    for member in ("reasoning_content", "content", "refusal"):
        for piece in pieces(message.get(member) or ""):
            yield one({member: piece})
    for index, call in enumerate(message.get("tool_calls") or ()):
        kind = call["type"]
        grows = "arguments" if kind == "function" else "input"
        yield one({"tool_calls": [{"index": index, **call, kind: {**call[kind], grows: ""}}]})
        for piece in pieces(call[kind][grows]):
            yield one({"tool_calls": [{"index": index, kind: {grows: piece}}]})
    if finish is not None:
        yield one({}, finish)
    if usage is not None:
        yield {**base, "choices": [], "usage": usage}


def pieces(text: str, size: int = 4) -> Iterable[str]:
    return (text[start : start + size] for start in range(0, len(text), size))
