"""Objects at random that an API server takes: there is a plan, Envoy takes it, and no stream notices.

More of it by hand: `KAJI_FUZZ_RUNS=5000 pytest -n0 tests/fuzz/test_manifests.py`, or other ones: `KAJI_FUZZ_SEED=1000000`.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import aiohttp

from kajitori.gateway.envoy.encode import encoder
from kajitori.gateway.plan import make_plan
from tests.fuzz.manifests import Maker
from tests.gateway.workbench import (
    Provider,
    Workbench,
    ai_route,
    backend,
    gateway,
    observe,
    running_provider,
    running_workbench,
)
from tests.waiting import eventually

RUNS = int(os.environ.get("KAJI_FUZZ_RUNS", "40"))
FIRST = int(os.environ.get("KAJI_FUZZ_SEED", "0"))
# They belong to the listener, which ends its connections when it changes.
OF_LISTENERS = ("ClientTrafficPolicy", "EnvoyProxy", "GatewayConfig")


def there(port: int) -> list[dict[str, Any]]:
    """What the objects find: two backends, a route of each kind, a Secret, a ConfigMap."""
    extension = {"group": "gateway.envoyproxy.io", "kind": "HTTPRouteFilter", "name": "filter"}
    rule = {
        "matches": [{"path": {"value": "/plain"}}],
        "filters": [{"type": "ExtensionRef", "extensionRef": extension}],
        "backendRefs": [{"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "a"}],
    }
    return [
        *backend("a", port),
        *backend("b", port),
        ai_route("r", "gpt-4o", {"name": "a"}, {"name": "b", "priority": 1}),
        {
            "kind": "Secret",
            "metadata": {"name": "key"},
            "stringData": {"apiKey": "k", "client-secret": "x", "credential": "c", ".htpasswd": "a:{SHA}x"},
        },
        {"kind": "ConfigMap", "metadata": {"name": "map"}, "data": {"response.body": "100% %REQ(a"}},
        {
            "kind": "HTTPRoute",
            "metadata": {"name": "plain"},
            "spec": {"parentRefs": [{"name": "gateway"}], "rules": [rule]},
        },
    ]


def test_there_is_a_plan_that_envoy_can_read() -> None:
    encode = encoder().encode
    for seed in range(FIRST, FIRST + RUNS):
        objects = Maker(seed).objects(6)
        plan = make_plan(observe(gateway(8080), *there(1), *objects))
        told = json.dumps([update.status for update in plan.statuses])
        assert "a defect of the gateway" not in told, (seed, objects)
        for kind, resources in plan.resources.by_type.items():
            for resource in resources.values():
                encode(kind, resource)


class Streams:
    """Clients that listen to answers without end. events: that came; ended: why, of those that were cut."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self.events = 0
        self.ended: list[str] = []

    async def listen(self) -> None:
        question = {"model": "gpt-4o", "stream": True, "messages": []}
        try:
            async with self._bench.session.post(
                f"{self._bench.url}/v1/chat/completions", json=question
            ) as response:
                async for _ in response.content.iter_any():
                    self.events += 1
            self.ended.append("it was whole")
        except aiohttp.ClientError as error:
            self.ended.append(repr(error))


async def test_envoy_takes_every_plan_and_no_stream_is_cut_while_objects_of_every_kind_come_and_go() -> None:
    provider = Provider(chunks=10**6, chunk_seconds=0.02)
    async with running_provider(provider), running_workbench() as bench:
        await bench.apply(gateway(bench.port), *there(provider.port))
        streams = Streams(bench)
        tasks = [asyncio.create_task(streams.listen()) for _ in range(5)]
        try:
            await eventually(lambda: streams.events > 20)
            for seed in range(FIRST, FIRST + RUNS):
                objects = [item for item in Maker(seed).objects(4) if item["kind"] not in OF_LISTENERS]
                # Their own route comes and goes, too.
                kept = [item for item in there(provider.port) if seed % 5 or item["metadata"]["name"] != "r"]
                bench.set(gateway(bench.port), *kept, *objects)
                await eventually(lambda: bench.ads.settled or bench.ads.rejected, what=bench.log)
                assert bench.ads.rejected == {}, (seed, objects)
                assert streams.ended == [], (seed, objects)
            before = streams.events
            await eventually(lambda: streams.events > before + 20)
            assert streams.ended == []
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
