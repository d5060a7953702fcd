"""The translation as one value: what the others of its folder do is tested there."""

import json

from proxy.dialects.responses.native.translation import NATIVE_RESPONSES as API
from tests.dialects.responses.native.samples import call, message, read, response

ID = "ab" * 24


def test_requests_go_to_the_same_api() -> None:
    assert API.path == "/responses"


def test_references_are_found() -> None:
    body = {"input": [{"type": "item_reference", "id": "msg_1"}, {"id": "msg_2"}, {"role": "user", "content": "x"}]}
    assert API.references(json.dumps(body).encode()) == ("msg_1", "msg_2")


def test_a_reply_is_recorded_as_it_is() -> None:
    reply = read(json.dumps(response([message("a"), call()])).encode(), stream=False)
    assert API.settled(reply, ID) is reply


def test_compaction_keeps_what_users_said() -> None:
    items = API.read_items([{"role": "user", "content": "hi"}, message("yo")], ID, {}, member="input")
    reply = read(json.dumps(response([message("They met.")])).encode(), stream=False)
    made = API.compaction(items, "They met.", ID, 1, reply)
    output = made["output"]
    assert isinstance(output, list)
    assert [item["type"] for item in output] == ["message", "compaction"]
    [first, second] = API.pieces([json.dumps(item).encode() for item in output])
    assert "hi" in first.wire.decode()
    assert "They met." in second.wire.decode()
