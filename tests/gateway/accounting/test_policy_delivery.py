"""How the accountant comes by its policy: a stream, the latest state at once, a file for bad times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from kajitori.gateway.accounting.accountant_policy import (
    AccountantPolicy,
    BackendFacts,
    CostRule,
    KeyFacts,
    Price,
    RouteFacts,
)
from kajitori.gateway.accounting.policy_decoding import read_policy
from kajitori.gateway.accounting.policy_delivery import FILE_NAME, PolicyFollower, PolicyServer, local_channel
from kajitori.gateway.envoy.ads import AdsServer
from kajitori.gateway.envoy.encode import Encoder
from kajitori.gateway.envoy.schema import schema
from kajitori.gateway.envoy.server import ControlPlane
from kajitori.gateway.envoy.xds import Snapshot
from kajitori.gateway.limits.limit import Limit, Selector, Window
from kajitori.gateway.limits.matching import Matcher
from kajitori.gateway.limits.request import Request
from tests.waiting import eventually


def policy(number: int) -> AccountantPolicy:
    return AccountantPolicy(
        backends={"one": BackendFacts(f"default/{number}", "model")},
        routes={"default/r": RouteFacts(costs=(CostRule("k", "CEL", "input_tokens"),), limits=(0,))},
        limits=(
            Limit("l", "requests", 5.0, Window("Calendar", unit="Month"), (Selector("key", "Distinct"),)),
        ),
    )


class Plane:
    """A control plane of this machine that comes and goes."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.policies = PolicyServer()

    async def start(self) -> None:
        ads = AdsServer(schema(), Snapshot(Encoder(schema())), ("gateway",))
        self.served = ControlPlane(ads, self.policies)
        await self.served.start(self.socket)


@pytest.fixture
async def plane(tmp_path: Path) -> AsyncIterator[Plane]:
    found = Plane(tmp_path / "ads.sock")
    await found.start()
    yield found
    await found.served.close()


async def test_the_latest_policy_comes_at_once_then_each_change_and_again_after_the_control_plane_was_away(
    plane: Plane, tmp_path: Path
) -> None:
    taken: list[AccountantPolicy] = []
    plane.policies.configure(policy(1))
    follower = PolicyFollower(lambda: local_channel(plane.socket), tmp_path, taken.append)
    task = asyncio.create_task(follower.run())
    try:
        await eventually(lambda: taken == [policy(1)])
        plane.policies.configure(policy(1))  # the same is not sent again
        plane.policies.configure(policy(2))
        await eventually(lambda: taken == [policy(1), policy(2)])
        await plane.served.close()
        await eventually(lambda: not follower.connected)
        plane.policies.configure(policy(3))
        await plane.start()
        await eventually(lambda: taken[-1] == policy(3))
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    kept = tmp_path / FILE_NAME
    assert kept.stat().st_mode & 0o077 == 0
    later: list[AccountantPolicy] = []
    restored = PolicyFollower(lambda: local_channel(plane.socket), tmp_path, later.append)
    restored.restore()
    assert later == [policy(3)] and restored.known.is_set()


async def test_a_slow_reader_gets_the_last_of_many_changes() -> None:
    server = PolicyServer()
    server.configure(policy(0))
    stream: Any = server.follow(b"", None)
    await anext(stream)
    for number in range(1, 50):
        server.configure(policy(number))
    assert read_policy(await anext(stream)) == (policy(49), [])
    waiting = asyncio.ensure_future(anext(stream))
    await asyncio.sleep(0)
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)


def test_a_file_that_cannot_be_read_is_told_and_left(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / FILE_NAME).write_bytes(b"\x93garbage")
    follower = PolicyFollower(lambda: local_channel(tmp_path / "x"), tmp_path, lambda policy: None)
    follower.restore()
    assert not follower.known.is_set() and "cannot be used" in caplog.text


def of_tomorrow() -> dict[str, Any]:
    """A policy as a later control plane may send it: with words that this accountant does not know, and with nonsense."""
    limits = (
        Limit("Budget a/one", "requests", 5.0, Window("Fixed", 60.0)),
        Limit("Budget a/two", "requests", 6.0, Window("Fixed", 60.0)),
    )
    whole: dict[str, Any] = msgspec.to_builtins(
        AccountantPolicy(
            routes={"a/r": RouteFacts(costs=(CostRule("k", "CEL", "input_tokens"),), limits=(0, 1))},
            limits=limits,
            keys={"id": KeyFacts("a/key")},
            prices=(Price("m", input_usd=1.0), Price("n", input_usd=2.0)),
        )
    )
    whole["limits"][0]["window"]["kind"] = "Lunar"
    whole["prices"][0]["input_usd"] = "cheap"
    whole["routes"]["a/bad"] = {"costs": "none"}
    whole["a field of tomorrow"] = True
    return whole


def test_parts_of_a_policy_that_cannot_be_read_are_named_and_leave_the_others_in_force() -> None:
    found, problems = read_policy(msgspec.msgpack.encode(of_tomorrow()))
    assert [problem.split(":")[0] for problem in problems] == ["routes[a/bad]", "Budget a/one", "prices[0]"]
    assert found.prices == (Price("n", input_usd=2.0),)
    assert found.routes.keys() == {"a/r"}
    assert found.keys == {"id": KeyFacts("a/key")}
    # Limits are known by their numbers, so the second one stays the second.
    matcher = Matcher(found)
    _, limits = matcher.of_request(Request(id="1", route="a/r"))
    assert [each.limit.name for each in limits] == ["Budget a/two"]


async def test_a_policy_that_cannot_be_taken_leaves_the_one_before_in_force_and_the_stream_open(
    plane: Plane, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    taken: list[AccountantPolicy] = []

    def take(found: AccountantPolicy) -> None:
        if found == policy(2):
            raise RuntimeError("a defect of ours")
        taken.append(found)

    plane.policies.configure(policy(1))
    connections: list[int] = []

    def connect() -> Any:
        connections.append(1)
        return local_channel(plane.socket)

    follower = PolicyFollower(connect, tmp_path, take)
    task = asyncio.create_task(follower.run())
    try:
        await eventually(lambda: taken == [policy(1)])
        plane.policies.configure(policy(2))
        await eventually(lambda: "a new policy cannot be used" in caplog.text)
        assert read_policy((tmp_path / FILE_NAME).read_bytes())[0] == policy(1)
        plane.policies.configure(policy(3))
        await eventually(lambda: taken == [policy(1), policy(3)])
        assert len(connections) == 1
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
