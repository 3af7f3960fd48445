"""What clients and providers see, through a real Envoy."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from random import Random
from typing import Any

import pytest
from aiohttp import web

from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    eventually,
    free_port,
    gateway,
    key_policy,
    running_provider,
)

QUESTION = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}]}
AZURE = {"name": "AzureOpenAI", "version": "2025-01-01-preview"}


def fallback_pair(first: Provider | int, second: Provider | int, **rule: Any) -> list[dict[str, Any]]:
    """Azure first, OpenAI as the fallback, each with a key of its own."""
    ports = [item.port if isinstance(item, Provider) else item for item in (first, second)]
    return [
        *backend("azure", ports[0], AZURE),
        *backend("openai", ports[1]),
        *key_policy("azure", "azure-secret", "AzureAPIKey", "azureAPIKey"),
        *key_policy("openai", "openai-secret"),
        ai_route(
            "route", "gpt-4o", {"name": "azure", "priority": 0}, {"name": "openai", "priority": 1}, rule=rule
        ),
    ]


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
        "silent": "silent for too long",
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


async def test_an_override_changes_only_the_model_and_only_for_its_backend(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    first.status = 500
    route = ai_route(
        "route",
        "gpt-4o",
        {"name": "a", "modelNameOverride": 'odd "name"/v1', "priority": 0},
        {"name": "b", "priority": 1},
    )
    await bench.apply(gateway(bench.port), *backend("a", first.port), *backend("b", second.port), route)
    body = {
        "messages": [{"role": "user", "content": '"model": "decoy"', "model": "decoy"}],
        "metadata": {"model": "decoy"},
        "model": "gpt-4o",
    }
    reply = await bench.post(body)
    assert reply.status == 200
    assert first.seen[0].json == {**body, "model": 'odd "name"/v1'}
    assert first.seen[0].headers["content-length"] == str(len(first.seen[0].body))
    assert second.seen[0].body == json.dumps(body).encode()
    record = await bench.record(reply)
    assert (record.model, record.effective_model) == ("gpt-4o", "gpt-4o")


async def test_headers_and_body_are_mutated_for_one_backend_and_not_for_the_next(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    first.status = 500
    mutated = {
        "headerMutation": {"set": [{"name": "X-Team", "value": "100% ours"}], "remove": ["x-private"]},
        "bodyMutation": {
            "set": [{"path": "temperature", "value": "0.5"}, {"path": "extra", "value": '{"a": [1]}'}],
            "remove": ["seed"],
        },
    }
    route = ai_route("route", "gpt-4o", {"name": "a", "priority": 0, **mutated}, {"name": "b", "priority": 1})
    await bench.apply(gateway(bench.port), *backend("a", first.port), *backend("b", second.port), route)
    body = {**QUESTION, "temperature": 1, "seed": 7}
    reply = await bench.post(body, headers={"x-private": "secret"})
    assert reply.status == 200
    assert first.seen[0].json == {**QUESTION, "temperature": 0.5, "extra": {"a": [1]}}
    assert first.seen[0].headers["x-team"] == "100% ours"
    assert "x-private" not in first.seen[0].headers
    assert second.seen[0].json == body
    assert "x-team" not in second.seen[0].headers


async def test_a_prefix_replaces_the_first_segment_of_the_path(bench: Workbench, first: Provider) -> None:
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port, {"name": "OpenAI", "prefix": "/api/v2"}),
        ai_route("route", "gpt-4o", {"name": "a"}),
    )
    await bench.post(QUESTION, path="/v1/embeddings?x=1")
    assert first.seen[0].path == "/api/v2/embeddings"


async def test_a_provider_sees_its_own_hostname_and_a_body_of_known_length(
    bench: Workbench, first: Provider
) -> None:
    documents = backend("a", first.port)
    documents[0]["spec"] = {"endpoints": [{"fqdn": {"hostname": "localhost", "port": first.port}}]}
    await bench.apply(gateway(bench.port), *documents, ai_route("route", "gpt-4o", {"name": "a"}))
    body = json.dumps({**QUESTION, "stream": True}).encode()

    async def pieces() -> AsyncIterator[bytes]:
        yield body[:10]
        yield body[10:]

    async with bench.session.post(bench.url + "/v1/chat/completions?x=1", data=pieces()) as response:
        assert response.status == 200
        assert (await response.read()).endswith(b"[DONE]\n\n")
    (seen,) = first.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.headers["host"] == "localhost"
    assert seen.headers["content-length"] == str(len(seen.body))
    assert "transfer-encoding" not in seen.headers


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


NO_REQUESTS = [
    b"",
    b"hello",
    b"[]",
    b"{",
    b'{"model"',
    b'{"model":}',
    b'{"model":"gpt-4o"',
    b'{"model":"gpt-4o"} x',
    b'{"model":"gpt-4o",}',
    b'{"model":"gpt-4o" "a":1}',
    b'{"model":"gpt-4o","a":[1,2}',
    b'{"model":"gpt-4o","a":nothing}',
    b'{"model":"gpt-4o',
    b'{"model":"other","model":"gpt-4o"}',
    b'{"model":"gpt-4o","Model":"other"}',
    b'{"model":"gpt-4o","max_tokens":1,"max_tokens":2}',
    b'{"model":7}',
    b'{"model":null}',
    b'{"model":""}',
    b'{"model":"a\\nb"}',
    b'{"messages":[{"model":"gpt-4o"}]}',
    b'{"model":"gpt-4o","a":' + b"[" * 5000 + b"]" * 5000 + b"}",
]


async def test_a_body_that_is_no_request_gets_400_in_the_dialect_of_the_client(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(
        gateway(bench.port), *backend("a", first.port), ai_route("route", "gpt-4o", {"name": "a"})
    )
    for body in NO_REQUESTS:
        reply = await bench.post(body)
        assert reply.status == 400, body
        assert reply.json["error"]["type"] == "BadRequest"
        assert reply.json["error"]["code"] == "400"
        assert "malformed request" in reply.json["error"]["message"]
    assert not first.seen


REQUESTS = [
    b'{"model":"gpt-4o"}',
    b' \n{ "a" : { "model" : "x" } , "model" : "gpt-4o" }\n ',
    b'{"mod\\u0065l":"gpt\\u002d4o"}',
    b'{"a":"\\"model\\":\\"x\\"}","b":-1.5e+3,"c":[{"d":"]}"}],"model":"gpt-4o","e":null}',
    b'{"prompt":"' + b"long \\n " * 100_000 + b'","model":"gpt-4o"}',
    b'{"messages":[' + b",".join([b'{"role":"user","content":"x"}'] * 20_000) + b'],"model":"gpt-4o"}',
    b'{"a":' + b"[" * 300 + b"]" * 300 + b',"model":"gpt-4o"}',
]


async def test_the_model_is_found_wherever_it_stands_and_the_body_passes_byte_for_byte(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(
        gateway(bench.port), *backend("a", first.port), ai_route("route", "gpt-4o", {"name": "a"})
    )
    for body in REQUESTS:
        assert (await bench.post(body)).status == 200
        assert first.seen[-1].body == body


def some_json(random: Random, depth: int = 0) -> Any:
    """A value with everything that a scanner may trip over."""
    texts = [
        '"',
        "\\",
        "{",
        "}]",
        '"model":"x"',
        "\n\t",
        "é\U0001f600",
        "a" * 300,
        "",
        '\\\\"',
        "data: [DONE]",
    ]
    kinds: list[Any] = [None, True, False, 0, -1.5e300, 1e-9, random.choice(texts), random.choice(texts)]
    if depth < 4:
        kinds.append([some_json(random, depth + 1) for _ in range(random.randrange(4))])
        kinds.append({random.choice([*texts, "model"]): some_json(random, depth + 1) for _ in range(3)})
    return random.choice(kinds)


async def test_random_bodies_are_understood_or_refused_and_never_break_anything(
    bench: Workbench, first: Provider
) -> None:
    random = Random(20261126)
    override = ai_route("override", "changed", {"name": "a", "modelNameOverride": "new"})
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        ai_route("route", "gpt-4o", {"name": "a"}),
        override,
    )
    for _ in range(150):
        members = [(f"m{number}", some_json(random)) for number in range(random.randrange(5))]
        model = random.choice(["gpt-4o", "changed"])
        members.insert(random.randrange(len(members) + 1), ("model", model))
        indent = random.choice([None, 1, 3])
        text = json.dumps(dict(members), indent=indent, ensure_ascii=random.random() < 0.5)
        assert (await bench.post(text.encode())).status == 200, text
        expected = {**dict(members), "model": "new" if model == "changed" else model}
        assert first.seen[-1].json == expected
        if model == "gpt-4o":
            assert first.seen[-1].body == text.encode()
        spoilt = bytearray(text.encode())
        for _ in range(random.randrange(1, 4)):
            spoilt[random.randrange(len(spoilt))] = random.choice(b'"{}[]:,\\x\x00\xff 1')
        broken = bytes(spoilt[: random.randrange(len(spoilt))] if random.random() < 0.3 else spoilt)
        reply = await bench.post(broken)
        assert reply.status in (200, 400, 404), (broken, reply)
        if reply.status == 200:
            continue
        assert reply.json["type"] == "error", (broken, reply)
    assert "script log" not in bench.log()


async def test_a_body_over_the_limit_gets_413_and_one_below_passes(bench: Workbench, first: Provider) -> None:
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port, AZURE),
        ai_route("route", "gpt-4o", {"name": "a"}),
        body_limit_bytes=4_000_000,
    )
    below = json.dumps({**QUESTION, "padding": "x" * 3_900_000}).encode()
    assert (await bench.post(below)).status == 200
    assert first.seen[0].body == below
    reply = await bench.post(json.dumps({**QUESTION, "padding": "x" * 4_000_000}).encode())
    assert reply.status == 413
    assert reply.json["error"]["code"] == "413"


async def test_a_client_that_leaves_closes_its_upstream_within_a_second(
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
    await asyncio.wait_for(first.closed.wait(), 1.0)
    await eventually(lambda: key in bench.records)
    assert "client left" in bench.records[key].outcome


async def test_headers_that_would_steer_the_gateway_from_outside_are_ignored(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        ai_route("route", "gpt-4o", {"name": "a"}),
        ai_route("hidden", "secret-model", {"name": "nothing"}),
    )
    steering = {
        "x-ai-eg-model": "secret-model",
        "x-ai-eg-original-path": "/etc",
        "x-envoy-max-retries": "50",
        "x-envoy-original-path": "/etc",
        "x-request-id": "chosen-by-the-client",
    }
    reply = await bench.post(QUESTION, headers=steering)
    assert reply.status == 200
    assert reply.headers["X-Request-ID"] != "chosen-by-the-client"
    assert not set(steering) - {"x-request-id"} & set(first.seen[0].headers)


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
