"""Requests spill to the next backend where one has enough to do, and hedging sends a second one to a slow backend."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from tests.gateway.resilience.test_cooling import QUESTION, pair, policy
from tests.gateway.workbench import Provider, Reply, Workbench, ai_route, backend, gateway
from tests.waiting import eventually


def holding(provider: Provider) -> asyncio.Event:
    """Has a provider answer only when the event is set."""
    go = asyncio.Event()

    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        await go.wait()
        return web.json_response({"choices": [], "usage": provider.usage})

    provider.answer = answer
    return go


def ask(bench: Workbench, count: int) -> list[asyncio.Task[Reply]]:
    return [asyncio.create_task(bench.post(QUESTION)) for _ in range(count)]


async def test_requests_beyond_the_bound_of_a_backend_go_to_the_next_and_come_back_when_there_is_room(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    bound = {"onSaturation": {"backends": [{"name": "a", "maxConcurrentRequests": 3}]}}
    await bench.apply(gateway(bench.port), *pair(first, second, policy(fallback=bound)))
    go = holding(first)
    waiting = ask(bench, 3)
    await eventually(lambda: len(first.seen) == 3)
    record = await bench.record(await bench.post(QUESTION))
    assert (len(first.seen), len(second.seen)) == (3, 1)
    assert record.decision == "default/b, default/a: default/a saturated (3 requests)"
    go.set()
    assert {reply.status for reply in await asyncio.gather(*waiting)} == {200}
    # That room has come back is found out by a collection, which is made when it matters, and not too often.
    await eventually(lambda: comes_to(bench, first, 4), "the first is asked again")


async def comes_to(bench: Workbench, provider: Provider, times: int) -> bool:
    """Asks once more; whether a provider was asked so often by now."""
    assert (await bench.post(QUESTION)).status == 200
    return len(provider.seen) >= times


async def test_clients_that_go_away_take_no_room(bench: Workbench, first: Provider, second: Provider) -> None:
    bound = {"onSaturation": {"maxConcurrentRequests": 2}}
    await bench.apply(gateway(bench.port), *pair(first, second, policy(fallback=bound)))
    holding(first)
    waiting = ask(bench, 2)
    await eventually(lambda: len(first.seen) == 2)
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    first.answer = None
    await eventually(lambda: comes_to(bench, first, 3), "the first is asked again")


async def test_if_all_are_saturated_requests_go_on_in_order_or_are_refused_as_the_policy_says(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    def bound(**more: str) -> dict[str, Any]:
        return policy(fallback={"onSaturation": {"maxConcurrentRequests": 1, **more}})

    await bench.apply(gateway(bench.port), *pair(first, second, bound(whenAllSaturated="Refuse")))
    go, gone = holding(first), holding(second)
    waiting = ask(bench, 2)
    await eventually(lambda: len(first.seen) == len(second.seen) == 1)
    refused = await bench.post(QUESTION)
    assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
    assert "default/a saturated (1 requests); default/b saturated" in refused.json["error"]["message"]
    await bench.apply(gateway(bench.port), *pair(first, second, bound()))
    waiting += ask(bench, 1)
    await eventually(lambda: len(first.seen) == 2)
    go.set()
    gone.set()
    assert {reply.status for reply in await asyncio.gather(*waiting)} == {200}


async def test_a_second_attempt_goes_beside_a_slow_one_to_another_endpoint_and_both_are_booked(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    documents = backend("a", first.port)
    documents[0]["spec"]["endpoints"].append({"ip": {"address": "127.0.0.1", "port": second.port}})
    hedged = policy(hedging={"after": "200ms"})
    await bench.apply(gateway(bench.port), *documents, ai_route("route", "m", {"name": "a"}), hedged)
    go = holding(first)
    # Whichever endpoint is chosen first: the slow one is asked after a few requests.
    replies: list[Reply] = []
    while not first.seen:
        replies.append(await bench.post(QUESTION))
        assert len(replies) < 50
    assert {reply.status for reply in replies} == {200}
    assert replies[-1].json["choices"][0]["message"]["content"] == str(second.port)
    record = await bench.record(replies[-1])
    assert len(record.attempts) == 2
    assert not go.is_set()
