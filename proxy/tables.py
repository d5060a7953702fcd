"""Tables of a TOML file -> frozen structs: every unknown key and wrong type with its path, not just the first. Pure."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Literal, get_args, get_origin

import msgspec

Mistake = tuple[str, str]
"""(path of the key, what is wrong and what to write)."""


def mistakes(
    kind: type[msgspec.Struct], tree: object, path: str = "", hidden: frozenset[str] = frozenset()
) -> Iterator[Mistake]:
    """What keeps `tree` from being a `kind`; nothing: msgspec.convert will do. `hidden` are fields that are no keys.

    msgspec alone would stop at the first mistake."""
    if not isinstance(tree, Mapping):
        yield path, f"must be a table, [{path}]"
        return
    fields = {field.name: field.type for field in msgspec.structs.fields(kind) if field.name not in hidden}
    for key, value in tree.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in fields:
            near = get_close_matches(str(key), fields, n=1) or sorted(fields)
            yield where, f"there is no such key; {'did you mean' if len(near) == 1 else 'there are'} {', '.join(near)}"
            continue
        options = [fields[key], *get_args(fields[key])]
        struct = next((o for o in options if isinstance(o, type) and issubclass(o, msgspec.Struct)), None)
        if struct is None:
            yield from _wrong_type(fields[key], value, where)
        elif get_origin(fields[key]) is not tuple:
            yield from mistakes(struct, value, where)
        elif not isinstance(value, list):
            yield where, f"must be a list of tables, [[{where}]]"
        else:
            for number, item in enumerate(value, 1):
                yield from mistakes(struct, item, f"{where}[{number}]")


def _wrong_type(kind: object, value: object, where: str) -> Iterator[Mistake]:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        if get_origin(kind) is Literal and isinstance(value, str):
            yield where, f"{value!r} is none of {', '.join(map(str, get_args(kind)))}"
            return
        # msgspec's own words: "Expected `int`, got `str` - at `$[0]`"
        what, _, at = str(error).partition(" - at `$")
        yield where + at.rstrip("`"), what[:1].lower() + what[1:]
