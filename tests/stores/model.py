"""What a store should answer, in the plainest way: lists searched from end to end; and random steps for both."""

from collections.abc import Awaitable, Callable

from hypothesis import strategies as st

from proxy.conversation.entry import Anchor, Entry, Preamble
from proxy.stores.contract import STICKY_MS, Append, Appended, Conflict, Ref, Replay, Store
from tests.stores.making import Clock, entry, listed, replay

REFS = [Ref(tenant, "session", name) for tenant in ("a", "b") for name in ("x", "y")][:3]
PREAMBLES = [None, Preamble(b"", 0), Preamble(b'{"role":"system"}', 4)]
KEYS = ["k1", "k2"]


class Plain:
    """A ref."""

    def __init__(self) -> None:
        self.all: list[Append] = []
        self.head: Entry | None = None
        self.whole = False
        self.expires: int | None = None
        self.last: Replay | None = None
        self.sticky: list[tuple[int, Replay]] = []

    def on_branches(self) -> list[Entry]:
        return [a.entry for a in self.all if a.moves]

    def chain(self, id: str) -> list[Entry]:
        line: list[Entry] = []
        while found := [e for e in self.on_branches() if e.id == id]:
            line.insert(0, found[0])
            id = found[0].parent
        return line


class Model:
    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.refs: dict[Ref, Plain] = {}
        self.made: list[Append] = []

    @property
    def ms(self) -> int:
        return int(self.clock() * 1000)

    def get(self, ref: Ref) -> Plain | None:
        plain = self.refs.get(ref)
        return None if plain is None or (plain.expires is not None and plain.expires <= self.ms) else plain

    def append(self, a: Append) -> Appended | Conflict:
        plain = self.get(a.ref)
        if plain and any(a.entry.id == b.entry.id for b in plain.all):
            return Appended(again=True)
        head = plain.head.id if plain and plain.head else None
        if a.moves and a.expected != head:
            return Conflict(head)
        if a.entry.parent and not (plain and plain.chain(a.entry.parent)):
            if a.moves:
                raise ValueError
            return Conflict(head)
        plain = self.refs[a.ref] = plain or Plain()
        plain.all.append(a)
        plain.whole |= a.whole
        plain.expires = None if a.ttl_s is None else self.ms + a.ttl_s * 1000
        if a.moves:
            plain.head, plain.last = a.entry, None
        if a.replay and a.replay.sticky:
            plain.sticky.append((self.ms, a.replay))
        elif a.replay and a.moves:
            plain.last = a.replay
        return Appended()

    def find_replay(self, ref: Ref, key: str) -> Replay | None:
        plain = self.get(ref)
        if plain and plain.last and plain.last.key == key:
            return plain.last
        young = [r for at, r in plain.sticky if r.key == key and at > self.ms - STICKY_MS] if plain else []
        return young[-1] if young else None


Step = Callable[[Store, Model], Awaitable[None]]
_small = st.integers(0, 7)


def _appending(
    *, ref: Ref, at: int, moves: int, right: int, word: int, ttl: int | None, many: tuple[int, int, int, bool, bool]
) -> Step:
    """Mostly the child of the head or of an old entry, mostly expecting the right head."""
    preamble_at, replay_at, anchor_at, whole, tool = many

    async def step(store: Store, model: Model) -> None:
        plain = model.get(ref)
        old = plain.on_branches() if plain else []
        parent = plain.head if plain and at < 4 else (old[at % len(old)] if old and at < 7 else None)
        preamble = PREAMBLES[preamble_at % 3]
        new = entry(
            parent,
            f"{word % 3}",
            tokens=[word, at],
            roles=["tool", "assistant"] if tool else ["user", "assistant"],
            preamble=preamble,
            anchor=Anchor(KEYS[anchor_at % 2], 0, anchor_at) if anchor_at else None,
            state="whole" if moves else "failed",
        )
        head = plain.head.id if plain and plain.head else None
        append = Append(
            ref=ref,
            expected=head if right else (new.parent or None),
            entry=new,
            preamble=preamble,
            plan=b"%d" % at,
            whole=whole,
            ttl_s=ttl,
            replay=replay(KEYS[replay_at % 2], new, sticky=replay_at > 4) if replay_at > 2 else None,
            moves=bool(moves),
        )
        model.made.append(append)
        await _same_append(store, model, append)

    return step


