"""A provider that says 429 is left alone by all requests, for as long as it asked for."""

from __future__ import annotations

import asyncio
import email.utils
import time
from typing import Any

import pytest
from aiohttp import web

from tests.gateway import workbench
from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    gateway,
    key_policy,
    running_provider,
)
from tests.waiting import eventually

QUESTION = {"model": "m", "messages": []}


def policy(*names: str, kind: str = "AIGatewayRoute", section: str = "", **spec: Any) -> dict[str, Any]:
    group = "gateway.networking.k8s.io" if kind == "Gateway" else "aigateway.envoyproxy.io"
    refs = [
        {"group": group, "kind": kind, "name": name, **({"sectionName": section} if section else {})}
        for name in names or ("route",)
    ]
    return {
        "apiVersion": "gateway.kajitori.dev/v1alpha1",
        "kind": "AITrafficPolicy",
        "metadata": {"name": spec.pop("name", "policy")},
        "spec": {"targetRefs": refs, **spec},
    }


def pair(first: Provider, second: Provider, *more: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        *backend("a", first.port),
        *backend("b", second.port),
        ai_route("route", "m", {"name": "a", "priority": 0}, {"name": "b", "priority": 1}),
        *more,
    ]


def busy(provider: Provider, status: int = 429, **headers: str) -> None:
    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.json_response({"error": {"message": "slow down"}}, status=status, headers=headers)

    provider.answer = answer


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "date"])
async def test_complaint_2_a_429_with_retry_after_moves_to_the_next_and_cools_the_target_down(
    bench: Workbench, first: Provider, second: Provider, form: str
) -> None:
    told = {
        "seconds": {"retry-after": "3600"},
        "milliseconds": {"retry-after-ms": "120000"},
        "date": {"retry-after": email.utils.formatdate(time.time() + 120, usegmt=True)},
    }
    busy(first, **told[form])
    await bench.apply(gateway(bench.port), *pair(first, second))
    reply = await bench.post(QUESTION)
    assert reply.status == 200
    assert (len(first.seen), len(second.seen)) == (1, 1)
    for _ in range(5):
        reply = await bench.post(QUESTION)
        assert reply.status == 200
    assert (len(first.seen), len(second.seen)) == (1, 6)
    record = await bench.record(reply)
    assert [item.backend for item in record.attempts] == ["default/b"]
    assert record.decision.startswith("default/b, default/a: default/a cooled for ")


