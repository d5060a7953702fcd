"""What messages weigh: OpenAI's published examples, tiktoken's own counts, and hostile input at a bounded cost."""

import base64
import json
import random
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation.message import Media, Message, ToolCall
from proxy.tokens import counter, vocabulary
from tests.tokens import reference

COOKBOOK = [
    {
        "role": "system",
        "content": "You are a helpful, pattern-following assistant that translates corporate jargon "
        "into plain English.",
    },
    {"role": "system", "name": "example_user", "content": "New synergies will help drive top-line growth."},
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Things working well together will increase revenue.",
    },
    {
        "role": "system",
        "name": "example_user",
        "content": "Let's circle back when we have more bandwidth to touch base on opportunities for "
        "increased leverage.",
    },
    {
        "role": "system",
        "name": "example_assistant",
        "content": "Let's talk later when we're less busy about how to do better.",
    },
    {
        "role": "user",
        "content": "This late pivot means we don't have time to boil the ocean for the client deliverable.",
    },
]


@pytest.fixture(autouse=True, scope="module")
def _loaded() -> None:
    vocabulary.preload()
    reference.encoding("o200k_base")


def message(fields: dict[str, str]) -> Message:
    return Message(fields["role"], json.dumps(fields).encode(), fields["content"])


@pytest.mark.parametrize(("model", "reported"), [("gpt-3.5-turbo", 129), ("gpt-4", 129), ("gpt-4o", 124)])
def test_the_cookbooks_conversation_weighs_what_the_api_reported(model: str, reported: int) -> None:
    """OpenAI cookbook, "How to count tokens with tiktoken", section 6."""
    tokens = counter.PRIMING_TOKENS + sum(counter.count(message(each), model) for each in COOKBOOK)
    assert tokens == reported


@pytest.mark.parametrize(
    ("text", "cl100k", "o200k"),
    [
        ("", 0, 0),
        ("tiktoken is great!", 6, 6),
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 9, 8),
        ("<|endoftext|>", 7, 7),
        ("\x00\x01", 2, 2),
    ],
)
def test_text_weighs_what_the_cookbook_says(text: str, cl100k: int, o200k: int) -> None:
    assert (counter.count_text(text, "gpt-4"), counter.count_text(text, "gpt-4o")) == (cl100k, o200k)


@given(st.text(max_size=200))
def test_a_plain_message_weighs_its_text_and_its_frame(text: str) -> None:
    wire = json.dumps({"role": "user", "content": text}).encode()
    alone = len(reference.encoding("o200k_base").encode_ordinary(text))
    assert counter.count(Message("user", wire, text), "gpt-4o") == alone + 4


def test_a_tool_call_weighs_its_name_and_its_arguments() -> None:
    call = ToolCall("call_1", "get_weather", '{"city": "Paris"}')
    wire = b'{"role":"assistant","tool_calls":[{"id":"call_1","function":{"name":"get_weather"}}]}'
    one = counter.count(Message("assistant", wire, "", calls=(call,)), "gpt-4o")
    assert one == 4 + 3 + counter.count_text("get_weather", "gpt-4o") + counter.count_text(call.arguments, "gpt-4o")
    assert counter.count(Message("assistant", wire, "", calls=(call, call)), "gpt-4o") == 2 * one - 4


@pytest.mark.parametrize("name", ['"a\\nb"', "null", "7", '{"x":1}', '""', '"\\ud800"'])
def test_a_name_of_any_kind_does_no_harm(name: str) -> None:
    wire = b'{"role":"user","content":"hi","name":' + name.encode() + b"}"
    assert 5 <= counter.count(Message("user", wire, "hi"), "gpt-4o") <= 10


def test_the_word_name_inside_content_is_no_name() -> None:
    fields = {"role": "user", "content": 'the "name" of the rose'}
    assert counter.count(message(fields), "gpt-4o") == 4 + counter.count_text(fields["content"], "gpt-4o")


def test_lone_surrogates_are_counted_and_not_raised() -> None:
    assert counter.count_text("a\ud800b", "gpt-4o") > 0
    assert counter.count_text("\ud800" * 10_000, "gpt-4o") > 0


