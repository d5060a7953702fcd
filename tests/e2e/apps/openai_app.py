"""An app as users have it: the openai SDK, configured by environment variables alone. Prints each reply's text.

Arguments: how (sync, async, stream, tools, own-history), then the user messages, one a turn.
"""

import asyncio
import json
import sys
from typing import Any

from openai import AsyncOpenAI, OpenAI

MODEL = "gpt-4o"


def user(text: str) -> Any:
    return {"role": "user", "content": text}


def sync(texts: list[str]) -> None:
    client = OpenAI()
    for text in texts:
        print(client.chat.completions.create(model=MODEL, messages=[user(text)]).choices[0].message.content)


async def asynchronous(texts: list[str]) -> None:
    async with AsyncOpenAI() as client:
        for text in texts:
            reply = await client.chat.completions.create(model=MODEL, messages=[user(text)])
            print(reply.choices[0].message.content)


def stream(texts: list[str]) -> None:
    client = OpenAI()
    for text in texts:
        chunks = client.chat.completions.create(model=MODEL, messages=[user(text)], stream=True)
        print("".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices))


def tools(texts: list[str]) -> None:
    """Each turn, the model calls a tool, and the app sends back nothing but the result."""
    client = OpenAI()
    parameters = {"type": "object", "properties": {"at": {"type": "number"}}}
    offered: Any = [{"type": "function", "function": {"name": "look", "parameters": parameters}}]
    for text in texts:
        new: list[Any] = [user(text)]
        while True:
            message = client.chat.completions.create(model=MODEL, messages=new, tools=offered).choices[0].message
            if not message.tool_calls:
                print(message.content)
                break
            new = []
            for call in message.tool_calls:
                assert call.type == "function"
                seen = f"seen {json.loads(call.function.arguments)['at']}"
                new.append({"role": "tool", "tool_call_id": call.id, "content": seen})


def own_history(texts: list[str]) -> None:
    client = OpenAI()
    line: list[Any] = []
    for text in texts:
        line.append(user(text))
        message = client.chat.completions.create(model=MODEL, messages=line).choices[0].message
        line.append(message)
        print(message.content)


if __name__ == "__main__":
    how, *said = sys.argv[1:]
    if how == "async":
        asyncio.run(asynchronous(said))
    else:
        {"sync": sync, "stream": stream, "tools": tools, "own-history": own_history}[how](said)
