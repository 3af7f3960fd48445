"""A slow provider gets company: another one is asked as well, and what answers first is the answer."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from kajitori.gateway.plan import make_plan
from kajitori.gateway.rescue import legs
from kajitori.gateway.resources import CLUSTER, ROUTES
from tests.gateway.resilience.test_cooling import QUESTION, busy, pair, policy
from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    gateway,
    key_policy,
    observe,
    running_provider,
)
from tests.waiting import eventually

HEDGED = {"after": "200ms"}


class Slow:
    """A provider that answers when it may, and knows whether it was left before."""

    def __init__(self, provider: Provider) -> None:
        self.may_answer = asyncio.Event()
        self.left = 0
        self._provider = provider
        provider.answer = self._answer

    async def _answer(self, request: web.Request, body: bytes) -> web.StreamResponse:
        try:
            await self.may_answer.wait()
        except asyncio.CancelledError:
            self.left += 1
            raise
        said = {"message": {"role": "assistant", "content": str(self._provider.port)}}
        return web.json_response({"choices": [said], "usage": self._provider.usage})


async def apply(bench: Workbench, *documents: dict[str, Any]) -> None:
    sockets = (str(bench.folder / "rescue.sock"), str(bench.folder / "inner.sock"))
    await bench.apply(gateway(bench.port), *documents, rescue_sockets=sockets)


def content(answer: Any) -> str:
    return answer.json["choices"][0]["message"]["content"]


async def test_a_slow_provider_is_overtaken_by_another_with_its_own_key_and_model_and_is_left(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    slow = Slow(first)
    route = ai_route(
        "route",
        "m",
        {"name": "a", "priority": 0, "modelNameOverride": "model-of-a"},
        {"name": "b", "priority": 1, "modelNameOverride": "model-of-b"},
    )
    documents = [
        *backend("a", first.port),
        *key_policy("a", "key-of-a"),
        *backend("b", second.port),
        *key_policy("b", "key-of-b"),
        route,
        policy(hedging=HEDGED),
    ]
    await apply(bench, *documents)
    reply = await bench.post(QUESTION)
    assert (reply.status, content(reply)) == (200, str(second.port))
    await eventually(lambda: slow.left == 1, "the slow one is left")
    for provider, name in ((first, "a"), (second, "b")):
        (seen,) = provider.seen
        assert seen.headers["authorization"] == f"Bearer key-of-{name}"
        assert seen.json["model"] == f"model-of-{name}"
        assert not [each for each in seen.headers if each.lower().startswith("x-kajitori")]
    assert "~" not in reply.headers["X-Request-ID"]
    assert not [each for each in reply.headers if each.lower().startswith("x-kajitori")]
    # Each leg is a record of its own; the one that lost has told nothing of what it took.
    lost = await bench.record(reply)
    won = bench.records[f"{reply.headers['X-Request-ID']}~2"]
    assert (lost.backend, won.backend) == ("default/a", "default/b")
    assert [len(each.attempts) for each in (lost, won)] == [1, 1]
    assert lost.client == won.client == "127.0.0.1"
    assert (lost.outcome, lost.usage, won.status) == ("overtaken", None, 200)
    assert won.usage is not None
    assert won.usage.output_tokens == second.usage["completion_tokens"]
    assert won.decision == "default/b, default/a: hedged, request 2"


async def test_a_provider_that_answers_in_time_is_asked_alone_and_one_that_fails_is_followed_at_once(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    await apply(bench, *pair(first, second, policy(hedging={"after": "20s"})))
    reply = await bench.post(QUESTION)
    assert content(reply) == str(first.port)
    assert not second.seen
    busy(first, 503)
    reply = await bench.post(QUESTION)
    assert content(reply) == str(second.port)
    record = await bench.record(reply)
    assert [each.backend for each in record.attempts] == ["default/a", "default/b"]


async def test_the_slow_one_may_still_be_first(bench: Workbench, first: Provider, second: Provider) -> None:
    slow, slower = Slow(first), Slow(second)
    await apply(bench, *pair(first, second, policy(hedging=HEDGED)))
    asked = asyncio.create_task(bench.post(QUESTION))
    await eventually(lambda: second.seen, "the second is asked")
    slow.may_answer.set()
    reply = await asked
    assert content(reply) == str(first.port)
    await eventually(lambda: slower.left == 1)
    record = await bench.record(reply)
    assert (record.backend, record.status) == ("default/a", 200)
    assert record.usage is not None


async def test_a_further_leg_that_fails_is_no_answer_while_the_first_is_under_way(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    slow = Slow(first)
    only_one = first.answer

    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        if len(first.seen) > 1:
            return web.json_response({"error": {"message": "one at a time"}}, status=429)
        assert only_one is not None
        return await only_one(request, body)

    first.answer = answer
    busy(second, 503)
    await apply(bench, *pair(first, second, policy(hedging=HEDGED)))
    asked = asyncio.create_task(bench.post(QUESTION))
    await eventually(lambda: any("~" in each for each in bench.records), "the second leg has failed")
    slow.may_answer.set()
    reply = await asked
    assert (reply.status, content(reply)) == (200, str(first.port))


async def test_a_further_leg_that_is_refused_since_all_backends_are_saturated_ends_nothing(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    slow, other = Slow(first), Slow(second)
    fallback = {
        "onSaturation": {"maxConcurrentRequests": 1, "whenAllSaturated": "Refuse"},
        "chainHeader": "x-chain",
        "allowedBackends": ["b"],
    }
    await apply(bench, *pair(first, second, policy(hedging=HEDGED, fallback=fallback)))
    asked = [asyncio.create_task(bench.post(QUESTION, headers={"x-chain": "b"}))]
    await eventually(lambda: second.seen)
    asked.append(asyncio.create_task(bench.post(QUESTION)))
    await eventually(lambda: len(bench.records) == 2, "both have a further leg that was refused")
    assert {(each.status, "~" in name) for name, each in bench.records.items()} == {(503, True)}
    slow.may_answer.set()
    other.may_answer.set()
    assert [reply.status for reply in await asyncio.gather(*asked)] == [200, 200]
    assert not [each for each in asked[0].result().headers if each.lower().startswith("x-kajitori")]


async def test_what_a_provider_keeps_is_asked_for_once(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    slow = Slow(first)
    await apply(bench, *pair(first, second, policy(hedging=HEDGED)))
    uploaded = asyncio.create_task(bench.post({}, path="/v1/files", headers={"x-ai-eg-model": "m"}))
    await eventually(lambda: first.seen)
    # Asked later, so the further leg of the one before would have come by then.
    assert content(await bench.post(QUESTION)) == str(second.port)
    slow.may_answer.set()
    assert content(await uploaded) == str(first.port)
    assert [each.path for each in first.seen] == ["/v1/files", "/v1/chat/completions"]
    assert [each.path for each in second.seen] == ["/v1/chat/completions"]


async def test_legs_agree_on_an_order_by_weight_so_that_each_goes_to_another(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    async with running_provider() as third:
        documents = [
            *backend("a", first.port),
            *backend("b", second.port),
            *backend("c", third.port),
            ai_route("route", "m", {"name": "a"}, {"name": "b"}, {"name": "c"}),
            policy(hedging={"after": "100ms", "maxExtra": 2}),
        ]
        await apply(bench, *documents)
        providers = (first, second, third)
        slow = [Slow(provider) for provider in providers]
        for number in range(1, 4):
            asked = asyncio.create_task(bench.post(QUESTION))
            await eventually(
                lambda number=number: [len(each.seen) for each in providers] == [number] * 3,
                "each is asked once",
            )
            for each in slow:
                each.may_answer.set()
            assert (await asked).status == 200
            for each in slow:
                each.may_answer.clear()


async def test_a_stream_is_hedged_until_it_begins(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    slow = Slow(first)
    await apply(bench, *pair(first, second, policy(hedging=HEDGED)))
    reply = await bench.post({**QUESTION, "stream": True})
    assert reply.status == 200
    assert b"[DONE]" in reply.body
    await eventually(lambda: slow.left == 1)


def test_streams_that_are_rescued_go_to_the_relay_and_all_else_is_hedged() -> None:
    both = policy(hedging=HEDGED, streams={"onFailure": "Error"})
    backends = ({"name": "a"}, {"name": "b", "priority": 1})
    documents = [gateway(8080), *backend("a", 1), *backend("b", 2), ai_route("route", "m", *backends), both]
    plan = make_plan(observe(*documents, rescue_sockets=("rescue.sock", "inner.sock")))
    (host,) = plan.resources.by_type[ROUTES]["http/8080"]["virtual_hosts"]
    ways = {
        route["name"]: str(route.get("route"))
        for route in host["routes"]
        if route["name"].startswith("ai/default")
    }
    stream, other = (ways[f"ai/default/route/rule/0/match/0{ending}"] for ending in ("~stream", ""))
    assert (legs.RESCUE_CLUSTER in stream, legs.HEDGE_CLUSTER in stream) == (True, False)
    assert (legs.RESCUE_CLUSTER in other, legs.HEDGE_CLUSTER in other) == (False, True)
    assert set(plan.resources.by_type[CLUSTER]) >= legs.CLUSTERS


def test_where_nothing_is_hedged_nothing_is_added() -> None:
    documents = [
        gateway(8080),
        *backend("a", 1),
        ai_route("route", "m", {"name": "a"}),
        policy(hedging=HEDGED),
    ]
    plan = make_plan(observe(*documents, rescue_sockets=("rescue.sock", "inner.sock")))
    assert not legs.CLUSTERS & set(plan.resources.by_type[CLUSTER])
    assert not plan.policy.rescues_streams
