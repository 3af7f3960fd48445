"""What clients with and without keys are answered, by a real Envoy."""

from __future__ import annotations

import asyncio
import datetime
from typing import Any

import pytest

from kajitori.gateway.keys.delivery import LUA_FILTER, request_lua
from kajitori.gateway.resources import EXTENSION, Resources
from tests.gateway.keys.objects import api_key, asking, digest, key_text, tenant
from tests.gateway.workbench import (
    Provider,
    Reply,
    Workbench,
    ai_route,
    backend,
    gateway,
    key_policy,
)
from tests.waiting import eventually


def ask(bench: Workbench, model: str = "m", key: str = "", **headers: str) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if key:
        sent["authorization"] = f"Bearer {key}"
    return bench.post({"model": model, "messages": []}, headers=sent)


def at(seconds: float) -> str:
    moment = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def refused(reply: Reply, status: int, text: str) -> None:
    assert reply.status == status, reply.body
    assert text in reply.json["error"]["message"]
    if status == 401:
        assert reply.headers["WWW-Authenticate"].startswith('Bearer realm="kajitori"')


async def test_only_who_has_a_valid_key_passes_and_no_backend_sees_it(
    bench: Workbench, first: Provider
) -> None:
    renewed = key_text("aaaaaa", "new")
    now = [
        gateway(bench.port),
        *backend("a", first.port),
        asking(ai_route("r", "m", {"name": "a"})),
        api_key("aaaaaa", hashes=[
            {"sha256": digest(key_text("aaaaaa"))},
            {"sha256": digest(renewed), "notBefore": at(-5)},
            {"sha256": digest(key_text("aaaaaa", "later")), "notBefore": at(3600)},
            {"sha256": digest(key_text("aaaaaa", "old")), "notAfter": at(-5)},
        ]),
        api_key("expired", expiresAt=at(-1)),
        api_key("disabled", disabled=True),
        api_key("idletenant", tenantRef={"name": "idle"}),
        tenant("idle", disabled=True),
    ]  # fmt: skip
    await bench.apply(*now)
    key = key_text("aaaaaa")
    for headers in ({"authorization": f"Bearer {key}"}, {"authorization": f"bearer  {key}"},
                    {"x_api_key": key}, {"api_key": key}, {"authorization": f"Bearer {renewed}"},
                    {"authorization": "Bearer of-somebody-else", "x_api_key": key}):  # fmt: skip
        assert (await ask(bench, **headers)).status == 200, headers
    protocols = f"realtime, openai-insecure-api-key.{key}, openai-beta.realtime-v1"
    assert (await ask(bench, sec_websocket_protocol=protocols)).status == 200
    assert first.seen[-1].headers["sec-websocket-protocol"] == "realtime, openai-beta.realtime-v1"
    for seen in first.seen:
        assert not [value for value in seen.headers.values() if "kaji_" in value]
        assert not [name for name in seen.headers if name.startswith("x-kajitori-")]
    count = len(first.seen)
    refused(await ask(bench), 401, "an API key is needed")
    refused(await ask(bench, authorization="Bearer something"), 401, "an API key is needed")
    refused(await ask(bench, x_kajitori_key="aaaaaa"), 401, "an API key is needed")
    refused(await ask(bench, key=key + "x"), 401, "unknown")
    refused(await ask(bench, key=key_text("bbbbbb")), 401, "unknown")
    refused(await ask(bench, key=key_text("aaaaaa", "later")), 401, "not valid yet")
    refused(await ask(bench, key=key_text("aaaaaa", "old")), 401, "expired")
    refused(await ask(bench, key=key_text("expired")), 401, "expired")
    refused(await ask(bench, key=key_text("disabled")), 401, "it is disabled")
    refused(await ask(bench, key=key_text("idletenant")), 401, "its tenant is disabled")
    for odd in (
        "kaji_",
        "kaji_aaaaaa",
        "kaji_aaaaaa_" + "x" * 60,
        "kaji_AAAAAA_xx",
        "kaji_a\tb_x",
        f"{key},x",
    ):
        refused(await ask(bench, key=odd), 401, "does not have the form")
    refused(await ask(bench, authorization=f"Basic {key}"), 401, "does not have the form")
    assert len(first.seen) == count
    dump = await bench.admin("/config_dump?include_eds")
    assert digest(key) in dump
    assert key not in dump
    assert key not in bench.log()

    await bench.apply(*now[:4])
    refused(await ask(bench, key=key), 401, "unknown")


