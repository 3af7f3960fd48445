"""What clients are answered where SecurityPolicies hold, by a real Envoy and stand-ins of the services that it asks."""

from __future__ import annotations

import asyncio
import base64
import hashlib
from typing import Any

import grpc
import pytest
from aiohttp import web
from google.protobuf.json_format import MessageToDict

from kajitori.gateway.envoy.schema import schema
from kajitori.gateway.plan import Plan, make_plan
from tests.gateway.security.objects import (
    GATEWAY,
    for_route,
    jwks,
    local_jwt,
    plain_route,
    policy,
    token,
)
from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    gateway,
    key_policy,
    observe,
    running_provider,
)


def ask(bench: Workbench, model: str = "m", **headers: str) -> Any:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return bench.post({"model": model, "messages": []}, headers=sent)


def parts(bench: Workbench, provider: Provider, *more: Any) -> list[Any]:
    return [
        gateway(bench.port), *backend("a", provider.port), ai_route("r", "m", {"name": "a"}),
        plain_route("plain", "/plain"), *more,
    ]  # fmt: skip


def accepted(bench: Workbench, name: str) -> tuple[str, str]:
    """Status and message of Accepted."""
    assert bench.plan is not None
    status = next(
        each.status for each in bench.plan.statuses
        if (each.resource.kind, each.name) == ("SecurityPolicy", name)
    )  # fmt: skip
    states = {each["type"]: each for each in status["ancestors"][0]["conditions"]}
    return states["Accepted"]["status"], states["Accepted"]["message"]


def of_route(plan: Plan, name: str) -> tuple[str, str]:
    """The condition of an AIGatewayRoute, and its message."""
    status = next(
        each.status for each in plan.statuses
        if (each.resource.kind, each.name) == ("AIGatewayRoute", name)
    )  # fmt: skip
    (state,) = status["conditions"]
    return state["type"], state["message"]


KEYS = {
    "kind": "Secret",
    "metadata": {"name": "keys"},
    "stringData": {"alice": "key-of-alice" * 9, "bob": "bobs-key"},
}
KEY_AUTH = {
    "credentialRefs": [{"name": "keys"}],
    "extractFrom": [{"headers": ["x-key"]}, {"params": ["key"]}, {"cookies": ["key"]}],
    "forwardClientIDHeader": "X-Client",
    "sanitize": True,
}


async def test_clients_are_known_by_keys_of_a_secret(bench: Workbench, first: Provider) -> None:
    await bench.apply(*parts(bench, first, KEYS, policy("p", apiKeyAuth=KEY_AUTH)))
    assert accepted(bench, "p") == ("True", "the policy holds")
    alice = "key-of-alice" * 9
    for path, headers in (
        ("/plain/x", {"x-key": "bobs-key"}),
        ("/plain/x?a=1&key=bobs-key&b=2", {}),
        ("/plain/x", {"cookie": "a=1; key=bobs-key"}),
    ):
        assert (await bench.get(path, headers)).status == 200, (path, headers)
        seen = first.seen[-1]
        assert seen.headers["x-client"] == "bob"
        assert "bobs-key" not in str(seen)
    assert first.seen[1].path == "/plain/x?a=1&b=2"
    assert (await ask(bench, x_key=alice)).status == 200
    assert first.seen[-1].headers["x-client"] == "alice"
    reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
    writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 30000000\r\n\r\n")
    assert b"401" in await asyncio.wait_for(reader.readline(), 20)
    writer.close()
    await writer.wait_closed()
    for headers in ({}, {"x-key": "wrong"}, {"x-client": "alice"}):
        assert (await bench.get("/plain/x", headers)).status == 401
        reply = await ask(bench, **{name.replace("-", "_"): value for name, value in headers.items()})
        assert reply.json["error"]["type"] == "Unauthorized"
    assert (await bench.get("/v1/models")).status == 401
    dump = await bench.admin("/config_dump?include_eds")
    assert "bobs-key" not in dump
    assert alice not in dump
    assert hashlib.sha256(b"bobs-key").hexdigest() in dump


