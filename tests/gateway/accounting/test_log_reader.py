"""Following a log that grows, is cut, renamed and replaced: each line is booked once."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.gateway.accounting import file_watch, log_reader
from kajitori.gateway.accounting.ledger import Ledger
from kajitori.gateway.accounting.log_reader import LogReader
from kajitori.gateway.accounting.metrics import GatewayMetrics
from kajitori.gateway.accounting.record_reading import read_position, read_recent
from kajitori.gateway.accounting.record_store import RecordStore
from kajitori.gateway.accounting.records import FILE_NAME, RequestRecord
from tests.gateway.test_ledger import attempt, request
from tests.waiting import eventually


class Envoy:
    """Writes a log as Envoy does: opened once, appended to, opened anew when told."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.file = path.open("ab")
        self.reachable = True
        self.told = 0

    def write(self, *lines: str) -> None:
        self.file.write("".join(f"{line}\n" for line in lines).encode())
        self.file.flush()

    async def reopen(self) -> None:
        self.told += 1
        if not self.reachable:
            raise OSError("nobody listens")
        self.file.close()
        self.file = self.path.open("ab")


class Accountant:
    """A reader with its store, as of one process."""

    def __init__(self, folder: Path, envoy: Envoy, *, rotate_bytes: int = 1 << 30) -> None:
        self.folder = folder
        self.store = RecordStore(folder / FILE_NAME)
        self.ledger = Ledger(self.store, GatewayMetrics())
        self.settled: list[str] = []
        self.awaited = False
        self.reader = LogReader(
            envoy.path,
            self.ledger,
            self.store,
            read_position(folder / FILE_NAME),
            envoy.reopen,
            self._settle,
            awaited=lambda: self.awaited,
            rotate_bytes=rotate_bytes,
        )

    async def _settle(self, records: list[RequestRecord], position: bytes) -> None:
        self.settled += [record.id for record in records]

    def booked(self) -> list[str]:
        return sorted(record.id for record in read_recent(self.folder, 10_000))

    async def has(self, *ids: str) -> None:
        await eventually(lambda: self.booked() == sorted(ids), what=lambda: f"{ids} of {self.booked()}")


@contextlib.asynccontextmanager
async def running(folder: Path, envoy: Envoy, *, rotate_bytes: int = 1 << 30) -> AsyncIterator[Accountant]:
    found = Accountant(folder, envoy, rotate_bytes=rotate_bytes)
    task = asyncio.create_task(found.reader.run())
    try:
        yield found
    finally:
        found.reader.stop()
        await task
        found.store.close()


@pytest.fixture
def envoy(tmp_path: Path) -> Iterator[Envoy]:
    found = Envoy(tmp_path / "access.log")
    yield found
    found.file.close()


async def test_lines_are_booked_as_they_come_and_a_line_that_is_being_written_waits(
    tmp_path: Path, envoy: Envoy
) -> None:
    async with running(tmp_path, envoy) as accountant:
        envoy.write(request(id="a"))
        await accountant.has("a")
        line = request(id="b")
        envoy.file.write(line[:30].encode())
        envoy.file.flush()
        envoy.write(line[30:], request(id="c"))
        await accountant.has("a", "b", "c")
        assert accountant.settled == ["a", "b", "c"] and accountant.reader.behind_bytes == 0
        assert envoy.path.stat().st_mode & 0o077 == 0


async def test_what_was_written_while_nobody_read_is_booked_once(tmp_path: Path, envoy: Envoy) -> None:
    envoy.write(request(id="a"), attempt(id="b"))
    async with running(tmp_path, envoy) as accountant:
        await accountant.has("a")
        await eventually(
            lambda: read_position(tmp_path / FILE_NAME).offset == envoy.path.stat().st_size,
        )
    envoy.write(request(id="b", attempts="2"), request(id="c"))
    async with running(tmp_path, envoy) as accountant:
        await accountant.has("a", "b", "c")
        (record,) = (each for each in read_recent(tmp_path) if each.id == "b")
        assert [each.status for each in record.attempts] == [503, 200]


async def test_a_process_that_died_before_it_saved_reads_those_lines_again(
    tmp_path: Path, envoy: Envoy
) -> None:
    envoy.write(*(request(id=f"{number}") for number in range(500)))
    killed = Accountant(tmp_path, envoy)
    killed.store.write = lambda records, position=None: None  # type: ignore[method-assign]
    await killed.reader._step()
    assert killed.reader.behind_bytes == 0  # it had read them all
    killed.reader.close()
    killed.store.close()
    async with running(tmp_path, envoy) as accountant:
        await accountant.has(*(f"{number}" for number in range(500)))


