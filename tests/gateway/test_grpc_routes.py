"""GRPCRoutes through a real Envoy, and beside HTTPRoutes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc import aio

from kajitori.gateway.plan import make_plan
from tests.gateway.test_http_routes import http_route, matching, path, to
from tests.gateway.test_route_filters import modify, route_conditions
from tests.gateway.workbench import Provider, Workbench, backend, gateway, observe


def grpc_route(name: str, *rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "kind": "GRPCRoute",
        "metadata": {"name": name},
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": list(rules), **spec},
    }


@contextlib.asynccontextmanager
async def grpc_server(name: str) -> AsyncIterator[int]:
    """Answers every unary call with its own name and the value of `x-set`."""

    class Anything(grpc.GenericRpcHandler):
        def service(self, handler_call_details: Any) -> Any:
            async def answer(request: bytes, context: Any) -> bytes:
                sent = dict(context.invocation_metadata())
                return f"{name} {sent.get('x-set', '')}".strip().encode()

            return grpc.unary_unary_rpc_method_handler(answer)

    server = aio.server()
    server.add_generic_rpc_handlers((Anything(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def call(bench: Workbench, method: str, **headers: str) -> str:
    async with aio.insecure_channel(f"127.0.0.1:{bench.port}") as channel:
        metadata = [(name.replace("_", "-"), value) for name, value in headers.items()]
        answer = await channel.unary_unary(method)(b"", metadata=metadata, timeout=10)
        return answer.decode()


async def test_calls_go_by_service_method_and_headers(bench: Workbench) -> None:
    async with grpc_server("one") as one, grpc_server("two") as two, grpc_server("three") as three:
        plan = await bench.apply(
            gateway(bench.port),
            *backend("one", one),
            *backend("two", two),
            *backend("three", three),
            grpc_route(
                "calls",
                {
                    "name": "exact",
                    "matches": [{"method": {"service": "a.Service", "method": "Get"}}],
                    "backendRefs": [to("one")],
                    "filters": [modify(x_set="yes")],
                },
                {"matches": [{"method": {"service": "a.Service"}}], "backendRefs": [to("two")]},
                {"matches": [{"method": {"method": "List"}}], "backendRefs": [to("three")]},
                {
                    "matches": [{"headers": [{"name": "X-Kind", "value": "three"}]}],
                    "backendRefs": [to("three")],
                },
                {
                    "matches": [{"method": {"type": "RegularExpression", "service": r"r\.[a-z]+"}}],
                    "backendRefs": [to("two"), to("missing", weight=0)],
                },
                {"matches": [{"method": {"service": "lost"}}], "backendRefs": [to("missing")]},
            ),
        )
        assert await call(bench, "/a.Service/Get") == "one yes"
        assert await call(bench, "/a.Service/List") == "two"
        assert await call(bench, "/b.Service/List") == "three"
        assert await call(bench, "/b.Service/Get", x_kind="three") == "three"
        assert await call(bench, "/r.other/Get") == "two"
        for method, code in (
            ("/b.Service/Get", grpc.StatusCode.UNIMPLEMENTED),
            ("/lost/Get", grpc.StatusCode.UNKNOWN),
        ):
            with pytest.raises(aio.AioRpcError) as refused:
                await call(bench, method)
            assert refused.value.code() == code
        told = route_conditions(plan, "calls", "GRPCRoute")
        assert told["Accepted"][0] == "True"
        assert told["ResolvedRefs"][:2] == ("False", "BackendNotFound")


def test_of_an_http_and_a_grpc_route_for_one_host_the_older_is_accepted() -> None:
    older = http_route("web", matching([to("one")], path("/")), hostnames=["one.example", "two.example"])
    older["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    younger = grpc_route("calls", {"backendRefs": [to("one")]}, hostnames=["*.example"])
    younger["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    elsewhere = grpc_route("other", {"backendRefs": [to("one")]}, hostnames=["three.example"])
    plan = make_plan(observe(gateway(8080), *backend("one", 1), younger, older, elsewhere))
    assert route_conditions(plan)["Accepted"][0] == "True"
    assert route_conditions(plan, "calls", "GRPCRoute")["Accepted"][:2] == ("False", "Conflicted")
    assert route_conditions(plan, "other", "GRPCRoute")["Accepted"][0] == "True"
    listener = next(item.status for item in plan.statuses if item.resource.kind == "Gateway")["listeners"][0]
    assert listener["attachedRoutes"] == 2


async def test_http_requests_are_no_calls(bench: Workbench, first: Provider) -> None:
    await bench.apply(
        gateway(bench.port), *backend("one", first.port), grpc_route("calls", {"backendRefs": [to("one")]})
    )
    assert (await bench.get("/a.Service/Get")).status == 404
