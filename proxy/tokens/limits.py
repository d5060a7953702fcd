"""What a model's context holds, by its name; and how much of that a prompt may take.

Sources: OpenAI's and Anthropic's model pages, Google's "Gemini models", and for open models the model card or
`config.json` (`max_position_embeddings`, without scaling that has to be switched on). Names that change their meaning
(`…-latest`) and hosts that offer less are why `[upstream] context_tokens` of a policy overrides this table: Ollama, for
one, holds 4,096 tokens of any model unless `num_ctx` says more.
"""

from functools import lru_cache
from typing import NamedTuple

from proxy.tokens import names

RESERVE_MAX = 4096


class Limit(NamedTuple):
    context: int
    """Tokens of prompt and reply together."""
    prompt: int
    """Tokens of the prompt alone; the same unless the provider says less."""


def context_tokens(model: str) -> int | None:
    """Tokens of prompt and reply that the model holds; None if the name is not known. Case does not matter, nor what
    providers put in front (`openai/…`, `meta-llama/…`) or behind (`:8b`, `-instruct`); the longest match wins."""
    found = limit(model)
    return found.context if found else None


def prompt_tokens(model: str, reserve: int | None = None, context: int = 0) -> int | None:
    """The most tokens that a prompt may have when `reserve` tokens are kept for the reply (None: `default_reserve`).
    `context`, if not 0, stands in for the table. Never below 0; None if nothing is known."""
    found = Limit(context, context) if context > 0 else limit(model)
    if found is None:
        return None
    if reserve is None:
        reserve = default_reserve(found.context)
    return max(0, min(found.prompt, found.context - reserve))


