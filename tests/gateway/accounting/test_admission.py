"""Envoy asks the accountant: on routes with limits, and on no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from kajitori.gateway.accounting.accountant_policy import AccountantPolicy, KeyFacts, RouteFacts
from kajitori.gateway.accounting.admission_server import AdmissionServer
from kajitori.gateway.limits.limit import Limit, Selector, Window
from kajitori.gateway.limits.request import ALLOWED, Request, Verdict
from kajitori.gateway.routes.admission import CLOSED_FILTER, OPEN_FILTER, Asking
from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    gateway,
    running_provider,
    running_workbench,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Admission:
    """Decides by the model, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def admit_at_once(self, request: Request) -> Verdict | None:
        return None

    async def admit(self, request: Request) -> Verdict:
        self.asked.append(request)
        if request.headers.get("x-team") == "poor":
            return Verdict(
                allowed=False,
                status=429,
                message="the team has nothing left",
                retry_after_seconds=7.0,
                headers=(("x-ratelimit-remaining", "0"),),
            )
        if request.model == "closed":
            return ALLOWED
        return Verdict(allowed=True, headers=(("x-ratelimit-remaining", "4"), ("x-private", "no")))


def traffic_policy(route: str) -> dict[str, Any]:
    selector = {"headers": [{"name": "X-Team", "type": "Distinct"}]}
    return {
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": route},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": route}],
            "rateLimit": {
                "type": "Global",
                "global": {
                    "rules": [{"clientSelectors": [selector], "limit": {"requests": 5, "unit": "Hour"}}]
                },
            },
        },
    }


def budget(route: str) -> dict[str, Any]:
    return {
        "kind": "Budget",
        "metadata": {"name": route},
        "spec": {
            "amount": {"requests": 100},
            "window": {"sliding": "1h"},
            "routes": [route],
            "onStoreLoss": "Deny",
        },
    }


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def provider() -> AsyncIterator[Provider]:
    async with running_provider() as found:
        yield found


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(provider: Provider) -> AsyncIterator[Workbench]:
    async with running_workbench() as found:
        await found.apply(
            gateway(found.port),
            *backend("a", provider.port),
            ai_route("limited", "m", {"name": "a"}),
            ai_route("free", "free", {"name": "a"}),
            ai_route("closed", "closed", {"name": "a"}),
            traffic_policy("limited"),
            budget("closed"),
        )
        yield found


@pytest_asyncio.fixture(loop_scope="module")
async def admission(bench: Workbench) -> AsyncIterator[Admission]:
    found = Admission()
    server = AdmissionServer(found)
    await server.listen(bench.folder / "accountant.sock")
    yield found
    server.close()


def ask(model: str = "m") -> dict[str, Any]:
    return {"model": model, "messages": [{"role": "user", "content": "word " * 100}], "max_tokens": 77}


async def test_a_route_with_limits_is_asked_about_with_what_they_need_and_another_is_not(
    bench: Workbench, admission: Admission, provider: Provider
) -> None:
    secret = {"authorization": "Bearer client-secret", "x-team": "red", "x-kajitori-key": "forged"}
    reply = await bench.post(ask(), headers=secret)
    assert reply.status == 200
    (asked,) = admission.asked
    assert (asked.route, asked.rule, asked.model, asked.path) == (
        "default/limited",
        "0",
        "m",
        "/v1/chat/completions",
    )
    assert (asked.id, asked.key, asked.client) == (reply.headers["X-Request-ID"], "", "127.0.0.1")
    assert asked.headers["x-team"] == "red" and asked.input_tokens > 100 and asked.output_tokens == 77
    assert "authorization" not in asked.headers
    told = {name.lower(): value for name, value in reply.headers.items()}
    assert told["x-ratelimit-remaining"] == "4" and "x-private" not in told
    assert not any(name.startswith("x-kajitori") for name in provider.seen[-1].headers)
    assert (await bench.post(ask("free"))).status == 200
    assert len(admission.asked) == 1


@pytest.mark.parametrize(
    ("path", "kind"), [("/v1/chat/completions", "TooManyRequests"), ("/v1/embeddings", "TooManyRequests")]
)
async def test_a_refusal_reaches_the_client_as_it_was_said_and_no_backend(
    bench: Workbench, admission: Admission, provider: Provider, path: str, kind: str
) -> None:
    before = len(provider.seen)
    reply = await bench.post({**ask(), "input": "x"}, path=path, headers={"x-team": "poor"})
    assert reply.status == 429 and len(provider.seen) == before
    assert reply.json["error"] == {"type": kind, "code": "429", "message": "the team has nothing left"}
    told = {name.lower(): value for name, value in reply.headers.items()}
    assert (told["retry-after"], told["x-ratelimit-remaining"]) == ("7", "0")
    assert "x-envoy-upstream-service-time" not in told
    record = await bench.record(reply)
    assert (record.outcome, record.backend, record.attempts) == ("refused by admission", "", [])


async def test_without_an_accountant_requests_pass_or_not_as_the_limits_of_their_route_say(
    bench: Workbench, provider: Provider
) -> None:
    assert (await bench.post(ask(), headers={"x-team": "poor"})).status == 200
    before = len(provider.seen)
    reply = await bench.post(ask("closed"))
    assert reply.status == 503 and len(provider.seen) == before
    assert reply.headers["Retry-After"] == "1"
    assert reply.json["error"]["type"] == "ServiceUnavailable"
    assert "AIGatewayRoute default/closed lets no request pass" in reply.json["error"]["message"]
    assert (await bench.post(ask("free"))).status == 200


async def test_only_the_headers_that_limits_select_by_are_told() -> None:
    window = Window("Fixed", seconds=60.0)
    policy = AccountantPolicy(
        routes={"default/r": RouteFacts(limits=(0, 1)), "default/s": RouteFacts()},
        limits=(
            Limit("one", "requests", 5.0, window, (Selector("header:x-team", "Distinct"),)),
            Limit("two", "requests", 5.0, window, (Selector("key", "Distinct"),), deny_without_store=True),
        ),
    )
    asking = Asking(policy)
    route = asking.asked({"name": "ai/default/r/rule/3/match/0"})
    (config,) = route["typed_per_filter_config"].items()
    assert config[0] == CLOSED_FILTER
    service = config[1]["check_settings"]["http_service"]
    added = {each["key"] for each in service["authorization_request"]["headers_to_add"]}
    assert added == {"x-kajitori-facts", "x-team"}
    other = {"name": "ai/default/s/rule/0/match/0"}
    assert asking.asked(other) is other and not asking.concerns("default/s")
    # A budget of a key holds wherever the key may be used.
    keyed = AccountantPolicy(
        routes=policy.routes,
        limits=policy.limits,
        budgets={"default/b": 0},
        keys={"k": KeyFacts("default/k", budgets=("default/b",))},
    )
    assert OPEN_FILTER in Asking(keyed).asked(other)["typed_per_filter_config"]
