"""An app as users have it: langchain-openai on the Responses API, configured by environment variables alone. It keeps
its own history; the client sends only what came after the last response. Prints each answer's text as JSON.

Arguments: how (plain, stream, tools, stream-tools), then the user messages, one a turn.
"""

import json
import sys
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def look(at: float) -> str:
    """Looks at something."""
    return f"seen {at}"


def ask(chat: Any, line: list[BaseMessage], how: str) -> Any:
    if not how.startswith("stream"):
        return chat.invoke(line)
    whole = None
    for chunk in chat.stream(line):
        whole = chunk if whole is None else whole + chunk
    return whole


def main(how: str, texts: list[str]) -> None:
    chat: Any = ChatOpenAI(model="gpt-4o", use_responses_api=True, use_previous_response_id=True)
    if how.endswith("tools"):
        chat = chat.bind_tools([look])
    line: list[BaseMessage] = [SystemMessage("Look.")]
    for text in texts:
        line.append(HumanMessage(text))
        while True:
            reply = ask(chat, line, how)
            assert reply.response_metadata["id"].startswith("resp_")
            assert reply.usage_metadata["total_tokens"] == 57
            line.append(reply)
            if not reply.tool_calls:
                break
            line += [ToolMessage(look.invoke(call["args"]), tool_call_id=call["id"]) for call in reply.tool_calls]
        print(json.dumps(reply.text))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
