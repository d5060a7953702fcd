"""What is appended is read, once, and by a compare-and-swap."""

import asyncio
from collections.abc import Awaitable

import pytest

from proxy.conversation.entry import Anchor, Entry, new_id
from proxy.conversation.words import Words
from proxy.errors import StoreUnavailable
from proxy.stores.contract import Appended, Conflict, Index, Ref, Store
from tests.stores.making import REF, RULES, adding, entry, listed, replay, talk


class Appending:
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

    async def test_a_parent_that_is_nowhere_is_a_conflict(self, store: Store) -> None:
        (first,) = await talk(store, 1)
        stray = entry(entry(None, "elsewhere"), "stray")
        assert await store.append(adding(REF, stray, first.id)) == Conflict(first.id)
        assert await store.append(adding(Ref("tenant", "session", "new"), stray, None)) == Conflict(None)
        assert await store.append(adding(REF, stray, first.id, moves=False)) == Conflict(first.id)
        assert await store.append(adding(REF, entry(first))) == Appended()
        assert len(await listed(store.list())) == 1

    async def test_a_mistake_does_not_spoil_its_neighbours(self, store: Store) -> None:
        refs = [Ref("tenant", "session", f"{n}") for n in range(6)]
        (known,) = await talk(store, 1, refs[0])
        jobs: list[Awaitable[object]] = [store.append(adding(ref, entry(None))) for ref in refs[1:]]
        jobs.insert(3, store.index(refs[0], [Index(known.id, (Words(1, ()),) * 9)], revision=0))
        answers = await asyncio.gather(*jobs, return_exceptions=True)
        assert isinstance(answers.pop(3), ValueError)
        assert answers == [Appended()] * 5
        assert [info.ref for info in await listed(store.list())] == refs

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
