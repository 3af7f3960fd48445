"""The store: what is committed stays, what fails changes nothing."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from tests.waiting import eventually

from kajitori.base.errors import UsageError
from kajitori.laptop.apiserver import history
from kajitori.laptop.apiserver.housekeeping import keep_memory_small
from kajitori.laptop.apiserver.journal import AuditRecord, CorruptState
from kajitori.laptop.apiserver.status import StatusError
from kajitori.laptop.apiserver.store import DECODED_BYTES_KEPT, Deleted, Entry, Key, Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from kajitori.laptop.apiserver.history import Event

KEY = Key("configmaps", "default", "a")


@asynccontextmanager
async def opened(path: Path) -> AsyncIterator[Store]:
    store = Store(path)
    store.start()
    try:
        yield store
    finally:
        await store.stop()


def _object(key: Key = KEY, **data: str) -> dict[str, Any]:
    return {"metadata": {"name": key.name, "namespace": key.namespace, "uid": "u"}, "data": data}


async def _put(store: Store, key: Key = KEY, **data: str) -> Entry:
    written = await store.mutate(key, lambda _before: _object(key, **data))
    assert written is not None
    return written.after


async def test_what_was_written_is_there_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with opened(path) as store:
        await _put(store, x="1")
        last = await _put(store, x="2")
        await _put(store, Key("configmaps", "default", "b"))
        gone = await store.mutate(
            Key("configmaps", "default", "b"), lambda before: Deleted(before.decode() if before else {})
        )
        assert gone is not None and gone.deleted
        version = store.version
    async with opened(path) as store:
        entry = store.get(*KEY)
        assert entry is not None
        assert (entry.body, entry.version) == (last.body, last.version)
        assert store.get("configmaps", "default", "b") is None
        assert store.version == version
        assert (await _put(store, x="3")).version == version + 1


async def test_a_watch_may_resume_over_a_restart_if_nothing_was_missed(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with opened(path) as store:
        before = (await _put(store)).version
        other = (await _put(store, Key("secrets", "default", "s"))).version
    async with opened(path) as store:
        assert store.table("configmaps").history.covers(before)
        assert not store.table("secrets").history.covers(before)
        assert store.table("secrets").history.covers(other)


async def test_racing_writes_to_one_object_see_each_other(tmp_path: Path) -> None:
    async with opened(tmp_path / "state.db") as store:
        await _put(store, count="0")

        def increment(before: Entry | None) -> dict[str, Any]:
            assert before is not None
            obj = before.decode()
            obj["data"]["count"] = str(int(obj["data"]["count"]) + 1)
            return obj

        await asyncio.gather(*(store.mutate(KEY, increment) for _ in range(100)))
        entry = store.get(*KEY)
        assert entry is not None and entry.peek()["data"]["count"] == "100"


async def test_listeners_hear_changes_in_the_order_of_versions(tmp_path: Path) -> None:
    async with opened(tmp_path / "state.db") as store:
        heard: list[int] = []

        def listen(_resource: str, event: Event) -> None:
            heard.append(event.version)

        store.listeners.append(listen)
        await asyncio.gather(*(_put(store, Key("configmaps", "default", f"n{n}")) for n in range(50)))
        assert len(heard) == 50 and heard == sorted(heard)


async def test_a_decision_that_refuses_or_changes_nothing_leaves_no_trace(tmp_path: Path) -> None:
    async with opened(tmp_path / "state.db") as store:
        first = await _put(store)

        def refuse(_before: Entry | None) -> None:
            raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            await store.mutate(KEY, refuse)
        same = await store.mutate(KEY, lambda _before: None)
        assert same is not None and same.after is first and not same.changed
        assert await store.mutate(Key("configmaps", "default", "absent"), lambda _before: None) is None


async def test_a_full_disk_refuses_writes_and_changes_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path / "state.db") as store:
        first = await _put(store, x="1")
        database: sqlite3.Connection = store.journal._database
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count = {pages}").fetchone()
        with pytest.raises(StatusError) as caught:
            await _put(store, x="y" * 1_000_000)
        assert caught.value.code == 507
        assert store.get(*KEY) is first
        assert len(store.table("configmaps").history) == 1
        database.execute("PRAGMA max_page_count = 1000000").fetchone()
        assert (await _put(store, x="2")).peek()["data"] == {"x": "2"}


async def test_old_changes_are_forgotten_also_where_nothing_changes_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(tmp_path / "state.db") as store:
        first = await _put(store, x="1")
        last = await _put(store, x="2")
        assert store.expire_history() == 0
        monkeypatch.setattr(history, "MAXIMUM_AGE_SECONDS", -1.0)
        housekeeping = asyncio.create_task(keep_memory_small(store, look_seconds=0.001))
        kept = store.table("configmaps").history
        await eventually(lambda: not len(kept), "what is old is forgotten")
        housekeeping.cancel()
        # Who knows the last change has missed nothing; who knows only the first has to list again.
        assert kept.covers(last.version) and not kept.covers(first.version)
        assert store.get(*KEY) is last


async def test_a_record_that_cannot_be_written_fails_alone(tmp_path: Path) -> None:
    async with opened(tmp_path / "state.db") as store:
        odd = AuditRecord("now", "a user \udcff", "agent", "create", "configmaps", "default", "a", "u")
        with pytest.raises(StatusError):
            await store.mutate(KEY, lambda _before: _object(), lambda _obj: odd)
        assert store.get(*KEY) is None
        await _put(store, x="1")


async def test_a_caller_that_leaves_does_not_undo_its_write(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    async with opened(path) as store:
        task = asyncio.create_task(_put(store, x="1"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    async with opened(path) as store:
        assert store.get(*KEY) is not None


@pytest.mark.parametrize(
    "damage",
    ["UPDATE objects SET body = x'7b7d'", "UPDATE objects SET checksum = 1", "UPDATE objects SET body = 5"],
)
async def test_a_damaged_row_is_named_and_nothing_starts(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "state.db"
    async with opened(path) as store:
        await _put(store)
    database = sqlite3.connect(path)
    database.execute(damage)
    database.commit()
    database.close()
    store = Store(path)
    with pytest.raises(CorruptState, match="configmaps default/a does not match its checksum"):
        store.start()
    await store.stop()


async def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"no database at all" * 1_000)
    with pytest.raises(CorruptState, match=str(path)):
        Store(path)


async def test_two_servers_do_not_share_a_home(tmp_path: Path) -> None:
    async with opened(tmp_path / "state.db"):
        with pytest.raises(UsageError, match="another API server"):
            Store(tmp_path / "state.db")


async def test_the_audit_ring_keeps_the_latest_and_finds_them_by_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kajitori.laptop.apiserver.journal.AUDIT_ROWS", 10)

    def audited(key: Key) -> AuditRecord:
        return AuditRecord("t", "jane", "kubectl", "update", key.resource, key.namespace, key.name, "u")

    path = tmp_path / "state.db"
    async with opened(path) as store:
        for n in range(25):
            key = Key("deployments.apps", "default", f"n{n % 2}")
            await store.mutate(
                key, lambda _before, key=key, n=n: _object(key, n=str(n)), lambda _obj, key=key: audited(key)
            )
    async with opened(path) as store:
        key = Key("deployments.apps", "default", "n1")
        await store.mutate(key, lambda _before: _object(key, n="x"), lambda _obj: audited(key))
        assert len(await asyncio.to_thread(store.journal.audit)) == 10
        found = await asyncio.to_thread(store.journal.audit, "deployments", "default", "n1")
        assert len(found) == 5 and {record.name for record in found} == {"n1"}


def test_an_object_that_was_let_go_of_is_there_when_it_is_looked_at_again() -> None:
    """Its former place among what is kept comes up at the very moment at which it gets another one."""
    body = b'{"metadata":{"name":"a"},"data":"' + b"x" * (DECODED_BYTES_KEPT * 2 // 3) + b'"}'
    entry = Entry("default", "a", 1, body)
    for _ in range(3):
        assert entry.peek()["metadata"] == {"name": "a"}
        entry.forget()
