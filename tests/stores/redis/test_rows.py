"""What is packed is unpacked, and the list's members sort as refs do."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from proxy.conversation.entry import Anchor
from proxy.conversation.summary import Summary
from proxy.stores.contract import Ref
from proxy.stores.redis import rows
from tests.stores.making import RULES, entry, replay

NAMES = st.text(st.characters(), max_size=4) | st.text("\0\1\2a", max_size=4)
REFS = st.builds(Ref, NAMES, st.just("session"), NAMES)


def test_entries_come_back() -> None:
    a = entry(None, "ä\0", preamble=RULES)
    b = entry(a, "b", anchor=Anchor("k", 1, 2))
    assert rows.unpack([rows.pack(a), rows.pack(b)]) == [a, b]
    assert rows.unpack([]) == []
    assert rows.unpack_one(rows.pack(b)) == b


def test_facts_hold_what_scripts_look_at() -> None:
    named = "ab" * 16
    a = entry(None, preamble=RULES, anchor=Anchor("key", 1, 2, named), tokens=[2**33, 1])
    blob = rows.pack_facts(a, a.facts)
    assert struct.unpack_from(">IIId", blob) == (2, 1, 2, float(2**33 + 1))
    assert blob[20:] == b"\x10" + RULES.id + b"\0\x03key" + b"\x10" + bytes.fromhex(named)
    assert rows.unpack_facts(blob) == (2, 1, 2**33 + 1)
    far = entry(None, anchor=Anchor("", 0, 2**32 - 1))
    assert struct.unpack_from(">III", rows.pack_facts(far, far.facts))[2] == rows.UNANCHORED - 1


def test_summaries_and_replays_come_back() -> None:
    told = Summary("i", "e", 3, "text", 4, 5, "b", "m", 6)
    assert rows.unpack_summaries([rows.pack_summary(told)] * 2) == (told, told)
    kept = replay("k", entry(None), body=bytes(range(256)))
    assert rows.unpack_replay(rows.pack_replay(kept)) == kept
    assert rows.unpack_sticky(struct.pack(">Id", 7, 1.5e12) + rows.pack_replay(kept)) == (1.5e12, kept)


@given(st.lists(REFS, min_size=2, max_size=9))
def test_members_sort_by_tenant_and_name(refs: list[Ref]) -> None:
    members = [rows.member(ref, b"00ff") for ref in refs]
    assert [rows.unpack_member(each) for each in members] == [(ref, b"00ff") for ref in refs]
    assert [rows.unpack_member(each)[0] for each in sorted(members)] == sorted(refs, key=lambda r: (r.tenant, r.name))


@given(REFS, REFS)
def test_a_span_holds_just_what_was_asked_for(ref: Ref, other: Ref) -> None:
    there = rows.member(other, b"00ff")
    for name, right in ((None, ref.tenant == other.tenant), (ref.name, ref == other)):
        low, high = rows.span(ref.tenant, name)
        assert (low[:1], high[:1]) == (b"[", b"(")
        assert (low[1:] <= there < high[1:]) is right
