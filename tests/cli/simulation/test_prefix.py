"""A hit is the longest prefix of an earlier prompt, not too old, long enough, in whole steps."""

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.cli.simulation.prefix import Caching, Piece, PrefixCache

PROMPTS = st.lists(
    st.tuples(st.lists(st.tuples(st.sampled_from([b"a", b"b", b"c"]), st.just(70)), max_size=6), st.floats(0, 40)),
    max_size=20,
)


@settings(max_examples=300)
@given(PROMPTS, st.integers(1, 200), st.integers(0, 300), st.sampled_from([1, 5, 1000]))
def test_a_hit_is_the_longest_fresh_prefix(
    prompts: list[tuple[list[Piece], float]], step: int, minimum: int, sweep_at: int
) -> None:
    """Compared with every earlier prompt, one by one."""
    cache = PrefixCache(Caching(minimum, step, lifetime_s=60.0), sweep_at)
    before: list[tuple[list[Piece], float]] = []
    now_s = 0.0
    for prompt, later in prompts:
        now_s += later
        longest = 0
        for earlier, at_s in before:
            same = 0
            while same < min(len(prompt), len(earlier)) and prompt[same] == earlier[same]:
                same += 1
            if at_s >= now_s - 60.0:
                longest = max(longest, same)
        tokens = longest * 70
        expected = tokens // step * step if tokens >= minimum else 0
        assert cache.read(prompt, now_s) == expected
        before.append((prompt, now_s))


def test_providers_cache_from_1024_tokens_in_steps_of_128() -> None:
    caching = Caching()
    assert [caching.rounded(tokens) for tokens in (0, 1023, 1024, 1151, 1152, 5000)] == [0, 0, 1024, 1024, 1152, 4992]


def test_what_is_too_old_is_not_held_for_ever() -> None:
    cache = PrefixCache(Caching(lifetime_s=10.0), sweep_at=50)
    for number in range(2000):
        cache.read([(b"%d" % number, 1), (b"x", 1)], float(number))
    assert len(cache) < 120
