"""What users of other gateways complain of, tried through a real Envoy: limits that do not hold, quotas without effect, no
budgets in money (complaints 6, 7 and 8 of the survey behind the design)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.gateway.limits.limited_workbench import LimitedWorkbench, running_limited_workbench
from tests.gateway.limits.questions import budget, held_back, lower, question
from tests.gateway.workbench import Provider, ai_route, backend, gateway, running_provider
from tests.waiting import eventually

NAMESPACE = "io.envoy.ai_gateway"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared() -> AsyncIterator[tuple[LimitedWorkbench, Provider, Provider]]:
    async with contextlib.AsyncExitStack() as stack:
        bench = await stack.enter_async_context(running_limited_workbench())
        first = await stack.enter_async_context(running_provider())
        second = await stack.enter_async_context(running_provider())
        yield bench, first, second


pytestmark = pytest.mark.asyncio(loop_scope="module")


def token_limit(name: str, requests: int) -> dict[str, Any]:
    """As upstream's example has it."""
    return {
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": name},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}],
            "rateLimit": {
                "type": "Global",
                "global": {
                    "rules": [
                        {
                            "clientSelectors": [{"headers": [{"name": "x-user", "type": "Distinct"}]}],
                            "limit": {"requests": requests, "unit": "Hour"},
                            "cost": {
                                "request": {"from": "Number", "number": 0},
                                "response": {
                                    "from": "Metadata",
                                    "metadata": {"namespace": NAMESPACE, "key": "total"},
                                },
                            },
                        }
                    ]
                },
            },
        },
    }


COSTS = [{"metadataKey": "total", "type": "TotalToken"}]


async def test_complaint_6_token_limits_hold_under_concurrency(
    shared: tuple[LimitedWorkbench, Provider, Provider],
) -> None:
    bench, provider, _ = shared
    provider.chunk_seconds = 0.0
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("six", "m", {"name": "a"}),
        budget("requests-six", {"requests": 100}),
    )
    before = len(provider.seen)
    replies = await asyncio.gather(*(bench.post(question()) for _ in range(1000)))
    # On a machine that has too much to do, Envoy may not wait for a verdict, and the budget says to refuse then.
    statuses = {reply.status for reply in replies}
    assert {200, 429} <= statuses <= {200, 429, 503}
    passed = [reply for reply in replies if reply.status == 200]
    assert len(passed) <= 100
    assert len(passed) == 100 or 503 in statuses
    assert len(provider.seen) - before == len(passed)
    refused = next(reply for reply in replies if reply.status == 429)
    assert "Budget default/requests-six: 0 of 100 requests are left" in refused.json["error"]["message"]
    assert int(lower(refused)["retry-after"]) > 0
    assert lower(refused)["x-ratelimit-remaining-requests"] == "0"
    assert lower(passed[0])["x-ratelimit-limit-requests"] == "100"


async def test_complaint_6_what_was_reserved_and_not_spent_can_be_used_again(
    shared: tuple[LimitedWorkbench, Provider, Provider],
) -> None:
    bench, provider, _ = shared
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("again", "m", {"name": "a"}),
        budget("again", {"tokens": 1000}),
    )
    # Each may take 900 and takes 19, so they pass one after the other, and not at once.
    for _ in range(3):
        reply = await bench.post(question(max_tokens=900))
        assert reply.status == 200, reply.body
        await bench.record(reply)
    async with held_back(provider) as arrived:
        first = asyncio.create_task(bench.post(question(max_tokens=900)))
        await asyncio.wait_for(arrived.wait(), 20)
        second = await bench.post(question(max_tokens=900))
    assert second.status == 429
    assert "requests under way have reserved" in second.json["error"]["message"]
    assert (await first).status == 200


async def test_complaint_6_manifests_of_upstream_with_token_costs_limit_one_client_after_the_other(
    shared: tuple[LimitedWorkbench, Provider, Provider],
) -> None:
    bench, provider, _ = shared
    plan = await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("route", "m", {"name": "a"}, llmRequestCosts=COSTS),
        token_limit("tokens", 40),
    )
    told = next(each for each in plan.statuses if each.resource.kind == "BackendTrafficPolicy")
    assert [each["type"] for each in told.status["ancestors"][0]["conditions"]] == ["Accepted"]
    # 19 tokens each: the third finds 2 left, and the fourth nothing.
    statuses: list[int] = []
    for _ in range(4):
        reply = await bench.post(question(), headers={"x-user": "ann"})
        await bench.record(reply)
        statuses.append(reply.status)
    assert statuses == [200, 200, 200, 429]
    assert (await bench.post(question(), headers={"x-user": "ben"})).status == 200


def quota(model: str, limit: int, backend_name: str = "a") -> dict[str, Any]:
    return {
        "kind": "QuotaPolicy",
        "metadata": {"name": "quota"},
        "spec": {
            "targetRefs": [
                {"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": backend_name}
            ],
            "perModelQuotas": [
                {"modelName": model, "quota": {"defaultBucket": {"limit": limit, "duration": "1d"}}}
            ],
        },
    }


async def test_complaint_7_a_quota_works_and_requests_go_to_a_backend_with_quota_left(
    shared: tuple[LimitedWorkbench, Provider, Provider],
) -> None:
    bench, first, second = shared
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        *backend("b", second.port),
        ai_route(
            "seven",
            "m",
            {"name": "a", "modelNameOverride": "m-large", "priority": 0},
            {"name": "b", "priority": 1},
        ),
        quota("m-large", 30),
    )
    seen = len(first.seen), len(second.seen)
    for _ in range(4):
        reply = await bench.post(question())
        assert reply.status == 200, reply.body
        await bench.record(reply)
    # 19 tokens each: two are enough for the quota of 30, and the others go where there is some left.
    assert (len(first.seen) - seen[0], len(second.seen) - seen[1]) == (2, 2)


