"""Items become the chat messages that they were made from, and are listed in the SDK's types."""

from collections.abc import Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.responses import ResponseItem
from pydantic import TypeAdapter

from proxy.conversation.reply import Reply
from proxy.dialects.chat import CHAT
from proxy.dialects.responses.items import PREFIXES, pieces, read_input, referred
from proxy.dialects.responses.reply import response
from proxy.dialects.responses.request import read
from proxy.dialects.responses.sealed import REASONING, SUMMARY, seal
from proxy.errors import InvalidBody, NotFound

ID = "ab" * 24
_ITEM: TypeAdapter[Any] = TypeAdapter(ResponseItem)
TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)


def messages(*items: object) -> list[dict[str, object]]:
    made, listed = read_input(list(items), ID)
    CHAT.messages(b",".join(orjson.dumps(each) for each in made))
    assert len(listed) == len(items)
    found = [orjson.loads(each) for each in listed]
    for each in found:
        read = _ITEM.validate_python(each, strict=True)
        assert type(read).__name__ != "dict"
    assert len({each["id"] for each in found}) == len(found)
    return made


def user(*parts: Mapping[str, object]) -> dict[str, object]:
    return {"role": "user", "content": list(parts)}


def call(id: str) -> dict[str, object]:
    return {"type": "function_call", "call_id": id, "name": "f", "arguments": "{}"}


def chat_call(id: str) -> dict[str, object]:
    return {"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}}


def answer(id: str, output: object = "ok") -> dict[str, object]:
    return {"type": "function_call_output", "call_id": id, "output": output}


def test_a_string_is_the_users() -> None:
    made, listed = read_input("hi", ID)
    assert made == [{"role": "user", "content": "hi"}]
    assert orjson.loads(listed[0]) == {
        "type": "message", "role": "user", "status": "completed", "id": f"msg_{ID}00i",
        "content": [{"type": "input_text", "text": "hi"}],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("part", "made"),
    [
        ({"type": "input_image", "image_url": "data:x", "detail": "low"},
         {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}}),
        ({"type": "input_image", "image_url": "u", "file_id": None, "detail": None},
         {"type": "image_url", "image_url": {"url": "u"}}),
        ({"type": "input_file", "file_data": "x", "filename": "a.pdf"},
         {"type": "file", "file": {"file_data": "x", "filename": "a.pdf"}}),
        ({"type": "input_file", "file_id": "file-1"}, {"type": "file", "file": {"file_id": "file-1"}}),
        ({"type": "input_text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}},
         {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}),
    ],
)  # fmt: skip
def test_parts(part: dict[str, object], made: dict[str, object]) -> None:
    assert messages(user(part)) == [{"role": "user", "content": [made]}]


def test_audio() -> None:
    part = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    assert read_input([user(part)], ID)[0] == [{"role": "user", "content": [part]}]


def test_one_text_part_is_sent_as_a_string() -> None:
    text = {"type": "input_text", "text": "a"}
    assert messages(user(text)) == [{"role": "user", "content": "a"}]
    two = [{"type": "text", "text": "a"}] * 2
    assert messages(user(text, text)) == [{"role": "user", "content": two}]


def test_neighbouring_calls_are_one_message() -> None:
    assert messages(user(), call("a"), call("b"), answer("a"), answer("b")) == [
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None, "tool_calls": [chat_call("a"), chat_call("b")]},
        {"role": "tool", "tool_call_id": "a", "content": "ok"},
        {"role": "tool", "tool_call_id": "b", "content": "ok"},
    ]
    steps = messages(call("a"), answer("a"), call("b"), answer("b"))
    assert [each["role"] for each in steps] == ["assistant", "tool"] * 2


def test_what_comes_between_calls_and_results_is_part_of_the_message() -> None:
    said = {"role": "assistant", "content": "wait"}
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    made = messages(call("a"), said, {**thought, "id": "rs_2"}, call("b"), answer("a"), answer("b"))
    assert made[0] == {
        "role": "assistant",
        "content": "wait",
        "tool_calls": [chat_call("a"), chat_call("b")],
        "reasoning_content": "hm",
    }


def test_messages_of_the_assistant_stay_apart() -> None:
    said = {"role": "assistant", "content": "a"}
    assert messages(said, said) == [said, said]


