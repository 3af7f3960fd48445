"""EnvoyProxies and GatewayConfigs: what they change, and what is told of them."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from kajitori.gateway.plan import Plan, make_plan
from tests.stand_ins import serving
from tests.waiting import eventually

from ..authority import Authority
from ..test_backend_tls import secure_server
from ..workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    free_port,
    gateway,
    observe,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
QUESTION = {"model": "m", "messages": []}
ENVOY = {"group": "gateway.envoyproxy.io", "kind": "EnvoyProxy"}


def with_proxy(port: int, name: str = "settings", **ref: Any) -> dict[str, Any]:
    """A Gateway with an EnvoyProxy."""
    made = gateway(port)
    made["spec"]["infrastructure"] = {"parametersRef": {**ENVOY, "name": name, **ref}}
    return made


def with_config(port: int, config: str, name: str = "gateway") -> dict[str, Any]:
    """A Gateway with a GatewayConfig."""
    made = gateway(port, name)
    made["metadata"]["annotations"] = {"aigateway.envoyproxy.io/gateway-config": config}
    return made


def envoy_proxy(name: str = "settings", **spec: Any) -> dict[str, Any]:
    return {"kind": "EnvoyProxy", "metadata": {"name": name}, "spec": spec}


def gateway_config(name: str = "config", **spec: Any) -> dict[str, Any]:
    return {"kind": "GatewayConfig", "metadata": {"name": name}, "spec": spec}


def cost(key: str, kind: str = "TotalToken") -> dict[str, Any]:
    return {"metadataKey": key, "type": kind}


def status(plan: Plan, kind: str, name: str) -> dict[str, Any]:
    (found,) = [item.status for item in plan.statuses if (item.resource.kind, item.name) == (kind, name)]
    return found


async def test_requests_are_told_of_in_the_files_that_an_envoy_proxy_names(
    bench: Workbench, one: Provider, tmp_path: Path
) -> None:
    text, members, failures = tmp_path / "text.log", tmp_path / "members.log", tmp_path / "failures.log"

    def sink(path: Path) -> dict[str, Any]:
        return {"type": "File", "file": {"path": str(path)}}

    settings = [
        {
            "format": {"type": "Text", "text": "%REQ_WITHOUT_QUERY(:PATH)% %RESPONSE_CODE%"},
            "sinks": [sink(text)],
        },
        {
            "format": {
                "type": "JSON",
                "json": {
                    "code": "%RESPONSE_CODE%",
                    "model": "%DYNAMIC_METADATA(io.kajitori:model)%",
                },
            },
            "sinks": [sink(members)],
        },
        {"sinks": [sink(failures)], "matches": ["response.code >= 400", "request.method == 'POST'"]},
        {"sinks": [sink(tmp_path / "never")], "matches": ["this is ( no CEL"]},
    ]
    plan = await bench.apply(
        with_proxy(bench.port),
        envoy_proxy(telemetry={"accessLog": {"settings": settings}, "metrics": {}}, concurrency=2),
        *backend("one", one.port),
        ai_route("route", "m", {"name": "one"}),
    )
    assert bench.ads.rejected == {}
    (ancestor,) = status(plan, "EnvoyProxy", "settings")["ancestors"]
    told = {each["type"]: each for each in ancestor["conditions"]}
    assert told["Accepted"]["status"] == "True"
    for named in ("spec.telemetry.metrics", "spec.concurrency", "settings[3].matches"):
        assert named in told["Warning"]["message"]
    reply = await bench.post(QUESTION, "/v1/chat/completions?secret=1")
    assert (await bench.post({"model": "unknown", "messages": []})).status == 404
    await eventually(lambda: text.exists() and len(text.read_text().splitlines()) == 2)
    assert text.read_text() == "/v1/chat/completions 200\n/v1/chat/completions 404\n"
    await eventually(lambda: len(members.read_text().splitlines()) == 2)
    assert json.loads(members.read_text().splitlines()[0]) == {"code": 200, "model": "m"}
    assert "kajitori.told-costs" not in str(plan.resources.by_type)
    await eventually(lambda: failures.read_text())
    assert [json.loads(line)["response_code"] for line in failures.read_text().splitlines()] == [404]
    # The gateway's own log stays.
    assert (await bench.record(reply)).status == 200


async def test_access_logs_for_envoy_ai_gateway_find_its_metadata(
    bench: Workbench, one: Provider, tmp_path: Path
) -> None:
    file = tmp_path / "costs.log"
    names = ("input", "out.put'", "by_cel", "session.id", "response_model", "route_name", "backend_name")
    members = {name: f"%DYNAMIC_METADATA(io.envoy.ai_gateway:{name})%" for name in names}
    settings = [
        {
            "format": {"type": "JSON", "json": members},
            "sinks": [{"type": "File", "file": {"path": str(file)}}],
            "matches": ["metadata.filter_metadata['io.envoy.ai_gateway']['route_name'] == 'default/route'"],
        }
    ]
    costs = [cost("input", "InputToken"), cost("out.put'", "OutputToken")]
    costs.append({"metadataKey": "by_cel", "type": "CEL", "cel": "input_tokens * 2u"})
    plan = await bench.apply(
        with_proxy(bench.port),
        envoy_proxy(telemetry={"accessLog": {"settings": settings}}),
        *backend("one", one.port),
        ai_route("route", "m", {"name": "one"}, llmRequestCosts=costs),
        ai_route("free", "free", {"name": "one"}),
    )
    assert bench.ads.rejected == {}
    (ancestor,) = status(plan, "EnvoyProxy", "settings")["ancestors"]
    told = {each["type"]: each for each in ancestor["conditions"]}["Warning"]["message"]
    assert "settings[0].format: by_cel: computed by CEL after the request" in told
    assert "settings[0].format: session.id: not among llmRequestCosts" in told
    assert told.count("settings[0].format") == 2
    for body in (QUESTION, {**QUESTION, "model": "free"}, {**QUESTION, "stream": True}):
        assert (await bench.post(body)).status == 200
    one.status = 500
    assert (await bench.post(QUESTION)).status == 500
    one.status = 200
    await eventually(lambda: file.exists() and len(file.read_text().splitlines()) == 3, lambda: bench.log())
    known = {"input": 12, "out.put'": 7, "by_cel": None, "session.id": None, "route_name": "default/route",
             "backend_name": "default/one"}  # fmt: skip
    whole, stream, failed = map(json.loads, file.read_text().splitlines())
    assert whole == {**known, "response_model": "m"}
    assert stream == {**known, "response_model": None}
    assert failed == {**known, "input": None, "out.put'": None, "response_model": None}


async def test_the_envoy_proxy_of_a_class_holds_for_gateways_without_one() -> None:
    port = free_port()
    log = {"accessLog": {"settings": [{"sinks": [{"type": "File", "file": {"path": "/dev/stdout"}}]}]}}
    by_class = {
        "kind": "GatewayClass",
        "metadata": {"name": "kajitori"},
        "spec": {
            "controllerName": "kajitori.dev/gateway-controller",
            "parametersRef": {**ENVOY, "name": "settings", "namespace": "default"},
        },
    }
    plan = make_plan(observe(by_class, gateway(port), envoy_proxy(telemetry=log)))
    listeners = plan.resources.by_type["envoy.config.listener.v3.Listener"]
    assert "/dev/stdout" in json.dumps(listeners)
    plan = make_plan(
        observe(by_class, with_proxy(port, "own"), envoy_proxy(telemetry=log), envoy_proxy("own"))
    )
    listeners = plan.resources.by_type["envoy.config.listener.v3.Listener"]
    assert "/dev/stdout" not in json.dumps(listeners)


async def test_a_reference_to_settings_that_are_not_there_is_told() -> None:
    plan = make_plan(observe(with_proxy(free_port(), "nothing")))
    (accepted,) = [
        each for each in status(plan, "Gateway", "gateway")["conditions"] if each["type"] == "Accepted"
    ]
    assert (accepted["status"], accepted["reason"]) == ("False", "InvalidParameters")
    assert "EnvoyProxy default/nothing does not exist" in accepted["message"]
    plan = make_plan(observe(with_config(free_port(), "nothing")))
    (accepted,) = [
        each for each in status(plan, "Gateway", "gateway")["conditions"] if each["type"] == "Accepted"
    ]
    assert "GatewayConfig default/nothing does not exist" in accepted["message"]


async def test_costs_of_a_gateway_hold_where_the_route_has_none_of_that_key(
    bench: Workbench, one: Provider
) -> None:
    config = gateway_config(
        globalLLMRequestCosts=[
            cost("all"),
            {"metadataKey": "twice", "type": "CEL", "cel": "total_tokens * uint(2)"},
        ],
        extProc={"kubernetes": {"env": []}},
    )
    plan = await bench.apply(
        with_config(bench.port, "config"),
        config,
        *backend("one", one.port),
        ai_route("route", "m", {"name": "one"}, llmRequestCosts=[cost("all", "InputToken")]),
    )
    told = status(plan, "GatewayConfig", "config")["conditions"][0]
    assert told["type"] == "Accepted"
    assert "spec.extProc is not honoured" in told["message"]
    assert {rule.key: rule.type for rule in plan.policy.routes["default/route"].costs} == {
        "all": "InputToken",
        "twice": "CEL",
    }


async def test_of_two_gateways_with_other_costs_the_older_ones_hold() -> None:
    old, young = with_config(free_port(), "old", "old"), with_config(free_port(), "young", "young")
    old["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    young["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    route = ai_route("route", "m", {"name": "one"}, parentRefs=[{"name": "young"}, {"name": "old"}])
    plan = make_plan(
        observe(
            young,
            old,
            gateway_config("young", globalLLMRequestCosts=[cost("all", "InputToken")]),
            gateway_config("old", globalLLMRequestCosts=[cost("all", "OutputToken")]),
            *backend("one", 9),
            route,
        )
    )
    assert [rule.type for rule in plan.policy.routes["default/route"].costs] == ["OutputToken"]
    assert "cost all" in status(plan, "AIGatewayRoute", "route")["conditions"][0]["message"]


@contextlib.asynccontextmanager
async def running_proxy() -> AsyncGenerator[tuple[int, list[str]]]:
    """A proxy for tunnels. Its port, and what it was asked."""
    asked: list[str] = []

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split(" ", 2)
        asked.append(f"{method} {target}")
        host, _, port = target.rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            await asyncio.gather(pump(reader, back), pump(there, writer))
        finally:
            back.transport.abort()

    async with serving(tunnel) as port:
        yield port, asked


async def test_providers_are_reached_by_the_proxy_of_the_gateway(
    bench: Workbench, one: Provider, tmp_path: Path
) -> None:
    context = Authority().server_context(tmp_path, "provider.example")
    async with running_proxy() as (port, asked), secure_server(context) as (secure_port, _):
        secure = backend("secure", secure_port)
        secure[0]["spec"]["tls"] = {"insecureSkipVerify": True, "sni": "provider.example"}
        plan = await bench.apply(
            with_config(bench.port, "config"),
            gateway_config(forwardProxy={"address": f"localhost:{port}"}),
            *backend("one", one.port),
            *secure,
            ai_route("route", "m", {"name": "one"}),
            ai_route("secure", "s", {"name": "secure"}),
        )
        assert bench.ads.rejected == {}
        reply = await bench.post({**QUESTION, "model": "s"})
        assert reply.status == 200, reply.body
        assert asked == [f"CONNECT 127.0.0.1:{secure_port}"]
        assert (await bench.post(QUESTION)).status == 200
        assert len(asked) == 1
        told = status(plan, "GatewayConfig", "config")["conditions"][0]["message"]
        assert "ai/default/one has no TLS" in told


async def test_a_proxy_by_a_name_that_nobody_knows_is_told() -> None:
    plan = make_plan(
        observe(
            with_config(free_port(), "config"), gateway_config(forwardProxy={"address": "proxy.example:3128"})
        )
    )
    told = status(plan, "GatewayConfig", "config")["conditions"][0]
    assert told["type"] == "NotAccepted"
    assert "spec.forwardProxy.address: proxy.example is neither" in told["message"]