async def test_complaint_7_without_another_backend_the_quota_refuses_and_says_when_it_frees(
    shared: tuple[LimitedWorkbench, Provider, Provider],
) -> None:
    bench, first, _ = shared
    plan = await bench.apply(
        gateway(bench.port), *backend("a", first.port), ai_route("alone", "n", {"name": "a"}), quota("n", 10)
    )
    told = next(each for each in plan.statuses if each.resource.kind == "QuotaPolicy")
    assert told.status["conditions"][0]["type"] == "Accepted"
    reply = await bench.post(question("n"))
    assert reply.status == 200
    await bench.record(reply)
    refused = await bench.post(question("n"))
    assert refused.status == 429
    assert "QuotaPolicy default/quota for n at a" in refused.json["error"]["message"]
    assert int(lower(refused)["retry-after"]) > 3600


async def test_a_quota_holds_where_the_other_backend_is_missing_or_speaks_another_dialect(
    shared: tuple[LimitedWorkbench, Provider, Provider],
) -> None:
    bench, first, second = shared
    for others, told in (
        ([], "QuotaPolicy default/quota for o at a"),
        (backend("b", second.port, {"name": "Anthropic"}), "the quota of each backend"),
    ):
        model = f"o{len(others)}"
        refs = {"name": "a", "modelNameOverride": "o", "priority": 0}, {"name": "b", "priority": 1}
        limit = quota("o", 10 + len(others))
        await bench.apply(
            gateway(bench.port),
            *backend("a", first.port),
            *others,
            ai_route(f"of-{model}", model, *refs),
            limit,
        )
        statuses: list[int] = []
        for _ in range(3):
            reply = await bench.post(question(model))
            await bench.record(reply)
            statuses.append(reply.status)
        assert statuses[-1] == 429, (statuses, others)
        assert told in reply.json["error"]["message"], reply.body
        assert 3600 < int(lower(reply)["retry-after"]) <= 90_000


def key_budget(name: str, usd: str) -> dict[str, Any]:
    return budget(name, {"usd": usd}, countApart=["header:x-team"])


async def test_complaint_8_a_budget_in_dollars_holds_for_each_team_by_a_price_list(
    shared: tuple[LimitedWorkbench, Provider, Provider],
) -> None:
    bench, provider, _ = shared
    prices = {
        "kind": "PriceList",
        "metadata": {"name": "ours"},
        "spec": {"prices": [{"model": "m*", "input": "1000", "output": "1000"}]},
    }
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("eight", "m", {"name": "a"}),
        prices,
        key_budget("money", "0.05"),
    )
    # 19 tokens at a tenth of a cent each: 1.9 cents a request.
    statuses: list[int] = []
    for _ in range(4):
        reply = await bench.post(question(), headers={"x-team": "red"})
        statuses.append(reply.status)
        if reply.status == 200:
            record = await bench.record(reply)
            assert record.cost_usd == pytest.approx(0.019)
    assert statuses == [200, 200, 429, 429]
    assert "Budget default/money: $0.012 of $0.05 are left" in reply.json["error"]["message"]
    assert (await bench.post(question(), headers={"x-team": "blue"})).status == 200


async def test_complaint_8_a_model_without_a_price_is_not_free(
    shared: tuple[LimitedWorkbench, Provider, Provider],
) -> None:
    bench, provider, _ = shared
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("unpriced", "odd", {"name": "a"}),
        key_budget("money-too", "1"),
    )
    refused = await bench.post(question("odd"), headers={"x-team": "red"})
    assert refused.status == 403
    assert "no price is known of model odd" in refused.json["error"]["message"]


async def test_a_failed_request_gives_back_what_it_had_reserved(
    shared: tuple[LimitedWorkbench, Provider, Provider],
) -> None:
    bench, provider, _ = shared
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("failing", "m", {"name": "a"}),
        budget("failing", {"tokens": 1000}),
    )
    provider.status = 400
    try:
        for _ in range(3):
            reply = await bench.post(question(max_tokens=900))
            assert reply.status == 400
            await bench.record(reply)
    finally:
        provider.status = 200
    await eventually(lambda: not bench.engine.pending)
    assert (await bench.post(question(max_tokens=900))).status == 200


async def test_a_client_that_leaves_gives_back_what_it_had_reserved(
    shared: tuple[LimitedWorkbench, Provider, Provider],
) -> None:
    bench, provider, _ = shared
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("leaving", "m", {"name": "a"}),
        budget("leaving", {"tokens": 1000}),
    )
    provider.chunks, provider.chunk_seconds = 1000, 0.05
    try:
        async with bench.session.post(
            f"{bench.url}/v1/chat/completions", json=question(max_tokens=900, stream=True)
        ) as response:
            assert response.status == 200
            await response.content.readany()
            refused = await bench.post(question(max_tokens=900))
            assert refused.status == 429
    finally:
        provider.chunks, provider.chunk_seconds = 3, 0.0

    async def passes() -> bool:
        return (await bench.post(question(max_tokens=900))).status == 200

    await eventually(passes, "what the client that left had reserved is free again")
