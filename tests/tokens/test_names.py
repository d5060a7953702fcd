"""Names of models, without what providers put around them."""

import pytest

from proxy.tokens import names


@pytest.mark.parametrize(
    ("model", "bare"),
    [
        ("gpt-4o", "gpt-4o"),
        ("openai/GPT-4o", "gpt-4o"),
        ("ft:gpt-4o-mini-2024-07-18:org:name:id", "gpt-4o-mini-2024-07-18"),
        ("meta-llama/Meta-Llama-3.1-8B-Instruct", "llama-3.1-8b-instruct"),
        ("accounts/fireworks/models/llama-v3p1-8b", "llama-v3p1-8b"),
        ("us.anthropic.claude-3-5-sonnet-20240620-v1:0", "claude-3-5-sonnet-20240620-v1:0"),
        ("meta.llama3-1-8b-instruct-v1:0", "llama3-1-8b-instruct-v1:0"),
        ("llama3.1:8b", "llama3.1:8b"),
        ("", ""),
        ("/", ""),
        ("ft:", ""),
    ],
)
def test_a_bare_name_is_what_all_providers_share(model: str, bare: str) -> None:
    assert names.bare(model) == bare


@pytest.mark.parametrize(
    ("model", "openai"),
    [("gpt-4o", True), ("openai/gpt-4o", True), ("azure/gpt-4o", True), ("x/openai/gpt-4o", True), ("x/gpt-4o", False)],
)
def test_a_path_says_who_made_the_model(model: str, openai: bool) -> None:
    assert names.openai(model) is openai
