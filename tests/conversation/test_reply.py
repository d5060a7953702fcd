"""Deltas are put together without losing or mixing what they say."""

import time

from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation.reply import Calls, Parts, fold, joined


def folded(*deltas: object) -> object:
    held: object = None
    for delta in deltas:
        held = fold(held, delta)
    return joined(held)


@given(st.lists(st.text(max_size=5), min_size=1))
def test_strings_are_joined(pieces: list[str]) -> None:
    assert folded(*pieces) == "".join(pieces)


def test_objects_are_folded_member_by_member() -> None:
    assert folded({"a": "x", "b": {"c": "y"}}, {"a": "z", "b": {"c": "w", "d": 1}, "e": None}) == {
        "a": "xz",
        "b": {"c": "yw", "d": 1},
        "e": None,
    }


def test_names_of_things_are_replaced_not_joined() -> None:
    assert folded({"id": "a", "type": "t", "x": 1}, {"id": "a", "type": "t", "x": 2}, {"id": None}) == {
        "id": "a",
        "type": "t",
        "x": 2,
    }


def test_null_adds_nothing() -> None:
    assert folded("a", None, "b") == "ab"
    assert folded(None) is None


def test_value_of_another_kind_replaces() -> None:
    assert folded("a", {"b": 1}) == {"b": 1}
    assert folded([1], "a") == "a"
    assert folded({"a": "x"}, [1]) == [1]


def test_lists_are_extended() -> None:
    assert folded(["a"], ["a", {"type": "image_url"}], [{"type": "image_url"}]) == [
        "a",
        "a",
        {"type": "image_url"},
        {"type": "image_url"},
    ]


def test_growing_items_are_joined_to_their_own() -> None:
    def text(text: str, **more: object) -> dict[str, object]:
        return {"type": "reasoning.text", "text": text, **more}

    assert folded([text("a")], [text("b")]) == [text("ab")]
    assert folded([text("a", index=0), text("x", index=1)], [text("b", index=0)], [text("y", index=1)]) == [
        text("ab", index=0),
        text("xy", index=1),
    ]
    assert folded([text("a", id="1")], [text("b", id="2")]) == [text("a", id="1"), text("b", id="2")]
    assert folded([text("a")], [{"type": "text", "text": "b"}], [text("c")]) == [
        text("a"),
        {"type": "text", "text": "b"},
        text("c"),
    ]


def test_what_was_given_is_not_changed() -> None:
    first = {"a": "x", "b": ["y"]}
    folded(first, {"a": "z", "b": ["w"]})
    assert first == {"a": "x", "b": ["y"]}


def content(*deltas: object) -> object:
    parts = Parts()
    for delta in deltas:
        parts.add(delta)
    return joined(parts.value)


def test_content_is_text_or_parts_or_both() -> None:
    a, b = {"type": "text", "text": "a"}, {"type": "text", "text": "b"}
    image = {"type": "image_url", "image_url": {"url": "u"}}
    assert content() is None
    assert content(None, 5) is None
    assert content("a", "b") == "ab"
    assert content([a], [b]) == [{"type": "text", "text": "ab"}]
    assert content("a", [image], "b") == [a, image, b]
    assert content("", [image], "") == [image]


def calls(*deltas: dict[str, object]) -> object:
    held = Calls()
    for delta in deltas:
        held.add(delta)
    return joined(held.whole())


def test_pieces_go_to_the_call_of_their_index() -> None:
    assert calls(
        {"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": "{"}},
        {"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "["}},
        {"index": 0, "function": {"arguments": "}"}},
        {"index": 1, "function": {"arguments": "]"}},
    ) == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "[]"}},
    ]


def test_unknown_members_of_calls_are_kept() -> None:
    signed = {"google": {"thought_signature": "abc"}}
    assert calls(
        {"index": 0, "id": "a", "extra_content": signed, "function": {"name": "f", "arguments": "{}", "strict": True}}
    ) == [{"id": "a", "extra_content": signed, "function": {"name": "f", "arguments": "{}", "strict": True}}]


def test_a_signature_that_is_sent_twice_is_one() -> None:
    signed = {"extra_content": {"google": {"thought_signature": "abc"}}}
    assert calls({"index": 0, "id": "a", **signed}, {"index": 0, **signed}) == [{"id": "a", **signed}]


def test_odd_kinds_of_values_do_no_harm() -> None:
    odd: list[object] = [None, 5, "x", [1], {"a": []}]
    for value in odd:
        for other in odd:
            calls(
                {"index": value, "id": value, "type": value, "function": value, "custom": other},
                {"index": other, "id": other, "type": other, "function": {"name": value, "arguments": other}},
                {"function": {"name": other, "arguments": value}},
            )
            folded([{"type": value, "index": other, "id": value}], [{"type": other, "index": value, "id": other}])


def test_long_replies_cost_linear_time() -> None:
    def cost(pieces: int) -> float:
        held: object = None
        parts, listed = Parts(), Calls()
        start = time.process_time()
        for at in range(pieces):
            parts.add("x" * 20)
            held = fold(held, [{"type": "image", "index": at}])
            listed.add({"id": str(at), "function": {"name": "f"}})
        joined([parts.value, held, listed.whole()])
        return time.process_time() - start

    assert cost(40_000) < 40 * cost(4_000) + 0.2
