"""What nobody names any more is erased, and nothing else is."""

import asyncio

from proxy.conversation.entry import Entry, new_id
from proxy.stores.contract import Appended, Conflict, End, Index, Noted, Ref, Store, tag
from tests.stores.laws.searching import MODEL, expected, term, told
from tests.stores.laws.telling import summary
from tests.stores.making import CHAIN, OTHER_RULES, RULES, Clock, adding, entry, listed, replay, talk


async def named(store: Store, parent: Entry | None, head: Entry | None, **more: object) -> Entry:
    """One more entry with a note, on `parent`, while `head` is the newest."""
    new = entry(parent, new_id())
    more = {"note": b"named", "plan": b"plan"} | more
    assert await store.append(adding(CHAIN, new, head.id if head else None, **more)) == Appended()
    return new


async def line(store: Store, entries: int, **more: object) -> list[Entry]:
    said: list[Entry] = []
    for _ in range(entries):
        last = said[-1] if said else None
        said.append(await named(store, last, last, **more))
    return said


async def left(store: Store) -> list[Entry]:
    return [each.entry for each in await listed(store.records(CHAIN))]


async def shown(store: Store, entry: Entry | None = None) -> list[Entry] | None:
    chain = await store.load(CHAIN, key="", reach=None, entry=entry.id if entry else None)
    return None if chain is None else list(chain.entries)


