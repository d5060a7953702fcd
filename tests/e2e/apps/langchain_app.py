"""An app as users have it: langchain-openai, configured by environment variables alone. Prints each reply's text.

Arguments: how (delta, stream, own-history), then the user messages, one a turn.
"""

import sys

from langchain_core.messages import BaseMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI


@tool
def look(at: float) -> str:
    """Looks at something."""
    return f"seen {at}"


def main(how: str, texts: list[str]) -> None:
    chat = ChatOpenAI(model="gpt-4o")
    line: list[BaseMessage] = []
    bound = chat.bind_tools([look])
    for text in texts:
        if how == "delta":
            print(chat.invoke([HumanMessage(text)]).content)
        elif how == "stream":
            print("".join(str(chunk.content) for chunk in chat.stream([HumanMessage(text)])))
        else:
            line.append(HumanMessage(text))
            while True:
                reply = bound.invoke(line)
                line.append(reply)
                if not reply.tool_calls:
                    print(reply.content)
                    break
                line += [ToolMessage(look.invoke(call["args"]), tool_call_id=call["id"]) for call in reply.tool_calls]


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
