"""What a store should answer, in the plainest way: lists searched from end to end; and random steps for both."""

from collections.abc import Awaitable, Callable

import msgspec
from hypothesis import strategies as st

from proxy.conversation.entry import Anchor, Entry, Preamble
from proxy.stores.contract import STICKY_MS, Append, Appended, Conflict, Label, Ref, Replay, Store
from tests.stores.making import Clock, entry, listed, redacted, replay

REFS = [
    *[Ref(tenant, "session", name) for tenant in ("a", "b") for name in ("x", "y")][:3],
    Ref("a", "conversation", "x"),
    Ref("a", "chain", "x"),
]
PREAMBLES = [None, Preamble(b"", 0), Preamble(b'{"role":"system"}', 4)]
KEYS = ["k1", "k2"]


class Plain:
    """A ref."""

    def __init__(self) -> None:
        self.created = 0
        self.label: bytes | None = None
        self.all: list[Append] = []
        self.notes: dict[str, bytes] = {}
        self.preambles: dict[bytes, Preamble] = {}
        self.revision = 0
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

    def forget(self, gone: set[str]) -> None:
        self.last = None if self.last and self.last.entry in gone else self.last
        self.sticky = [each for each in self.sticky if each[1].entry not in gone]
        self.revision += 1

    def prune(self) -> bool:
        """True if nothing is left."""
        named = {a.entry.id for a in self.all if self.notes[a.entry.id]}
        kept = {e.id for e in self.on_branches() if any(e in self.chain(id) for id in named)}
        kept |= {a.entry.id for a in self.all if not a.moves and a.entry.id in named and a.entry.parent in ("", *kept)}
        gone = {a.entry.id for a in self.all} - kept
        self.all = [a for a in self.all if a.entry.id in kept]
        if gone:
            self.forget(gone)
        if self.head and self.head.id in gone:
            self.head = self.on_branches()[-1] if self.on_branches() else None
        return not self.all


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

    def begin(self, ref: Ref, *, labelled: bool = False) -> Plain | None:
        if ref.kind == "conversation" and not labelled:
            return None
        plain = self.refs[ref] = Plain()
        plain.created = self.ms
        return plain

    def append(self, a: Append) -> Appended | Conflict:
        plain = self.get(a.ref)
        if plain and any(a.entry.id == b.entry.id for b in plain.all):
            return Appended(again=True)
        head = plain.head.id if plain and plain.head else None
        if a.moves and a.expected != head:
            return Conflict(head)
        if a.entry.parent and not (plain and plain.chain(a.entry.parent)):
            return Conflict(head)
        plain = plain or self.begin(a.ref)
        if plain is None:
            return Conflict(None)
        plain.all.append(a)
        plain.notes[a.entry.id] = a.note
        if a.preamble:
            plain.preambles[a.entry.facts.preamble] = a.preamble
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
            note=b"%d" % word if word % 3 else b"",
            moves=bool(moves),
        )
        model.made.append(append)
        await _same_append(store, model, append)

    return step


async def _same_append(store: Store, model: Model, append: Append) -> None:
    assert await store.append(append) == model.append(append)


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


def _redacting(ref: Ref, at: int, note: int) -> Step:
    """Some of the entries, and some preamble."""

    async def step(store: Store, model: Model) -> None:
        plain = model.get(ref)
        some = plain.all[at :: at + 1] if plain else []
        stubs = [redacted(a.entry, b"r%d" % note if note % 2 else b"") for a in some]
        old = PREAMBLES[note % 3]
        less = Preamble(b"less %d" % note, 1)
        assert await store.redact(ref, stubs, preamble=(old.id, less) if old else None) is (plain is not None)
        if plain is None:
            return
        place = {stub.entry.id: stub for stub in stubs}
        for n, a in enumerate(plain.all):
            if stub := place.get(a.entry.id):
                plain.all[n] = msgspec.structs.replace(a, entry=stub.entry)
                plain.notes[a.entry.id] = stub.note
                plain.head = stub.entry if plain.head and plain.head.id == stub.entry.id else plain.head
        if old and old.id in plain.preambles:
            plain.preambles[old.id] = less
        plain.forget(set(place))

    return step


def _pruning(ref: Ref, at: int) -> Step:
    async def step(store: Store, model: Model) -> None:
        plain = model.get(ref)
        if plain is None or not plain.all:
            assert await store.prune(ref, "ab" * 16) is False
            return
        id = plain.all[at % len(plain.all)].entry.id
        assert await store.prune(ref, id) is True
        plain.notes[id] = b""
        if plain.prune():
            del model.refs[ref]

    return step


def _labelling(ref: Ref, word: int, ttl: int | None) -> Step:
    async def step(store: Store, model: Model) -> None:
        plain = model.get(ref)
        assert await store.label(ref, b"%d" % word, new=word > 3, ttl_s=ttl) is ((plain is None) == (word > 3))
        if plain is None and word > 3:
            plain = model.begin(ref, labelled=True)
            assert plain
            plain.expires = None if ttl is None else model.ms + ttl * 1000
        elif plain is None or word > 3:
            return
        plain.label = b"%d" % word

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
            [(a.entry, a.plan, plain.preambles.get(a.entry.facts.preamble)) for a in plain.all] if plain else []
        )
        await _compare_loads(store, ref, plain)
        line = plain.chain(plain.head.id) if plain and plain.head else []
        noted = [(each.ref, each.entry, each.note) for each in await store.noted(ref, 1, 5)]
        middle = [e for e in line if e.first < 5 and e.upto > 1]
        assert noted == [(ref, e, plain.notes[e.id]) for e in middle if plain]
        for turn in range(-1, 9):
            low = [e for e in line if e.turn <= turn]
            high = [e for e in line if e.turn > turn]
            expected = (low[-1] if low else None, high[0] if high else None) if line else None
            assert await store.find_turn(ref, turn) == expected
        ends = {e.digest: e.id for e in plain.on_branches()} if plain else {}
        everywhere = [a.entry.digest for a in model.made]
        assert await store.find_digests(ref, everywhere) == ends
        label = await store.labelled(ref)
        assert label == (Label(ref, plain.label or b"", plain.created) if plain else None)
    for kind in ("session", "chain", "conversation"):
        labelled = [
            (plain.created, ref.name, Label(ref, plain.label, plain.created))
            for ref in REFS
            if (ref.tenant, ref.kind) == ("a", kind) and (plain := model.get(ref)) and plain.label is not None
        ]
        line_of = await store.labels("a", kind, after=None, most=9, newest_first=False)
        assert list(line_of) == [label for _, _, label in sorted(labelled)]
    living = [(ref, plain) for ref in REFS if ref.kind == "session" and (plain := model.get(ref))]
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
                assert chain.preamble == plain.preambles.get(line[-1].facts.preamble)
                assert id is not None or chain.revision == plain.revision
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
        st.builds(_redacting, _refs, _small, _small),
        st.builds(_pruning, st.sampled_from(REFS[-2:]), _small),
        st.builds(_pruning, st.sampled_from(REFS[-2:]), _small),
        st.builds(_labelling, _refs, _small, st.sampled_from([None, 50, 7300])),
        st.builds(_erasing, _refs),
        st.builds(_waiting, st.sampled_from([1.0, 30.0, 60.0, 8000.0, 86_400.0])),
        st.just(_expiring),
        st.builds(_delivering, _refs, st.sampled_from(KEYS)),
        st.just(compare),
    ),
    min_size=12,
    max_size=40,
)
