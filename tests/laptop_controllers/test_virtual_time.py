"""Minutes on the embedded server in a moment: what waits goes through the loop, so a loop that jumps skips it."""

from __future__ import annotations

import asyncio

from kajitori.api.resource import DEPLOYMENTS, PODS, SERVICE_ACCOUNTS, STATEFUL_SETS
from kajitori.base.clock import LoopClock, rfc3339
from kajitori.control.runtime import Runtime
from kajitori.control.testing import run_virtual
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import running_api_server
from kajitori.laptop.controllers import deployments, replica_sets, service_accounts, stateful_sets


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


def test_a_stateful_set_waits_for_minutes_until_a_ready_pod_counts_as_available():
    async def scenario():
        async with running_api_server() as server, Client(load_config(str(server.kubeconfig))) as client:
            clock = LoopClock()
            runtime, stop = Runtime(client, clock=clock, seed=1), asyncio.Event()
            for module in (service_accounts, stateful_sets):
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
                "replicas": 2,
                "serviceName": "",
            }
            await client.create(
                STATEFUL_SETS,
                {
                    "metadata": {"name": "db", "namespace": "default"},
                    "spec": {**spec, "minReadySeconds": 300},
                },
            )
            while not (await client.list(PODS, "default")).items:
                await asyncio.sleep(0.1)
            ready = {"type": "Ready", "status": "True", "lastTransitionTime": rfc3339(clock.now())}
            status = {"status": {"phase": "Running", "conditions": [ready]}}
            await client.patch(PODS, "db-0", status, namespace="default", subresource="status")
            names = []
            for wait in (290, 20):
                await asyncio.sleep(wait)
                names.append([one["metadata"]["name"] for one in (await client.list(PODS, "default")).items])
            stop.set()
            await running
            return names

    assert run_virtual(scenario(), patience_seconds=0.1) == [["db-0"], ["db-0", "db-1"]]
