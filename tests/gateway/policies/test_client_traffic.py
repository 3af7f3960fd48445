"""ClientTrafficPolicies: which listener gets what, and what clients see of it through a real Envoy."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import pytest_asyncio
from aiohttp import web

from kajitori.gateway.plan import Plan, make_plan
from tests.waiting import eventually

from ..authority import Authority
from ..workbench import Provider, Workbench, free_port, gateway, observe, running_provider
from .objects import GROUP
from .traffic import plain_backend, plain_route

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def one() -> AsyncIterator[Provider]:
    async with running_provider() as found:

        async def echo(request: web.Request, body: bytes) -> web.StreamResponse:
            return web.json_response({"path": request.path_qs, "headers": dict(request.headers)})

        found.answer = echo
        yield found


def policy(name: str = "gateway", section: str = "", created: str = "", **spec: Any) -> dict[str, Any]:
    target = {
        "group": GROUP,
        "kind": "Gateway",
        "name": name,
        **({"sectionName": section} if section else {}),
    }
    return {
        "kind": "ClientTrafficPolicy",
        "metadata": {"name": f"for-{name}{section}", "creationTimestamp": created or None},
        "spec": {"targetRefs": [target], **spec},
    }


def conditions(plan: Plan, name: str) -> dict[str, dict[str, Any]]:
    (status,) = [
        item.status
        for item in plan.statuses
        if (item.resource.kind, item.name) == ("ClientTrafficPolicy", name)
    ]
    return {each["type"]: each for ancestor in status["ancestors"] for each in ancestor["conditions"]}


async def apply(bench: Workbench, one: Provider, **spec: Any) -> Plan:
    plan = await bench.apply(
        gateway(bench.port), plain_backend("b", one.port), plain_route("b"), policy(**spec)
    )
    assert bench.ads.rejected == {}
    return plan


async def eventually_served(ask: Callable[[], Awaitable[int]]) -> None:
    """A listener that is new takes its secrets a moment after it is there."""
    assert await eventually(ask, "it is served", despite=(aiohttp.ClientError,)) == 200


async def raw(port: int, text: str) -> str:
    """What comes back for some bytes, until the other side is done."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(text.encode())
    try:
        return (await asyncio.wait_for(reader.read(), 20)).decode()
    except ConnectionResetError:
        return ""
    finally:
        writer.close()


async def test_headers_change_as_they_come_and_go(bench: Workbench, one: Provider) -> None:
    headers = {
        "earlyRequestHeaders": {
            "set": [{"name": "X-Set", "value": "100%"}],
            "addIfAbsent": [{"name": "X-Absent", "value": "new"}],
            "remove": ["X-Gone"],
            "removeOnMatch": [{"type": "Prefix", "value": "X-Secret-"}],
        },
        "lateResponseHeaders": {"set": [{"name": "x-late", "value": "yes"}], "remove": ["server"]},
        "withUnderscoresAction": "DropHeader",
        "host": {"stripTrailingHostDot": True},
    }
    await apply(bench, one, headers=headers)
    sent = {"x-set": "1", "x-gone": "1", "x-secret-a": "1", "x_under": "1", "x-absent": "old"}
    reply = await bench.get("/", headers=sent)
    assert reply.headers["x-late"] == "yes"
    assert "Server" not in reply.headers
    seen = {name.lower(): value for name, value in reply.json["headers"].items()}
    assert (seen["x-set"], seen["x-absent"]) == ("100%", "old")
    assert not seen.keys() & {"x-gone", "x-secret-a", "x_under"}


async def test_clients_cannot_bring_the_gateways_own_headers_by_a_policy_either(
    bench: Workbench, one: Provider
) -> None:
    headers = {"earlyRequestHeaders": {"set": [{"name": "x-kajitori-key", "value": "stolen"}]}}
    await apply(bench, one, headers=headers)
    assert "x-kajitori-key" not in str((await bench.get("/")).json["headers"]).lower()


