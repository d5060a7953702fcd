"""What entries are found by: words and vectors, on one chain of many."""

import asyncio
import os
from collections.abc import Callable, Sequence
from itertools import count
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.conversation.entry import Entry, new_id
from proxy.conversation.words import Found, Postings, Words
from proxy.stores.contract import Appended, Index, Ref, Store, Vectors
from tests.stores.making import REF, Clock, adding, entry, listed, talk

EXAMPLES = int(os.environ.get("REMORA_TEST_EXAMPLES", "15"))
MODEL = "embedder"


def term(n: int) -> bytes:
    return (n * 0x9E3779B97F4A7C15 % 2**64).to_bytes(8, "big")


def bag(*counts: tuple[int, int], length: int = 0) -> Words:
    """Of (term's number, how often)."""
    return Words(length or sum(n for _, n in counts), tuple((term(t), n) for t, n in counts))


def places(found: bytes) -> list[tuple[int, int, int]]:
    """(position, length, count)"""
    numbers = [int.from_bytes(found[at : at + 8], "little") for at in range(0, len(found), 8)]
    return [(n >> 24, n >> 12 & 4095, n & 4095) for n in numbers]


def expected(chain: list[Entry], known: dict[str, Index], terms: list[int]) -> Postings:
    """The slow way."""
    words = [
        (position, each)
        for entry in chain
        if entry.id in known
        for position, each in enumerate(known[entry.id].words, entry.first)
    ]
    found = []
    for wanted in terms:
        hits = [
            position << 24 | min(each.length, 4095) << 12 | min(n, 4095)
            for position, each in words
            for term_, n in each.terms
            if term_ == term(wanted)
        ]
        found.append(b"".join(hit.to_bytes(8, "little") for hit in hits))
    return Postings(chain[-1].upto, sum(each.length for _, each in words), tuple(found))


async def grown(store: Store, parent: Entry | None, head: Entry | None, **more: object) -> Entry:
    """One more entry, on `parent`, while `head` is the newest."""
    new = entry(parent, new_id(), **more)  # type: ignore[arg-type]
    assert await store.append(adding(REF, new, head.id if head else None)) == Appended()
    return new


def told(each: Entry, *bags: Words) -> Index:
    return Index(each.id, bags or tuple(bag((n, 1), (n + 1, 2)) for n in range(each.count)))


