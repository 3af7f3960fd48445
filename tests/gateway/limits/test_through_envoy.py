"""Limits through a real Envoy: plain routes, keys, headers of providers, and an accountant that is killed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import grpc.aio
import pytest
from aiohttp import web

from tests.gateway.limits.limited_workbench import LimitedWorkbench
from tests.gateway.limits.making import counted
from tests.gateway.limits.questions import budget, held_back, key_of, question
from tests.gateway.test_grpc_routes import call, grpc_route, grpc_server
from tests.gateway.test_http_routes import to
from tests.gateway.workbench import Provider, ai_route, backend, gateway
from tests.waiting import eventually

Shared = tuple[LimitedWorkbench, Provider]
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_rate_limit_holds_for_a_plain_route(shared: Shared) -> None:
    bench, provider = shared
    route = {
        "kind": "HTTPRoute",
        "metadata": {"name": "plain"},
        "spec": {
            "parentRefs": [{"name": "gateway"}],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/plain"}}],
                    "backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "a"}],
                }
            ],
        },
    }
    policy = {
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": "plain"},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "plain"}],
            "rateLimit": {
                "global": {
                    "rules": [
                        {
                            "clientSelectors": [
                                {
                                    "path": {"value": "/plain/few"},
                                    "methods": [{"value": "GET"}],
                                    "sourceCIDR": {"value": "127.0.0.0/8"},
                                }
                            ],
                            "limit": {"requests": 2, "unit": "Day"},
                        }
                    ]
                }
            },
        },
    }
    await bench.apply(gateway(bench.port), *backend("a", provider.port), route, policy)
    statuses = [(await bench.get("/plain/few?x=1")).status for _ in range(4)]
    assert statuses == [200, 200, 429, 429]
    assert (await bench.get("/plain/many")).status == 200
    assert (await bench.post({}, "/plain/few")).status == 200


async def test_a_rate_limit_selects_by_parameters_of_the_query(shared: Shared) -> None:
    bench, provider = shared
    plain = {
        "kind": "HTTPRoute",
        "metadata": {"name": "asked"},
        "spec": {
            "parentRefs": [{"name": "gateway"}],
            "rules": [
                {
                    "matches": [{"path": {"type": "PathPrefix", "value": "/asked"}}],
                    "backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "a"}],
                }
            ],
        },
    }

    def limited(name: str, *params: dict[str, Any]) -> dict[str, Any]:
        rule = {
            "clientSelectors": [{"queryParams": list(params)}],
            "limit": {"requests": 1, "unit": "Day"},
        }
        target = {"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": name}
        return {
            "kind": "BackendTrafficPolicy",
            "metadata": {"name": name},
            "spec": {
                "targetRefs": [target],
                "rateLimit": {"global": {"rules": [rule]}},
            },
        }

    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        plain,
        limited("asked", {"name": "plan", "value": "a b"}, {"name": "user", "type": "Distinct"}),
        ai_route("chat", "m", {"name": "a"}),
        limited("chat", {"name": "api-version", "type": "RegularExpression", "value": "2024-.*"}),
    )  # fmt: skip

    async def status(query: str) -> int:
        return (await bench.get(f"/asked?{query}")).status

    assert [await status("user=1&plan=a%20b"), await status("plan=a%20b&user=1")] == [200, 429]
    assert await status("user=2&plan=a%20b") == 200
    assert [await status(query) for query in ("user=1", "user=1&plan=ab", "plan=a%20b", "")] == [200] * 4
    path = "/v1/chat/completions"
    replies = [await bench.post(question(), f"{path}?api-version=2024-01") for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 429], bench.log()
    assert (await bench.post(question(), f"{path}?api-version=2023-01")).status == 200
    assert (await bench.post(question(), path)).status == 200
    assert all("x-kajitori-query" not in seen.headers and "?" not in seen.path for seen in provider.seen[-3:])


async def test_embeddings_reserve_no_output(shared: Shared) -> None:
    bench, provider = shared
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("embeddings", "m", {"name": "a"}),
        budget("embeddings", {"tokens": 200}),
    )
    reply = await bench.post({"model": "m", "input": "a few words"}, "/v1/embeddings")
    assert reply.status == 200, reply.body
    assert (await bench.post({"model": "m", "messages": []})).status == 429


async def test_keys_are_charged_to_the_budgets_that_they_and_their_tenant_name(shared: Shared) -> None:
    bench, provider = shared
    ann, ann_text = key_of("ann", "annann01", tenantRef={"name": "red"})
    ben, ben_text = key_of("ben", "benben01", budgets=["own"], tenantRef={"name": "red"})
    eve, eve_text = key_of("eve", "eveeve01")
    tenant = {"kind": "Tenant", "metadata": {"name": "red"}, "spec": {"budgets": ["team"]}}
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("keyed", "m", {"name": "a"}),
        ann,
        ben,
        eve,
        tenant,
        budget("team", {"requests": 3}, routes=[]),
        budget("own", {"requests": 1}, routes=[]),
    )

    async def ask(text: str) -> int:
        return (await bench.post(question(), headers={"authorization": f"Bearer {text}"})).status

    assert [await ask(ben_text), await ask(ben_text)] == [200, 429]
    assert [await ask(ann_text), await ask(ann_text), await ask(ann_text)] == [200, 200, 429]
    assert [await ask(eve_text) for _ in range(3)] == [200] * 3


async def test_what_a_provider_says_of_its_own_limits_is_not_mixed_with_ours(shared: Shared) -> None:
    bench, provider = shared
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("headers", "m", {"name": "a"}),
        budget("headers", {"requests": 30}),
    )

    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        theirs = {"x-ratelimit-remaining-requests": "9999", "x-ratelimit-limit-tokens": "77"}
        return web.json_response({"usage": provider.usage, "choices": []}, headers=theirs)

    provider.answer = answer
    try:
        async with bench.session.post(
            f"{bench.url}/v1/chat/completions", data=json.dumps(question()).encode()
        ) as response:
            assert response.headers.getall("x-ratelimit-remaining-requests") == ["29"]
            assert "x-ratelimit-limit-tokens" not in response.headers
    finally:
        provider.answer = None


async def test_a_killed_accountant_settles_what_passed_before_and_the_budget_holds(shared: Shared) -> None:
    bench, provider = shared
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("killed", "m", {"name": "a"}),
        budget("killed", {"tokens": 60}),
    )
    async with held_back(provider) as arrived:
        waiting = asyncio.create_task(bench.post(question(max_tokens=30)))
        await asyncio.wait_for(arrived.wait(), 20)
        bench.kill_accountant()
        # Nobody can be asked, and the budget says to refuse then.
        assert (await bench.post(question())).status == 503
        await bench.start_accountant()
        # What the first one has reserved is known again.
        assert (await bench.post(question(max_tokens=40))).status == 429
    assert (await waiting).status == 200
    name = "Budget default/killed"

    async def used() -> int:
        names = [each for each in await bench.engine._store.names() if each == name]
        return sum(await counted(bench.engine._store, [(each, 0) for each in names]))

    async def is_booked() -> bool:
        return await used() == 19

    await eventually(is_booked, "what the first one used is booked")
    reply = await bench.post(question(max_tokens=20))
    assert reply.status == 200
    await eventually(lambda: not bench.engine.pending)


async def test_what_passed_while_the_accountant_was_away_is_charged_to_the_limits_that_match(
    shared: Shared,
) -> None:
    bench, provider = shared
    post, other = ({"fact": "path", "value": path} for path in ("/v1/chat/completions", "/v1/other"))
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("unasked", "m", {"name": "a"}),
        budget("unasked", {"requests": 4}, onStoreLoss="Allow", selectors=[post]),
        budget("elsewhere", {"requests": 2}, onStoreLoss="Allow", selectors=[other]),
    )
    assert (await bench.post(question())).status == 200
    bench.kill_accountant()
    assert [(await bench.post(question())).status for _ in range(3)] == [200] * 3
    await bench.start_accountant()

    async def is_refused() -> bool:
        reply = await bench.post(question())
        return reply.status == 429 and "Budget default/unasked: 0 of 4" in str(reply.json)

    store = bench.engine._store

    async def charged() -> bool:
        return await counted(store, [("Budget default/unasked", 0)]) == [4]

    await eventually(charged, "the three are charged")
    assert await is_refused()
    assert "Budget default/elsewhere" not in await store.names()


async def test_a_rate_limit_holds_for_a_grpc_route_and_is_told_as_a_status_of_grpc(shared: Shared) -> None:
    bench, _ = shared
    for strict in ("true", "false"):
        policy = {
            "kind": "BackendTrafficPolicy",
            "metadata": {"name": f"calls-{strict}", "annotations": {"gateway.kajitori.dev/strict": strict}},
            "spec": {
                "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "GRPCRoute", "name": "calls"}],
                "rateLimit": {"global": {"rules": [{"limit": {"requests": 2, "unit": "Day"}}]}},
            },
        }
        async with grpc_server("one") as port:
            route = grpc_route("calls", {"backendRefs": [to("one")]})
            await bench.apply(gateway(bench.port), *backend("one", port), route, policy)
            assert [await call(bench, "/a.Service/Get") for _ in range(2)] == ["one", "one"]
            error = None
            for _ in range(100):  # what is not strict is booked first
                try:
                    await call(bench, "/a.Service/Get")
                except grpc.aio.AioRpcError as refused:
                    error = refused
                    break
                await asyncio.sleep(0.1)
        assert error is not None
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert error.details().startswith(
            f"BackendTrafficPolicy default/calls-{strict}, rule 0: 0 of 2 requests"
        )
