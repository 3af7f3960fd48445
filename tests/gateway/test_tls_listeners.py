"""HTTPS listeners of a real Envoy: certificates by name, clients' certificates, wrong connections."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.resources import LISTENER, ROUTES, SECRET
from kajitori.gateway.routes.hostnames import covering, covers
from tests.gateway.authority import Authority
from tests.gateway.test_http_routes import echoing, http_route, matching, path, to
from tests.gateway.workbench import Provider, Workbench, backend, gateway, observe
from tests.waiting import eventually


def https(name: str, port: int, secret: str, hostname: str | None = None, **tls: Any) -> dict[str, Any]:
    listener: dict[str, Any] = {
        "name": name,
        "protocol": "HTTPS",
        "port": port,
        "tls": {"certificateRefs": [{"name": secret}], **tls},
    }
    return listener | ({"hostname": hostname} if hostname else {})


def secure_gateway(*listeners: dict[str, Any], **spec: Any) -> dict[str, Any]:
    found = gateway(1)
    found["spec"] |= {"listeners": list(listeners), **spec}
    return found


def web(name: str, section: str, backend_name: str) -> dict[str, Any]:
    parents = [{"name": "gateway", "sectionName": section}]
    return http_route(name, matching([to(backend_name)], path("/")), parentRefs=parents)


def listeners_of(plan: Plan, name: str = "gateway") -> dict[str, dict[str, tuple[str, str, str]]]:
    """Listener -> condition -> status, reason, message."""
    status = next(
        item.status for item in plan.statuses if item.resource.kind == "Gateway" and item.name == name
    )
    return {
        item["name"]: {c["type"]: (c["status"], c["reason"], c["message"]) for c in item["conditions"]}
        for item in status["listeners"]
    }


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


async def ask(
    client: aiohttp.ClientSession, bench: Workbench, context: ssl.SSLContext, sni: str, host: str
) -> tuple[int, Any]:
    async with client.get(
        f"https://127.0.0.1:{bench.port}/x", ssl=context, server_hostname=sni, headers={"host": host}
    ) as response:
        return response.status, await response.json()


async def test_each_name_has_its_certificate_and_its_routes(
    bench: Workbench, first: Provider, second: Provider, client: aiohttp.ClientSession
) -> None:
    authority = Authority()
    first.answer = second.answer = echoing
    secrets = [
        authority.secret("one", "one.example"),
        authority.secret("wild", "*.wild.example"),
        authority.secret("any", "any.example"),
    ]
    documents = [
        secure_gateway(
            https("one", bench.port, "one", "one.example"),
            https("wild", bench.port, "wild", "*.wild.example"),
            https("any", bench.port, "any"),
        ),
        *backend("a", first.port),
        *backend("b", second.port),
        web("one", "one", "a"),
        web("wild", "wild", "b"),
        http_route(
            "any",
            matching([to("a")], path("/")),
            hostnames=["any.example"],
            parentRefs=[{"name": "gateway", "sectionName": "any"}],
        ),
    ]
    plan = await bench.apply(*documents, *secrets)
    assert listeners_of(plan)["one"]["Programmed"][:2] == ("True", "Programmed")
    # `any` overlaps with the others, and so they with it.
    assert listeners_of(plan)["wild"]["OverlappingTLSConfig"][:2] == ("True", "OverlappingHostnames")
    trusting = authority.client_context()
    asked = [
        ("one.example", "one.example", 200),
        ("one.example", "a.wild.example", 421),
        ("one.example", "nobody.example", 421),
        ("a.wild.example", "b.wild.example", 200),
        ("any.example", "any.example", 200),
        ("any.example", "one.example", 421),
        ("any.example", "nobody.example", 404),
    ]
    for sni, host, status in asked:
        assert (await ask(client, bench, trusting, sni, host))[0] == status, (sni, host)
    assert len(second.seen) == 1
    # Private keys are nowhere to be seen.
    dump = await bench.admin("/config_dump?include_eds")
    assert "PRIVATE KEY" not in dump
    # A new certificate is shown without a change of the listener.
    before = plan.resources.by_type[LISTENER]
    authority = Authority("another")
    secrets[0] = authority.secret("one", "one.example")
    plan = await bench.apply(*documents, *secrets)
    assert plan.resources.by_type[LISTENER] == before
    assert (await ask(client, bench, authority.client_context(), "one.example", "one.example"))[0] == 200


async def test_http_2_is_spoken_where_the_client_can(bench: Workbench, first: Provider) -> None:
    authority = Authority()
    await bench.apply(
        secure_gateway(https("one", bench.port, "one")), authority.secret("one", "one.example"),
        *backend("a", first.port), web("one", "one", "a"),
    )  # fmt: skip
    context = authority.client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    _, writer = await asyncio.open_connection(
        "127.0.0.1", bench.port, ssl=context, server_hostname="one.example"
    )
    assert writer.get_extra_info("ssl_object").selected_alpn_protocol() == "h2"
    writer.close()


async def test_clients_must_show_a_certificate_where_the_gateway_asks_for_it(
    bench: Workbench, first: Provider, client: aiohttp.ClientSession, tmp_path: Path
) -> None:
    authority, clients = Authority(), Authority("clients")
    first.answer = echoing
    validation = {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "clients"}]}

    def documents(**more: Any) -> list[dict[str, Any]]:
        tls = {"frontend": {"default": {"validation": {**validation, **more}}}}
        return [
            secure_gateway(https("one", bench.port, "one"), tls=tls),
            authority.secret("one", "one.example"),
            clients.config_map("clients"),
            *backend("a", first.port),
            web("one", "one", "a"),
        ]

    await bench.apply(*documents())
    stranger = authority.client_context()
    known = authority.client_context()
    known.load_cert_chain(clients.pair_file(tmp_path, "me"))
    assert (await ask(client, bench, known, "one.example", "one.example"))[0] == 200
    with pytest.raises(aiohttp.ClientError):
        await ask(client, bench, stranger, "one.example", "one.example")
    plan = await bench.apply(*documents(mode="AllowInsecureFallback"))
    assert (await ask(client, bench, stranger, "one.example", "one.example"))[0] == 200
    status = next(item.status for item in plan.statuses if item.resource.kind == "Gateway")
    assert "InsecureFrontendValidationMode" in {item["type"] for item in status["conditions"]}


async def test_a_listener_that_comes_or_goes_leaves_connections_to_others_alone(
    bench: Workbench, first: Provider, client: aiohttp.ClientSession
) -> None:
    authority = Authority()
    first.chunks, first.chunk_seconds = 1000, 0.02
    shared = [
        authority.secret("one", "one.example"),
        *backend("a", first.port),
        web("one", "one", "a"),
    ]
    one = https("one", bench.port, "one", "one.example")
    two = https("two", bench.port, "one", "two.example")
    await bench.apply(secure_gateway(one), *shared)
    async with client.post(
        f"https://127.0.0.1:{bench.port}/x",
        ssl=authority.client_context(),
        server_hostname="one.example",
        headers={"host": "one.example"},
        json={"stream": True},
    ) as response:
        await response.content.readline()
        await bench.apply(secure_gateway(one, two), *shared)
        await bench.apply(secure_gateway(one), *shared)
        assert (await response.content.readline()) is not None
        for _ in range(10):
            assert await response.content.readline()
        text = await bench.admin("/stats?filter=listener_manager")
        assert "listener_in_place_updated: 2" in text


def test_http_and_https_on_one_port_of_a_gateway_both_conflict() -> None:
    authority = Authority()
    plain = {"name": "plain", "protocol": "HTTP", "port": 8443}
    other = {"name": "other", "protocol": "HTTP", "port": 8080}
    documents = [
        secure_gateway(plain, https("tls", 8443, "one"), other),
        authority.secret("one", "one.example"),
    ]
    plan = make_plan(observe(*documents))
    told = listeners_of(plan)
    for name in ("plain", "tls"):
        assert told[name]["Conflicted"][:2] == ("True", "ProtocolConflict")
        assert told[name]["Accepted"][:2] == ("False", "ProtocolConflict")
        assert told[name]["Programmed"][:2] == ("False", "Invalid")
    assert told["other"]["Conflicted"][:2] == ("False", "NoConflicts")
    assert list(plan.resources.by_type[LISTENER]) == ["http/8080"]
    status = next(item.status for item in plan.statuses if item.resource.kind == "Gateway")
    accepted = next(item for item in status["conditions"] if item["type"] == "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("True", "ListenersNotValid")
    assert "listener plain" in accepted["message"]


def test_a_younger_gateway_takes_no_port_from_an_older_one() -> None:
    authority = Authority()
    older = {**gateway(8443), "metadata": {"name": "older", "creationTimestamp": "2026-01-01T00:00:00Z"}}
    younger = secure_gateway(https("tls", 8443, "one"))
    younger["metadata"]["creationTimestamp"] = "2026-01-02T00:00:00Z"
    plan = make_plan(observe(younger, older, authority.secret("one", "one.example")))
    assert listeners_of(plan)["tls"]["Conflicted"][:2] == ("True", "ProtocolConflict")
    assert "default/older" in listeners_of(plan)["tls"]["Conflicted"][2]
    assert listeners_of(plan, "older")["http"]["Programmed"][0] == "True"


async def test_gateways_share_a_port_and_a_client_sees_the_certificate_for_its_name(
    bench: Workbench, first: Provider, client: aiohttp.ClientSession
) -> None:
    authority = Authority()
    first.answer = echoing
    older, younger = (
        {
            **secure_gateway(https("tls", bench.port, name)),
            "metadata": {"name": name, "creationTimestamp": created},
        }
        for name, created in (("one", "2026-01-01T00:00:00Z"), ("two", "2026-01-02T00:00:00Z"))
    )
    routes = [
        http_route(
            name, matching([to("a")], path("/")), hostnames=[f"{name}.example"], parentRefs=[{"name": name}]
        )
        for name in ("one", "two")
    ]
    secrets = [authority.secret(name, f"{name}.example") for name in ("one", "two")]
    plan = await bench.apply(older, younger, *backend("a", first.port), *secrets, *routes)
    for name in ("one", "two"):
        assert listeners_of(plan, name)["tls"]["Conflicted"][0] == "False"
        host = f"{name}.example"
        assert (await ask(client, bench, authority.client_context(), host, host))[0] == 200
    # Who asks clients for certificates does not share with one who lets in everybody.
    refs = [{"group": "", "kind": "ConfigMap", "name": "clients"}]
    younger["spec"]["tls"] = {"frontend": {"default": {"validation": {"caCertificateRefs": refs}}}}
    plan = make_plan(observe(older, younger, *secrets, authority.config_map("clients")))
    assert listeners_of(plan, "two")["tls"]["Conflicted"][:2] == ("True", "HostnameConflict")
    assert listeners_of(plan, "one")["tls"]["Programmed"][0] == "True"


def bad_secrets() -> list[Any]:
    authority = Authority()
    good, other = authority.secret("one", "one.example"), authority.secret("one", "two.example")
    mixed = {**good, "stringData": {**good["stringData"], "tls.key": other["stringData"]["tls.key"]}}
    rubbish = {**good, "stringData": {"tls.crt": "Hello", "tls.key": "world"}}
    return [
        pytest.param([], {}, "does not exist", id="missing"),
        pytest.param([rubbish], {}, "no certificate in PEM", id="rubbish"),
        pytest.param([mixed], {}, "does not belong to", id="foreign key"),
        pytest.param([good], {"kind": "ConfigMap"}, "not from ConfigMap", id="kind"),
        pytest.param([good], {"group": "x.example"}, "group 'x.example'", id="group"),
    ]


@pytest.mark.parametrize(("secrets", "ref", "message"), bad_secrets())
def test_a_certificate_that_cannot_be_used_is_named(
    secrets: list[dict[str, Any]], ref: dict[str, Any], message: str
) -> None:
    listener = https("tls", 8443, "one")
    listener["tls"]["certificateRefs"] = [{"name": "one", **ref}]
    plan = make_plan(observe(secure_gateway(listener), *secrets))
    told = listeners_of(plan)["tls"]
    assert told["ResolvedRefs"][:2] == ("False", "InvalidCertificateRef")
    assert message in told["ResolvedRefs"][2]
    assert told["Programmed"][:2] == ("False", "Invalid")
    assert not plan.resources.by_type[LISTENER]


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_a_certificate_of_another_namespace_needs_a_grant(version: str) -> None:
    secret = Authority().secret("one", "one.example", namespace="certs")
    listener = https("tls", 8443, "one")
    listener["tls"]["certificateRefs"] = [{"name": "one", "namespace": "certs"}]
    grant = {
        "apiVersion": f"gateway.networking.k8s.io/{version}",
        "kind": "ReferenceGrant",
        "metadata": {"name": "g", "namespace": "certs"},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "namespace": "default"}],
            "to": [{"group": "", "kind": "Secret", "name": "one"}],
        },
    }
    refused = make_plan(observe(secure_gateway(listener), secret))
    assert listeners_of(refused)["tls"]["ResolvedRefs"][:2] == ("False", "RefNotPermitted")
    granted = make_plan(observe(secure_gateway(listener), secret, grant))
    assert listeners_of(granted)["tls"]["ResolvedRefs"][0] == "True"
    assert "tls/certs/one" in granted.resources.by_type[SECRET]


def test_a_broken_authority_for_clients_stops_https_alone() -> None:
    refs = [{"group": "", "kind": "ConfigMap", "name": "nothing"}]
    tls = {"frontend": {"default": {"validation": {"caCertificateRefs": refs}}}}
    plain = {"name": "plain", "protocol": "HTTP", "port": 8080}
    plan = make_plan(
        observe(
            secure_gateway(plain, https("tls", 8443, "one"), tls=tls),
            Authority().secret("one", "one.example"),
        )
    )
    told = listeners_of(plan)
    assert told["tls"]["Accepted"][:2] == ("False", "NoValidCACertificate")
    assert told["tls"]["ResolvedRefs"][:2] == ("False", "InvalidCACertificateRef")
    assert told["plain"]["Programmed"][0] == "True"


async def test_a_host_of_a_narrower_listener_is_not_served_by_a_wider_one(
    bench: Workbench, first: Provider
) -> None:
    first.answer = echoing
    listeners = [
        {"name": "any", "protocol": "HTTP", "port": bench.port},
        {"name": "one", "protocol": "HTTP", "port": bench.port, "hostname": "one.example"},
    ]
    await bench.apply(
        secure_gateway(*listeners),
        *backend("a", first.port),
        http_route("any", matching([to("a")], path("/")), parentRefs=[{"name": "gateway", "sectionName": "any"}]),
        http_route("one", matching([to("a")], path("/one")), parentRefs=[{"name": "gateway", "sectionName": "one"}]),
    )  # fmt: skip
    assert (await bench.get("/x")).status == 200
    assert (await bench.get("/one", {"host": "one.example"})).status == 200
    assert (await bench.get("/x", {"host": "one.example"})).status == 404
    await eventually(lambda: len(first.seen) == 2)


async def test_of_a_listener_that_goes_envoy_keeps_no_table(bench: Workbench, first: Provider) -> None:
    authority = Authority()
    names = ("one.example", "two.example")
    documents = [
        *(authority.secret(name, name) for name in names),
        *backend("a", first.port),
        *(web(name, name, "a") for name in names),
    ]

    def all_of(count: int) -> list[dict[str, Any]]:
        return [secure_gateway(*(https(name, bench.port, name, name) for name in names[:count])), *documents]

    async def tables() -> list[str]:
        dump = await bench.admin("/config_dump?resource=dynamic_scoped_route_configs")
        return [name for name in names if f'"https/{bench.port}/{name}"' in dump]

    await bench.apply(*all_of(2))
    assert await tables() == list(names)
    await bench.apply(*all_of(1))
    assert await tables() == list(names[:1])


@pytest.mark.parametrize("count", [3, 30])
def test_however_many_listeners_a_port_has_each_ones_table_has_few_hosts(count: int) -> None:
    names = [f"h{number}.example" for number in range(count)]
    listeners = [https(name, 443, "c", name) for name in names]
    secret = Authority().secret("c", *names)
    tables = make_plan(observe(secure_gateway(*listeners), secret)).resources.by_type[ROUTES]
    for name in names:
        own, others = tables[f"https/443/{name}"]["virtual_hosts"]
        assert own["domains"] == [name]
        assert others["domains"] == ["*"]


@given(st.data())
def test_the_patterns_that_cover_a_hostname_are_those_that_are_looked_up(data: st.DataObject) -> None:
    names = st.lists(st.sampled_from("ab"), max_size=3).map(lambda parts: ".".join([*parts, "com"]))
    names |= names.map(lambda name: f"*.{name}") | st.just("*")
    hostname, pattern = data.draw(names), data.draw(names)
    assert (pattern in covering(hostname)) == covers(pattern, hostname)
    found = covering(hostname)
    assert found == sorted(found, key=lambda each: (each.startswith("*"), -len(each)))
