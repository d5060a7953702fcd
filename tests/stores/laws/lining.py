"""Lines for refs: who came first goes first, one at a time, and who does not come again loses its place."""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Callable, Sequence

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.conversation.entry import Entry
from proxy.errors import StoreUnavailable
from proxy.stores.contract import Append, Appended, Conflict, Place, Ref, Store
from tests.stores.making import CHAIN, CONVERSATION, REF, Clock, adding, entry, talk

LONG = 60_000
SHORT = 40
FIRST = Place(0, kept=True)
EXAMPLES = int(os.environ.get("REMORA_TEST_EXAMPLES", "15"))

_refs = st.integers(0, 2)
_holders = st.sampled_from("abc")
_anybody = st.sampled_from(["a", "b", "c", "d", ""])
_yes = st.booleans()
_up = st.tuples(st.just("up"), _refs, _holders, _yes, _yes)
_out = st.tuples(st.just("out"), _refs, _anybody, _yes, _yes)
_add = st.tuples(st.just("add"), _refs, _anybody, _yes, _yes)
_again = st.tuples(st.just("again"), _refs, _anybody, _yes, _yes)
_pass = st.tuples(st.just("pass"), _refs, st.just(""), _yes, _yes)
Step = tuple[str, int, str, bool, bool]
steps = st.lists(st.one_of(_up, _up, _up, _out, _add, _again, _pass), max_size=40)


async def line_up(store: Store, holder: str, ref: Ref = REF, *, keep_ms: int = LONG, wait: bool = True) -> Place:
    return await store.line_up(ref, holder, keep_ms=keep_ms, wait=wait)


async def passing(clock: Clock, ms: int = SHORT + 20) -> None:
    """So long for the test's clock and for a server that goes by its own."""
    clock.seconds += ms / 1000
    await asyncio.sleep(ms / 1000)


async def soon(waiting: "asyncio.Future[None]") -> None:
    """It ends well before the half minute that it was given."""
    async with asyncio.timeout(5):
        await waiting


async def in_line(store: Store, *holders: str, ref: Ref = REF) -> None:
    """They stand so now, and nobody before them."""
    for ahead, holder in enumerate(holders):
        assert await line_up(store, holder, ref) == Place(ahead, kept=True), holder


async def settled(store: Store, ref: Ref = REF) -> None:
    """Nobody is in the line."""
    assert await line_up(store, "last of all", ref, wait=False) == FIRST
    store.step_out(ref, "last of all")


