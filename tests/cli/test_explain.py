"""A turn is explained from its plan: kept, dropped, summarised, recalled, and the summary it saw."""

import io

import msgspec

from proxy.cli.explain import explain
from proxy.context.contract import Excerpt, Plan
from proxy.conversation.entry import Anchor, grow, new_id
from proxy.conversation.summary import Summary
from proxy.stores.contract import Append, Ref, Store
from proxy.stores.memory import MemoryStore
from tests.stores.making import KEY, message

REF = Ref("tenant", "session", "s")


async def say(store: Store, text: str, **planned: object) -> str:
    chain = await store.load(REF, key="", reach=0)
    head = chain.head if chain else None
    entry = grow(
        id=new_id(),
        parent=head,
        key=KEY,
        messages=(message("user", text), message("assistant", "ok")),
        tokens=(5, 5),
        dialect="chat",
        model="gpt-4o",
        estimated=40,
        reported=42,
    )
    plan = Plan(**{  # type: ignore[arg-type]
        "policy": "default", "anchor": Anchor("k", 0, 0), "upto": 0, "head": "", "kept": 0, "dropped": 0, "tokens": 0,
        "why": "kept all: no limit", **planned,
    })  # fmt: skip
    await store.append(Append(ref=REF, expected=head.id if head else None, entry=entry, plan=msgspec.json.encode(plan)))
    return entry.id


async def explained(store: Store, turn: int) -> str | None:
    out = io.StringIO()
    [info] = [info async for info in store.list()]
    return out.getvalue() if await explain(store, info, turn, out) else None


async def test_it_has_a_line_for_each_thing_that_was_done() -> None:
    store = MemoryStore()
    first = await say(store, "one")
    summary = Summary("ab" * 16, first, 2, "They said one.\x1b[2J", 11, 3, "", "gpt-4o-mini", 1_700_000_000_000)
    assert await store.keep_summary(REF, summary, revision=0)
    await say(
        store,
        "two",
        kept=4,
        dropped=6,
        tokens=300,
        limit=1000,
        why="cut back: 1100 > 1000 tokens, to 300 of at most 500",
        summary=summary.id,
        generation=3,
        summarised=2,
        summary_tokens=11,
        recalled=(Excerpt(1, 0, 1, 7, 0.815),),
        recalled_tokens=20,
        overflow="200 tokens > 100",
    )
    text = await explained(store, 2)
    assert text is not None
    lines = dict(line.split(maxsplit=1) for line in text.splitlines() if line and not line.startswith(" "))
    assert (
        lines["kept"] == "4 messages, 300 tokens of at most 1000; cut back: 1100 > 1000 tokens, to 300 of at most 500"
    )
    assert lines["dropped"] == "6 messages, 4 of them in no summary"
    assert lines["summarised"] == "2 messages, by summary 3 of 11 tokens"
    assert lines["recalled"] == "1 excerpts, 20 tokens: turn 1 (score 0.81, 7 tokens)"
    assert "about 40 tokens; the upstream counted 42" in text
    assert "200 tokens > 100" in text
    assert text.endswith("summary 3, made by gpt-4o-mini at 2023-11-14T22:13:20.000Z, of the first 2 messages:\n"
                         "  They said one.\\x1b[2J\n")  # fmt: skip


async def test_a_turn_with_nothing_special_says_so_and_an_unknown_one_is_not_there() -> None:
    store = MemoryStore()
    await say(store, "one")
    text = await explained(store, 1)
    assert text is not None
    assert "recalled   0 excerpts" in text
    assert "summarised 0 messages" in text
    assert "kept all: no limit" in text
    assert await explained(store, 2) is None
