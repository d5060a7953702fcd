"""Keys show no names, and all of a ref lie in one slot."""

from proxy.stores.contract import Ref, tag
from proxy.stores.redis.keys import TAG_BYTES, Keys, born_ms, generation

KEYS = Keys("space", b"s" * 32)


def test_each_ref_has_its_own_tag() -> None:
    refs = [
        Ref(*names) for names in (("a", "b", "c"), ("ab", "", "c"), ("", "ab", "c"), ("a", "bc", ""), ("a", "b", ""))
    ]
    tags = {KEYS.tag(ref) for ref in refs}
    assert len(tags) == 5
    assert all(KEYS.tag_of(ref.tenant, tag(ref)) in tags for ref in refs)
    assert KEYS.tag_of("other", tag(refs[0])) not in tags
    assert {len(tag) for tag in tags} == {TAG_BYTES}
    assert KEYS.tag(refs[0]) == Keys("other", b"s" * 32).tag(refs[0])


def test_who_does_not_know_the_secret_cannot_guess_names() -> None:
    assert KEYS.tag(Ref("a", "b", "c")) != Keys("space", b"t" * 32).tag(Ref("a", "b", "c"))


def test_generations_differ_and_tell_their_time() -> None:
    assert len({generation(1_700_000_000_000) for _ in range(99)}) == 99
    assert born_ms(generation(1_700_000_000_123)) == 1_700_000_000_123
