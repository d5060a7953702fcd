"""The laws that every store keeps: `class TestX(Laws)` with a fixture `factory` proves them for store X."""

import asyncio
import os
from collections.abc import AsyncIterator, Callable

import pytest
from hypothesis import HealthCheck, given, settings

from proxy.conversation.entry import Anchor, Entry, Preamble, new_id
from proxy.errors import StoreUnavailable
from proxy.stores.contract import STICKY_MS, Appended, Conflict, Record, Ref, RefInfo, Store
from tests.stores.making import REF, Clock, adding, entry, listed, replay, talk
from tests.stores.model import Model, Step, compare, steps

Factory = Callable[[Callable[[], float]], Store]

RULES = Preamble(b'{"role":"system","content":"be kind"}', 7)
OTHER_RULES = Preamble(b'{"role":"system","content":"be brief"}', 6)
EXAMPLES = int(os.environ.get("TEST_EXAMPLES", "40"))


class Laws:
    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    async def store(self, factory: Factory, clock: Clock) -> AsyncIterator[Store]:
        store = factory(clock)
        await store.open()
        yield store
        await store.close()

    # what was appended is read

    async def test_what_was_appended_is_read_byte_for_byte(self, store: Store) -> None:
        first = entry(None, 'näive "quotes" \\u0000 \U0001f600', preamble=RULES)
        assert await store.append(adding(REF, first, preamble=RULES, plan=b'{"kept": 1.0}')) == Appended()
        second = entry(first, "more", preamble=RULES, anchor=Anchor("k", 0, 0))
        assert await store.append(adding(REF, second, preamble=RULES)) == Appended()
        chain = await store.load(REF, key="k", reach=None)
        assert chain is not None
        assert chain.entries == (first, second)
        assert (chain.head, chain.ref_head, chain.preamble, chain.whole) == (second, second.id, RULES, False)
        assert chain.head.facts == second.facts
        assert [wire for _, _, wire in chain.entries[0].messages()] == [wire for _, _, wire in first.messages()]

    async def test_any_bytes_survive(self, store: Store) -> None:
        """A store keeps bytes: it knows of no encoding."""
        last: Entry | None = None
        said = []
        for wire in (bytes(range(256)), b"\0", b"\xff\xfe\xdd" * 5000, b"x" * 70_000):
            new = entry(last, "odd")
            new = Entry(**{name: getattr(new, name) for name in new.__struct_fields__} | {"wire": wire})
            assert await store.append(adding(REF, new, plan=wire)) == Appended()
            said.append(new)
            last = new
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert list(chain.entries) == said
        assert [record.plan for record in await listed(store.records(REF))] == [each.wire for each in said]

    async def test_the_newest_state_is_read_at_once(self, store: Store) -> None:
        """Read your own writes, every time."""
        last: Entry | None = None
        for turn in range(30):
            last = entry(last, f"{turn}")
            await store.append(adding(REF, last))
            chain = await store.load(REF, key="", reach=1)
            assert chain is not None
            assert chain.head == last

    async def test_what_is_unknown_is_nothing(self, store: Store) -> None:
        (only,) = await talk(store, 1)
        for ref in (Ref("tenant", "session", "two"), Ref("other", "session", "one"), Ref("tenant", "response", "one")):
            assert await store.load(ref, key="", reach=None) is None
            assert await store.load(ref, key="", reach=None, entry=only.id) is None
            assert list(await store.read(ref, only.id, 0, 9)) == []
            assert await store.find_digests(ref, [only.digest]) == {}
            assert await store.find_turn(ref, 1) is None
            assert await store.find_replay(ref, "k") is None
            assert await listed(store.records(ref)) == []
            assert await store.erase(ref) is False
            assert await store.append(adding(ref, entry(only), only.id)) == Conflict(None)
        for id in (new_id(), "", "nonsense", only.id.upper(), only.id[:-1]):
            assert await store.load(REF, key="", reach=None, entry=id) is None
            assert list(await store.read(REF, id, 0, 9)) == []

    async def test_the_secret_stays_the_same(self, store: Store) -> None:
        assert len(await store.secret()) == 32
        assert await store.secret() == await store.secret()

    # the compare-and-swap

    async def test_an_append_to_another_head_is_refused_and_writes_nothing(self, store: Store) -> None:
        first, second = await talk(store, 2)
        late = entry(first, "late")
        for expected in (first.id, None, new_id()):
            assert await store.append(adding(REF, late, expected, plan=b"x", whole=True)) == Conflict(second.id)
        assert await store.append(adding(Ref("tenant", "session", "new"), entry(None), first.id)) == Conflict(None)
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert (chain.entries, chain.whole) == ((first, second), False)
        assert [record.entry for record in await listed(store.records(REF))] == [first, second]
        assert len(await listed(store.list())) == 1

    async def test_an_append_repeated_counts_once(self, store: Store) -> None:
        first = entry(None)
        append = adding(REF, first, replay=replay("k", first))
        assert await store.append(append) == Appended()
        assert await store.append(append) == Appended(again=True)
        (second,) = await talk(store, 1, after=first)
        assert await store.append(append) == Appended(again=True)
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert chain.entries == (first, second)
        assert await store.find_replay(REF, "k") is None

    async def test_an_append_repeated_after_a_conflict_is_made_once(self, store: Store) -> None:
        first, second = await talk(store, 2)
        late = entry(first, "late")
        assert await store.append(adding(REF, late)) == Conflict(second.id)
        assert await store.append(adding(REF, late, second.id)) == Appended()
        assert await store.append(adding(REF, late, second.id)) == Appended(again=True)
        assert len(await listed(store.records(REF))) == 3

    async def test_an_append_repeated_at_the_same_time_counts_once(self, store: Store) -> None:
        last: Entry | None = None
        for _ in range(5):
            last = entry(last)
            answers = await asyncio.gather(*[store.append(adding(REF, last)) for _ in range(8)])
            assert sorted(answers, key=repr) == [Appended()] + [Appended(again=True)] * 7
        assert len(await listed(store.records(REF))) == 5

    async def test_of_those_who_race_one_wins(self, store: Store) -> None:
        head: Entry | None = None
        for turn in range(12):
            rivals = [entry(head, f"{turn} {n}") for n in range(9)]
            answers = await asyncio.gather(*[store.append(adding(REF, each)) for each in rivals])
            winners = [each for each, answer in zip(rivals, answers, strict=True) if answer == Appended()]
            assert len(winners) == 1
            assert [a for a in answers if a != Appended()] == [Conflict(winners[0].id)] * 8
            head = winners[0]
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert len(chain.entries) == 12

    async def test_the_same_id_on_two_refs_is_two_entries(self, store: Store) -> None:
        """An import brings ids along."""
        one = entry(None)
        for ref in (REF, Ref("other", "session", "one"), Ref("tenant", "session", "two")):
            assert await store.append(adding(ref, one)) == Appended()
            chain = await store.load(ref, key="", reach=None)
            assert chain is not None
            assert chain.head == one
        await store.erase(REF)
        assert await store.load(Ref("other", "session", "one"), key="", reach=None) is not None

    async def test_a_parent_that_is_nowhere_is_a_mistake(self, store: Store) -> None:
        (first,) = await talk(store, 1)
        stray = entry(entry(None, "elsewhere"), "stray")
        with pytest.raises(ValueError, match="parent"):
            await store.append(adding(REF, stray, first.id))
        with pytest.raises(ValueError, match="parent"):
            await store.append(adding(Ref("tenant", "session", "new"), stray, None))
        assert await store.append(adding(REF, entry(first))) == Appended()
        assert len(await listed(store.list())) == 1

    async def test_a_mistake_does_not_spoil_its_neighbours(self, store: Store) -> None:
        refs = [Ref("tenant", "session", f"{n}") for n in range(6)]
        stray = entry(entry(None, "elsewhere"), "stray")
        appends = [adding(ref, entry(None)) for ref in refs]
        appends.insert(3, adding(Ref("tenant", "session", "bad"), stray, None))
        answers = await asyncio.gather(*map(store.append, appends), return_exceptions=True)
        assert isinstance(answers.pop(3), ValueError)
        assert answers == [Appended()] * 6
        assert [info.ref for info in await listed(store.list())] == refs

    # branches

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

    # how far a load goes back

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

    # digests and turns

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

    # failed exchanges

    async def test_failed_exchanges_are_kept_off_every_branch(self, store: Store) -> None:
        (first,) = await talk(store, 1)
        failed = entry(first, "broke", state="failed")
        assert await store.append(adding(REF, failed, new_id(), moves=False, plan=b"why")) == Appended()
        assert await store.append(adding(REF, failed, moves=False)) == Appended(again=True)
        second = entry(first, "well")
        assert await store.append(adding(REF, second)) == Appended()
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert chain.entries == (first, second)
        assert await store.load(REF, key="", reach=None, entry=failed.id) is None
        assert list(await store.read(REF, failed.id, 0, 9)) == []
        assert await store.find_digests(REF, [failed.digest]) == {}
        (third,) = await talk(store, 1, after=second, whole=True)
        failed_too = entry(third, "broke", state="failed")
        assert await store.append(adding(REF, failed_too, moves=False, whole=True)) == Appended()
        assert await store.find_digests(REF, [failed.digest, failed_too.digest]) == {}
        with pytest.raises(ValueError, match="parent"):
            await store.append(adding(REF, entry(failed), third.id))
        assert [record.entry for record in await listed(store.records(REF))] == [
            first,
            failed,
            second,
            third,
            failed_too,
        ]

    async def test_a_ref_may_hold_failed_exchanges_only(self, store: Store) -> None:
        failed = entry(None, "broke", state="failed")
        assert await store.append(adding(REF, failed, moves=False, preamble=None)) == Appended()
        assert await store.load(REF, key="", reach=None) is None
        assert await store.find_turn(REF, 1) is None
        (info,) = await listed(store.list())
        assert (info.head, info.turns, info.messages, info.tokens) == ("", 0, 0, 0)
        assert await store.append(adding(REF, entry(None), failed.id)) == Conflict(None)
        first = entry(None, "well")
        assert await store.append(adding(REF, first, None)) == Appended()
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert chain.entries == (first,)
        assert [record.entry for record in await listed(store.records(REF))] == [failed, first]

    async def test_a_failed_exchange_on_an_erased_parent_is_refused(self, store: Store) -> None:
        (first,) = await talk(store, 1)
        await store.erase(REF)
        failed = entry(first, "broke", state="failed")
        assert await store.append(adding(REF, failed, moves=False)) == Conflict(None)
        assert await listed(store.list()) == []

    # preambles

    async def test_the_preamble_in_force_is_the_heads(self, store: Store) -> None:
        said: list[Entry] = []
        rules = [None, RULES, RULES, OTHER_RULES, None, RULES]
        for preamble in rules:
            said.append(entry(said[-1] if said else None, preamble=preamble))
            assert await store.append(adding(REF, said[-1], preamble=preamble)) == Appended()
            chain = await store.load(REF, key="", reach=1)
            assert chain is not None
            assert chain.preamble == preamble
        for each, preamble in zip(said, rules, strict=True):
            chain = await store.load(REF, key="", reach=1, entry=each.id)
            assert chain is not None
            assert chain.preamble == preamble
        records = await listed(store.records(REF))
        assert records == [Record(each, b"", preamble) for each, preamble in zip(said, rules, strict=True)]

    async def test_a_preamble_that_says_nothing_is_one(self, store: Store) -> None:
        empty = Preamble(b"", 0)
        await store.append(adding(REF, entry(None, preamble=empty), preamble=empty))
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert chain.preamble == empty

    async def test_a_failed_exchange_changes_no_preamble(self, store: Store) -> None:
        first = entry(None, preamble=RULES)
        await store.append(adding(REF, first, preamble=RULES))
        failed = entry(first, preamble=OTHER_RULES, state="failed")
        await store.append(adding(REF, failed, preamble=OTHER_RULES, moves=False))
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert chain.preamble == RULES
        assert [record.preamble for record in await listed(store.records(REF))] == [RULES, OTHER_RULES]

    # replays

    async def test_a_replay_lives_until_it_is_delivered(self, store: Store) -> None:
        first = entry(None)
        kept = replay("k", first, body=bytes(range(256)) * 40)
        await store.append(adding(REF, first, replay=kept))
        assert await store.find_replay(REF, "k") == kept
        assert await store.find_replay(REF, "other") is None
        assert await store.find_replay(Ref("other", "session", "one"), "k") is None
        store.delivered(REF, "other")
        assert await store.find_replay(REF, "k") == kept
        store.delivered(REF, "k")
        assert await store.find_replay(REF, "k") is None
        await talk(store, 1, Ref("tenant", "session", "two"))
        assert await store.find_replay(REF, "k") is None

    async def test_a_replay_lives_until_the_ref_moves_on(self, store: Store) -> None:
        first = entry(None)
        await store.append(adding(REF, first, replay=replay("k", first)))
        failed = entry(first, state="failed")
        await store.append(adding(REF, failed, moves=False, replay=replay("f", failed)))
        assert await store.find_replay(REF, "k") == replay("k", first)
        assert await store.find_replay(REF, "f") is None
        second = entry(first)
        await store.append(adding(REF, second, replay=replay("k", second)))
        assert await store.find_replay(REF, "k") == replay("k", second)
        third = entry(second)
        await store.append(adding(REF, third))
        assert await store.find_replay(REF, "k") is None

    async def test_a_sticky_replay_lives_for_a_day(self, store: Store, clock: Clock) -> None:
        first = entry(None)
        kept = replay("k", first, sticky=True)
        await store.append(adding(REF, first, replay=kept))
        store.delivered(REF, "k")
        (second,) = await talk(store, 1, after=first)
        failed = entry(second, state="failed")
        await store.append(adding(REF, failed, moves=False, replay=replay("f", failed, sticky=True)))
        assert await store.find_replay(REF, "k") == kept
        assert await store.find_replay(REF, "f") == replay("f", failed, sticky=True)
        clock.seconds += STICKY_MS / 1000 - 1
        assert await store.expire(9) == 0
        assert await store.find_replay(REF, "k") == kept
        clock.seconds += 1
        assert await store.find_replay(REF, "k") is None
        assert await store.expire(1) == 1
        assert await store.expire(9) == 1
        assert await store.expire(9) == 0

    async def test_of_sticky_replays_with_one_key_the_newest_counts(self, store: Store) -> None:
        first = entry(None)
        await store.append(adding(REF, first, replay=replay("k", first, sticky=True)))
        second = entry(first)
        await store.append(adding(REF, second, replay=replay("k", second, sticky=True)))
        assert await store.find_replay(REF, "k") == replay("k", second, sticky=True)

    # listings

    async def test_a_listing_is_in_order_and_complete(self, store: Store, clock: Clock) -> None:
        names = [f"{n:03d}" for n in range(230)]
        for at, name in enumerate(reversed(names)):
            clock.seconds += 1
            await talk(store, 1, Ref(f"t{at % 3}", "session", name))
        await talk(store, 1, Ref("t1", "response", "unseen"))
        refs = [info.ref for info in await listed(store.list())]
        assert refs == sorted(refs, key=lambda ref: (ref.tenant, ref.name))
        assert sorted(ref.name for ref in refs) == names
        only = [info.ref for info in await listed(store.list(tenant="t1"))]
        assert only == [ref for ref in refs if ref.tenant == "t1"]
        await talk(store, 1, Ref("t0", "session", "t1"))
        await talk(store, 2, Ref("t2", "session", "t1"))
        twice = await listed(store.list(name="t1"))
        assert [(info.ref.tenant, info.turns) for info in twice] == [("t0", 1), ("t2", 2)]
        assert [info.turns for info in await listed(store.list(tenant="t2", name="t1"))] == [2]
        assert await listed(store.list(tenant="t3")) == []

    async def test_a_line_of_a_listing_tells_the_sums(self, store: Store, clock: Clock) -> None:
        born = int(clock.seconds * 1000)
        said = await talk(store, 2)
        clock.seconds += 5
        (last,) = await talk(store, 1, after=said[-1], ttl_s=60)
        assert await listed(store.list()) == [
            RefInfo(
                ref=REF,
                head=last.id,
                turns=3,
                messages=6,
                tokens=24,
                created_ms=born,
                updated_ms=born + 5000,
                expires_ms=born + 65_000,
            )
        ]

    async def test_a_listing_may_be_read_while_things_change(self, store: Store) -> None:
        for n in range(130):
            await talk(store, 1, Ref("t", "session", f"{n:03d}"))
        seen = []
        async for info in store.list():
            seen.append(info.ref.name)
            if len(seen) == 50:
                await store.erase(Ref("t", "session", "120"))
                await store.erase(Ref("t", "session", "010"))
                await talk(store, 1, Ref("t", "session", "129x"))
        assert seen[:50] == [f"{n:03d}" for n in range(50)]
        assert "129" in seen
        assert len(set(seen)) == len(seen)

    async def test_records_come_in_the_order_of_appending(self, store: Store) -> None:
        said: list[Entry] = []
        other = Ref("tenant", "session", "two")
        for n in range(90):
            new = entry(said[n // 2] if said else None, f"{n}")
            assert await store.append(adding(REF, new, said[-1].id if said else None, plan=b"%d" % n)) == Appended()
            said.append(new)
            await store.append(adding(other, entry(None, "noise"), moves=False))
        records = await listed(store.records(REF))
        assert [(r.entry, r.plan) for r in records] == [(e, b"%d" % n) for n, e in enumerate(said)]

    # erasing

    async def test_what_was_erased_is_gone(self, store: Store, clock: Clock) -> None:
        said: list[Entry] = []
        for n in range(300):
            parent = said[-1] if n % 50 else (said[n // 2] if said else None)
            said.append(entry(parent, f"{n}", preamble=RULES))
            head = said[-2].id if n else None
            kept = replay(f"{n}", said[-1], sticky=n % 2 == 0)
            done = await store.append(adding(REF, said[-1], head, preamble=RULES, whole=n > 100, replay=kept))
            assert done == Appended()
        neighbour = Ref("tenant", "session", "two")
        others = await talk(store, 3, neighbour)
        assert await store.erase(REF) is True
        assert await store.erase(REF) is False
        assert await store.load(REF, key="", reach=None) is None
        assert await store.load(REF, key="", reach=None, entry=said[5].id) is None
        assert list(await store.read(REF, said[5].id, 0, 99)) == []
        assert await store.find_digests(REF, [said[5].digest]) == {}
        assert await store.find_turn(REF, 1) is None
        assert await store.find_replay(REF, "298") is None
        assert await store.find_replay(REF, "299") is None
        assert await listed(store.records(REF)) == []
        assert [info.ref for info in await listed(store.list())] == [neighbour]
        assert await store.append(adding(REF, entry(said[-1]))) == Conflict(None)
        assert await store.append(adding(REF, entry(said[-1]), None, moves=False)) == Conflict(None)
        assert await store.load(REF, key="", reach=None) is None
        chain = await store.load(neighbour, key="", reach=None)
        assert chain is not None
        assert list(chain.entries) == others
        clock.seconds += 10_000_000
        assert await store.expire(9) == 0

    async def test_what_is_begun_after_erasing_holds_nothing_of_before(self, store: Store) -> None:
        said = await talk(store, 3, whole=True)
        await store.erase(REF)
        new = await talk(store, 2)
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert (list(chain.entries), chain.whole) == (new, False)
        assert await store.find_digests(REF, [e.digest for e in said]) == {e.digest: e.id for e in new}
        assert [record.entry for record in await listed(store.records(REF))] == new
        assert await store.append(adding(REF, said[0], new[-1].id)) == Appended()

    async def test_erasing_is_final_under_concurrent_appends(self, store: Store) -> None:
        """Whatever the order in which they come: what is under way never brings a session back."""
        for round in range(10):
            last: Entry | None = None
            for _ in range(3):
                last = entry(last)
                await store.append(adding(REF, last))
            assert last is not None
            jobs = [store.append(adding(REF, entry(last, f"{n}"))) for n in range(6)]
            jobs += [store.append(adding(REF, entry(last, f"{n}"), moves=False)) for n in range(2)]
            erased, *answers = await asyncio.gather(store.erase(REF), *jobs[: round % 8], *jobs[round % 8 :])
            assert erased is True
            assert all(isinstance(answer, Appended | Conflict) for answer in answers)
            assert await store.load(REF, key="", reach=None) is None
            assert await listed(store.list()) == []
            assert await store.append(adding(REF, entry(last))) == Conflict(None)

    # expiry

    async def test_what_has_expired_is_unknown(self, store: Store, clock: Clock) -> None:
        said = await talk(store, 3, ttl_s=60)
        kept = entry(said[-1])
        await store.append(adding(REF, kept, ttl_s=60, replay=replay("k", kept, sticky=True)))
        await talk(store, 1, Ref("tenant", "session", "stays"))
        clock.seconds += 59.9
        assert await store.load(REF, key="", reach=None) is not None
        assert await store.expire(9) == 0
        clock.seconds += 0.1
        for _ in range(2):
            assert await store.load(REF, key="", reach=None) is None
            assert await store.load(REF, key="", reach=None, entry=kept.id) is None
            assert list(await store.read(REF, kept.id, 0, 99)) == []
            assert await store.find_digests(REF, [kept.digest]) == {}
            assert await store.find_turn(REF, 1) is None
            assert await store.find_replay(REF, "k") is None
            assert await listed(store.records(REF)) == []
            assert [info.ref.name for info in await listed(store.list())] == ["stays"]
            assert await store.append(adding(REF, entry(kept))) == Conflict(None)
            assert await store.append(adding(REF, entry(kept), moves=False)) == Conflict(None)
            assert await store.erase(REF) is False
            await store.expire(9)
        clock.seconds += 10**9
        assert await store.expire(9) == 0

    @pytest.mark.parametrize("times", [(60, 7200, 10), (None, 60), (100_000, None, 60), (7200, 100_000, 60)])
    async def test_each_append_sets_the_time_anew(
        self, store: Store, clock: Clock, times: tuple[int | None, ...]
    ) -> None:
        last: Entry | None = None
        for ttl in times:
            last = entry(last)
            assert await store.append(adding(REF, last, ttl_s=ttl)) == Appended()
            clock.seconds += (ttl or 10**8) - 1
            assert await store.load(REF, key="", reach=1) is not None
        clock.seconds += 1
        assert await store.load(REF, key="", reach=1) is None
        assert await store.expire(9) == 1

    async def test_a_shorter_time_counts_at_once(self, store: Store, clock: Clock) -> None:
        (first,) = await talk(store, 1, ttl_s=100_000)
        (second,) = await talk(store, 1, after=first, ttl_s=100_000)
        await talk(store, 1, after=second, ttl_s=60)
        clock.seconds += 60
        assert await store.load(REF, key="", reach=1) is None
        assert await store.expire(9) == 1

    async def test_a_ref_that_expired_may_begin_anew(self, store: Store, clock: Clock) -> None:
        old = await talk(store, 3, ttl_s=60, whole=True)
        clock.seconds += 61
        new = await talk(store, 2)
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert (list(chain.entries), chain.whole) == (new, False)
        assert [record.entry for record in await listed(store.records(REF))] == new
        (info,) = await listed(store.list())
        assert info.created_ms == int(clock.seconds * 1000)
        await store.expire(9)
        assert [record.entry for record in await listed(store.records(REF))] == new
        assert await store.load(REF, key="", reach=None, entry=old[0].id) is None

    async def test_a_failed_exchange_begins_an_expired_ref_anew(self, store: Store, clock: Clock) -> None:
        await talk(store, 3, ttl_s=60)
        clock.seconds += 61
        failed = entry(None, state="failed")
        assert await store.append(adding(REF, failed, moves=False)) == Appended()
        assert [record.entry for record in await listed(store.records(REF))] == [failed]
        assert await store.load(REF, key="", reach=None) is None

    async def test_expiring_is_done_in_steps(self, store: Store, clock: Clock) -> None:
        for n in range(7):
            await talk(store, 1, Ref("t", "session", f"{n}"), ttl_s=60 + n)
        clock.seconds += 66
        assert [await store.expire(3) for _ in range(4)] == [3, 3, 1, 0]

    # tenants

    async def test_tenants_with_one_session_name_see_nothing_of_each_other(self, store: Store) -> None:
        mine, theirs = Ref("mine", "session", "s"), Ref("theirs", "session", "s")
        my, their = await talk(store, 2, mine, whole=True), await talk(store, 3, theirs, whole=True)
        for ref, own, foreign in ((mine, my, their), (theirs, their, my)):
            chain = await store.load(ref, key="", reach=None)
            assert chain is not None
            assert list(chain.entries) == own
            assert await store.load(ref, key="", reach=None, entry=foreign[0].id) is None
            assert list(await store.read(ref, foreign[0].id, 0, 9)) == []
            assert [r.entry for r in await listed(store.records(ref))] == own
            assert [info.ref for info in await listed(store.list(tenant=ref.tenant))] == [ref]
        stranger = Ref("stranger", "session", "s")
        assert await store.find_digests(stranger, [e.digest for e in my]) == {}
        with pytest.raises(ValueError, match="parent"):
            await store.append(adding(mine, entry(their[0]), my[-1].id))
        await store.erase(mine)
        assert await store.load(mine, key="", reach=None) is None
        assert len(await listed(store.records(theirs))) == 3

    # tasks and closing

    async def test_an_append_whose_task_is_cancelled_happens_all_the_same(self, store: Store) -> None:
        first = entry(None)
        task = asyncio.ensure_future(store.append(adding(REF, first)))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert await store.append(adding(REF, first)) == Appended(again=True)

    async def test_ping_answers(self, store: Store) -> None:
        await store.ping()
        await store.ping()

    async def test_a_closed_store_is_unavailable(self, store: Store) -> None:
        first = entry(None)
        waiting = asyncio.ensure_future(store.append(adding(REF, first)))
        await asyncio.sleep(0)
        await store.close()
        await store.close()
        assert await waiting == Appended()
        store.delivered(REF, "k")
        with pytest.raises(StoreUnavailable):
            await store.append(adding(REF, entry(first)))
        with pytest.raises(StoreUnavailable):
            await store.load(REF, key="", reach=None)
        with pytest.raises(StoreUnavailable):
            await store.ping()

    # all of it, against a plain model

    @given(script=steps)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    def test_it_answers_as_the_plain_model_does(self, factory: Factory, script: list[Step]) -> None:
        async def run() -> None:
            clock = Clock()
            store, model = factory(clock), Model(clock)
            await store.open()
            try:
                for step in script:
                    await step(store, model)
                await compare(store, model)
            finally:
                await store.close()

        asyncio.run(run())