class Pruning:
    async def test_what_others_go_on_from_stays(self, store: Store) -> None:
        a, b, c = said = await line(store, 3)
        for each in (a, b):
            assert await store.prune(CHAIN, each.id) is True
            assert await store.find(CHAIN.tenant, tag(CHAIN), each.id) == Noted(CHAIN, each, b"")
            assert await left(store) == await shown(store) == said
        assert await store.prune(CHAIN, b.id) is True
        assert await store.find(CHAIN.tenant, tag(CHAIN), c.id) == Noted(CHAIN, c, b"named")
        assert [each.plan for each in await listed(store.records(CHAIN))] == [b"plan"] * 3

    async def test_what_nobody_names_goes_down_to_what_is_named(self, store: Store) -> None:
        a, b, c, d = await line(store, 4)
        for each in (c, b):
            assert await store.prune(CHAIN, each.id) is True
        assert await shown(store) == [a, b, c, d]
        assert await store.prune(CHAIN, d.id) is True
        for _ in range(2):
            assert await shown(store) == await left(store) == [a]
        for gone in (b, c, d):
            assert await shown(store, gone) is None
            assert await store.find(CHAIN.tenant, tag(CHAIN), gone.id) is None
            assert list(await store.read(CHAIN, gone.id, 0, 99)) == []
            assert list(await store.pick(CHAIN, gone.id, [0])) == []
            assert await store.annotate(CHAIN, gone.id, b"x") is False
            assert await store.prune(CHAIN, gone.id) is False
            assert await store.append(adding(CHAIN, entry(gone), gone.id)) == Conflict(a.id)
            assert await store.append(adding(CHAIN, entry(gone), a.id)) == Conflict(a.id)
            assert await store.append(adding(CHAIN, entry(gone), moves=False)) == Conflict(a.id)
        assert await store.find_digests(CHAIN, [e.digest for e in (a, b, c, d)]) == {a.digest: a.id}
        assert await store.find_turn(CHAIN, 9) == (a, None)
        assert [each.entry for each in await store.noted(CHAIN, 0, 99)] == [a]
        on = await named(store, a, a)
        assert await shown(store) == await left(store) == [a, on]

    async def test_the_last_takes_the_ref_with_it(self, store: Store) -> None:
        a, b = await line(store, 2)
        await store.label(CHAIN, b"label", new=False)
        await store.prune(CHAIN, a.id)
        assert await store.prune(CHAIN, b.id) is True
        assert await store.prune(CHAIN, b.id) is False
        assert await store.labelled(CHAIN) is None
        assert await shown(store) is None
        assert await left(store) == []
        assert await store.append(adding(CHAIN, entry(b), b.id)) == Conflict(None)
        assert await store.append(adding(CHAIN, entry(b), None)) == Conflict(None)
        (new,) = await line(store, 1)
        assert await shown(store) == await left(store) == [new]

    async def test_children_count_on_whatever_branch(self, store: Store) -> None:
        a, b, c = await line(store, 3)
        b2 = await named(store, a, c)
        c2 = await named(store, b2, b2)
        c3 = await named(store, b, c2)
        c4 = await named(store, b2, c3)
        assert await store.prune(CHAIN, b.id) is True
        assert await store.prune(CHAIN, c.id) is True
        assert await left(store) == [a, b, b2, c2, c3, c4]
        assert await store.prune(CHAIN, b2.id) is True
        assert await store.prune(CHAIN, c4.id) is True
        assert await left(store) == [a, b, b2, c2, c3]
        assert await shown(store) == [a, b, c3]
        assert await store.prune(CHAIN, c3.id) is True
        assert await left(store) == [a, b2, c2]
        for _ in range(2):
            assert await shown(store) == await shown(store, c2) == [a, b2, c2]
        d = await named(store, a, c2)
        assert await shown(store) == [a, d]
        e = await named(store, c2, d)
        assert await shown(store) == [a, b2, c2, e]
        assert await shown(store, d) == [a, d]
        assert await store.prune(CHAIN, e.id) is True
        assert await shown(store) == [a, d]
        root = await named(store, None, d)
        for each in (a, d, c2):
            await store.prune(CHAIN, each.id)
        assert await left(store) == await shown(store) == [root]

    async def test_a_place_that_was_pruned_is_grown_anew(self, store: Store) -> None:
        """Nothing of what stood there before shows."""
        a, b, c = await line(store, 3, whole=True)
        assert await shown(store) == [a, b, c]
        for each in (b, c):
            await store.prune(CHAIN, each.id)
        assert await shown(store) == [a]
        b2 = await named(store, a, a)
        c2 = await named(store, b2, b2)
        for _ in range(2):
            assert await shown(store) == await shown(store, c2) == [a, b2, c2]
        b3 = await named(store, a, c2)
        assert await shown(store) == [a, b3]
        assert await shown(store, c2) == [a, b2, c2]

    async def test_entries_without_notes_go_wherever_they_stand(self, store: Store) -> None:
        a = await named(store, None, None)
        b = await named(store, a, a, note=b"")
        c = await named(store, b, b, note=b"")
        d = await named(store, a, c)
        assert await store.prune(CHAIN, d.id) is True
        assert await left(store) == await shown(store) == [a]

    async def test_failed_ones_and_ended_runs_go_with_what_they_stand_on(self, store: Store) -> None:
        a, b = await line(store, 2)
        on_b, on_a, unnamed = (entry(of, "broke", state="failed") for of in (b, a, a))
        for failed, note in ((on_b, b"named"), (on_a, b"named"), (unnamed, b"named")):
            assert await store.append(adding(CHAIN, failed, moves=False, note=note)) == Appended()
        going = new_id()
        for id in (going, c_id := new_id()):
            assert await store.begin_run(CHAIN, id, owner="me", state=b"", ttl_s=None) is True
        await store.log_run(CHAIN, c_id, owner="me", events=[b"x"])
        c = entry(b, id=c_id)
        assert await store.append(adding(CHAIN, c, note=b"named")) == Appended()
        await store.log_run(CHAIN, c_id, owner="me", end=End(600, keep=True))
        assert await store.prune(CHAIN, unnamed.id) is True
        assert await left(store) == [a, b, on_b, on_a, c]
        assert await store.prune(CHAIN, b.id) is True
        assert await left(store) == [a, b, on_b, on_a, c]
        assert await store.find_run(CHAIN.tenant, tag(CHAIN), c_id) is not None
        assert await store.prune(CHAIN, c.id) is True
        assert await left(store) == [a, on_a]
        assert await store.find(CHAIN.tenant, tag(CHAIN), on_b.id) is None
        assert await store.find_run(CHAIN.tenant, tag(CHAIN), c_id) is None
        assert list(await store.run_events(CHAIN, c_id, -1, 9)) == []
        run = await store.find_run(CHAIN.tenant, tag(CHAIN), going)
        assert run is not None
        assert not run.ended
        assert await store.prune(CHAIN, a.id) is True
        assert await left(store) == []
        assert await store.find_run(CHAIN.tenant, tag(CHAIN), going) is None

    async def test_failed_ones_alone_keep_the_ref_without_a_head(self, store: Store) -> None:
        a = await named(store, None, None)
        failed = entry(None, "broke", state="failed")
        await store.append(adding(CHAIN, failed, moves=False, note=b"named"))
        assert await store.prune(CHAIN, a.id) is True
        assert await left(store) == [failed]
        assert await shown(store) is None
        assert await store.find_turn(CHAIN, 1) is None
        assert await store.append(adding(CHAIN, entry(None), a.id)) == Conflict(None)
        b = await named(store, None, None)
        assert await shown(store) == [b]
        assert await left(store) == [failed, b]

    async def test_what_was_made_from_it_goes_and_the_rest_stays(self, store: Store) -> None:
        a, b, c = await line(store, 3)
        d = entry(c)
        await store.append(adding(CHAIN, d, note=b"named", replay=replay("d", d, sticky=True)))
        e = entry(a)
        await store.append(adding(CHAIN, e, d.id, note=b"named", replay=replay("e", e, sticky=True)))
        f = entry(e)
        await store.append(adding(CHAIN, f, note=b"named", replay=replay("f", f)))
        kept = [summary(of) for of in (a, b, d, e, f)]
        for made in kept:
            assert await store.keep_summary(CHAIN, made, revision=0) is True
        for each in (b, c, d):
            assert await store.prune(CHAIN, each.id) is True
        assert list(await store.summaries(CHAIN)) == [kept[0], kept[3], kept[4]]
        chain = await store.load(CHAIN, key="", reach=None)
        assert chain is not None
        assert chain.summaries == (kept[0], kept[3], kept[4])
        assert await store.find_replay(CHAIN, "d") is None
        assert await store.find_replay(CHAIN, "e") == replay("e", e, sticky=True)
        assert await store.find_replay(CHAIN, "f") == replay("f", f)
        assert await store.prune(CHAIN, f.id) is True
        assert await store.find_replay(CHAIN, "f") is None
        assert await store.find_replay(CHAIN, "e") == replay("e", e, sticky=True)
        assert await store.keep_summary(CHAIN, summary(d), revision=chain.revision) is False
        assert list(await store.summaries(CHAIN)) == [kept[0], kept[3]]

    async def test_the_preambles_of_what_is_left_stay(self, store: Store) -> None:
        a = entry(None, preamble=RULES)
        await store.append(adding(CHAIN, a, preamble=RULES, note=b"named"))
        b = entry(a, preamble=OTHER_RULES)
        await store.append(adding(CHAIN, b, preamble=OTHER_RULES, note=b"named"))
        assert await store.prune(CHAIN, b.id) is True
        for _ in range(2):
            chain = await store.load(CHAIN, key="", reach=1)
            assert chain is not None
            assert (chain.head, chain.preamble) == (a, RULES)
        c = entry(a, preamble=OTHER_RULES)
        await store.append(adding(CHAIN, c, preamble=OTHER_RULES, note=b"named"))
        d = entry(c, preamble=RULES)
        await store.append(adding(CHAIN, d, preamble=RULES, note=b"named"))
        assert [each.preamble for each in await listed(store.records(CHAIN))] == [RULES, OTHER_RULES, RULES]

    async def test_what_is_left_is_found_again(self, store: Store) -> None:
        """Words and vectors may go with a prune; what is said of them stays true."""
        a, b, c = await line(store, 3)
        for each in (a, b, c):
            vectors = Index(each.id, (), MODEL, (b"x", b"y"))
            assert await store.index(CHAIN, [told(each), vectors], revision=0) is True
        assert await store.prune(CHAIN, b.id) is True
        assert await store.prune(CHAIN, c.id) is True
        b2 = await named(store, a, a)
        late = await store.index(CHAIN, [told(b), told(c)], revision=0)
        assert isinstance(late, bool)
        known = {each.id: told(each) for each in (a, b2)}
        for model in ("", MODEL):
            missing = await store.unindexed(CHAIN, b2.id, model=model, most=9)
            assert b2 in missing.entries
            indexes = [known[e.id] if not model else Index(e.id, (), MODEL, (b"n", b"m")) for e in missing.entries]
            assert await store.index(CHAIN, indexes, revision=missing.revision) is True
            assert list((await store.unindexed(CHAIN, b2.id, model=model, most=9)).entries) == []
        terms = [0, 1, 2]
        found = await store.postings(CHAIN, b2.id, [term(n) for n in terms])
        assert found == expected([a, b2], known, terms)
        vectors_found = await store.vectors(CHAIN, b2.id, MODEL)
        assert vectors_found is not None
        assert vectors_found.positions == b"".join(n.to_bytes(4, "little") for n in range(4))
        assert vectors_found.matrix[2:] == b"nm"

    async def test_equal_ends_are_found_as_long_as_one_is_left(self, store: Store) -> None:
        for whole in (False, True):
            a = entry(None, "same")
            await store.append(adding(CHAIN, a, None, note=b"n", whole=whole))
            b = entry(None, "same")
            await store.append(adding(CHAIN, b, a.id, note=b"n"))
            assert await store.find_digests(CHAIN, [a.digest]) == {a.digest: b.id}
            assert await store.prune(CHAIN, b.id) is True
            assert await store.find_digests(CHAIN, [a.digest]) == {a.digest: a.id}
            assert await store.prune(CHAIN, a.id) is True
            assert await store.find_digests(CHAIN, [a.digest]) == {}

    async def test_the_unknown_is_left_alone(self, store: Store, clock: Clock) -> None:
        (a,) = await line(store, 1, ttl_s=60)
        for id in (new_id(), "", "nonsense"):
            assert await store.prune(CHAIN, id) is False
        for ref in (Ref("other", "chain", "one"), Ref("tenant", "chain", "two")):
            assert await store.prune(ref, a.id) is False
        neighbour = Ref("tenant", "chain", "two")
        (other,) = await talk(store, 1, neighbour)
        assert await shown(store) == [a]
        clock.seconds += 60
        assert await store.prune(CHAIN, a.id) is False
        assert [each.entry for each in await listed(store.records(neighbour))] == [other]

    async def test_of_a_prune_and_an_append_to_its_place_both_are_whole(self, store: Store) -> None:
        """Either the append finds its parent and that stays, or it is a conflict."""
        (root,) = await line(store, 1)
        head = root
        for turn in range(20):
            a = await named(store, root, head)
            b = entry(a, f"{turn}")
            jobs = [store.prune(CHAIN, a.id), store.append(adding(CHAIN, b, note=b"named"))]
            answers = await asyncio.gather(*(jobs if turn % 2 else jobs[::-1]))
            appended = Appended() in answers
            assert appended or Conflict(head.id) in answers
            if appended:
                assert await shown(store) == [root, a, b]
                head = b
            else:
                assert await shown(store, a) is None
            assert head.id in {each.id for each in await left(store)}
