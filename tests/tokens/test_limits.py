"""What contexts hold, by all the names under which the models go."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.tokens import limits


@pytest.mark.parametrize(
    ("model", "context"),
    [
        ("gpt-3.5-turbo-0125", 16_385),
        ("gpt-4", 8_192),
        ("gpt-4-0613", 8_192),
        ("gpt-4-1106-preview", 128_000),
        ("gpt-4-turbo", 128_000),
        ("gpt-4o-2024-08-06", 128_000),
        ("openai/gpt-4o", 128_000),
        ("GPT-4.1-Mini", 1_047_576),
        ("ft:gpt-4o-mini-2024-07-18:org::abc", 128_000),
        ("gpt-5-mini", 400_000),
        ("gpt-5-chat-latest", 128_000),
        ("gpt-5.4", 1_050_000),
        ("gpt-6-astra", 1_050_000),
        ("o1-mini", 128_000),
        ("o3", 200_000),
        ("o4-mini-2025-04-16", 200_000),
        ("gpt-oss:20b", 131_072),
        ("openai/gpt-oss-120b", 131_072),
        ("claude-3-5-sonnet-latest", 200_000),
        ("claude-sonnet-4-20250514", 200_000),
        ("anthropic/claude-opus-4.6", 1_000_000),
        ("us.anthropic.claude-3-5-sonnet-20240620-v1:0", 200_000),
        ("gemini-1.5-pro-002", 2_097_152),
        ("models/gemini-2.5-flash", 1_048_576),
        ("deepseek-chat", 131_072),
        ("deepseek-r1:8b", 131_072),
        ("deepseek-ai/DeepSeek-V3.1", 131_072),
        ("llama2:13b", 4_096),
        ("meta-llama/Llama-2-7b-chat-hf", 4_096),
        ("llama3:8b", 8_192),
        ("llama3-8b-8192", 8_192),
        ("meta-llama/Meta-Llama-3-8B-Instruct", 8_192),
        ("llama3.1:8b", 131_072),
        ("meta-llama/Llama-3.1-8B-Instruct", 131_072),
        ("meta.llama3-1-8b-instruct-v1:0", 131_072),
        ("accounts/fireworks/models/llama-v3p1-8b-instruct", 131_072),
        ("llama-3.3-70b-versatile", 131_072),
        ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", 1_048_576),
        ("qwen2.5:7b", 32_768),
        ("Qwen/Qwen2.5-7B-Instruct-1M", 1_010_000),
        ("qwen3:8b", 40_960),
        ("Qwen/Qwen3-30B-A3B-Instruct-2507", 262_144),
        ("mistral", 32_768),
        ("mistral:7b", 32_768),
        ("mistral-large-latest", 262_144),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 32_768),
        ("mixtral:8x22b", 65_536),
        ("gemma:7b", 8_192),
        ("gemma2:9b", 8_192),
        ("google/gemma-3-27b-it", 131_072),
        ("gemma3:1b", 32_768),
        ("phi", 2_048),
        ("microsoft/Phi-3-mini-4k-instruct", 4_096),
        ("phi4", 16_384),
        ("command-r-plus-08-2024", 128_000),
        ("x-ai/grok-4-fast", 2_000_000),
        ("grok-3-mini", 131_072),
        ("glm-4.5v", 128_000),
        ("zai-org/GLM-4.6", 200_000),
        ("moonshotai/Kimi-K2-Instruct", 131_072),
        ("moonshotai/Kimi-K2-Instruct-0905", 262_144),
        ("echo", 128_000),
    ],
)
def test_a_well_known_model_has_its_context(model: str, context: int) -> None:
    assert limits.context_tokens(model) == context


@pytest.mark.parametrize(
    "model",
    [
        "",
        "nothing",
        "our-deployment",
        "gpt",
        "gpt-5.9",
        "gpt-40",
        "llama",
        "phi-9",
        "echoes",
        "gpt-4" * 100_000,
        "/",
        ":",
    ],
)
def test_what_is_not_known_is_not_guessed(model: str) -> None:
    assert limits.context_tokens(model) is None
    assert limits.prompt_tokens(model) is None


@given(st.text(max_size=80), st.integers(0, 10**7) | st.none(), st.integers(0, 10**7))
def test_no_name_raises_and_a_prompt_never_exceeds_the_context(model: str, reserve: int | None, context: int) -> None:
    for name in (model, "gpt-4" + model, "llama3:" + model):
        prompt = limits.prompt_tokens(name, reserve, context)
        holds = context or limits.context_tokens(name)
        if holds is None:
            assert prompt is None
        else:
            assert prompt is not None
            assert 0 <= prompt <= holds
            assert prompt == 0 or prompt + (reserve or 0) <= holds


def test_a_prompt_leaves_room_for_the_reply() -> None:
    assert limits.prompt_tokens("gpt-4o") == 128_000 - 4_096
    assert limits.prompt_tokens("gpt-4o", 1_000) == 127_000
    assert limits.prompt_tokens("gpt-4o", 1_000, 8_000) == 7_000
    assert limits.prompt_tokens("unheard-of", None, 8_000) == 6_000
    assert limits.prompt_tokens("gpt-4", 100_000) == 0


def test_a_prompt_keeps_to_the_providers_own_limit_for_prompts() -> None:
    assert limits.prompt_tokens("gpt-5", 1_000) == 272_000
    assert limits.prompt_tokens("gpt-5", 200_000) == 200_000


@given(st.integers(0, 10**8))
def test_the_reserve_is_4096_or_a_quarter(context: int) -> None:
    assert limits.default_reserve(context) == min(4096, context // 4)