def default_reserve(context: int) -> int:
    """Tokens kept free for the reply of a request that does not limit it: 4,096, or a quarter of a small context."""
    return min(RESERVE_MAX, context // 4)


def limit(model: str) -> Limit | None:
    """Both figures; None if the name is not known."""
    return _find(model) if len(model) <= names.MAX_CHARS else None


@lru_cache(maxsize=1024)
def _find(model: str) -> Limit | None:
    name = names.bare(model)
    for length in range(min(len(name), _LONGEST), 0, -1):
        found = _TABLE.get(name[:length])
        if found and not _goes_on(name[length : length + 2]):
            return found
    return _TABLE.get(name.partition(":")[0] + "$")


def _goes_on(rest: str) -> bool:
    # gpt-5.9 is no gpt-5, and gpt-41 no gpt-4: a number that goes on is another model's
    return rest[:1].isdecimal() or (rest[:1] == "." and rest[1:].isdecimal())


def _table(rows: str) -> dict[str, Limit]:
    table: dict[str, Limit] = {}
    for row in rows.splitlines():
        facts, _, _ = row.partition("#")
        if facts.strip():
            figures, prefixes = facts.split(":", 1)
            context, _, prompt = figures.replace("_", "").partition("/")
            for prefix in prefixes.split():
                table[prefix] = Limit(int(context), int(prompt or context))
    return table


# context[/prompt]: prefixes of names, as `names.bare` gives them; with `$`, whole names but for a tag
_TABLE = _table("""
# OpenAI, developers.openai.com/api/docs/models
16_385: gpt-3.5-turbo gpt-3.5 gpt-35-turbo
4_096: gpt-3.5-turbo-instruct gpt-35-turbo-instruct gpt-3.5-turbo-0301 gpt-3.5-turbo-0613
8_192: gpt-4
32_768: gpt-4-32k
128_000: gpt-4-turbo gpt-4-1106 gpt-4-0125 gpt-4-vision gpt-4o chatgpt-4o gpt-4.5 gpt-audio
1_047_576: gpt-4.1
400_000/272_000: gpt-5 gpt-5.1 gpt-5.2 gpt-5.3 gpt-5.4-mini gpt-5.4-nano
128_000: gpt-5-chat gpt-5.1-chat gpt-5.2-chat gpt-5.3-chat gpt-5.3-codex-spark
1_050_000/922_000: gpt-5.4 gpt-5.5 gpt-5.6 gpt-6 gpt-6.1 gpt-6.2
400_000/272_000: gpt-5.6-cyber
128_000: o1-mini o1-preview
200_000: o1 o3 o4-mini codex-mini
8_192: computer-use-preview
131_072: gpt-oss
# Anthropic, "Models overview" and "Context windows"
100_000: claude-2 claude-instant claude-v2
200_000: claude-2.1 claude-v2:1 claude-3 claude-3.5 claude-3.7
200_000: claude-opus-4 claude-opus-4.1 claude-opus-4.5 claude-4-opus claude-sonnet-4 claude-sonnet-4.5 claude-4-sonnet
200_000: claude-haiku-4 claude-haiku-4.5
1_000_000: claude-opus-4-6 claude-opus-4.6 claude-opus-4-7 claude-opus-4.7 claude-opus-4-8 claude-opus-4.8
1_000_000: claude-sonnet-4-6 claude-sonnet-4.6 claude-opus-5 claude-opus-5.5 claude-sonnet-5 claude-sonnet-5.5
1_000_000: claude-haiku-5-5 claude-haiku-5.5 claude-fable-5 claude-fable-5.1 claude-mythos-5 claude-mythos-5.1
# Google, ai.google.dev/gemini-api/docs/models; the figure is the input limit, the reply has its own
32_760: gemini-1.0 gemini-pro
2_097_152: gemini-1.5-pro
1_048_576: gemini-1.5-flash gemini-2.0 gemini-2.5 gemini-3 gemini-3.1 gemini-3.5 gemini-3.6 gemini-3.7 gemini-3.8
1_048_576: gemini-4 gemini-pro-latest gemini-flash-latest gemini-flash-lite-latest
32_768: gemini-2.5-flash-image
8_192: gemma$ gemma-2b gemma-7b gemma-1.1 gemma-2 gemma2 codegemma
131_072: gemma-3 gemma3 gemma-4 gemma4
32_768: gemma-3-1b gemma3:1b gemma-3-270m gemma3:270m gemma-3n gemma3n
262_144: gemma-4-26b gemma-4-31b gemma4:26b gemma4:31b
# DeepSeek, model cards and api-docs.deepseek.com
4_096: deepseek-llm
16_384: deepseek-coder
131_072: deepseek-coder-v2 deepseek-v2 deepseek-v2.5 deepseek-v3 deepseek-v3.1 deepseek-v3.2 deepseek-r1
131_072: deepseek-chat deepseek-reasoner
1_000_000: deepseek-v4 deepseek-v4.1 deepseek-flash
# Meta, model cards
4_096: llama-2 llama2 llama-v2
16_384: codellama code-llama
8_192: llama-3 llama3 llama-v3
131_072: llama-3.1 llama3.1 llama3-1 llama-3-1 llama-v3p1 llama-3.2 llama3.2 llama3-2 llama-3-2 llama-v3p2
131_072: llama-3.3 llama3.3 llama3-3 llama-3-3 llama-v3p3
1_048_576: llama-4-maverick llama4-maverick llama4:maverick
10_485_760: llama-4-scout llama4-scout llama4:scout llama4
# Qwen, model cards; help.aliyun.com for the hosted names
32_768: qwen1.5 qwen2 qwen2.5 qwen-2 qwen-2.5 qwen-max
1_010_000: qwen2.5-7b-instruct-1m qwen2.5-14b-instruct-1m
131_072: qwq qwen-plus qwen-turbo
1_000_000: qwen-flash qwen3-coder-plus qwen3-coder-flash qwen3.5-plus qwen3.7 qwen3.8-flash
40_960: qwen3 qwen-3
262_144: qwen3-4b-instruct-2507 qwen3-4b-thinking-2507 qwen3-30b-a3b-instruct-2507 qwen3-30b-a3b-thinking-2507
262_144: qwen3-235b-a22b-instruct-2507 qwen3-235b-a22b-thinking-2507 qwen3-235b-a22b-2507
262_144: qwen3-coder qwen3-next qwen3-vl qwen3-max qwen3.5 qwen3.6 qwen3.8
# Mistral, docs.mistral.ai/getting-started/models and model cards
8_192: mistral-7b-instruct-v0.1
32_768: mistral-7b mistral$ open-mistral-7b mistral-tiny mixtral-8x7b open-mixtral-8x7b mixtral$ mistral-small
32_768: codestral
65_536: mixtral-8x22b open-mixtral-8x22b mixtral:8x22b
131_072: mistral-nemo open-mistral-nemo mistral-small-3.1 mistral-small3.1 mistral-small-3.2 mistral-small3.2
131_072: mistral-small-2503 mistral-small-2506 mistral-medium mistral-large pixtral ministral devstral
262_144: mistral-small-latest mistral-small-2603 mistral-medium-latest mistral-medium-3.5 mistral-medium-2604
262_144: mistral-large-latest mistral-large-2512 mistral-large-3
1_048_576: mistral-large-4
128_000: codestral-2508 codestral-latest
40_960: magistral
# Microsoft, model cards
2_048: phi-1 phi-2 phi$
4_096: phi-3-mini-4k phi-3-medium-4k
8_192: phi-3-small-8k
131_072: phi-3-mini-128k phi-3-small-128k phi-3-medium-128k phi-3-vision-128k phi-3.5 phi3.5 phi3
16_384: phi-4 phi4
32_768: phi-4-reasoning phi4-reasoning
131_072: phi-4-mini phi4-mini phi-4-multimodal
# Cohere, docs.cohere.com/docs/models
4_096: command$ command-light command-nightly
128_000: command-r command-r7b command-a-plus
256_000: command-a
# xAI, docs.x.ai/docs/models
131_072: grok-beta grok-2 grok-3
256_000: grok-4 grok-code-fast
2_000_000: grok-4-fast grok-4.1-fast grok-4-1-fast
1_000_000: grok-4.20 grok-4.3
500_000: grok-4.5 grok-4.6 grok-4.7
# Z.ai, docs.z.ai and model cards
128_000: glm-4 glm4 glm-4.5
200_000: glm-4.6 glm-4.7 glm-5 glm-5.1
1_000_000: glm-5.2 glm-5.3
# Moonshot, platform.moonshot.ai/docs and model cards
8_192: moonshot-v1-8k
32_768: moonshot-v1-32k
131_072: moonshot-v1-128k moonshot-v1-auto kimi-k2 kimi-latest
262_144: kimi-k2-0905 kimi-k2-instruct-0905 kimi-k2-thinking kimi-k2-turbo kimi-k2.5 kimi-k2.6 kimi-k2.7
1_048_576: kimi-k3 kimi-k3.1
# MiniMax, model cards
196_608: minimax-m2 minimax-m2.1 minimax-m2.5 minimax-m2.7
524_288: minimax-m3
1_000_000: minimax-m1 minimax-text-01
# the stand-in model of this package
128_000: echo$
""")
_LONGEST = max(map(len, _TABLE))
