"""Notes keep a response and its items once, and give them back as they were."""

import json

from hypothesis import given
from hypothesis import strategies as st

from proxy.resources import notes

texts = st.text(st.characters(codec="utf-8"), max_size=20)
items = st.one_of(
    st.builds(
        lambda name, words: {
            "id": name, "type": "message", "content": [{"type": "output_text", "text": word} for word in words],
        },
        texts,
        st.lists(texts, max_size=3),
    ),
    st.builds(lambda name, text: {"id": name, "type": "function_call", "arguments": text}, texts, texts),
)  # fmt: skip


@given(st.lists(items, max_size=4), st.lists(items, max_size=3))
def test_a_response_comes_back_as_it_was(output: list[dict[str, object]], input: list[dict[str, object]]) -> None:
    said = "".join(
        part["text"]
        for item in output
        if item["type"] == "message"
        for part in item["content"]  # type: ignore[attr-defined]
    )
    made: dict[str, object] = {"id": "resp_1", "output": output, "x": {"y": 1.0}, "output_text": said, "last": None}
    raw = notes.note(made, [json.dumps(item).encode() for item in input])
    kept = notes.read(raw)
    assert kept.answers
    again = json.loads(notes.response(kept) or b"")
    assert again == made
    assert list(again) == list(made)
    assert [notes.item_id(item) for item in (*kept.input, *kept.output)] == [item["id"] for item in (*input, *output)]


def test_items_are_kept_without_a_response() -> None:
    kept = notes.read(notes.note(None, [b'{"id":"a"}', b'{"id":"b"}'], (0, -1)))
    assert not kept.answers
    assert notes.response(kept) is None
    assert [notes.item_id(item) for item in kept.input] == ["a", "b"]
    assert kept.places == (0, -1)
    assert notes.read(b"") == notes.Note()
