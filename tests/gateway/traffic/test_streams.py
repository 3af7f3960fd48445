"""Streams, usage and costs, and what the gateway answers by itself."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from tests.gateway.traffic.manifests import QUESTION
from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    gateway,
)


async def test_a_stream_reports_usage_to_the_ledger_and_to_clients_that_ask(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(
        gateway(bench.port), *backend("a", first.port), ai_route("route", "gpt-4o", {"name": "a"})
    )
    plain = await bench.post({**QUESTION, "stream": True})
    asked = await bench.post({**QUESTION, "stream": True, "stream_options": {"include_usage": True}})
    refused = await bench.post({**QUESTION, "stream": True, "stream_options": {"include_usage": False}})
    assert b"usage" not in plain.body and b"usage" not in refused.body
    assert plain.body.endswith(b"data: [DONE]\n\n")
    assert plain.body == refused.body
    assert b'"usage"' in asked.body
    for reply in (plain, asked, refused):
        record = await bench.record(reply)
        assert record.stream
        assert record.usage is not None and record.usage.total_tokens == 19
        assert record.time_to_first_token_seconds is not None
    assert all(seen.json["stream_options"] == {"include_usage": True} for seen in first.seen)


async def test_a_usage_event_that_is_cut_anywhere_is_still_taken_out(
    bench: Workbench, first: Provider
) -> None:
    whole = (
        b'data: {"choices":[{"delta":{"content":"\xc3\xa9"}}],"usage":null}\n\n'
        b'data: {"choices":[],"usage":{"prompt_tokens":12,"completion_tokens":7,"total_tokens":19}}\n\n'
        b"data: [DONE]\n\n"
    )
    cut = 0

    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for part in (whole[:cut], whole[cut:]):
            await response.write(part)
            await asyncio.sleep(0.005)
        return response

    first.answer = answer
    await bench.apply(
        gateway(bench.port), *backend("a", first.port), ai_route("route", "gpt-4o", {"name": "a"})
    )
    first_event = whole[: whole.index(b"\n\n") + 2]
    for cut in range(1, len(whole), 3):
        reply = await bench.post({**QUESTION, "stream": True})
        assert reply.body == first_event + b"data: [DONE]\n\n", (cut, reply.body)
        record = await bench.record(reply)
        assert record.usage is not None and record.usage.output_tokens == 7


async def test_the_documented_cost_of_the_missions_expression_is_booked(
    bench: Workbench, first: Provider
) -> None:
    costs = [
        {"metadataKey": "tokenCost", "type": "CEL", "cel": "input_tokens / uint(3) + output_tokens"},
        {"metadataKey": "cached", "type": "CachedInputToken"},
        {"metadataKey": "total", "type": "TotalToken"},
        {"metadataKey": "reasoning", "type": "ReasoningToken"},
        {
            "metadataKey": "named",
            "type": "CEL",
            "cel": "backend == 'a.default' && model == 'gpt-4o' ? 1u : 0u",
        },
    ]
    first.usage = {
        **first.usage,
        "prompt_tokens_details": {"cached_tokens": 5},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        ai_route("route", "gpt-4o", {"name": "a"}, llmRequestCosts=costs),
    )
    record = await bench.record(await bench.post(QUESTION))
    assert record.costs == {"tokenCost": 11, "cached": 5, "total": 19, "reasoning": 3, "named": 1}


async def test_an_unknown_model_is_told_which_models_exist(bench: Workbench, first: Provider) -> None:
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        ai_route("one", "gpt-4o", {"name": "a"}),
        ai_route("two", 'odd 100% "name"', {"name": "a"}),
    )
    reply = await bench.post({**QUESTION, "model": 'no "such" model'})
    assert reply.status == 404
    assert reply.headers["Content-Type"] == "application/json"
    assert reply.json["type"] == "error"
    error = reply.json["error"]
    assert (error["type"], error["code"]) == ("NotFound", "404")
    assert 'no "such" model' in error["message"]
    assert 'gpt-4o, odd 100% "name"' in error["message"]
    assert (await bench.post({**QUESTION, "model": 'odd 100% "name"'})).status == 200
    listed = await bench.get("/v1/models")
    assert [item["id"] for item in listed.json["data"]] == ["gpt-4o", 'odd 100% "name"']
    assert listed.json["data"][0]["owned_by"] == "Envoy AI Gateway"


async def test_unknown_paths_and_compressed_bodies_are_refused_in_json(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(
        gateway(bench.port), *backend("a", first.port), ai_route("route", "gpt-4o", {"name": "a"})
    )
    assert (
        (await bench.post(QUESTION, path="/v1/nothing"))
        .json["error"]["message"]
        .startswith("unsupported path")
    )
    wrong = await bench.get("/v1/chat/completions?x=1")
    assert (wrong.status, wrong.headers["Allow"]) == (405, "POST")
    assert wrong.json["error"] == {
        "type": "MethodNotAllowed",
        "code": "405",
        "message": "/v1/chat/completions takes POST, not GET",
    }
    assert (await bench.post(QUESTION, path="/v1/models")).headers["Allow"] == "GET"
    reply = await bench.post(b"xx", headers={"content-encoding": "gzip"})
    assert reply.status == 415 and reply.json["error"]["code"] == "415"


async def test_the_openai_client_works_unmodified(bench: Workbench, first: Provider) -> None:
    import openai

    await bench.apply(
        gateway(bench.port), *backend("a", first.port), ai_route("route", "gpt-4o", {"name": "a"})
    )
    async with openai.AsyncOpenAI(base_url=bench.url + "/v1", api_key="any", max_retries=0) as client:
        answer = await client.chat.completions.create(model="gpt-4o", messages=[])
        assert answer.usage is not None and answer.usage.total_tokens == 19
        chunks = [
            chunk.choices[0].delta.content
            async for chunk in await client.chat.completions.create(model="gpt-4o", messages=[], stream=True)
        ]
        assert chunks == ["0 ", "1 ", "2 "]
        assert [model.id async for model in client.models.list()] == ["gpt-4o"]
        with pytest.raises(openai.NotFoundError, match="gpt-4o"):
            await client.chat.completions.create(model="nope", messages=[])
