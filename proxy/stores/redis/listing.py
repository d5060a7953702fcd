"""A page of the list of all sessions: the members of one sorted set, and a look at the ref of each."""

import asyncio
from collections.abc import Sequence
from typing import cast

from proxy.stores.contract import Ref, RefInfo
from proxy.stores.redis import rows
from proxy.stores.redis.keys import Keys, born_ms
from proxy.stores.redis.nodes import Nodes

REFS_A_PAGE = 100
STRAY_MS = 60 * 60 * 1000
"""After so long a member of the list whose ref is not there is none that is being made."""


async def page(
    nodes: Nodes, keys: Keys, now_ms: int, first: bytes, last: bytes, name: str | None
) -> tuple[list[RefInfo], bytes]:
    """Those of the next members that have this name (None: any) and a ref; and where the page after it begins, b"" if
    there is none. `first` and `last` as ZRANGEBYLEX takes them."""
    found = await nodes.ask(keys.listed, b"ZRANGEBYLEX", keys.listed, first, last, b"LIMIT", 0, REFS_A_PAGE)
    members = cast("Sequence[bytes]", found)
    wanted = [(each, *rows.unpack_member(each)) for each in members]
    looks = [_look(nodes, keys, now_ms, *each) for each in wanted if name in (None, each[1].name)]
    infos = [info for info in await asyncio.gather(*looks) if info is not None]
    return infos, b"(" + members[-1] if len(members) == REFS_A_PAGE else b""


async def _look(nodes: Nodes, keys: Keys, now_ms: int, member: bytes, ref: Ref, generation: bytes) -> RefInfo | None:
    main = keys.main(keys.tag(ref))
    fields = await nodes.ask(main, b"HMGET", main, b"G", b"h", b"D", b"C", b"T", b"E")
    made, head, facts, created, updated, expires = cast("Sequence[bytes | None]", fields)
    if made != generation:
        if born_ms(generation) < now_ms - STRAY_MS:
            await nodes.ask(keys.listed, b"ZREM", keys.listed, member)
        return None
    if expires is not None and int(expires) <= now_ms:
        return None
    upto, turn, tokens = rows.unpack_facts(facts) if facts else (0, 0, 0)
    return RefInfo(
        ref=ref,
        head=head.hex() if head else "",
        turns=turn,
        messages=upto,
        tokens=tokens,
        created_ms=int(created or 0),
        updated_ms=int(updated or 0),
        expires_ms=None if expires is None else int(expires),
    )
