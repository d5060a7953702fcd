"""A model's name without what providers put around it, so that tables need one spelling."""

import re

MAX_CHARS = 256
"""Names come from clients. A longer one is no model's, and is never kept in a cache."""

_OPENAI = frozenset({"", "openai", "azure", "azure_ai", "azure-openai"})
_BEDROCK = re.compile(
    r"(?:(?:us|eu|apac|global|jp|au|us-gov)\.)?"
    r"(?:ai21|amazon|anthropic|cohere|deepseek|google|meta|minimax|mistral|moonshot|moonshotai|openai|qwen|zai)\."
)


def bare(model: str) -> str:
    """Lower case; the last part of a path (`meta-llama/Llama-3.1-8B` -> `llama-3.1-8b`); the base of a fine-tune
    (`ft:gpt-4o:org::id` -> `gpt-4o`); without Bedrock's region and vendor and without a leading `meta-`."""
    name = model.lower().rsplit("/", 1)[-1].replace("_", "-")
    if name.startswith("ft:"):
        name = name[3:].split(":", 1)[0]
    vendor = _BEDROCK.match(name)
    if vendor:
        name = name[vendor.end() :]
    return name.removeprefix("meta-")


def openai(model: str) -> bool:
    """Nothing in front of the name says that another house than OpenAI (or Azure) made the model."""
    parts = model.lower().split("/")
    return len(parts) == 1 or parts[-2] in _OPENAI
