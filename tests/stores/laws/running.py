"""Responses that are still being made: their state, their logs, and who makes them."""

import asyncio

from proxy.conversation.entry import new_id
from proxy.stores.contract import Appended, End, Ref, Run, Store, tag
from tests.stores.making import CHAIN, CONVERSATION, REF, Clock, adding, entry, listed, talk

OTHER = Ref("other", "chain", "one")


async def begun(store: Store, ref: Ref = CHAIN, id: str = "", owner: str = "me", ttl_s: int | None = None) -> str:
    id = id or new_id()
    assert await store.begin_run(ref, id, owner=owner, state=b"queued", ttl_s=ttl_s) is True
    return id


async def found(store: Store, id: str, ref: Ref = CHAIN) -> Run | None:
    return await store.find_run(ref.tenant, tag(ref), id)


async def events(store: Store, id: str, after: int = -1, most: int = 1000, ref: Ref = CHAIN) -> list[bytes]:
    return list(await store.run_events(ref, id, after, most))


class Running:
    async def test_a_run_is_told_as_it_stands(self, store: Store, clock: Clock) -> None:
        id = await begun(store)
        began = int(clock.seconds * 1000)
        run = Run(
            ref=CHAIN,
            entry=id,
            owner="me",
            state=b"queued",
            ended=False,
            cancelled=False,
            beat_ms=began,
            events=0,
        )
        assert await found(store, id) == run
        clock.seconds += 2
        told = await store.log_run(CHAIN, id, owner="me", events=[b"a", b"b"], state=b"in progress")
        assert told is not None
        assert (told.state, told.events, told.beat_ms, told.ended) == (b"in progress", 2, began + 2000, False)
        assert await found(store, id) == told
        clock.seconds += 2
        told = await store.log_run(CHAIN, id, owner="me")
        assert told is not None
        assert (told.state, told.events, told.beat_ms, told.ended) == (b"in progress", 2, began + 4000, False)
        told = await store.log_run(CHAIN, id, owner="me", events=[b"c"], state=b"", end=End(600, keep=False))
        assert told is not None
        assert (told.state, told.events, told.ended, told.cancelled) == (b"", 3, True, False)
        assert await found(store, id) == told
        assert await events(store, id) == [b"a", b"b", b"c"]

    async def test_nobody_else_finds_it(self, store: Store) -> None:
        id = await begun(store)
        await store.log_run(CHAIN, id, owner="me", events=[b"a"])
        assert await store.find_run("other", tag(CHAIN), id) is None
        assert await store.find_run(CHAIN.tenant, tag(REF), id) is None
        for ref, wrong in (
            (OTHER, id),
            (REF, id),
            (CHAIN, new_id()),
            (CHAIN, ""),
            (CHAIN, "x"),
            (CHAIN, id.upper() + "0"),
        ):
            assert await found(store, wrong, ref) is None
            assert await events(store, wrong, ref=ref) == []
            assert await store.log_run(ref, wrong, owner="me", events=[b"b"]) is None
            assert await store.cancel_run(ref, wrong) is None
            assert await store.drop_run(ref, wrong) is False
        assert await events(store, id) == [b"a"]

    async def test_only_its_owner_goes_on_with_it(self, store: Store, clock: Clock) -> None:
        id = await begun(store)
        before = await found(store, id)
        clock.seconds += 1
        for end in (None, End(600, keep=True)):
            assert await store.log_run(CHAIN, id, owner="you", events=[b"a"], state=b"s", end=end) is None
        assert await found(store, id) == before
        assert await store.log_run(CHAIN, id, owner="me", end=End(600, keep=True)) is not None
        ended = await found(store, id)
        assert await store.log_run(CHAIN, id, owner="me", events=[b"a"], state=b"late", end=End(9, keep=False)) is None
        assert await found(store, id) == ended
        assert await events(store, id) == []

    async def test_a_run_is_begun_once(self, store: Store) -> None:
        id = await begun(store)
        assert await store.begin_run(CHAIN, id, owner="you", state=b"x", ttl_s=None) is False
        await store.log_run(CHAIN, id, owner="me", end=End(600, keep=True))
        assert await store.begin_run(CHAIN, id, owner="you", state=b"x", ttl_s=None) is False
        (said,) = await talk(store, 1, CHAIN)
        assert await store.begin_run(CHAIN, said.id, owner="you", state=b"x", ttl_s=None) is False
        answers = await asyncio.gather(
            *[store.begin_run(REF, id, owner=f"{n}", state=b"x", ttl_s=None) for n in range(6)]
        )
        assert sorted(answers) == [False] * 5 + [True]
        run = await found(store, id, REF)
        assert run is not None
        assert run.owner == f"{answers.index(True)}"

    async def test_one_may_be_begun_for_what_was_recorded(self, store: Store) -> None:
        unknown = new_id()
        assert await store.begin_run(CHAIN, unknown, owner="me", state=b"", ttl_s=None, recorded=True) is False
        assert await store.labelled(CHAIN) is None
        (said,) = await talk(store, 1, CHAIN)
        assert await store.begin_run(CHAIN, unknown, owner="me", state=b"", ttl_s=None, recorded=True) is False
        assert await store.begin_run(REF, said.id, owner="me", state=b"", ttl_s=None, recorded=True) is False
        assert await store.begin_run(CHAIN, said.id, owner="me", state=b"", ttl_s=None, recorded=True) is True
        assert await store.begin_run(CHAIN, said.id, owner="me", state=b"", ttl_s=None, recorded=True) is False
        await store.log_run(CHAIN, said.id, owner="me", events=[b"a"], end=End(600, keep=False))
        assert await events(store, said.id) == [b"a"]

    async def test_it_makes_its_ref_unless_that_is_a_conversation(self, store: Store, clock: Clock) -> None:
        id = new_id()
        assert await store.begin_run(CONVERSATION, id, owner="me", state=b"", ttl_s=None) is False
        assert await store.labelled(CONVERSATION) is None
        await store.label(CONVERSATION, b"x", new=True)
        assert await store.begin_run(CONVERSATION, id, owner="me", state=b"", ttl_s=60) is True
        await begun(store, id=id, ttl_s=60)
        assert await store.load(CHAIN, key="", reach=None) is None
        assert await store.labelled(CHAIN) is not None
        await begun(store, ttl_s=1000)
        clock.seconds += 60
        assert await found(store, id) is None
        assert await events(store, id) == []
        assert await store.log_run(CHAIN, id, owner="me") is None
        assert await store.cancel_run(CHAIN, id) is None
        assert await store.labelled(CHAIN) is None
        assert await found(store, id, CONVERSATION) is not None
        again = await begun(store, ttl_s=60)
        assert await found(store, id) is None
        assert await found(store, again) is not None
        await begun(store, id=id)

    async def test_it_is_there_until_it_ends_whether_or_not_its_entry_is(self, store: Store) -> None:
        first = entry(None)
        await begun(store, id=first.id)
        await store.log_run(CHAIN, first.id, owner="me", events=[b"a"])
        assert await store.append(adding(CHAIN, first, note=b"n")) == Appended()
        run = await found(store, first.id)
        assert run is not None
        assert not run.ended
        assert await store.log_run(CHAIN, first.id, owner="me", events=[b"b"], end=End(5, keep=False)) is not None
        assert await events(store, first.id) == [b"a", b"b"]
        assert [each.entry for each in await listed(store.records(CHAIN))] == [first]

    async def test_events_are_told_from_any_place(self, store: Store) -> None:
        id, other = await begun(store), await begun(store)
        log: list[bytes] = []
        for n in range(25):
            some = [b"%d %d %s" % (n, at, bytes(range(256)) * (n % 4)) for at in range(n % 6)]
            assert await store.log_run(CHAIN, id, owner="me", events=some) is not None
            await store.log_run(CHAIN, other, owner="me", events=[b"another's"])
            log += some
        run = await found(store, id)
        assert run is not None
        assert run.events == len(log)
        for after in (-1, 0, 1, 2, 9, 30, len(log) - 2, len(log) - 1, len(log), 10**6):
            for most in (1, 2, 5, 1000):
                assert await events(store, id, after, most) == log[after + 1 :][:most]
        assert await events(store, other) == [b"another's"] * 25

    async def test_a_log_is_kept_for_its_time(self, store: Store, clock: Clock) -> None:
        kept, passing = await begun(store), await begun(store)
        for id in (kept, passing):
            await store.log_run(CHAIN, id, owner="me", events=[b"a"])
        clock.seconds += 10_000
        assert await store.expire(9) == 0
        for id, keep in ((kept, True), (passing, False)):
            await store.log_run(CHAIN, id, owner="me", events=[b"b"], state=b"done", end=End(600.5, keep=keep))
        clock.seconds += 600
        assert await events(store, passing) == [b"a", b"b"]
        assert await found(store, passing) is not None
        clock.seconds += 0.5
        for _ in range(2):
            assert await events(store, kept) == await events(store, passing) == []
            assert await found(store, passing) is None
            assert await store.cancel_run(CHAIN, passing) is None
            run = await found(store, kept)
            assert run is not None
            assert (run.state, run.ended, run.events) == (b"done", True, 2)
            assert await store.expire(9) in (2, 0)
        assert await store.expire(9) == 0
        await begun(store, id=passing)
        assert await events(store, passing) == []
        assert await store.begin_run(CHAIN, kept, owner="me", state=b"", ttl_s=None) is False

    async def test_a_run_that_is_over_may_begin_anew_before_it_was_swept(self, store: Store, clock: Clock) -> None:
        id = await begun(store)
        await store.log_run(CHAIN, id, owner="me", events=[b"a"] * 9, end=End(0, keep=False))
        assert await found(store, id) is None
        await begun(store, id=id, owner="you")
        run = await found(store, id)
        assert run is not None
        assert (run.owner, run.events, run.ended) == ("you", 0, False)
        await store.log_run(CHAIN, id, owner="you", events=[b"b"])
        await store.expire(9)
        assert await events(store, id) == [b"b"]
        clock.seconds += 10**6
        assert await store.expire(9) == 0
        assert await events(store, id) == [b"b"]

    async def test_logs_expire_in_steps(self, store: Store, clock: Clock) -> None:
        for n in range(5):
            id = await begun(store)
            await store.log_run(CHAIN, id, owner="me", events=[b"x"], end=End(60, keep=n % 2 == 0))
        clock.seconds += 60
        assert [await store.expire(2) for _ in range(4)] == [2, 2, 1, 0]

    async def test_it_can_be_cancelled_until_it_has_ended(self, store: Store) -> None:
        id, ended = await begun(store), await begun(store)
        told = await store.cancel_run(CHAIN, id)
        assert told is not None
        assert (told.cancelled, told.ended) == (True, False)
        assert await found(store, id) == told == await store.cancel_run(CHAIN, id)
        told = await store.log_run(CHAIN, id, owner="me")
        assert told is not None
        assert told.cancelled
        told = await store.log_run(CHAIN, id, owner="me", end=End(9, keep=True))
        assert told is not None
        assert (told.cancelled, told.ended) == (True, True)
        await store.log_run(CHAIN, ended, owner="me", end=End(9, keep=True))
        told = await store.cancel_run(CHAIN, ended)
        assert told is not None
        assert (told.cancelled, told.ended) == (False, True)
        assert await found(store, ended) == told

    async def test_a_run_is_dropped_with_its_log(self, store: Store) -> None:
        going, ended = await begun(store), await begun(store)
        for id in (going, ended):
            await store.log_run(CHAIN, id, owner="me", events=[b"x"])
        await store.log_run(CHAIN, ended, owner="me", end=End(600, keep=True))
        for id in (going, ended):
            assert await store.drop_run(CHAIN, id) is True
            assert await store.drop_run(CHAIN, id) is False
            assert await found(store, id) is None
            assert await events(store, id) == []
            assert await store.log_run(CHAIN, id, owner="me", events=[b"y"]) is None
        assert list(await store.stale_runs(0, 9)) == []
        await begun(store, id=going)
        assert await events(store, going) == []

    async def test_runs_that_nobody_makes_are_found(self, store: Store, clock: Clock) -> None:
        silent = [await begun(store, ref) for ref in (CHAIN, OTHER, REF)]
        beating, ended, gone = await begun(store), await begun(store), Ref("tenant", "chain", "gone")
        await store.log_run(CHAIN, ended, owner="me", end=End(600, keep=True))
        await begun(store, gone)
        await begun(store, Ref("tenant", "chain", "passing"), ttl_s=30)
        await store.erase(gone)
        assert list(await store.stale_runs(30_000, 9)) == []
        clock.seconds += 29
        await store.log_run(CHAIN, beating, owner="me")
        assert list(await store.stale_runs(30_000, 9)) == []
        clock.seconds += 1
        stale = list(await store.stale_runs(30_000, 9))
        assert sorted(run.entry for run in stale) == sorted(silent)
        for run in stale:
            assert await found(store, run.entry, run.ref) == run
        assert len(await store.stale_runs(30_000, 2)) == 2
        for run in stale[:2]:
            assert await store.log_run(run.ref, run.entry, owner=run.owner, end=End(0, keep=True)) is not None
        assert list(await store.stale_runs(30_000, 9)) == stale[2:]
        assert {run.entry for run in await store.stale_runs(0, 9)} == {stale[2].entry, beating}

    async def test_runs_go_with_their_ref(self, store: Store) -> None:
        ids = [await begun(store) for _ in range(3)]
        for n, id in enumerate(ids):
            end = End(600, keep=True) if n else None
            await store.log_run(CHAIN, id, owner="me", events=[b"x" * 1000] * 300, end=end)
        mine = await begun(store, REF, ids[0])
        await store.log_run(REF, mine, owner="me", events=[b"stays"])
        assert await store.erase(CHAIN) is True
        for id in ids:
            assert await found(store, id) is None
            assert await events(store, id) == []
            assert await store.log_run(CHAIN, id, owner="me", events=[b"y"]) is None
        assert await events(store, mine, ref=REF) == [b"stays"]
        assert [run.ref for run in await store.stale_runs(0, 9)] == [REF]
        await begun(store, id=ids[1])
        assert await events(store, ids[1]) == []

    async def test_many_at_once(self, store: Store) -> None:
        """Events of one owner keep their order; each heartbeat counts."""
        ids = await asyncio.gather(*[begun(store) for _ in range(5)])
        for turn in range(12):
            await asyncio.gather(
                *[store.log_run(CHAIN, id, owner="me", events=[b"%d" % turn, id.encode()]) for id in ids],
                *[store.cancel_run(CHAIN, id) for id in ids[:turn % 3]],
                *[store.run_events(CHAIN, id, -1, 9) for id in ids],
            )  # fmt: skip
        for id in ids:
            expected = [each for turn in range(12) for each in (b"%d" % turn, id.encode())]
            assert await events(store, id) == expected
