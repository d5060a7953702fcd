"""Erasing, expiry, and tenants that see nothing of each other."""

import asyncio

import pytest

from proxy.conversation.entry import Entry
from proxy.stores.contract import Appended, Conflict, Ref, Store
from tests.stores.making import REF, RULES, Clock, adding, entry, listed, replay, talk


class Ending:
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
        assert await store.append(adding(mine, entry(their[0]), my[-1].id)) == Conflict(my[-1].id)
        await store.erase(mine)
        assert await store.load(mine, key="", reach=None) is None
        assert len(await listed(store.records(theirs))) == 3
