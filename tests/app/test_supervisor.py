"""The supervisor's children: their logs stay bounded while they write."""

from __future__ import annotations

from pathlib import Path

import pytest

from kajitori.app import supervisor
from kajitori.app.processes import Process
from kajitori.app.supervisor import Child, claim_free_slot, claim_slot


def test_a_log_that_grows_is_cut_under_its_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "LOG_BYTES", 100)
    path = tmp_path / "part.log"
    child = Child(Process("part", ("true",)), path)
    child.bound_log()  # none is there yet
    with path.open("ab", buffering=0) as writer:
        writer.write(b"x" * 101)
        child.bound_log()
        assert path.read_bytes() == b""
        writer.write(b"more")
        child.bound_log()
    assert path.read_bytes() == b"more"
    assert (tmp_path / "part.log.1").read_bytes() == b"x" * 101


def test_a_slot_is_held_once() -> None:
    slot, held = claim_free_slot(0)
    with held, pytest.raises(OSError, match="in use"):
        claim_slot(slot)
