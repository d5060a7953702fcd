"""Summaries: kept once, shown with the chains that they are true of."""

import asyncio

from proxy.conversation.entry import Anchor, Entry, new_id
from proxy.conversation.summary import Summary
from proxy.stores.contract import Appended, Ref, Store
from tests.stores.making import REF, Clock, adding, entry, talk


def summary(of: Entry, generation: int = 1, before: str = "", text: str = "what was said") -> Summary:
    return Summary(new_id(), of.id, of.upto, f"{text} {generation}", 9, generation, before, "writer", 1_700_000_000_000)


async def told(store: Store, entry: str | None = None, *, reach: int | None = None, key: str = "k") -> list[Summary]:
    chain = await store.load(REF, key=key, reach=reach, entry=entry)
    assert chain is not None
    return list(chain.summaries)


class Telling:
    async def test_summaries_are_kept_in_order_and_once(self, store: Store) -> None:
        a, b = await talk(store, 2)
        kept = [summary(b), summary(a, 2), summary(b, 3)]
        assert list(await store.summaries(REF)) == []
        assert await told(store) == []
        for each in kept:
            assert await store.keep_summary(REF, each, revision=0) is True
        other = Summary(kept[0].id, a.id, a.upto, "other", 1, 1, "", "m", 1)
        assert await store.keep_summary(REF, other, revision=0) is True
        assert list(await store.summaries(REF)) == kept
        assert await told(store) == kept
        assert await told(store) == kept

    async def test_what_is_unknown_has_none(self, store: Store, clock: Clock) -> None:
        (a,) = await talk(store, 1)
        failed = entry(a, state="failed")
        await store.append(adding(REF, failed, moves=False))
        stranger = Ref("x", "session", "one")
        for ref, of in ((REF, failed), (REF, entry(None)), (stranger, a)):
            assert await store.keep_summary(ref, summary(of), revision=0) is False
        assert list(await store.summaries(REF)) == list(await store.summaries(stranger)) == []
        (b,) = await talk(store, 1, after=a, ttl_s=5)
        assert await store.keep_summary(REF, summary(a), revision=0) is True
        clock.seconds += 6
        assert await store.keep_summary(REF, summary(b), revision=0) is False
        assert list(await store.summaries(REF)) == []

    async def test_shown_are_those_of_the_chain(self, store: Store) -> None:
        a, b, c = await talk(store, 3)
        b2 = entry(a, "again")
        assert await store.append(adding(REF, b2, c.id)) == Appended()
        of_a, of_b, of_b2, of_c = kept = [summary(a), summary(b), summary(b2), summary(c)]
        for each in kept:
            await store.keep_summary(REF, each, revision=0)
        for _ in range(2):
            assert await told(store) == [of_a, of_b2]
            assert await told(store, c.id) == [of_a, of_b, of_c]
            assert await told(store, b.id) == [of_a, of_b]
            assert await told(store, c.id, reach=9) == [of_b, of_c]
            assert await told(store, reach=1) == [of_b2]
        assert list(await store.summaries(REF)) == kept

    async def test_the_anchors_own_and_those_made_since(self, store: Store) -> None:
        said = await talk(store, 4)
        early, named, behind = summary(said[2]), summary(said[1], 2), summary(said[0], 3)
        for each in (early, named, behind):
            await store.keep_summary(REF, each, revision=0)
        for _ in range(2):
            said.append(entry(said[-1], "on", anchor=Anchor("k", 4, 4, named.id)))
            await store.append(adding(REF, said[-1]))
            for id in (None, said[-1].id, None):
                assert await told(store, id) == [named]
        later = summary(said[3], 4)
        await store.keep_summary(REF, later, revision=0)
        for id in (None, said[-1].id, None):
            assert await told(store, id) == [named, later]
            assert await told(store, id, key="other", reach=1) == [named]
            assert await told(store, id, key="other") == [named, behind, later]
        said.append(entry(said[-1], "on", anchor=Anchor("k", 8, 8, later.id)))
        await store.append(adding(REF, said[-1]))
        assert await told(store) == [later]
        # a policy that changes may go back
        said.append(entry(said[-1], "on", anchor=Anchor("k", 2, 2, behind.id)))
        await store.append(adding(REF, said[-1]))
        assert await told(store) == [behind, later]
        said.append(entry(said[-1], "on", anchor=Anchor("k", 2, 2)))
        await store.append(adding(REF, said[-1]))
        assert await told(store) == [early, named, later]
        said.append(entry(said[-1], "on", anchor=Anchor("k", 2, 2, "ab" * 16)))
        await store.append(adding(REF, said[-1]))
        for _ in range(2):
            assert await told(store) == [early, named, later]

    async def test_erased_with_the_session(self, store: Store) -> None:
        said = await talk(store, 2)
        gone = summary(said[0])
        await store.keep_summary(REF, gone, revision=0)
        assert await told(store) == [gone]
        await store.erase(REF)
        assert await store.keep_summary(REF, gone, revision=0) is False
        assert list(await store.summaries(REF)) == []
        for each in said:
            await store.append(adding(REF, each))
        assert await told(store) == []
        assert list(await store.summaries(REF)) == []
        again = summary(said[1])
        await store.keep_summary(REF, again, revision=0)
        assert await told(store) == [again]

    async def test_keeping_and_appending_at_once(self, store: Store) -> None:
        """Each load shows what was kept before it was asked for, and nothing that was not kept."""
        said = await talk(store, 1)
        kept: list[Summary] = []
        for turn in range(40):
            new = entry(said[-1], f"{turn}", anchor=Anchor("k", 0, 0, kept[-1].id) if kept and turn % 3 else None)
            made = summary(said[-1], turn + 1)
            answers = await asyncio.gather(
                store.append(adding(REF, new)),
                store.keep_summary(REF, made, revision=0),
                store.load(REF, key="k", reach=None),
            )
            assert (answers[0], answers[1]) == (Appended(), True)
            chain = answers[2]
            assert chain
            anchor = chain.head.facts.anchor
            named = anchor.summary if anchor else ""
            full = [*kept, made]
            since = next((n for n, each in enumerate(full) if each.id == named), 0)
            assert list(chain.summaries) in (full[since:], full[since:-1])
            said.append(new)
            kept.append(made)
        assert list(await store.summaries(REF)) == kept