async def test_a_policy_of_one_model_asks_for_that_model_alone(bench: Workbench, first: Provider) -> None:
    digest = base64.b64encode(hashlib.sha1(b"s3cret:with colon").digest()).decode()
    users = {
        "kind": "Secret",
        "metadata": {"name": "users"},
        "stringData": {".htpasswd": f"ann:{{SHA}}{digest}\n"},
    }
    basic = {"users": {"name": "users"}, "forwardUsernameHeader": "x-user"}
    await bench.apply(
        *parts(bench, first, users, ai_route("open", "open-model", {"name": "a"})),
        policy("p", for_route("r"), for_route("plain"), basicAuth=basic),
        policy("q", for_route("other"), jwt=local_jwt()), ai_route("other", "token-model", {"name": "a"}),
    )  # fmt: skip

    def basic_of(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    good = basic_of("ann:s3cret:with colon")
    assert (await ask(bench, "open-model")).status == 200
    assert (await ask(bench, "m", authorization=good)).status == 200
    assert first.seen[-1].headers["x-user"] == "ann"
    assert (await bench.get("/plain", {"authorization": good})).status == 200
    for bad in (
        "",
        basic_of("ann:wrong"),
        basic_of("bob:s3cret:with colon"),
        basic_of("ann"),
        "Basic !",
        good + "x y",
    ):
        reply = await ask(bench, "m", authorization=bad)
        assert reply.status == 401, bad
        assert reply.headers["WWW-Authenticate"].startswith("Basic realm=")
        assert (await bench.get("/plain", {"authorization": bad})).status == 401
    assert (await ask(bench, "token-model", authorization=good)).status == 401
    assert (await ask(bench, "token-model", authorization=f"Bearer {token()}")).status == 200
    # Whose models these are cannot be asked in one list.
    assert [each["id"] for each in (await bench.get("/v1/models")).json["data"]] == ["open-model"]


@pytest.mark.parametrize(
    "more", [[], [{"action": "Deny", "cel": "request.path == '/never'"}]], ids=["plain", "beside CEL"]
)
async def test_tokens_are_checked_and_rules_look_into_them(
    bench: Workbench, first: Provider, more: list[dict[str, Any]]
) -> None:
    provider = {"audiences": ["us"], "claimToHeaders": [{"claim": "team.name", "header": "x-team"}]}
    rules = [
        {"action": "Deny", "principal": {"headers": [{"name": "x-ai-eg-model", "values": ["secret"]}]},
         "operation": {"methods": ["POST"]}},
        {"action": "Allow", "operation": {"path": {"value": "/v1/chat"}}, "principal": {
            "clientCIDRs": ["127.0.0.0/8"],
            "jwt": {"provider": "us", "scopes": ["chat"], "claims": [{"name": "team.name", "values": ["red", "blue"]}]}}},
        {"action": "Allow", "principal": {"jwt": {"provider": "us", "claims": [
            {"name": "roles", "valueType": "StringArray", "values": ["admin"]}]}}},
    ]  # fmt: skip
    await bench.apply(
        *parts(bench, first, ai_route("s", "secret", {"name": "a"})),
        policy("p", jwt=local_jwt(**provider), authorization={"rules": [*more, *rules]}),
    )

    async def told(model: str = "m", **claims: Any) -> int:
        return (await ask(bench, model, authorization=f"Bearer {token(aud='us', **claims)}")).status

    assert await told(scope="read chat", team={"name": "red"}) == 200
    assert first.seen[-1].headers["x-team"] == "red"
    assert await told(scp="chat", team={"name": "blue"}) == 200
    assert await told(roles=["user", "admin"]) == 200
    assert await told("secret", roles=["user", "admin"]) == 403
    assert await told(scope="read", team={"name": "red"}) == 403
    assert await told(scope="chat", team={"name": "green"}) == 403
    assert await told(roles="admin") == 403
    assert (await ask(bench)).status == 401
    assert (await ask(bench, authorization=f"Bearer {token(aud='them', roles=['admin'])}")).status == 403
    assert (
        await ask(bench, authorization=f"Bearer {token(aud='us', roles=['admin'])[:-4]}AAAA")
    ).status == 401
    refused = await ask(bench, authorization=f"Bearer {token(aud='us')}")
    assert refused.json["error"]["code"] == "403"


async def test_rules_by_expressions(bench: Workbench, first: Provider) -> None:
    rules = [
        {"action": "Deny", "cel": "request.headers['x-ai-eg-model'] == 'secret'"},
        {"action": "Deny", "cel": "request.query.contains('debug')", "operation": {"methods": ["GET"]}},
        {"action": "Allow", "cel": "request.headers['x-tenant'].matches('^team-[a-c]$')",
         "operation": {"path": {"type": "RegularExpression", "value": "/v1/.*|/plain", "invert": False}}},
        {"action": "Allow", "cel": "has(request.headers.referer) && request.url_path.endsWith('/x')"},
    ]  # fmt: skip
    await bench.apply(
        *parts(bench, first, ai_route("s", "secret", {"name": "a"})),
        policy("p", authorization={"rules": rules}),
    )
    assert accepted(bench, "p") == ("True", "the policy holds")
    for model, headers, status in (
        ("m", {"x_tenant": "team-a"}, 200),
        ("m", {"x_tenant": "team-d"}, 403),
        ("m", {}, 403),
        ("secret", {"x_tenant": "team-a"}, 403),
    ):
        assert (await ask(bench, model, **headers)).status == status, (model, headers)
    for path, headers, status in (
        ("/plain", {"x-tenant": "team-a"}, 200),
        ("/plain?a=debug", {"x-tenant": "team-a"}, 403),
        ("/plain/y", {"x-tenant": "team-a"}, 403),
        ("/plain/x", {"referer": "here"}, 200),
        ("/plain/x?q=1", {"referer": "here"}, 200),
        ("/plain/x", {}, 403),
    ):
        assert (await bench.get(path, headers)).status == status, (path, headers)


async def test_envoy_takes_each_function_that_an_expression_may_have(
    bench: Workbench, first: Provider
) -> None:
    times = ("FullYear", "Month", "Date", "DayOfMonth", "DayOfWeek", "DayOfYear", "Hours", "Minutes", "Seconds",
             "Milliseconds")  # fmt: skip
    holding = [
        "int('5') + 1 == 6 && uint('5') / 2u == 2u && double('5') * 2.0 - 1.5 == 8.5 && -1 < 0 && 5 % 3 >= 2",
        "bytes('a') == b'a' && bool('true') && type(1) == int && dyn(1) == 1 && !false",
        "duration('1s') < duration('2s') && request.time > timestamp('2020-01-01T00:00:00Z')",
        "[1, 2].size() == 2 && size(request.path) == 6 && request.headers.size() > 1 && 'x-a' in request.headers",
        "request.path.startsWith('/') && request.host.contains(':') && request.method in ['GET', 'PUT']",
        "(request.scheme == 'http' ? request.query : 'q') != 'q' && request.protocol == 'HTTP/1.1'",
        "source.address.startsWith('127.0.0.1:') && destination.port > 0 && !connection.mtls && connection.id >= 0u",
        " && ".join(f"request.time.get{part}() >= 0" for part in times),
        "request.time.getHours('Europe/Berlin') <= 23 || null == null",
    ]
    rules = [{"action": "Deny", "cel": f"!({each})"} for each in holding]
    await bench.apply(
        *parts(bench, first), policy("p", authorization={"rules": rules, "defaultAction": "Allow"})
    )
    assert accepted(bench, "p") == ("True", "the policy holds")
    assert (await bench.get("/plain", {"x-a": "b"})).status == 200
    assert (await bench.get("/plain")).status == 403
    allowing = [{"action": "Allow", "cel": " && ".join(f"({each})" for each in holding)}]
    await bench.apply(*parts(bench, first), policy("p", authorization={"rules": allowing}))
    assert (await bench.get("/plain", {"x-a": "b"})).status == 200


async def test_keys_of_tokens_are_fetched(bench: Workbench, first: Provider) -> None:
    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.Response(text=jwks(), content_type="application/json")

    async with running_provider(Provider(answer=answer)) as issuer:
        jwt = local_jwt(localJWKS=None, remoteJWKS={"uri": f"http://127.0.0.1:{issuer.port}/keys"})
        del jwt["providers"][0]["localJWKS"]
        await bench.apply(*parts(bench, first, policy("p", jwt={**jwt, "optional": True})))
        assert (await ask(bench)).status == 200
        assert (await ask(bench, authorization=f"Bearer {token()}")).status == 200
        assert (await ask(bench, authorization=f"Bearer {token(iss='https://other')}")).status == 401
        assert issuer.seen[0].path == "/keys"


@pytest.mark.parametrize("fail_open", [False, True])
async def test_a_service_is_asked_and_may_say_no(bench: Workbench, first: Provider, fail_open: bool) -> None:
    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        allowed = request.headers.get("x-pass") == "yes"
        return web.Response(status=200 if allowed else 418, headers={"x-tenant": "t"}, text="no tea")

    async with running_provider(Provider(answer=answer)) as service:
        http = {"backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "service"}],
                "path": "/check", "headersToBackend": ["x-tenant"]}  # fmt: skip
        ask_it = {"http": http, "headersToExtAuth": ["x-pass"], "failOpen": fail_open, "timeout": "2s"}
        shown = [backend("service", service.port)[0], policy("p", extAuth=ask_it)]
        await bench.apply(*parts(bench, first, *shown))
        assert accepted(bench, "p")[0] == "True"
        assert (await ask(bench, x_pass="yes", x_other="1")).status == 200
        assert first.seen[-1].headers["x-tenant"] == "t"
        assert service.seen[-1].path == "/check/v1/chat/completions"
        assert "x-other" not in service.seen[-1].headers
        assert (await ask(bench, x_pass="no")).status == 418
        assert (await bench.get("/plain", {"x-pass": "yes"})).status == 200
        assert (await bench.get("/plain")).status == 418
    refused = await ask(bench, x_pass="yes")
    assert refused.status == (200 if fail_open else 403)


async def test_a_service_may_be_told_the_model_and_the_body(bench: Workbench, first: Provider) -> None:
    async def answer(request: web.Request, body: bytes) -> web.StreamResponse:
        return web.Response(
            status=403 if b"forbidden" in body or request.headers["x-ai-eg-model"] == "x" else 200
        )

    async with running_provider(Provider(answer=answer)) as service:
        http = {"backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "service"}]}
        ask_it = {
            "http": http,
            "headersToExtAuth": ["x-ai-eg-model"],
            "bodyToExtAuth": {"maxRequestBytes": 1000},
        }
        await bench.apply(
            *parts(bench, first, backend("service", service.port)[0], ai_route("x", "x", {"name": "a"})),
            policy("p", for_route("r"), for_route("x"), extAuth=ask_it), ai_route("o", "open", {"name": "a"}),
        )  # fmt: skip
        assert (await ask(bench)).status == 200
        assert (await ask(bench, "x")).status == 403
        assert (await bench.post({"model": "m", "messages": ["forbidden"]})).status == 403
        assert (await bench.post({"model": "m", "messages": ["y" * 2000]})).status == 413
        count = len(service.seen)
        assert (await bench.post({"model": "open", "messages": ["y" * 2000]})).status == 200
        assert (await ask(bench, "no-such")).status == 404
        assert len(service.seen) == count


async def test_pages_of_allowed_origins_may_ask(bench: Workbench, first: Provider) -> None:
    cors = {"allowOrigins": ["https://*.example.com"], "allowMethods": ["POST"], "allowHeaders": ["authorization"],
            "allowCredentials": True, "maxAge": "10m"}  # fmt: skip
    await bench.apply(*parts(bench, first, policy("p", cors=cors, jwt=local_jwt())))
    asked = {"origin": "https://ui.example.com", "access-control-request-method": "POST"}
    for path in ("/v1/chat/completions", "/plain"):
        async with bench.session.options(bench.url + path, headers=asked) as response:
            assert response.status == 200
            assert response.headers["Access-Control-Allow-Origin"] == "https://ui.example.com"
            assert response.headers["Access-Control-Max-Age"] == "600"
    reply = await ask(bench, origin="https://ui.example.com", authorization=f"Bearer {token()}")
    assert reply.headers["Access-Control-Allow-Credentials"] == "true"
    other = await ask(bench, origin="https://evil.com", authorization=f"Bearer {token()}")
    assert "Access-Control-Allow-Origin" not in other.headers


async def test_requests_of_foreign_pages_that_change_something_are_refused(
    bench: Workbench, first: Provider
) -> None:
    csrf = {"additionalOrigins": ["https://ui.example.com"]}
    await bench.apply(*parts(bench, first, policy("p", csrf=csrf)))
    assert (await ask(bench, origin="https://ui.example.com")).status == 200
    assert (await ask(bench, origin="https://evil.com")).status == 403
    assert (await bench.get("/plain", {"origin": "https://evil.com"})).status == 200


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({"apiKeyAuth": {**KEY_AUTH, "credentialRefs": [{"name": "none"}]}}, "Secret default/none, named by"),
        ({"apiKeyAuth": {**KEY_AUTH, "credentialRefs": [{"name": "broken"}]}}, "has a line break"),
        ({"basicAuth": {"users": {"name": "keys"}}}, "has no key '.htpasswd'"),
        ({"basicAuth": {"users": {"name": "plain"}}}, "line 1: not a user with a password"),
        ({"jwt": {"providers": [{"name": "x", "localJWKS": {"type": "Inline", "inline": "{}"}}]}}, "no list `keys`"),
        ({"authorization": {"rules": [{"action": "Deny", "cel": "1"}]}}, "spec.authorization.rules[0].cel: ERROR: <input>:1:1"),
        ({"extAuth": {"http": {"backendRefs": [{"name": "none", "port": 1}]}}}, "none"),
        ({"sentinel": {}}, "spec.sentinel is not honoured"),
        ({"authorization": {"rules": [{"action": "Allow", "principal": {"headers": [{"name": "x", "values": ["y"]}]},
         "operation": {"path": {"type": "RegularExpression", "value": "("}}}]}}, "is no regular expression"),
        ({"authorization": {"rules": [{"action": "Allow", "principal": {"headers": [{"name": "x y", "values": ["y"]}]}}]}},
         "'x y' is no name of a header"),
        ({"jwt": local_jwt(claimToHeaders=[{"claim": "sub", "header": "a b"}])}, "'a b' is no name of a header"),
        ({"apiKeyAuth": {**KEY_AUTH, "forwardClientIDHeader": "a\nb"}}, "is no name of a header"),
        ({"extAuth": {"http": {"backendRefs": [{"name": "n", "port": 1}], "path": "x"}}}, "does not begin with /"),
        ({"oidc": {"provider": {"issuer": "https://i", "authorizationEndpoint": "x", "tokenEndpoint": "https://i"},
         "clientID": "c", "clientSecret": {"name": "keys"}, "redirectURL": "https://a/%NO%"}}, "redirectURL"),
        ({"apiKeyAuth": {"credentialRefs": 1}}, "spec: "),
    ],
)  # fmt: skip
async def test_who_cannot_be_asked_is_not_let_in(
    bench: Workbench, first: Provider, spec: dict[str, Any], said: str
) -> None:
    secrets = [
        KEYS,
        {"kind": "Secret", "metadata": {"name": "broken"}, "stringData": {"eve": "two\nlines"}},
        {"kind": "Secret", "metadata": {"name": "plain"}, "stringData": {".htpasswd": "eve:$apr1$x$y"}},
    ]
    await bench.apply(
        *parts(bench, first, *secrets, policy("p", **spec)), *key_policy("a", "of-the-provider")
    )
    status, message = accepted(bench, "p")
    assert status == "False"
    assert said in message
    for reply in (
        await ask(bench, x_key="bobs-key"),
        await bench.get("/plain"),
        await bench.get("/v1/models"),
    ):
        assert reply.status == 500, reply
        assert reply.json["error"]["message"].startswith("SecurityPolicy default/p cannot be honoured")
    assert first.seen == []


