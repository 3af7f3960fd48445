"""BackendTrafficPolicies in a real Envoy: what they do with requests and answers, and which of them holds."""

from __future__ import annotations

from typing import Any

import pytest

from ..workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
)
from .traffic import QUESTION, apply, plain_backend, plain_route, policy, policy_conditions

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_local_limits_refuse_with_429_and_tell_the_client_how_things_stand(
    bench: Workbench, one: Provider
) -> None:
    rules = [
        {"limit": {"requests": 2, "unit": "Hour"}},
        {
            "clientSelectors": [{"headers": [{"name": "X-User", "type": "Distinct"}]}],
            "limit": {"requests": 1, "unit": "Hour"},
        },
        {
            "clientSelectors": [
                {"headers": [{"name": "X-Plan", "value": "gold"}], "methods": [{"value": "POST"}]}
            ],
            "limit": {"requests": 3, "unit": "Day"},
        },
    ]
    await apply(
        bench,
        *backend("one", one.port),
        ai_route("route", "m", {"name": "one"}),
        policy(rateLimit={"type": "Local", "local": {"rules": rules}}),
    )

    async def statuses(count: int, **headers: str) -> list[int]:
        return [(await bench.post(QUESTION, headers=headers)).status for _ in range(count)]

    first = await bench.post(QUESTION)
    assert first.status == 200
    assert first.headers["X-RateLimit-Limit"] == "2"
    assert first.headers["X-RateLimit-Remaining"] == "1"
    assert await statuses(2) == [200, 429]
    refused = await bench.post(QUESTION)
    assert int(refused.headers["Retry-After"]) > 0
    assert refused.json["error"]["code"] == "429"
    assert await statuses(2, **{"x-user": "ann"}) == [200, 429]
    assert await statuses(2, **{"x-user": "bob"}) == [200, 429]
    assert await statuses(4, **{"x-plan": "gold"}) == [200, 200, 200, 429]
    assert len(one.seen) == 7


async def test_the_more_specific_policy_holds_and_merging_keeps_the_rest(
    bench: Workbench, one: Provider
) -> None:
    def abort(status: int) -> dict[str, Any]:
        return {"faultInjection": {"abort": {"httpStatus": status}}}

    objects = [
        plain_backend("b", one.port),
        plain_route("b", path="/route"),
        plain_route("b", name="other", path="/other"),
    ]
    plan = await apply(bench, *objects, policy("Gateway", "gateway", **abort(401)))
    assert (await bench.get("/route")).status == 401
    assert policy_conditions(plan, "for-gateway-gateway")["Accepted"]["status"] == "True"
    plan = await apply(
        bench,
        *objects,
        policy("Gateway", "gateway", **abort(401)),
        policy("Gateway", "gateway", "http", **abort(402)),
        policy("HTTPRoute", "route", **abort(403)),
    )
    assert [(await bench.get(path)).status for path in ("/route", "/other")] == [403, 402]
    told = policy_conditions(plan, "for-gateway-gateway")["Overridden"]["message"]
    assert "HTTPRoute default/route" in told
    retry = {"numRetries": 1, "retryOn": {"triggers": ["5xx"]}}
    one.status = 500
    await apply(
        bench,
        *objects,
        policy("Gateway", "gateway", retry=retry),
        policy("HTTPRoute", "route", mergeType="StrategicMerge", timeout={"http": {"requestTimeout": "9s"}}),
        policy("HTTPRoute", "other", timeout={"http": {"requestTimeout": "9s"}}),
    )
    await bench.get("/route")
    assert len(one.seen) == 2
    await bench.get("/other")
    assert len(one.seen) == 3


async def test_a_rule_of_an_ai_route_can_have_a_policy_of_its_own(bench: Workbench, one: Provider) -> None:
    rules = [
        {
            "name": name,
            "matches": [{"headers": [{"name": "x-ai-eg-model", "value": name}]}],
            "backendRefs": [{"name": "one"}],
        }
        for name in ("small", "big")
    ]
    route = {
        "kind": "AIGatewayRoute",
        "metadata": {"name": "route"},
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": rules},
    }
    await apply(
        bench,
        *backend("one", one.port),
        route,
        policy(section="big", faultInjection={"abort": {"httpStatus": 418}}),
    )
    assert (await bench.post({**QUESTION, "model": "small"})).status == 200
    assert (await bench.post({**QUESTION, "model": "big"})).status == 418


