"""The canonical form: equal for what SDKs change, different for what was said."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation.message import DIGEST_BYTES, ROOT_DIGEST, Media, Message, ToolCall, canonical, digest, shape

USER = Message("user", b"{}", "hello")


def calling(arguments: str, id: str = "a", name: str = "f") -> Message:
    return Message("assistant", b"{}", calls=(ToolCall(id, name, arguments),))


def test_bytes_and_asides_do_not_count() -> None:
    assert canonical(USER) == canonical(Message("user", b'{"x":1}', "hello", aside=b'{"reasoning":"hm"}'))


@pytest.mark.parametrize(
    "other",
    [
        Message("assistant", b"{}", "hello"),
        Message("user", b"{}", "hello "),
        Message("user", b"{}", "hello", media=(Media("image", "x"),)),
        Message("user", b"{}", "hello", calls=(ToolCall("a", "f", "{}"),)),
        Message("user", b"{}", "hello", answers="a"),
    ],
)
def test_what_was_said_counts(other: Message) -> None:
    assert canonical(USER) != canonical(other)


def test_media_count_by_what_they_hold() -> None:
    def with_media(*media: Media) -> bytes:
        return canonical(Message("user", b"{}", "hello", media=media))

    assert with_media(Media("image", "x")) == with_media(Media("image", "x", "low"))
    assert with_media(Media("image", "x")) != with_media(Media("image", "y"))
    assert with_media(Media("image", "x")) != with_media(Media("file", "x"))
    assert with_media(Media("image", "x"), Media("image", "y")) != with_media(Media("image", "y"), Media("image", "x"))


def test_a_large_medium_is_small_in_the_canonical_form() -> None:
    assert len(canonical(Message("user", b"{}", "", media=(Media("image", "x" * 1_000_000),)))) < 200


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1, "b": [1, 2]}', '{"b":[1,2],"a":1}'),
        ('{"a": "é"}', '{"a":"\\u00e9"}'),
        ('{"a": 1.0, "b": 1e3}', '{"a":1,"b":1000}'),
        ('{"a": 0.5}', '{"a":5e-1}'),
    ],
)
def test_arguments_are_compared_as_values(one: str, other: str) -> None:
    assert canonical(calling(one)) == canonical(calling(other))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('{"a": 1}', '{"a": "1"}'),
        ('{"a": 1}', '{"a": true}'),
        ('{"a": 1.5}', '{"a": 1}'),
        ('{"a": [1, 2]}', '{"a": [2, 1]}'),
        ('{"a": 123456789012345678901234567890}', '{"a": 123456789012345678901234567891}'),
        ('{"a": 1', '{"a": 1}'),
        ("", "{}"),
    ],
)
def test_different_arguments_stay_different(one: str, other: str) -> None:
    assert canonical(calling(one)) != canonical(calling(other))


def test_calls_count_by_id_and_name() -> None:
    assert len({canonical(each) for each in (calling("{}"), calling("{}", id="b"), calling("{}", name="g"))}) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        "{",
        '{"a": "\\ud800"}',
        "[" * 300 + "]" * 300,
        "[" * 5000,
        "1" * 5000,
        "NaN",
        '{"a": 1e999}',
        '{"a": [1.0, NaN]}',
    ],
)
def test_hostile_arguments_have_a_canonical_form(arguments: str) -> None:
    assert canonical(calling(arguments)) != canonical(calling(arguments + " x"))


@given(
    st.dictionaries(
        st.text(max_size=5), st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5)
    )
)
def test_redumped_arguments_are_equal(arguments: dict[str, object]) -> None:
    one, other = json.dumps(arguments), json.dumps(arguments, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    assert canonical(calling(one)) == canonical(calling(other))


def test_digest_depends_on_key_message_and_everything_before() -> None:
    first = digest(b"k", ROOT_DIGEST, USER)
    assert len(first) == DIGEST_BYTES
    assert first == digest(b"k", ROOT_DIGEST, Message("user", b"other bytes", "hello"))
    second = digest(b"k", first, USER)
    assert len({first, second, digest(b"K", ROOT_DIGEST, USER), digest(b"k", ROOT_DIGEST, calling("{}"))}) == 4


def test_shape_is_what_planning_needs() -> None:
    message = Message("tool", b'{"role":"tool"}', "x", answers="a")
    assert shape(message, 7) == shape(Message("tool", b'{"role":"tool"}', "y", answers="a"), 7)
    made = shape(calling("{}"), 3)
    assert (made.role, made.size, made.tokens, made.calls, made.answers) == ("assistant", 2, 3, ("a",), "")