def test_reasoning_goes_to_the_message_that_follows() -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "hm"}]}
    said = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "a"}]}
    assert messages(said, thought, said) == [
        {"role": "assistant", "content": "a"},
        {"role": "assistant", "content": "a", "reasoning_content": "hm"},
    ]
    assert messages(thought, user())[0] == {"role": "assistant", "content": "", "reasoning_content": "hm"}
    sealed = {"type": "reasoning", "id": "rs_3", "summary": [{"type": "summary_text", "text": "s"}],
              "encrypted_content": "xyz"}  # fmt: skip
    assert messages(sealed, said) == [{"role": "assistant", "content": "a"}]


def test_custom_tools_and_outputs_in_parts() -> None:
    custom = {"type": "custom_tool_call", "call_id": "a", "name": "sh", "input": "ls"}
    output = {"type": "custom_tool_call_output", "call_id": "a", "output": [{"type": "input_image", "image_url": "u"}]}
    assert messages(custom, output) == [
        {"role": "assistant", "content": None,
         "tool_calls": [{"id": "a", "type": "custom", "custom": {"name": "sh", "input": "ls"}}]},
        {"role": "tool", "tool_call_id": "a", "content": [{"type": "image_url", "image_url": {"url": "u"}}]},
    ]  # fmt: skip


def test_a_refusal_stays_one() -> None:
    said = {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}
    assert messages(said) == [{"role": "assistant", "content": "", "refusal": "no"}]


@given(TEXT, TEXT | st.just(""), st.lists(TEXT, max_size=3))
def test_output_sent_back_is_the_message_that_it_was_made_from(text: str, thought: str, ids: list[str]) -> None:
    calls = [{"id": id, "type": "function", "function": {"name": "f", "arguments": "{}"}} for id in ids]
    wire: dict[str, object] = {"role": "assistant", "content": text}
    if calls:
        wire["tool_calls"] = calls
    if thought:
        wire["reasoning_content"] = thought
    (message,) = CHAT.messages(orjson.dumps(wire))
    made = response(read(b'{"input":"hi"}', ID), ID, 1, Reply(message, whole=True))
    assert read_input(orjson.loads(orjson.dumps(made["output"])), "cd" * 24)[0] == [wire]


@pytest.mark.parametrize(
    ("item", "param"),
    [
        ({"type": "item_reference"}, "input[0].id"),
        ({"type": "item_reference", "id": "a", "role": "user"}, "input[0].role"),
        ({"type": "compaction", "encrypted_content": "x"}, "input[0].encrypted_content"),
        ({"type": "compaction", "encrypted_content": "remora-summary-1.!"}, "input[0].encrypted_content"),
        ({"type": "compaction", "encrypted_content": "remora-summary-1.MQ=="}, "input[0].encrypted_content"),
        ({"type": "compaction"}, "input[0].encrypted_content"),
        ({"type": "compaction", "encrypted_content": "x", "odd": 1}, "input[0].odd"),
        ({"type": "compaction_trigger"}, "input[0].type"),
        ({"type": "reasoning", "encrypted_content": "remora-reasoning-1.MQ=="}, "input[0].encrypted_content"),
        ({"type": "web_search_call", "id": "x"}, "input[0].type"),
        ({"type": 3}, "input[0].type"),
        ({"role": "tool", "content": "x"}, "input[0].role"),
        ({"role": "user", "content": 3}, "input[0].content"),
        ({"role": "user", "content": "a", "id": ""}, "input[0].id"),
        ({"role": "user", "content": "a", "status": "odd"}, "input[0].status"),
        (user({"type": "output_text", "text": "a"}), "input[0].content[0].type"),
        (user({"type": "input_image", "file_id": "f"}), "input[0].content[0].file_id"),
        (user({"type": "input_image"}), "input[0].content[0].image_url"),
        (user({"type": "input_file", "file_url": "f"}), "input[0].content[0].file_url"),
        (user({"type": "input_file"}), "input[0].content[0].file_data"),
        (user({"type": "input_audio", "input_audio": {"data": "x"}}), "input[0].content[0].input_audio.format"),
        ({"type": "function_call", "call_id": "a", "name": "f"}, "input[0].arguments"),
        ({"type": "function_call_output", "output": "f"}, "input[0].call_id"),
        ({**call("a"), "namespace": "n"}, "input[0].namespace"),
        ({"type": "reasoning", "content": [{"type": "text", "text": "a"}]}, "input[0].content[0].type"),
    ],
)
def test_refusals_name_the_item(item: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidBody) as told:
        read_input([item], ID)
    assert told.value.param == param


