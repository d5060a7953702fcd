"""What a store promises. Every store passes `tests/stores/contract.py`, which proves these words.

A store keeps entries (immutable until they are redacted), refs that name them, preambles, plans, replays, summaries,
what entries are found by, and runs: responses that are still being made. It knows nothing of dialects or of how
contexts are made. Everything is scoped by tenant: a ref of one tenant does not exist for another.
Every method is one round trip. Every method raises StoreUnavailable when the store cannot be read or written, has too
much waiting, or is closed. A ref whose time is over is unknown to every method, whether or not it was swept yet.
"""

from collections.abc import AsyncIterator, Sequence
from hashlib import blake2b
from typing import Protocol

import msgspec

from proxy.conversation.entry import Chain, Entry, Preamble
from proxy.conversation.summary import Summary
from proxy.conversation.words import Choose, Postings, Wanted, Words

STICKY_MS = 24 * 60 * 60 * 1000
"""How long a sticky replay is kept."""


class Ref(msgspec.Struct, frozen=True):
    """A name for an entry. `kind` is `session`; `chain`: responses that go on from each other; `conversation`, which
    only `label` makes; or `completion`: a label without entries."""

    tenant: str
    kind: str
    name: str


class Replay(msgspec.Struct, frozen=True):
    """A recorded reply's own bytes, kept so that the same request again is answered by them."""

    key: str
    """What recognises the request: a hash of its idempotency key, or of its body."""
    request: bytes
    """A hash of the request's body."""
    sticky: bool
    """Kept for `STICKY_MS` (an idempotency key); else only until the reply was delivered or the ref moves on."""
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    entry: str
    """The id of the entry that was recorded with it."""


class Append(msgspec.Struct, frozen=True, kw_only=True):
    """One entry to be added."""

    ref: Ref
    expected: str | None
    """The id of the entry that the ref must name for the append to happen; None: the ref must not exist, or hold
    failed exchanges only."""
    entry: Entry
    """Its `parent` is on a branch of this ref (or ""); it need not be the head: then this starts a branch. A parent
    that is not there (any more) is a Conflict."""
    preamble: Preamble | None = None
    """The preamble whose id is `entry.facts.preamble`; None where that is b"". Kept once for each ref."""
    plan: bytes = b""
    """JSON of the plan."""
    whole: bool = False
    """Remember that a client of this ref sent its whole history. Never unset."""
    ttl_s: int | None = None
    """Seconds from now until the ref expires; None: never. Replaces what was set before."""
    replay: Replay | None = None
    note: bytes = b""
    """What else is kept about the entry, for `find`: opaque here."""
    holder: str = ""
    """Who appends, by its place in the line for the ref: Conflict where another one is first there by now. The place
    is given up with the append. "": whoever it is."""
    moves: bool = True
    """False: the entry is kept for reading, on no branch, and the ref stays where it is (a failed exchange);
    `expected` is then not compared, a ref that does not exist is made without a head, and a replay is kept only if
    it is sticky."""


class Appended(msgspec.Struct, frozen=True):
    """Durable, as far as the store promises durability."""

    again: bool = False
    """An entry with this id was on the ref already; nothing was written."""


class Conflict(msgspec.Struct, frozen=True):
    """The ref does not name `expected`; nothing was written."""

    head: str | None


class RefInfo(msgspec.Struct, frozen=True):
    """A line of a listing."""

    ref: Ref
    head: str
    """"" for a ref that holds failed exchanges only."""
    turns: int
    messages: int
    tokens: int
    created_ms: int
    updated_ms: int
    expires_ms: int | None


class Record(msgspec.Struct, frozen=True):
    """An entry with everything kept about it, for reading and export."""

    entry: Entry
    plan: bytes
    preamble: Preamble | None


class Noted(msgspec.Struct, frozen=True):
    """An entry that was found by its id alone."""

    ref: Ref
    entry: Entry
    note: bytes
    """b"" for an entry without one."""


class Label(msgspec.Struct, frozen=True):
    """A ref with what is kept about the ref itself."""

    ref: Ref
    label: bytes
    created_ms: int


