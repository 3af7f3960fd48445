"""The journal of counts: what survives `kill -9`, a torn tail, a full disk, and being written anew."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kajitori.gateway.limits.decision import Taken
from kajitori.gateway.limits.journal import Journal
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.store import Receipt, StoreLost
from tests.gateway.limits.making import counted, hold

NOW = 1_800_000_000.0
LATER = int(NOW) + 10**6


async def reserve(store: MemoryStore, id: str, amount: int, counter: str = "c", slot: int = 1) -> bool:
    one = hold(counter, amount, capacity=10**9, slot=slot, oldest=0, keep=0, forget=LATER)
    return (await store.reserve(id, "", [one], [-1], [], now=NOW, expires=NOW + 600)).allowed


def records(path: Path) -> list[object]:
    journal = Journal(path)
    try:
        return list(journal.replay())
    finally:
        journal.close()


def written(path: Path, *items: object) -> None:
    journal = Journal(path)
    list(journal.replay())
    for item in items:
        journal.append(item)
    journal.close()


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_tail_that_was_torn_at_any_byte_costs_that_record_alone(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    path = tmp_path_factory.mktemp("torn") / "journal"
    written(path, ["one", 1], ["two", "x" * 30])
    before = len(path.read_bytes())
    written(path, ["three", list(range(10))])
    data = path.read_bytes()
    kept = before + cut % (len(data) - before)
    path.write_bytes(data[:kept])
    assert records(path) == [["one", 1], ["two", "x" * 30]]
    written(path, ["four"])
    assert records(path) == [["one", 1], ["two", "x" * 30], ["four"]]


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_no_file_whatsoever_keeps_a_gateway_from_starting(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("odd") / "journal"
    path.write_bytes(data)
    store = MemoryStore(path)
    assert asyncio.run(reserve(store, "a", 5))
    asyncio.run(store.close())
    again = MemoryStore(path)
    assert asyncio.run(counted(again, [("c", 1)])) == [5]
    asyncio.run(again.close())


def test_a_file_of_something_else_is_kept_aside(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b"this is no journal at all, it is a text")
    MemoryStore(path)
    assert (tmp_path / "journal.unreadable").read_bytes().startswith(b"this is no journal")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["reserve", "settle", "book", "sweep", "compact"]),
        st.integers(0, 9),
        st.integers(0, 5),
    ),
    max_size=40,
)


def _open(store: MemoryStore) -> dict[tuple[str, int], int]:
    return {
        (name, slot): amount
        for name, each in store._counters.items()
        for slot, amount in each.open.items()
        if amount
    }


@given(STEPS)
@settings(max_examples=100, deadline=None)
def test_a_store_that_is_read_again_is_the_same_whatever_was_done(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]]
) -> None:
    path = tmp_path_factory.mktemp("same") / "journal"

    async def play() -> None:
        store = MemoryStore(path)
        now = NOW
        for number, (step, first, second) in enumerate(steps):
            if step == "reserve":
                await reserve(store, str(number), first, f"c{second % 2}", second)
            elif step == "settle":
                await store.settle(str(first), [second], now=now)
            elif step == "book":
                await store.book([Taken("c0", second, first, LATER)], now=now)
            elif step == "sweep":
                now += 300 * first
                await store.sweep(now)
            else:
                assert store._journal is not None
                await store._compact(store._journal)
        places = [(f"c{counter}", slot) for counter in range(2) for slot in range(6)]
        expected = await counted(store, places), {id: await store.find(id) for id in map(str, range(40))}
        again = MemoryStore(path)
        assert (
            await counted(again, places),
            {id: await again.find(id) for id in map(str, range(40))},
        ) == expected
        assert _open(again) == _open(store)
        await store.close()
        await again.close()

    asyncio.run(play())


async def test_the_journal_is_written_anew_when_it_has_grown(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    store = MemoryStore(path, compact_bytes=4096)
    for number in range(500):
        await reserve(store, str(number), 2)
        await store.settle(str(number), [1], now=NOW)
    large = path.stat().st_size
    await store.sweep(NOW)
    assert path.stat().st_size < 300 < 4096 < large
    await reserve(store, "open", 7)
    again = MemoryStore(path)
    assert await counted(again, [("c", 1)]) == [507]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_a_disk_that_is_full_is_a_store_that_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = MemoryStore(tmp_path / "journal")
    await reserve(store, "a", 1)

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(StoreLost):
            await reserve(store, "b", 1)
    assert await counted(store, [("c", 1)]) == [1]
    assert await reserve(store, "c", 1)
    assert await counted(MemoryStore(tmp_path / "journal"), [("c", 1)]) == [2]


_CHILD = """
import asyncio, sys
from pathlib import Path
from kajitori.gateway.limits.memory_store import MemoryStore
from tests.gateway.limits.test_journal import reserve

async def run():
    store = MemoryStore(Path(sys.argv[1]), compact_bytes=20_000)
    number = 0
    while True:
        assert await reserve(store, str(number), 3)
        if number % 2:
            await store.settle(str(number), [1], now=0)
        number += 1
        print(number, flush=True)
        if number % 50 == 0:
            await store.sweep(0)

