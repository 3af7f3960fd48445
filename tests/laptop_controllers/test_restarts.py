"""The cluster's controllers through restarts of the API server and of themselves."""

from __future__ import annotations

import asyncio
import contextlib

from tests.waiting import eventually

from kajitori.api.resource import PODS, REPLICA_SETS, SERVICE_ACCOUNTS
from kajitori.control.runtime import Runtime
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop import controllers
from kajitori.laptop.apiserver.server import ApiServer
from kajitori.laptop.apiserver.testing import prepare_home
from kajitori.laptop.settings import ClusterSettings


def replica_set(name, replicas):
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "c", "image": "busybox"}]},
    }
    return {
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "metadata": {"name": name, "namespace": "default"},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template},
    }  # fmt: skip


@contextlib.asynccontextmanager
async def controllers_running(config):
    async with Client(config) as client:
        runtime, stop = Runtime(client), asyncio.Event()
        controllers.register(runtime)
        running = asyncio.ensure_future(runtime.run(stop))
        try:
            yield runtime
        finally:
            stop.set()
            await running


async def until_count(client, name, expected):
    async def reached():
        return len((await client.list(PODS, "default", label_selector=f"app={name}")).items) == expected

    await eventually(reached, f"{expected} pods of {name}")


async def test_pods_are_made_exactly_once_though_the_api_server_restarts_in_the_middle(tmp_path):
    prepare_home(tmp_path)
    server = ApiServer(tmp_path, ClusterSettings(), port=0)
    await server.start()
    port = int(server.state.server.rpartition(":")[2])
    config = load_config(str(tmp_path / "kubeconfig"))
    async with Client(config) as client, controllers_running(config) as runtime:
        await asyncio.wait_for(runtime.ready.wait(), 20)

        async def has_account():
            return (await client.list(SERVICE_ACCOUNTS, "default")).items

        await eventually(has_account, "the namespace has its service account")
        for number in range(3):
            await client.create(REPLICA_SETS, replica_set(f"set-{number}", 30))
            await asyncio.sleep(0.05)
            await server.stop()
            server = ApiServer(tmp_path, ClusterSettings(), port=port)
            await server.start()
        for number in range(3):
            await until_count(client, f"set-{number}", 30)
        await asyncio.sleep(0.5)
        assert len((await client.list(PODS, "default")).items) == 90
    await server.stop()
