"""Configuration on its way to Envoy: in step, without a cut, and through the death of either side."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from typing import Any

import pytest

from kajitori.gateway.envoy import ads
from kajitori.gateway.resources import CLUSTER, LISTENER, ROUTES, Resources
from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    gateway,
    key_policy,
    running_workbench,
)
from tests.waiting import eventually

QUESTION = {"model": "gpt-4o", "messages": []}


def many(port: int, provider: Provider, count: int, revision: int = 0) -> list[dict[str, Any]]:
    """So many routes, each to a backend of its own; one of them follows the revision."""
    documents: list[dict[str, Any]] = [gateway(port)]
    for number in range(count):
        documents += backend(f"b{number}", provider.port)
        documents += key_policy(f"b{number}", f"key-{number}") if number % 10 == 0 else []
        model = f"model-{number}" if number else f"moving-{revision}"
        documents.append(ai_route(f"r{number}", model, {"name": f"b{number}"}))
    return documents


async def stream(bench: Workbench, model: str) -> bytes:
    reply = await bench.post({**QUESTION, "model": model, "stream": True})
    return reply.body


async def test_300_routes_and_backends_at_once_and_a_change_each_second_cut_no_stream(
    bench: Workbench, first: Provider
) -> None:
    first.chunks, first.chunk_seconds = 60, 0.1
    await bench.apply(*many(bench.port, first, 300))
    assert len((await bench.get("/v1/models")).json["data"]) == 300
    streams = [asyncio.create_task(stream(bench, f"model-{number}")) for number in range(1, 41)]
    await eventually(lambda: len(first.seen) == 40)
    for revision in range(1, 6):
        begun = asyncio.get_running_loop().time()
        await bench.apply(*many(bench.port, first, 300, revision))
        assert (await bench.post({**QUESTION, "model": f"moving-{revision}"})).status == 200
        assert (await bench.post({**QUESTION, "model": f"moving-{revision - 1}"})).status == 404
        await asyncio.sleep(max(0.0, 1.0 - (asyncio.get_running_loop().time() - begun)))
    # A backend that is taken away lets its streams end.
    await bench.apply(*many(bench.port, first, 2, 6))
    bodies = await asyncio.gather(*streams)
    assert all(body.count(b"data: ") == 61 and body.endswith(b"[DONE]\n\n") for body in bodies)
    assert (await bench.post({**QUESTION, "model": "model-100"})).status == 404


async def test_a_change_sends_only_what_changed(bench: Workbench, first: Provider) -> None:
    await bench.apply(*many(bench.port, first, 20))
    before = json.loads(
        await bench.admin("/stats?format=json&filter=cluster_manager.cluster_|lds.update_success")
    )
    await bench.apply(*many(bench.port, first, 20, 1))
    after = json.loads(
        await bench.admin("/stats?format=json&filter=cluster_manager.cluster_|lds.update_success")
    )
    assert before == after


async def test_a_cluster_that_changes_is_sent_its_endpoints_again(bench: Workbench, first: Provider) -> None:
    def documents(protocol: str) -> list[dict[str, Any]]:
        port = {"name": "web", "port": 80, "appProtocol": protocol}
        return [
            gateway(bench.port),
            {"kind": "Service", "metadata": {"name": "s"}, "spec": {"ports": [port]}},
            {
                "kind": "EndpointSlice",
                "metadata": {"name": "s-1", "labels": {"kubernetes.io/service-name": "s"}},
                "addressType": "IPv4",
                "endpoints": [{"addresses": ["127.0.0.1"]}],
                "ports": [{"name": "web", "port": first.port, "protocol": "TCP"}],
            },
            {
                "kind": "HTTPRoute",
                "metadata": {"name": "web"},
                "spec": {
                    "parentRefs": [{"name": "gateway"}],
                    "rules": [{"backendRefs": [{"name": "s", "port": 80}]}],
                },
            },
        ]

    for protocol in ("kubernetes.io/h2c", "http", "kubernetes.io/h2c", "http"):
        await bench.apply(*documents(protocol))
    assert (await bench.get("/x")).status == 200
    # Envoy gives up waiting after 15 seconds and counts that.
    text = await bench.admin("/stats?filter=init_fetch_timeout")
    assert not [line for line in text.splitlines() if not line.endswith(": 0")]


async def test_a_route_moves_to_a_new_backend_with_a_new_key_and_no_request_fails(
    bench: Workbench, first: Provider
) -> None:
    def world(number: int) -> list[dict[str, Any]]:
        name = f"b{number}"
        route = ai_route("route", "gpt-4o", {"name": name})
        return [gateway(bench.port), *backend(name, first.port), *key_policy(name, f"key-{number}"), route]

    await bench.apply(*world(0))
    moving = True
    statuses: list[int] = []

    async def ask() -> None:
        while moving:
            statuses.append((await bench.post(QUESTION)).status)

    asking = asyncio.create_task(ask())
    for number in range(1, 21):
        await bench.apply(*world(number))
        assert (await bench.post(QUESTION)).status == 200
        assert any(seen.headers["authorization"] == f"Bearer key-{number}" for seen in first.seen)
    moving = False
    await asking
    assert set(statuses) == {200}


async def test_envoy_comes_back_with_everything_after_kill_9(bench: Workbench, first: Provider) -> None:
    documents = many(bench.port, first, 30)
    await bench.apply(*documents)
    bench.kill_envoy()
    await eventually(lambda: bench.ads.connected == 0)
    bench.start_envoy()
    await bench.settled()
    assert (await bench.post({**QUESTION, "model": "model-10"})).status == 200
    assert first.seen[-1].headers["authorization"] == "Bearer key-10"


async def test_envoy_serves_on_while_the_control_plane_is_away_and_is_sent_nothing_it_has(
    bench: Workbench, first: Provider
) -> None:
    first.chunks, first.chunk_seconds = 40, 0.05
    documents = many(bench.port, first, 30)
    await bench.apply(*documents)
    running = asyncio.create_task(stream(bench, "model-5"))
    await eventually(lambda: len(first.seen) == 1)
    await bench.stop_control_plane()
    assert (await bench.post({**QUESTION, "model": "model-3"})).status == 200
    filters = "/stats?format=json&filter=update_success|cluster_(added|modified|removed)|listener_modified"
    before = json.loads(await bench.admin(filters))
    bench._make_control_plane()
    await bench.control_plane.start(bench.folder / "ads.sock")
    bench.start_reading()
    await bench.apply(*documents)
    assert json.loads(await bench.admin(filters)) == before
    assert (await running).endswith(b"[DONE]\n\n")
    await bench.apply(*many(bench.port, first, 30, 1))
    assert (await bench.post({**QUESTION, "model": "moving-1"})).status == 200
    record = await bench.record(await bench.post({**QUESTION, "model": "model-3"}))
    assert record.backend == "default/b3"


async def test_a_slow_source_keeps_envoy_from_losing_what_it_has(first: Provider) -> None:
    async with running_workbench(("gateway", "services")) as bench:
        bench.set(gateway(bench.port), *backend("a", first.port), ai_route("route", "gpt-4o", {"name": "a"}))
        await eventually(lambda: bench.ads.connected == 1)
        assert not bench.ads.ready
        bench.set_resources("services", Resources({}))
        await bench.settled()
        assert (await bench.post(QUESTION)).status == 200


def broken(bench: Workbench, kind: str, name: str, change: dict[str, Any]) -> Resources:
    """The plan's resources with one of them spoilt."""
    assert bench.plan is not None
    by_type = {key: dict(items) for key, items in bench.plan.resources.by_type.items()}
    by_type[kind][name] = {**by_type[kind].get(name, {}), **change}
    return Resources(by_type)