async def test_paths_are_put_in_order_as_the_policy_says(bench: Workbench, one: Provider) -> None:
    await apply(bench, one, path={"escapedSlashesAction": "RejectRequest"})
    assert "/a/b" in await raw(bench.port, "GET //a//b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    refused = await raw(bench.port, "GET /a%2Fb HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    assert refused.startswith("HTTP/1.1 400")
    await apply(bench, one, path={"disableMergeSlashes": True})
    assert "//a//b" in await raw(bench.port, "GET //a//b HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")


async def test_the_gateway_answers_the_health_check_itself(bench: Workbench, one: Provider) -> None:
    await apply(bench, one, healthCheck={"path": "/alive"})
    assert (await bench.get("/alive")).status == 200
    assert one.seen == []
    assert (await bench.get("/other")).status == 200


async def test_connections_begin_with_the_proxy_protocol(bench: Workbench, one: Provider) -> None:
    request = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    await apply(bench, one, proxyProtocol={})
    assert await raw(bench.port, request) == ""
    reply = await raw(bench.port, "PROXY TCP4 10.1.2.3 10.1.2.4 1000 80\r\n" + request)
    assert reply.startswith("HTTP/1.1 200")
    await apply(bench, one, proxyProtocol={"optional": True})
    assert (await raw(bench.port, request)).startswith("HTTP/1.1 200")


async def test_a_client_whose_address_no_header_tells_is_refused(bench: Workbench, one: Provider) -> None:
    await apply(bench, one, clientIPDetection={"customHeader": {"name": "X-Client", "failClosed": True}})
    assert (await bench.get("/")).status == 403
    assert (await bench.get("/", headers={"x-client": "10.0.0.7"})).status == 200


async def test_http_1_0_is_served_where_the_policy_says_so(bench: Workbench, one: Provider) -> None:
    await apply(bench, one)
    assert (await raw(bench.port, "GET / HTTP/1.0\r\nhost: x\r\n\r\n")).startswith("HTTP/1.1 426")
    await apply(bench, one, http1={"http10": {}})
    assert "200 OK" in await raw(bench.port, "GET / HTTP/1.0\r\nhost: x\r\n\r\n")


async def test_every_setting_of_clients_is_taken_by_envoy(bench: Workbench, one: Provider) -> None:
    plan = await apply(
        bench,
        one,
        tcpKeepalive={"probes": 3, "idleTime": "60s", "interval": "5s"},
        clientIPDetection={"xForwardedFor": {"trustedCIDRs": ["10.0.0.0/8", "2001:db8::/32"]}},
        headers={
            "enableEnvoyHeaders": True,
            "xForwardedClientCert": {"mode": "SanitizeSet", "certDetailsToAdd": ["Subject", "URI"]},
            "requestID": "Preserve",
            "disableRateLimitHeaders": True,
        },
        timeout={
            "tcp": {"tlsHandshakeTimeout": "5s", "connectionInspectionTimeout": "3s", "idleTimeout": "1h"},
            "http": {
                "requestReceivedTimeout": "60s",
                "requestHeadersReceivedTimeout": "10s",
                "idleTimeout": "1h",
                "streamIdleTimeout": "5m",
            },
        },
        connection={
            "bufferLimit": "128Ki",
            "maxAcceptPerSocketEvent": 4,
            "connectionLimit": {
                "value": 1000,
                "closeDelay": "1s",
                "maxConnectionDuration": "1h",
                "maxRequestsPerConnection": 100,
                "maxStreamDuration": "1h",
            },
        },
        http1={
            "enableTrailers": True,
            "preserveHeaderCase": True,
            "ignoredUpgradeTypes": [{"type": "Prefix", "value": "TLS/"}],
        },
        http2={"maxConcurrentStreams": 100, "initialStreamWindowSize": "64Ki"},
        scheme="MatchBackend",
        http3={},
    )
    told = conditions(plan, "for-gateway")
    assert told["Accepted"]["status"] == "True"
    for field in ("disableRateLimitHeaders", "timeout.tcp.idleTimeout", "tcpKeepalive", "http3", "requestID"):
        assert field in told["Warning"]["message"]
    reply = await bench.get("/")
    assert reply.headers["x-envoy-upstream-service-time"]


async def test_gateways_that_share_a_port_get_one_policy_and_the_other_is_told() -> None:
    port = free_port()
    old, young = gateway(port, "old", hostname="a.example"), gateway(port, "young", hostname="b.example")
    old["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    young["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    headers = {"withUnderscoresAction": "RejectRequest"}
    plan = make_plan(
        observe(young, old, policy("old", headers=headers), policy("young", scheme="MatchBackend"))
    )
    assert conditions(plan, "for-old")["Accepted"]["status"] == "True"
    told = conditions(plan, "for-young")["Accepted"]
    assert (told["status"], told["reason"]) == ("False", "Invalid")
    assert "default/for-old" in told["message"]
    plan = make_plan(observe(young, old, policy("young", headers=headers)))
    told = conditions(plan, "for-young")
    assert told["Accepted"]["status"] == "True"
    assert "Gateway default/old" in told["Warning"]["message"]


async def test_routes_are_closed_where_another_gateways_policy_leaves_certificates_out() -> None:
    port, authority = free_port(), Authority()
    listener = {
        "protocol": "HTTPS",
        "hostname": "a.example",
        "tls": {"certificateRefs": [{"name": "server"}]},
    }
    old, young = (gateway(port, name, **listener) for name in ("old", "young"))
    old["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
    young["metadata"]["creationTimestamp"] = "2026-02-01T00:00:00Z"
    routes = [plain_route("b", name=name, path=f"/{name}") for name in ("of-old", "of-young")]
    for route, name in zip(routes, ("old", "young"), strict=True):
        route["spec"]["parentRefs"] = [{"name": name}]
    validation = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}
    documents = [old, young, authority.secret("server", "a.example"), authority.config_map("ca"), *routes,
                 plain_backend("b", 1), policy("young", tls={"clientValidation": validation})]  # fmt: skip

    def answers(plan: Plan) -> dict[str, bool]:
        tables = plan.resources.by_type["envoy.config.route.v3.RouteConfiguration"].values()
        made = [route for table in tables for host in table["virtual_hosts"] for route in host["routes"]]
        return {
            str(route["name"]).split("/")[2]: "route" in route
            for route in made
            if str(route.get("name")).startswith("http/default/of-")
        }

    # Alone, the younger one's policy holds for both.
    assert answers(make_plan(observe(*documents))) == {"of-old": True, "of-young": True}
    plan = make_plan(observe(*documents, policy("old", scheme="MatchBackend")))
    assert answers(plan) == {"of-old": True, "of-young": False}
    assert "its routes there are answered with 500" in conditions(plan, "for-young")["Accepted"]["message"]
    # Nor does another one's policy loosen what a Gateway itself asks for.
    for each in (old, young):
        each["spec"]["tls"] = {"frontend": {"default": {"validation": validation}}}
    loose = policy("old", tls={"clientValidation": {**validation, "mode": "VerifyIfGiven"}})
    assert answers(make_plan(observe(*documents[:-1]))) == {"of-old": True, "of-young": True}
    assert answers(make_plan(observe(*documents[:-1], loose))) == {"of-old": True, "of-young": False}


async def test_a_policy_that_cannot_be_read_changes_nothing_and_is_told() -> None:
    port = free_port()
    plain = make_plan(observe(gateway(port)))
    bad = {"xForwardedFor": {"trustedCIDRs": ["10.0.0.0/99"]}}
    plan = make_plan(observe(gateway(port), policy(clientIPDetection=bad)))
    assert "trustedCIDRs[0]" in conditions(plan, "for-gateway")["Accepted"]["message"]
    listeners = "envoy.config.listener.v3.Listener"
    assert plan.resources.by_type[listeners] == plain.resources.by_type[listeners]


_AUTHORITY = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}]}
_REVOKED = {"refs": [{"group": "", "kind": "ConfigMap", "name": "revoked"}]}