class Searching:
    def test_it_says_what_it_searches(self, store: Store) -> None:
        assert store.searches == {"keywords", "embeddings"}

    async def test_words_are_found_on_their_chain(self, store: Store) -> None:
        a, b, c = await talk(store, 3)
        b2 = await grown(store, a, c)
        indexes = [
            told(a, bag((1, 1)), bag((2, 5000), (1, 2), length=6000)),
            told(b, bag((1, 3)), bag()),
            told(c, bag((9, 1)), bag((2, 2))),
            told(b2, bag((2, 7)), bag((1, 4))),
        ]
        await store.index(REF, indexes, revision=0)
        terms = [term(n) for n in (1, 2, 3, 9)]
        found = await store.postings(REF, c.id, terms)
        assert found is not None
        assert (found.messages, found.length) == (6, 1 + 6000 + 3 + 1 + 2)
        assert [places(each) for each in found.found] == [
            [(0, 1, 1), (1, 4095, 2), (2, 3, 3)],
            [(1, 4095, 4095), (5, 2, 2)],
            [],
            [(4, 1, 1)],
        ]
        found = await store.postings(REF, b2.id, terms)
        assert found is not None
        assert (found.messages, found.length) == (4, 1 + 6000 + 7 + 4)
        assert [places(each) for each in found.found] == [
            [(0, 1, 1), (1, 4095, 2), (3, 4, 4)],
            [(1, 4095, 4095), (2, 7, 7)],
            [],
            [],
        ]
        found = await store.postings(REF, b.id, [term(2), term(1)])
        assert found == Postings(4, 6004, (found.found[0], found.found[1])) if found else False
        assert found
        assert [places(each) for each in found.found] == [[(1, 4095, 4095)], [(0, 1, 1), (1, 4095, 2), (2, 3, 3)]]
        assert await store.postings(REF, a.id, []) == Postings(2, 6001, ())

    async def test_messages_count_indexed_or_not(self, store: Store) -> None:
        a, b, c = await talk(store, 3)
        assert await store.postings(REF, c.id, [term(1)]) == Postings(6, 0, (b"",))
        await store.index(REF, [told(a, bag(), bag())], revision=0)
        assert await store.postings(REF, c.id, [term(1)]) == Postings(6, 0, (b"",))
        await store.index(REF, [told(b, bag((1, 1)), bag())], revision=0)
        found = await store.postings(REF, c.id, [term(1), term(2)])
        assert found
        assert (found.messages, found.length, [places(each) for each in found.found]) == (6, 1, [[(2, 1, 1)], []])

    async def test_what_is_indexed_is_a_chains_beginning(self, store: Store) -> None:
        a, b, c = await talk(store, 3)
        await store.index(REF, [told(c), told(b)], revision=0)
        assert list((await store.unindexed(REF, c.id, model="", most=9)).entries) == [a, b, c]
        await store.index(REF, [told(c), told(a), told(b)], revision=0)
        assert list((await store.unindexed(REF, c.id, model="", most=9)).entries) == [c]
        assert await store.postings(REF, c.id, [term(0)]) == expected([a, b, c], {e.id: told(e) for e in (a, b)}, [0])

    async def test_indexed_once(self, store: Store) -> None:
        a, b = await talk(store, 2)
        for _ in range(3):
            await store.index(REF, [told(a), told(a, bag((7, 7)), bag((7, 7))), told(b)], revision=0)
        await asyncio.gather(*[store.index(REF, [told(each)], revision=0) for each in (a, b, a)])
        assert await store.postings(REF, b.id, [term(7), term(1)]) == expected(
            [a, b], {e.id: told(e) for e in (a, b)}, [7, 1]
        )

    async def test_words_and_vectors_come_apart(self, store: Store) -> None:
        a, b = await talk(store, 2)
        await store.index(REF, [told(a)], revision=0)
        await store.index(
            REF, [Index(a.id, (), MODEL, (b"x" * 4, b"y" * 4)), Index(b.id, (), MODEL, (b"", b"z" * 4))], revision=0
        )
        await store.index(REF, [Index(a.id, (), "other", (b"o" * 6, b""))], revision=0)
        assert list((await store.unindexed(REF, b.id, model="", most=9)).entries) == [b]
        assert list((await store.unindexed(REF, b.id, model=MODEL, most=9)).entries) == []
        assert list((await store.unindexed(REF, b.id, model="other", most=9)).entries) == [b]
        assert list((await store.unindexed(REF, b.id, model="none", most=9)).entries) == [a, b]
        assert list((await store.unindexed(REF, b.id, model="none", most=1)).entries) == [a]
        numbers = b"".join(n.to_bytes(4, "little") for n in (0, 1, 3))
        assert await store.vectors(REF, b.id, MODEL) == Vectors(numbers, b"xxxxyyyyzzzz")
        assert await store.vectors(REF, a.id, MODEL) == Vectors(numbers[:8], b"xxxxyyyy")
        assert await store.vectors(REF, b.id, "other") == Vectors(bytes(4), b"oooooo")
        assert await store.vectors(REF, b.id, "none") == Vectors(b"", b"")

    async def test_a_wrong_number_is_a_mistake(self, store: Store) -> None:
        (a,) = await talk(store, 1)
        for wrong in (Index(a.id, (bag((1, 1)),)), Index(a.id, (), MODEL, (b"x", b"y", b"z"))):
            with pytest.raises(ValueError, match="2 messages"):
                await store.index(REF, [wrong], revision=0)
        assert list((await store.unindexed(REF, a.id, model="", most=9)).entries) == [a]
        assert list((await store.unindexed(REF, a.id, model=MODEL, most=9)).entries) == [a]

    async def test_the_unknown_is_passed_over(self, store: Store, clock: Clock) -> None:
        (a,) = await talk(store, 1)
        failed = entry(a, state="failed")
        await store.append(adding(REF, failed, moves=False))
        stranger, other = Ref("x", "session", "one"), entry(None)
        vectors = Index(failed.id, (), MODEL, (b"x", b"y"))
        await store.index(REF, [told(failed), told(other), Index("nonsense", (bag(),)), vectors], revision=0)
        await store.index(stranger, [told(a)], revision=0)
        assert list((await store.unindexed(REF, a.id, model="", most=9)).entries) == [a]
        for ref, id in ((REF, failed.id), (REF, other.id), (REF, "nonsense"), (stranger, a.id)):
            assert await store.postings(ref, id, [term(1)]) is None
            assert await store.vectors(ref, id, MODEL) is None
            assert list((await store.unindexed(ref, id, model="", most=9)).entries) == []
            assert list(await store.pick(ref, id, [0])) == []
        await talk(store, 1, after=a, ttl_s=5)
        clock.seconds += 6
        await store.index(REF, [told(a)], revision=0)
        assert await store.postings(REF, a.id, [term(1)]) is None
        assert await store.vectors(REF, a.id, MODEL) is None
        assert list((await store.unindexed(REF, a.id, model="", most=9)).entries) == []
        assert list(await store.pick(REF, a.id, [0])) == []

    async def test_erased_and_begun_anew_nothing_is_found(self, store: Store) -> None:
        said = await talk(store, 120)
        for each in said:
            await store.index(REF, [told(each), Index(each.id, (), MODEL, (b"x", b"y"))], revision=0)
        await store.erase(REF)
        for each in said[:2]:
            assert await store.postings(REF, each.id, [term(1)]) is None
            assert await store.vectors(REF, each.id, MODEL) is None
            assert list(await store.pick(REF, each.id, [0])) == []
        await store.index(REF, [told(said[0])], revision=0)
        for each in said:
            assert await store.append(adding(REF, each)) == Appended()
        assert await store.postings(REF, said[-1].id, [term(1)]) == Postings(240, 0, (b"",))
        assert await store.vectors(REF, said[-1].id, MODEL) == Vectors(b"", b"")
        assert list((await store.unindexed(REF, said[-1].id, model=MODEL, most=99)).entries) == said[:99]

    async def test_one_sessions_words_are_not_anothers(self, store: Store) -> None:
        refs = [Ref(tenant, "session", name) for tenant in "ab" for name in "xy"]
        for n, ref in enumerate(refs):
            for each in await talk(store, 40, ref):
                await store.index(ref, [told(each, bag((n, 1)), bag((50, 1)))], revision=0)
        for n, ref in enumerate(refs):
            head = await store.load(ref, key="", reach=1)
            assert head
            found = await store.postings(ref, head.head.id, [term(t) for t in (*range(4), 50)])
            assert found
            assert [len(each) // 8 for each in found.found] == [40 * (t == n) for t in range(4)] + [40]
            assert await store.postings(ref, "0" * 32, [term(1)]) is None

    async def test_picked_are_the_entries_that_hold_the_positions(self, store: Store) -> None:
        a, b, c = await talk(store, 3)
        b2 = await grown(store, a, c)
        c2 = await grown(store, b2, b2, roles=["tool"] * 3, tokens=[1] * 3)
        d = await grown(store, c, c2)
        for line in ([a, b, c, d], [a, b2, c2], [a, b], [a]):
            for wanted in ([], [0], [1, 0], [3], [2, 3], [-1, 5, 5, 1], [7, 4, 99, 2**40], list(range(12))):
                found = await store.pick(REF, line[-1].id, wanted)
                assert list(found) == [e for e in line if any(e.first <= at < e.upto for at in wanted)]

    async def test_sought_is_what_is_chosen_by_what_is_wanted(self, store: Store) -> None:
        said = await talk(store, 60)
        known = {e.id: told(e, bag((0, 1), (n, 1)), bag((0, 2))) for n, e in enumerate(said, 1)}
        await store.index(REF, list(known.values()), revision=0)
        aside = await grown(store, said[9], said[-1])
        known[aside.id] = told(aside, bag((3, 1)), bag((0, 1)))
        await store.index(REF, [known[aside.id]], revision=0)
        terms = [0, 3, 99, 40]
        for line in (said, said[:10], [*said[:10], aside]):
            all = expected(line, known, terms)
            for wanted in ([True] * 4, [False] * 4, [True, False, True, False]):
                asked: list[object] = []

                def want(messages: int, counts: Sequence[int], wanted: list[bool] = wanted) -> list[bool]:
                    asked.append((messages, list(counts)))  # noqa: B023 - it is called in this turn of the loop
                    return wanted

                def choose(found: Found) -> list[int]:
                    asked.append(found)  # noqa: B023 - likewise
                    return [1, 7]

                found = await store.seek(REF, line[-1].id, [term(n) for n in terms], want, choose)
                assert list(found) == [line[0], line[3]]
                counts = [len(each) // 8 for each in all.found]
                kept = [each if yes else count for each, count, yes in zip(all.found, counts, wanted, strict=True)]
                assert asked == [(all.messages, counts), Found(all.messages, all.length, tuple(kept))]

    async def test_nothing_is_sought_where_nothing_is_chosen_or_known(self, store: Store) -> None:
        a, b = await talk(store, 2)

        def never(*_: object) -> NoReturn:
            raise AssertionError

        def all(_: int, counts: Sequence[int]) -> list[bool]:
            return [True] * len(counts)

        stranger = Ref("x", "session", "one")
        for ref, id in ((stranger, a.id), (REF, "0" * 32), (REF, "nonsense")):
            assert list(await store.seek(ref, id, [term(1)], never, never)) == []
        assert list(await store.seek(REF, b.id, [term(1)], all, lambda _: ())) == []
        assert list(await store.seek(REF, b.id, [term(1)], all, lambda _: [2])) == [b]
        with pytest.raises(AssertionError):
            await store.seek(REF, b.id, [term(1)], all, never)
        assert list(await store.seek(REF, b.id, [], all, lambda found: [found.messages - 1])) == [b]

    async def test_many_terms_and_long_lists(self, store: Store) -> None:
        said = await talk(store, 200)
        await store.index(REF, [told(e, bag((0, 1), (n, 1)), bag((0, 2))) for n, e in enumerate(said, 1)], revision=0)
        terms = [*range(37), 150]
        known = {e.id: told(e, bag((0, 1), (n, 1)), bag((0, 2))) for n, e in enumerate(said, 1)}
        for head in (200, 77, 1):
            found = await store.postings(REF, said[head - 1].id, [term(n) for n in terms])
            assert found == expected(said[:head], known, terms)

    @given(
        script=st.lists(
            st.tuples(
                st.integers(0, 9),
                st.integers(1, 3),
                st.lists(st.lists(st.tuples(st.integers(0, 6), st.integers(1, 3)), max_size=4), min_size=3, max_size=3),
                st.integers(0, 5),
            ),
            min_size=1,
            max_size=60,
        )
    )
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    def test_any_tree_is_searched_as_the_plain_way_does(
        self,
        factory: Callable[[Callable[[], float]], Store],
        crowding: None,
        script: list[tuple[int, int, list[list[tuple[int, int]]], int]],
    ) -> None:
        async def run() -> None:
            store = factory(Clock())
            await store.open()
            try:
                await _play(store, script)
            finally:
                await store.close()

        asyncio.run(run())


async def _play(store: Store, script: list[tuple[int, int, list[list[tuple[int, int]]], int]]) -> None:
    said: list[Entry] = []
    lines: dict[str, list[Entry]] = {"": []}
    known: dict[str, Index] = {}
    embedded: dict[str, Index] = {}
    numbers = count()
    for back, size, bags, what in script:
        # mostly on the newest; else on an older one, or at a root
        parent = None if back == 9 else said[-back - 1] if 6 <= back < len(said) else said[-1] if said else None
        new = await grown(store, parent, said[-1] if said else None, roles=["user"] * size, tokens=[1] * size)
        said.append(new)
        lines[new.id] = [*lines[new.parent], new]
        words = tuple(bag(*{t: (t, n) for t, n in each}.values()) for each in bags[:size])
        vectors = tuple(b"" if len(each) == 1 else next(numbers).to_bytes(4, "big") for each in bags[:size])
        if what > 0:
            missing = list((await store.unindexed(REF, new.id, model="", most=99)).entries)
            assert missing == [each for each in lines[new.id] if each.id not in known]
            # not all of them each time
            for each in missing[: what * 3]:
                known[each.id] = Index(each.id, words[:1] * each.count if each is not new else words)
            await store.index(REF, [known[each.id] for each in missing[: what * 3]], revision=0)
        if what > 1:
            missing = list((await store.unindexed(REF, new.id, model=MODEL, most=what)).entries)
            assert missing == [each for each in lines[new.id] if each.id not in embedded][:what]
            for each in missing:
                embedded[each.id] = Index(each.id, (), MODEL, vectors if each is new else (b"past",) * each.count)
            await store.index(REF, [embedded[each.id] for each in missing], revision=0)
    for head in said[:: max(1, len(said) // 12)] + said[-1:]:
        line = lines[head.id]
        assert await store.postings(REF, head.id, [term(n) for n in range(8)]) == expected(line, known, list(range(8)))
        some = await store.seek(
            REF,
            head.id,
            [term(n) for n in range(8)],
            lambda _, counts: [n % 2 == 0 for n in counts],
            # of those in an even number of messages
            lambda found: sorted(
                {place[0] for each in found.found if isinstance(each, bytes) for place in places(each)}
            ),
        )
        even = [each for each in expected(line, known, list(range(8))).found if len(each) // 8 % 2 == 0]
        there = {place[0] for each in even for place in places(each)}
        assert list(some) == [each for each in line if there & set(range(each.first, each.upto))]
        vectors_of = [
            (at, vector)
            for each in line
            if each.id in embedded
            for at, vector in enumerate(embedded[each.id].vectors, each.first)
            if vector
        ]
        assert await store.vectors(REF, head.id, MODEL) == Vectors(
            b"".join(at.to_bytes(4, "little") for at, _ in vectors_of), b"".join(vector for _, vector in vectors_of)
        )
    assert len(await listed(store.records(REF))) == len(said)
