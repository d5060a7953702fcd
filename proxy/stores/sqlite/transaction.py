"""What is done to the tables inside one transaction: appends, and everything else that is asked."""

import msgspec

from proxy.stores.contract import Appended, Conflict, Place, Ref, Run
from proxy.stores.sqlite import erasing, index, labels, merge, notes, places, removal, runs
from proxy.stores.sqlite.appends import Appends
from proxy.stores.sqlite.asks import (
    Adding,
    Annotate,
    BeginRun,
    CancelRun,
    DropRun,
    Indexing,
    Keep,
    LineUp,
    LogRun,
    Prune,
    PutLabel,
    Redact,
    StepOut,
)


class Transaction(Appends):
    """`known` is not changed."""

    def append_in_line(self, adding: Adding) -> Appended | Conflict:
        """As `append`, for one that names its holder."""
        ref, holder = adding.append.ref, adding.append.holder
        if places.first(self._db, self._now, ref) in (holder, None):
            answer = self.append(adding)
        else:
            answer = self._overtaken(adding)
        if isinstance(answer, Appended):
            places.step_out(self._db, ref, holder)
            self.bytes += 4096
        return answer

    def _overtaken(self, adding: Adding) -> Appended | Conflict:
        """Another one is first by now: the append does not happen, unless it happened before."""
        line = self._look(adding.append.ref)
        if line and self._db.execute("SELECT 1 FROM entries WHERE id = ? AND ref = ?", (adding.id, line.n)).fetchone():
            return Appended(again=True)
        return Conflict(line.head_id or None if line else None)

    def line_up(self, ask: LineUp) -> Place:
        self.bytes += 4096
        return places.line_up(self._db, self._now, ask)

    def step_out(self, ask: StepOut) -> None:
        self.bytes += 4096
        places.step_out(self._db, ask.ref, ask.holder)

    def keep(self, keep: Keep) -> bool:
        ref = keep.entry and self._number(keep.ref, keep.revision)
        if (
            not ref
            or not self._db.execute(
                "SELECT 1 FROM entries WHERE id = ? AND ref = ? AND branch IS NOT NULL", (keep.entry, ref)
            ).fetchone()
        ):
            return False
        self.bytes += 12_000 + len(keep.row)
        n = self._db.execute(
            "INSERT INTO summaries (ref, id, upto, row) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING RETURNING n",
            (ref, keep.id, keep.upto, keep.row),
        ).fetchall()
        if n:
            self._db.execute("UPDATE refs SET summary = ? WHERE n = ?", (*n[0], ref))
        return True

    def index(self, indexing: Indexing) -> bool:
        ref = self._number(indexing.ref, indexing.revision)
        if not ref:
            return False
        self.bytes += index.write(self._db, ref, indexing)
        if merge.crowded(self._db, ref):
            self.crowded.append(ref)
        return True

    def merge_some(self, ref: int) -> bool:
        """One step of merging a ref's index; True if there was nothing left to do."""
        self.bytes += 1_000_000
        return merge.merge_some(self._db, ref)

    def _number(self, ref: Ref, revision: int) -> int | None:
        """The ref's own, if it is known to the file, its time is not over, and it is of this revision."""
        self.flush()
        found = self._db.execute(
            "SELECT n FROM refs WHERE tenant = ? AND kind = ? AND name = ? AND (expires IS NULL OR expires > ?)"
            " AND revision = ?",
            (ref.tenant, ref.kind, ref.name, self._now, revision),
        ).fetchone()
        return found and int(found[0])

    def deliver(self, ref: Ref, key: str) -> None:
        line = self._line(ref) or self._look(ref)
        if line and line.head is not None and line.replay == key:
            self._over.append((line.head, key))
            self.learnt[ref] = msgspec.structs.replace(line, replay="")

    def annotate(self, ask: Annotate) -> bool:
        self.flush()
        self.bytes += 8192 + len(ask.note)
        self.replaced = True
        return notes.annotate(self._db, self._now, ask.ref, ask.entry, ask.note)

    def redact(self, ask: Redact) -> bool:
        line = self._look(ask.ref)
        buried = erasing.redact(self._db, line.n, ask) if line else None
        if buried is None:
            return False
        self.bytes += 50_000 + sum(8192 + len(each.row) + len(each.note) for each in ask.entries)
        self._changed(ask.ref, buried)
        return True

    def prune(self, ask: Prune) -> bool:
        line = ask.entry and self._look(ask.ref)
        if not line or not notes.annotate(self._db, self._now, ask.ref, ask.entry, b""):
            return False
        self.bytes += 200_000
        self.replaced = True
        buried = erasing.prune(self._db, line.n)
        if buried is None:
            return self.erase(ask.ref)
        if buried:
            self._changed(ask.ref, buried)
        return True

    def _changed(self, ref: Ref, buried: list[int]) -> None:
        self.buried += buried
        self.changed.append(ref)
        self.learnt[ref] = self._look(ref)

    def label(self, ask: PutLabel) -> bool:
        line = self._look(ask.ref)
        if ask.new is (line is not None):
            return False
        line = line or self._made(ask.ref, ask.ttl_s)
        self.bytes += 12_000 + len(ask.label)
        labels.put(self._db, line.n, ask.label)
        return True

    def begin_run(self, ask: BeginRun) -> bool:
        line = self._look(ask.ref)
        if line is None and (ask.recorded or ask.ref.kind == "conversation"):
            return False
        line = line or self._made(ask.ref, ask.ttl_s)
        self.bytes += 16_000 + len(ask.state)
        begun, buried = runs.begin(self._db, self._now, line.n, ask)
        self.buried += buried
        return begun

    def log_run(self, ask: LogRun) -> Run | None:
        self.flush()
        self.bytes += 8192 + sum(map(len, ask.events)) + len(ask.state or b"")
        return runs.log(self._db, self._now, ask)

    def cancel_run(self, ask: CancelRun) -> Run | None:
        self.flush()
        self.bytes += 4096
        return runs.cancel(self._db, self._now, ask.ref, ask.entry)

    def drop_run(self, ask: DropRun) -> bool:
        self.flush()
        buried = runs.drop(self._db, self._now, ask.ref, ask.entry)
        self.buried += buried
        return bool(buried)

    def erase(self, ref: Ref) -> bool:
        line = self._look(ref)
        if line is None:
            return False
        self._bury(line.n)
        self.learnt[ref] = None
        return True

    def expire(self, limit: int, under_way: set[int]) -> int:
        """Buries up to `limit` of what has outlived its time, except that whose rows are being removed."""
        self.flush()
        places.sweep(self._db, self._now)
        count, buried = removal.expire(self._db, self._now, limit, under_way.union(self.buried))
        self.buried += buried
        return count

    def ping(self) -> None:
        self._db.execute("UPDATE meta SET value = ? WHERE key = 'ping'", (self._now,))

    def remove_some(self, number: int) -> bool:
        """Removes some of what is buried under this number; True if these were the last rows."""
        done, written = removal.remove_some(self._db, number)
        self.bytes += written
        return done