@pytest.mark.parametrize(
    ("validation", "told"),
    [
        ({"certificateHashes": ["ab" * 32], "crl": _REVOKED}, "crl: it needs caCertificateRefs"),
        ({"mode": "RequireAny", "crl": _REVOKED}, "crl: it needs caCertificateRefs"),
        (
            {"spkiHashes": ["A" * 43 + "="], "subjectAltNames": {"uris": [{"value": "a:b"}]}},
            "subjectAltNames: it needs caCertificateRefs",
        ),
        ({"certificateHashes": ["ab"]}, "certificateHashes[0]: 'ab' is no SHA-256"),
        ({"spkiHashes": ["ab" * 32]}, "spkiHashes[0]: "),
        (
            {**_AUTHORITY, "subjectAltNames": {"dnsNames": [{"type": "RegularExpression", "value": "("}]}},
            "subjectAltNames.dnsNames: '(' is no regular expression",
        ),
        (
            {**_AUTHORITY, "subjectAltNames": {"otherNames": [{"oid": "upn", "value": "a"}]}},
            "otherNames[0].oid: 'upn' is no object identifier",
        ),
    ],
)
async def test_what_envoy_would_refuse_of_the_certificates_asked_for_lets_nobody_in(
    validation: dict[str, Any], told: str
) -> None:
    listener: dict[str, Any] = {
        "protocol": "HTTPS",
        "hostname": "a.example",
        "tls": {"certificateRefs": [{"name": "server"}]},
    }
    authority = Authority()
    revoked = {
        "kind": "ConfigMap",
        "metadata": {"name": "revoked"},
        "data": {"ca.crl": authority.revocations()},
    }
    plan = make_plan(
        observe(
            gateway(443, **listener),
            authority.secret("server", "a.example"),
            authority.config_map("ca"),
            revoked,
            policy(tls={"clientValidation": validation}),
        )
    )
    accepted = conditions(plan, "for-gateway")["Accepted"]
    assert told in accepted["message"]
    assert "its HTTPS listeners take no client" in accepted["message"]
    (made,) = plan.resources.by_type["envoy.config.listener.v3.Listener"].values()
    (chain,) = made["filter_chains"]
    context = chain["transport_socket"]["typed_config"]
    assert context["require_client_certificate"]
    assert context["common_tls_context"]["validation_context"] == {"verify_certificate_hash": ["00" * 32]}