asyncio.run(run())
"""


def test_what_passed_before_kill_9_is_counted_after_it(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    child = subprocess.Popen([sys.executable, "-c", _CHILD, str(path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for line in child.stdout:
        if int(line) >= 1000:
            break
    child.send_signal(signal.SIGKILL)
    told = [int(line) for line in child.stdout.read().split()]
    child.wait()
    child.stdout.close()
    last = max(told, default=1000)
    used = asyncio.run(counted(MemoryStore(path), [("c", 1)]))[0]
    # The last one or two steps may have been done without being told.
    assert last // 2 * 4 <= used <= last // 2 * 4 + 8


async def test_what_is_written_while_the_journal_is_written_anew_is_in_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    store = MemoryStore(path)
    for number in range(20):
        await reserve(store, str(number), 5)
        await store.settle(str(number), [1], now=NOW)
    assert store._journal is not None
    before = path.stat().st_ino
    anew = asyncio.create_task(store._compact(store._journal))
    number = 20
    while not anew.done():
        await reserve(store, str(number), 5)
        number += 1
        await asyncio.sleep(0)
    await anew
    assert path.stat().st_ino != before
    await reserve(store, str(number), 5)
    again = MemoryStore(path)
    assert await counted(again, [("c", 1)]) == await counted(store, [("c", 1)])
    assert {name: await again.find(name) for name in map(str, range(number + 1))} == {
        name: await store.find(name) for name in map(str, range(number + 1))
    }
    await store.close()
    await again.close()


async def test_settlements_that_are_written_together_are_all_there(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    store = MemoryStore(path)
    for number in range(10):
        await reserve(store, str(number), 5)
    with store.together():
        before = path.stat().st_size
        for number in range(9):
            await store.settle(str(number), [2], now=NOW)
        assert path.stat().st_size == before
        await reserve(store, "last", 5)  # what is answered is written, and what came before it
        assert await counted(MemoryStore.read(path), [("c", 1)]) == [9 * 2 + 10]
        await store.settle("9", [2], now=NOW)
    assert await counted(MemoryStore.read(path), [("c", 1)]) == [10 * 2 + 5]
    await store.close()


async def test_what_ends_while_the_disk_is_full_is_counted_in_bounded_memory_and_written_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kajitori.gateway.limits import journal

    monkeypatch.setattr(journal, "_MOST_HELD_BYTES", 2_000)
    path = tmp_path / "journal"
    store = MemoryStore(path)
    for number in range(50):
        await reserve(store, str(number), 5)

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        patch.setattr(journal, "_write_whole", full)
        for number in range(50):
            with pytest.raises(StoreLost), store.together():
                await store.settle(str(number), [1], now=NOW)
            await store.book(
                [Taken("c", 1, 2, 10**10)], now=NOW, receipt=Receipt("me", str(number), b"%d" % number)
            )
        with pytest.raises(StoreLost):
            await store.sweep(NOW)
        assert await counted(store, [("c", 1)]) == [50 * 3]
        assert store._journal is not None and len(store._journal._held) <= 2_000
        assert await counted(MemoryStore.read(path), [("c", 1)]) == [50 * 5]
    await store.sweep(NOW)
    again = MemoryStore.read(path)
    assert await counted(again, [("c", 1)]) == [50 * 3]
    assert await again.position("me") == b"49"
    assert await reserve(store, "later", 5)
    await store.close()


async def test_what_ends_while_a_journal_that_let_go_of_endings_is_written_anew_is_in_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kajitori.gateway.limits import journal

    monkeypatch.setattr(journal, "_MOST_HELD_BYTES", 100)
    path = tmp_path / "journal"
    store = MemoryStore(path)
    for number in range(20):
        await reserve(store, str(number), 5)

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        for number in range(10):
            with pytest.raises(StoreLost), store.together():
                await store.settle(str(number), [1], now=NOW)
    assert store._journal is not None and store._journal.overdue
    anew = asyncio.create_task(store._compact(store._journal))
    await asyncio.sleep(0)
    assert not anew.done()
    with pytest.raises(StoreLost), store.together():
        await store.settle("10", [1], now=NOW)
        await store.book([Taken("c", 1, 2, 10**10)], now=NOW, receipt=Receipt("me", "1", b"here"))
    await anew
    again = MemoryStore.read(path)
    assert await counted(again, [("c", 1)]) == await counted(store, [("c", 1)]) == [11 + 9 * 5 + 2]
    assert await again.find("10") is None
    assert await again.position("me") == b"here"
    await store.close()


async def test_a_journal_without_receipts_of_a_version_before_is_read_and_gone_on_with(
    tmp_path: Path,
) -> None:
    path = tmp_path / "journal"
    reserved = ["r", "a", "note", NOW + 600, [["c", 1, 10, LATER, 0]]]
    written(path, ["c", "c", [[1, 4]], LATER], reserved, ["r", "b", *reserved[2:]], ["s", "b", [3]])
    written(path, ["b", [["c", 1, 7, LATER, 0]]], ["g", "unknown"], ["f", "unknown"])
    store = MemoryStore(path)
    assert await counted(store, [("c", 1)]) == [4 + 10 + 3 + 7]
    assert await store.position("me") == b""
    assert await store.settle("a", [1], now=NOW)
    await store.book([Taken("c", 1, 2, LATER)], now=NOW, receipt=Receipt("me", "1", b"here"))
    again = MemoryStore.read(path)
    assert await counted(again, [("c", 1)]) == [4 + 1 + 3 + 7 + 2]
    assert await again.position("me") == b"here"
    await store.close()
