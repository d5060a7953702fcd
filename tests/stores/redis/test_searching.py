"""Postings lie in chunks: adding one rewrites little, however many there are."""

from proxy.stores.contract import Index
from proxy.stores.redis.address import Address
from proxy.stores.redis.link import Link
from proxy.stores.redis.searching import CHUNK
from proxy.stores.redis.store import RedisStore
from tests.stores.laws.searching import bag, expected, grown, term, told
from tests.stores.making import REF, talk


async def test_no_field_grows_without_bound(store: RedisStore, address: Address) -> None:
    said = await talk(store, 200)
    known = {}
    for each in said:
        known[each.id] = told(each, bag((1, 1)), bag((1, 2), (2, 1)))
        await store.index(REF, [known[each.id]], revision=0)
    link = Link(address)
    (key,) = await _keys(link, address.space)
    fields = await link.ask("HGETALL", key)
    assert isinstance(fields, list)
    sizes = [len(each) for each in fields if isinstance(each, bytes)]
    assert max(sizes) <= CHUNK + 4
    assert sizes.count(CHUNK) == 400 * 8 // CHUNK + 200 * 8 // CHUNK
    for head in (1, 31, 32, 33, 64, 200):
        found = await store.postings(REF, said[head - 1].id, [term(1), term(2), term(3)])
        assert found == expected(said[:head], known, [1, 2, 3])
    await link.close()


async def test_many_chunks_at_once(store: RedisStore) -> None:
    """Two terms of one name in one call, more postings than a chunk holds."""
    said = await talk(store, 150)
    known = {each.id: told(each, bag((1, 1)), bag((1, 2))) for each in said}
    await store.index(REF, [Index(each, known[each].words) for each in known], revision=0)
    assert await store.postings(REF, said[-1].id, [term(1)]) == expected(said, known, [1])


async def test_a_branch_is_not_indexed_before_what_it_grew_from(store: RedisStore) -> None:
    a, b = await talk(store, 2)
    other = await grown(store, a, b)
    await store.index(REF, [told(other), Index(other.id, (), "m", (b"x", b"y"))], revision=0)
    for model in ("", "m"):
        assert list((await store.unindexed(REF, other.id, model=model, most=9)).entries) == [a, other]
    await store.index(REF, [told(a), told(other)], revision=0)
    assert list((await store.unindexed(REF, other.id, model="", most=9)).entries) == []
    assert list((await store.unindexed(REF, b.id, model="", most=9)).entries) == [b]


async def _keys(link: Link, space: str) -> list[bytes]:
    keys = await link.ask("KEYS", f"{space}:*:x")
    assert isinstance(keys, list)
    return [key for key in keys if isinstance(key, bytes)]
