"""What is refused, and by whom it is told: in the shape that the client's dialect has for errors."""

from __future__ import annotations

import asyncio
import gzip
import json
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.plan import make_plan
from kajitori.gateway.resources import Resources
from tests.gateway.workbench import Provider, Reply, Workbench, ai_route, backend, free_port, gateway, observe
from tests.stand_ins import serving

QUESTION = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
CHAT, MESSAGES, RERANK = "/v1/chat/completions", "/anthropic/v1/messages", "/cohere/v2/rerank"
KINDS = {400: "invalid_request_error", 404: "not_found_error", 405: "invalid_request_error", 408: "timeout_error",
         413: "request_too_large", 415: "invalid_request_error", 431: "request_too_large", 502: "internal_server_error",
         503: "service_unavailable_error", 504: "timeout_error"}  # fmt: skip
NAMES = {400: "BadRequest", 404: "NotFound", 405: "MethodNotAllowed", 408: "RequestTimeout", 413: "PayloadTooLarge",
         415: "UnsupportedMediaType", 431: "RequestHeaderFieldsTooLarge", 502: "BadGateway", 503: "ServiceUnavailable",
         504: "GatewayTimeout"}  # fmt: skip


def told(reply: Reply, path: str, status: int) -> str:
    """The message of an error, after its shape was found to be that of the path's dialect."""
    assert reply.status == status, reply
    assert reply.headers["Content-Type"].startswith("application/json")
    body = reply.json
    if path.startswith(("/anthropic", "/v1/messages")):
        assert (body["type"], body["error"]["type"]) == ("error", KINDS[status]), body
        assert body["request_id"] == reply.headers["X-Request-ID"]
        return body["error"]["message"]
    if path.startswith("/cohere"):
        assert set(body) == {"id", "message"}
        return body["message"]
    assert (body["type"], body["error"]["type"], body["error"]["code"]) == (
        "error",
        NAMES[status],
        str(status),
    )
    return body["error"]["message"]


async def test_errors_have_the_shape_of_the_clients_dialect_whoever_makes_them(
    bench: Workbench, first: Provider
) -> None:
    down = free_port()
    await bench.apply(
        gateway(bench.port),
        *(item for schema in ("OpenAI", "Anthropic", "Cohere") for item in backend(schema.lower(), down, {"name": schema})),
        ai_route("down", "m", {"name": "openai"}, {"name": "anthropic"}, {"name": "cohere"}),
        ai_route("lost", "lost", {"name": "missing"}),
        body_limit_bytes=1_000_000,
    )  # fmt: skip
    for path in (CHAT, MESSAGES, RERANK):
        assert "malformed request" in told(await bench.post(b"{", path), path, 400)
        assert "compressed" in told(await bench.post(b"x", path, {"content-encoding": "gzip"}), path, 415)
        unknown = told(await bench.post({**QUESTION, "model": "no"}, path), path, 404)
        assert "No route matches the model 'no'" in unknown
        assert "missing" in told(await bench.post({**QUESTION, "model": "lost"}, path), path, 503)
        assert "kaji explain" in told(await bench.post(QUESTION, path), path, 503)
        told(await bench.post({**QUESTION, "x": "y" * 2_000_000}, path), path, 413)
        assert "takes POST" in told(await bench.get(path), path, 405)
        assert "unsupported path" in told(await bench.get(path + "/x/y/z"), path, 404)
    told(await bench.post(QUESTION, CHAT, {"x-large": "y" * 100_000}), CHAT, 431)


