"""What is kept about refs themselves, and their listing."""

import asyncio
import random

from proxy.stores.contract import Appended, Conflict, Label, Ref, Store
from tests.stores.making import CHAIN, CONVERSATION, REF, Clock, adding, entry, listed, talk


def ms(clock: Clock) -> int:
    return int(clock.seconds * 1000)


class Labelling:
    async def test_a_ref_is_made_by_its_label(self, store: Store, clock: Clock) -> None:
        assert await store.labelled(CONVERSATION) is None
        assert await store.label(CONVERSATION, b"early", new=False) is False
        assert await store.labelled(CONVERSATION) is None
        assert await store.label(CONVERSATION, b"one", new=True) is True
        made = ms(clock)
        assert await store.labelled(CONVERSATION) == Label(CONVERSATION, b"one", made)
        clock.seconds += 5
        assert await store.label(CONVERSATION, b"two", new=True) is False
        assert await store.labelled(CONVERSATION) == Label(CONVERSATION, b"one", made)
        assert await store.label(CONVERSATION, b"three", new=False) is True
        assert await store.labelled(CONVERSATION) == Label(CONVERSATION, b"three", made)
        assert await store.load(CONVERSATION, key="", reach=None) is None
        assert list(await store.noted(CONVERSATION, 0, 9)) == []
        assert await listed(store.records(CONVERSATION)) == []

    async def test_any_ref_may_have_one(self, store: Store) -> None:
        for ref in (REF, CHAIN):
            (a,) = await talk(store, 1, ref)
            found = await store.labelled(ref)
            assert found is not None
            assert found.label == b""
            assert await store.label(ref, b"new", new=True) is False
            assert await store.label(ref, bytes(range(256)), new=False) is True
            found = await store.labelled(ref)
            assert found is not None
            assert found.label == bytes(range(256))
            await talk(store, 1, ref, after=a)
            assert await store.labelled(ref) == found

    async def test_only_a_label_makes_a_conversation(self, store: Store) -> None:
        first = entry(None)
        assert await store.append(adding(CONVERSATION, first)) == Conflict(None)
        assert await store.append(adding(CONVERSATION, first, moves=False)) == Conflict(None)
        assert await store.append(adding(CONVERSATION, first, first.id)) == Conflict(None)
        assert await store.labelled(CONVERSATION) is None
        assert await store.label(CONVERSATION, b"x", new=True) is True
        assert await store.append(adding(CONVERSATION, first)) == Appended()
        assert await store.append(adding(CONVERSATION, entry(first))) == Appended()
        await store.erase(CONVERSATION)
        assert await store.labelled(CONVERSATION) is None
        assert await store.append(adding(CONVERSATION, entry(None))) == Conflict(None)
        assert await store.label(CONVERSATION, b"y", new=True) is True
        found = await store.labelled(CONVERSATION)
        assert found is not None
        assert found.label == b"y"
        assert await store.load(CONVERSATION, key="", reach=None) is None

    async def test_it_ends_with_its_ref(self, store: Store, clock: Clock) -> None:
        assert await store.label(CONVERSATION, b"x", new=True, ttl_s=60) is True
        clock.seconds += 59
        assert await store.label(CONVERSATION, b"y", new=False, ttl_s=1000) is True
        assert await store.labelled(CONVERSATION) is not None
        assert len(await store.labels("tenant", "conversation", after=None, most=9, newest_first=False)) == 1
        clock.seconds += 1
        for _ in range(2):
            assert await store.labelled(CONVERSATION) is None
            assert await store.label(CONVERSATION, b"z", new=False) is False
            assert list(await store.labels("tenant", "conversation", after=None, most=9, newest_first=False)) == []
            assert await store.append(adding(CONVERSATION, entry(None))) == Conflict(None)
            await store.expire(9)
        assert await store.label(CONVERSATION, b"again", new=True) is True
        assert await store.labelled(CONVERSATION) == Label(CONVERSATION, b"again", ms(clock))
        clock.seconds += 10**9
        assert await store.expire(9) == 0
        assert await store.labelled(CONVERSATION) is not None

    async def test_an_expired_ref_may_be_made_anew_before_it_was_swept(self, store: Store, clock: Clock) -> None:
        said = await talk(store, 3, CHAIN, ttl_s=60)
        await store.label(CHAIN, b"old", new=False)
        clock.seconds += 60
        assert await store.label(CHAIN, b"new", new=True) is True
        assert await store.load(CHAIN, key="", reach=None, entry=said[-1].id) is None
        assert await listed(store.records(CHAIN)) == []
        assert await store.append(adding(CHAIN, entry(None))) == Appended()
        assert await store.labelled(CHAIN) == Label(CHAIN, b"new", ms(clock))
        await store.expire(9)
        found = await store.labels("tenant", "chain", after=None, most=9, newest_first=True)
        assert list(found) == [Label(CHAIN, b"new", ms(clock))]

    async def test_an_append_sets_the_time_and_keeps_the_label(self, store: Store, clock: Clock) -> None:
        await store.label(CONVERSATION, b"x", new=True, ttl_s=60)
        await store.append(adding(CONVERSATION, entry(None), ttl_s=1000))
        clock.seconds += 999
        found = await store.labelled(CONVERSATION)
        assert found is not None
        assert found.label == b"x"
        clock.seconds += 1
        assert await store.labelled(CONVERSATION) is None

    async def test_labels_come_in_the_order_of_making(self, store: Store, clock: Clock) -> None:
        chance = random.Random(4)
        made: list[Label] = []
        for n in range(60):
            clock.seconds += chance.choice([0, 0, 1, 3600])
            ref = Ref("t", "completion", f"{chance.randrange(10**6):06d}")
            assert await store.label(ref, b"%d" % n, new=True) is True
            made.append(Label(ref, b"%d" % n, ms(clock)))
            await store.label(Ref("t2", "completion", ref.name), b"another tenant's", new=True)
            await store.label(Ref("t", "conversation", ref.name), b"of another kind", new=True)
            if n % 5 == 0:
                # never labelled: not listed
                await talk(store, 1, Ref("t", "completion", f"{n}x"))
        made.sort(key=lambda each: (each.created_ms, each.ref.name))
        again = made[7]
        assert await store.label(again.ref, b"changed", new=False) is True
        made[7] = Label(again.ref, b"changed", again.created_ms)
        for newest_first in (False, True):
            line = made[::-1] if newest_first else made
            for most in (1, 7, 60, 100):
                seen: list[Label] = []
                after: str | None = None
                while page := await store.labels("t", "completion", after=after, most=most, newest_first=newest_first):
                    assert len(page) <= most
                    seen += page
                    after = page[-1].ref.name
                assert seen == line
        assert len(await store.labels("t2", "completion", after=None, most=99, newest_first=False)) == 60
        for tenant, kind, after in (("t3", "completion", None), ("t", "chain", None), ("t", "completion", "unknown")):
            assert list(await store.labels(tenant, kind, after=after, most=9, newest_first=False)) == []

    async def test_erased_ones_are_not_listed(self, store: Store, clock: Clock) -> None:
        refs = [Ref("t", "completion", f"{n}") for n in range(5)]
        for n, ref in enumerate(refs):
            await store.label(ref, b"x", new=True, ttl_s=60 if n == 3 else None)
        await store.erase(refs[1])
        clock.seconds += 60
        found = await store.labels("t", "completion", after=None, most=9, newest_first=False)
        assert [each.ref for each in found] == [refs[0], refs[2], refs[4]]
        for name in ("1", "3"):
            assert list(await store.labels("t", "completion", after=name, most=9, newest_first=False)) == []

    async def test_of_those_who_make_one_wins(self, store: Store) -> None:
        answers = await asyncio.gather(*[store.label(CONVERSATION, b"%d" % n, new=True) for n in range(8)])
        assert sorted(answers) == [False] * 7 + [True]
        found = await store.labelled(CONVERSATION)
        assert found is not None
        assert found.label == b"%d" % answers.index(True)
