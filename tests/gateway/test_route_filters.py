"""Filters, shares and settings of HTTPRoutes and GRPCRoutes, through a real Envoy."""

from __future__ import annotations

import asyncio
import base64
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.resources import CLUSTER, ROUTES
from tests.gateway.test_http_routes import echoing, http_route, matching, path, to
from tests.gateway.workbench import Provider, Workbench, backend, gateway, observe
from tests.waiting import eventually


def route_conditions(
    plan: Plan, name: str = "web", kind: str = "HTTPRoute"
) -> dict[str, tuple[str, str, str]]:
    """At the first parent: type -> status, reason, message."""
    status = next(item.status for item in plan.statuses if item.resource.kind == kind and item.name == name)
    return {c["type"]: (c["status"], c["reason"], c["message"]) for c in status["parents"][0]["conditions"]}


def extension(name: str) -> dict[str, Any]:
    ref = {"group": "gateway.envoyproxy.io", "kind": "HTTPRouteFilter", "name": name}
    return {"type": "ExtensionRef", "extensionRef": ref}


def route_filter(name: str, **spec: Any) -> dict[str, Any]:
    return {"kind": "HTTPRouteFilter", "metadata": {"name": name}, "spec": spec}


def modify(**headers: str) -> dict[str, Any]:
    named = [{"name": name.replace("_", "-"), "value": value} for name, value in headers.items()]
    return {"type": "RequestHeaderModifier", "requestHeaderModifier": {"set": named}}


async def preflight(bench: Workbench, url: str, origin: str, method: str = "PUT") -> dict[str, str]:
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        "access-control-request-headers": "x-a",
    }
    async with bench.session.options(bench.url + url, headers=headers) as response:
        assert response.status in (200, 204)
        return {name.lower(): value for name, value in response.headers.items()}


