"""Damaged state: nothing starts, the object is named, and a repair loses only that object and says so."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kajitori.base.errors import UsageError
from kajitori.cli import main
from kajitori.laptop.apiserver.journal import CorruptState, lock_state
from kajitori.laptop.apiserver.repair import repair
from kajitori.laptop.apiserver.store import Decision, Entry, Key, Store


async def _filled(path: Path) -> None:
    store = Store(path)
    store.start()
    for name in ("a", "b"):

        def make(_before: Entry | None, name: str = name) -> Decision:
            return {"metadata": {"name": name, "namespace": "default"}, "data": {"k": "v"}}

        await store.mutate(Key("configmaps", "default", name), make)
    await store.stop()


def _damage(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(statement)


GARBAGE = [
    "UPDATE objects SET body = x'7b7d' WHERE name = 'a'",
    "UPDATE objects SET checksum = 1 WHERE name = 'a'",
    "UPDATE objects SET body = 5 WHERE name = 'a'",
]


@pytest.mark.parametrize("statement", GARBAGE)
async def test_a_damaged_object_is_named_and_taken_out(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "state.db"
    await _filled(path)
    _damage(path, statement)
    store = Store(path)
    with pytest.raises(CorruptState, match="configmaps default/a") as refused:
        store.start()
    assert "kaji doctor --repair" in refused.value.hint
    store.journal.stop()

    repaired = repair(path)
    assert [str(lost) for lost in repaired.lost] == ["configmaps default/a: it does not match its checksum"]
    assert repaired.copy is not None
    with closing(sqlite3.connect(repaired.copy)) as copy:
        assert copy.execute("SELECT count(*) FROM objects").fetchone() == (2,)

    mended = Store(path)
    mended.start()
    try:
        assert [entry.name for entry in mended.table("configmaps").scan()] == ["b"]
        # A watch from before the repair is told to list again.
        assert not mended.table("configmaps").history.covers(3)
    finally:
        await mended.stop()


async def test_state_in_order_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await _filled(path)
    before = path.read_bytes()
    assert repair(path).copy is None
    assert path.read_bytes() == before
    assert not any("damaged" in name for name in os.listdir(tmp_path))


async def test_state_in_use_is_not_repaired(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await _filled(path)
    lock = lock_state(path)
    try:
        with pytest.raises(UsageError, match="another API server has this state open"):
            repair(path)
    finally:
        os.close(lock)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"garbage" * 1_000)
    with pytest.raises(CorruptState, match="the state file itself is damaged"):
        repair(path)
    assert path.read_bytes() == b"garbage" * 1_000


async def test_damage_outside_of_objects_is_not_called_in_order(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await _filled(path)
    with closing(sqlite3.connect(path)) as database, database:
        (page,) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'audit'").fetchone()
        (size,) = database.execute("PRAGMA page_size").fetchone()
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"garbage!" * (size // 8))
    store = Store(path)
    with pytest.raises(CorruptState, match="damaged"):
        store.start()
    store.journal.stop()
    with pytest.raises(CorruptState, match="the state file itself is damaged"):
        repair(path)


async def test_the_command_says_what_was_lost(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "data" / "state.db"
    path.parent.mkdir()
    await _filled(path)
    _damage(path, GARBAGE[0])
    assert main(["doctor", "--repair", "--home", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    assert "state.db.damaged-" in said
    assert "lost configmaps default/a: it does not match its checksum" in said
    assert main(["doctor", "--repair", "--home", str(tmp_path)]) == 0
    assert "nothing to repair" in capsys.readouterr().out
