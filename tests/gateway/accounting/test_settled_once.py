"""Each line is settled once and recorded once, whenever the accountant is killed, and whether or not its records can be written."""

from __future__ import annotations

import asyncio
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.gateway.accountant import settlement
from kajitori.gateway.accounting import log_reader, record_store
from kajitori.gateway.accounting.ledger import Ledger
from kajitori.gateway.accounting.log_reader import LogReader
from kajitori.gateway.accounting.metrics import GatewayMetrics
from kajitori.gateway.accounting.record_reading import read_position, read_recent
from kajitori.gateway.accounting.record_store import RecordStore
from kajitori.gateway.accounting.records import FILE_NAME, LogPosition, RequestRecord
from kajitori.gateway.limits import journal
from kajitori.gateway.limits.engine import Engine
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.redis_store import RedisStore
from tests.gateway.accounting.test_log_reader import Envoy
from tests.gateway.limits.making import (
    ROUTE,
    ManualClock,
    RedisServer,
    counted,
    limit,
    policy,
    running_redis,
)
from tests.gateway.limits.making import request as asked
from tests.gateway.test_ledger import attempt, request
from tests.waiting import eventually

SOFT, STRICT = "Budget default/soft", "Budget default/strict"
LIMITS = policy(
    limit(SOFT, 10**6, "requests", strict=False),
    limit(STRICT, 10**6, "requests"),
)
BEGAN = 1_800_000_000.0


def line(id: str, **fields: str) -> str:
    return request(
        id=id,
        route=f"ai/{ROUTE}/rule/0/match/0",
        time=f"{BEGAN}",
        cluster="one",
        usage="1,1,2,0,0,0",
        **fields,
    )


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis")) as server:
        yield server


class Accountant:
    """A reader, its records and its limits, as of one process. keeps: whether records come to the disk."""

    def __init__(self, folder: Path, envoy: Envoy, rotate_bytes: int = 1 << 30, redis: str = "") -> None:
        self.folder = folder
        self.records = RecordStore(folder / FILE_NAME)
        self.keeps, self.waiting = True, list[tuple[list[RequestRecord], LogPosition | None]]()
        self.write, self.records.write = self.records.write, self._write  # type: ignore[method-assign]
        self.limits = (
            RedisStore(redis, prefix=folder.name, timeout_seconds=30.0)
            if redis
            else MemoryStore(folder / "journal")
        )
        self.engine = Engine(self.limits, ManualClock(BEGAN), used_up=folder / "used-up")
        self.engine.configure(LIMITS)
        self.ledger = Ledger(self.records, GatewayMetrics())
        self.reader = LogReader(
            envoy.path,
            self.ledger,
            self.records,
            read_position(folder / FILE_NAME),
            envoy.reopen,
            self._settle,
            settled=self.engine.position,
            kept=lambda: self.engine.is_kept,
            awaited=lambda: True,
            rotate_bytes=rotate_bytes,
        )

    def _write(self, records: list[RequestRecord], position: LogPosition | None = None) -> None:
        self.waiting.append((records, position))

    async def _settle(self, records: list[RequestRecord], position: bytes) -> None:
        await self.engine.settle([settlement(record) for record in records], position)

    async def save(self) -> None:
        for waiting in self.waiting:
            self.write(*waiting)
        self.waiting.clear()
        await eventually(lambda: not self.records.backlog)

    async def read(self) -> None:
        while await self.reader._step():
            pass

    async def kill(self) -> None:
        """What was not saved is gone."""
        self.reader.close()
        self.records.close()
        if isinstance(self.limits, RedisStore):
            await self.limits.close()

    def recorded(self) -> Counter[str]:
        return Counter(record.id for record in read_recent(self.folder, 10_000))

    async def counts(self) -> list[int]:
        return await counted(self.limits, [(SOFT, 0), (STRICT, 0)])


STEPS = st.lists(
    st.sampled_from(["ask", "pass", "attempt", "read", "save", "kill", "behind", "caught up"]), max_size=30
)


async def play(
    folder: Path, patch: pytest.MonkeyPatch, steps: list[str], rotate_bytes: int, redis: str = ""
) -> None:
    patch.setattr(record_store, "_FLUSH_SECONDS", 0.0)
    patch.setattr(RecordStore, "backlog", property(lambda store: max(behind, store._taken - store._written)))
    behind = 0
    envoy = Envoy(folder / "access.log")
    accountant = Accountant(folder, envoy, rotate_bytes, redis)
    ids: list[str] = []
    for step in [*steps, "caught up", "read", "save", "read"]:
        id = f"{len(ids)}"
        if step == "ask":
            assert (await accountant.engine.admit(asked(id))).allowed
        if step in ("ask", "pass"):
            envoy.write(line(id))
            ids.append(id)
        elif step == "attempt":
            envoy.write(attempt(id=id), line(id, attempts="2"))
            ids.append(id)
        elif step == "read":
            await accountant.read()
        elif step == "save" and not behind:
            await accountant.read()
            await accountant.save()
        elif step == "kill":
            await accountant.kill()
            accountant = Accountant(folder, envoy, rotate_bytes, redis)
            accountant.records.fails = behind > 0
        elif step in ("behind", "caught up"):
            behind = 100_000 if step == "behind" else 0
            accountant.records.fails = behind > 0
    counts, recorded = await accountant.counts(), accountant.recorded()
    await accountant.kill()
    envoy.file.close()
    assert counts == [len(ids), len(ids)]
    assert recorded == Counter(ids)


