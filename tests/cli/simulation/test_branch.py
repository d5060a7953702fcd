"""Replaying reads a chain as a store gives it, branches and all."""

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.cli.simulation.branch import Branches
from proxy.context.contract import Read
from proxy.stores import open_store
from proxy.stores.contract import Ref
from tests.cli.said import EXCHANGES, Said, put

REF = Ref("ann", "session", "s")


@settings(max_examples=80, deadline=None)
@given(EXCHANGES, st.lists(st.tuples(st.integers(0, 9), st.integers(0, 40), st.integers(0, 12)), max_size=6))
async def test_a_chain_is_read_as_a_store_reads_it(exchanges: list[Said], asks: list[tuple[int, int, int]]) -> None:
    store = open_store("memory:")
    await store.open()
    branches = Branches()
    entries = []
    for said, entry in await put(store, REF, exchanges):
        if said.state != "failed":
            branches.add(entry)
            entries.append(entry)
    for which, reach, first in asks:
        if not entries:
            break
        head = entries[which % len(entries)].id
        tokens = None if reach == 40 else reach
        chain = branches.load(head, key="", reach=tokens, preamble=None)
        stored = await store.load(REF, key="", reach=tokens, entry=head)
        assert chain is not None
        assert stored is not None
        assert (chain.head, chain.entries, chain.summaries) == (stored.head, stored.entries, stored.summaries)
        assert list(branches.read(Read(first, first + 3))) == list(await store.read(REF, head, first, first + 3))
        assert list(branches.between(first, first)) == []
        assert [each.id for each in branches.pick((first, 0))] == [
            each.id for each in branches.line if any(each.first <= position < each.upto for position in (first, 0))
        ]
    assert branches.load("", key="", reach=None, preamble=None) is None
    await store.close()
