"""Compaction keeps what the users said, and a summary that is read again as a message."""

from typing import Any

import orjson
from openai.types.responses import CompactedResponse, ResponseCompactionItem, ResponseInputMessageItem, ResponseUsage

from proxy.conversation.reply import Reply
from proxy.dialects.responses.compaction import compacted
from proxy.dialects.responses.items import HEADING, pieces, read_input

ID, OTHER = "ab" * 24, "cd" * 24
_, ITEMS = read_input(
    [
        {"role": "user", "content": "one"},
        {"role": "developer", "content": "rule"},
        {"type": "reasoning", "summary": []},
        {"role": "assistant", "content": "two"},
        {"type": "function_call", "call_id": "a", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "a", "output": "ok"},
        {"role": "user", "content": [{"type": "input_image", "image_url": "data:x"}]},
    ],
    OTHER,
)
COST = Reply(None, whole=True, prompt_tokens=9, completion_tokens=4, cached_tokens=3, reasoning_tokens=2)


def made(items: tuple[bytes, ...] = ITEMS, cost: Reply = COST) -> dict[str, Any]:
    got: dict[str, Any] = orjson.loads(orjson.dumps(compacted(items, "They said é.", ID, 7, cost)))
    assert set(got) == {"id", "object", "created_at", "output", "usage"}
    for item in got["output"][:-1]:
        ResponseInputMessageItem.model_validate(item, strict=True)
    assert not ResponseCompactionItem.model_validate(got["output"][-1], strict=True).model_extra
    assert not ResponseUsage.model_validate(got["usage"], strict=True).model_extra
    # the type for its output knows no message of a user, though its docstring promises them
    CompactedResponse.model_validate({**got, "output": got["output"][-1:]}, strict=True)
    return got


def test_the_users_messages_stay_as_they_were() -> None:
    got = made()
    assert got["output"][:-1] == [orjson.loads(ITEMS[0]), orjson.loads(ITEMS[6])]
    assert (got["id"], got["object"], got["created_at"]) == (f"resp_{ID}", "response.compaction", 7)
    assert got["output"][-1]["id"] == f"cmp_{ID}02"


def test_it_is_read_again() -> None:
    listed = [orjson.dumps(item) for item in made()["output"]]
    messages, items = read_input([*map(orjson.loads, listed)], OTHER)
    assert messages[-1] == {"role": "user", "content": f"{HEADING}\nThey said é."}
    assert [orjson.loads(piece.wire) for piece in pieces(items)] == messages
    assert [orjson.loads(item) for item in items] == made()["output"]


def test_compacting_again_leaves_one_compaction_item() -> None:
    items = tuple(orjson.dumps(item) for item in made()["output"])
    again = compacted(items, "Shorter.", OTHER, 8, COST)["output"]
    assert isinstance(again, list)
    assert [item["type"] for item in again] == ["message", "message", "compaction"]


def test_usage_is_what_the_upstream_reported() -> None:
    usage = made()["usage"]
    assert (usage["input_tokens"], usage["output_tokens"], usage["total_tokens"]) == (9, 4, 13)
    assert usage["input_tokens_details"] == {"cached_tokens": 3, "cache_write_tokens": 0}
    assert usage["output_tokens_details"] == {"reasoning_tokens": 2}
    assert made(cost=Reply(None, whole=True))["usage"]["total_tokens"] == 0