class Redaction(msgspec.Struct, frozen=True):
    """What stands in the place of an entry of which something was erased."""

    entry: Entry
    """With the id, parent, count, positions, turn and digest that it had."""
    note: bytes


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A response that is still being made, or was never made to its end."""

    ref: Ref
    entry: str
    """The id of the entry that it may become."""
    owner: str
    state: bytes
    """What readers are told of it; opaque here."""
    ended: bool
    cancelled: bool
    beat_ms: int
    """When its owner was last heard of, in milliseconds since 1970."""
    events: int
    """How many its log was given. They are numbered from 0."""


class End(msgspec.Struct, frozen=True):
    """A run is over."""

    log_s: float
    """So long its log is kept."""
    keep: bool
    """The run stays until its ref goes; else it goes with its log."""


class Place(msgspec.Struct, frozen=True):
    """Where a holder stands in the line for a ref."""

    ahead: int
    """How many stand before it; 0: it is its turn."""
    kept: bool
    """It has a place."""


class Vectors(msgspec.Struct, frozen=True):
    """The vectors on one chain."""

    positions: bytes
    """Little-endian unsigned 32-bit, ascending."""
    matrix: bytes
    """For each of the positions the vector that was kept there, one behind the other; all have one length."""


class Index(msgspec.Struct, frozen=True):
    """What one entry is found by."""

    entry: str
    words: tuple[Words, ...] = ()
    """For each of its messages; () leaves what is indexed as it is."""
    model: str = ""
    """The model that made `vectors`."""
    vectors: tuple[bytes, ...] = ()
    """For each of its messages, b"" for one without; () leaves those that are there as they are."""


class Unindexed(msgspec.Struct, frozen=True):
    """Entries that are to be indexed."""

    revision: int
    """Of their ref, as in `Chain`."""
    entries: Sequence[Entry]


def tag(ref: Ref) -> str:
    """16 hex digits that stand for the ref in ids which clients hold, so that a store which is spread over several
    machines finds the right one."""
    return blake2b(f"{ref.tenant}\0{ref.kind}\0{ref.name}".encode(), digest_size=8).hexdigest()


class Store(Protocol):
    searches: frozenset[str]
    """What it can search: of `keywords` and `embeddings`, both, one or none. Where it cannot, `index`, `unindexed`,
    `postings` and `vectors` are never called."""

    async def open(self) -> None:
        """Connects and brings the schema up to date; safe when several processes do so at once.
        Raises SettingsError in one line when it cannot be used (no such folder, not a database, a newer schema)."""

    async def close(self) -> None:
        """Commits what is waiting, then closes. Nothing may be called afterwards. May be called twice."""

    async def secret(self) -> bytes:
        """32 random bytes, made once, the same for ever and for every process: the key of tenants and digests."""

    async def load(self, ref: Ref, *, key: str, reach: int | None, entry: str | None = None) -> Chain | None:
        """The newest entries of the ref, or of `entry`, which must belong to it, as its head.

        Goes back to the entry that holds `anchor.resume` if the head's anchor has this `key`; else as far as
        the newest `reach` tokens (the entry that crosses the border included; None: to the root). The head itself is
        always there. None if the ref (or the entry) is unknown, expired, erased, or has no head."""

    async def read(self, ref: Ref, entry: str, first: int, upto: int) -> Sequence[Entry]:
        """The entries of the chain that ends with `entry`, oldest first, that hold a position in [first, upto).
        Empty if the ref or entry is unknown."""

    async def find_digests(self, ref: Ref, digests: Sequence[bytes]) -> dict[bytes, str]:
        """For those digests with which an entry of the ref ends (failed ones aside, all branches): the id of the
        newest such entry."""

    async def find_turn(self, ref: Ref, turn: int) -> tuple[Entry | None, Entry | None] | None:
        """On the head's chain: (the newest entry whose `turn` is at most `turn`, the entry after it); each may be
        None. None if the ref is unknown."""

    async def append(self, append: Append) -> Appended | Conflict:
        """Adds an entry and moves the ref to it: both or neither, durable when this returns. A ref that expired
        or was erased does not exist: with `expected` set the answer is Conflict(None), never a revival; with None
        it begins anew, without anything of the old one. If the waiting task is cancelled it happens all the same."""

    async def find_replay(self, ref: Ref, key: str) -> Replay | None:
        """A recorded reply of this ref. One that is not sticky is only found while its entry is the head."""

    def delivered(self, ref: Ref, key: str) -> None:
        """The client has the whole reply: its replay, unless sticky, may be forgotten. Written with the next batch;
        after a crash the replay may still be there."""

    async def keep_summary(self, ref: Ref, summary: Summary, *, revision: int) -> bool:
        """Keeps it, durable when this returns; False if the ref or the summary's entry is unknown (erased meanwhile),
        or the ref is of another revision than the `Chain` that it was made from. Kept before under the same id: True,
        and nothing happens."""

    async def summaries(self, ref: Ref) -> Sequence[Summary]:
        """Every generation, of all branches, in the order in which they were kept."""

    async def index(self, ref: Ref, indexes: Sequence[Index], *, revision: int) -> bool:
        """Makes entries searchable, in the order given. False, and nothing happens, if the ref is unknown or of another
        revision by now than when the entries were read. Passed over are entries that are unknown, indexed already, or
        whose parent is not indexed (so what is indexed of a chain is its beginning); all told apart for the words and
        for each model. Kept as safely as an entry is, but nothing is lost without it: what is missing can be made
        again. ValueError if there are not as many words or vectors as the entry has messages."""

    async def unindexed(self, ref: Ref, entry: str, *, model: str, most: int) -> Unindexed:
        """The oldest entries of the chain that ends with `entry` which have no words (`model` ""), or no vectors of
        `model`; at most so many."""

    async def postings(self, ref: Ref, entry: str, terms: Sequence[bytes]) -> Postings | None:
        """Where on the chain that ends with `entry` these terms (each once) stand. None if the ref or entry is unknown.
        Takes about the same time however long the chain is."""

    async def seek(
        self, ref: Ref, entry: str, terms: Sequence[bytes], wanted: Wanted, choose: Choose
    ) -> Sequence[Entry]:
        """What `pick` finds at the positions that `choose` makes of what `postings` finds. `wanted` is asked first: of
        a term that it does not want `choose` is told the number of messages alone, and a store may read less.
        Both are called in any thread, once, or never if the ref or entry is unknown: then it is empty. What they raise
        is raised here. In one round trip where they can be called beside the data, else in two."""

    async def vectors(self, ref: Ref, entry: str, model: str) -> Vectors | None:
        """The vectors of `model` on the chain that ends with `entry`. None if the ref or entry is unknown."""

    async def pick(self, ref: Ref, entry: str, positions: Sequence[int]) -> Sequence[Entry]:
        """The entries of the chain that ends with `entry` which hold one of these positions, oldest first, each once.
        Empty if the ref or entry is unknown."""

    def list(self, *, tenant: str | None = None, name: str | None = None) -> AsyncIterator[RefInfo]:
        """Refs of kind `session`, ordered by tenant and name; reads in pages, so it holds nothing up."""

    def records(self, ref: Ref) -> AsyncIterator[Record]:
        """Every entry of the ref, branches and failed ones included, in the order in which they were appended."""

    async def find(self, tenant: str, tag: str, entry: str) -> Noted | None:
        """The entry of this id on a ref of this tenant with this tag, a failed exchange too, with its note. None if it
        is unknown, expired or erased."""

    async def annotate(self, ref: Ref, entry: str, note: bytes) -> bool:
        """Replaces the entry's note, b"" removes it; nothing of the old one is left. Durable when this returns; False
        if the ref or the entry is unknown."""

    async def noted(self, ref: Ref, first: int, upto: int) -> Sequence[Noted]:
        """As `read`, of the chain that ends with the ref's head, with the notes."""

    async def redact(
        self, ref: Ref, redactions: Sequence[Redaction], *, preamble: tuple[bytes, Preamble] | None
    ) -> bool:
        """Puts these in the place of their entries, whose old content is gone for good, and `preamble[1]` in the place
        of the preamble with the id `preamble[0]`. With them go all summaries, words and vectors of the ref, and the
        replays of these entries. The ref's revision counts up: what was made from the old content and comes late is not
        kept. Durable when this returns; False, and nothing happens, if the ref or one of the entries is unknown."""

    async def prune(self, ref: Ref, entry: str) -> bool:
        """Removes the entry's note, and erases every entry (with what was made from it: plan, replays, summaries) that
        has none itself and that no entry with a note goes on from; failed ones, and runs that have ended, which stand
        on such an entry go with it. If no entry is left, the ref is erased; if its head is gone, the newest entry left
        is the head. False if the ref or the entry is unknown. Words and vectors of the ref may go too: they can be made
        again. For refs of kind `chain`."""

    async def label(self, ref: Ref, label: bytes, *, new: bool, ttl_s: int | None = None) -> bool:
        """Replaces what is kept about the ref itself. `new`: makes the ref, without a head, to expire after `ttl_s`;
        False if it is there. Else False if it is unknown, and its expiry stays. Durable when this returns."""

    async def labelled(self, ref: Ref) -> Label | None:
        """b"" for a ref that was never given a label; None for one that is unknown."""

    async def labels(
        self, tenant: str, kind: str, *, after: str | None, most: int, newest_first: bool
    ) -> Sequence[Label]:
        """The labelled refs of a tenant in the order in which they were made (by time, then name): at most so many,
        behind the ref with the name `after` (None: from the start; [] if it is unknown)."""

    async def begin_run(
        self, ref: Ref, entry: str, *, owner: str, state: bytes, ttl_s: int | None, recorded: bool = False
    ) -> bool:
        """Begins a run with an empty log. A ref that is unknown is made without a head, to expire after `ttl_s`, but
        for a conversation: then, and if there is such a run or entry, False. `recorded`: the run of an entry that was
        appended already; False if that entry is unknown, or has a run. Durable when this returns."""

    async def log_run(
        self,
        ref: Ref,
        entry: str,
        *,
        owner: str,
        events: Sequence[bytes] = (),
        state: bytes | None = None,
        end: End | None = None,
    ) -> Run | None:
        """Its owner is alive: adds to the log, replaces the state, ends it, as far as given; durable when this returns.
        Returns the run as it is then. None, and nothing happens, if it is unknown, has ended, or has another owner."""

    async def find_run(self, tenant: str, tag: str, entry: str) -> Run | None:
        """The run of this entry on a ref of this tenant with this tag. None if there is none, or it was erased."""

    async def run_events(self, ref: Ref, entry: str, after: int, most: int) -> Sequence[bytes]:
        """Of its log the events with numbers above `after` (-1: all), at most so many. Empty when it is kept no
        more."""

    async def cancel_run(self, ref: Ref, entry: str) -> Run | None:
        """Notes that it shall end, unless it has ended; durable when this returns. Returns the run as it is then."""

    async def drop_run(self, ref: Ref, entry: str) -> bool:
        """Removes a run with its log, ended or not; False if there is none. Its owner finds it unknown."""

    async def line_up(self, ref: Ref, holder: str, *, keep_ms: int, wait: bool) -> Place:
        """Takes the last place in the line for a ref (which need not exist), or keeps the place that the holder has
        there, for so many milliseconds from now; by then it must come again, else the place lapses and the next one
        moves up. Not `wait`: a place is taken only if it is the first. Places lapse by the server's clock."""

    def step_out(self, ref: Ref, holder: str) -> None:
        """Gives the place up, if it has one; written with the next batch, and those who wait are told."""

    async def moved(self, ref: Ref, timeout_s: float) -> None:
        """Until somebody may have moved up in the line for the ref, `timeout_s` at most. May return early."""

    async def stale_runs(self, silent_ms: int, most: int) -> Sequence[Run]:
        """Of all tenants: runs that have not ended and whose owners have not been heard of for so long."""

    async def erase(self, ref: Ref) -> bool:
        """Removes the ref with all its entries, preambles, plans, replays, summaries, words, vectors, notes, runs and
        its label, for good; False if it is unknown.
        An append that is under way when this returns ends in Conflict(None)."""

    async def expire(self, limit: int) -> int:
        """Erases up to `limit` refs whose time is over, sticky replays that are too old, and logs of runs that are kept
        no longer; returns how many of all. Less than `limit`: there is no more."""

    async def ping(self) -> None:
        """Raises StoreUnavailable unless the store can be written now."""
