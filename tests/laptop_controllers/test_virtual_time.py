"""Minutes on the embedded server in a moment: what waits goes through the loop, so a loop that jumps skips it."""

from __future__ import annotations

import asyncio

from kajitori.api.resource import DEPLOYMENTS, SERVICE_ACCOUNTS
from kajitori.base.clock import LoopClock
from kajitori.control.runtime import Runtime
from kajitori.control.testing import run_virtual
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import running_api_server
from kajitori.laptop.controllers import deployments, replica_sets, service_accounts


def test_a_deadline_of_ten_minutes_passes_on_virtual_time():
    async def scenario():
        async with running_api_server() as server, Client(load_config(str(server.kubeconfig))) as client:
            runtime, stop = Runtime(client, clock=LoopClock(), seed=1), asyncio.Event()
            for module in (service_accounts, replica_sets, deployments):
                module.register(runtime)
            running = asyncio.ensure_future(runtime.run(stop))
            await runtime.ready.wait()
            while not (await client.list(SERVICE_ACCOUNTS, "default")).items:
                await asyncio.sleep(0.1)
            template = {
                "metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]},
            }
            spec = {
                "selector": {"matchLabels": {"a": "b"}},
                "template": template,
                "progressDeadlineSeconds": 600,
            }
            await client.create(
                DEPLOYMENTS, {"metadata": {"name": "web", "namespace": "default"}, "spec": spec}
            )
            reasons = []
            for wait in (30, 600):
                await asyncio.sleep(wait)
                status = (await client.get(DEPLOYMENTS, "web", "default"))["status"]
                reasons += [c["reason"] for c in status["conditions"] if c["type"] == "Progressing"]
            stop.set()
            await running
            return reasons

    assert run_virtual(scenario(), patience_seconds=0.1) == ["ReplicaSetUpdated", "ProgressDeadlineExceeded"]