async def test_a_client_without_a_key_is_refused_before_its_body_is_read(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(
        asking(gateway(bench.port)), *backend("a", first.port), ai_route("r", "m", {"name": "a"})
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 30000000\r\n\r\n")
    answer = await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    await writer.wait_closed()
    assert b"401" in answer


async def test_a_key_is_held_to_its_models_its_routes_and_its_tenant(
    bench: Workbench, first: Provider
) -> None:
    everywhere = {"namespaces": {"from": "All"}}
    hidden = ai_route(
        "far", "far-model", {"name": "b"}, parentRefs=[{"name": "gateway", "namespace": "default"}]
    )
    elsewhere = [*backend("b", first.port), hidden]
    for item in elsewhere:
        item["metadata"]["namespace"] = "elsewhere"
    await bench.apply(
        asking(gateway(bench.port, allowedRoutes=everywhere)),
        *backend("a", first.port),
        ai_route("r", "gpt-4o", {"name": "a"}),
        ai_route("other", "llama-8b", {"name": "a"}),
        *elsewhere,
        api_key("everyone"),
        api_key("onlygpt", models=["gpt-*", "claude"]),
        api_key("onlyroute", routes=["other"]),
        api_key("intenant", models=["*"], tenantRef={"name": "t"}),
        tenant("t", models=["llama-8b"], routes=["other", "r"]),
    )  # fmt: skip

    async def models_of(key: str) -> list[str]:
        reply = await bench.get("/v1/models", {"x-api-key": key_text(key)})
        assert reply.status == 200, reply.body
        return [each["id"] for each in reply.json["data"]]

    assert await models_of("everyone") == ["gpt-4o", "llama-8b"]
    assert await models_of("onlygpt") == ["gpt-4o"]
    assert await models_of("onlyroute") == ["llama-8b"]
    assert await models_of("intenant") == ["llama-8b"]
    assert (await bench.get("/v1/models")).status == 401
    assert (await ask(bench, "gpt-4o", key_text("onlygpt"))).status == 200
    assert (await ask(bench, "llama-8b", key_text("intenant"))).status == 200
    refused(await ask(bench, "llama-8b", key_text("onlygpt")), 403, 'may not use the model "llama-8b"')
    refused(await ask(bench, "gpt-4o", key_text("onlyroute")), 403, "may not use the route default/r")
    refused(await ask(bench, "gpt-4o", key_text("intenant")), 403, 'may not use the model "gpt-4o"')
    refused(
        await ask(bench, "far-model", key_text("everyone")),
        404,
        "does not exist, or this API key may not see it",
    )
    unknown = await ask(bench, "no-such", key_text("everyone"))
    assert unknown.status == 404
    assert "far-model" not in unknown.body.decode()
    record = await bench.record(await ask(bench, "llama-8b", key_text("intenant")))
    assert (record.route, record.key, record.key_name, record.tenant) == (
        "default/other",
        "intenant",
        "default/intenant",
        "default/t",
    )


async def test_where_keys_are_optional_one_that_is_sent_counts(bench: Workbench, first: Provider) -> None:
    await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        *key_policy("a", "of-the-provider"),
        ai_route("open", "open-model", {"name": "a"}),
        asking(ai_route("closed", "closed-model", {"name": "a"})),
        api_key("onlyopen", models=["open-model"]),
        api_key("everyone"),
    )
    assert (await ask(bench, "open-model")).status == 200
    assert (await ask(bench, "open-model", key_text("onlyopen"))).status == 200
    assert first.seen[-1].headers["authorization"] == "Bearer of-the-provider"
    refused(await ask(bench, "open-model", key_text("stranger")), 401, "unknown")
    refused(await ask(bench, "closed-model"), 401, "an API key is needed")
    refused(await ask(bench, "closed-model", key_text("onlyopen")), 403, "may not use the model")
    assert (await ask(bench, "closed-model", key_text("everyone"))).status == 200

    async def listed(**headers: str) -> list[str]:
        return [each["id"] for each in (await bench.get("/v1/models", headers)).json["data"]]

    assert await listed() == ["open-model"]
    assert await listed(authorization=f"Bearer {key_text('everyone')}") == ["closed-model", "open-model"]


async def test_a_gateway_that_asks_for_keys_asks_on_plain_routes_too(
    bench: Workbench, first: Provider
) -> None:
    plain = {
        "kind": "HTTPRoute",
        "metadata": {"name": "plain"},
        "spec": {
            "parentRefs": [{"name": "gateway"}],
            "rules": [{
                "matches": [{"path": {"value": "/plain"}}],
                "backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "a"}],
            }],
        },
    }  # fmt: skip
    await bench.apply(
        asking(gateway(bench.port)), *backend("a", first.port), asking(plain, "Optional"),
        ai_route("r", "m", {"name": "a"}), api_key("everyone"), api_key("onlyai", routes=["r"]),
    )  # fmt: skip
    refused(await bench.get("/plain/x"), 401, "an API key is needed")
    refused(
        await bench.get("/plain/x", {"api-key": key_text("onlyai")}),
        403,
        "may not use the route default/plain",
    )
    assert (await bench.get("/plain/x", {"api-key": key_text("everyone")})).status == 200
    assert not [name for name in first.seen[-1].headers if "key" in name or name.startswith("x-kajitori")]


async def test_a_change_of_keys_takes_hold_without_cutting_streams(bench: Workbench, first: Provider) -> None:
    first.chunks, first.chunk_seconds = 40, 0.02
    parts = [asking(gateway(bench.port)), *backend("a", first.port), ai_route("r", "m", {"name": "a"})]
    await bench.apply(*parts, api_key("aaaaaa"))
    sent = {"authorization": f"Bearer {key_text('aaaaaa')}"}
    stream = asyncio.create_task(bench.post({"model": "m", "messages": [], "stream": True}, headers=sent))
    await eventually(lambda: first.seen)
    for number in range(5):
        await bench.apply(*parts, *(api_key(f"key{other:04}") for other in range(number * 20)))
    reply = await stream
    assert reply.body.endswith(b"data: [DONE]\n\n")
    first.chunk_seconds = 0
    refused(await ask(bench, "m", key_text("aaaaaa")), 401, "unknown")
    assert (await ask(bench, "m", key_text("key0079"))).status == 200


@pytest.mark.parametrize("path", ["/v1/messages", "/anthropic/v1/messages"])
async def test_who_speaks_anthropic_is_refused_in_that_dialect(
    bench: Workbench, first: Provider, path: str
) -> None:
    await bench.apply(
        gateway(bench.port), *backend("a", first.port), asking(ai_route("r", "m", {"name": "a"}))
    )
    reply = await bench.post({"model": "m"}, path, {"x-api-key": key_text("stranger")})
    assert reply.status == 401
    assert reply.json["type"] == "error"
    assert reply.json["error"]["type"] == "authentication_error"


async def test_where_the_check_itself_fails_nobody_passes(bench: Workbench, first: Provider) -> None:
    parts = [gateway(bench.port), *backend("a", first.port), ai_route("r", "m", {"name": "a"})]
    plan = await bench.apply(*parts, api_key("aaaaaa"))
    broken = {LUA_FILTER: request_lua({"aaaaaa": "no line that could be read"}, {})}
    kept = plan.resources.by_type[EXTENSION]
    bench.set_resources("gateway", Resources({**plan.resources.by_type, EXTENSION: {**kept, **broken}}))
    await bench.settled()
    refused(await ask(bench, key=key_text("aaaaaa")), 500, "could not be found out")
    assert first.seen == []
    assert (await ask(bench)).status == 200
