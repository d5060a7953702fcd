"""What was redacted is gone, with all that was made from it; its place stays."""

import asyncio

import msgspec

from proxy.conversation.entry import Anchor, Entry, new_id
from proxy.conversation.words import Postings
from proxy.stores.contract import Appended, End, Index, Noted, Ref, Store, Vectors, tag
from tests.stores.laws.searching import MODEL, bag, expected, term, told
from tests.stores.laws.telling import summary
from tests.stores.making import OTHER_RULES, REF, RULES, Clock, adding, entry, listed, redacted, replay, talk


async def chain_of(store: Store, id: str | None = None, ref: Ref = REF) -> list[Entry]:
    chain = await store.load(ref, key="", reach=None, entry=id)
    return list(chain.entries) if chain else []


async def revision_of(store: Store, ref: Ref = REF) -> int:
    chain = await store.load(ref, key="", reach=1)
    assert chain is not None
    return chain.revision


class Redacting:
    async def test_a_redacted_entry_keeps_its_place_and_nothing_else(self, store: Store) -> None:
        a, b, c = await talk(store, 3)
        b2 = entry(a, "another way", preamble=None)
        assert await store.append(adding(REF, b2, c.id, note=b"said b2", plan=b"p")) == Appended()
        failed = entry(b2, "broke", state="failed")
        assert await store.append(adding(REF, failed, moves=False)) == Appended()
        for _ in range(2):
            # what is read may be held
            assert await chain_of(store) == [a, b2]
            assert await chain_of(store, c.id) == [a, b, c]
        stubs = [redacted(a), redacted(b2, b"gone"), redacted(failed)]
        ra, rb2, rfailed = [each.entry for each in stubs]
        assert await store.redact(REF, stubs, preamble=None) is True
        for _ in range(2):
            assert await chain_of(store) == [ra, rb2]
            assert await chain_of(store, c.id) == [ra, b, c]
        assert list(await store.read(REF, b2.id, 0, 9)) == [ra, rb2]
        assert list(await store.read(REF, c.id, 0, 3)) == [ra, b]
        assert list(await store.pick(REF, c.id, [0, 5])) == [ra, c]
        assert await store.find_turn(REF, 1) == (ra, rb2)
        assert [each.entry for each in await listed(store.records(REF))] == [ra, b, c, rb2, rfailed]
        assert await store.find_digests(REF, [e.digest for e in (a, b, c, b2)]) == {
            e.digest: e.id for e in (a, b, c, b2)
        }
        assert await store.find(REF.tenant, tag(REF), b2.id) == Noted(REF, rb2, b"gone")
        assert await store.find(REF.tenant, tag(REF), failed.id) == Noted(REF, rfailed, b"")
        assert list(await store.noted(REF, 0, 9)) == [Noted(REF, ra, b""), Noted(REF, rb2, b"gone")]
        assert await store.redact(REF, [redacted(b2)], preamble=None) is True
        assert list(await store.noted(REF, 2, 3)) == [Noted(REF, rb2, b"")]
        on = entry(b2, "on")
        assert await store.append(adding(REF, on)) == Appended()
        assert await chain_of(store) == [ra, rb2, on]
        assert await store.append(adding(REF, b2, on.id)) == Appended(again=True)
        assert await chain_of(store) == [ra, rb2, on]

    async def test_long_after_other_turns(self, store: Store) -> None:
        said = await talk(store, 60)
        assert await chain_of(store) == said
        stubs = [redacted(each) for each in said[3:50:7]]
        assert await store.redact(REF, stubs, preamble=None) is True
        place = {each.entry.id: each.entry for each in stubs}
        assert await chain_of(store) == [place.get(each.id, each) for each in said]
        assert list(await store.read(REF, said[-1].id, 6, 30)) == [place.get(each.id, each) for each in said[3:15]]

    async def test_the_anchor_of_a_redacted_head_counts(self, store: Store) -> None:
        said = await talk(store, 3)
        head = entry(said[-1], "on", anchor=Anchor("k", 2, 2, "ab" * 16))
        await store.append(adding(REF, head))
        stub = redacted(head, facts=msgspec.structs.replace(head.facts, anchor=Anchor("k", 4, 4)))
        assert await store.redact(REF, [stub], preamble=None) is True
        for _ in range(2):
            chain = await store.load(REF, key="k", reach=None)
            assert chain is not None
            assert list(chain.entries) == [said[2], stub.entry]
        on = entry(stub.entry, "on", anchor=Anchor("k", 6, 6))
        assert await store.append(adding(REF, on)) == Appended()
        chain = await store.load(REF, key="k", reach=None)
        assert chain is not None
        assert list(chain.entries) == [stub.entry, on]

    async def test_what_was_made_from_it_goes_too(self, store: Store) -> None:
        a, b = await talk(store, 2)
        other = Ref("tenant", "session", "two")
        (stays,) = await talk(store, 1, other)
        for ref, of in ((REF, a), (REF, b), (other, stays)):
            vectors = Index(of.id, (), MODEL, (b"x", b"y"))
            assert await store.keep_summary(ref, summary(of), revision=0) is True
            assert await store.index(ref, [told(of), vectors], revision=0) is True
        assert await store.redact(REF, [redacted(a)], preamble=None) is True
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert (chain.summaries, chain.revision) == ((), 1)
        assert list(await store.summaries(REF)) == []
        assert await store.postings(REF, b.id, [term(0), term(1)]) == Postings(4, 0, (b"", b""))
        assert await store.vectors(REF, b.id, MODEL) == Vectors(b"", b"")
        ra = redacted(a).entry
        for model in ("", MODEL):
            found = await store.unindexed(REF, b.id, model=model, most=9)
            assert (found.revision, list(found.entries)) == (1, [ra, b])
        again = summary(b)
        assert await store.keep_summary(REF, again, revision=1) is True
        assert list(await store.summaries(REF)) == [again]
        known = {a.id: told(a, bag((7, 1)), bag()), b.id: told(b)}
        assert await store.index(REF, list(known.values()), revision=1) is True
        assert await store.postings(REF, b.id, [term(0), term(7)]) == expected([ra, b], known, [0, 7])
        assert len(await store.summaries(other)) == 1
        found_there = await store.postings(other, stays.id, [term(0)])
        assert found_there
        assert found_there.found[0]
        assert await revision_of(store, other) == 0

    async def test_what_comes_late_is_not_kept(self, store: Store) -> None:
        a, b = await talk(store, 2)
        late = summary(b)
        assert (await store.unindexed(REF, b.id, model="", most=9)).revision == 0
        assert await store.redact(REF, [redacted(a)], preamble=None) is True
        assert await store.keep_summary(REF, late, revision=0) is False
        assert await store.index(REF, [told(a), Index(a.id, (), MODEL, (b"x", b"y"))], revision=0) is False
        assert list(await store.summaries(REF)) == []
        assert len((await store.unindexed(REF, b.id, model="", most=9)).entries) == 2
        assert len((await store.unindexed(REF, b.id, model=MODEL, most=9)).entries) == 2
        assert await store.redact(REF, [redacted(a)], preamble=None) is True
        assert await store.keep_summary(REF, late, revision=1) is False
        assert await store.index(REF, [told(a)], revision=1) is False
        (c,) = await talk(store, 1, after=b)
        assert await revision_of(store) == 2
        assert await store.keep_summary(REF, summary(c), revision=2) is True
        assert await store.index(REF, [told(a), told(b)], revision=2) is True
        assert [e.id for e in (await store.unindexed(REF, c.id, model="", most=9)).entries] == [c.id]

    async def test_its_replays_go_and_those_of_others_stay(self, store: Store) -> None:
        a = entry(None)
        await store.append(adding(REF, a, replay=replay("a", a, sticky=True)))
        b = entry(a)
        await store.append(adding(REF, b, replay=replay("b", b, sticky=True)))
        c = entry(b)
        await store.append(adding(REF, c, replay=replay("c", c)))
        assert await store.redact(REF, [redacted(a)], preamble=None) is True
        assert await store.find_replay(REF, "a") is None
        assert await store.find_replay(REF, "b") == replay("b", b, sticky=True)
        assert await store.find_replay(REF, "c") == replay("c", c)
        assert await store.redact(REF, [redacted(c)], preamble=None) is True
        assert await store.find_replay(REF, "c") is None
        assert await store.find_replay(REF, "b") == replay("b", b, sticky=True)
        (d,) = await talk(store, 1, after=c)
        assert await chain_of(store) == [redacted(a).entry, b, redacted(c).entry, d]

    async def test_the_log_of_an_ended_run_goes_too(self, store: Store) -> None:
        """It holds what was said; one that goes on is its owner's."""
        (a,) = await talk(store, 1)
        other, b = new_id(), entry(a)
        for id in (b.id, other):
            assert await store.begin_run(REF, id, owner="me", state=b"s", ttl_s=None) is True
            await store.log_run(REF, id, owner="me", events=[b"what was said"])
            if id == b.id:
                await store.append(adding(REF, b))
            await store.log_run(REF, id, owner="me", end=End(600, keep=True))
        assert await store.redact(REF, [redacted(b)], preamble=None) is True
        assert list(await store.run_events(REF, b.id, -1, 9)) == []
        assert await store.find_run(REF.tenant, tag(REF), b.id) is None
        assert list(await store.run_events(REF, other, -1, 9)) == [b"what was said"]

    async def test_a_preamble_is_replaced(self, store: Store) -> None:
        a = entry(None, preamble=RULES)
        await store.append(adding(REF, a, preamble=RULES))
        b = entry(a, preamble=OTHER_RULES)
        await store.append(adding(REF, b, preamble=OTHER_RULES))
        c = entry(b, preamble=RULES)
        await store.append(adding(REF, c, preamble=RULES))
        assert await revision_of(store) == 0
        less = msgspec.structs.replace(RULES, wire=b"", tokens=0)
        assert await store.redact(REF, [], preamble=(RULES.id, less)) is True
        for id in (None, None, a.id):
            chain = await store.load(REF, key="", reach=1, entry=id)
            assert chain is not None
            assert (chain.preamble, chain.revision) == (less, 1)
        chain = await store.load(REF, key="", reach=1, entry=b.id)
        assert chain is not None
        assert chain.preamble == OTHER_RULES
        assert [each.preamble for each in await listed(store.records(REF))] == [less, OTHER_RULES, less]

    async def test_a_preamble_that_is_sent_again_is_in_force_again(self, store: Store) -> None:
        a = entry(None, preamble=RULES)
        await store.append(adding(REF, a, preamble=RULES))
        less = msgspec.structs.replace(RULES, wire=b"", tokens=0)
        assert await store.redact(REF, [redacted(a)], preamble=(RULES.id, less)) is True
        last, again = a, [less, less, RULES, RULES, OTHER_RULES, None]
        for preamble in again:
            last = entry(last, preamble=preamble)
            assert await store.append(adding(REF, last, preamble=preamble)) == Appended()
            for _ in range(2):
                chain = await store.load(REF, key="", reach=1)
                assert chain is not None
                assert chain.preamble == preamble

    async def test_a_preamble_that_is_sent_again_at_once_is_in_force_again(self, store: Store) -> None:
        a = entry(None, preamble=RULES)
        await store.append(adding(REF, a, preamble=RULES))
        assert await store.redact(REF, [], preamble=(RULES.id, OTHER_RULES)) is True
        last = a
        for _ in range(2):
            last = entry(last, preamble=RULES)
            assert await store.append(adding(REF, last, preamble=RULES)) == Appended()
            chain = await store.load(REF, key="", reach=1)
            assert chain is not None
            assert chain.preamble == RULES

    async def test_no_preamble_after_a_redacted_one_is_none(self, store: Store) -> None:
        a = entry(None, preamble=RULES)
        await store.append(adding(REF, a, preamble=RULES))
        assert await store.redact(REF, [], preamble=(RULES.id, OTHER_RULES)) is True
        last = a
        for _ in range(2):
            last = entry(last)
            assert await store.append(adding(REF, last)) == Appended()
            chain = await store.load(REF, key="", reach=1)
            assert chain is not None
            assert chain.preamble is None

    async def test_all_or_nothing(self, store: Store, clock: Clock) -> None:
        a, b = await talk(store, 2, ttl_s=60)
        stranger, less = entry(None), msgspec.structs.replace(RULES, wire=b"")
        kept = summary(b)
        assert await store.keep_summary(REF, kept, revision=0) is True
        assert await store.redact(REF, [redacted(a), redacted(stranger)], preamble=(RULES.id, less)) is False
        nonsense = msgspec.structs.replace(stranger, id="nonsense")
        assert await store.redact(REF, [redacted(a), redacted(nonsense)], preamble=None) is False
        for ref in (Ref("other", "session", "one"), Ref("tenant", "chain", "one")):
            assert await store.redact(ref, [redacted(a)], preamble=None) is False
            assert await store.redact(ref, [], preamble=None) is False
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert (list(chain.entries), chain.revision, chain.summaries) == ([a, b], 0, (kept,))
        clock.seconds += 60
        assert await store.redact(REF, [redacted(a)], preamble=None) is False

    async def test_a_ref_begun_anew_knows_of_no_redaction(self, store: Store) -> None:
        (a,) = await talk(store, 1)
        await store.redact(REF, [redacted(a)], preamble=None)
        await store.erase(REF)
        (b,) = await talk(store, 1)
        assert await chain_of(store) == [b]
        assert await revision_of(store) == 0

    async def test_redacting_while_appends_and_loads_are_under_way(self, store: Store) -> None:
        said = await talk(store, 3)
        gone: set[str] = set()
        for turn in range(20):
            at = said[turn % len(said)]
            new = entry(said[-1], f"{turn}")
            jobs = [
                store.load(REF, key="", reach=None),
                store.append(adding(REF, new, note=b"n")),
                store.redact(REF, [redacted(at)], preamble=None),
                store.load(REF, key="", reach=None),
                store.keep_summary(REF, summary(at), revision=turn),
                store.index(REF, [told(said[0])], revision=turn),
            ]
            shift = turn % len(jobs)
            answers = await asyncio.gather(*jobs[shift:], *jobs[:shift])
            assert Appended() in answers
            gone.add(at.id)
            said.append(new)
            for _ in range(2):
                chain = await store.load(REF, key="", reach=None)
                assert chain is not None
                assert list(chain.entries) == [redacted(e).entry if e.id in gone else e for e in said]
                assert chain.revision == turn + 1
                assert chain.summaries == ()
            assert await store.find(REF.tenant, tag(REF), new.id) == Noted(REF, new, b"n")
