"""Tools and their choice in chat's form; hosted tools are refused."""

import pytest

from proxy.dialects.responses.tools import read_tools
from proxy.errors import InvalidBody

F: dict[str, object] = {"type": "function", "name": "f", "parameters": {"a": 1}, "strict": True, "description": "d"}
G: dict[str, object] = {"type": "function", "name": "g"}
C: dict[str, object] = {
    "type": "custom", "name": "c", "format": {"type": "grammar", "syntax": "lark", "definition": "x"},
}  # fmt: skip
CHAT_F = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"a": 1}, "strict": True}}
CHAT_G = {"type": "function", "function": {"name": "g"}}


def test_tools() -> None:
    made = read_tools([F, G, C], None)
    assert made.chat_tools == [
        CHAT_F,
        CHAT_G,
        {"type": "custom", "custom": {"name": "c", "format": {
            "type": "grammar", "grammar": {"syntax": "lark", "definition": "x"}}}},
    ]  # fmt: skip
    assert made.tools == [F, {**G, "description": None, "parameters": None, "strict": None}, C]
    assert (made.choice, made.chat_choice) == ("auto", None)


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
        ({"type": "custom", "name": "c"}, {"type": "custom", "custom": {"name": "c"}}),
    ],
)
def test_choices(choice: object, sent: object) -> None:
    made = read_tools([F, G, C], choice)
    assert (made.choice, made.chat_choice) == (choice, sent)
    assert len(made.chat_tools or []) == 3


def test_only_allowed_tools_are_sent() -> None:
    choice = {"type": "allowed_tools", "mode": "required", "tools": [{"type": "function", "name": "g"}]}
    made = read_tools([F, G, C], choice)
    assert (made.chat_tools, made.chat_choice, made.choice) == ([CHAT_G], "required", choice)
    assert len(made.tools) == 3


def test_without_tools_there_is_no_choice_to_send() -> None:
    made = read_tools([], "auto")
    assert (made.chat_tools, made.chat_choice, made.choice) == (None, None, "auto")


HOSTED = [
    "web_search", "web_search_preview", "file_search", "code_interpreter", "computer_use_preview", "computer", "mcp",
    "image_generation", "local_shell", "shell", "apply_patch", "tool_search", "namespace",
]  # fmt: skip


@pytest.mark.parametrize("kind", HOSTED)
def test_hosted_tools_are_refused(kind: str) -> None:
    with pytest.raises(InvalidBody, match="upstream lacks") as told:
        read_tools([F, {"type": kind}], None)
    assert told.value.param == "tools[1].type"
    assert kind in told.value.message
    with pytest.raises(InvalidBody) as told:
        read_tools([F], {"type": kind})
    assert told.value.param == "tool_choice.type"


@pytest.mark.parametrize(
    ("tools", "choice", "param"),
    [
        ({}, None, "tools"),
        ([3], None, "tools[0]"),
        ([{"type": "function", "function": {"name": "f"}}], None, "tools[0].name"),
        ([{**G, "defer_loading": True}], None, "tools[0].defer_loading"),
        ([{**G, "parameters": "x"}], None, "tools[0].parameters"),
        ([{**C, "format": {"type": "grammar"}}], None, "tools[0].format.syntax"),
        ([G], 3, "tool_choice"),
        ([G], "any", "tool_choice"),
        (None, "required", "tool_choice"),
        ([G], {"type": "function", "name": "f"}, "tool_choice.name"),
        ([G], {"type": "allowed_tools", "mode": "auto", "tools": []}, "tool_choice.tools"),
        ([G], {"type": "allowed_tools", "mode": "auto", "tools": [F]}, "tool_choice.tools[0].name"),
    ],
)
def test_refusals_name_the_member(tools: object, choice: object, param: str) -> None:
    with pytest.raises(InvalidBody) as told:
        read_tools(tools, choice)
    assert told.value.param == param


def test_members_that_ask_for_nothing_are_taken() -> None:
    assert read_tools([{**G, "defer_loading": False, "output_schema": None}], None).chat_tools == [CHAT_G]