@given(STEPS, st.sampled_from([1 << 30, 700]))
@settings(max_examples=40, deadline=None)
def test_whenever_it_is_killed_each_request_is_counted_once_and_recorded_once(
    steps: list[str], rotate_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        asyncio.run(play(Path(folder), patch, steps, rotate_bytes))


@given(steps=STEPS)
@settings(max_examples=10, deadline=None)
def test_the_same_holds_where_counts_are_in_redis(redis: RedisServer, steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        asyncio.run(play(Path(folder), patch, steps, 700, redis.url))


async def test_while_records_cannot_be_written_requests_are_settled_and_recorded_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True
    insert = record_store._insert

    def refusing(*arguments: object) -> None:
        if full:
            raise sqlite3.OperationalError("database or disk is full")
        insert(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(record_store, "_insert", refusing)
    monkeypatch.setattr(record_store, "_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(record_store, "_FLUSH_SECONDS", 0.05)
    monkeypatch.setattr(log_reader, "_MOST_BACKLOG", 10)
    monkeypatch.setattr(log_reader, "_POLL_SECONDS", 0.05)
    monkeypatch.setattr(log_reader, "_TURN_SECONDS", 0.02)
    envoy = Envoy(tmp_path / "access.log")
    accountant = Accountant(tmp_path, envoy, rotate_bytes=3_000)
    accountant.records.write = accountant.write  # type: ignore[method-assign]
    running = asyncio.create_task(accountant.reader.run())
    for number in range(100):
        assert (await accountant.engine.admit(asked(f"{number}"))).allowed
        envoy.write(attempt(id=f"{number}"), line(f"{number}", attempts="2"))
        if number % 10 == 9:
            await eventually(lambda: not accountant.engine._open)  # settled
    assert await accountant.counts() == [100, 100]
    assert accountant.recorded() == Counter()
    assert accountant.reader.later_records + accountant.records.backlog == 100
    assert accountant.reader.later_records >= 80
    full = False
    await eventually(lambda: len(accountant.recorded()) == 100, what=lambda: accountant.recorded())
    await eventually(lambda: not accountant.records.backlog and not accountant.reader.later_records)
    envoy.write(line("last"))
    await eventually(lambda: accountant.recorded()["last"])
    assert set(accountant.recorded().values()) == {1}
    assert all(len(each.attempts) == 2 for each in read_recent(tmp_path, 200) if each.id != "last")
    accountant.reader.stop()
    await running
    await accountant.kill()
    envoy.file.close()


@pytest.mark.parametrize("killed", [True, False])
@pytest.mark.parametrize("pieces", [1, 3])
async def test_what_is_settled_while_the_journal_cannot_be_written_is_settled_after_kill_9_and_recorded_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed: bool, pieces: int
) -> None:
    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(record_store, "_FLUSH_SECONDS", 0.0)
    envoy = Envoy(tmp_path / "access.log")
    accountant = Accountant(tmp_path, envoy, rotate_bytes=1_500)
    for number in range(5):
        assert (await accountant.engine.admit(asked(f"{number}"))).allowed
    envoy.write(line("0"))
    await accountant.read()
    await accountant.save()
    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "write", full)
        for piece in range(pieces):
            envoy.write(
                attempt(id=f"{1 + piece}"), line(f"{1 + piece}", attempts="2"), line(f"passed {piece}")
            )
            await accountant.read()
            await accountant.save()
        assert await accountant.counts() == [5 + pieces] * 2
        assert accountant.recorded() == Counter(["0"])
        assert accountant.reader.later_records == 2 * pieces
        if killed:
            await accountant.kill()
    if killed:
        accountant = Accountant(tmp_path, envoy, rotate_bytes=1_500)
    else:
        await accountant.engine.sweep()  # as it does every ten seconds
    envoy.write(line("4"))
    for _ in range(2):
        await accountant.read()
        await accountant.save()
    assert await accountant.counts() == [5 + pieces] * 2
    expected = [str(number) for number in (0, 4, *range(1, 1 + pieces))]
    assert accountant.recorded() == Counter([*expected, *(f"passed {piece}" for piece in range(pieces))])
    tried = {each.id: len(each.attempts) for each in read_recent(tmp_path, 100)}
    assert all(tried[f"{1 + piece}"] == 2 for piece in range(pieces))
    await accountant.kill()
    envoy.file.close()
    ended = MemoryStore.read(tmp_path / "journal")
    assert len(ended._open) == 3 - pieces
    assert await counted(ended, [(SOFT, 0), (STRICT, 0)]) == [5 + pieces] * 2