def test_ids_are_kept_and_made() -> None:
    _, listed = read_input([{**call("a"), "id": "fc_mine"}, call("b")], ID)
    assert [orjson.loads(each)["id"] for each in listed] == ["fc_mine", f"fc_{ID}01i"]
    assert len(set(PREFIXES.values())) == len(PREFIXES)


def test_items_of_a_client_are_given_ids_of_ours() -> None:
    given = [{"role": "user", "content": "a", "id": "msg_theirs"}, {"type": "item_reference", "id": "rs_1"}, call("b")]
    stored = {"type": "reasoning", "id": "rs_1", "summary": []}
    _, listed = read_input(given, ID, {"rs_1": orjson.dumps(stored)}, member="items", ours=True)
    found = [orjson.loads(each) for each in listed]
    assert [each["id"] for each in found] == [f"msg_{ID}00i", f"rs_{ID}01i", f"fc_{ID}02i"]
    assert found[1] == {**stored, "id": f"rs_{ID}01i"}
    for odd, param in (("hi", "items"), ([3], "items[0]"), ([{"role": "user"}], "items[0].content")):
        with pytest.raises(InvalidBody) as told:
            read_input(odd, ID, member="items", ours=True)
        assert told.value.param == param


def test_an_item_may_stand_in_the_input_once() -> None:
    stored = {"msg_1": orjson.dumps({"type": "message", "role": "user", "content": "a", "id": "msg_1"})}
    for second in ({"role": "user", "content": "b", "id": "msg_1"}, {"type": "item_reference", "id": "msg_1"}):
        with pytest.raises(InvalidBody) as told:
            read_input([{"id": "msg_1"}, second], ID, stored)
        assert told.value.message == (
            "Duplicate item found with id msg_1. Remove duplicate items from your input and try again."
        )
        assert told.value.param == "input"


def test_an_unknown_reference_is_not_found() -> None:
    for reference in ({"type": "item_reference", "id": "msg_9"}, {"type": None, "id": "msg_9"}):
        with pytest.raises(NotFound) as told:
            read_input([reference], ID)
        assert (told.value.message, told.value.param) == ("Item with id 'msg_9' not found.", "input")


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"input":[{"type":"item_reference","id":"a"},{"id":"b"},{"type":"item_reference","id":"a"}]}', ("a", "b")),
        (b'{"items":[{"type":"item_reference","id":"a"}]}', ("a",)),
        (
            b'{"input":[{"type":"item_reference","id":3},{"role":"user","id":"c","content":"a"},4,{"type":"message"}]}',
            (),
        ),
        (b'{"input":"id"}', ()),
        (b'["id"]', ()),
        (b'{"id"', ()),
        (b"", ()),
    ],
)
def test_what_the_input_refers_to(body: bytes, found: tuple[str, ...]) -> None:
    assert referred(body) == found


def test_a_call_that_was_cut_off_is_left_out_unless_it_was_answered() -> None:
    cut = {**call("a"), "arguments": '{"x', "status": "incomplete"}
    whole = {**call("a"), "status": "incomplete"}
    assert messages({"role": "user", "content": "u"}, cut) == [{"role": "user", "content": "u"}]
    assert messages(whole)[0]["tool_calls"] == [chat_call("a")]
    assert messages({**cut, "status": "completed"})[0]["tool_calls"]
    assert [each["role"] for each in messages(cut, answer("a"))] == ["assistant", "tool"]


def test_reasoning_in_the_upstreams_own_form_comes_back() -> None:
    held = {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}], "odd": [1]}
    sealed = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": seal(REASONING, held)}
    assert messages(sealed, {"role": "assistant", "content": "a"}) == [
        {"role": "assistant", "content": "a", "reasoning_details": held["reasoning_details"]}
    ]


