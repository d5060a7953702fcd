"""The writer's events keep the grammar."""

from proxy.dialects.responses.reply import call_item, message_item, reasoning_item
from proxy.dialects.responses.writer import Writer
from tests.dialects.responses.grammar import events

ID = "ab" * 24


def test_a_finished_item_has_every_event() -> None:
    out = Writer()
    call = call_item(ID, 1, {"id": "c", "function": {"name": "f", "arguments": "{}"}}, "completed")
    names = [event["type"] for event in events(out.whole(reasoning_item(ID, 0, "hm")) + out.whole(call))]
    assert names == [
        "response.output_item.added", "response.content_part.added", "response.reasoning_text.delta",
        "response.reasoning_text.done", "response.content_part.done", "response.output_item.done",
        "response.output_item.added", "response.function_call_arguments.delta",
        "response.function_call_arguments.done", "response.output_item.done",
    ]  # fmt: skip
    assert out.sequence == len(names)
    assert out.items == [reasoning_item(ID, 0, "hm"), call]


def test_what_is_open_is_known() -> None:
    out = Writer()
    assert (out.kind, out.part, out.index, out.close("completed"), out.close_part()) == ("", "", 0, b"", b"")
    out.open(message_item(ID, 0, [], "completed"))
    out.open_part("refusal")
    assert (out.kind, out.part, out.index) == ("message", "refusal", 0)
    out.delta("no")
    assert out.items == []
    out.close("incomplete")
    content: list[dict[str, object]] = [{"type": "refusal", "refusal": "no"}]
    assert (out.kind, out.part, out.index) == ("", "", 1)
    assert out.items == [message_item(ID, 0, content, "incomplete")]
