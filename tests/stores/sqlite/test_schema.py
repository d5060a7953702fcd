"""The file: how it is made, and how it is refused."""

import asyncio
import os
import sqlite3
import stat
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from proxy.conversation.entry import Preamble
from proxy.errors import SettingsError, StoreUnavailable
from proxy.stores.contract import Label, Noted, tag
from proxy.stores.sqlite import SqliteStore, rows, schema
from tests.stores.laws.telling import summary
from tests.stores.making import REF, RULES, entry, listed, redacted, talk
from tests.stores.sqlite.test_store import child, healthy, lines


def refusal(path: Path | str) -> str:
    with pytest.raises(SettingsError) as error:
        schema.prepare(str(path))
    said = str(error.value)
    assert "\n" not in said
    return said


def test_processes_may_open_a_fresh_file_at_once(tmp_path: Path) -> None:
    path, go = tmp_path / "remora.db", tmp_path / "go"
    openers = [child("open_only", str(path), str(go)) for _ in range(8)]
    assert [next(lines(opener)) for opener in openers] == ["ready"] * 8
    go.touch()
    said = [opener.communicate(timeout=50) for opener in openers]
    assert [error for _, error in said] == [""] * 8
    assert len({secret for secret, _ in said}) == 1
    assert healthy(str(path))


def test_the_file_is_made_once(tmp_path: Path) -> None:
    path = str(tmp_path / "remora.db")
    secret = schema.prepare(path)
    assert len(secret) == 32
    assert schema.prepare(path) == secret
    assert schema.prepare(str(tmp_path / "other.db")) != secret
    with closing(sqlite3.connect(path)) as looking:
        assert looking.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        assert looking.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)


def test_nobody_else_may_read_it(tmp_path: Path) -> None:
    async def use() -> list[int]:
        store = SqliteStore(str(tmp_path / "remora.db"))
        await store.open()
        await talk(store, 1)
        modes = [stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()]  # noqa: ASYNC240 - a test
        await store.close()
        return modes

    modes = asyncio.run(use())
    assert len(modes) == 3
    assert set(modes) == {0o600}


def test_an_older_schema_is_brought_up_to_date(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "remora.db")
    secret = schema.prepare(path)
    step = "CREATE TABLE later (a);\nCREATE TRIGGER t AFTER INSERT ON later BEGIN SELECT 1; SELECT 2; END;\n"
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
    for _ in range(2):
        assert schema.prepare(path) == secret
        with closing(sqlite3.connect(path)) as looking:
            assert looking.execute("SELECT count(*) FROM later").fetchone() == (0,)
            assert looking.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)


