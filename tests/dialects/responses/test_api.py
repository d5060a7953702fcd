"""The translation does what its contract promises, whoever asks through it."""

import time
from typing import Any

import orjson
import pytest

from proxy.conversation.reply import Reply
from proxy.dialects.chat import CHAT
from proxy.dialects.responses.api import RESPONSES
from proxy.errors import InvalidBody, NotFound
from tests.dialects.responses.grammar import check, check_response

ID = "ab" * 24
BODY = b'{"model":"m","input":"hi","background":true,"conversation":"conv_1"}'


def reply(text: str, finish: str = "stop") -> Reply:
    (message,) = CHAT.messages(orjson.dumps({"role": "assistant", "content": text}))
    return Reply(message, whole=True, finish=finish)


def test_a_finished_response_says_when() -> None:
    asked = RESPONSES.read(BODY, ID, {})
    before = int(time.time())
    got = check_response(RESPONSES.answer(asked, ID, 9, reply("a")))
    assert before <= got["completed_at"] <= time.time()
    assert (got["status"], got["created_at"], got["background"]) == ("completed", 9, True)
    assert (got["conversation"], got["conversation_id"]) == ({"id": "conv_1"}, "conv_1")
    assert RESPONSES.answer(asked, ID, 2**40, reply("a"))["completed_at"] == 2**40
    assert check_response(RESPONSES.answer(asked, ID, 9, reply("a", "length")))["completed_at"] is None


@pytest.mark.parametrize("status", ["cancelled", "failed"])
def test_any_reply_can_be_cancelled_or_failed(status: str) -> None:
    asked = RESPONSES.read(BODY, ID, {})
    for said in (reply("a"), reply("a", "length"), Reply(None, whole=False)):
        got = check_response(RESPONSES.answer(asked, ID, 9, said, status=status))
        assert (got["status"], got["completed_at"], got["incomplete_details"]) == (status, None, None)
        assert got["output_text"] == ("a" if said.message else "")
        assert (got["error"] is not None) == (status == "failed")


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled", "failed"])
def test_a_response_before_its_reply(status: str) -> None:
    asked = RESPONSES.read(BODY, ID, {})
    got = check_response(RESPONSES.unfinished(asked, ID, 9, status))
    assert (got["status"], got["output"], got["usage"], got["completed_at"]) == (status, [], None, None)
    assert (got["error"] is not None) == (status == "failed")
    told = check_response(RESPONSES.failed(RESPONSES.unfinished(asked, ID, 9, status), "rate_limit_exceeded", "Slow."))
    assert (told["status"], told["error"]) == ("failed", {"code": "rate_limit_exceeded", "message": "Slow."})


def test_streams_of_every_end() -> None:
    asked = RESPONSES.read(BODY, ID, {})
    for ended in ("cancelled", "failed"):
        unfinished = RESPONSES.unfinished(asked, ID, 9, ended)
        coder = RESPONSES.transcoder(asked, ID, 9)
        assert check(coder.begin() + coder.end(unfinished))["status"] == ended
        assert check(RESPONSES.whole(unfinished))["status"] == ended
    coder = RESPONSES.transcoder(asked, ID, 9)
    assert check(coder.begin() + coder.error("upstream_broken", "It broke off."))["status"] == "failed"


def test_references_are_found_and_read() -> None:
    body = b'{"input":[{"type":"item_reference","id":"msg_1"},{"role":"user","content":"and?"}]}'
    assert RESPONSES.references(body) == ("msg_1",)
    said = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": []}
    asked = RESPONSES.read(body, ID, {"msg_1": orjson.dumps(said)})
    assert [orjson.loads(item)["id"] for item in asked.items] == ["msg_1", f"msg_{ID}01i"]
    with pytest.raises(NotFound):
        RESPONSES.read(body, ID, {})


def test_items_become_messages_with_their_places() -> None:
    given: list[Any] = [{"role": "user", "content": "a"}, {"type": "reasoning", "summary": []},
                        {"role": "assistant", "content": "b", "id": "msg_x"}]  # fmt: skip
    items = RESPONSES.read_items(given, ID, {}, member="items")
    assert [orjson.loads(item)["id"] for item in items] == [f"msg_{ID}00i", f"rs_{ID}01i", f"msg_{ID}02i"]
    assert [piece.items for piece in RESPONSES.pieces(items)] == [(0,), (1, 2)]
    with pytest.raises(InvalidBody) as told:
        RESPONSES.read_items({"a": 1}, ID, {}, member="items")
    assert told.value.param == "items"


def test_what_was_compacted_is_read_again() -> None:
    items = RESPONSES.read_items([{"role": "user", "content": "a"}], ID, {}, member="input")
    made = RESPONSES.compaction(items, "Nothing much.", ID, 9, Reply(None, whole=True))
    body = orjson.dumps({"input": made["output"]})
    assert b"Nothing much." in RESPONSES.read(body, ID, {}).chat


def test_calls_are_settled() -> None:
    (message,) = CHAT.messages(b'{"role":"assistant","tool_calls":[{"type":"function","function":{"name":"f"}}]}')
    kept = RESPONSES.settled(Reply(message, whole=True), ID).message
    assert kept is not None
    assert [call.id for call in kept.calls] == [f"call_{ID}00"]
