"""Attempts: whom a request goes to, with what, and what is told of it."""

from __future__ import annotations

import asyncio
import json

import pytest
from aiohttp import web

from tests.gateway.traffic.manifests import QUESTION, fallback_pair
from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    free_port,
    gateway,
    key_policy,
    running_provider,
)
from tests.waiting import eventually


async def test_each_attempt_gets_the_path_and_the_credentials_of_its_own_provider(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    first.status = 503
    await bench.apply(gateway(bench.port), *fallback_pair(first, second))
    reply = await bench.post(QUESTION, headers={"authorization": "Bearer of-the-client"})
    assert reply.status == 200
    azure, openai = first.seen[0], second.seen[0]
    assert azure.path == "/openai/deployments/gpt-4o/chat/completions?api-version=2025-01-01-preview"
    assert azure.headers["api-key"] == "azure-secret"
    assert "authorization" not in azure.headers
    assert openai.path == "/v1/chat/completions"
    assert openai.headers["authorization"] == "Bearer openai-secret"
    assert "api-key" not in openai.headers
    for seen in (azure, openai):
        assert seen.json == QUESTION
        assert seen.headers["content-length"] == str(len(seen.body))
        assert not [name for name in seen.headers if name.startswith(("x-ai-eg-", "x-envoy-"))]


async def test_a_request_that_fell_back_is_told_attempt_by_attempt(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    first.status = 503
    await bench.apply(gateway(bench.port), *fallback_pair(first, second))
    record = await bench.record(await bench.post(QUESTION))
    assert [(item.number, item.backend, item.outcome) for item in record.attempts] == [
        (1, "default/azure", "answered 503"),
        (2, "default/openai", "answered"),
    ]
    assert record.path == "/v1/chat/completions"
    assert (record.route, record.rule, record.model, record.backend) == (
        "default/route",
        0,
        "gpt-4o",
        "default/openai",
    )
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (12, 7)


@pytest.mark.parametrize("failure", ["429", "500", "503", "refused", "reset", "silent"])
async def test_a_failing_backend_is_left_for_the_next_priority(
    bench: Workbench, first: Provider, second: Provider, failure: str
) -> None:
    async def reset(request: web.Request, body: bytes) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def silent(request: web.Request, body: bytes) -> web.StreamResponse:
        await asyncio.sleep(30)
        return web.Response()

    port = first.port
    if failure.isdigit():
        first.status = int(failure)
    elif failure == "refused":
        port = free_port()
    else:
        first.answer = {"reset": reset, "silent": silent}[failure]
    await bench.apply(gateway(bench.port), *fallback_pair(port, second, streamIdleTimeout="300ms"))
    reply = await bench.post(QUESTION)
    assert reply.status == 200
    assert reply.json["choices"][0]["message"]["content"] == str(second.port)
    record = await bench.record(reply)
    assert len(record.attempts) == 2
    assert record.attempts[0].backend == "default/azure"
    expected = {
        "429": "answered 429",
        "500": "answered 500",
        "503": "answered 503",
        "refused": "connection failure",
        "reset": "connection closed by the backend",
        "silent": "timeout",
    }
    assert expected[failure] in record.attempts[0].outcome, record.attempts


async def test_the_last_failure_is_shown_as_the_provider_told_it(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    first.status = second.status = 429
    await bench.apply(gateway(bench.port), *fallback_pair(first, second))
    reply = await bench.post(QUESTION)
    assert reply.status == 429
    assert reply.json["error"]["message"] == "provider says 429"
    record = await bench.record(reply)
    assert [item.outcome for item in record.attempts] == ["answered 429", "answered 429"]


async def test_weights_share_the_requests_of_one_priority(bench: Workbench, first: Provider) -> None:
    async with running_provider() as second:
        route = ai_route("route", "gpt-4o", {"name": "a", "weight": 3}, {"name": "b", "weight": 1})
        await bench.apply(gateway(bench.port), *backend("a", first.port), *backend("b", second.port), route)
        replies = await asyncio.gather(*(bench.post(QUESTION) for _ in range(200)))
        assert {reply.status for reply in replies} == {200}
        # Binomial with p 3/4: 150 on average, standard deviation 6.
        assert 115 < len(first.seen) < 185
        assert len(first.seen) + len(second.seen) == 200


async def test_a_client_that_leaves_closes_its_upstream_long_before_the_answer_is_over(
    bench: Workbench, first: Provider
) -> None:
    first.chunks, first.chunk_seconds = 1000, 0.05
    await bench.apply(
        gateway(bench.port), *backend("a", first.port), ai_route("route", "gpt-4o", {"name": "a"})
    )
    body = json.dumps({**QUESTION, "stream": True})
    headers = {"content-type": "application/json"}
    async with bench.session.post(bench.url + "/v1/chat/completions", data=body, headers=headers) as response:
        await response.content.readany()
        key = response.headers["X-Request-ID"]
        response.close()
    await asyncio.wait_for(first.closed.wait(), 20)
    await eventually(lambda: key in bench.records)
    assert "client left" in bench.records[key].outcome


async def test_a_route_without_its_backend_or_secret_answers_503_and_no_other_route_notices(
    bench: Workbench, first: Provider
) -> None:
    policies = [item for item in key_policy("locked", "x") if item["kind"] != "Secret"]
    plan = await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        *backend("locked", first.port),
        *policies,
        ai_route("good", "gpt-4o", {"name": "a"}),
        ai_route("lost", "lost-model", {"name": "missing"}),
        ai_route("locked", "locked-model", {"name": "locked"}),
    )
    assert (await bench.post(QUESTION)).status == 200
    lost = await bench.post({**QUESTION, "model": "lost-model"})
    assert lost.status == 503
    assert "AIServiceBackend default/missing does not exist" in lost.json["error"]["message"]
    locked = await bench.post({**QUESTION, "model": "locked-model"})
    assert locked.status == 503
    assert "Secret default/locked-key" in locked.json["error"]["message"]
    told = {
        item.name: item.status["conditions"][0]
        for item in plan.statuses
        if item.resource.kind == "AIGatewayRoute"
    }
    assert told["good"]["type"] == "Accepted"
    assert told["lost"]["type"] == told["locked"]["type"] == "NotAccepted"
    assert "default/missing" in told["lost"]["message"]


async def test_a_backend_that_is_down_gives_a_json_error(bench: Workbench) -> None:
    await bench.apply(
        gateway(bench.port), *backend("a", free_port()), ai_route("route", "gpt-4o", {"name": "a"})
    )
    reply = await bench.post(QUESTION)
    assert reply.status == 503
    assert reply.json["type"] == "error"
    error = reply.json["error"]
    assert (error["type"], error["code"]) == ("ServiceUnavailable", "503")
    assert "no backend of AIGatewayRoute default/route answered" in error["message"]
    assert f"kaji explain request {reply.headers['X-Request-ID']}" in error["message"]
    assert "upstream connect error" not in error["message"]
    record = await bench.record(reply)
    assert {item.outcome for item in record.attempts} == {"connection failure"}


async def test_credentials_are_in_no_dump_and_no_file_that_others_can_read(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    first.status = 503
    await bench.apply(gateway(bench.port), *fallback_pair(first, second))
    await bench.record(await bench.post(QUESTION))
    dumped = await bench.admin("/config_dump?include_eds")
    assert "default/azure" in dumped
    everything = dumped + await bench.admin("/clusters") + await bench.admin("/listeners") + bench.log()
    for path in bench.folder.iterdir():
        if path.is_file():
            everything += path.read_bytes().decode(errors="replace")
    assert "azure-secret" not in everything and "openai-secret" not in everything
    for name in ("ads.sock", "admin.sock", "bootstrap.json", "ledger.db"):
        assert (bench.folder / name).stat().st_mode & 0o077 == 0, name