class Plain:
    """Lines in the plainest way."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.lines: dict[Ref, list[tuple[str, int]]] = {}

    def standing(self, ref: Ref) -> list[str]:
        now = int(self.clock() * 1000)
        self.lines[ref] = [(holder, until) for holder, until in self.lines.get(ref, []) if until > now]
        return [holder for holder, _ in self.lines[ref]]

    def line_up(self, ref: Ref, holder: str, keep_ms: int, *, wait: bool) -> Place:
        line, place = self.standing(ref), (holder, int(self.clock() * 1000) + keep_ms)
        if holder in line:
            self.lines[ref][line.index(holder)] = place
        elif line and not wait:
            return Place(len(line), kept=False)
        else:
            self.lines[ref].append(place)
        return Place(self.standing(ref).index(holder), kept=True)

    def step_out(self, ref: Ref, holder: str) -> None:
        self.lines[ref] = [each for each in self.lines.get(ref, []) if each[0] != holder]


class Lining:
    lapses_by_the_tests_clock = True
    """Else the places of a random script never lapse."""

    @given(script=steps)
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    def test_it_lines_up_as_the_plain_model_does(
        self, factory: Callable[[Callable[[], float]], Store], script: list[Step]
    ) -> None:
        async def run() -> None:
            clock = Clock()
            store = factory(clock)
            await store.open()
            try:
                await play([store], clock, script, lapses=self.lapses_by_the_tests_clock)
            finally:
                await store.close()

        asyncio.run(run())

    async def test_first_come_first_served(self, store: Store) -> None:
        for ahead, holder in enumerate("abcd"):
            assert await line_up(store, holder) == Place(ahead, kept=True)
        for holder in "abcd":
            assert await line_up(store, holder) == FIRST
            for waiting in "abcd"["abcd".index(holder) + 1 :]:
                assert (await line_up(store, waiting)).ahead > 0
            store.step_out(REF, holder)
        await settled(store)

    async def test_who_comes_again_keeps_its_place_and_nobody_has_two(self, store: Store) -> None:
        await in_line(store, "a", "b", "c")
        for _ in range(3):
            assert await line_up(store, "b") == Place(1, kept=True)
            assert await line_up(store, "b", wait=False) == Place(1, kept=True)
            assert await line_up(store, "a", wait=False) == FIRST
        await in_line(store, "a", "b", "c")
        store.step_out(REF, "b")
        await in_line(store, "a", "c", "b")

    async def test_who_shall_not_wait_leaves_no_place(self, store: Store) -> None:
        assert await line_up(store, "a", wait=False) == FIRST
        for _ in range(2):
            place = await line_up(store, "b", wait=False)
            assert (place.kept, place.ahead) == (False, 1)
        assert await line_up(store, "c") == Place(1, kept=True)
        place = await line_up(store, "b", wait=False)
        assert (place.kept, place.ahead) == (False, 2)
        store.step_out(REF, "a")
        assert await line_up(store, "b", wait=False) == Place(1, kept=False)
        assert await line_up(store, "c") == FIRST
        store.step_out(REF, "c")
        assert await line_up(store, "b", wait=False) == FIRST

    async def test_who_does_not_come_again_loses_its_place(self, store: Store, clock: Clock) -> None:
        await line_up(store, "a", keep_ms=SHORT)
        await line_up(store, "b")
        await line_up(store, "c", keep_ms=SHORT)
        await line_up(store, "d")
        await passing(clock)
        assert await line_up(store, "d") == Place(1, kept=True)
        assert await line_up(store, "b") == FIRST
        # it comes last now
        assert await line_up(store, "a") == Place(2, kept=True)
        assert await line_up(store, "c", wait=False) == Place(3, kept=False)
        await in_line(store, "b", "d", "a")

    async def test_keeping_counts_from_now(self, store: Store, clock: Clock) -> None:
        await line_up(store, "a", keep_ms=SHORT)
        await line_up(store, "a", keep_ms=LONG)
        await line_up(store, "b", keep_ms=LONG)
        await line_up(store, "b", keep_ms=SHORT)
        await line_up(store, "c", keep_ms=LONG)
        await passing(clock)
        await in_line(store, "a", "c", "b")
        await line_up(store, "a", keep_ms=SHORT)
        await passing(clock)
        await in_line(store, "c", "b", "a")

    async def test_who_is_last_of_a_line_that_lapsed_is_first(self, store: Store, clock: Clock) -> None:
        for holder in "abc":
            await line_up(store, holder, keep_ms=SHORT)
        await passing(clock)
        assert await line_up(store, "d", wait=False) == FIRST
        await in_line(store, "d", "c")

    async def test_stepping_out(self, store: Store) -> None:
        """Of one who waits, of one who is first, of a stranger; and twice."""
        await in_line(store, "a", "b", "c", "d")
        store.step_out(REF, "stranger")
        store.step_out(CHAIN, "a")
        await in_line(store, "a", "b", "c", "d")
        store.step_out(REF, "b")
        store.step_out(REF, "b")
        await in_line(store, "a", "c", "d")
        store.step_out(REF, "a")
        await in_line(store, "c", "d", "a")
        for holder in "cda":
            store.step_out(REF, holder)
        store.step_out(REF, "d")
        await settled(store)

    async def test_who_stepped_out_may_line_up_at_once(self, store: Store) -> None:
        await in_line(store, "a", "b")
        store.step_out(REF, "a")
        assert await line_up(store, "a") == Place(1, kept=True)
        await in_line(store, "b", "a")

    async def test_lines_do_not_mix(self, store: Store) -> None:
        other = Ref("other", REF.kind, REF.name)
        odd = Ref(REF.tenant, REF.kind, "ü %:/{a} 'x' \"y\" " + "n" * 200)
        for ref in (REF, other, CHAIN, CONVERSATION, odd):
            await in_line(store, "a", "b", "ü:{x} %", ref=ref)
        store.step_out(other, "a")
        store.step_out(odd, "b")
        await in_line(store, "b", "ü:{x} %", ref=other)
        await in_line(store, "a", "ü:{x} %", ref=odd)
        for ref in (REF, CHAIN, CONVERSATION):
            await in_line(store, "a", "b", "ü:{x} %", ref=ref)

    async def test_a_line_makes_no_ref(self, store: Store) -> None:
        for ref in (REF, CHAIN, CONVERSATION):
            await in_line(store, "a", ref=ref)
            assert await store.labelled(ref) is None
            assert await store.erase(ref) is False
            await in_line(store, "a", "b", ref=ref)

    async def test_those_who_wait_are_told(self, store: Store) -> None:
        for step in range(3):
            await in_line(store, "a", "b", "c")
            waiting = [asyncio.ensure_future(store.moved(REF, 30)) for _ in range(2)]
            if step:
                # they wait already
                await asyncio.sleep(0.02 * step)
            store.step_out(REF, "a")
            for each in waiting:
                await soon(each)
            await in_line(store, "b", "c")
            for holder in "bc":
                store.step_out(REF, holder)

    async def test_an_append_tells_those_who_wait(self, store: Store) -> None:
        last: Entry | None = None
        for step in range(3):
            await in_line(store, "a", "b")
            waiting = asyncio.ensure_future(store.moved(REF, 30))
            if step:
                await asyncio.sleep(0.02 * step)
            new = entry(last)
            assert await store.append(adding(REF, new, holder="a")) == Appended()
            await soon(waiting)
            await in_line(store, "b")
            store.step_out(REF, "b")
            last = new

    async def test_an_append_that_nobody_waits_for_any_more_tells_too(self, store: Store) -> None:
        await in_line(store, "a", "b")
        waiting = asyncio.ensure_future(store.moved(REF, 30))
        await asyncio.sleep(0.02)
        appending = asyncio.ensure_future(store.append(adding(REF, entry(None), holder="a")))
        await asyncio.sleep(0)
        appending.cancel()
        await soon(waiting)
        async with asyncio.timeout(5):
            while await line_up(store, "b") != FIRST:  # noqa: ASYNC110 - the store's own time
                await asyncio.sleep(0.005)

    async def test_who_stepped_out_before_they_waited_is_not_missed(self, store: Store) -> None:
        """Between what somebody was told of its place and its waiting, the one before it may go."""
        await in_line(store, "a", "b", "c")
        store.step_out(REF, "a")
        await store.ping()
        waiting = asyncio.ensure_future(store.moved(REF, 30))
        await soon(waiting)
        await in_line(store, "b", "c")

    async def test_waiting_ends_in_time(self, store: Store) -> None:
        await in_line(store, "a", "b")
        for ref in (REF, CHAIN):
            for timeout_s in (0, 0.01, 0.15):
                began = time.monotonic()
                await store.moved(ref, timeout_s)
                assert time.monotonic() - began < timeout_s + 3

    async def test_waiting_is_no_running_in_circles(self, store: Store) -> None:
        await in_line(store, "a", "b", "c")
        until, rounds = time.monotonic() + 0.4, 0
        while time.monotonic() < until:
            await store.moved(REF, until - time.monotonic())
            assert (await line_up(store, "b")).ahead == 1
            rounds += 1
        assert rounds < 15

    async def test_who_gives_waiting_up_leaves_nothing_behind(self, store: Store) -> None:
        await in_line(store, "a", "b")

        async def give_up(many: int) -> int:
            """How many tasks there are after so many waited in vain."""
            refs = [REF if n % 2 else Ref("tenant", "session", f"{n}") for n in range(many)]
            waiting = [asyncio.ensure_future(store.moved(ref, 30)) for ref in refs]
            await asyncio.sleep(0.02)
            for each in waiting:
                each.cancel()
            await asyncio.wait(waiting)
            async with asyncio.timeout(5):
                while len(asyncio.all_tasks()) > most:  # noqa: ASYNC110 - they end in their own time
                    await asyncio.sleep(0.01)
            return len(asyncio.all_tasks())

        # what the store starts for all of them once
        most = len(asyncio.all_tasks()) + 2
        most = await give_up(1)
        assert await give_up(60) <= most
        waiting = asyncio.ensure_future(store.moved(REF, 30))
        await asyncio.sleep(0.02)
        store.step_out(REF, "a")
        await soon(waiting)
        await in_line(store, "b")

    async def test_closing_ends_waiting(self, factory: Callable[[Callable[[], float]], Store], clock: Clock) -> None:
        store = factory(clock)
        await store.open()
        await in_line(store, "a", "b")
        waiting = [asyncio.ensure_future(store.moved(REF, 30)) for _ in range(3)]
        await asyncio.sleep(0.02)
        async with asyncio.timeout(5):
            await store.close()
            for each in waiting:
                with contextlib.suppress(StoreUnavailable):
                    await each

    async def test_who_is_first_appends_and_goes(self, store: Store) -> None:
        await in_line(store, "a", "b")
        first = entry(None)
        assert await store.append(adding(REF, first, holder="a")) == Appended()
        assert await line_up(store, "b") == FIRST
        second = entry(first)
        assert await store.append(adding(REF, second, holder="b")) == Appended()
        await settled(store)
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert chain.entries == (first, second)

    async def test_who_is_not_first_does_not_append(self, store: Store) -> None:
        """Whether it stands further back, has lost its place, or never had one."""
        await in_line(store, "a", "b")
        for holder in ("b", "c"):
            assert await store.append(adding(REF, entry(None), holder=holder)) == Conflict(None)
        assert await store.labelled(REF) is None
        (said,) = await talk(store, 1)
        for holder in ("b", "c"):
            assert await store.append(adding(REF, entry(said), holder=holder)) == Conflict(said.id)
            failed = adding(REF, entry(said, state="failed"), holder=holder, moves=False)
            assert await store.append(failed) == Conflict(said.id)
        chain = await store.load(REF, key="", reach=None)
        assert chain is not None
        assert chain.entries == (said,)
        await in_line(store, "a", "b", "c")

    async def test_who_was_overtaken_does_not_append(self, store: Store, clock: Clock) -> None:
        (said,) = await talk(store, 1)
        await line_up(store, "a", keep_ms=SHORT)
        await line_up(store, "b")
        await passing(clock)
        assert await store.append(adding(REF, entry(said), holder="a")) == Conflict(said.id)
        await in_line(store, "b")
        assert await store.append(adding(REF, entry(said), holder="b")) == Appended()

    async def test_who_lost_its_place_to_nobody_appends(self, store: Store, clock: Clock) -> None:
        (said,) = await talk(store, 1)
        await line_up(store, "a", keep_ms=SHORT)
        await passing(clock)
        after = entry(said)
        assert await store.append(adding(REF, after, holder="a")) == Appended()
        assert await store.append(adding(REF, entry(after), holder="stranger")) == Appended()
        await settled(store)

    async def test_who_takes_no_part_in_the_line_appends(self, store: Store) -> None:
        await in_line(store, "a", "b")
        await talk(store, 2)
        await in_line(store, "a", "b")

    async def test_an_append_in_vain_keeps_the_place(self, store: Store) -> None:
        said = await talk(store, 2)
        await in_line(store, "a", "b")
        late = entry(said[0])
        assert await store.append(adding(REF, late, holder="a")) == Conflict(said[1].id)
        stray = adding(REF, entry(late), said[1].id, holder="a")
        assert await store.append(stray) == Conflict(said[1].id)
        await in_line(store, "a", "b")
        await in_line(store, "a", "b", ref=CONVERSATION)
        assert await store.append(adding(CONVERSATION, entry(None), holder="a")) == Conflict(None)
        await in_line(store, "a", "b", ref=CONVERSATION)
        await store.erase(REF)
        assert await store.append(adding(REF, entry(said[1]), holder="a")) == Conflict(None)
        await in_line(store, "a", "b")

    async def test_a_failed_exchange_gives_the_place_up(self, store: Store) -> None:
        (said,) = await talk(store, 1)
        await in_line(store, "a", "b")
        failed = entry(said, state="failed")
        assert await store.append(adding(REF, failed, holder="a", moves=False)) == Appended()
        await in_line(store, "b")

    async def test_what_was_appended_is_so_whoever_is_first_by_now(self, store: Store) -> None:
        """One who did not hear the answer asks again; the next has come meanwhile."""
        await in_line(store, "a", "b")
        append = adding(REF, entry(None), holder="a")
        assert await store.append(append) == Appended()
        await in_line(store, "b")
        assert await store.append(append) == Appended(again=True)
        await in_line(store, "b", "c")

    async def test_finding_it_appended_gives_the_place_up(self, store: Store) -> None:
        (said,) = await talk(store, 1)
        await in_line(store, "a", "b")
        again: Append = adding(REF, said, holder="a")
        assert await store.append(again) == Appended(again=True)
        await in_line(store, "b")

    async def test_many_appends_at_once_go_in_line(self, store: Store) -> None:
        """Of many refs: each from the one that is first there, none from another."""
        refs = [Ref("tenant", "session", f"{n}") for n in range(12)]
        for ref in refs:
            await in_line(store, "a", "b", ref=ref)
        firsts = [entry(None) for _ in refs]
        answers = await asyncio.gather(
            *[store.append(adding(ref, new, holder="a")) for ref, new in zip(refs, firsts, strict=True)],
            *[store.append(adding(ref, entry(new), holder="c")) for ref, new in zip(refs, firsts, strict=True)],
            *[line_up(store, "b", ref) for ref in refs],
        )
        assert answers[:12] == [Appended()] * 12
        for answer, first in zip(answers[12:24], firsts, strict=True):
            assert answer in (Conflict(None), Conflict(first.id))
        for ref, first in zip(refs, firsts, strict=True):
            await in_line(store, "b", ref=ref)
            assert await store.append(adding(ref, entry(first), holder="b")) == Appended()

    async def test_a_line_outlasts_its_ref(self, store: Store, clock: Clock) -> None:
        """Who works for a session that ends meanwhile is alone all the same."""
        await talk(store, 1)
        await in_line(store, "a", "b")
        assert await store.erase(REF) is True
        await in_line(store, "a", "b")
        await talk(store, 1, ttl_s=1)
        clock.seconds += 1
        assert await store.expire(9) == 1
        await in_line(store, "a", "b")
        for holder in "ab":
            store.step_out(REF, holder)
        await settled(store)

    async def test_sweeping_ends_no_place_before_its_time(self, store: Store, clock: Clock) -> None:
        refs = [Ref("tenant", "session", f"{n}") for n in range(5)]
        for ref in refs:
            await line_up(store, "a", ref, keep_ms=SHORT)
            await line_up(store, "b", ref)
            await line_up(store, "c", ref, keep_ms=SHORT)
        assert await store.expire(9) == 0
        await passing(clock)
        assert await store.expire(9) == 0, "places are no refs"
        for ref in refs:
            await in_line(store, "b", "a", ref=ref)

    async def test_everybody_gets_a_turn_alone(self, store: Store, clock: Clock) -> None:
        await crowd([store], clock, 24)


async def play(stores: Sequence[Store], clock: Clock, script: Sequence[Step], *, lapses: bool = True) -> None:
    """The stores, which are one, in turns answer as the plain model does."""
    plain = Plain(clock)
    heads: dict[Ref, list[Append]] = {}
    for n, (name, at, holder, one, two) in enumerate(script):
        store, ref = stores[n * 7 // 3 % len(stores)], (REF, Ref("other", "session", "one"), CHAIN)[at]
        said = heads.setdefault(ref, [])
        head = said[-1].entry if said else None
        overtaken = holder and plain.standing(ref)[:1] not in ([], [holder])
        if name == "up":
            keep_ms = LONG if one or not lapses else SHORT
            assert await line_up(store, holder, ref, keep_ms=keep_ms, wait=two) == plain.line_up(
                ref, holder, keep_ms, wait=two
            )
        elif name == "out":
            store.step_out(ref, holder)
            await store.ping()
            plain.step_out(ref, holder)
        elif name == "add":
            parent = head if one else None
            append = adding(ref, entry(parent), holder=holder)
            right = append.expected == (head.id if head else None)
            if right and not overtaken:
                assert await store.append(append) == Appended()
                said.append(append)
                plain.step_out(ref, holder)
            else:
                assert await store.append(append) == Conflict(head.id if head else None)
        elif name == "again" and said:
            append = adding(ref, said[0].entry, holder=holder)
            assert await store.append(append) == Appended(again=True)
            plain.step_out(ref, holder)
        elif name == "pass" and lapses:
            clock.seconds += SHORT / 2000
            if one:
                assert await store.expire(9) == 0
            if two:
                assert await store.erase(ref) is bool(said)
                said.clear()
    for ref in heads:
        line = plain.standing(ref)
        for ahead, holder in enumerate(line):
            assert await line_up(stores[-1], holder, ref) == Place(ahead, kept=True)
        assert await line_up(stores[0], "z", ref) == Place(len(line), kept=True)


async def crowd(stores: Sequence[Store], clock: Clock, many: int, seed: int = 1) -> None:
    """So many come to the line of one session, each by one of the stores, at random moments: most wait their turn and
    append or step out, some give up, some never come again. At every moment at most one is first, everybody gets a
    turn, nobody overtakes; what was appended is one chain."""
    chance = random.Random(seed)
    inside: list[str] = []
    done: list[str] = []
    said: list[str] = []
    asked: dict[str, float] = {}
    placed: dict[str, float] = {}
    ended: dict[str, float] = {}

    async def come(store: Store, holder: str, kind: int) -> None:
        await asyncio.sleep(chance.random() / 10)
        asked[holder] = time.monotonic()
        if kind == 0:
            await line_up(store, holder, keep_ms=SHORT)
            return
        place = await line_up(store, holder)
        placed[holder] = time.monotonic()
        while place.ahead:
            assert place.kept
            if kind == 1 and chance.random() < 0.3:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await store.moved(REF, 30)
                ended[holder] = time.monotonic()
                store.step_out(REF, holder)
                return
            await store.moved(REF, 0.3)
            place = await line_up(store, holder)
        assert inside == []
        inside.append(holder)
        done.append(holder)
        await asyncio.sleep(chance.random() / 200)
        assert inside == [holder]
        if kind == 2:
            inside.clear()
            store.step_out(REF, holder)
            return
        chain = await store.load(REF, key="", reach=1)
        new = entry(chain.head if chain else None, holder)
        assert inside == [holder]
        inside.clear()
        assert await store.append(adding(REF, new, holder=holder)) == Appended()
        said.append(new.id)

    async def tick() -> None:
        while True:
            clock.seconds += 0.02
            await asyncio.sleep(0.02)

    ticking = asyncio.ensure_future(tick())
    kinds = [min(3, n % 8) for n in range(many)]
    try:
        async with asyncio.timeout(40):
            await asyncio.gather(
                *[come(stores[chance.randrange(len(stores))], f"h{n}", kind) for n, kind in enumerate(kinds)]
            )
            while await line_up(stores[-1], "last", wait=False) != FIRST:  # noqa: ASYNC110 - places lapse
                await asyncio.sleep(0.02)
    finally:
        ticking.cancel()
    assert {f"h{n}" for n, kind in enumerate(kinds) if kind} == {*done, *ended}
    for at, holder in enumerate(done):
        for later in done[at + 1 :]:
            # who had its place before the other asked for one
            assert placed[later] > asked[holder], f"{holder} overtook {later}"
    chain = await stores[0].load(REF, key="", reach=None)
    assert chain is not None
    assert len(chain.entries) == len(said)
    assert {each.id for each in chain.entries} == set(said)