async def test_what_is_nobodys_own_and_refused_is_told_to_all_routes_of_its_host_which_serve(
    bench: Workbench, first: Provider
) -> None:
    documents = many(bench.port, first, 5)
    plan = await bench.apply(*documents)
    table = f"http/{bench.port}"
    bad_route = {"name": "bad", "match": {"safe_regex": {"regex": "("}}, "direct_response": {"status": 200}}
    (host,) = plan.resources.by_type[ROUTES][table]["virtual_hosts"]
    spoilt = broken(
        bench, ROUTES, table, {"virtual_hosts": [{**host, "routes": [bad_route, *host["routes"]]}]}
    )
    bench.set_resources("gateway", spoilt)
    key = f"{ROUTES}/{table}#*#bad"
    await eventually(lambda: key in bench.ads.rejected)
    assert "missing" in bench.ads.rejected[key]
    await bench.settled()
    assert (await bench.post({**QUESTION, "model": "model-3"})).status == 200
    told = [item for item in bench.set(*documents).statuses if item.resource.kind == "AIGatewayRoute"]
    assert all("host *, bad: it is left out" in item.status["conditions"][0]["message"] for item in told)
    # An Envoy that starts anew gets the table without it.
    bench.set_resources("gateway", spoilt)
    await eventually(lambda: key in bench.ads.rejected)
    bench.kill_envoy()
    await eventually(lambda: bench.ads.connected == 0)
    bench.start_envoy()
    await bench.settled()
    assert (await bench.post({**QUESTION, "model": "model-3"})).status == 200
    await bench.apply(*documents)
    assert not bench.ads.rejected