async def test_a_backend_that_is_silent_or_speaks_no_http_gives_an_error_of_the_dialect(
    bench: Workbench,
) -> None:
    async def mislead(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        if b"x-be: silent" not in head:
            writer.write(b"this is no HTTP\r\n\r\n")
        await reader.read()
        writer.close()

    schemas = {CHAT: "OpenAI", MESSAGES: "Anthropic", RERANK: "Cohere"}
    async with serving(mislead) as port:
        await bench.apply(
            gateway(bench.port),
            *(item for schema in schemas.values() for item in backend(schema.lower(), port, {"name": schema})),
            ai_route("r", "m", *({"name": schema.lower()} for schema in schemas.values()),
                     rule={"timeouts": {"request": "400ms"}}),
        )  # fmt: skip
        for path in schemas:
            reply = await bench.post(QUESTION, path)
            assert reply.status in (502, 503)
            told(reply, path, reply.status)
            assert "kaji explain" in told(await bench.post(QUESTION, path, {"x-be": "silent"}), path, 504)


NAMES_OF_MODELS = ["meta/llama 3", "100%", 'quo"te', "naïve-\U0001f600", "a" * 512, "{model}", "%REQ(:path)%", "../x", "a|b\\c"]  # fmt: skip


async def test_odd_names_of_models_are_routed_listed_and_put_into_paths(
    bench: Workbench, first: Provider
) -> None:
    azure = {"name": "AzureOpenAI", "version": "1"}
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        *backend("az", first.port, azure),
        *(ai_route(f"r{n}", name, {"name": "a"}) for n, name in enumerate(NAMES_OF_MODELS)),
        ai_route("override", "o", {"name": "az", "modelNameOverride": 'odd/"%'}),
    )
    for name in NAMES_OF_MODELS:
        reply = await bench.post({**QUESTION, "model": name})
        assert reply.status == 200, name
        assert first.seen[-1].json["model"] == name
        assert (await bench.record(reply)).model == name
    listed = await bench.get("/v1/models")
    assert {item["id"] for item in listed.json["data"]} == {*NAMES_OF_MODELS, "o"}
    assert (await bench.post({**QUESTION, "model": "o"})).status == 200
    assert first.seen[-1].path == "/openai/deployments/odd%2F%22%25/chat/completions?api-version=1"
    assert first.seen[-1].json["model"] == 'odd/"%'
    for name in ("", "a\nb", "\x7f", "a" * 513):
        assert "`model`" in told(await bench.post({**QUESTION, "model": name}), CHAT, 400)


