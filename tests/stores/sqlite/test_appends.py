"""An append to a ref that is known from before looks at nothing, and is refused if that was wrong."""

from pathlib import Path

import pytest

from proxy.conversation.entry import Entry
from proxy.stores.contract import Appended, Ref
from proxy.stores.sqlite import SqliteStore
from proxy.stores.sqlite.appends import Appends, Line, Stale
from proxy.stores.sqlite.asks import adding as ask
from proxy.stores.sqlite.schema import connect, prepare
from tests.stores.making import REF, adding, entry, redacted, talk
from tests.stores.sqlite.test_write import writer_of

NOW = 1_700_000_000_000


def appended(path: str, known: dict[Ref, Line], new: Entry) -> Line:
    """What is known of the ref after it."""
    db = connect(path)
    try:
        db.execute("BEGIN IMMEDIATE")
        appends = Appends(db, NOW, known)
        assert appends.append(ask(adding(REF, new))) == Appended()
        appends.flush()
        db.execute("COMMIT")
        line = appends.learnt[REF]
        assert line is not None
        return line
    finally:
        db.close()


def test_what_is_believed_is_what_was_learnt(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")
    prepare(path)
    first = entry(None)
    line = appended(path, {}, first)
    second = entry(first)
    line = appended(path, {REF: line}, second)
    assert (line.head_id, line.revision) == (second.id, 0)


@pytest.mark.parametrize("wrong", [{"revision": 1}, {"head": 99}, {"n": 99}, {"whole": True}])
def test_a_belief_that_is_wrong_is_stale(tmp_path: Path, wrong: dict[str, int]) -> None:
    path = str(tmp_path / "remora.db")
    prepare(path)
    first = entry(None)
    line = appended(path, {}, first)
    for name, value in wrong.items():
        setattr(line, name, value)
    with pytest.raises(Stale):
        appended(path, {REF: line}, entry(first))


async def test_after_a_redaction_appends_need_no_look_again(tmp_path: Path) -> None:
    store = SqliteStore(str(tmp_path / "remora.db"))
    await store.open()
    said = await talk(store, 2)
    await store.redact(REF, [redacted(said[0])], preamble=None)
    statements: list[str] = []
    writer_of(store)._link.get().set_trace_callback(statements.append)
    await talk(store, 1, after=said[-1])
    writer_of(store)._link.get().set_trace_callback(None)
    words = [statement.split()[0] for statement in statements]
    while words[:2] == ["BEGIN", "BEGIN"]:
        # tried again: after a redaction the log is emptied, by another connection
        del words[0]
    assert words == ["BEGIN", "SELECT", "UPDATE", "INSERT", "COMMIT"]
    await store.close()