async def test_requests_are_copied_to_a_mirror_whose_answer_nobody_waits_for(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    def mirror(name: str, **share: Any) -> dict[str, Any]:
        return {"type": "RequestMirror", "requestMirror": {"backendRef": to(name), **share}}

    second.status = 500
    await bench.apply(
        gateway(bench.port),
        *backend("one", first.port),
        *backend("two", second.port),
        http_route(
            "web",
            matching([to("one")], path("/all"), filters=[mirror("two"), mirror("two", percent=100)]),
            matching([to("one")], path("/none"), filters=[mirror("two", percent=0)]),
            matching(
                [to("one")],
                path("/some"),
                filters=[mirror("two", fraction={"numerator": 1, "denominator": 2})],
            ),
            matching([to("one")], path("/lost"), filters=[mirror("missing")]),
        ),
    )
    assert (await bench.get("/all")).status == 200
    await eventually(lambda: len(second.seen) == 2)
    assert second.seen[0].headers["host"] == f"127.0.0.1:{bench.port}"
    assert (await bench.get("/none")).status == 200
    assert (await bench.get("/lost")).status == 200
    for _ in range(60):
        await bench.get("/some")
    await eventually(lambda: len(second.seen) > 10)
    assert len(second.seen) < 2 + 60


async def test_cors_is_answered_for_the_origins_that_are_named(bench: Workbench, first: Provider) -> None:
    cors = {
        "type": "CORS",
        "cors": {
            "allowOrigins": ["https://one.example", "https://*.wild.example"],
            "allowMethods": ["GET", "PUT"],
            "allowHeaders": ["x-a"],
            "exposeHeaders": ["x-b"],
            "allowCredentials": True,
            "maxAge": 60,
        },
    }
    anybody = {"type": "CORS", "cors": {"allowOrigins": ["*"]}}
    await bench.apply(
        gateway(bench.port),
        *backend("one", first.port),
        http_route(
            "web",
            matching([to("one")], path("/named"), filters=[cors]),
            matching([to("one")], path("/any"), filters=[anybody]),
        ),
    )
    for origin in ("https://one.example", "https://a.b.wild.example"):
        told = await preflight(bench, "/named", origin)
        assert told["access-control-allow-origin"] == origin
        assert told["access-control-allow-methods"] == "GET, PUT"
        assert told["access-control-allow-headers"] == "x-a"
        assert told["access-control-allow-credentials"] == "true"
        assert told["access-control-max-age"] == "60"
    for origin in ("https://two.example", "https://one.example.evil", "http://one.example"):
        told = await preflight(bench, "/named", origin)
        assert "access-control-allow-origin" not in told
    assert not first.seen
    told = await preflight(bench, "/any", "https://anyone.example")
    assert told["access-control-allow-origin"] in ("*", "https://anyone.example")
    assert "access-control-allow-credentials" not in told
    assert told["access-control-max-age"] == "5"
    reply = await bench.get("/named", {"origin": "https://one.example"})
    assert reply.headers["Access-Control-Expose-Headers"] == "x-b"
    assert reply.headers["Access-Control-Allow-Origin"] == "https://one.example"


async def test_filters_of_a_backend_hold_for_its_share_alone(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    first.answer = second.answer = echoing
    rewrite = {
        "type": "URLRewrite",
        "urlRewrite": {"path": {"type": "ReplacePrefixMatch", "replacePrefixMatch": "/inner"}},
    }
    redirect = {"type": "RequestRedirect", "requestRedirect": {"hostname": "away.example"}}
    plan = await bench.apply(
        gateway(bench.port),
        *backend("one", first.port),
        *backend("two", second.port),
        http_route(
            "web",
            matching(
                [to("one", filters=[modify(x_who="one")]), to("two", filters=[modify(x_who="two")])],
                path("/headers"),
            ),
            matching(
                [to("one", filters=[rewrite]), to("two"), to("one", filters=[redirect], weight=2)],
                path("/outer"),
                filters=[modify(x_all="yes")],
            ),
            matching([to("one", filters=[rewrite]), to("missing")], path("/half")),
        ),
    )
    for _ in range(20):
        await bench.get("/headers")
    assert {seen.headers["x-who"] for seen in first.seen} == {"one"}
    assert {seen.headers["x-who"] for seen in second.seen} == {"two"}
    first.seen.clear()
    second.seen.clear()
    statuses = [(await bench.get("/outer/x")).status for _ in range(80)]
    assert {seen.path for seen in first.seen} == {"/inner/x"}
    assert {seen.path for seen in second.seen} == {"/outer/x"}
    assert {seen.headers["x-all"] for seen in (*first.seen, *second.seen)} == {"yes"}
    # Half of the weights redirects; a fair coin falls outside these bounds once in ten million such runs.
    assert 18 <= statuses.count(302) <= 62
    assert {(await bench.get("/half")).status for _ in range(30)} == {200, 500}
    assert route_conditions(plan)["ResolvedRefs"][:2] == ("False", "BackendNotFound")


async def test_filters_of_envoy_gateway_do_what_they_say(bench: Workbench, first: Provider) -> None:
    first.answer = echoing
    answer = {
        "statusCode": 418,
        "contentType": "text/x-tea",
        "body": {"type": "Inline", "inline": "%REQ(:PATH)% is short and stout"},
        "header": {"set": [{"name": "x-pot", "value": "100%"}]},
    }
    config_map = {"kind": "ConfigMap", "metadata": {"name": "page"}, "data": {"response.body": "from a map"}}
    secret = {"kind": "Secret", "metadata": {"name": "key"}, "stringData": {"credential": "Basic YTpi"}}
    pattern = {"pattern": "^/v([0-9]+)/(.*)$", "substitution": "/\\2/version/\\1"}
    plan = await bench.apply(
        gateway(bench.port),
        *backend("one", first.port),
        config_map,
        secret,
        route_filter("tea", directResponse=answer),
        route_filter("page", directResponse={"body": {"type": "ValueRef", "valueRef": {"group": "", "kind": "ConfigMap", "name": "page"}}}),
        route_filter("regex", urlRewrite={"path": {"type": "ReplaceRegexMatch", "replaceRegexMatch": pattern}}),
        route_filter("by-header", urlRewrite={"hostname": {"type": "Header", "header": "X-Host"}}),
        route_filter(
            "by-path",
            urlRewrite={
                "hostname": {"type": "PathRegex", "pathRegex": {"pattern": "^/path/(.+)$", "substitution": "\\1.example"}},
                "appendXForwardedHost": False,
            },
        ),
        route_filter("key", credentialInjection={"credential": {"valueRef": {"name": "key"}}, "overwrite": True}),
        route_filter("cookie", matches=[{"cookies": [{"name": "kind", "value": "sweet"}]}]),
        http_route(
            "web",
            matching([], path("/tea"), filters=[extension("tea")]),
            matching([], path("/page"), filters=[extension("page")]),
            matching([to("one")], path("/v1"), filters=[extension("regex")]),
            matching([to("one")], path("/header"), filters=[extension("by-header")]),
            matching([to("one")], path("/path"), filters=[extension("by-path")]),
            matching([to("one")], path("/key"), filters=[extension("key")]),
            matching([to("one")], path("/cookie"), filters=[extension("cookie")]),
            matching([to("one")], path("/lost"), filters=[extension("nothing")]),
        ),
    )  # fmt: skip
    reply = await bench.get("/tea?x=1")
    assert (reply.status, reply.body) == (418, b"/tea?x=1 is short and stout")
    assert (reply.headers["Content-Type"], reply.headers["x-pot"]) == ("text/x-tea", "100%")
    assert (await bench.get("/page")).body == b"from a map"
    assert (await bench.get("/v1/chat?q=2")).json["path"] == "/chat/version/1?q=2"
    headers = (await bench.get("/header", {"x-host": "chosen.example"})).json["headers"]
    assert headers["host"] == "chosen.example"
    assert headers["x-forwarded-host"] == f"127.0.0.1:{bench.port}"
    headers = (await bench.get("/path/own")).json["headers"]
    assert (headers["host"], "x-forwarded-host" in headers) == ("own.example", False)
    headers = (await bench.get("/key", {"authorization": "mine"})).json["headers"]
    assert headers["authorization"] == "Basic YTpi"
    assert "Basic YTpi" not in repr(plan.resources.by_type[CLUSTER])
    assert (await bench.get("/cookie", {"cookie": "kind=sweet"})).status == 200
    assert (await bench.get("/cookie", {"cookie": "kind=sour"})).status == 404
    reply = await bench.get("/lost")
    assert reply.status == 500
    assert "HTTPRouteFilter default/nothing does not exist" in reply.json["error"]["message"]
    told = route_conditions(plan)
    assert told["Accepted"][0] == "True"
    assert told["PartiallyInvalid"][:2] == ("True", "UnsupportedValue")
    assert base64.b64encode(b"Basic YTpi").decode() not in await bench.admin("/config_dump")


async def test_timeouts_and_retries_of_a_rule(bench: Workbench, first: Provider) -> None:
    answers = iter([503, 200, 404, 200])

    async def failing(request: web.Request, body: bytes) -> web.StreamResponse:
        if request.path == "/slow":
            await asyncio.sleep(5)
        return web.Response(status=next(answers))

    first.answer = failing
    await bench.apply(
        gateway(bench.port),
        *backend("one", first.port),
        http_route(
            "web",
            matching([to("one")], path("/slow"), timeouts={"request": "100ms"}),
            matching([to("one")], path("/again"), retry={"codes": [503], "attempts": 2, "backoff": "10ms"}),
            matching([to("one")], path("/never"), retry={"codes": [404], "attempts": 0}),
        ),
    )
    assert (await bench.get("/slow")).status == 504
    assert (await bench.get("/again")).status == 200
    assert (await bench.get("/never")).status == 404


@pytest.mark.parametrize("kind", ["Cookie", "Header"])
async def test_a_session_stays_with_its_endpoint(
    bench: Workbench, first: Provider, second: Provider, kind: str
) -> None:
    pair = backend("pair", first.port)
    pair[0]["spec"]["endpoints"].append({"ip": {"address": "127.0.0.1", "port": second.port}})
    session = {"type": kind, "sessionName": "stay"}
    await bench.apply(
        gateway(bench.port),
        *pair,
        http_route("web", matching([to("pair")], path("/"), sessionPersistence=session)),
    )
    reply = await bench.get("/x")
    token = reply.headers["Set-Cookie"].split(";")[0] if kind == "Cookie" else reply.headers["stay"]
    sent = {"cookie": token} if kind == "Cookie" else {"stay": token}
    for _ in range(12):
        assert (await bench.get("/x", sent)).status == 200
    assert sorted([len(first.seen), len(second.seen)]) == [0, 13]


async def test_a_backend_marked_as_fallback_serves_where_the_others_fail(
    bench: Workbench, first: Provider, second: Provider
) -> None:
    last = backend("last", second.port)
    last[0]["spec"]["fallback"] = True
    await bench.apply(
        gateway(bench.port),
        *backend("one", first.port),
        *last,
        http_route("web", matching([to("one"), to("last")], path("/"))),
    )
    for _ in range(5):
        assert (await bench.get("/x")).status == 200
    assert (len(first.seen), len(second.seen)) == (5, 0)
    first.status = 503
    assert (await bench.get("/x")).status == 200
    assert len(second.seen) == 1


async def test_a_service_without_endpoints_is_unavailable(bench: Workbench) -> None:
    service = {"kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}}
    plan = await bench.apply(
        gateway(bench.port), service, http_route("web", matching([{"name": "s", "port": 80}], path("/")))
    )
    assert (await bench.get("/x")).status == 503
    assert route_conditions(plan)["ResolvedRefs"][0] == "True"


async def test_web_sockets_pass_through(bench: Workbench, first: Provider) -> None:
    async def socket(request: web.Request, body: bytes) -> web.StreamResponse:
        found = web.WebSocketResponse()
        await found.prepare(request)
        async for message in found:
            await found.send_str(f"you said {message.data}")
        return found

    first.answer = socket
    one = backend("one", first.port)
    one[0]["spec"]["appProtocols"] = ["gateway.envoyproxy.io/ws"]
    await bench.apply(gateway(bench.port), *one, http_route("web", matching([to("one")], path("/"))))
    async with aiohttp.ClientSession() as session, session.ws_connect(f"{bench.url}/socket") as connection:
        await connection.send_str("hello")
        assert await connection.receive_str() == "you said hello"


def http_rules(plan: Plan) -> list[dict[str, Any]]:
    return [
        route
        for table in plan.resources.by_type[ROUTES].values()
        for host in table["virtual_hosts"]
        for route in host["routes"]
    ]


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        (matching([to("one")], path("(", "RegularExpression")), "rules[0].matches[0] is left out"),
        (matching([to("one")], path("/"), filters=[modify(host="x.example")]), "use URLRewrite"),
        (
            matching([to("one")], path("/"), filters=[{"type": "ExternalAuth", "externalAuth": {}}]),
            "ExternalAuth is not honoured",
        ),
    ],
)
def test_what_envoy_would_refuse_never_gets_there(rule: dict[str, Any], told: str) -> None:
    plan = make_plan(observe(gateway(8080), *backend("one", 1), http_route("web", rule)))
    assert told in route_conditions(plan)["PartiallyInvalid"][2]
    assert not [route for route in http_rules(plan) if "route" in route]


def test_a_route_of_which_nothing_can_be_honoured_is_not_accepted() -> None:
    rule = matching([to("one")], path("/"), filters=[extension("nothing")])
    plan = make_plan(observe(gateway(8080), *backend("one", 1), http_route("web", rule)))
    assert route_conditions(plan)["Accepted"][:2] == ("False", "UnsupportedValue")


def test_a_redirect_to_another_host_stays_on_the_port_of_its_listener() -> None:
    def redirect(**where: Any) -> dict[str, Any]:
        found = {"type": "RequestRedirect", "requestRedirect": {"hostname": "b.example", **where}}
        return matching([], path("/"), filters=[found])

    for port, where, expected in (
        (8080, {}, 8080),
        (80, {}, None),
        (8080, {"port": 8443}, 8443),
        (8080, {"scheme": "https"}, None),
    ):
        plan = make_plan(observe(gateway(port), http_route("web", redirect(**where))))
        found = [route["redirect"] for route in http_rules(plan) if "redirect" in route]
        assert [item.get("port_redirect") for item in found] == [expected]
