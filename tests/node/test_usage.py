"""What a node's containers use, read from the processes of this very test."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys

from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from kajitori.laptop.node.runner_client import ContainerRecord
from kajitori.laptop.node.usage import UsageMeter, UsageRoutes, read_processes, usage_below

BUSY = "import time\nend = time.process_time() + 60\nwhile time.process_time() < end: pass"


def start(code):
    return subprocess.Popen([sys.executable, "-c", code])


def record(name, pid):
    return ContainerRecord(name, {"uid": name.split("/")[0]}, "running", 0.0, 0.0, 0, "", pid)


def test_a_container_uses_what_all_processes_below_its_first_one_use():
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; data = bytearray(40 << 20); time.sleep(60)"]
    )
    try:
        while (alone := usage_below([child.pid], read_processes())[child.pid].memory_bytes) < 40 << 20:
            pass
        usages = usage_below([os.getpid(), 999_999_999], read_processes())
        assert usages[os.getpid()].memory_bytes > alone and usages[os.getpid()].cpu_seconds > 0
        assert usages[999_999_999] == (0.0, 0)
    finally:
        child.kill()
        child.wait()


async def test_a_busy_container_shows_in_the_summary_and_an_idle_one_does_not():
    busy, idle = start(BUSY), start("import time; time.sleep(60)")
    try:
        records = [record("a/main/0", busy.pid), record("b/main/0", idle.pid), record("gone/main/0", 0)]
        routes = UsageRoutes(
            "n1", UsageMeter(lambda: records), lambda: {"a": ("ns", "busy"), "b": ("ns", "idle")}
        )
        application = web.Application()
        routes.add_to(application.router)
        async with TestClient(TestServer(application)) as client:
            summary = await (await client.get("/stats/summary")).json()
            # Somebody else asks at once: the same base is used.
            await asyncio.sleep(0.6)
            summary = await (await client.get("/stats/summary")).json()
            text = await (await client.get("/metrics/resource")).text()
        cores = {
            pod["podRef"]["name"]: pod["containers"][0]["cpu"]["usageNanoCores"] for pod in summary["pods"]
        }
        assert set(cores) == {"busy", "idle"}
        assert cores["busy"] > 20 * (cores["idle"] + 1_000_000)
        assert summary["node"]["cpu"]["usageNanoCores"] == sum(cores.values())
        assert 'container_memory_working_set_bytes{container="main",namespace="ns",pod="busy"}' in text
    finally:
        for process in (busy, idle):
            process.kill()
            process.wait()