async def test_what_an_older_version_kept_is_there_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Written as the version did that knew neither revisions nor labels nor runs."""
    path = str(tmp_path / "remora.db")
    now = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", now[:3])
    secret = schema.prepare(path)
    monkeypatch.setattr(schema, "MIGRATIONS", now)
    a = entry(None, preamble=RULES)
    b = entry(a, preamble=RULES)
    told = summary(a)
    with closing(sqlite3.connect(path)) as old:
        old.execute("INSERT INTO preambles VALUES (7, 3, ?, ?, ?)", (RULES.id, RULES.wire, RULES.tokens))
        old.execute("INSERT INTO summaries VALUES (5, 3, ?, ?, ?)", (b"s" * 16, told.upto, rows.pack_summary(told)))
        old.execute(
            "INSERT INTO refs (n, tenant, kind, name, head, preamble, whole, created, updated, summary)"
            " VALUES (3, ?, ?, ?, 2, 7, 1, 1000, 2000, 5)",
            (REF.tenant, REF.kind, REF.name),
        )
        for n, each in enumerate((a, b), 1):
            place = (n, 3, 1, each.upto, each.tokens_upto, each.turn, bytes.fromhex(each.id), each.digest)
            old.execute("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", (*place, rows.pack(each), b"plan"))
            old.execute("INSERT INTO digests VALUES (3, ?, ?)", (each.digest, n))
        old.execute("INSERT INTO notes VALUES (2, 3, x'6e')")
        old.commit()
    store = SqliteStore(path)
    await store.open()
    assert await store.secret() == secret
    chain = await store.load(REF, key="", reach=None)
    assert chain is not None
    assert (chain.entries, chain.preamble, chain.whole, chain.revision) == ((a, b), RULES, True, 0)
    assert chain.summaries == (told,)
    assert await store.find(REF.tenant, tag(REF), b.id) == Noted(REF, b, b"n")
    assert await store.labelled(REF) == Label(REF, b"", 1000)
    (c,) = await talk(store, 1, after=b)
    stub = redacted(a)
    assert await store.redact(REF, [stub], preamble=(RULES.id, Preamble(b"", 0))) is True
    chain = await store.load(REF, key="", reach=None)
    assert chain is not None
    assert (chain.entries, chain.summaries, chain.revision) == ((stub.entry, b, c), (), 1)
    assert await store.erase(REF) is True
    await store.close()
    assert healthy(path)


def test_a_step_that_fails_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "remora.db")
    schema.prepare(path)
    good = schema.MIGRATIONS
    monkeypatch.setattr(schema, "MIGRATIONS", (*good, "CREATE TABLE later (a); SELECT nonsense;"))
    assert "nonsense" in refusal(path)
    monkeypatch.setattr(schema, "MIGRATIONS", good)
    schema.prepare(path)
    with closing(sqlite3.connect(path)) as looking:
        assert looking.execute("SELECT count(*) FROM sqlite_master WHERE name = 'later'").fetchone() == (0,)


def test_a_newer_schema_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "remora.db"
    schema.prepare(str(path))
    with closing(sqlite3.connect(path)) as newer:
        newer.execute("PRAGMA user_version = 99")
    said = refusal(path)
    assert str(path) in said
    assert "newer Remora" in said
    assert "99" in said


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "bank.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE money (much)")
    assert "another program" in refusal(path)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("money",)]


def test_a_file_that_is_no_database_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 500)
    assert "not a SQLite database" in refusal(path)
    assert path.read_text() == "dear diary, " * 500


def test_a_missing_folder_and_a_folder_are_refused(tmp_path: Path) -> None:
    assert f"no folder {tmp_path / 'no'}" in refusal(tmp_path / "no" / "remora.db")
    assert "cannot be opened" in refusal(tmp_path)
    assert "no folder" in refusal(tmp_path / "x" / "y" / "remora.db")


def test_missing_rights_are_refused() -> None:
    """Rights to the file that are none, or only for reading, and a folder where nothing may be made."""
    root = os.getuid() == 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "remora.db")
        schema.prepare(str(path))
        Path(folder).chmod(0o555)
        cases = (
            (path, 0o600 if root else 0, "cannot be opened"),
            (path, 0o444, "is read-only"),
            (Path(folder, "new.db"), None, "cannot be made"),
        )
        for target, mode, why in cases:
            if mode is not None:
                path.chmod(mode)
            out, error = child("refused", str(target)).communicate(timeout=50)
            assert error == ""
            assert f"{target} {why}" in out
            assert out.count("\n") == 1
        Path(folder).chmod(0o755)


def test_a_locked_file_is_refused_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "remora.db")
    schema.prepare(path)
    monkeypatch.setattr(schema, "BUSY_S", 0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert "Another program holds" in refusal(path)


async def test_a_locked_file_makes_the_store_unavailable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = str(tmp_path / "remora.db")
    monkeypatch.setattr(schema, "BUSY_S", 0.05)
    store = SqliteStore(path)
    await store.open()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable, match="Another program holds"):
        await talk(store, 1)
    other.execute("ROLLBACK")
    other.close()
    await talk(store, 1)
    assert len(await listed(store.list())) == 1
    await store.close()


def test_a_mistake_in_this_program_is_no_storage_failure() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        for sql, values in (("SELECT 1", (1,)), ("SELECT nonsense", ()), ("SELECT ?", (object(),))):
            with pytest.raises(sqlite3.Error) as error:
                connection.execute(sql, values)
            assert schema.unavailable(error.value, "x") is None
        connection.execute("CREATE TABLE t (a UNIQUE)")
        connection.execute("INSERT INTO t VALUES (1)")
        with pytest.raises(sqlite3.IntegrityError) as error:
            connection.execute("INSERT INTO t VALUES (1)")
        assert schema.unavailable(error.value, "x") is None
    assert schema.unavailable(ValueError("x"), "x") is None


def test_each_storage_failure_says_what_to_do() -> None:
    for code in ("FULL", "IOERR", "BUSY", "LOCKED", "CANTOPEN", "READONLY", "NOTADB", "CORRUPT"):
        error = sqlite3.OperationalError("it failed")
        error.sqlite_errorcode = getattr(sqlite3, f"SQLITE_{code}") | 0x300
        told = schema.unavailable(error, "/data/remora.db")
        assert told is not None
        assert "/data/remora.db" in told.message
        assert "\n" not in told.message
