"""`truncation`: what does not fit is left out by the policy, or refused."""

from pathlib import Path

import openai
import pytest
from openai import AsyncOpenAI

from tests.support.app import remora, sent
from tests.support.upstream import ScriptedUpstream, plain

POLICY = """
[window]
max_tokens = "fit"
[upstream]
context_tokens = 300
"""


async def test_what_does_not_fit_is_left_out_or_refused(upstream: ScriptedUpstream, tmp_path: Path) -> None:
    async with (
        remora(upstream.url, tmp_path, POLICY) as proxy,
        AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="sk-client", max_retries=0) as client,
    ):
        made = await client.responses.create(model="m", input="zero " * 50)
        for _ in range(25):
            made = await client.responses.create(model="m", input="one " * 50, previous_response_id=made.id)
        assert len(sent(upstream.requests[-1])) < 51
        count = len(upstream.requests)
        with pytest.raises(openai.BadRequestError, match="Your input exceeds the context window of this model") as no:
            await client.responses.create(model="m", input="two", previous_response_id=made.id, truncation="disabled")
        assert (no.value.code, no.value.param, len(upstream.requests)) == ("context_length_exceeded", "input", count)
        last = await client.responses.create(model="m", input="two", previous_response_id=made.id, truncation="auto")
        assert last.truncation == "auto"
        short = await client.responses.create(model="m", input="three", truncation="disabled")
        again = await client.responses.create(
            model="m", input="four", truncation="disabled", previous_response_id=short.id
        )
        assert again.status == "completed"
        assert len(sent(upstream.requests[-1])) == 3


async def test_an_upstream_that_says_it_is_too_long_is_asked_again_only_if_something_may_be_left_out(
    upstream: ScriptedUpstream, tmp_path: Path
) -> None:
    refusal = {
        "error": {
            "message": "This model's maximum context length is 100 tokens. "
            "However, your messages resulted in 140 tokens.",
            "type": "invalid_request_error",
            "code": "context_length_exceeded",
        }
    }
    async with (
        remora(upstream.url, tmp_path) as proxy,
        AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key="sk-client", max_retries=0) as client,
    ):
        made = await client.responses.create(model="m", input="zero " * 50)
        made = await client.responses.create(model="m", input="one " * 50, previous_response_id=made.id)
        upstream.queue.append(plain(400, refusal))
        with pytest.raises(openai.BadRequestError, match="maximum context length"):
            await client.responses.create(model="m", input="x", previous_response_id=made.id, truncation="disabled")
        upstream.queue.append(plain(400, refusal))
        await client.responses.create(model="m", input="x", previous_response_id=made.id, truncation="auto")
        assert len(sent(upstream.requests[-1])) < 5
