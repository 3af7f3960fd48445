"""Questions that come at once share a write to the journal, and none of them is answered before it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from kajitori.gateway.limits.memory_store import MemoryStore
from tests.gateway.limits.making import counted, engine, limit, policy, request

BUDGET = "Budget default/all"


def reserved(path: Path) -> int:
    """What a process would know of that began now."""
    return len(MemoryStore.read(path)._open)


async def test_what_is_reserved_together_is_written_once_and_before_it_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    made, _ = engine(limit(amount=10), store=MemoryStore(path))
    writes: list[int] = []
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: writes.append(len(data)) or write(file, data))
    with made.together():
        passed = [made.admit_at_once(request(f"r{number}")) for number in range(6)]
        assert [verdict.allowed for verdict in passed if verdict] == [True] * 5 + [False]
        assert reserved(path) == 0
    assert (reserved(path), len(writes)) == (5, 1)
    made.admit_at_once(request("alone", 0, 0))
    assert len(writes) == 1  # nothing is left
    await made.close()


async def test_what_cannot_be_written_is_counted_and_passes_unless_a_limit_refuses_then(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "journal"
    made, _ = engine(limit(amount=4), store=MemoryStore(path))
    store = made._store

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with made.together():
            verdicts = [made.admit_at_once(request(f"r{number}")) for number in range(3)]
        assert [verdict.allowed for verdict in verdicts if verdict] == [True, True, False]
        assert made.counts.store_failures == 1 and made.counts.passed_without_store == 0
        made.configure(policy(limit("Budget default/strict", deny_without_store=True), limit(amount=100)))
        with made.together():
            refused = made.admit_at_once(request("strict", 0, 0))
        assert refused is not None and refused.status == 503
    assert await counted(store, [(BUDGET, 0)]) == [4]
    await made.sweep()
    assert reserved(path) == 2
    await made.close()


async def test_limits_of_one_route_that_differ_are_each_asked_as_ever_within(tmp_path: Path) -> None:
    made, _ = engine(
        limit(amount=2), limit("Budget default/other", amount=100), store=MemoryStore(tmp_path / "journal")
    )
    with made.together():
        first, second = made.admit_at_once(request("a")), made.admit_at_once(request("b"))
    assert first is not None and first.allowed
    assert second is not None and (second.allowed, second.limit) == (False, BUDGET)
    assert (await counted(made._store, [("Budget default/other", 0)])) == [2]
    assert made.knows("a") and not made.knows("b")
    await made.close()
