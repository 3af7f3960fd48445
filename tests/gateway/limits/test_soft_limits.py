"""Limits that are not strict, through a real Envoy: nobody is asked until they are used up, and then Envoy refuses by itself."""

from __future__ import annotations

import contextlib
import datetime
import time
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kajitori.gateway.limits.request import Request
from tests.gateway.limits.limited_workbench import LimitedWorkbench
from tests.gateway.limits.making import counted
from tests.gateway.limits.questions import budget, key_of, lower, question
from tests.gateway.workbench import (
    Provider,
    Reply,
    ai_route,
    backend,
    free_port,
    gateway,
    running_provider,
)
from tests.waiting import eventually

Shared = tuple[LimitedWorkbench, Provider]
pytestmark = pytest.mark.asyncio(loop_scope="module")


def soft(name: str, amount: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return budget(name, amount, strict=False, **{"onStoreLoss": "Allow", **spec})


def watched(bench: LimitedWorkbench) -> list[Request]:
    """Requests that the accountant was asked about from now on."""
    asked: list[Request] = []
    ask = bench.engine._matcher.ask

    def watch(request: Request, now: float) -> Any:
        asked.append(request)
        return ask(request, now)

    bench.engine._matcher.ask = watch  # type: ignore[method-assign]
    return asked


async def used_up(bench: LimitedWorkbench, name: str) -> None:
    """Waits until Envoy can know of it."""
    await eventually(
        lambda: bench.used_up.exists() and f"{name}" in bench.used_up.read_text(),
        what=lambda: (
            f"{name} used up: {bench.engine.soft_limits.used_up} {bench.used_up.read_text() if bench.used_up.exists() else None}"
        ),
    )


async def test_nobody_is_asked_until_the_limit_is_used_up_and_then_envoy_refuses(shared: Shared) -> None:
    bench, provider = shared
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("chat", "m", {"name": "a"}),
        soft("all", {"tokens": 50}),
    )
    asked = watched(bench)
    for _ in range(3):
        assert (await bench.post(question())).status == 200
    await used_up(bench, "Budget default/all")
    reply = await bench.post(question())
    assert reply.status == 429, reply.body
    assert asked == []
    message = reply.json["error"]["message"]
    assert message.startswith("Budget default/all: 0 of 50 tokens are left; it frees in "), message
    told = lower(reply)
    assert int(told["retry-after"]) > 0
    assert (told["x-ratelimit-remaining-tokens"], told["x-ratelimit-limit-tokens"]) == ("0", "50")
    assert told["x-ratelimit-limit"].startswith("50, 50;w=")
    record = await bench.record(reply)
    assert record.decision == message
    assert "script log" not in bench.log()


async def test_clients_of_anthropic_are_refused_in_their_dialect(shared: Shared) -> None:
    bench, provider = shared
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port, {"name": "Anthropic"}),
        ai_route("messages", "m", {"name": "a"}),
        soft("messages", {"requests": 1}, window={"sliding": "24h"}),
    )
    headers = {"anthropic-version": "2023-06-01"}
    assert (await bench.post(question(), "/v1/messages", headers)).status == 200
    await used_up(bench, "Budget default/messages")
    reply = await bench.post(question(), "/v1/messages", headers)
    assert reply.status == 429
    assert (reply.json["type"], reply.json["error"]["type"]) == ("error", "rate_limit_error")
    assert reply.json["request_id"] == lower(reply)["x-request-id"]
    assert lower(reply)["anthropic-ratelimit-requests-remaining"] == "0"
    resets = datetime.datetime.fromisoformat(lower(reply)["anthropic-ratelimit-requests-reset"])
    assert 85_000 < resets.timestamp() - time.time() < 90_000


async def test_envoy_and_the_accountant_answer_alike(shared: Shared) -> None:
    bench, provider = shared

    async def refused(name: str, strict: bool) -> Reply:
        await bench.apply(
            gateway(bench.port),
            *backend("a", provider.port),
            ai_route("alike", "m", {"name": "a"}),
            budget(
                "alike" + name, {"requests": 1}, strict=strict, window={"sliding": "24h"}, onStoreLoss="Allow"
            ),
        )
        await bench.record(await bench.post(question()))
        if not strict:
            await used_up(bench, "Budget default/alikesoft")
        return await bench.post(question())

    strict, soft = await refused("hard", True), await refused("soft", False)
    assert strict.status == soft.status == 429

    def shape(reply: Reply) -> Any:
        headers = {
            name: value
            for name, value in lower(reply).items()
            if name not in ("date", "x-request-id", "content-length")
        }
        seconds = [int(headers.pop(name)) for name in ("retry-after", "x-ratelimit-reset")]
        headers.pop("x-ratelimit-reset-requests")
        error = reply.json["error"]
        words = [
            part.split(" ")[0] if part[:1].isdigit() else part
            for part in error.pop("message").split(" in ")[0].split(": ")[1:]
        ]
        return headers, error, words, [85_000 < each < 90_000 for each in seconds]

    assert shape(strict) == shape(soft)