HOSTILE = {
    "one letter": "a" * 1_000_000,
    "spaces": " " * 1_000_000,
    "lines": "\n" * 1_000_000,
    "base64": base64.b64encode(random.Random(1).randbytes(750_000)).decode(),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_megabyte_of_hostile_text_takes_less_than_a_second(kind: str) -> None:
    """In CPU time, so that a busy machine does not matter; 0.3 to 0.5 s where this was written."""
    counter.count_text("warm", "gpt-4o")
    before = time.thread_time()
    tokens = counter.count_text(HOSTILE[kind], "gpt-4o")
    assert time.thread_time() - before < 1.0
    assert tokens > 1000


@pytest.mark.parametrize("kind", HOSTILE)
def test_text_without_a_place_to_cut_is_within_a_token_for_each_piece(kind: str) -> None:
    text = HOSTILE[kind][:40_000]
    exact = len(reference.encoding("o200k_base").encode_ordinary(text))
    assert abs(counter.count_text(text, "gpt-4o") - exact) <= len(text) // 4096 + 1


def test_is_slow_says_what_belongs_in_a_thread() -> None:
    long = "x" * counter.THREAD_CHARS
    assert not counter.is_slow(Message("user", b"{}", "short"))
    assert counter.is_slow(Message("user", b"{}", long))
    assert counter.is_slow(Message("assistant", b"{}", "", calls=(ToolCall("1", "f", long),)))


def test_overhead_is_the_weight_of_its_json_for_each_vocabulary() -> None:
    raw = '[{"type":"function","function":{"name":"wetterbericht","description":"お誕生日おめでとう"}}]'
    for model in ("gpt-4o", "gpt-4", "gpt-4o"):
        assert counter.overhead(raw.encode(), model) == counter.count_text(raw, model)
    assert counter.overhead(b"", "gpt-4o") == 0
    assert counter.overhead(b"\xff\xfe", "gpt-4o") > 0


def test_overhead_remembers_a_bounded_number() -> None:
    counts = counter.Overheads(3)
    for number in range(10):
        counts.count(b"%d" % number, "gpt-4o")
        counts.count(b"0", "gpt-4o")
    assert len(counts) == 3


def test_overhead_remembered_is_far_cheaper_than_counted() -> None:
    raw = json.dumps([{"name": f"tool {number}", "description": "x y z " * 20} for number in range(200)]).encode()
    first = _seconds(raw)
    assert min(_seconds(raw) for _ in range(5)) < first / 5


def _seconds(raw: bytes) -> float:
    before = time.thread_time()
    counter.overhead(raw, "gpt-4o")
    return time.thread_time() - before


def media(kind: str, data: str, detail: str = "") -> int:
    part = Media(kind, data, detail)
    return counter.count(Message("user", b"{}", "", media=(part,)), "gpt-4o") - 4


def test_images_weigh_by_the_formula() -> None:
    assert media("image", "https://example.org/a.png") == 765
    assert media("image", "https://example.org/a.png", "low") == 85


def _wav(seconds: int, rate: int) -> str:
    head = b"RIFF\0\0\0\0WAVEfmt \x10\0\0\0\1\0\1\0" + (rate // 2).to_bytes(4, "little") + rate.to_bytes(4, "little")
    return base64.b64encode(head + bytes(12) + bytes(seconds * rate)).decode()


@pytest.mark.parametrize("rate", [16_000, 48_000])
def test_a_wav_weighs_ten_tokens_a_second_by_its_own_rate(rate: int) -> None:
    assert media("audio", _wav(5, rate), "wav") == pytest.approx(51, abs=1)


def test_other_audio_is_taken_for_mp3() -> None:
    assert media("audio", base64.b64encode(bytes(160_000)).decode(), "mp3") == pytest.approx(101, abs=1)


def test_what_lies_behind_an_id_or_a_url_has_a_fixed_weight() -> None:
    for kind in ("audio", "file"):
        assert media(kind, "file-abc123") == counter.UNKNOWN_MEDIA_TOKENS
        assert media(kind, "https://example.org/x") == counter.UNKNOWN_MEDIA_TOKENS


def test_files_weigh_by_their_size_between_two_bounds() -> None:
    def pdf(size: int) -> int:
        return media("file", "data:application/pdf;base64," + base64.b64encode(bytes(size)).decode())

    assert pdf(1_000) == counter.FILE_TOKENS_MIN
    assert pdf(50_000) == pytest.approx(2_000, abs=5)
    assert pdf(3_000_000) == counter.FILE_TOKENS_MAX


@given(
    kind=st.sampled_from(["image", "audio", "file", "video"]),
    data=st.text(max_size=400)
    | st.binary(max_size=300).map(lambda raw: "data:x/y;base64," + base64.b64encode(raw).decode()),
    detail=st.sampled_from(["", "low", "high", "wav", "\0"]),
)
def test_media_of_any_kind_never_raises(kind: str, data: str, detail: str) -> None:
    assert media(kind, data, detail) >= 1


@given(st.integers(0, 10**7), st.integers(0, 10**7))
def test_the_ratio_corrects_an_estimate_within_bounds(estimated: int, reported: int) -> None:
    ratio = counter.ratio(estimated, reported)
    assert counter.RATIO_MIN <= ratio <= counter.RATIO_MAX
    if not estimated or not reported:
        assert ratio == 1.0
    elif estimated <= 4 * reported and reported <= 4 * estimated:
        assert ratio * estimated == pytest.approx(reported)
