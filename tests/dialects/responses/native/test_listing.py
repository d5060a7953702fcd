"""Items are listed with ids, in one form, whatever their type."""

import json

import pytest

from proxy.dialects.responses.native.translation import NATIVE_RESPONSES as API
from proxy.dialects.responses.sealed import SUMMARY, seal
from proxy.errors import InvalidBody
from tests.dialects.responses.native.samples import Item, call, message, output

ID = "ab" * 24


def listed(*items: object) -> list[Item]:
    return [json.loads(each) for each in API.read_items([*items], ID, {}, member="items")]


def test_each_has_an_id_of_ours_and_the_form_of_the_api() -> None:
    hosted = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"query": "q"}}
    made = listed({"role": "user", "content": "hi"}, message("yo"), {"role": "assistant", "content": "a"}, hosted)
    assert [each["id"] for each in made] == [f"{at}_{ID}{n:02x}i" for n, at in enumerate(("msg", "msg", "msg", "ws"))]
    assert made[0]["content"] == [{"type": "input_text", "text": "hi"}]
    assert made[2]["content"] == [{"type": "output_text", "text": "a", "annotations": []}]
    assert [each["status"] for each in made] == ["completed"] * 4
    assert made[3] == {**hosted, "id": made[3]["id"]}


@pytest.mark.parametrize(
    ("item", "param"),
    [
        (5, "items[0]"),
        ({}, "items[0].type"),
        ({"type": "message", "role": "robot", "content": "x"}, "items[0].role"),
        ({"role": "user", "content": 5}, "items[0].content"),
        ({"role": "user", "content": [{"type": 5}]}, "items[0].content"),
        ({"type": "function_call", "name": "f", "arguments": "{}"}, "items[0].call_id"),
    ],
)
def test_what_is_malformed_is_refused_by_its_name(item: object, param: str) -> None:
    with pytest.raises(InvalidBody) as refused:
        listed(item)
    assert refused.value.param == param
    assert "`input" not in refused.value.message


def test_an_id_is_given_once() -> None:
    with pytest.raises(InvalidBody, match="Duplicate item"):
        API.read(json.dumps({"input": [message("a"), message("b")]}).encode(), ID, {})


def test_pieces_tell_which_items_they_say() -> None:
    items = listed({"role": "user", "content": "q"}, message("a"), call("call_1"), output("call_1"), message("b", 9))
    assert [piece.items for piece in API.pieces([json.dumps(each).encode() for each in items])] == [
        (0,), (1, 2), (3,), (4,),
    ]  # fmt: skip


def test_a_summary_that_was_sealed_here_is_read_again() -> None:
    item = json.dumps({"type": "compaction", "id": "cmp_1", "encrypted_content": seal(SUMMARY, "They met.")}).encode()
    [piece] = API.pieces([item])
    assert json.loads(piece.wire)["role"] == "user"
    assert "They met." in json.loads(piece.wire)["content"]
    # what another sealed goes on as it is
    [other] = API.pieces([b'{"type":"compaction","encrypted_content":"gAAA"}'])
    assert json.loads(other.wire) == {"type": "compaction", "encrypted_content": "gAAA"}