async def test_answers_are_exchanged_and_compressed(bench: Workbench, one: Provider) -> None:
    override = {
        "match": {"statusCodes": [{"value": 404}, {"type": "Range", "range": {"start": 500, "end": 503}}]},
        "response": {
            "statusCode": 451,
            "contentType": "application/json",
            "body": {"inline": '{"sorry":"100%"}'},
            "header": {"set": [{"name": "x-why", "value": "because"}]},
        },
    }
    await apply(
        bench,
        *backend("one", one.port),
        ai_route("route", "m", {"name": "one"}),
        policy(responseOverride=[override], compressor=[{"type": "Gzip"}]),
    )
    plain = await bench.post(QUESTION, headers={"accept-encoding": "gzip"})
    assert plain.status == 200
    assert plain.headers["Content-Encoding"] == "gzip"
    assert plain.json["object"] == "chat.completion"
    assert "accept-encoding" not in one.seen[0].headers
    stream = await bench.post({**QUESTION, "stream": True}, headers={"accept-encoding": "gzip"})
    assert "Content-Encoding" not in stream.headers
    assert stream.body.endswith(b"data: [DONE]\n\n")
    one.status = 502
    reply = await bench.post(QUESTION)
    assert reply.status == 451
    assert reply.json == {"sorry": "100%"}
    assert reply.headers["x-why"] == "because"


async def test_what_one_ai_route_switches_on_does_nothing_to_its_neighbours(
    bench: Workbench, one: Provider
) -> None:
    limit = {"local": {"rules": [{"limit": {"requests": 1, "unit": "Hour"}}]}}
    override = {"match": {"statusCodes": [{"value": 502}]}, "response": {"statusCode": 451}}
    await apply(
        bench,
        *backend("one", one.port),
        ai_route("route", "m", {"name": "one"}),
        ai_route("neighbour", "n", {"name": "one"}),
        policy(
            compressor=[{"type": "Gzip"}, {"type": "Brotli"}, {"type": "Zstd"}],
            rateLimit=limit,
            responseOverride=[override],
            requestBuffer={"limit": "1k"},
            faultInjection={"abort": {"httpStatus": 418}},
        ),
    )
    long = {"model": "n", "messages": [{"role": "user", "content": "x" * 5000}]}
    for _ in range(3):
        reply = await bench.post(long, headers={"accept-encoding": "gzip, br, zstd"})
        assert reply.status == 200
        assert "Content-Encoding" not in reply.headers
    one.status = 502
    assert (await bench.post(long)).status != 451
    assert (await bench.post(QUESTION)).status == 418


async def test_a_body_beyond_the_buffer_is_refused(bench: Workbench, one: Provider) -> None:
    await apply(
        bench,
        plain_backend("b", one.port),
        plain_route("b"),
        policy(requestBuffer={"limit": "1k"}),
    )
    assert (await bench.post(b"x" * 500, "/")).status == 200
    assert (await bench.post(b"x" * 5000, "/")).status == 413
    await apply(
        bench,
        *backend("one", one.port),
        ai_route("route", "m", {"name": "one"}),
        policy(requestBuffer={"limit": "1k"}),
    )
    assert (await bench.post(QUESTION)).status == 200
    long = {**QUESTION, "messages": [{"role": "user", "content": "x" * 5000}]}
    reply = await bench.post(long)
    assert reply.status == 413
    assert reply.json["error"]["code"] == "413"


async def test_a_policy_that_cannot_be_served_is_told_and_its_requests_get_500(
    bench: Workbench, one: Provider
) -> None:
    retry = {"perRetry": {"backOff": {"baseInterval": "2s", "maxInterval": "1s"}}}
    plan = await apply(bench, plain_backend("b", one.port), plain_route("b"), policy(retry=retry, foo=1))
    told = policy_conditions(plan, "for-route-httproute")
    assert told["Accepted"]["reason"] == "Invalid"
    assert "maxInterval" in told["Accepted"]["message"]
    assert told["Warning"]["message"] == "spec.foo is not honoured"
    reply = await bench.get("/")
    assert reply.status == 500
    assert "maxInterval" in reply.json["error"]["message"]
