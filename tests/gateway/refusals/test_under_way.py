"""Killed while it is found out what Envoy refuses, two replicas with an Envoy each, and the stand-in beside the real one."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import patch

import pytest

from kajitori.gateway.envoy import stream as stream_module
from kajitori.gateway.envoy.parts_of_tables import unit_of
from kajitori.gateway.envoy.xds import Snapshot
from kajitori.gateway.resources import ROUTES, Resources
from tests.gateway.refusals.played_envoy import Clock, Replica, settle
from tests.gateway.refusals.spoiling import (
    SpoiltWorkbench,
    bad_action,
    bad_match,
    counted_tries,
    of_routes,
    running_spoilt,
)
from tests.gateway.test_delivery import QUESTION, many
from tests.gateway.workbench import Provider
from tests.waiting import eventually

BAD = of_routes("ai/default/r3/", bad_action), of_routes("ai/default/r14/", bad_match)


async def serves(bench: SpoiltWorkbench, model: str) -> int:
    return (await bench.post({**QUESTION, "model": model})).status


async def test_control_plane_and_envoy_are_killed_while_it_is_found_out_and_streams_go_on(
    first: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running_spoilt() as bench:
        documents = many(bench.port, first, 32)
        await bench.apply(*documents)
        first.chunks, first.chunk_seconds = 30, 0.1
        streams = [
            asyncio.create_task(bench.post({**QUESTION, "model": f"model-{number}", "stream": True}))
            for number in range(20, 28)
        ]
        await eventually(lambda: len(first.seen) == 8)
        bench.spoilt = BAD
        tries = counted_tries(monkeypatch)
        for enough in (1, 3, 5, 8):
            tries.clear()
            await bench.restart_control_plane()
            bench.set(*documents)
            await eventually(lambda enough=enough: len(tries) >= enough)
        await bench.refusing(*documents)
        assert len(bench.ads.rejected) == 2
        bodies = await asyncio.gather(*streams)
        assert all(reply.body.endswith(b"[DONE]\n\n") for reply in bodies)
        # So is Envoy, and its successor is asked from the beginning.
        for enough in (1, 4):
            tries.clear()
            await bench.restart_control_plane()
            bench.set(*documents)
            await eventually(lambda enough=enough: len(tries) >= enough)
            bench.kill_envoy()
            await eventually(lambda: bench.ads.connected == 0)
            bench.start_envoy()
            await eventually(lambda: bench.ads.connected == 1)
        await bench.refusing(*documents)
        assert {key.rpartition("#")[2] for key in bench.ads.rejected} == {
            "ai/default/r3/rule/0",
            "ai/default/r14/rule/0",
        }
        assert [await serves(bench, f"model-{number}") for number in (2, 3, 14, 15)] == [200, 500, 404, 200]


async def test_what_the_envoy_of_one_replica_refuses_the_other_leaves_out_and_takes_in_again(
    first: Provider,
) -> None:
    async with running_spoilt() as one, running_spoilt() as other:
        other.port, other.url = one.port, f"http://127.0.0.2:{one.port}"
        documents = many(one.port, first, 8)
        await one.apply(*documents)
        await other.apply(*documents, bind_address="127.0.0.2")
        one.ads.on_change(lambda: other.ads.heed(one.ads.refused_parts))
        # Only this one's Envoy is given what it refuses; the digest is of what both want.
        told = dict(one.ads._snapshot.resources[ROUTES])
        assert {name: each.version for name, each in told.items()} == other.ads._snapshot.versions[ROUTES]
        one.spoilt = other.spoilt = (of_routes("ai/default/r3/", bad_action),)
        await one.refusing(*documents)
        assert await serves(one, "model-3") == 500
        sent: list[str | None] = []
        refuse = other.ads._snapshot.refuse

        def noted(kind: str, name: str, *more: Any) -> None:
            sent.append(name)
            refuse(kind, name, *more)

        other.ads._snapshot.refuse = noted  # type: ignore[method-assign]
        await other.apply(*documents, bind_address="127.0.0.2")
        assert await serves(other, "model-3") == 500
        assert await serves(other, "model-4") == 200
        # It was told, and has not had to find out.
        assert not sent
        assert not other.ads.rejected
        # What was told is taken back when the first one's replica is gone.
        other.ads.heed([])
        await other.settled()
        assert sent
        assert [key.rpartition("#")[2] for key in other.ads.rejected] == ["ai/default/r3/rule/0"]


def marked(resources: Resources) -> Resources:
    """The same with a mark that the stand-in refuses, where Envoy refuses what is there."""

    def of(route: dict[str, Any]) -> dict[str, Any]:
        if route["match"].get("safe_regex") == {"regex": "("}:
            return {**route, "match": {**route["match"], "broken": True}}
        back_off = route.get("route", {}).get("retry_policy", {}).get("retry_back_off", {})
        if back_off.get("base_interval") == "2s":
            return {**route, "route": {**route["route"], "broken": True}}
        return route

    return of_routes("", of)(resources)


def forms(snapshot: Snapshot) -> dict[str, bool]:
    """Of each rule whether it is answered with an error."""
    return {
        unit_of(route["name"]): "direct_response" in route
        for name in snapshot.resources[ROUTES]
        if (sent := snapshot.effective(ROUTES, name)) is not None
        for host in sent.value["virtual_hosts"]
        for route in host["routes"]
    }


async def test_the_stand_in_for_envoy_answers_as_envoy_does(
    first: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = counted_tries(monkeypatch)

    def answers() -> list[bool]:
        found = [answer is not None for answer in tries]
        tries.clear()
        return found

    steps = [(), BAD[:1], BAD, BAD[1:], BAD, ()]
    real: list[tuple[set[str], dict[str, bool], list[bool]]] = []
    delivered: list[Resources] = []
    async with running_spoilt() as bench:
        for step in steps:
            bench.spoilt = step
            plan = bench.set(*many(bench.port, first, 16))
            resources = plan.resources
            for spoil in step:
                resources = spoil(resources)
            delivered.append(resources)
            await bench.settled()
            real.append((set(bench.ads.rejected), forms(bench.ads._snapshot), answers()))
    clock = Clock()
    with patch.object(stream_module, "asyncio", clock.patched()):
        replica = Replica(Resources({}))
        replica.start_envoy()
        for resources, (rejected, served, asked) in zip(delivered, real, strict=True):
            replica.want(marked(resources))
            settle(clock, [replica])
            assert set(replica.ads.rejected) == rejected
            assert forms(replica.snapshot) == served
            assert answers() == asked
    assert any(asked for _, _, asked in real)
