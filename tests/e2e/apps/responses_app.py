"""An app as users have it: the openai SDK on the Responses API, configured by environment variables alone. Prints what
it was answered as JSON.

Arguments: how (sync, async, stream, async-stream, parse, stream-parse, resume), then the user messages, one a turn.
"""

import asyncio
import json
import sys
from typing import Any

from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

MODEL = "gpt-4o"


class Seen(BaseModel):
    turn: int


def sync(texts: list[str]) -> None:
    client, last = OpenAI(), None
    for text in texts:
        made = client.responses.create(model=MODEL, input=text, previous_response_id=last)
        last = made.id
        print(json.dumps(made.output_text))


async def asynchronous(texts: list[str]) -> None:
    last = None
    async with AsyncOpenAI() as client:
        for text in texts:
            made = await client.responses.create(model=MODEL, input=text, previous_response_id=last)
            last = made.id
            print(json.dumps(made.output_text))


def stream(texts: list[str]) -> None:
    """Every other turn as bare events, every other with the helper that gathers them."""
    client: Any = OpenAI()
    last = None
    for at, text in enumerate(texts):
        asked = {"model": MODEL, "input": text, **({"previous_response_id": last} if last else {})}
        said = ""
        if at % 2:
            with client.responses.stream(**asked) as events:
                said = "".join(event.delta for event in events if event.type == "response.output_text.delta")
                final = events.get_final_response()
        else:
            for event in client.responses.create(**asked, stream=True):
                if event.type == "response.output_text.delta":
                    said += event.delta
            final = event.response
        assert final.output_text == said
        last = final.id
        print(json.dumps(said))


async def async_stream(texts: list[str]) -> None:
    last = None
    async with AsyncOpenAI() as made:
        client: Any = made
        for text in texts:
            asked = {"model": MODEL, "input": text, **({"previous_response_id": last} if last else {})}
            async with client.responses.stream(**asked) as events:
                said = "".join([event.delta async for event in events if event.type == "response.output_text.delta"])
                final = await events.get_final_response()
            last = final.id
            print(json.dumps(said))


def parse(texts: list[str]) -> None:
    client, last = OpenAI(), None
    for text in texts:
        made = client.responses.parse(model=MODEL, input=text, text_format=Seen, previous_response_id=last)
        assert made.output_parsed is not None
        last = made.id
        print(json.dumps(made.output_parsed.turn))


def stream_parse(texts: list[str]) -> None:
    client: Any = OpenAI()
    last = None
    for text in texts:
        more: dict[str, Any] = {"previous_response_id": last} if last else {}
        with client.responses.stream(model=MODEL, input=text, text_format=Seen, **more) as events:
            for _ in events:
                pass
            final = events.get_final_response()
        last = final.id
        print(json.dumps(final.output_parsed.turn))


def resume(texts: list[str]) -> None:
    """The connection is lost after the third event; the rest is taken up where it ended, by the SDK's helper."""
    client: Any = OpenAI()
    last = None
    for text in texts:
        more: dict[str, Any] = {"previous_response_id": last} if last else {}
        begun = client.responses.create(model=MODEL, input=text, background=True, stream=True, **more)
        for event in begun:
            if event.type == "response.created":
                last = event.response.id
            if event.sequence_number == 2:
                break
        begun.close()
        with client.responses.stream(response_id=last, starting_after=2) as rest:
            numbers = [event.sequence_number for event in rest]
        assert numbers == list(range(3, 3 + len(numbers))), numbers
        print(json.dumps(client.responses.retrieve(last).output_text))


if __name__ == "__main__":
    how, *said = sys.argv[1:]
    if how.startswith("async"):
        asyncio.run((asynchronous if how == "async" else async_stream)(said))
    else:
        ways = {"sync": sync, "stream": stream, "parse": parse, "stream-parse": stream_parse, "resume": resume}
        ways[how](said)
