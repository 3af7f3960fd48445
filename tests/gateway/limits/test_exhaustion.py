"""Statuses say since when a limit is used up, and until when: from what accountants tell."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec
import pytest

from kajitori.api.resource import BUDGETS, QUOTA_POLICIES, TENANTS
from kajitori.gateway.accounting.exhaustion_reports import (
    Exhaustion,
    ExhaustionServer,
    ExhaustionTeller,
    Told,
    merged,
)
from kajitori.gateway.accounting.policy_delivery import PolicyServer, local_channel
from kajitori.gateway.envoy.ads import AdsServer
from kajitori.gateway.envoy.encode import Encoder
from kajitori.gateway.envoy.schema import schema
from kajitori.gateway.envoy.server import ControlPlane
from kajitori.gateway.envoy.xds import Snapshot
from kajitori.gateway.limits.limit import Limit, Selector
from tests.gateway.cluster import running_cluster
from tests.gateway.limits.making import distinct, ended, engine, limit, policy, request
from tests.gateway.limits.test_complaints import budget
from tests.gateway.limits.test_limit_plan import of_model, quota
from tests.gateway.workbench import backend
from tests.waiting import eventually


async def test_what_is_refused_and_what_is_pushed_is_known_with_its_time_and_forgotten_when_it_frees(
    tmp_path: Path,
) -> None:
    made, clock = engine(
        limit("Budget default/strict", 1, "requests"),
        limit(
            "QuotaPolicy default/quota for m at a",
            1,
            "requests",
            clip=True,
            selectors=(Selector("backend", "Exact", "default/a"),),
        ),
    )
    began = clock.time
    assert made.exhaustion.exhausted() == []
    await made.admit(request("a"))
    await made.settle([ended("a")])
    assert not made.exhaustion.changed.is_set()
    await made.admit(request("b"))
    found = made.exhaustion.exhausted()
    assert [each.limit for each in found] == ["Budget default/strict", "QuotaPolicy default/quota for m at a"]
    assert all(each.since == began and began < each.until <= began + 3600 for each in found)
    assert made.exhaustion.changed.is_set()
    clock.time += 3600
    assert made.exhaustion.exhausted() == []


@pytest.mark.parametrize("now", [(limit(amount=100, counts="requests"),), ()])
async def test_a_limit_that_was_raised_or_deleted_is_used_up_no_longer(now: tuple[Limit, ...]) -> None:
    other = limit("Budget default/other", 1, "requests")
    made, clock = engine(limit(amount=1, counts="requests"), other)
    await made.admit(request("a"))
    await made.settle([ended("a")])
    await made.admit(request("b"))
    made.exhaustion.meet({other.name: clock.time + 10}, clock.time)
    assert [each.limit for each in made.exhaustion.exhausted()] == ["Budget default/all", other.name]
    made.exhaustion.changed.clear()
    made.configure(policy(*now, other))
    assert [each.limit for each in made.exhaustion.exhausted()] == [other.name]
    assert made.exhaustion.changed.is_set()


async def test_a_limit_of_which_enough_is_left_for_others_is_not_used_up() -> None:
    made, _ = engine(limit(amount=100))
    await made.admit(request("a", 1, 50))
    await made.settle([ended("a", 1, 50)])
    assert not (await made.admit(request("b", 1, 90))).allowed
    assert made.exhaustion.exhausted() == []


def test_of_what_several_accountants_tell_the_whole_time_holds() -> None:
    told = [Exhaustion("a", 1, 10), Exhaustion("a", 2, 20, 3), Exhaustion("b", 1, 5)]
    assert merged(told, 6.0) == [Exhaustion("a", 1, 20, 3)]


async def test_accountants_tell_the_control_plane_and_one_that_begins_anew_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("kajitori.gateway.accounting.exhaustion_reports._BUNCH_SECONDS", 0.0)
    monkeypatch.setattr("kajitori.gateway.accounting.exhaustion_reports._RENEW_SECONDS", 0.1)
    monkeypatch.setattr("kajitori.gateway.accounting.exhaustion_reports._AGAIN_SECONDS", 0.1)
    made, clock = engine(limit("Budget default/strict", 1, "requests", selectors=(distinct("model"),)))
    teller = ExhaustionTeller(lambda: local_channel(tmp_path / "ads.sock"), "first", made.exhaustion)
    telling = asyncio.create_task(teller.run())
    await made.admit(request("a"))
    await made.admit(request("b"))
    await made.settle([ended("a")])
    await made.admit(request("c"))
    for _ in range(2):
        policies = PolicyServer()
        plane = ControlPlane(AdsServer(schema(), Snapshot(Encoder(schema())), ("gateway",)), policies)
        await plane.start(tmp_path / "ads.sock")
        await eventually(lambda p=policies: bool(p.exhaustion.known(clock.time)), what=lambda: "it was told")
        assert [each.limit for each in policies.exhaustion.known(clock.time)] == ["Budget default/strict"]
        await plane.close()
    telling.cancel()
    await asyncio.gather(telling, return_exceptions=True)


async def test_statuses_of_a_budget_a_quota_and_a_tenant_say_since_when_and_until_when() -> None:
    server = ExhaustionServer()
    async with running_cluster(exhaustion=server) as cluster:
        tenant = {"kind": "Tenant", "metadata": {"name": "red"}, "spec": {"budgets": ["team"]}}
        await cluster.apply(
            *backend("a", 1),
            budget("team", {"requests": 3}, routes=[]),
            tenant,
            quota(perModelQuotas=[of_model("m")]),
        )
        await cluster.condition(BUDGETS, "team", "Accepted", status="True")
        now = float(int(time.time()))
        exhausted = [
            Exhaustion("Budget default/team", now - 60, now + 3, 2),
            Exhaustion("QuotaPolicy default/quota for m at a", now, now + 3),
        ]
        await server.tell(msgspec.msgpack.encode(Told("one", exhausted)), None)
        found = await cluster.condition(BUDGETS, "team", "Exhausted", status="True", reason="UsedUp")
        assert found["message"].startswith(
            "Budget default/team is used up for 2 of those that it counts apart since "
        )
        assert "; it frees at " in found["message"]
        await cluster.condition(QUOTA_POLICIES, "quota", "Exhausted", status="True")
        await cluster.condition(TENANTS, "red", "Exhausted", status="True", message="Budget default/team")

        async def is_free() -> bool:
            status = await cluster.status(BUDGETS, "team")
            return [each["type"] for each in status["conditions"]] == ["Accepted"]

        await eventually(is_free, what=lambda: "it is free again, without anybody having told")