async def test_a_cooled_target_is_asked_again_when_its_time_is_up(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    busy(first, **{"retry-after": "1"})
    await bench.apply(gateway(bench.port), *pair(first, second))
    await bench.post(QUESTION)
    first.answer = None
    reply = await bench.post(QUESTION)
    assert reply.json["choices"][0]["message"]["content"] == str(second.port)
    seen = len(first.seen)

    async def back() -> bool:
        await bench.post(QUESTION)
        return len(first.seen) > seen

    await eventually(back, "the first is asked again")


async def test_without_retry_after_a_target_is_left_alone_longer_each_time_and_never_beyond_the_bound(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    busy(first)
    held = policy(fallback={"cooldown": {"default": "1s", "max": "2s"}})
    await bench.apply(gateway(bench.port), *pair(first, second, held))
    told: list[int] = []
    for number in range(1, 4):
        await _asked(bench, first, number)
        decision = (await bench.record(await bench.post(QUESTION))).decision
        if "cooled for" in decision:
            told.append(int(decision.rpartition("default/a cooled for ")[2].split()[0]))
    # 1, 2, 2; on a machine that stands still for a second, something less.
    assert told[0] == 1 < max(told) <= 2


async def _asked(bench: Workbench, provider: Provider, times: int) -> None:
    """Sends requests until a provider has been asked so often."""

    async def asked() -> bool:
        if len(provider.seen) < times:
            assert (await bench.post(QUESTION)).status == 200
        return len(provider.seen) >= times

    await eventually(asked, f"{times} requests came to it")


async def test_a_503_cools_the_whole_backend_if_it_says_for_how_long_and_else_not_at_all(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    other = ai_route("other", "n", {"name": "a", "priority": 0}, {"name": "b", "priority": 1})
    busy(first, 503)
    await bench.apply(gateway(bench.port), *pair(first, second, other))
    for _ in range(2):
        assert (await bench.post(QUESTION)).status == 200
    assert len(first.seen) == 2
    busy(first, 503, **{"retry-after": "60"})
    for model in ("m", "m", "n"):
        assert (await bench.post({**QUESTION, "model": model})).status == 200
    assert len(first.seen) == 3


async def test_a_429_for_one_model_leaves_the_backend_open_for_its_others(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    other = ai_route("other", "n", {"name": "a", "priority": 0}, {"name": "b", "priority": 1})
    same = ai_route(
        "same", "alias", {"name": "a", "priority": 0, "modelNameOverride": "m"}, {"name": "b", "priority": 1}
    )
    busy(first, **{"retry-after": "60"})
    await bench.apply(gateway(bench.port), *pair(first, second, other, same))
    await bench.post(QUESTION)
    await bench.post({**QUESTION, "model": "n"})
    assert len(first.seen) == 2
    # By whatever name it is asked for: the provider counts its own.
    assert (await bench.post({**QUESTION, "model": "alias"})).status == 200
    assert len(first.seen) == 2


async def test_if_all_are_cooled_the_one_that_is_soonest_ready_is_tried_or_the_client_told_when(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    busy(first, **{"retry-after": "100"})
    busy(second, **{"retry-after": "50"})
    await bench.apply(gateway(bench.port), *pair(first, second))
    assert (await bench.post(QUESTION)).status == 429
    assert (len(first.seen), len(second.seen)) == (1, 1)
    second.answer = None
    reply = await bench.post(QUESTION)
    assert reply.status == 200
    assert (len(first.seen), len(second.seen)) == (1, 2)
    refusing = policy(fallback={"cooldown": {"whenAllCooled": "Refuse"}})
    await bench.apply(gateway(bench.port), *pair(first, second, refusing))
    reply = await bench.post(QUESTION)
    assert reply.status == 429
    assert 0 < int(reply.headers["Retry-After"]) <= 50
    assert "default/a cooled for" in reply.json["error"]["message"]
    assert (len(first.seen), len(second.seen)) == (1, 2)


async def test_what_a_cooled_backend_would_have_got_goes_to_its_peers_before_the_next_priority(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    busy(first, **{"retry-after": "60"})
    async with running_provider() as third:
        route = ai_route(
            "route", "m", {"name": "a", "weight": 1000}, {"name": "b"}, {"name": "c", "priority": 1}
        )
        documents = [*backend("a", first.port), *backend("b", second.port), *backend("c", third.port)]
        await bench.apply(gateway(bench.port), *documents, route)
        for _ in range(10):
            assert (await bench.post(QUESTION)).status == 200
        assert len(first.seen) == 1
        assert not third.seen


async def test_a_policy_can_keep_every_request_as_configured(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    busy(first, **{"retry-after": "60"})
    await bench.apply(
        gateway(bench.port), *pair(first, second, policy(fallback={"cooldown": {"enabled": False}}))
    )
    for _ in range(3):
        assert (await bench.post(QUESTION)).status == 200
    assert len(first.seen) == 3


async def test_a_change_of_configuration_forgets_nothing_and_a_date_that_is_none_counts_as_no_word(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    busy(first, **{"retry-after": "Wed, 99 Foo 2026 12:00:00 GMT"})
    documents = pair(first, second)
    await bench.apply(gateway(bench.port), *documents)
    await bench.post(QUESTION)
    await bench.apply(gateway(bench.port), *documents, ai_route("more", "n", {"name": "a"}))
    record = await bench.record(await bench.post(QUESTION))
    assert len(first.seen) == 1
    assert 0 < int(record.decision.rpartition("default/a cooled for ")[2].split()[0]) <= 5


async def test_what_one_worker_was_told_all_workers_know(
    first: Provider, second: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = workbench.envoy_arguments
    monkeypatch.setattr(workbench, "envoy_arguments", lambda path: arguments(path, concurrency=4))
    async with workbench.running_workbench() as bench:
        busy(first, **{"retry-after": "60"})
        await bench.apply(gateway(bench.port), *pair(first, second))
        await bench.post(QUESTION)
        assert len(first.seen) == 1
        # Each comes by a connection of its own, so by any of the workers.
        replies = await asyncio.gather(*(bench.post(QUESTION) for _ in range(40)))
        assert {reply.status for reply in replies} == {200}
        assert len(first.seen) == 1


async def test_the_number_of_attempts_that_a_policy_of_envoy_gateway_gives_is_kept_to_in_any_order(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    four = {
        "kind": "BackendTrafficPolicy",
        "metadata": {"name": "four"},
        "spec": {
            "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "name": "route"}],
            "retry": {
                "numRetries": 3,
                "numAttemptsPerPriority": 1,
                "retryOn": {"triggers": ["retriable-status-codes"], "httpStatusCodes": [429, 500]},
            },
        },
    }
    busy(first, **{"retry-after": "60"})
    second.status = 500
    await bench.apply(gateway(bench.port), *pair(first, second, four))
    for attempts in (4, 8):
        assert (await bench.post(QUESTION)).status in (429, 500)
        assert len(first.seen) + len(second.seen) == attempts


async def test_what_a_provider_says_to_the_key_of_one_client_keeps_no_other_away(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    busy(first, **{"retry-after": "60"})
    own = {"authorization": "Bearer of-one-client"}
    await bench.apply(gateway(bench.port), *pair(first, second))
    for _ in range(2):
        assert (await bench.post(QUESTION, headers=own)).status == 200
    assert len(first.seen) == 2
    # With the gateway's own key it concerns all.
    await bench.apply(gateway(bench.port), *pair(first, second, *key_policy("a", "of-the-gateway")))
    for _ in range(2):
        assert (await bench.post(QUESTION, headers=own)).status == 200
    assert len(first.seen) == 3
    brought = key_policy("a", "of-the-gateway")
    brought[1]["apiVersion"] = "aigateway.envoyproxy.io/v1beta1"
    brought[1]["spec"]["credentialOverride"] = {"fromRequestHeaders": {}}
    second_route = ai_route("other", "n", {"name": "a", "priority": 0}, {"name": "b", "priority": 1})
    await bench.apply(gateway(bench.port), *pair(first, second, second_route, *brought))
    for _ in range(2):
        reply = await bench.post({**QUESTION, "model": "n"}, headers={"x-aigw-api-key": "of-one-client"})
        assert reply.status == 200
    assert len(first.seen) == 5