PARTS = st.lists(st.one_of(
    st.builds(lambda text: {"type": "input_text", "text": text}, TEXT | st.just("")),
    st.builds(lambda url, how: {"type": "input_image", "image_url": url, "detail": how}, TEXT,
              st.sampled_from([None, "auto", "low"])),
    st.builds(lambda data: {"type": "input_file", "file_data": data, "filename": "f"}, TEXT),
), max_size=2)  # fmt: skip
SAID = st.lists(st.one_of(
    st.builds(lambda text: {"type": "output_text", "text": text, "annotations": [], "logprobs": []}, TEXT),
    st.builds(lambda text: {"type": "input_text", "text": text}, TEXT),
    st.builds(lambda text: {"type": "refusal", "refusal": text}, TEXT),
), max_size=2)  # fmt: skip
DETAILS = {"reasoning_details": [{"type": "reasoning.encrypted", "data": "x"}]}
ITEMS = st.lists(st.one_of(
    st.builds(lambda role, content: {"role": role, "content": content},
              st.sampled_from(["user", "system", "developer"]), TEXT | PARTS),
    st.builds(lambda content, how: {"type": "message", "role": "assistant", "content": content, "status": how},
              TEXT | SAID | st.just(""), st.sampled_from(["completed", "incomplete", None])),
    st.builds(lambda name, text, how: {"type": "function_call", "call_id": name, "name": "f", "arguments": text,
                                     "status": how},
              st.sampled_from("ab"), st.sampled_from(["{}", '{"a']), st.sampled_from(["completed", "incomplete"])),
    st.builds(lambda name: {"type": "custom_tool_call", "call_id": name, "name": "c", "input": "ls"}, st.just("c")),
    st.builds(answer, st.sampled_from("ab"), TEXT | PARTS),
    st.builds(lambda texts, sealed: {"type": "reasoning", "summary": [], "encrypted_content": sealed,
                                     "content": [{"type": "reasoning_text", "text": text} for text in texts]},
              st.lists(TEXT, max_size=2), st.sampled_from([None, "foreign", seal(REASONING, DETAILS)])),
    st.builds(lambda text: {"type": "compaction", "encrypted_content": seal(SUMMARY, text)}, TEXT),
    st.builds(lambda name: {"type": "item_reference", "id": name}, st.sampled_from(["msg_k", "fc_k"])),
), max_size=8, unique_by=lambda item: item["id"] if item.get("type") == "item_reference" else id(item))  # fmt: skip
KNOWN = {
    "msg_k": b'{"type":"message","id":"msg_k","role":"assistant","status":"completed","content":[]}',
    "fc_k": orjson.dumps({**call("k"), "id": "fc_k", "status": "completed"}),
}


@settings(deadline=None)
@given(ITEMS)
def test_pieces_are_the_messages_of_the_request(items: list[dict[str, object]]) -> None:
    """Whoever reads the listed items again, as a whole or as a client that sends them back, gets the same messages."""
    made, listed = read_input(items, ID, KNOWN)
    found = pieces(listed)
    assert [orjson.loads(piece.wire) for piece in found] == made
    places = [at for piece in found for at in piece.items]
    assert places == sorted(set(places))
    assert all(piece.items and piece.items[-1] < len(listed) for piece in found)
    for each in listed:
        assert type(_ITEM.validate_python(orjson.loads(each), strict=True)).__name__ != "dict"
    again, items_again = read_input([*map(orjson.loads, listed)], "cd" * 24)
    assert again == made
    assert [*map(orjson.loads, items_again)] == [*map(orjson.loads, listed)]
    ours = read_input(items, ID, KNOWN, member="items", ours=True)[1]
    assert pieces(ours) == found
    assert [orjson.loads(item)["id"] for item in ours] == [
        f"{PREFIXES[orjson.loads(item)['type']]}_{ID}{at:02x}i" for at, item in enumerate(ours)
    ]


@settings(deadline=None)
@given(ITEMS, st.data())
def test_an_item_that_no_piece_names_says_nothing(items: list[dict[str, object]], data: st.DataObject) -> None:
    made, listed = read_input(items, ID, KNOWN)
    named = {at for piece in pieces(listed) for at in piece.items}
    rest = [item for at, item in enumerate(listed) if at in named]
    assert [orjson.loads(piece.wire) for piece in pieces(rest)] == made