async def test_a_listener_takes_the_versions_and_the_clients_that_the_policy_says(
    bench: Workbench, one: Provider, tmp_path: Path
) -> None:
    authority, stranger = Authority(), Authority("stranger")
    listener: dict[str, Any] = {
        "protocol": "HTTPS",
        "hostname": "a.example",
        "tls": {"certificateRefs": [{"name": "server"}]},
    }
    port = free_port()
    validation = {
        "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}],
        "subjectAltNames": {
            "dnsNames": [{"value": "client.example"}],
            "otherNames": [{"oid": "1.3.6.1.4.1.311.20.2.3", "value": "nobody"}],
        },
        "crl": {"refs": [{"group": "", "kind": "ConfigMap", "name": "revoked"}]},
    }
    good = authority.pair_file(tmp_path, "client.example")
    others = tmp_path / "others"
    others.mkdir()
    revoked = authority.pair_file(others, "client.example")
    lists = {
        "kind": "ConfigMap",
        "metadata": {"name": "revoked"},
        "data": {"ca.crl": authority.revocations(revoked)},
    }
    documents = [
        gateway(port, **listener),
        authority.secret("server", "a.example"),
        authority.config_map("ca"),
        plain_backend("b", one.port),
        plain_route("b"),
        policy(tls={"minVersion": "1.3", "alpnProtocols": ["http/1.1"], "clientValidation": validation}),
    ]
    plan = await bench.apply(*documents, lists)
    assert bench.ads.rejected == {}
    assert conditions(plan, "for-gateway")["Accepted"]["status"] == "True"

    async def status(pair: Path | None, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> int:
        context = authority.client_context()
        context.maximum_version = version
        if pair:
            context.load_cert_chain(pair)
        url = f"https://127.0.0.1:{port}/"
        headers = {"host": "a.example"}
        async with bench.session.get(url, ssl=context, server_hostname="a.example", headers=headers) as reply:
            return reply.status

    strangers = tmp_path / "strangers"
    strangers.mkdir()
    await eventually_served(lambda: status(good))
    refused = [
        status(None),
        status(stranger.pair_file(strangers, "client.example")),
        status(authority.pair_file(tmp_path, "other.example")),
        status(revoked),
        status(good, ssl.TLSVersion.TLSv1_2),
    ]
    for attempt in refused:
        with pytest.raises(aiohttp.ClientError):
            await attempt
    # Where it cannot be said who shall be let in, nobody is.
    plan = await bench.apply(*documents)
    told = conditions(plan, "for-gateway")["Accepted"]
    assert told["status"] == "False"
    assert "ConfigMap default/revoked does not exist" in told["message"]
    assert "its HTTPS listeners take no client" in told["message"]

    async def is_closed() -> bool:
        try:
            await status(good)
        except aiohttp.ClientError:
            return True
        return False

    await eventually(is_closed)


@pytest.mark.parametrize("count", [1, 2])
async def test_what_envoy_refuses_of_a_listener_that_is_to_ask_for_certificates_lets_nobody_in(
    bench: Workbench, one: Provider, count: int
) -> None:
    authority, port = Authority(), free_port()
    names = ("a.example", "b.example")
    place = gateway(port)
    place["spec"]["listeners"] = [
        {"name": name[0], "port": port, "protocol": "HTTPS", "hostname": name,
         "tls": {"certificateRefs": [{"name": f"server-{port}"}]}}
        for name in names[:count]
    ]  # fmt: skip
    documents = [
        place,
        authority.secret(f"server-{port}", *names),
        authority.config_map("ca"),
        plain_backend("b", one.port),
        plain_route("b"),
    ]

    async def status(name: str = "a.example") -> int:
        url, headers = f"https://127.0.0.1:{port}/", {"host": name}
        context = authority.client_context()
        async with bench.session.get(url, ssl=context, server_hostname=name, headers=headers) as reply:
            return reply.status

    async def is_closed() -> bool:
        try:
            await status()
        except aiohttp.ClientError:
            return True
        return False

    await bench.apply(*documents)
    await eventually_served(status)
    await bench.apply(
        *documents, policy(section="a", tls={"clientValidation": _AUTHORITY, "ecdhCurves": ["none-such"]})
    )
    await eventually(is_closed)
    assert "none-such" in str(bench.ads.rejected)
    if count > 1:
        assert await status("b.example") == 200
    await bench.apply(*documents)
    await eventually_served(status)
