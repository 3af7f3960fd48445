"""Bodies: what is read of them, what is changed in them, what is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from random import Random
from typing import Any

from tests.gateway.traffic.manifests import AZURE, QUESTION
from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    gateway,
)


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
        "x-kajitori-schemas": "'OpenAI'",
        "x-kajitori-asked-model": "secret-model",
        "x-kajitori-key": "somebody",
        "x-kajitori-input-tokens": "0",
    }
    reply = await bench.post(QUESTION, headers=steering)
    assert reply.status == 200
    assert reply.headers["X-Request-ID"] != "chosen-by-the-client"
    assert not set(steering) - {"x-request-id"} & set(first.seen[0].headers)
