"""TLS towards backends, as BackendTLSPolicies and Backends ask for it, through a real Envoy."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.resources import CLUSTER
from tests.gateway.authority import Authority
from tests.gateway.test_http_routes import http_route, matching, path, to
from tests.gateway.test_service_proxy import endpoints
from tests.gateway.workbench import Provider, Workbench, ai_route, backend, gateway, observe


def policy(
    name: str, target: dict[str, Any], created: str = "2026-01-01T00:00:00Z", **validation: Any
) -> dict[str, Any]:
    return {
        "kind": "BackendTLSPolicy",
        "metadata": {"name": name, "creationTimestamp": created},
        "spec": {"targetRefs": [target], "validation": {"hostname": "inner.example", **validation}},
    }


def by_config_map(name: str) -> dict[str, Any]:
    return {"caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": name}]}


TO_BACKEND = {"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "a"}
TO_SERVICE = {"group": "", "kind": "Service", "name": "s"}


def conditions(plan: Plan, name: str) -> dict[str, tuple[str, str]]:
    """Of the first ancestor: type -> status and reason."""
    status = next(
        item.status
        for item in plan.statuses
        if item.resource.kind == "BackendTLSPolicy" and item.name == name
    )
    return {item["type"]: (item["status"], item["reason"]) for item in status["ancestors"][0]["conditions"]}


@contextlib.asynccontextmanager
async def secure_server(context: ssl.SSLContext) -> AsyncIterator[tuple[int, list[str]]]:
    """Its port, and the names that clients asked it for."""
    asked: list[str] = []
    context.sni_callback = lambda socket, name, found: asked.append(name or "")

    async def answer(request: web.Request) -> web.Response:
        peer = request.transport.get_extra_info("peercert") if request.transport else None
        return web.json_response({"client": bool(peer), "usage": {}})

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    server: Any = site._server
    try:
        yield server.sockets[0].getsockname()[1], asked
    finally:
        await runner.cleanup()


async def test_a_policy_makes_connections_to_its_targets_secure(bench: Workbench, tmp_path: Path) -> None:
    authority = Authority()
    context = authority.server_context(tmp_path, "inner.example", "spiffe://cluster/me")
    async with secure_server(context) as (port, asked):
        service = {
            "kind": "Service",
            "metadata": {"name": "s"},
            "spec": {"clusterIP": "127.0.0.9", "ports": [{"name": "web", "port": 443}]},
        }
        documents = [
            gateway(bench.port),
            *backend("a", port),
            service,
            *endpoints("s", "web", ("127.0.0.1", port)),
            http_route(
                "web",
                matching([to("a")], path("/backend")),
                matching([{"name": "s", "port": 443}], path("/service")),
            ),
            ai_route("chat", "m", {"name": "a"}),
            authority.config_map("ca"),
        ]
        plan = await bench.apply(
            *documents,
            policy("backend", TO_BACKEND, **by_config_map("ca")),
            policy("service", {**TO_SERVICE, "sectionName": "web"}, **by_config_map("ca")),
        )
        for name in ("backend", "service"):
            assert conditions(plan, name) == {
                "Accepted": ("True", "Accepted"),
                "ResolvedRefs": ("True", "ResolvedRefs"),
            }
        assert (await bench.get("/backend")).status == 200
        assert (await bench.get("/service")).status == 200
        assert (await bench.post({"model": "m", "messages": []})).status == 200
        assert set(asked) == {"inner.example"}
        # The names of the policy decide, where it lists some.
        for names, status in (
            ([{"type": "URI", "uri": "spiffe://cluster/me"}], 200),
            ([{"type": "Hostname", "hostname": "other.example"}], 503),
        ):
            await bench.apply(
                *documents,
                policy("backend", TO_BACKEND, subjectAltNames=names, **by_config_map("ca")),
            )
            assert (await bench.get("/backend")).status == status
        # Another authority is not believed.
        await bench.apply(
            *documents,
            Authority().config_map("other"),
            policy("backend", TO_BACKEND, **by_config_map("other")),
        )
        assert (await bench.get("/backend")).status == 503


async def test_a_backend_can_show_a_certificate_of_its_own_choice(bench: Workbench, tmp_path: Path) -> None:
    authority = Authority()
    context = authority.server_context(tmp_path, "inner.example")
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=authority.pem)
    async with secure_server(context) as (port, _):
        documents = backend("a", port)
        documents[0]["spec"]["tls"] = {
            "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": "ca"}],
            "sni": "inner.example",
            "clientCertificateRef": {"name": "me"},
            "minVersion": "1.3",
            "fingerprints": ["JA3"],
        }
        plan = await bench.apply(
            gateway(bench.port),
            *documents,
            authority.config_map("ca"),
            authority.secret("me", "me"),
            http_route("web", matching([to("a")], path("/"))),
        )
        reply = await bench.get("/x")
        assert (reply.status, reply.json["client"]) == (200, True)
        told = next(item.status for item in plan.statuses if item.resource.kind == "Backend")
        assert "tls.fingerprints is not honoured" in told["conditions"][0]["message"]


@pytest.mark.parametrize(
    ("validation", "accepted", "resolved"),
    [
        (by_config_map("nothing"), "NoValidCACertificate", "InvalidCACertificateRef"),
        (by_config_map("rubbish"), "NoValidCACertificate", "InvalidCACertificateRef"),
        (
            {"caCertificateRefs": [{"group": "x.example", "kind": "Thing", "name": "n"}]},
            "NoValidCACertificate",
            "InvalidKind",
        ),
        ({"wellKnownCACertificates": "x.example/set"}, "Invalid", "ResolvedRefs"),
    ],
)
async def test_a_policy_that_cannot_be_kept_lets_nothing_through(
    bench: Workbench, first: Provider, validation: dict[str, Any], accepted: str, resolved: str
) -> None:
    plan = await bench.apply(
        gateway(bench.port),
        *backend("a", first.port),
        {"kind": "ConfigMap", "metadata": {"name": "rubbish"}, "data": {"ca.crt": "Hello"}},
        http_route("web", matching([to("a")], path("/"))),
        policy("p", TO_BACKEND, **validation),
    )
    assert conditions(plan, "p")["Accepted"] == ("False", accepted)
    assert conditions(plan, "p")["ResolvedRefs"][1] == resolved
    assert (await bench.get("/x")).status == 500
    route = next(item.status for item in plan.statuses if item.resource.kind == "HTTPRoute")
    kinds = {item["type"]: item["status"] for item in route["parents"][0]["conditions"]}
    assert kinds["Accepted"] == "True"


def test_of_two_policies_for_a_target_the_older_holds() -> None:
    documents = [
        gateway(8080),
        *backend("a", 1),
        http_route("web", matching([to("a")], path("/"))),
        Authority().config_map("ca"),
        policy("younger", TO_BACKEND, "2026-01-02T00:00:00Z", **by_config_map("ca")),
        policy("older", TO_BACKEND, wellKnownCACertificates="System"),
    ]
    plan = make_plan(observe(*documents))
    assert conditions(plan, "older")["Accepted"] == ("True", "Accepted")
    assert conditions(plan, "younger")["Accepted"] == ("False", "Conflicted")
    cluster = plan.resources.by_type[CLUSTER]["backend/default/a/0"]
    assert "ca-certificates.crt" in repr(cluster["transport_socket"])


def test_a_policy_for_a_port_beats_one_for_the_service() -> None:
    service = {
        "kind": "Service",
        "metadata": {"name": "s"},
        "spec": {"ports": [{"name": "web", "port": 443}, {"name": "other", "port": 444}]},
    }
    refs = [{"name": "s", "port": 443}, {"name": "s", "port": 444}]
    plan = make_plan(
        observe(
            gateway(8080),
            service,
            http_route("web", matching(refs, path("/"))),
            policy("whole", TO_SERVICE, wellKnownCACertificates="System", hostname="whole.example"),
            policy(
                "port",
                {**TO_SERVICE, "sectionName": "web"},
                "2026-02-01T00:00:00Z",
                wellKnownCACertificates="System",
                hostname="port.example",
            ),
        )
    )
    names = {
        port: plan.resources.by_type[CLUSTER][f"service/default/s/{port}"]["transport_socket"][
            "typed_config"
        ]["sni"]
        for port in (443, 444)
    }
    assert names == {443: "port.example", 444: "whole.example"}
