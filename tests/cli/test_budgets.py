"""`kaji budgets`: how limits stand, read beside the process that counts."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest
from tests.gateway.limits.making import ended, policy, request

from kajitori.base.clock import SystemClock
from kajitori.cli import main
from kajitori.gateway.accounting.accountant_policy import Price
from kajitori.gateway.limits.engine import Engine
from kajitori.gateway.limits.limit import Limit, Selector, Window
from kajitori.gateway.limits.memory_store import MemoryStore

DAY = Window("Calendar", unit="Day")
POLICY = policy(
    Limit("Budget team/money", "usd", 1.0, DAY, (Selector("header:x-team", "Distinct"),)),
    Limit("Budget team/tokens", "tokens", 100_000, DAY),
    prices=(Price("gpt", input_usd=1000, output_usd=1000),),
)


def spend(home: Path) -> None:
    (home / "policy.msgpack").write_bytes(msgspec.msgpack.encode(POLICY))

    async def run() -> None:
        engine = Engine(MemoryStore(home / "limits.journal"), SystemClock())
        engine.configure(POLICY)
        for team in ("red", "blue"):
            assert (await engine.admit(request(team, 100, 50, headers={"x-team": team}))).allowed
        await engine.settle([ended("red", 100, 20)])

    asyncio.run(run())


def test_each_value_that_is_counted_apart_has_a_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spend(tmp_path)
    assert main(["budgets", "--home", str(tmp_path)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[1][:6] == ["Budget", "team/money", "blue", "$0.15", "$0.85", "$1.00"]
    assert lines[2][:6] == ["Budget", "team/money", "red", "$0.12", "$0.88", "$1.00"]
    assert lines[3][:7] == ["Budget", "team/tokens", "-", "270", "99,730", "100,000", "tokens"]


def test_a_name_chooses_limits_and_one_that_nobody_has_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spend(tmp_path)
    assert main(["budgets", "tokens", "--home", str(tmp_path)]) == 0
    assert "money" not in capsys.readouterr().out
    assert main(["budgets", "nobody", "--home", str(tmp_path)]) == 1
    assert "no limit has 'nobody' in its name" in capsys.readouterr().err


def test_a_home_without_a_gateway_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["budgets", "--home", str(tmp_path)]) == 1
    assert "no gateway has kept a policy" in capsys.readouterr().err
