"""The list of models: per host, in both shapes, and the three dialects' own clients."""

from __future__ import annotations

import json

import pytest
from aiohttp import web

from tests.gateway.workbench import Provider, Workbench, ai_route, backend, gateway

ANTHROPIC = {"name": "Anthropic"}


async def ids(bench: Workbench, host: str, path: str = "/v1/models") -> list[str]:
    reply = await bench.get(path, {"host": host})
    assert reply.status == 200
    return [item["id"] for item in reply.json["data"]]


async def test_a_host_lists_its_own_models_and_those_of_every_host(bench: Workbench, first: Provider) -> None:
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        ai_route("everywhere", "all", {"name": "a"}),
        ai_route("exact", "exact", {"name": "a"}, hostnames=["api.example.com"]),
        ai_route("wild", "wild", {"name": "a"}, hostnames=["*.example.com"]),
    )
    for path in ("/v1/models", "/anthropic/v1/models?limit=5"):
        assert await ids(bench, "other.test", path) == ["all"]
        assert await ids(bench, "api.example.com", path) == ["all", "exact", "wild"]
        assert await ids(bench, f"x.example.com:{bench.port}", path) == ["all", "wild"]
        # A wildcard stands for one label in a list of models, though it serves hosts below, too.
        assert await ids(bench, "a.b.example.com", path) == ["all"]
    reply = await bench.post({"model": "wild", "messages": []}, headers={"host": "a.b.example.com"})
    assert reply.status == 200


async def test_one_model_is_shown_in_the_shape_of_the_dialect(bench: Workbench, first: Provider) -> None:
    created = {"modelsOwnedBy": "us", "modelsCreatedAt": "2025-06-01T00:00:00Z"}
    await bench.apply(
        gateway(bench.port), *backend("a", first.port), ai_route("r", "org/m 1", {"name": "a"}, rule=created)
    )
    shown = {"id": "org/m 1", "object": "model", "created": 1748736000, "owned_by": "us"}
    for path in ("/v1/models/org/m%201", "/v1/models/org%2Fm%201"):
        assert (await bench.get(path)).json == shown
    claude = {
        "type": "model",
        "id": "org/m 1",
        "display_name": "org/m 1",
        "created_at": "2025-06-01T00:00:00Z",
    }
    assert (await bench.get("/anthropic/v1/models/org%2Fm%201")).json == claude
    listed = (await bench.get("/v1/models", {"anthropic-version": "2023-06-01"})).json
    assert listed == {"data": [claude], "has_more": False, "first_id": "org/m 1", "last_id": "org/m 1"}
    missing = await bench.get("/anthropic/v1/models/none")
    assert (missing.status, missing.json["error"]["type"]) == (404, "not_found_error")


async def test_the_openai_client_uses_each_endpoint_unmodified(bench: Workbench, first: Provider) -> None:
    import openai

    await bench.apply(gateway(bench.port), *backend("a", first.port), ai_route("route", "m", {"name": "a"}))

    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        if request.path.endswith("/transcriptions"):
            return web.json_response({"text": "hello"})
        if request.path == "/v1/files":
            return web.json_response({"id": "file-1", "object": "file"})
        if request.path.startswith("/v1/responses"):
            return web.json_response({"id": "resp_1", "object": "response", "output": [], "deleted": True})
        return web.json_response({"object": "list", "data": [{"embedding": [0.5]}], "results": []})

    first.answer = answer
    async with openai.AsyncOpenAI(base_url=bench.url + "/v1", api_key="any", max_retries=0) as client:
        embedded = await client.embeddings.create(model="m", input="x", encoding_format="float")
        assert embedded.data[0].embedding == [0.5]
        heard = await client.audio.transcriptions.create(model="m", file=("a.wav", b"RIFF"))
        assert heard.text == "hello"
        assert (await client.files.create(file=("a", b"{}"), purpose="batch")).id == "file-1"
        assert (await client.responses.create(model="m", input="x")).id == "resp_1"
        assert (await client.responses.retrieve("resp_1")).id == "resp_1"
        await client.responses.delete("resp_1")
        await client.moderations.create(input="x")
        assert (await client.models.retrieve("m")).id == "m"


async def test_the_anthropic_client_works_unmodified(bench: Workbench, first: Provider) -> None:
    import anthropic

    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
               "content": [{"type": "text", "text": "hi"}], "usage": {"input_tokens": 3, "output_tokens": 4}}  # fmt: skip
    events = [
        {"type": "message_start", "message": {**message, "content": [], "usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 4}},
        {"type": "message_stop"},
    ]  # fmt: skip

    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        if request.path.endswith("/count_tokens"):
            return web.json_response({"input_tokens": 7})
        if json.loads(body).get("stream"):
            lines = "".join(f"event: {item['type']}\ndata: {json.dumps(item)}\n\n" for item in events)
            return web.Response(text=lines, content_type="text/event-stream")
        return web.json_response(message)

    first.answer = answer
    await bench.apply(
        gateway(bench.port), *backend("a", first.port, ANTHROPIC), ai_route("route", "m", {"name": "a"})
    )
    asked = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]}
    for base in (bench.url + "/anthropic", bench.url):
        async with anthropic.AsyncAnthropic(base_url=base, api_key="any", max_retries=0) as client:
            assert (await client.messages.create(**asked)).usage.output_tokens == 4
            async with client.messages.stream(**asked) as stream:
                assert [text async for text in stream.text_stream] == ["hi"]
            counted = await client.messages.count_tokens(model="m", messages=asked["messages"])
            assert counted.input_tokens == 7
            assert [model.id async for model in client.models.list()] == ["m"]
            with pytest.raises(anthropic.NotFoundError, match="No route matches"):
                await client.messages.create(**{**asked, "model": "none"})


async def test_the_cohere_client_works_unmodified(bench: Workbench, first: Provider) -> None:
    import cohere

    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.json_response({"id": "x", "results": [{"index": 1, "relevance_score": 0.5}]})

    first.answer = answer
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port, {"name": "Cohere", "version": "v2"}),
        ai_route("route", "m", {"name": "a"}),
    )
    async with cohere.AsyncClientV2(base_url=bench.url + "/cohere", api_key="any") as client:
        ranked = await client.rerank(model="m", query="q", documents=["a", "b"])
        assert ranked.results[0].index == 1
        with pytest.raises(cohere.NotFoundError):
            await client.rerank(model="none", query="q", documents=["a"])
