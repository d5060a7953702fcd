"""Messages know the items that they say."""

from proxy.dialects.responses.draft import Draft


def drafted(*steps: tuple[str, object]) -> list[tuple[dict[str, object], tuple[int, ...]]]:
    draft = Draft()
    for at, (what, value) in enumerate(steps):
        draft.at = at
        if what == "reason":
            draft.reason(str(value), {})
        elif what == "seal":
            draft.reason("", {"reasoning_details": [value]})
        elif what == "say":
            draft.say({"role": "assistant", "content": value})
        elif what == "call":
            draft.call({"id": value})
        else:
            draft.add({"role": what, "content": value})
    draft.flush()
    return list(zip(draft.messages, draft.places, strict=True))


def test_one_reply_is_one_message() -> None:
    assert drafted(("user", "u"), ("reason", "r"), ("say", "s"), ("call", "a"), ("call", "b"), ("tool", "t")) == [
        ({"role": "user", "content": "u"}, (0,)),
        ({"role": "assistant", "content": "s", "tool_calls": [{"id": "a"}, {"id": "b"}], "reasoning_content": "r"},
         (1, 2, 3, 4)),
        ({"role": "tool", "content": "t"}, (5,)),
    ]  # fmt: skip


def test_each_message_keeps_its_own_reasoning() -> None:
    assert drafted(("reason", "r"), ("say", "a"), ("reason", "s"), ("say", "b"), ("reason", "t")) == [
        ({"role": "assistant", "content": "a", "reasoning_content": "r"}, (0, 1)),
        ({"role": "assistant", "content": "b", "reasoning_content": "s\n\nt"}, (2, 3, 4)),
    ]


def test_reasoning_alone_is_a_message_and_an_empty_one_is_none() -> None:
    assert drafted(("reason", "r"), ("user", "u"), ("reason", "")) == [
        ({"role": "assistant", "content": "", "reasoning_content": "r"}, (0,)),
        ({"role": "user", "content": "u"}, (1,)),
    ]
    assert drafted(("reason", ""), ("user", "u"), ("say", "a")) == [
        ({"role": "user", "content": "u"}, (1,)),
        ({"role": "assistant", "content": "a"}, (2,)),
    ]


def test_the_upstreams_own_form_of_reasoning_is_put_together() -> None:
    assert drafted(("seal", 1), ("call", "a"), ("seal", 2), ("tool", "t")) == [
        ({"role": "assistant", "content": None, "tool_calls": [{"id": "a"}], "reasoning_details": [1, 2]}, (0, 1, 2)),
        ({"role": "tool", "content": "t"}, (3,)),
    ]


def test_what_is_said_between_calls_joins_them() -> None:
    (message, places), = drafted(("say", "a"), ("call", "x"), ("say", "b"), ("call", "y"))  # fmt: skip
    assert message["content"] == [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert (message["tool_calls"], places) == ([{"id": "x"}, {"id": "y"}], (0, 1, 2, 3))