async def test_a_limit_holds_for_whom_it_concerns_alone(shared: Shared) -> None:
    bench, provider = shared
    ann, ann_text = key_of("ann", "annsoft1", tenantRef={"name": "blue"})
    ben, ben_text = key_of("ben", "bensoft1", budgets=["own"])
    tenant = {"kind": "Tenant", "metadata": {"name": "blue"}, "spec": {"budgets": ["team"]}}
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("first", "m", {"name": "a"}),
        ai_route("other", "n", {"name": "a"}),
        ann,
        ben,
        tenant,
        soft("team", {"requests": 1}, routes=[]),
        soft("own", {"requests": 1}, routes=[]),
        soft(
            "each",
            {"requests": 2},
            routes=["other"],
            countApart=["key"],
            selectors=[{"fact": "model", "value": "n"}],
        ),
    )
    asked = watched(bench)

    async def ask(text: str, model: str = "m") -> int:
        headers = {"authorization": f"Bearer {text}"} if text else {}
        return (await bench.post({**question(), "model": model}, headers=headers)).status

    assert [await ask(ann_text), await ask(ben_text), await ask("")] == [200, 200, 200]
    await used_up(bench, "Budget default/team")
    await used_up(bench, "Budget default/own")
    assert [await ask(ann_text), await ask(ben_text), await ask("")] == [429, 429, 200]
    assert [await ask("", "n") for _ in range(3)] == [
        200,
        200,
        200,
    ]  # who has no key is counted apart from nobody
    eve, eve_text = key_of("eve", "evesoft1")
    pat, pat_text = key_of("pat", "patsoft1")
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("first", "m", {"name": "a"}),
        ai_route("other", "n", {"name": "a"}),
        eve,
        pat,
        soft(
            "each",
            {"requests": 2},
            routes=["other"],
            countApart=["key"],
            selectors=[{"fact": "model", "value": "n"}],
        ),
    )
    assert [await ask(eve_text, "n"), await ask(eve_text, "n"), await ask(pat_text, "n")] == [200, 200, 200]
    await used_up(bench, "Budget default/each")
    assert [await ask(eve_text, "n"), await ask(eve_text, "m"), await ask(pat_text, "n")] == [429, 200, 200]
    assert asked == []


async def test_when_the_window_frees_requests_pass_again(shared: Shared) -> None:
    bench, provider = shared
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("window", "m", {"name": "a"}),
        soft("window", {"requests": 1}, window={"sliding": "2s"}),
    )
    assert (await bench.post(question())).status == 200
    await used_up(bench, "Budget default/window")

    async def passes() -> bool:
        return (await bench.post(question())).status == 200

    assert not await passes()
    await eventually(passes, what=lambda: "free again")


async def test_whom_the_script_cannot_tell_it_has_the_accountant_asked_about(shared: Shared) -> None:
    bench, provider = shared
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("ranges", "m", {"name": "a"}),
        soft(
            "ranges", {"requests": 1}, selectors=[{"fact": "client", "type": "Cidr", "value": "127.0.0.0/8"}]
        ),
    )
    asked = watched(bench)
    assert (await bench.post(question())).status == 200
    assert asked == []
    await used_up(bench, "Budget default/ranges")
    reply = await bench.post(question())
    assert reply.status == 429
    assert reply.json["error"]["message"].startswith("Budget default/ranges: 0 of 1 requests are left")
    assert int(lower(reply)["retry-after"]) > 0
    assert [each.route for each in asked] == ["default/ranges"]


async def test_clients_of_ipv6_are_refused_by_the_name_under_which_they_were_counted(shared: Shared) -> None:
    bench, provider = shared
    port = free_port("::1")
    await bench.apply(
        gateway(port),
        *backend("a", provider.port),
        ai_route("six", "m", {"name": "a"}),
        soft("six", {"requests": 1}, countApart=["client"]),
        bind_address="::1",
    )
    asked = watched(bench)
    async with aiohttp.ClientSession(f"http://[::1]:{port}") as clients:

        async def status() -> int:
            async with clients.post("/v1/chat/completions", json=question()) as answer:
                return answer.status

        assert await status() == 200
        await used_up(bench, "Budget default/six")
        assert await status() == 429
    assert [each.client for each in asked] == [
        "::1"
    ]  # no name of a count that the script could make has colons


async def test_what_is_used_up_stays_so_whoever_is_killed(shared: Shared) -> None:
    bench, provider = shared
    objects = (
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("killed", "m", {"name": "a"}),
        soft(
            "killed",
            {"requests": 2},
            countApart=["client", "route", "rule"],
            selectors=[{"fact": "tenant", "type": "Present", "invert": True}],
        ),
    )
    await bench.apply(*objects)
    assert [(await bench.post(question())).status for _ in range(2)] == [200, 200]
    await used_up(bench, "Budget default/killed")

    async def status() -> int:
        return (await bench.post(question())).status

    bench.kill_accountant()
    assert await status() == 429
    bench.kill_envoy()
    bench.start_envoy()

    async def serves() -> bool:
        with contextlib.suppress(OSError, aiohttp.ClientError):
            return await status() in (200, 429)
        return False

    await eventually(serves, what=bench.log)
    assert await status() == 429
    bench.used_up.unlink()
    assert await status() == 200  # nobody knows of it, and it is booked when the accountant is back
    await bench.start_accountant()
    await used_up(bench, "Budget default/killed")
    assert await status() == 429


