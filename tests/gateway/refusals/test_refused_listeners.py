"""A listener that Envoy refuses: its status, one event, and what is met by clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from kajitori.api.resource import EVENTS, GATEWAYS
from kajitori.gateway.envoy import ads
from kajitori.gateway.resources import LISTENER
from tests.gateway.cluster import Cluster, running_cluster
from tests.gateway.refusals.spoiling import of_resource, running_spoilt
from tests.gateway.test_delivery import QUESTION, many
from tests.gateway.test_tls_listeners import listeners_of
from tests.gateway.workbench import Provider, ai_route, backend, free_port, gateway
from tests.waiting import eventually


@pytest.fixture
async def cluster() -> AsyncIterator[Cluster]:
    async with running_cluster() as found:
        yield found


async def test_a_listener_that_envoy_refuses_is_told_by_one_event_and_others_serve(
    cluster: Cluster, first: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ads, "RETRY_SECONDS", 0.2)

    async def events() -> list[tuple[str, str, str]]:
        found = (await cluster.client.list(EVENTS, "default")).items
        about = [event for event in found if event["regarding"]["name"] == "both"]
        about.sort(key=lambda each: each["eventTime"])
        return [(event["type"], event["reason"], event["note"]) for event in about]

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        both = gateway(cluster.bench.port, "both")
        for name in ("busy", "busy-too"):
            both["spec"]["listeners"].append(
                {"name": name, "protocol": "HTTP", "port": port, "hostname": f"{name}.example"}
            )
        route = ai_route("route", "gpt-4o", {"name": "a"})
        route["spec"]["parentRefs"] = [{"name": "both"}]
        await cluster.apply(both, *backend("a", first.port), route)
        await cluster.answered(200)
        await eventually(events)
        # It is tried again all the time, which is no news.
        await asyncio.sleep(1.0)
        ((kind, reason, note),) = await events()
        assert (kind, reason) == ("Warning", "Invalid")
        assert f"port {port} is taken by another process" in note
        told = await cluster.condition(GATEWAYS, "both", "Programmed", status="False")
        assert f"port {port} is taken by another process" in told["message"]

    async def mended() -> bool:
        found = await events()
        return [each[:2] for each in found] == [("Warning", "Invalid"), ("Normal", "Accepted")]

    await eventually(mended)
    states = (await cluster.status(GATEWAYS, "both"))["listeners"]
    assert all(
        each["status"] == "True"
        for state in states
        for each in state["conditions"]
        if each["type"] == "Programmed"
    )


async def test_a_listener_that_envoy_never_took_answers_500_and_is_told_while_others_serve(
    first: Provider,
) -> None:
    async with running_spoilt() as bench:
        other = free_port()
        documents = many(bench.port, first, 3)
        listeners = documents[0]["spec"]["listeners"]
        listeners.append({"name": "other", "protocol": "HTTP", "port": other})
        twice = of_resource(
            LISTENER, f"http/{other}", lambda value: {**value, "filter_chains": value["filter_chains"] * 2}
        )
        bench.spoilt = (twice,)
        await bench.refusing(*documents)
        assert (await bench.post({**QUESTION, "model": "model-1"})).status == 200
        assert bench.plan is not None
        states = listeners_of(bench.plan)
        assert states["http"]["Programmed"][0] == "True"
        assert states["other"]["Programmed"][0] == "False"
        assert (
            f"Envoy refuses the listener of port {other}; what it had of it stays"
            in states["other"]["Programmed"][2]
        )
        own, bench.url = bench.url, f"http://127.0.0.1:{other}"
        reply = await bench.post({**QUESTION, "model": "model-1"})
        assert reply.status == 500
        assert reply.json["error"]["message"] == (
            "Envoy refuses what is configured for this port; the status of its Gateway says why"
        )
        # What changes elsewhere comes through; what is mended serves.
        bench.url = own
        await bench.apply(*[documents[0], *many(bench.port, first, 3, 1)[1:]])
        assert (await bench.post({**QUESTION, "model": "moving-1"})).status == 200
        bench.spoilt = ()
        await bench.refusing(*documents)
        bench.url = f"http://127.0.0.1:{other}"
        assert (await bench.post({**QUESTION, "model": "model-1"})).status == 200
        # Refused from now on it stays as it was, also for a control plane that begins anew.
        bench.spoilt = (twice,)
        await bench.refusing(*documents)
        await bench.restart_control_plane()
        await bench.refusing(*documents)
        assert f"{LISTENER}/http/{other}" in bench.ads.rejected
        assert (await bench.post({**QUESTION, "model": "model-1"})).status == 200
