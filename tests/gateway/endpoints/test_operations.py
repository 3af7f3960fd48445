"""Each operation through a real Envoy: where a backend gets it, and what it gets."""

from __future__ import annotations

import io
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.operations import OPERATIONS
from tests.gateway.workbench import Provider, Reply, Workbench, ai_route, backend, gateway

AZURE = {"name": "AzureOpenAI", "version": "2025-01-01-preview"}
ANTHROPIC = {"name": "Anthropic"}
COHERE = {"name": "Cohere", "version": "v2"}
QUESTION = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
# Method and path of a client, then of the provider: of OpenAI's dialect, and of Azure's where that has it.
JSON_PATHS = [
    ("/v1/chat/completions", "/v1/chat/completions", "/openai/deployments/m/chat/completions?api-version=V"),
    ("/v1/completions", "/v1/completions", "/openai/deployments/m/completions?api-version=V"),
    ("/v1/embeddings", "/v1/embeddings", "/openai/deployments/m/embeddings?api-version=V"),
    ("/v1/responses", "/v1/responses", "/openai/responses?api-version=V"),
    ("/v1/responses/input_tokens", "/v1/responses/input_tokens", "/openai/responses/input_tokens?api-version=V"),
    ("/v1/images/generations", "/v1/images/generations", "/openai/deployments/m/images/generations?api-version=V"),
    ("/v1/audio/speech", "/v1/audio/speech", "/openai/deployments/m/audio/speech?api-version=V"),
    ("/v1/moderations", "/v1/moderations", None),
    ("/tokenize", "/tokenize", None),
    ("/detokenize", "/detokenize", None),
    ("/score", "/score", None),
    ("/v1/score", "/v1/score", None),
    ("/v1/rerank", "/v1/rerank", None),
    ("/rerank", "/rerank", None),
    ("/classify", "/classify", None),
    ("/pooling", "/pooling", None),
]  # fmt: skip
FORM_PATHS = [
    ("/v1/audio/transcriptions", "/openai/deployments/m/audio/transcriptions?api-version=V"),
    ("/v1/audio/translations", "/openai/deployments/m/audio/translations?api-version=V"),
    ("/v1/images/edits", "/openai/deployments/m/images/edits?api-version=V"),
    ("/v1/images/variations", None),
]
UNNAMED_PATHS = [
    ("GET", "/v1/responses/resp_1?include=x", "/openai/responses/resp_1?api-version=V&include=x"),
    ("DELETE", "/v1/responses/resp_1", "/openai/responses/resp_1?api-version=V"),
    ("GET", "/v1/responses/resp_1/input_items?limit=2", "/openai/responses/resp_1/input_items?api-version=V&limit=2"),
    ("POST", "/v1/responses/resp_1/cancel", "/openai/responses/resp_1/cancel?api-version=V"),
    ("GET", "/v1/files?purpose=batch", "/openai/files?api-version=V&purpose=batch"),
    ("POST", "/v1/files", "/openai/files?api-version=V"),
    ("GET", "/v1/files/file-1", "/openai/files/file-1?api-version=V"),
    ("GET", "/v1/files/file-1/content", "/openai/files/file-1/content?api-version=V"),
    ("DELETE", "/v1/files/file-1", "/openai/files/file-1?api-version=V"),
    ("GET", "/v1/batches?after=b", "/openai/batches?api-version=V&after=b"),
    ("POST", "/v1/batches", "/openai/batches?api-version=V"),
    ("POST", "/v1/batches/batch_1/cancel", "/openai/batches/batch_1/cancel?api-version=V"),
]  # fmt: skip


async def send(
    bench: Workbench, method: str, path: str, data: Any = None, headers: dict[str, str] | None = None
) -> Reply:
    async with bench.session.request(method, bench.url + path, data=data, headers=headers) as response:
        return Reply(response.status, dict(response.headers), await response.read())


def form(model: str | None = "m") -> aiohttp.FormData:
    found = aiohttp.FormData()
    found.add_field("file", b'\r\n--x\r\nname="model"\r\n\r\nother\x00\xff', filename="model")
    if model is not None:
        found.add_field("model", model)
    found.add_field("language", "en")
    return found


def test_every_operation_is_tried_here() -> None:
    elsewhere = {"/v1/responses/compact", "/v1/realtime", "/v1/batches/{id}"} | {
        operation.paths[0] for operation in OPERATIONS if operation.dialect != "openai"
    }
    unnamed = {path.partition("?")[0] for _, path, _ in UNNAMED_PATHS}
    tried = {item[0] for item in [*JSON_PATHS, *FORM_PATHS]} | {
        re.sub(r"/(resp_|file-|batch_)1", "/{id}", path) for path in unnamed
    }
    assert tried == {operation.paths[0] for operation in OPERATIONS} - elsewhere


