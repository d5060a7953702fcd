"""Checks of JSON values: each gives the value in its type, or raises InvalidBody that names the member."""

from typing import NoReturn

import orjson

from proxy.errors import InvalidBody


def refuse(member: str, what: str) -> NoReturn:
    """`what` goes on after the member's name."""
    raise InvalidBody(f"`{member}` {what}.", param=member)


def parsed(raw: bytes, member: str) -> object:
    """The value of raw JSON."""
    try:
        value: object = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        refuse(member, f"is not JSON that can be read: {error}")
    return value


def written(value: object, member: str) -> bytes:
    """The value as JSON; what was read may still be nested too deeply to be written."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        refuse(member, "is nested too deeply; send a flatter value")


def text(value: object, member: str) -> str:
    if not isinstance(value, str):
        refuse(member, "is not a string; send a string")
    return value


def some_text(value: object, member: str) -> str:
    if not text(value, member):
        refuse(member, "is empty; fill it in or leave it out")
    return str(value)


def optional_text(value: object, member: str) -> str | None:
    return None if value is None else text(value, member)


def flag(value: object, member: str) -> bool:
    if not isinstance(value, bool):
        refuse(member, "is not a boolean; send true or false")
    return value


def number(value: object, member: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        refuse(member, "is not a number; send a number")
    return value


def count(value: object, member: str, *, least: int = 0, most: int = 2**53 - 1) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        upto = f"to {most}" if most < 2**53 - 1 else "on"
        refuse(member, f"is not a whole number from {least} {upto}; send one")
    return value


def object_(value: object, member: str) -> dict[str, object]:
    if not isinstance(value, dict):
        refuse(member, "is not an object; send a JSON object")
    return value


def objects(value: object, member: str) -> list[dict[str, object]]:
    if not isinstance(value, list):
        refuse(member, "is not a list; send a list of objects")
    return [object_(each, f"{member}[{at}]") for at, each in enumerate(value)]


def one_of(value: object, member: str, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        refuse(member, f"is not one of {', '.join(known)}; send one of these")
    return value


def only(value: dict[str, object], member: str, known: frozenset[str]) -> None:
    """Refuses what nothing would be done with."""
    for name, each in value.items():
        if name not in known and each is not None:
            refuse(f"{member}.{name}", "is not supported here; leave it out")


def present(value: dict[str, object]) -> dict[str, object]:
    """Without the members that are null, which count as left out."""
    return {name: each for name, each in value.items() if each is not None}
