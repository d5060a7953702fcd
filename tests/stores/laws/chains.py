"""Branches, how far a load goes back, and what finds an entry."""

from proxy.conversation.entry import Anchor, Entry
from proxy.stores.contract import Appended, Store
from tests.stores.making import REF, adding, entry, talk


class Chains:
    async def test_branches_share_what_is_below_them(self, store: Store) -> None:
        a, b, c = await talk(store, 3)
        b2 = entry(a, "again")
        assert await store.append(adding(REF, b2, c.id)) == Appended()
        c2 = entry(b2, "on")
        assert await store.append(adding(REF, c2)) == Appended()
        c3 = entry(b2, "and again")
        assert await store.append(adding(REF, c3, c2.id)) == Appended()
        d = entry(c, "back to the first")
        assert await store.append(adding(REF, d, c3.id)) == Appended()
        root = entry(None, "a new beginning")
        assert await store.append(adding(REF, root, d.id)) == Appended()
        lines = {c3.id: (a, b2, c3), c2.id: (a, b2, c2), d.id: (a, b, c, d), root.id: (root,), b.id: (a, b)}
        for id, line in lines.items():
            chain = await store.load(REF, key="", reach=None, entry=id)
            assert chain is not None
            assert (chain.entries, chain.head.id, chain.ref_head) == (line, id, root.id)
            for first in range(line[-1].upto + 1):
                for upto in range(line[-1].upto + 2):
                    found = await store.read(REF, id, first, upto)
                    assert list(found) == [e for e in line if e.first < upto and e.upto > first and first < upto]
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert chain.entries == (root,)

    async def test_a_chain_over_many_borders_is_whole(self, store: Store) -> None:
        """Each turn is regenerated: a border after every entry."""
        line: list[Entry] = []
        head: str | None = None
        for turn in range(20):
            parent = line[-1] if line else None
            thrown_away = entry(parent, f"bad {turn}")
            assert await store.append(adding(REF, thrown_away, head)) == Appended()
            line.append(entry(parent, f"good {turn}"))
            assert await store.append(adding(REF, line[-1], thrown_away.id)) == Appended()
            head = line[-1].id
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert list(chain.entries) == line
        for reach in range(1, 170, 7):
            chain = await store.load(REF, key="", reach=reach)
            assert chain is not None
            assert list(chain.entries) == line[-((reach + 7) // 8) :]
        for turn in range(22):
            at = min(turn, 20)
            expected = line[at - 1] if turn else None, line[at] if at < 20 else None
            assert await store.find_turn(REF, turn) == expected

    async def test_a_load_goes_back_to_the_anchor(self, store: Store) -> None:
        said = await talk(store, 5)
        for resume in range(11):
            new = entry(said[-1], "on", anchor=Anchor("policy", 0, resume))
            assert await store.append(adding(REF, new)) == Appended()
            for reach in (1, 17, None):
                for id in (None, new.id):
                    chain = await store.load(REF, key="policy", reach=reach, entry=id)
                    assert chain is not None
                    assert list(chain.entries) == [e for e in [*said, new] if e.upto > resume]
            said.append(new)
        ahead = entry(said[-1], "on", anchor=Anchor("policy", 900, 900))
        assert await store.append(adding(REF, ahead)) == Appended()
        for id in (None, ahead.id):
            chain = await store.load(REF, key="policy", reach=None, entry=id)
            assert chain is not None
            assert chain.entries == (ahead,)

    async def test_an_anchor_under_another_key_means_nothing(self, store: Store) -> None:
        said = await talk(store, 4)
        new = entry(said[-1], "on", anchor=Anchor("policy", 6, 6))
        await store.append(adding(REF, new))
        said.append(new)
        for id in (None, new.id):
            for key in ("", "other"):
                for reach, count in ((None, 5), (0, 1), (1, 1), (8, 1), (9, 2), (16, 2), (17, 3), (40, 5), (99, 5)):
                    chain = await store.load(REF, key=key, reach=reach, entry=id)
                    assert chain is not None
                    assert list(chain.entries) == said[-count:]

    async def test_the_anchor_is_the_heads_own(self, store: Store) -> None:
        (first,) = await talk(store, 1)
        second = entry(first, anchor=Anchor("k", 2, 2))
        await store.append(adding(REF, second))
        third = entry(second)
        await store.append(adding(REF, third))
        assert [len(c.entries) if c else 0 for c in [await store.load(REF, key="k", reach=None)]] == [3]
        chain = await store.load(REF, key="k", reach=None, entry=second.id)
        assert chain is not None
        assert chain.entries == (second,)
        fourth = entry(third, anchor=Anchor("k", 4, 4))
        await store.append(adding(REF, fourth))
        chain = await store.load(REF, key="k", reach=None)
        assert chain is not None
        assert chain.entries == (third, fourth)

    async def test_digests_find_the_newest_entry_that_ends_so(self, store: Store) -> None:
        a, b, _ = await talk(store, 3)
        twin = entry(a, "turn 1 of one")
        assert twin.digest == b.digest
        for whole in (False, True):
            found = await store.find_digests(REF, [a.digest, b.digest, b"x" * 16, b.digest])
            assert found == {a.digest: a.id, b.digest: (twin if whole else b).id}
            head = await store.load(REF, key="", reach=1)
            if head and not whole:
                assert await store.append(adding(REF, twin, head.head.id, whole=True)) == Appended()
        later = entry(twin, "later")
        assert await store.append(adding(REF, later, whole=True)) == Appended()
        assert await store.append(adding(REF, last := entry(later, "last"))) == Appended()
        assert await store.find_digests(REF, [later.digest, last.digest, a.digest]) == {
            later.digest: later.id,
            last.digest: last.id,
            a.digest: a.id,
        }
        assert await store.find_digests(REF, []) == {}

    async def test_many_digests_are_found_at_once(self, store: Store) -> None:
        said = await talk(store, 150)
        for _ in range(2):
            assert await store.find_digests(REF, [e.digest for e in said]) == {e.digest: e.id for e in said}
            said += await talk(store, 1, after=said[-1], whole=True)

    async def test_the_whole_flag_stays(self, store: Store) -> None:
        (last,) = await talk(store, 1)
        for flag, seen in ((False, False), (True, True), (False, True)):
            last = (await talk(store, 1, after=last, whole=flag))[0]
            for id in (None, last.id):
                chain = await store.load(REF, key="", reach=1, entry=id)
                assert chain is not None
                assert chain.whole is seen

    async def test_a_turn_is_found_on_the_heads_chain(self, store: Store) -> None:
        greeting = entry(None, roles=["assistant"], tokens=[1])
        assert await store.append(adding(REF, greeting)) == Appended()
        one = entry(greeting, "ask", roles=["user", "assistant"])
        two = entry(one, "tool", roles=["tool", "assistant"])
        three = entry(two, "twice", roles=["user", "user", "assistant"], tokens=[1, 1, 1])
        for each in (one, two, three):
            assert await store.append(adding(REF, each)) == Appended()
        assert [each.turn for each in (greeting, one, two, three)] == [0, 1, 1, 3]
        assert await store.find_turn(REF, -1) == (None, greeting)
        assert await store.find_turn(REF, 0) == (greeting, one)
        assert await store.find_turn(REF, 1) == (two, three)
        assert await store.find_turn(REF, 2) == (two, three)
        assert await store.find_turn(REF, 3) == (three, None)
        assert await store.find_turn(REF, 99) == (three, None)