async def test_each_operation_goes_byte_for_byte_to_the_path_that_the_provider_documents(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    await bench.apply(
        gateway(bench.port),
        *backend("openai", first.port),
        *backend("azure", second.port, AZURE),
        ai_route("one", "m", {"name": "openai"}),
        ai_route("two", "az", {"name": "azure", "modelNameOverride": "m"}),
    )
    for path, native, azure in JSON_PATHS:
        body = json.dumps({"x": 1, "input": "é", "model": "m"}, indent=1).encode()
        reply = await bench.post(body, path + "?dropped=1")
        assert (reply.status, first.seen[-1].path, first.seen[-1].body) == (200, native, body)
        assert first.seen[-1].headers["content-length"] == str(len(body))
        assert "accept-encoding" not in first.seen[-1].headers
        reply = await bench.post({"input": "é", "model": "az"}, path)
        if azure is None:
            assert reply.status == 404 and "AzureOpenAI" in reply.json["error"]["message"], path
        else:
            assert second.seen[-1].path == azure.replace("V", AZURE["version"])
            assert second.seen[-1].json["model"] == "m"
    for path, azure in FORM_PATHS:
        sent = form()()
        assert (await send(bench, "POST", path, sent)).status == 200
        assert first.seen[-1].path == path
        assert b'name="model"\r\n\r\nother\x00\xff' in first.seen[-1].body
        reply = await send(bench, "POST", path, form("az"))
        if azure is not None:
            assert reply.status == 200, reply
            assert second.seen[-1].path == azure.replace("V", AZURE["version"])
            assert b'name="model"\r\n\r\nm\r\n' in second.seen[-1].body
            assert b'name="model"\r\n\r\nother\x00\xff' in second.seen[-1].body
            assert second.seen[-1].headers["content-length"] == str(len(second.seen[-1].body))


async def test_requests_without_a_model_go_to_the_first_fitting_backend_or_to_that_of_a_named_model(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    await bench.apply(
        gateway(bench.port),
        *backend("claude", first.port, ANTHROPIC),
        *backend("openai", first.port),
        *backend("azure", second.port, AZURE),
        ai_route("a", "claude", {"name": "claude"}),
        ai_route("b", "m", {"name": "openai"}),
        ai_route("c", "az", {"name": "azure"}),
    )
    for method, path, azure in UNNAMED_PATHS:
        data = b"x" * 100_000 if method == "POST" else None
        reply = await send(bench, method, path, data)
        assert (reply.status, first.seen[-1].path, len(first.seen[-1].body)) == (200, path, len(data or b""))
        reply = await send(bench, method, path, data, {"x-ai-eg-model": "az"})
        assert reply.status == 200
        assert second.seen[-1].path == azure.replace("V", AZURE["version"])
        assert not {name for name in second.seen[-1].headers if name.startswith(("x-ai-eg", "x-kajitori"))}
    # The model may be left out of these.
    assert (await bench.post({"input": "x"}, "/v1/moderations")).status == 200
    assert first.seen[-1].path == "/v1/moderations"
    assert (await send(bench, "POST", "/v1/images/edits", form(None))).status == 200
    for path in ("/v1/responses/a%2F..%2Fb", "/v1/responses/a//b", "/v1/files/a/b/c", "/v1/responses/"):
        assert (await send(bench, "GET", path)).status in (404, 405), path
    seen = len(first.seen)
    assert (await send(bench, "GET", "/v1/anything", headers={"x-ai-eg-model": "m"})).status == 404
    assert len(first.seen) == seen


async def test_a_file_larger_than_any_body_that_is_read_passes_without_being_held(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        *backend("b", second.port),
        ai_route("route", "m", {"name": "a"}, {"name": "b", "priority": 1}),
        body_limit_bytes=1_000_000,
    )

    async def parts() -> AsyncIterator[bytes]:
        for _ in range(50):
            yield b"x" * 100_000

    assert (await send(bench, "POST", "/v1/files", io.BytesIO(b"x" * 5_000_000))).status == 200
    assert (await send(bench, "POST", "/v1/files", parts())).status == 200
    assert [len(seen.body) for seen in first.seen] == [5_000_000, 5_000_000]
    assert (await bench.post({"model": "m", "x": "y" * 5_000_000})).status == 413


async def test_messages_and_rerank_go_to_backends_of_their_dialects(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    await bench.apply(
        gateway(bench.port),
        *backend("claude", first.port, ANTHROPIC),
        *backend("other", first.port, {"name": "Anthropic", "prefix": "proxy/v1"}),
        *backend("cohere", second.port, COHERE),
        *backend("plain", second.port, {"name": "Cohere"}),
        ai_route("a", "m", {"name": "claude"}),
        ai_route("b", "o", {"name": "other", "modelNameOverride": "opus"}),
        ai_route("c", "r", {"name": "cohere"}),
        ai_route("d", "p", {"name": "plain"}),
    )
    expected = [
        ("/anthropic/v1/messages", "m", first, "/v1/messages"),
        ("/v1/messages", "m", first, "/v1/messages"),
        ("/anthropic/v1/messages/count_tokens?beta=true", "m", first, "/v1/messages/count_tokens"),
        ("/anthropic/v1/messages", "o", first, "/proxy/v1/messages"),
        ("/cohere/v2/rerank", "r", second, "/v2/rerank"),
        ("/v2/rerank", "r", second, "/v2/rerank"),
        ("/cohere/v2/rerank", "p", second, "/rerank"),
    ]
    for path, model, provider, native in expected:
        reply = await bench.post({**QUESTION, "model": model}, path, {"anthropic-version": "2023-06-01"})
        assert (reply.status, provider.seen[-1].path) == (200, native)
        assert provider.seen[-1].json["model"] == ("opus" if model == "o" else model)
        assert provider.seen[-1].headers["anthropic-version"] == "2023-06-01"


async def test_a_rule_uses_those_of_its_backends_that_fit_and_says_why_where_none_does(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    first.status = 503
    await bench.apply(
        gateway(bench.port),
        *backend("azure", first.port, AZURE),
        *backend("openai", second.port),
        *backend("claude", second.port, ANTHROPIC),
        ai_route("route", "m", {"name": "azure"}, {"name": "openai", "priority": 1}, {"name": "claude"}),
    )
    record = await bench.record(await bench.post(QUESTION))
    assert [item.backend for item in record.attempts] == ["default/azure", "default/openai"]
    record = await bench.record(await bench.post(QUESTION, "/tokenize"))
    assert [item.backend for item in record.attempts] == ["default/openai"]
    record = await bench.record(await bench.post(QUESTION, "/anthropic/v1/messages"))
    assert [item.backend for item in record.attempts] == ["default/claude"]
    reply = await bench.post({**QUESTION, "query": "x"}, "/cohere/v2/rerank")
    assert reply.status == 404
    message = reply.json["message"]
    assert "no backend of AIGatewayRoute default/route serves /cohere/v2/rerank" in message
    assert (
        "AIServiceBackend default/claude (Anthropic)" in message
        and "which takes one of schema 'Cohere';" in message
    )


USAGE = {
    "/v1/chat/completions": ({"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}, Usage(12, 7, 19)),
    "/v1/embeddings": ({"prompt_tokens": 8, "total_tokens": 8}, Usage(8, 0, 8)),
    "/v1/responses": ({"input_tokens": 5, "output_tokens": 6, "total_tokens": 11}, Usage(5, 6, 11)),
    "/v1/rerank": ({"total_tokens": 56}, Usage(56, 0, 56)),
    "/score": ({"prompt_tokens": 21, "total_tokens": 21}, Usage(21, 0, 21)),
    "/anthropic/v1/messages": ({"input_tokens": 3, "output_tokens": 4}, Usage(3, 4, 7)),
    "/tokenize": ({"prompt_tokens": 5}, None),
}  # fmt: skip


async def test_usage_is_booked_for_each_operation_that_takes_tokens(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(
        gateway(bench.port),
        *backend("openai", first.port),
        *backend("claude", first.port, ANTHROPIC),
        ai_route("a", "m", {"name": "openai"}, {"name": "claude"}),
    )
    for path, (usage, expected) in USAGE.items():
        first.usage = usage
        record = await bench.record(await bench.post({**QUESTION, "max_tokens": 9}, path))
        assert (record.usage, record.usage_estimated) == (expected, False), path
        assert record.path == path and record.operation
    assert record.dialect == "openai"


async def test_a_client_that_leaves_is_booked_with_what_it_got(bench: Workbench, first: Provider) -> None:
    first.chunks, first.chunk_seconds = 1000, 0.002
    await bench.apply(gateway(bench.port), *backend("a", first.port), ai_route("route", "m", {"name": "a"}))
    body = json.dumps({**QUESTION, "stream": True})
    async with bench.session.post(bench.url + "/v1/chat/completions", data=body) as response:
        got = b""
        while got.count(b"\n\n") < 40:
            got += await response.content.readany()
        reply = Reply(200, dict(response.headers), b"")
        response.close()
    record = await bench.record(reply)
    assert record.usage_estimated and record.usage is not None
    assert 20 <= record.usage.output_tokens <= 1000
    assert record.usage.input_tokens > 0


async def test_a_realtime_session_passes_both_ways_and_its_usage_is_added_up(
    bench: Workbench, first: Provider
) -> None:
    async def talk(request: web.Request, body: bytes) -> web.StreamResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        async for message in socket:
            usage = {"input_tokens": 10, "output_tokens": 3, "total_tokens": 13}
            await socket.send_json({"type": "response.text.delta", "delta": message.data})
            await socket.send_json({"type": "response.done", "response": {"usage": usage, "output": []}})
        return socket

    first.answer = talk
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        ai_route("route", "voice", {"name": "a", "modelNameOverride": "gpt-realtime"}),
    )
    async with bench.session.ws_connect(bench.url + "/v1/realtime?model=voice&x=1", compress=15) as socket:
        for word in ("one", "two"):
            await socket.send_str(word)
            assert (await socket.receive_json(timeout=20))["delta"] == word
            assert (await socket.receive_json(timeout=20))["type"] == "response.done"
        headers = dict(socket._response.headers)
    assert first.seen[-1].path == "/v1/realtime?model=gpt-realtime&x=1"
    record = await bench.record(Reply(101, headers, b""))
    assert record.usage == Usage(20, 6, 26)
    with pytest.raises(aiohttp.WSServerHandshakeError, match="400"):
        await bench.session.ws_connect(bench.url + "/v1/realtime")
