"""HTTPRoutes, hostnames and merged Gateways, through a real Envoy."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from tests.gateway.workbench import Provider, Workbench, ai_route, backend, gateway, running_provider

QUESTION = {"model": "gpt-4o", "messages": []}


def http_route(name: str, *rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    return {
        "kind": "HTTPRoute",
        "metadata": {"name": name},
        "spec": {"parentRefs": [{"name": "gateway"}], "rules": list(rules), **spec},
    }


def to(name: str, **ref: Any) -> dict[str, Any]:
    return {"group": "gateway.envoyproxy.io", "kind": "Backend", "name": name, **ref}


def matching(backends: list[dict[str, Any]], *matches: dict[str, Any], **rule: Any) -> dict[str, Any]:
    return {"backendRefs": backends, "matches": list(matches), **rule}


def path(value: str, kind: str = "PathPrefix", **match: Any) -> dict[str, Any]:
    return {"path": {"type": kind, "value": value}, **match}


async def echoing(request: web.Request, body: bytes) -> web.StreamResponse:
    headers = {name.lower(): value for name, value in request.headers.items()}
    return web.json_response({"path": request.path_qs, "headers": headers})


async def test_the_most_specific_match_wins(bench: Workbench, first: Provider) -> None:
    async with running_provider() as second, running_provider() as third:
        await bench.apply(
            gateway(bench.port),
            *backend("one", first.port),
            *backend("two", second.port),
            *backend("three", third.port),
            http_route("root", matching([to("one")], path("/"))),
            http_route(
                "deep",
                matching([to("two")], path("/a")),
                matching(
                    [to("three")],
                    path("/a/b", "Exact"),
                    path("/a", headers=[{"name": "X-Kind", "value": "three"}]),
                    path("/a", queryParams=[{"name": "kind", "value": "3"}]),
                    path("/c/[0-9]+", "RegularExpression", method="GET"),
                ),
            ),
        )

        async def answers(url: str, **headers: str) -> int:
            for provider in (first, second, third):
                provider.seen.clear()
            assert (await bench.get(url, headers)).status == 200
            return [len(provider.seen) for provider in (first, second, third)].index(1) + 1

        assert await answers("/x") == 1
        assert await answers("/ab") == 1
        assert await answers("/a") == 2
        assert await answers("/a/b/c") == 2
        assert await answers("/a/b") == 3
        assert await answers("/a/x", **{"x-kind": "three"}) == 3
        assert await answers("/a?kind=3") == 3
        assert await answers("/c/12") == 3
        assert await answers("/c/x") == 1


async def test_filters_change_headers_paths_and_answers(bench: Workbench, first: Provider) -> None:
    first.answer = echoing
    modify = {
        "set": [{"name": "X-Set", "value": "50%"}],
        "add": [{"name": "x-add", "value": "more"}],
        "remove": ["x-remove"],
    }
    await bench.apply(
        gateway(bench.port),
        *backend("one", first.port),
        http_route(
            "web",
            matching(
                [to("one")],
                path("/headers"),
                filters=[
                    {"type": "RequestHeaderModifier", "requestHeaderModifier": modify},
                    {
                        "type": "ResponseHeaderModifier",
                        "responseHeaderModifier": {"set": [{"name": "x-out", "value": "1"}]},
                    },
                ],
            ),
            matching(
                [to("one")],
                path("/old"),
                filters=[
                    {
                        "type": "URLRewrite",
                        "urlRewrite": {
                            "hostname": "inner.example",
                            "path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/new"},
                        },
                    }
                ],
            ),
            matching(
                [to("one")],
                path("/strip"),
                filters=[
                    {
                        "type": "URLRewrite",
                        "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/"}},
                    }
                ],
            ),
            matching(
                [],
                path("/moved"),
                filters=[
                    {
                        "type": "RequestRedirect",
                        "requestRedirect": {
                            "hostname": "elsewhere.example",
                            "scheme": "https",
                            "statusCode": 301,
                        },
                    }
                ],
            ),
        ),
    )
    reply = await bench.get("/headers", {"x-set": "old", "x-add": "one", "x-remove": "gone"})
    headers = reply.json["headers"]
    assert (headers["x-set"], reply.headers["x-out"]) == ("50%", "1")
    assert "x-remove" not in headers
    reply = await bench.get("/old/page?q=1")
    assert (reply.json["path"], reply.json["headers"]["host"]) == ("/new/page?q=1", "inner.example")
    assert (await bench.get("/strip/page")).json["path"] == "/page"
    assert (await bench.get("/strip")).json["path"] == "/"
    moved = await bench.get("/moved/x")
    assert (moved.status, moved.headers["Location"]) == (301, "https://elsewhere.example/moved/x")


async def test_a_plain_route_on_the_same_gateway_is_untouched_by_ai_routes(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    first.answer = echoing
    await bench.apply(
        gateway(bench.port),
        *backend("plain", first.port),
        *backend("ai", second.port),
        http_route("web", matching([to("plain")], path("/"))),
        ai_route("route", "gpt-4o", {"name": "ai"}),
    )
    assert (await bench.post(QUESTION)).status == 200
    assert len(second.seen) == 1
    assert (await bench.post(b"not json", path="/anything")).status == 200
    assert first.seen[0].body == b"not json"
    # An AI path with a model that nobody knows is for the AI routes to refuse.
    assert (await bench.post({**QUESTION, "model": "nope"})).status == 404


async def test_a_share_without_backend_fails_alone(bench: Workbench, first: Provider) -> None:
    await bench.apply(
        gateway(bench.port),
        *backend("one", first.port),
        http_route(
            "web",
            matching([to("one", weight=1), to("missing", weight=1)], path("/half")),
            matching([to("missing")], path("/none")),
        ),
    )
    statuses = {(await bench.get("/half")).status for _ in range(30)}
    assert statuses == {200, 500}
    reply = await bench.get("/none")
    assert reply.status == 500
    assert "Backend default/missing does not exist" in reply.json["error"]["message"]


async def test_gateways_on_one_port_share_a_listener_and_keep_their_hostnames(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    mission = {**gateway(bench.port), "metadata": {"name": "mission"}}
    named = {**gateway(bench.port, hostname="*.example.com"), "metadata": {"name": "named"}}
    away = ai_route("away", "gpt-4o", {"name": "b"}, hostnames=["a.example.com"])
    away["spec"]["parentRefs"] = [{"name": "named"}]
    here = ai_route("here", "local", {"name": "a"})
    here["spec"]["parentRefs"] = [{"name": "mission"}, {"name": "gateway"}]
    plan = await bench.apply(
        gateway(bench.port),
        mission,
        named,
        *backend("a", first.port),
        *backend("b", second.port),
        here,
        away,
        ai_route("also", "gpt-4o", {"name": "a"}),
    )
    assert (await bench.post({**QUESTION, "model": "local"})).status == 200
    assert (await bench.post(QUESTION, headers={"host": f"a.example.com:{bench.port}"})).status == 200
    assert len(second.seen) == 1
    assert (await bench.post(QUESTION, headers={"host": "b.example.org"})).status == 200
    assert len(first.seen) == 2
    listed = await bench.get("/v1/models", {"host": "a.example.com"})
    assert [item["id"] for item in listed.json["data"]] == ["gpt-4o", "local"]
    attached = {
        item.name: item.status["listeners"][0]["attachedRoutes"]
        for item in plan.statuses
        if item.resource.kind == "Gateway"
    }
    assert attached == {"gateway": 2, "mission": 1, "named": 1}


async def test_a_head_request_that_nothing_matches_is_not_said_to_have_a_body(bench: Workbench) -> None:
    await bench.apply(gateway(bench.port))
    async with bench.session.head(bench.url + "/x") as response:
        assert response.status == 404
        assert "content-type" not in response.headers
