"""Notes on entries, and entries found by their ids alone."""

from proxy.conversation.entry import new_id
from proxy.stores.contract import Appended, Noted, Ref, Store, tag
from tests.stores.making import REF, Clock, adding, entry, talk

OTHER = Ref("other", "session", "one")


class Noting:
    async def test_an_entry_is_found_by_its_id_with_its_note(self, store: Store) -> None:
        first = entry(None)
        assert await store.append(adding(REF, first, note=b'{"a":1}')) == Appended()
        second = entry(first)
        assert await store.append(adding(REF, second, first.id)) == Appended()
        assert await store.find(REF.tenant, tag(REF), first.id) == Noted(REF, first, b'{"a":1}')
        assert await store.find(REF.tenant, tag(REF), second.id) == Noted(REF, second, b"")

    async def test_a_failed_exchange_is_found_too(self, store: Store) -> None:
        (first,) = await talk(store, 1)
        failed = entry(first, state="failed")
        await store.append(adding(REF, failed, moves=False, note=b"n"))
        assert await store.find(REF.tenant, tag(REF), failed.id) == Noted(REF, failed, b"n")

    async def test_nobody_else_finds_it(self, store: Store) -> None:
        (first,) = await talk(store, 1)
        assert await store.find("other", tag(REF), first.id) is None
        assert await store.find(REF.tenant, tag(OTHER), first.id) is None
        for id in (new_id(), "", "x", "../", first.id.upper() + "0", first.id[:-1]):
            assert await store.find(REF.tenant, tag(REF), id) is None

    async def test_a_note_is_replaced_and_removed(self, store: Store) -> None:
        first, second = await talk(store, 2)
        assert await store.annotate(REF, first.id, b"one") is True
        assert await store.annotate(REF, first.id, b"two") is True
        assert await store.find(REF.tenant, tag(REF), first.id) == Noted(REF, first, b"two")
        assert await store.find(REF.tenant, tag(REF), second.id) == Noted(REF, second, b"")
        assert await store.annotate(REF, first.id, b"") is True
        assert await store.find(REF.tenant, tag(REF), first.id) == Noted(REF, first, b"")
        assert await store.annotate(REF, new_id(), b"x") is False
        assert await store.annotate(OTHER, first.id, b"x") is False

    async def test_notes_go_with_their_ref(self, store: Store, clock: Clock) -> None:
        first = entry(None)
        await store.append(adding(REF, first, note=b"n", ttl_s=10))
        clock.seconds += 11
        assert await store.find(REF.tenant, tag(REF), first.id) is None
        assert await store.annotate(REF, first.id, b"m") is False
        again = entry(None)
        await store.append(adding(REF, again, note=b"n"))
        assert await store.erase(REF)
        assert await store.find(REF.tenant, tag(REF), again.id) is None
        await store.append(adding(REF, entry(None)))
        assert await store.find(REF.tenant, tag(REF), again.id) is None
