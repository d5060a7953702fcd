"""`tools` and `tool_choice` of a Responses request -> those of Chat Completions."""

import msgspec

from proxy.dialects.responses.fields import flag, object_, objects, one_of, optional_text, present, refuse, some_text

_FUNCTION = frozenset({"type", "name", "description", "parameters", "strict"})
_CUSTOM = frozenset({"type", "name", "description", "format"})
_NOT_SERVED = {"defer_loading", "async"}
"""Members of a tool that ask for a service when they are true."""


class Tools(msgspec.Struct, frozen=True):
    """The same tools and choice in both forms. A chat member that is None is left out of the request."""

    tools: list[object]
    """As the Response object repeats them."""
    choice: object
    chat_tools: list[object] | None = None
    chat_choice: object = None


def read_tools(tools: object, choice: object) -> Tools:
    """`tools` and `choice` are the parsed members, None where they were left out. Raises InvalidBody.

    `allowed_tools` sends the allowed tools only, because few upstreams know that choice. A `strict` that was left out
    is left out upstream, and null in the Response object: nothing enforces it.
    """
    given = objects(tools, "tools") if tools is not None else []
    echo: list[object] = []
    chat: list[object] = []
    names: list[tuple[str, str]] = []
    for at, tool in enumerate(given):
        one, sent = _tool(tool, f"tools[{at}]")
        echo.append(one)
        chat.append(sent)
        names.append((str(one["type"]), str(one["name"])))
    if choice is None:
        return Tools(echo, "auto", chat or None)
    member = "tool_choice"
    if isinstance(choice, str):
        one_of(choice, member, ("none", "auto", "required"))
        if not chat and choice == "required":
            refuse(member, "is required, but there are no tools; send `tools`")
        return Tools(echo, choice, chat or None, choice if chat else None)
    said = present(object_(choice, member))
    kind = said.get("type")
    if kind == "allowed_tools":
        mode = one_of(said.get("mode"), f"{member}.mode", ("auto", "required"))
        allowed = objects(said.get("tools"), f"{member}.tools")
        if not allowed:
            refuse(f"{member}.tools", 'is empty; name the tools that are allowed, or send "none"')
        wanted = {_named(each, f"{member}.tools[{at}]", names) for at, each in enumerate(allowed)}
        chosen = [each for each, name in zip(chat, names, strict=True) if name in wanted]
        return Tools(echo, {"type": kind, "mode": mode, "tools": allowed}, chosen, mode)
    if kind not in ("function", "custom"):
        refuse(f"{member}.type", f"{_quoted(kind)} cannot be served by this upstream; use function, custom or "
               "allowed_tools")  # fmt: skip
    name = _named(said, member, names)[1]
    return Tools(echo, {"type": kind, "name": name}, chat, {"type": kind, kind: {"name": name}})


def _named(said: dict[str, object], member: str, names: list[tuple[str, str]]) -> tuple[str, str]:
    kind = one_of(said.get("type"), f"{member}.type", ("function", "custom"))
    name = some_text(said.get("name"), f"{member}.name")
    if (kind, name) not in names:
        refuse(f"{member}.name", "names none of `tools`; send the tool as well")
    return kind, name


def _tool(tool: dict[str, object], member: str) -> tuple[dict[str, object], dict[str, object]]:
    """(as it is repeated, as it is sent)"""
    kind = tool.get("type")
    if kind not in ("function", "custom"):
        refuse(f"{member}.type", f"{_quoted(kind)} needs a service that the upstream lacks; only function and custom "
               "tools can be served")  # fmt: skip
    name = some_text(tool.get("name"), f"{member}.name")
    said = present(tool)
    for other, value in said.items():
        served = not value if other in _NOT_SERVED else other == "allowed_callers" and value == ["direct"]
        if other not in (_FUNCTION if kind == "function" else _CUSTOM) and not served:
            refuse(f"{member}.{other}", "is not supported here; leave it out")
    description = optional_text(said.get("description"), f"{member}.description")
    sent: dict[str, object] = {"name": name}
    if description is not None:
        sent["description"] = description
    echo: dict[str, object] = {"type": kind, "name": name}
    if kind == "custom":
        if description is not None:
            echo["description"] = description
        if "format" in said:
            sent["format"] = _format(said["format"], f"{member}.format")
            echo["format"] = said["format"]
        return echo, {"type": kind, kind: sent}
    parameters, strict = said.get("parameters"), said.get("strict")
    if parameters is not None:
        sent["parameters"] = object_(parameters, f"{member}.parameters")
    if strict is not None:
        sent["strict"] = flag(strict, f"{member}.strict")
    echo |= {"description": description, "parameters": parameters, "strict": strict}
    return echo, {"type": kind, kind: sent}


def _format(value: object, member: str) -> dict[str, object]:
    said = present(object_(value, member))
    if one_of(said.get("type"), f"{member}.type", ("text", "grammar")) == "text":
        return {"type": "text"}
    syntax = one_of(said.get("syntax"), f"{member}.syntax", ("lark", "regex"))
    definition = some_text(said.get("definition"), f"{member}.definition")
    return {"type": "grammar", "grammar": {"definition": definition, "syntax": syntax}}


def _quoted(kind: object) -> str:
    return f'"{kind[:40]}"' if isinstance(kind, str) and kind.isprintable() else "without a known name"