async def test_who_cannot_be_asked_for_one_model_alone_is_told_so_in_one_sentence(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(
        *parts(bench, first, ai_route("shut", "shut-model", {"name": "a"})),
        policy("p", for_route("shut"), sentinel={}),
    )
    reply = await ask(bench, "shut-model")
    assert reply.status == 500
    said = "SecurityPolicy default/p cannot be honoured, so nobody is let in; its status says why"
    assert reply.json["error"]["message"] == said
    assert (await ask(bench, "m")).status == 200
    assert bench.plan is not None
    assert of_route(bench.plan, "shut") == ("NotAccepted", said)
    assert of_route(bench.plan, "r")[0] == "Accepted"


@pytest.mark.parametrize("where", ["listener", "rule"])
def test_a_route_of_which_a_part_is_shut_says_so(where: str) -> None:
    route = ai_route("r", "m", {"name": "a"})
    (rule,) = route["spec"]["rules"]
    route["spec"]["rules"] = [{**rule, "name": "one"}]
    target: dict[str, Any] = {**GATEWAY, "sectionName": "other"}
    gate = gateway(8080)
    (listener,) = gate["spec"]["listeners"]
    if where == "listener":
        gate["spec"]["listeners"].append({**listener, "name": "other", "port": 8081})
    else:
        target = {**for_route("r"), "sectionName": "one"}
        match = {"headers": [{"type": "Exact", "name": "x-ai-eg-model", "value": "n"}]}
        route["spec"]["rules"].append({**rule, "name": "two", "matches": [match]})
    kind, said = of_route(
        make_plan(observe(gate, *backend("a", 1), route, policy("p", target, sentinel={}))), "r"
    )
    assert kind == "NotAccepted"
    assert said.startswith("some of its rules or listeners: SecurityPolicy default/p cannot be honoured")


async def test_a_route_adds_to_what_its_gateway_asks_where_it_says_so(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(
        *parts(bench, first, KEYS, plain_route("own", "/own")),
        policy("p", GATEWAY, apiKeyAuth=KEY_AUTH),
        policy("q", for_route("plain"), mergeType="StrategicMerge", jwt=local_jwt()),
        policy("s", for_route("own"), jwt=local_jwt()),
    )
    bearer = {"authorization": f"Bearer {token()}"}
    assert (await bench.get("/plain", bearer)).status == 401
    assert (await bench.get("/plain", {"x-key": "bobs-key"})).status == 401
    assert (await bench.get("/plain", {**bearer, "x-key": "bobs-key"})).status == 200
    assert (await bench.get("/own", bearer)).status == 200


@pytest.mark.parametrize("telling", [False, True])
async def test_a_service_is_asked_by_grpc(bench: Workbench, first: Provider, telling: bool) -> None:
    seen: list[Any] = []
    messages = schema()
    response = messages.message("envoy.service.auth.v3.CheckResponse")

    async def check(request: Any, context: Any) -> Any:
        seen.append(request.attributes)
        allowed = request.attributes.request.http.headers.get("x-pass") == "yes"
        return response(status={"code": 0 if allowed else 7})

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        check,
        request_deserializer=messages.message("envoy.service.auth.v3.CheckRequest").FromString,
        response_serializer=response.SerializeToString,
    )
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("envoy.service.auth.v3.Authorization", {"Check": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        ask_it: dict[str, Any] = {
            "grpc": {
                "backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "service"}]
            }
        }
        if telling:
            ask_it["contextExtensions"] = [
                {"name": "zone", "value": "north"},
                {
                    "name": "plan",
                    "type": "ValueRef",
                    "valueRef": {"group": "", "kind": "ConfigMap", "name": "c", "key": "k"},
                },
            ]
        else:
            ask_it["includeRouteMetadata"] = True
        config = {"kind": "ConfigMap", "metadata": {"name": "c"}, "data": {"k": "gold"}}
        other = ai_route("other", "m2", {"name": "a"})
        other["metadata"]["annotations"] = {"gateway.envoyproxy.io/team": "red", "another": "one"}
        await bench.apply(
            *parts(bench, first, backend("service", port)[0], config, policy("p", extAuth=ask_it), other)
        )
        assert accepted(bench, "p") == ("True", "the policy holds")
        assert (await ask(bench, x_pass="yes")).status == 200
        assert (await ask(bench)).status == 403
        assert (await bench.get("/plain", {"x-pass": "yes"})).status == 200
        assert (await ask(bench, "m2", x_pass="yes")).status == 200
        assert dict(seen[0].context_extensions) == ({"zone": "north", "plan": "gold"} if telling else {})
        told = [MessageToDict(each.route_metadata_context).get("filterMetadata", {}) for each in seen]
        if telling:
            assert told == [{}] * 4
        else:
            of_routes = [each["envoy-gateway"]["resources"][0] for each in told]
            assert [each["name"] for each in of_routes] == ["r", "r", "plain", "other"]
            expected = {
                "kind": "HTTPRoute",
                "namespace": "default",
                "name": "other",
                "annotations": {"team": "red"},
            }
            assert of_routes[-1] == expected
    finally:
        await server.stop(None)


async def test_several_backends_of_a_service_share_its_questions(bench: Workbench, first: Provider) -> None:
    async with running_provider() as one, running_provider() as two:
        refs = [
            {"group": "gateway.envoyproxy.io", "kind": "Backend", "name": name} for name in ("one", "two")
        ]
        services = [backend("one", one.port)[0], backend("two", two.port)[0]]
        slices = [
            {"kind": "Service", "metadata": {"name": "of-one"}, "spec": {"ports": [{"port": 80}]}},
            {"kind": "EndpointSlice",
             "metadata": {"name": "of-one", "labels": {"kubernetes.io/service-name": "of-one"}},
             "addressType": "IPv4", "endpoints": [{"addresses": ["127.0.0.1"], "conditions": {"ready": True}}],
             "ports": [{"name": "", "port": one.port, "protocol": "TCP"}]},
        ]  # fmt: skip
        as_services = policy(
            "p", extAuth={"http": {"backendRefs": [{"name": "of-one", "port": 80}, refs[1]]}}
        )
        await bench.apply(*parts(bench, first, *services, *slices, as_services))
        assert accepted(bench, "p") == ("True", "the policy holds")
        for _ in range(30):
            assert (await ask(bench)).status == 200
        assert one.seen
        assert two.seen
        one.seen.clear()
        two.seen.clear()
        asked = policy("p", extAuth={"http": {"backendRefs": refs}})
        await bench.apply(*parts(bench, first, *services, asked))
        for _ in range(30):
            assert (await ask(bench)).status == 200
        assert one.seen
        assert two.seen
        await bench.apply(
            *parts(bench, first, *services),
            policy("p", extAuth={"http": {"backendRefs": [refs[0], {**refs[1], "weight": 0}]}}),
        )
        two.seen.clear()
        for _ in range(10):
            assert (await ask(bench)).status == 200
        assert two.seen == []


async def test_rules_see_who_logged_in_and_not_who_a_client_says_he_is(
    bench: Workbench, first: Provider
) -> None:
    rules = [{"action": "Allow", "principal": {"headers": [{"name": "x-client", "values": ["alice"]}]}}]
    await bench.apply(
        *parts(bench, first, KEYS, policy("p", apiKeyAuth=KEY_AUTH, authorization={"rules": rules}))
    )
    alice, bob = "key-of-alice" * 9, "bobs-key"
    assert (await ask(bench, x_key=alice)).status == 200
    assert (await bench.get("/plain", {"x-key": alice})).status == 200
    assert (await ask(bench, x_key=bob, x_client="alice")).status == 403
    assert (await bench.get("/plain", {"x-key": bob, "x-client": "alice"})).status == 403
    assert (await ask(bench, x_client="alice")).status == 401
