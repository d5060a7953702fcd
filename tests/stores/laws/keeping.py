"""What is kept beside the chain: failed exchanges, preambles, replays, listings."""

from proxy.conversation.entry import Entry, Preamble, new_id
from proxy.stores.contract import STICKY_MS, Appended, Conflict, Record, Ref, RefInfo, Store
from tests.stores.making import OTHER_RULES, REF, RULES, Clock, adding, entry, listed, replay, talk


class Keeping:
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
        assert await store.append(adding(REF, entry(failed), third.id)) == Conflict(third.id)
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
