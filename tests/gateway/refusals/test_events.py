"""A listener that Envoy refuses: its status, one event, and what is met by clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest

from kajitori.api.resource import EVENTS, GATEWAYS
from kajitori.gateway.envoy import ads
from tests.gateway.cluster import Cluster, running_cluster
from tests.gateway.workbench import Provider, ai_route, backend, gateway
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
