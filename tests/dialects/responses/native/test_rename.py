"""An upstream's response goes out under the proxy's ids, the same in events and in the finished response."""

import json
from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.dialects.responses.native.rename import Renamer, renamed, renamed_body
from tests.dialects.responses.native.samples import (
    Item,
    call,
    custom,
    event,
    message,
    reasoning,
    response,
    runs,
    streamed,
)

ID = "0123456789abcdef" * 3
ECHO = {
    "previous_response_id": f"resp_{'f' * 48}",
    "conversation": {"id": "conv_1"},
    "store": True,
    "background": False,
}
ITEMS = [reasoning(content=[{"type": "reasoning_text", "text": "hm"}]), message("Grüße \U0001f600"), call(), custom()]
SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed"}


def run(*chunks: bytes) -> bytes:
    renamer = Renamer(ID, ECHO)
    return b"".join([*map(renamer.feed, chunks), renamer.end()])


def events(stream: bytes) -> list[dict[str, object]]:
    return [orjson.loads(block.partition(b"data: ")[2]) for block in stream.split(b"\n\n") if block]


def test_response_and_items_have_the_proxy_s_ids() -> None:
    made = renamed(response([*ITEMS, SEARCH, {"type": "x"}]), ID, ECHO)
    assert made["id"] == f"resp_{ID}"
    assert {name: made[name] for name in ECHO} == ECHO
    assert isinstance(made["output"], list)
    prefixes = ["rs", "msg", "fc", "ctc", "ws", "item"]
    assert [item["id"] for item in made["output"]] == [f"{each}_{ID}{at:02x}" for at, each in enumerate(prefixes)]


def test_nothing_else_changes() -> None:
    given_response = response(ITEMS)
    made = renamed(given_response, ID, ECHO)
    for item, own in zip(made["output"], ITEMS, strict=True):  # type: ignore[call-overload]
        assert {**item, "id": own["id"]} == own
    own_names = {"id", "output", *ECHO}
    assert {name: each for name, each in made.items() if name not in own_names} == {
        name: each for name, each in given_response.items() if name not in own_names
    }


def test_other_members_of_a_body_keep_their_bytes() -> None:
    big = b'{"x": 123456789012345678901234567890,'
    body = big + b'"id":"resp_up","output":[{"type":"message","id":"m","n":1.0}],"y":"\\u0041"}'
    assert renamed_body(body, ID, {"store": True}) == (
        b'{"x":123456789012345678901234567890,"id":"resp_%b","output":[{"type":"message","id":"msg_%b00","n":1.0}],'
        b'"y":"\\u0041","store":true}' % (ID.encode(), ID.encode())
    )


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b"\xff", b"{", b'{"a":' + b"[" * 100_000])
def test_what_is_no_response_stays(body: bytes) -> None:
    assert renamed_body(body, ID, ECHO) == body


@settings(max_examples=60, deadline=None)
@given(runs(calls=True), st.booleans())
def test_events_and_the_finished_response_agree(items: list[Item], other_ids: bool) -> None:
    """Also where the upstream gives other ids in the two."""
    made = response(items)
    stream = streamed(made)
    if other_ids:
        stream[-1] = stream[-1].replace(b'"id":"', b'"id":"x')
    found = events(run(b"".join(stream)))
    for each in found:
        if "response" in each:
            whole = each["response"]
            assert isinstance(whole, dict)
            assert whole["id"] == f"resp_{ID}"
            assert {name: whole[name] for name in ECHO} == ECHO
    final = found[-1]["response"]
    assert isinstance(final, dict)
    ids = [item["id"] for item in final["output"]]
    assert len(set(ids)) == len(ids)
    for each in found:
        if "output_index" in each:
            at = each["output_index"]
            assert isinstance(at, int)
            item = each.get("item")
            assert (item["id"] if isinstance(item, dict) else each["item_id"]) == ids[at]
    assert final == renamed(response(items), ID, ECHO)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 20_000), max_size=12), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_any_cutting_gives_the_same(places: list[int], end: bytes) -> None:
    body = b"".join(streamed(response(ITEMS))).replace(b"\n", end)
    at = [0, *sorted({place % (len(body) + 1) for place in places}), len(body)]
    assert run(*(body[start:stop] for start, stop in pairwise(at))) == run(body)
    assert events(run(body).replace(b"\r\n", b"\n").replace(b"\r", b"\n")) == events(run(body.replace(end, b"\n")))