async def _same_append(store: Store, model: Model, append: Append) -> None:
    try:
        expected = model.append(append)
    except ValueError:
        try:
            await store.append(append)
        except ValueError:
            return
        raise
    assert await store.append(append) == expected


def _repeating(at: int) -> Step:
    async def step(store: Store, model: Model) -> None:
        if model.made:
            await _same_append(store, model, model.made[at % len(model.made)])

    return step


def _erasing(ref: Ref) -> Step:
    async def step(store: Store, model: Model) -> None:
        assert await store.erase(ref) is (model.get(ref) is not None)
        model.refs.pop(ref, None)

    return step


def _waiting(seconds: float) -> Step:
    async def step(store: Store, model: Model) -> None:
        model.clock.seconds += seconds

    return step


async def _expiring(store: Store, model: Model) -> None:
    await store.expire(99)
    assert await store.expire(99) == 0


def _delivering(ref: Ref, key: str) -> Step:
    async def step(store: Store, model: Model) -> None:
        store.delivered(ref, key)
        plain = model.get(ref)
        if plain and plain.last and plain.last.key == key:
            plain.last = None

    return step


async def compare(store: Store, model: Model) -> None:
    """Every question, at every place."""
    for ref in REFS:
        plain = model.get(ref)
        for key in KEYS:
            assert await store.find_replay(ref, key) == model.find_replay(ref, key)
        assert [(r.entry, r.plan, r.preamble) for r in await listed(store.records(ref))] == (
            [(a.entry, a.plan, a.preamble) for a in plain.all] if plain else []
        )
        await _compare_loads(store, ref, plain)
        line = plain.chain(plain.head.id) if plain and plain.head else []
        for turn in range(-1, 9):
            low = [e for e in line if e.turn <= turn]
            high = [e for e in line if e.turn > turn]
            expected = (low[-1] if low else None, high[0] if high else None) if line else None
            assert await store.find_turn(ref, turn) == expected
        ends = {e.digest: e.id for e in plain.on_branches()} if plain else {}
        everywhere = [a.entry.digest for a in model.made]
        assert await store.find_digests(ref, everywhere) == ends
    living = [(ref, plain) for ref in REFS if (plain := model.get(ref))]
    assert [(info.ref, info.head, info.messages, info.expires_ms) for info in await listed(store.list())] == [
        (ref, plain.head.id if plain.head else "", plain.head.upto if plain.head else 0, plain.expires)
        for ref, plain in living
    ]


async def _compare_loads(store: Store, ref: Ref, plain: Plain | None) -> None:
    for id in [None, *([a.entry.id for a in plain.all] if plain else [])]:
        head = (plain.head.id if plain.head else None) if plain and id is None else id
        line = plain.chain(head) if plain and head else []
        for key in KEYS:
            for reach in (None, 0, 5, 12):
                chain = await store.load(ref, key=key, reach=reach, entry=id)
                if not line or not plain or not plain.head:
                    assert chain is None
                    continue
                assert chain is not None
                anchor = line[-1].facts.anchor
                if anchor and anchor.key == key:
                    kept = [e for e in line if e.upto > anchor.resume]
                else:
                    kept = [e for e in line if reach is None or sum(f.tokens for f in line if f.upto > e.upto) < reach]
                assert list(chain.entries) == (kept or line[-1:])
                assert (chain.head, chain.ref_head, chain.whole) == (line[-1], plain.head.id, plain.whole)
                assert chain.preamble == next(a.preamble for a in plain.all if a.entry is line[-1])
        for first, upto in ((0, 99), (2, 3), (1, 6), (5, 5), (7, 2)):
            if id is not None:
                found = list(await store.read(ref, id, first, upto))
                assert found == [e for e in line if first < upto and e.upto > first and e.first < upto]


_refs = st.sampled_from(REFS)
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        *[
            st.builds(
                _appending,
                ref=_refs,
                at=_small,
                moves=_small,
                right=_small,
                word=_small,
                ttl=st.sampled_from([None, None, 50, 7300]),
                many=st.tuples(_small, _small, _small, st.booleans(), st.booleans()),
            )
        ]
        * 6,
        st.builds(_repeating, _small),
        st.builds(_erasing, _refs),
        st.builds(_waiting, st.sampled_from([1.0, 30.0, 60.0, 8000.0, 86_400.0])),
        st.just(_expiring),
        st.builds(_delivering, _refs, st.sampled_from(KEYS)),
        st.just(compare),
    ),
    min_size=12,
    max_size=40,
)