async def test_large_and_deep_bodies_pass_or_are_refused_and_hold_nobody_up(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(gateway(bench.port), *backend("a", first.port), ai_route("route", "m", {"name": "a"}))
    prompt = b'{"prompt":"' + b'x\\"y ' * 6_000_000 + b'","model":"m"}'
    messages = b'{"messages":[' + b",".join([b'{"role":"user","content":"x"}'] * 100_000) + b'],"model":"m"}'
    for body in (prompt, messages):
        assert (await bench.post(body)).status == 200
        assert first.seen[-1].body == body
    for body in (
        b'{"model":"m","a":' + b"[" * 1_000_000 + b"]" * 1_000_000 + b"}",
        b'{"model":"m","a":[' + b"[]," * 5_000_000 + b"[]]}",
        b"{" + b'"a":1,' * 3_000_000 + b'"model":"m"}',
    ):
        assert "malformed request" in told(await bench.post(body), CHAT, 400)
    assert (await bench.post(QUESTION)).status == 200


async def test_a_body_that_comes_too_slowly_gets_408(bench: Workbench, first: Provider) -> None:
    documents = (gateway(bench.port), *backend("a", first.port), ai_route("route", "m", {"name": "a"}))
    plan = make_plan(observe(*documents))
    # The time is ten minutes; a test has not so long.
    hurried = json.dumps(plan.resources.by_type).replace(
        '"request_timeout": "600s"', '"request_timeout": "0.5s"'
    )
    bench.set_resources("gateway", Resources(json.loads(hurried)))
    await bench.settled()
    for path in (CHAT, MESSAGES):
        reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
        writer.write(f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000\r\n\r\n{{".encode())
        head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n")[1:])
        status = int(head.split()[1])
        named = {"Content-Type": headers["content-type"], "X-Request-ID": headers["x-request-id"]}
        told(Reply(status, named, body), path, 408)
        writer.close()


def answering(data: bytes, **headers: str) -> Any:
    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return web.Response(body=data, headers={"content-type": "application/json", **named})

    return answer


ANSWER = json.dumps(
    {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}}
)


async def test_answers_that_providers_compress_are_inflated_and_their_usage_is_read(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(gateway(bench.port), *backend("a", first.port), ai_route("route", "m", {"name": "a"}))
    padded = ANSWER[:-1] + "," + '"x":"' + "".join(chr(97 + n % 26) + str(n) for n in range(50_000)) + '"}'
    for text in (ANSWER, padded):
        first.answer = answering(gzip.compress(text.encode()), content_encoding="gzip")
        reply = await bench.post(QUESTION, headers={"accept-encoding": "gzip"})
        assert "Content-Encoding" not in reply.headers
        assert reply.body == text.encode()
        assert (await bench.record(reply)).usage == Usage(12, 7, 19)
    events = f'data: {{"choices":[{{"delta":{{}}}}]}}\n\ndata: {ANSWER}\n\ndata: [DONE]\n\n'
    first.answer = answering(
        gzip.compress(events.encode()), content_encoding="gzip", content_type="text/event-stream"
    )
    reply = await bench.post({**QUESTION, "stream": True})
    assert reply.body == b'data: {"choices":[{"delta":{}}]}\n\ndata: [DONE]\n\n'
    assert (await bench.record(reply)).usage == Usage(12, 7, 19)
    # A bomb ends as an error, or as it came; it is never inflated to its size.
    first.answer = answering(gzip.compress(b" " * 200_000_000, 9), content_encoding="gzip")
    try:
        async with bench.session.post(bench.url + CHAT, json=QUESTION) as response:
            size = 0
            async for part in response.content.iter_any():
                size += len(part)
            assert size < 50_000_000
    except aiohttp.ClientError:
        pass
    first.answer = None
    assert (await bench.post(QUESTION)).status == 200


LIES = {
    "json that says it is a stream": (ANSWER.encode(), {"content_type": "text/event-stream"}),
    "a stream that says it is json": (b"data: {}\n\n" * 100, {}),
    "text that says it is json": (b'"usage":{"usage":{' * 5_000, {}),
    "events that never end": (b"data: " + b"x" * 500_000, {"content_type": "text/event-stream"}),
    "no json though gzip is said": (b"nothing", {"content_encoding": "gzip"}),
    "an unknown encoding": (b"nothing", {"content_encoding": "zstd"}),
}


async def test_a_provider_that_lies_about_what_it_sends_breaks_nothing(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(gateway(bench.port), *backend("a", first.port), ai_route("route", "m", {"name": "a"}))
    for lie, (data, headers) in LIES.items():
        first.answer = answering(data, **headers)
        for stream in (False, True):
            try:
                reply = await bench.post({**QUESTION, "stream": stream})
            except aiohttp.ClientError:
                continue
            said, _, error = reply.body.partition(b'\n\ndata: {"error":')
            assert said == data or reply.status >= 500 or "gzip" in lie, lie
            assert not error or "events" in lie, lie
    first.answer = None
    assert (await bench.post(QUESTION)).status == 200
    assert "script log" not in bench.log()


@pytest.mark.parametrize("claimed", [5, 5000])
async def test_a_provider_that_lies_about_the_length_gets_nothing_through_as_a_whole_answer(
    bench: Workbench, claimed: int
) -> None:
    async def lie(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {claimed}\r\n\r\n"
        writer.write(head.encode() + ANSWER.encode())
        await writer.drain()
        writer.close()

    async with serving(lie) as port:
        await bench.apply(gateway(bench.port), *backend("a", port), ai_route("route", "m", {"name": "a"}))
        try:
            reply = await bench.post(QUESTION)
            assert reply.status >= 500 or len(reply.body) == claimed
        except aiohttp.ClientError:
            pass


async def test_a_short_answer_that_breaks_off_is_an_error_in_the_clients_dialect(bench: Workbench) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 5000\r\n\r\n"
        writer.write(head.encode() + ANSWER.encode())
        await writer.drain()

    async with serving(break_off) as port:
        await bench.apply(gateway(bench.port), *backend("a", port), ai_route("route", "m", {"name": "a"}))
        reply = await bench.post(QUESTION)
        message = told(reply, CHAT, 502)
        assert "no backend of AIGatewayRoute default/route answered" in message and "kaji explain" in message
        record = await bench.record(reply)
        assert (record.status, record.usage) == (502, None)