def test_whole_events_go_on_as_they_come() -> None:
    renamer = Renamer(ID, ECHO)
    for frame in streamed(response(ITEMS)):
        assert renamer.feed(frame[:20]) == b""
        assert renamer.feed(frame[20:]).endswith(b"\n\n")
    assert renamer.end() == b""


def test_what_names_nothing_keeps_its_bytes() -> None:
    for frame in (
        b": ping\n\n",
        b"data: [DONE]\n\n",
        b'event: error\r\ndata: {"type":"error",  "message":"item"}\r\n\r\n',
        b'data: {"type":"x","a":"\\"item_id\\":\\"m\\""}\n\n',
        b'data: {"item_id"\n\n',
        b'data: {"item":5,"response":null}\n\n',
        b"\n\r\n",
    ):
        assert run(frame) == frame


def test_other_lines_of_an_event_stay() -> None:
    frame = (
        b'\xef\xbb\xbf: a\nid: 7\nevent: e\ndata: {"output_index":0,\ndata: "item_id" : "msg_1","n":1.0}\nretry: 5\n\n'
    )
    assert run(frame) == frame.replace(b"msg_1", b"msg_%b00" % ID.encode())
    frame = b'\xef\xbb\xbf: a\nid: 7\ndata: {"output_index":0,\ndata: "item":{"id":"msg_1"},"n":1.0}\nretry: 5\n\n'
    assert run(frame) == (
        b': a\nid: 7\nretry: 5\ndata: {"output_index":0,"item":{"id":"msg_%b00"},"n":1.0}\n\n' % ID.encode()
    )


def test_a_member_is_not_taken_for_another_s() -> None:
    """Only an event that names each once is changed in place."""
    frame = b'data: {"part":{"item_id":"a","output_index":5},"item_id":"msg_1","output_index":2}\n\n'
    assert run(frame) == frame.replace(b"msg_1", b"msg_%b02" % ID.encode())
    frame = b'data: {"part":{"item_id":"a"},"item_id":"msg_1","output_index":2}\n\n'
    assert run(frame) == frame.replace(b"msg_1", b"msg_%b02" % ID.encode())
    for odd in (b"1.5", b"1e3", b"-1", b'"1"', b"99999999999", b"null"):
        frame = b'data: {"item_id":"msg_1","output_index":%b}\n\n' % odd
        assert run(frame) == frame


def test_an_event_that_was_cut_at_the_end_is_renamed_too() -> None:
    frame = event("response.completed", response=response(ITEMS))
    assert events(run(frame[:-2]))[0]["response"] == renamed(response(ITEMS), ID, ECHO)


def test_no_byte_is_lost_at_the_end() -> None:
    whole, half = b'data: {"a":1}\n\n', b'data: {"item_id":"msg_1","output_index":0}'
    assert run(whole + half[:9], half[9:]) == run(whole + half) == run(whole) + run(half)
    assert run(half).endswith(b'_%b00","output_index":0}' % ID.encode())


def test_half_a_surrogate_pair_goes_on_as_it_came() -> None:
    """Its other half comes in the next event, and the client joins them."""
    for half in (rb"\ud83d", rb"\uDE00"):
        frame = b'data: {"item_id":"msg_up","output_index":1,"delta":"%b \\\\ud"}\n\n' % half
        assert run(frame) == frame.replace(b"msg_up", b"msg_%b01" % ID.encode())
        frame = b'data: {"output_index":1,"item":{"id":"msg_up","a":"%b \\\\ud"}}\n\n' % half
        assert run(frame) == frame.replace(b"msg_up", b"msg_%b01" % ID.encode())
    strange = rb'data: {"output_index":1,"item":{"id":"msg_up","a":"\ud83d \ufdd0"}}' + b"\n\n"
    assert run(strange) == strange


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["item", "response", "output", "id", "item_id", "output_index", "type"]), inner, max_size=4
    ),
    max_leaves=10,
)  # fmt: skip


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(["item", "response", "item_id", "output_index"]), JSON), max_size=3))
def test_hostile_events_never_raise(made: list[object]) -> None:
    out = run(b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in made))
    assert len(events(out)) == len(made)


def test_a_large_event_in_small_pieces_costs_no_square() -> None:
    renamer = Renamer(ID, ECHO)
    for _ in range(100_000):
        assert renamer.feed(b"data: abc\n") == b""
    assert len(renamer.feed(b"\n")) == 1_000_001
