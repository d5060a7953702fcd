"""What images weigh: the examples of OpenAI's page on images and vision."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.tokens import images

MODELS = ["gpt-4o", "gpt-4o-mini", "gpt-4.1-mini", "o4-mini", "o1", "gpt-5", "gpt-5.2", "gpt-5.4", "gpt-5.6", "llava"]


@pytest.mark.parametrize(
    ("model", "width", "height", "detail", "tokens"),
    [
        # the page's own examples
        ("gpt-4o", 1024, 1024, "high", 765),
        ("gpt-4o", 2048, 4096, "high", 1105),
        ("gpt-4o", 4096, 8192, "low", 85),
        ("gpt-5.4", 1024, 1024, "high", 1229),
        ("gpt-5.4", 2048, 2048, "high", 3000),
        ("o4-mini", 1024, 1024, "high", 1762),  # 1,024 patches
        ("o4-mini", 1800, 2400, "high", 2498),  # 1,452 patches
        # by its tables
        ("gpt-4o", 4096, 1024, "high", 765),  # 2,048 by 512: 4 tiles
        ("gpt-4o", 512, 512, "auto", 255),
        ("gpt-4o", 513, 512, "auto", 425),
        ("gpt-4o", 1, 1, "high", 255),
        ("gpt-4o-mini", 1024, 1024, "high", 2833 + 4 * 5667),
        ("gpt-5.1", 1024, 1024, "high", 70 + 4 * 140),
        ("gpt-5", 1024, 1024, "low", 70),
        ("o1-2024-12-17", 1024, 1024, "high", 75 + 4 * 150),
        ("gpt-4.1-mini", 1024, 1024, "auto", 1659),
        ("gpt-4.1-nano", 1024, 1024, "auto", 2520),
        ("gpt-5-mini", 1024, 1024, "auto", 1229),
        ("gpt-5-nano", 1024, 1024, "auto", 1536),
        ("gpt-5.6-sol", 4096, 4096, "auto", 19661),
        ("gpt-5.6-sol", 4096, 4096, "low", 308),
        ("gpt-5.5", 8192, 8192, "original", 12000),
        ("openai/GPT-4o", 1024, 1024, "high", 765),
        ("some-open-model", 1024, 1024, "", 765),
        ("x" * 100_000, 1024, 1024, "", 765),
    ],
)
def test_an_image_weighs_what_the_page_says(model: str, width: int, height: int, detail: str, tokens: int) -> None:
    assert images.tokens((width, height), detail, model) == tokens


@pytest.mark.parametrize("model", MODELS)
def test_an_image_of_unknown_size_weighs_like_one_of_1024_by_1024(model: str) -> None:
    assert images.tokens(None, "high", model) == images.tokens((1024, 1024), "high", model)


@given(
    model=st.sampled_from(MODELS),
    detail=st.sampled_from(["", "low", "high", "original", "auto"]),
    width=st.integers(1, 2**32),
    height=st.integers(1, 2**32),
)
def test_any_size_gives_a_bounded_weight(model: str, detail: str, width: int, height: int) -> None:
    assert 1 <= images.tokens((width, height), detail, model) <= 50_000
