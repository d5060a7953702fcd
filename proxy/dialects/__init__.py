"""The wire APIs that are spoken, and the paths on which any API generates."""

import re

from proxy.dialects.chat import CHAT
from proxy.dialects.contract import Dialect

DIALECTS: tuple[Dialect, ...] = (CHAT,)

_GENERATING = re.compile(
    r"""(?:
      /chat/completions
    | /completions | /completion | /infill              # legacy and fill-in-the-middle; llama.cpp
    | /responses | /responses/compact                   # OpenAI, Azure
    | /threads/runs | /threads/[^/]+/runs               # OpenAI's assistants
    | /v1/messages                                      # Anthropic
    | /api/chat | /api/generate                         # Ollama
    | /v[12]/chat | /generate | /generate_stream        # Cohere; TGI, vLLM, SGLang
    | /models/[^/]+:(?:streamG|g)enerate(?:Content|Answer|Text|Message)     # Gemini, Vertex AI
    | /models/[^/]+:(?:streamR|r)awPredict              # Anthropic and Mistral on Vertex AI
    | /model/[^/]+/(?:converse|converse-stream|invoke|invoke-with-response-stream)   # Bedrock
    )\Z""",
    re.VERBOSE,
)


def generates(method: str, path: str) -> bool:
    """The model makes a reply to this method and path (without the query), in a dialect that is spoken or not.

    A session named on such a path is honoured or refused, never ignored. Models, embeddings, moderations, images and
    audio do not generate in this sense."""
    return method == "POST" and _GENERATING.search(path.rstrip("/")) is not None
