"""Every path on which a model answers is known, spoken or not; nothing else is taken for one."""

import pytest

from proxy.dialects import DIALECTS, generates


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions", "/api/v1/chat/completions", "/openai/deployments/gpt/chat/completions",
        "/v1/chat/completions/",
        "/v1/completions", "/completion", "/infill", "/v1/fim/completions", "/v1/agents/completions",
        "/v1/responses", "/openai/responses", "/v1/responses/compact", "/v1/threads/runs", "/v1/threads/thread_1/runs",
        "/v1/messages", "/api/anthropic/v1/messages", "/api/chat", "/api/generate", "/v1/chat", "/v2/chat",
        "/generate", "/generate_stream",
        "/v1beta/models/gemini-2.5-pro:generateContent", "/v1beta/models/gemini-2.5-pro:streamGenerateContent",
        "/v1/projects/p/locations/l/publishers/google/models/gemini:streamGenerateContent",
        "/v1/projects/p/locations/l/publishers/anthropic/models/claude:streamRawPredict",
        "/model/anthropic.claude-v2%3A1/converse", "/model/arn%3Aaws/converse-stream", "/model/x/invoke",
        "/model/x/invoke-with-response-stream",
    ],
)  # fmt: skip
def test_generating_paths(path: str) -> None:
    assert generates("POST", path)
    assert not generates("GET", path)


@pytest.mark.parametrize(
    "path",
    [
        "/", "", "/v1/models", "/v1/embeddings", "/v1/moderations", "/v1/images/generations", "/v1/audio/speech",
        "/v1/audio/transcriptions", "/v1/files", "/v1/batches", "/v1/conversations", "/v1/conversations/c/items",
        "/v1/responses/resp_1", "/v1/responses/resp_1/cancel", "/v1/responses/input_tokens",
        "/v1/messages/count_tokens",
        "/v1/messages/batches", "/v1/threads/t/messages", "/v1/chat/completions/chatcmpl-1",
        "/api/embed", "/api/tags", "/tokenize",
        "/v1beta/models/gemini:countTokens", "/v1beta/models/gemini:embedContent", "/model/x/count-tokens",
    ],
)  # fmt: skip
def test_paths_that_generate_nothing(path: str) -> None:
    assert not generates("POST", path)


def test_what_is_spoken_generates() -> None:
    assert [dialect.name for dialect in DIALECTS] == ["chat"]
    assert all(
        generates("POST", "/x/chat/completions") == dialect.speaks("POST", "/x/chat/completions")
        for dialect in DIALECTS
    )