async def test_a_log_that_has_grown_is_renamed_read_to_its_end_and_deleted(
    tmp_path: Path, envoy: Envoy
) -> None:
    old = tmp_path / "access.log.1"
    async with running(tmp_path, envoy, rotate_bytes=1000) as accountant:
        envoy.reachable = False
        envoy.write(*(request(id=f"{number}") for number in range(10)))
        await eventually(lambda: envoy.told and old.exists())
        envoy.write(request(id="late"))  # into the renamed file, which Envoy still has open
        await accountant.has("late", *(f"{number}" for number in range(10)))
        assert old.exists()
        envoy.reachable = True
        await envoy.reopen()
        envoy.write(request(id="new"))
        await eventually(lambda: not old.exists())
        await accountant.has("late", "new", *(f"{number}" for number in range(10)))
    assert read_position(tmp_path / FILE_NAME).inode == envoy.path.stat().st_ino


async def test_a_process_that_died_while_it_rotated_finishes_the_old_file_first(
    tmp_path: Path, envoy: Envoy
) -> None:
    async with running(tmp_path, envoy) as accountant:
        envoy.write(request(id="a"))
        await accountant.has("a")
    envoy.write(request(id="b"))
    envoy.path.rename(tmp_path / "access.log.1")
    await envoy.reopen()
    envoy.write(request(id="c"))
    async with running(tmp_path, envoy) as accountant:
        await accountant.has("a", "b", "c")
        await eventually(lambda: not (tmp_path / "access.log.1").exists())


async def test_a_log_that_somebody_cut_or_replaced_is_read_from_its_start(
    tmp_path: Path, envoy: Envoy, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, envoy) as accountant:
        envoy.write(request(id="a"), request(id="b"))
        await accountant.has("a", "b")
        os.truncate(envoy.path, 0)
        await eventually(lambda: "cut short by somebody" in caplog.text)
        envoy.write(request(id="c"))
        await accountant.has("a", "b", "c")
        envoy.path.unlink()
        await envoy.reopen()
        envoy.write(request(id="d"))
        await accountant.has("a", "b", "c", "d")
        assert "replaced by somebody" in caplog.text


async def test_garbage_is_skipped_and_counted(tmp_path: Path, envoy: Envoy) -> None:
    async with running(tmp_path, envoy) as accountant:
        envoy.file.write(request(id="cut")[:50].encode())  # Envoy was killed, and begins anew
        envoy.write(request(id="a"))
        envoy.file.write(b"\x00" * 200_000 + b"\n\xff\xfe\n")
        envoy.write(request(id="b"), "not a line")
        await accountant.has("a", "b")
        await eventually(lambda: accountant.ledger.unreadable_lines >= 3)


async def test_while_records_cannot_be_written_they_wait_and_none_is_lost(
    tmp_path: Path, envoy: Envoy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from kajitori.gateway.accounting import record_store

    full = True
    insert = record_store._insert

    def refusing(*arguments: object) -> None:
        if full:
            raise sqlite3.OperationalError("database or disk is full")
        insert(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(record_store, "_insert", refusing)
    monkeypatch.setattr(record_store, "_RETRY_SECONDS", 0.05)
    async with running(tmp_path, envoy) as accountant:
        envoy.write(request(id="a"))
        await eventually(lambda: "cannot be written" in caplog.text)
        envoy.write(request(id="b"))
        await eventually(lambda: accountant.settled == ["a", "b"])
        assert accountant.booked() == [] and accountant.store.backlog == 2
        full = False
        await accountant.has("a", "b")
        await eventually(lambda: accountant.store.backlog == 0)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.lists(st.booleans(), min_size=6, max_size=6))
@settings(max_examples=15, deadline=None)
def test_however_often_a_process_is_replaced_each_line_is_booked_once(
    batches: list[int], replaced: list[bool]
) -> None:
    async def play(folder: Path) -> None:
        envoy = Envoy(folder / "access.log")
        accountant = Accountant(folder, envoy)
        number = 0
        for count, again in zip(batches, replaced, strict=False):
            envoy.write(*(request(id=f"{number + step}") for step in range(count)))
            number += count
            while await accountant.reader._step():
                pass
            if again:
                accountant.reader.close()
                accountant.store.close()
                accountant = Accountant(folder, envoy)
        accountant.reader.close()
        accountant.store.close()
        envoy.file.close()
        assert accountant.booked() == sorted(str(each) for each in range(number))

    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(play(Path(folder)))


async def test_whoever_waits_for_an_end_is_told_of_it_when_the_line_comes(
    tmp_path: Path, envoy: Envoy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_reader, "_TURNS", 10**6)  # else it rests until it is awaited
    monkeypatch.setattr(log_reader, "_LONGEST_REST_SECONDS", 10**6)
    async with running(tmp_path, envoy) as accountant:
        envoy.write(request(id="a"))
        await accountant.has("a")
        envoy.write(request(id="b"))
        accountant.awaited = True
        await accountant.has("a", "b")
        envoy.write(request(id="c"))
        await accountant.has("a", "b", "c")


async def test_a_file_of_which_the_system_does_not_tell_is_looked_at(
    tmp_path: Path, envoy: Envoy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_watch, "_watch", lambda descriptor: -1)
    async with running(tmp_path, envoy) as accountant:
        for name in ("a", "b", "c"):
            envoy.write(request(id=name))
            await accountant.has(*"abc"[: ord(name) - ord("a") + 1])