async def test_what_passed_while_the_accountant_was_away_is_booked_when_it_is_back(shared: Shared) -> None:
    bench, provider = shared
    await bench.apply(
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("away", "m", {"name": "a"}),
        soft("away", {"requests": 3}),
    )
    bench.kill_accountant()
    assert [(await bench.post(question())).status for _ in range(4)] == [200] * 4
    await bench.start_accountant()
    await used_up(bench, "Budget default/away")
    assert (await bench.post(question())).status == 429


async def test_a_limit_by_method_or_path_needs_no_question(shared: Shared) -> None:
    bench, provider = shared
    objects = (
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("methods", "m", {"name": "a"}),
        soft(
            "posts",
            {"requests": 2},
            selectors=[
                {"fact": "method", "value": "POST"},
                {"fact": "path", "value": "/v1/chat/completions"},
            ],
        ),
        soft("gets", {"requests": 1}, selectors=[{"fact": "method", "value": "GET"}]),
    )
    await bench.apply(*objects)
    asked = watched(bench)
    assert [(await bench.post(question())).status for _ in range(2)] == [200, 200]
    await used_up(bench, "Budget default/posts")
    assert ((await bench.post(question())).status, asked) == (429, [])
    assert "Budget default/gets" not in bench.used_up.read_text()


async def test_where_a_rule_says_so_each_answer_tells_how_a_soft_limit_stands(shared: Shared) -> None:
    bench, provider = shared
    policy = {
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": "told", "annotations": {"gateway.kajitori.dev/strict": "false"}},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "told"}],
            "rateLimit": {
                "global": {
                    "rules": [
                        {"limit": {"requests": 9, "unit": "Day"}, "xRateLimitHeaders": "DraftVersion03"}
                    ]
                }
            },
        },
    }
    await bench.apply(
        gateway(bench.port), *backend("a", provider.port), ai_route("told", "m", {"name": "a"}), policy
    )
    replies = [await bench.post(question()) for _ in range(2)]
    assert [reply.status for reply in replies] == [200, 200]
    assert int(lower(replies[1])["x-ratelimit-remaining"]) in (7, 8)
    assert lower(replies[1])["x-ratelimit-limit"].startswith("9, 9;w=")


async def test_an_answer_without_usage_is_charged_by_an_estimate_and_says_so(shared: Shared) -> None:
    bench, provider = shared
    objects = (
        gateway(bench.port),
        *backend("a", provider.port),
        ai_route("silent", "m", {"name": "a"}),
        soft("late", {"tokens": 1_000_000}),
    )
    await bench.apply(*objects)
    text = "a silent provider "

    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.json_response({"choices": [{"message": {"content": text * 100}}]})

    provider.answer = answer
    try:
        record = await bench.record(await bench.post(question()))
        await bench.apply(*objects, budget("sure", {"tokens": 1_000_000}))
        strict = await bench.record(await bench.post(question()))
    finally:
        provider.answer = None
    assert record.usage is not None and record.usage_estimated
    output = record.usage.output_tokens
    assert 100 * len(text) / 4 < output < 100 * len(text) / 4 + 50
    assert record.usage.input_tokens > 0
    assert strict.usage == record.usage
    total = record.usage.total_tokens

    async def charged() -> bool:
        names = ["Budget default/late", "Budget default/sure"]
        return await counted(bench.engine._store, [(name, 0) for name in names]) == [2 * total, total]

    await eventually(charged, what=lambda: bench.engine.counts)
    assert bench.engine.counts.estimated == {"Budget default/late": 2, "Budget default/sure": 1}


async def test_a_soft_quota_leads_to_the_other_backend_when_it_is_used_up(shared: Shared) -> None:
    bench, provider = shared
    async with running_provider() as other:
        quota = {
            "kind": "QuotaPolicy",
            "metadata": {"name": "quota", "annotations": {"gateway.kajitori.dev/strict": "false"}},
            "spec": {
                "targetRefs": [{"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": "a"}],
                "serviceQuota": {"quota": {"limit": 30, "duration": "1h"}},
            },
        }
        await bench.apply(
            gateway(bench.port),
            *backend("a", provider.port),
            *backend("b", other.port),
            ai_route("spill", "m", {"name": "a", "priority": 0}, {"name": "b", "priority": 1}),
            quota,
        )
        asked = watched(bench)
        assert [(await bench.post(question())).status for _ in range(2)] == [200, 200]
        assert (len(other.seen), asked) == (0, [])
        await used_up(bench, "QuotaPolicy default/quota")
        assert [(await bench.post(question())).status for _ in range(2)] == [200, 200]
        assert len(other.seen) == 2
