"""A listing of labels reads the lines that it shows, in their order, and no others."""

from pathlib import Path

from proxy.stores.contract import Ref
from proxy.stores.sqlite import SqliteStore, labels
from proxy.stores.sqlite.schema import connect
from tests.stores.making import talk


async def test_a_page_is_a_walk_along_an_index(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")
    store = SqliteStore(path)
    await store.open()
    await store.close()
    db = connect(path)
    for statement in (labels._OLDEST_FIRST, labels._NEWEST_FIRST):
        plan = [row[3] for row in db.execute("EXPLAIN QUERY PLAN " + statement, ("t", "k", 1, "", 1, 9))]
        assert plan == [
            "SEARCH l USING INDEX labels_order (tenant=? AND kind=? AND (created,name)%s(?,?))"
            % (">" if statement is labels._OLDEST_FIRST else "<"),
            "SEARCH r USING INTEGER PRIMARY KEY (rowid=?)",
        ]
    db.close()


async def test_a_label_leaves_the_row_of_its_ref_small(tmp_path: Path) -> None:
    """That row is written with each turn."""
    path = str(tmp_path / "remora.db")
    store = SqliteStore(path)
    await store.open()
    ref = Ref("t", "conversation", "one")
    await store.label(ref, b"x" * 3000, new=True)
    await talk(store, 2, ref)
    await store.close()
    db = connect(path)
    (row,) = db.execute("SELECT * FROM refs").fetchall()
    assert len(repr(row)) < 300
    assert db.execute("SELECT length(label) FROM labels").fetchall() == [(3000,)]
    db.close()
