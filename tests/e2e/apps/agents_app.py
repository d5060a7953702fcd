"""An app as users have it: openai-agents, configured by environment variables alone. Prints each answer as JSON.

Arguments: how (chain, given, stream, conversation, session), then the user messages, one a turn.
"""

import asyncio
import json
import sys

from agents import Agent, OpenAIConversationsSession, Runner, function_tool
from openai import AsyncOpenAI


@function_tool
def look(at: float) -> str:
    """Looks at something."""
    return f"seen {at}"


AGENT = Agent(name="Looker", instructions="Look.", tools=[look], model="gpt-4o")


async def chain(texts: list[str]) -> None:
    """The runner chains the steps of a turn itself; the app names the last response in its next turn."""
    last = None
    for text in texts:
        result = await Runner.run(AGENT, text, previous_response_id=last, auto_previous_response_id=True)
        last = result.last_response_id
        print(json.dumps(result.final_output))


async def given(texts: list[str]) -> None:
    """The first turn chains nothing: its steps are sent whole."""
    last = None
    for text in texts:
        result = await Runner.run(AGENT, text, previous_response_id=last)
        last = result.last_response_id
        print(json.dumps(result.final_output))


async def stream(texts: list[str]) -> None:
    last = None
    for text in texts:
        result = Runner.run_streamed(AGENT, text, previous_response_id=last, auto_previous_response_id=True)
        deltas = [
            event.data.delta
            async for event in result.stream_events()
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        ]
        last = result.last_response_id
        assert "".join(deltas) == result.final_output
        print(json.dumps(result.final_output))


async def conversation(texts: list[str]) -> None:
    async with AsyncOpenAI() as client:
        made = await client.conversations.create(metadata={"topic": "looking"})
    for text in texts:
        result = await Runner.run(AGENT, text, conversation_id=made.id)
        print(json.dumps(result.final_output))
    print(json.dumps(made.id))


async def session(texts: list[str]) -> None:
    """The runner keeps the history as items of a conversation, and sends all of it with each request."""
    kept = OpenAIConversationsSession()
    for text in texts:
        result = await Runner.run(AGENT, text, session=kept)
        print(json.dumps(result.final_output))
    print(json.dumps(kept.session_id))


if __name__ == "__main__":
    how, *said = sys.argv[1:]
    ways = {"chain": chain, "given": given, "stream": stream, "conversation": conversation, "session": session}
    asyncio.run(ways[how](said))