async def test_one_bad_cluster_holds_up_no_other(bench: Workbench, first: Provider) -> None:
    await bench.apply(gateway(bench.port))
    bench.set(*many(bench.port, first, 5))
    bad = {"name": "c/10", "type": "EDS", "lb_policy": "LOAD_BALANCING_POLICY_CONFIG"}
    by_type = broken(bench, CLUSTER, "c/10", bad).by_type
    # Its name is a part of the other's, and both come at once.
    by_type[CLUSTER]["c/1"] = {"name": "c/1", "type": "STATIC", "connect_timeout": "1s"}
    bench.set_resources("gateway", Resources(by_type))
    await eventually(lambda: f"{CLUSTER}/c/10" in bench.ads.rejected)
    assert list(bench.ads.rejected) == [f"{CLUSTER}/c/10"]
    await bench.settled()
    for number in range(1, 5):
        assert (await bench.post({**QUESTION, "model": f"model-{number}"})).status == 200


async def test_a_field_that_this_envoy_does_not_know_never_leaves_our_side(
    bench: Workbench, first: Provider
) -> None:
    await bench.apply(*many(bench.port, first, 2))
    bench.set_resources("gateway", broken(bench, CLUSTER, "new", {"name": "new", "no_such_field": 1}))
    await bench.settled()
    assert "no_such_field" in bench.ads.rejected[f"{CLUSTER}/new"]
    assert (await bench.post({**QUESTION, "model": "model-1"})).status == 200


async def test_a_port_that_is_taken_is_told_and_other_listeners_serve(
    bench: Workbench, first: Provider
) -> None:
    route = ai_route("route", "gpt-4o", {"name": "a"})
    taken = {**gateway(first.port, "taken"), "metadata": {"name": "taken"}}
    bench.set(gateway(bench.port), taken, *backend("a", first.port), route)
    await eventually(lambda: f"{LISTENER}/http/{first.port}" in bench.ads.rejected)
    await bench.settled()
    assert (await bench.post(QUESTION)).status == 200
    plan = bench.set(gateway(bench.port), taken, *backend("a", first.port), route)
    states = {
        item.name: {entry["type"]: entry for entry in item.status["conditions"]}
        for item in plan.statuses
        if item.resource.kind == "Gateway"
    }
    assert states["gateway"]["Programmed"]["status"] == "True"
    assert states["taken"]["Programmed"]["status"] == "False"
    assert states["taken"]["Programmed"]["message"] == (
        f"listener http: port {first.port} is taken by another process of this machine; "
        f"free it or choose another port in the listener (`ss -ltnp 'sport = :{first.port}'` shows who has this one)"
    )


async def test_a_port_that_becomes_free_is_served_without_a_change(
    bench: Workbench, first: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ads, "RETRY_SECONDS", 0.2)
    documents = gateway(bench.port), *backend("a", first.port), ai_route("route", "gpt-4o", {"name": "a"})
    changes: list[dict[str, str]] = []
    bench.ads.on_change(lambda: changes.append(bench.ads.rejected))
    with socket.socket() as taker:
        taker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taker.bind(("127.0.0.1", bench.port))
        taker.listen()
        bench.set(*documents)
        await eventually(lambda: bench.ads.rejected)
        await eventually(lambda: bench.log().count("Address already in use") >= 3)
        # It is told once, though it is tried again and again.
        assert sum(bool(rejected) for rejected in changes) == 1
    await eventually(lambda: not bench.ads.rejected)
    assert changes[-1] == {}
    await bench.settled()
    assert (await bench.post(QUESTION)).status == 200


async def test_a_record_is_on_disk_soon_after_its_request(bench: Workbench, first: Provider) -> None:
    from kajitori.gateway.accounting.record_reading import read_recent, read_request

    await bench.apply(
        gateway(bench.port), *backend("a", first.port), ai_route("route", "gpt-4o", {"name": "a"})
    )
    reply = await bench.post(QUESTION)
    key = reply.headers["X-Request-ID"]
    await eventually(lambda: read_request(bench.folder, key) is not None)
    record = read_request(bench.folder, key)
    assert record is not None and record == read_recent(bench.folder)[0]
    assert abs(record.time - time.time()) < 60
    assert read_request(bench.folder, "unknown") is None
