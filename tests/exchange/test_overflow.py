"""Each provider's way of saying that the context is too long, and what is sent instead."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.exchange.overflow import Overflow, fitting, overflow, prompt

LINES = [json.loads(line) for line in (Path(__file__).parent / "overflow.jsonl").read_text().splitlines()]
"""Replies in each provider's words; without `limit`, replies that say something else."""
SAID = [line for line in LINES if "limit" in line]
OTHERWISE = [line for line in LINES if "limit" not in line]


@pytest.mark.parametrize("line", SAID, ids=[line["provider"] for line in SAID])
def test_it_is_recognised_with_its_figures(line: dict[str, Any]) -> None:
    assert overflow(line["status"], line["body"].encode()) == (line["limit"], line["sent"])


@pytest.mark.parametrize("line", OTHERWISE)
def test_anything_else_is_not(line: dict[str, Any]) -> None:
    assert overflow(line["status"], line["body"].encode()) is None


def test_a_very_long_refusal_is_not_searched() -> None:
    assert overflow(400, b"prompt is too long" + b" " * 70_000) is None


@given(st.binary(max_size=2000), st.sampled_from([400, 413, 422, 500]))
def test_any_bytes_may_come(body: bytes, status: int) -> None:
    overflow(status, body)


@given(
    st.one_of(st.none(), st.integers(100, 10**6)),
    st.one_of(st.none(), st.integers(100, 10**6)),
    st.integers(1, 10**6),
    st.integers(0, 10**5),
    st.integers(0, 10**5),
)
def test_what_is_sent_instead_is_always_less(
    limit: int | None, sent: int | None, kept: int, rest: int, reserve: int
) -> None:
    tokens = fitting(Overflow(limit, sent), kept=kept, estimated=kept + rest, reserve=reserve)
    assert 0 <= tokens < kept


def test_it_fits_what_the_upstream_holds_by_the_upstreams_own_count() -> None:
    # of two of the upstream's tokens for one of ours: 900 / 2, less a little, less the 100 that are no history
    assert fitting(Overflow(1000, 2000), kept=900, estimated=1000, reserve=100) == 441 - 100
    assert prompt(Overflow(1000, 2000), estimated=1000, reserve=100) == 441


def test_what_a_server_repeats_of_the_request_is_not_what_it_says() -> None:
    words = "This model's maximum context length is 100 tokens."
    body: dict[str, Any] = {
        "detail": [{"type": "value_error", "msg": "wrong", "input": {"messages": [{"content": words}]}}]
    }
    assert overflow(422, json.dumps(body).encode()) is None
    body["detail"][0]["msg"] = words
    assert overflow(422, json.dumps(body).encode()) == (100, None)


def test_without_figures_half_is_sent() -> None:
    assert fitting(Overflow(None, None), kept=101, estimated=200, reserve=0) == 50


def test_a_count_that_was_wrong_halves_too() -> None:
    assert fitting(Overflow(8000, None), kept=1000, estimated=1200, reserve=0) == 500
