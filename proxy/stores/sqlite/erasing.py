"""Redaction and pruning: what is taken out of a ref that stays. Called in the writer's thread, inside a transaction."""

import sqlite3

from proxy.conversation.entry import Entry
from proxy.stores.sqlite.asks import Redact
from proxy.stores.sqlite.removal import bury_index, bury_response
from proxy.stores.sqlite.rows import unpack_one, unpack_summary


def redact(db: sqlite3.Connection, ref: int, ask: Redact) -> list[int] | None:
    """The numbers of what is to be removed in steps; None, and nothing is done, if an entry is unknown."""
    numbers = []
    for each in ask.entries:
        found = each.id and db.execute("SELECT n FROM entries WHERE id = ? AND ref = ?", (each.id, ref)).fetchone()
        if not found:
            return None
        numbers.append(int(found[0]))
    for n, each in zip(numbers, ask.entries, strict=True):
        db.execute("UPDATE entries SET row = ?, tokens_upto = ? WHERE n = ?", (each.row, each.tokens_upto, n))
        if each.note:
            db.execute("INSERT OR REPLACE INTO notes VALUES (?, ?, ?)", (n, ref, each.note))
        else:
            db.execute("DELETE FROM notes WHERE n = ?", (n,))
        db.execute("DELETE FROM replays WHERE n = ?", (n,))
    if ask.preamble:
        id, wire, tokens = ask.preamble
        db.execute(
            "UPDATE preambles SET wire = ?, tokens = ?, redacted = 1 WHERE ref = ? AND id = ?", (wire, tokens, ref, id)
        )
    db.execute("DELETE FROM summaries WHERE ref = ?", (ref,))
    (head,) = db.execute("SELECT head FROM refs WHERE n = ?", (ref,)).fetchone()
    if head in numbers:
        _stand(db, ref, head)
    return [*_forget(db, ref, [each.id for each in ask.entries if each.id]), bury_index(db, ref)]


def prune(db: sqlite3.Connection, ref: int) -> list[int] | None:
    """Erases what no note holds: the numbers of what is to be removed in steps; None if nothing of the ref would be
    left, which is then untouched."""
    gone = _unheld(db, ref)
    if not gone:
        return []
    (all,) = db.execute("SELECT count(*) FROM entries WHERE ref = ?", (ref,)).fetchone()
    if all == len(gone):
        return None
    numbers = [(n,) for n in gone]
    run = db.executemany
    run("DELETE FROM digests WHERE ref = ? AND digest = ? AND n = ?", [(ref, e.digest, n) for n, e in gone.items()])
    for table in ("branches", "notes", "replays", "entries"):
        run(f"DELETE FROM {table} WHERE n = ?", numbers)  # noqa: S608 - four names
    for id in {entry.facts.preamble for entry in gone.values()} - {b""}:
        # a row holds the id of its preamble as it is
        if not db.execute("SELECT 1 FROM entries WHERE ref = ? AND instr(row, ?) LIMIT 1", (ref, id)).fetchone():
            db.execute("DELETE FROM preambles WHERE ref = ? AND id = ?", (ref, id))
    ids = {entry.id for entry in gone.values()}
    for n, row in db.execute("SELECT n, row FROM summaries WHERE ref = ?", (ref,)).fetchall():
        if unpack_summary(row).entry in ids:
            db.execute("DELETE FROM summaries WHERE n = ?", (n,))
    (head,) = db.execute("SELECT head FROM refs WHERE n = ?", (ref,)).fetchone()
    if head in gone:
        (newest,) = db.execute("SELECT max(n) FROM entries WHERE ref = ? AND branch > 0", (ref,)).fetchone()
        _stand(db, ref, newest)
    return [*_forget(db, ref, [bytes.fromhex(id) for id in ids]), bury_index(db, ref)]


def _unheld(db: sqlite3.Connection, ref: int) -> dict[int, Entry]:
    """The entries that have no note, and that none with a note goes on from; failed ones that stand on such."""
    # how far up each branch something is held
    held: dict[int, int] = dict(
        db.execute(
            "SELECT e.branch, max(e.upto) FROM notes o CROSS JOIN entries e ON e.n = o.n"
            " WHERE o.ref = ? AND e.branch > 0 GROUP BY e.branch",
            (ref,),
        ).fetchall()
    )
    branches = [n for (n,) in db.execute("SELECT DISTINCT branch FROM entries WHERE ref = ? AND branch > 0", (ref,))]
    # a branch is made after the one that it leaves, so its number is higher
    for branch in sorted(branches, reverse=True):
        leaves = db.execute("SELECT parent, at FROM branches WHERE n = ?", (branch,)).fetchone()
        if leaves and branch in held:
            held[leaves[0]] = max(held.get(leaves[0], 0), leaves[1])
    gone: dict[int, Entry] = {}
    for branch in branches:
        found = db.execute(
            "SELECT n, row FROM entries WHERE ref = ? AND branch = ? AND upto > ?", (ref, branch, held.get(branch, 0))
        ).fetchall()
        gone |= {n: unpack_one(row) for n, row in found}
    ids = {entry.id for entry in gone.values()}
    failed = db.execute(
        "SELECT e.n, e.row, o.n FROM entries e LEFT JOIN notes o ON o.n = e.n WHERE e.ref = ? AND e.branch IS NULL",
        (ref,),
    ).fetchall()
    for n, row, noted in failed:
        entry = unpack_one(row)
        if noted is None or entry.parent in ids:
            gone[n] = entry
    return gone


def _stand(db: sqlite3.Connection, ref: int, head: int | None) -> None:
    """The ref stands at this entry: what is kept with the ref about its head."""
    preamble = key = resume = None
    if head is not None:
        facts = unpack_one(*db.execute("SELECT row FROM entries WHERE n = ?", (head,)).fetchone()).facts
        found = db.execute("SELECT n FROM preambles WHERE ref = ? AND id = ?", (ref, facts.preamble)).fetchone()
        preamble = found[0] if found and facts.preamble else None
        key, resume = (facts.anchor.key, facts.anchor.resume) if facts.anchor else (None, None)
    db.execute(
        "UPDATE refs SET head = ?, preamble = ?, anchor = ?, resume = ? WHERE n = ?", (head, preamble, key, resume, ref)
    )


def _forget(db: sqlite3.Connection, ref: int, entries: list[bytes]) -> list[int]:
    """What was read of the ref is not true any more; ended runs of these entries go: their numbers."""
    db.execute(
        "UPDATE refs SET revision = revision + 1, summary = (SELECT max(n) FROM summaries WHERE ref = ?1) WHERE n = ?1",
        (ref,),
    )
    buried = []
    for id in entries:
        found = db.execute("SELECT n FROM responses WHERE id = ? AND ref = ? AND ended", (id, ref)).fetchone()
        if found:
            buried.append(bury_response(db, found[0]))
    return buried
