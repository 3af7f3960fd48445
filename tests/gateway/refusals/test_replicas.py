"""Two replicas of the control plane, each with Envoys of its own, on one API server."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from kajitori.control.runtime import Runtime
from kajitori.gateway.envoy.ads import AdsServer
from kajitori.gateway.envoy.inquiry import Inquiry
from kajitori.gateway.envoy.schema import schema
from kajitori.gateway.envoy.xds import Snapshot
from kajitori.gateway.fleet.reports import Reports
from kajitori.gateway.resources import ROUTES
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import running_api_server
from tests.gateway.refusals.test_finding import BROKEN_ACTION, route, snapshot_of, units_of, verdict
from tests.waiting import eventually


def refuse(snapshot: Snapshot) -> None:
    """As if an Envoy had refused the table and had been asked about its parts."""
    asker = Inquiry(snapshot)
    snapshot.refuse(ROUTES, "http/80", snapshot.resources[ROUTES]["http/80"], "no", asker)
    while (case := snapshot.case_for(asker)) is not None:
        question = case.question()
        if question is not None:
            snapshot.answered(asker, verdict(question))


async def test_what_envoys_of_one_replica_refuse_the_other_one_tells_and_sends_to_none() -> None:
    routes = route("one"), route("two", BROKEN_ACTION)
    snapshots = snapshot_of(*routes), snapshot_of(*routes)
    servers = [AdsServer(schema(), snapshot, ("gateway",)) for snapshot in snapshots]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_api_server())
        client = await stack.enter_async_context(Client(load_config(str(server.kubeconfig))))
        stop = asyncio.Event()
        reports: list[Reports] = []
        for number, ads in enumerate(servers):
            runtime = Runtime(client, seed=number)
            reports.append(Reports(runtime, ads, "default", f"replica-{number}"))
            running = asyncio.create_task(runtime.run(stop))
            stack.push_async_callback(asyncio.wait, [running])
        stack.callback(stop.set)
        refuse(snapshots[0])
        servers[0].found_out({})
        key = f"{ROUTES}/http/80#*#http/default/two/rule/0"
        await eventually(lambda: list(reports[1].rejected) == [key], lambda: f"{reports[1].rejected}")
        assert not servers[1].rejected
        served = {"one": False, "two": True}
        await eventually(lambda: units_of(snapshots[1].effective(ROUTES, "http/80")) == served)
