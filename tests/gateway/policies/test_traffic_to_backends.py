"""BackendTrafficPolicies in a real Envoy: which backend is asked, how often, and for how long."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from aiohttp import web

from tests.waiting import eventually

from ..workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    free_port,
)
from .traffic import QUESTION, apply, plain_backend, plain_route, policy, policy_conditions

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_the_given_statuses_are_tried_again_and_others_are_not(bench: Workbench, one: Provider) -> None:
    retry = {"numRetries": 2, "retryOn": {"triggers": ["retriable-status-codes"], "httpStatusCodes": [418]}}
    await apply(bench, plain_backend("b", one.port), plain_route("b"), policy(retry=retry))
    one.status = 418
    assert (await bench.get("/")).status == 418
    assert len(one.seen) == 3
    one.seen.clear()
    one.status = 503
    assert (await bench.get("/")).status == 503
    assert len(one.seen) == 1


async def test_a_given_retry_takes_the_place_of_the_defaults_of_an_ai_route(
    bench: Workbench, one: Provider, two: Provider
) -> None:
    # Not 503: of that, five in a row would have the backend left out.
    one.status = 500
    objects = [
        *backend("one", one.port),
        *backend("two", two.port),
        ai_route("route", "m", {"name": "one", "priority": 0}, {"name": "two", "priority": 1}),
    ]
    retry: dict[str, Any] = {"numRetries": 3, "retryOn": {"triggers": ["5xx"]}}
    await apply(bench, *objects, policy(retry=retry))
    # Without numAttemptsPerPriority every attempt stays with the first priority.
    assert (await bench.post(QUESTION)).status == 500
    assert (len(one.seen), len(two.seen)) == (4, 0)
    one.seen.clear()
    await apply(bench, *objects, policy(retry={**retry, "numAttemptsPerPriority": 2}))
    assert (await bench.post(QUESTION)).status == 200
    assert (len(one.seen), len(two.seen)) == (2, 1)
    one.seen.clear()
    await apply(bench, *objects, policy(retry={"numRetries": 0}))
    assert (await bench.post(QUESTION)).status == 500
    assert len(one.seen) == 1


async def test_each_attempt_has_the_given_timeout(bench: Workbench, one: Provider, two: Provider) -> None:
    async def stuck(request: web.Request, body: bytes) -> web.StreamResponse:
        await asyncio.sleep(60)
        return web.Response()

    one.answer = stuck
    retry = {
        "numRetries": 1,
        "numAttemptsPerPriority": 1,
        "retryOn": {"triggers": ["5xx", "reset"]},
        "perRetry": {"timeout": "200ms", "backOff": {"baseInterval": "10ms"}},
    }
    await apply(
        bench,
        *backend("one", one.port),
        *backend("two", two.port),
        ai_route("route", "m", {"name": "one", "priority": 0}, {"name": "two", "priority": 1}),
        policy(retry=retry),
    )
    reply = await bench.post(QUESTION)
    assert reply.status == 200
    assert reply.json["choices"][0]["message"]["content"] == str(two.port)


async def test_a_request_has_the_given_timeout_unless_its_route_says_otherwise(
    bench: Workbench, one: Provider
) -> None:
    async def slow(request: web.Request, body: bytes) -> web.StreamResponse:
        await asyncio.sleep(0.6)
        return web.Response(text="late")

    one.answer = slow
    timeout = {"http": {"requestTimeout": "150ms"}}
    objects = [plain_backend("b", one.port), policy(timeout=timeout)]
    await apply(bench, *objects, plain_route("b"))
    assert (await bench.get("/")).status == 504
    await apply(bench, *objects, plain_route("b", timeouts={"request": "10s"}))
    assert (await bench.get("/")).status == 200


async def test_what_is_beyond_a_breaker_is_refused_at_once(bench: Workbench, one: Provider) -> None:
    free = asyncio.Event()

    async def held(request: web.Request, body: bytes) -> web.StreamResponse:
        await free.wait()
        return web.Response(text="done")

    one.answer = held
    breaker = {"maxParallelRequests": 1, "maxPendingRequests": 1, "maxConnections": 1}
    await apply(bench, plain_backend("b", one.port), plain_route("b"), policy(circuitBreaker=breaker))
    requests = [asyncio.create_task(bench.get("/"))]
    await eventually(lambda: one.seen)
    # One waits for the connection; there is no room for a third.
    requests.append(asyncio.create_task(bench.get("/")))

    async def one_waits() -> bool:
        return ".upstream_rq_pending_active: 1" in await bench.admin(
            "/stats?filter=upstream_rq_pending_active"
        )

    await eventually(one_waits, "one waits for the connection")
    third = await bench.get("/")
    free.set()
    assert third.status == 503
    assert [(await request).status for request in requests] == [200, 200]


async def test_an_endpoint_that_keeps_failing_is_taken_out(
    bench: Workbench, one: Provider, two: Provider
) -> None:
    one.status = 500
    passive = {
        "consecutive5XxErrors": 2,
        "interval": "100ms",
        "baseEjectionTime": "60s",
        "maxEjectionPercent": 100,
    }
    await apply(
        bench,
        plain_backend("b", one.port, two.port),
        plain_route("b"),
        policy(healthCheck={"passive": passive}, loadBalancer={"type": "RoundRobin"}),
    )
    for _ in range(20):
        await bench.get("/")
    before = len(one.seen)
    assert before >= 2
    assert [(await bench.get("/")).status for _ in range(6)] == [200] * 6
    assert len(one.seen) == before


async def test_an_endpoint_that_fails_its_check_gets_no_traffic(
    bench: Workbench, one: Provider, two: Provider
) -> None:
    async def sick(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.Response(status=500 if request.path == "/health" else 200, text="sick")

    one.answer = sick
    active = {
        "type": "HTTP",
        "http": {"path": "/health", "hostname": "probe.example"},
        "interval": "100ms",
        "timeout": "1s",
        "unhealthyThreshold": 1,
    }
    await apply(
        bench,
        plain_backend("b", one.port, two.port),
        plain_route("b"),
        policy(healthCheck={"active": active, "panicThreshold": 0}),
    )
    await eventually(lambda: any(seen.path == "/health" for seen in one.seen))
    assert one.seen[0].headers["host"] == "probe.example"

    async def none_is_sick() -> bool:
        return b"sick" not in [(await bench.get("/")).body for _ in range(5)]

    await eventually(none_is_sick, "only the other endpoint answers")


async def test_the_same_header_leads_to_the_same_endpoint(
    bench: Workbench, one: Provider, two: Provider
) -> None:
    balancer = {
        "type": "ConsistentHash",
        "consistentHash": {"type": "Header", "header": {"name": "X-Session"}},
    }
    await apply(
        bench,
        *backend("one", one.port),
        *backend("two", two.port),
        ai_route("route", "m", {"name": "one"}, {"name": "two"}),
        policy(loadBalancer=balancer),
    )

    async def served(session: str) -> set[str]:
        replies = [await bench.post(QUESTION, headers={"x-session": session}) for _ in range(4)]
        return {reply.json["choices"][0]["message"]["content"] for reply in replies}

    found = [await served(f"session-{number}") for number in range(12)]
    assert all(len(places) == 1 for places in found)
    assert len(set.union(*found)) == 2


@pytest.mark.parametrize("told", [False, True])
async def test_an_endpoint_that_reports_less_load_gets_more(
    bench: Workbench, one: Provider, two: Provider, told: bool
) -> None:
    def reporting(name: str, load: float) -> Any:
        async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
            report = json.dumps({"named_metrics": {"kv_cache": load}, "rps_fractional": 100})
            return web.Response(text=name, headers={"endpoint-load-metrics": f"JSON {report}"})

        return answer

    one.answer, two.answer = reporting("idle", 0.05), reporting("busy", 0.95)
    reports = {
        "blackoutPeriod": "1ms", "weightUpdatePeriod": "100ms", "metricNamesForComputingUtilization": ["named_metrics.kv_cache"],
        "errorUtilizationPenaltyPercent": 100, "keepResponseHeaders": told,
    }  # fmt: skip
    plan = await apply(
        bench,
        plain_backend("b", one.port, two.port),
        plain_route("b"),
        policy(loadBalancer={"type": "BackendUtilization", "backendUtilization": reports}),
    )
    assert "Warning" not in policy_conditions(plan, "for-route-httproute")

    async def is_uneven() -> bool:
        replies = [await bench.get("/") for _ in range(20)]
        assert all(("endpoint-load-metrics" in reply.headers) is told for reply in replies)
        return sum(reply.body == b"idle" for reply in replies) >= 16

    await eventually(is_uneven, "the idle one gets most requests")


async def test_every_setting_of_backends_is_taken_by_envoy(bench: Workbench, one: Provider) -> None:
    settings: dict[str, Any] = {
        "loadBalancer": {"type": "LeastRequest", "slowStart": {"window": "10s"}},
        "circuitBreaker": {
            "maxRequestsPerConnection": 5,
            "perEndpoint": {"maxConnections": 7},
            "retryBudget": {"percent": {"numerator": 1, "denominator": 4}},
        },
        "healthCheck": {
            "active": {
                "type": "TCP",
                "tcp": {
                    "send": {"type": "Text", "text": "hi"},
                    "receive": {"type": "Binary", "binary": "aGk="},
                },
                "initialJitter": "10ms",
                "overrides": {"port": free_port()},
            },
            "passive": {"failurePercentageThreshold": 50, "consecutiveGatewayErrors": 3},
        },
        "timeout": {
            "tcp": {"connectTimeout": "1s"},
            "http": {
                "connectionIdleTimeout": "9s",
                "maxConnectionDuration": "1h",
                "maxStreamDuration": "1h",
                "streamIdleTimeout": "90s",
            },
        },
        "connection": {
            "bufferLimit": "64Ki",
            "preconnect": {"perEndpointPercent": 150, "predictivePercent": 110},
        },
        "tcpKeepalive": {"probes": 3, "idleTime": "60s", "interval": "10s"},
        "dns": {"lookupFamily": "IPv4", "dnsRefreshRate": "10s", "respectDnsTtl": False},
        "http2": {
            "initialStreamWindowSize": "64Ki",
            "initialConnectionWindowSize": "1Mi",
            "maxConcurrentStreams": 50,
            "onInvalidMessage": "TerminateStream",
            "connectionKeepalive": {"interval": "30s", "timeout": "5s"},
        },
        "useClientProtocol": True,
        "proxyProtocol": {"version": "V2"},
        "httpUpgrade": [{"type": "spdy/3.1"}],
        "telemetry": {
            "metrics": {"routeStatName": "mine"},
            "tracing": {
                "samplingFraction": {"numerator": 1},
                "tags": {"team": "red"},
                "spanName": {"client": "in", "server": "out"},
            },
        },
        "responseOverride": [
            {
                "match": {
                    "statusCodes": [{"value": 404}],
                    "responseHeaders": [{"name": "x-kind", "value": {"type": "Prefix", "value": "old"}}],
                },
                "source": "Backend",
                "redirect": {
                    "scheme": "https",
                    "hostname": "other.example",
                    "port": 8443,
                    "path": {"type": "ReplaceFullPath", "replaceFullPath": "/found"},
                },
            }
        ],
        "retry": {"retryOn": {"httpStatusCodes": [500]}, "perRetry": {"backOff": {"maxInterval": "1s"}}},
    }
    others = [
        {"type": "SourceIP"},
        {"type": "Headers", "headers": [{"name": "a"}, {"name": "b"}]},
        {"type": "QueryParams", "queryParams": [{"name": "q"}]},
        {"type": "Cookie", "cookie": {"name": "c", "ttl": "60s", "attributes": {"SameSite": "Lax"}}},
    ]
    by_name = {
        "kind": "Backend",
        "metadata": {"name": "by-name"},
        "spec": {
            "endpoints": [{"fqdn": {"hostname": "localhost", "port": one.port}}],
            "appProtocols": ["gateway.envoyproxy.io/h2c"],
        },
    }
    documents = [plain_route("by-name"), policy(**settings)]
    for number, hashed in enumerate(others):
        name = f"hash-{number}"
        documents += [
            plain_route("b", name=name, path=f"/{name}"),
            policy(name=name, loadBalancer={"type": "ConsistentHash", "consistentHash": hashed}),
        ]
    documents += [
        plain_route("b", name="random", path="/random"),
        policy(
            name="random",
            loadBalancer={"type": "Random"},
            healthCheck={"active": {"type": "GRPC", "grpc": {"service": "s"}}},
            httpUpgrade=[{"type": "CONNECT", "connect": {"terminate": True}}, {"type": "websocket"}],
        ),
    ]
    plan = await apply(bench, by_name, plain_backend("b", one.port), *documents)
    assert bench.ads.rejected == {}
    for name in ("route", "hash-0", "random"):
        assert policy_conditions(plan, f"for-{name}-httproute")["Accepted"]["status"] == "True"
    told = policy_conditions(plan, "for-random-httproute")["Warning"]["message"]
    assert "does not speak HTTP/2" in told
    assert "Warning" not in policy_conditions(plan, "for-route-httproute")
