"""Log probabilities of chat become those of a Response, in every form that servers send."""

import math

import orjson
from hypothesis import given
from hypothesis import strategies as st
from openai.types.responses.response_output_text import Logprob

from proxy.dialects.responses.logprobs import shaped

ONE = {"token": "é", "logprob": -1, "bytes": [195, 169]}


def test_bytes_that_are_missing_are_the_tokens_own() -> None:
    given = {**ONE, "bytes": None, "top_logprobs": [{"token": "a", "logprob": -0.5}, {"token": "b"}, 3]}
    top = {"token": "a", "bytes": [97], "logprob": -0.5}
    assert shaped([given]) == [{**ONE, "logprob": -1.0, "top_logprobs": [top]}]
    assert shaped([{**ONE, "token": "?", "more": 1}]) == [{**ONE, "token": "?", "logprob": -1.0, "top_logprobs": []}]


def test_what_is_none_is_left_out() -> None:
    for odd in (None, "a", {}, {**ONE, "token": 3}, *({**ONE, "logprob": v} for v in
                (None, True, "1", math.nan, -math.inf, 10**400))):  # fmt: skip
        assert shaped([odd, ONE]) == shaped([ONE])


ANY = st.none() | st.integers() | st.floats() | st.text(max_size=3) | st.lists(st.integers(-1, 300), max_size=3)


LISTED = st.lists(
    st.dictionaries(
        st.sampled_from(["token", "logprob", "bytes", "top_logprobs"]),
        ANY | st.lists(st.dictionaries(st.sampled_from(["token", "logprob", "bytes"]), ANY), max_size=2),
    ),
    max_size=3,
)


@given(LISTED)
def test_whatever_came_is_valid(listed: list[object]) -> None:
    for each in orjson.loads(orjson.dumps(shaped(listed))):
        assert not Logprob.model_validate(each, strict=True).model_extra
