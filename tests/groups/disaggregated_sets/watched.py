"""DisaggregatedSets of one namespace on either server, seen from outside: every moment that the watches tell."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from tests.groups.leader_worker_sets.loop import CountingTransport
from tests.servers import Server
from tests.waiting import eventually

from kajitori.api.disaggregatedset import v1
from kajitori.api.resource import (
    DISAGGREGATED_SET_ROLE_SCALERS,
    DISAGGREGATED_SETS,
    EVENTS,
    LEADER_WORKER_SETS,
    PODS,
    SERVICES,
    Resource,
)
from kajitori.control.runtime import Runtime
from kajitori.groups.disaggregated_sets import controller as disaggregated_sets
from kajitori.groups.leader_worker_sets import controller as leader_worker_sets
from kajitori.kube.client import Client
from kajitori.kube.config import load_config

Object = dict[str, Any]
SECONDS = 60.0


@contextlib.asynccontextmanager
async def group_controllers(
    server: Server, writes: float = float("inf")
) -> AsyncGenerator[Callable[[], float]]:
    """Both on the real server; the embedded one has them among its controllers.

    writes: that of DisaggregatedSets dies after so many. Gives how many are left to it.
    """
    if server.name == "embedded":
        yield lambda: writes
        return
    config = load_config(str(server.kubeconfig))
    transport = CountingTransport(config, user_agent="kajitori-controllers")
    transport.writes_left = writes
    async with Client(config) as client, Client(config, transport=transport) as dying:
        runtimes = [Runtime(client, grace_seconds=5.0), Runtime(dying, grace_seconds=5.0)]
        leader_worker_sets.register(runtimes[0], audit=False)
        disaggregated_sets.register(runtimes[1])
        stop = asyncio.Event()
        working = [asyncio.ensure_future(runtime.run(stop)) for runtime in runtimes]
        try:
            yield lambda: transport.writes_left
        finally:
            stop.set()
            await asyncio.gather(*working)


class Watched:
    """moments: the groups of each LeaderWorkerSet (wanted, ready) after each change, in order."""

    def __init__(self, server: Server, namespace: str) -> None:
        self.server = server
        self.client = server.client
        self.namespace = namespace
        self.moments: list[dict[str, tuple[int, int]]] = []
        self.labels: dict[str, dict[str, str]] = {}
        self._following: asyncio.Task[None] | None = None

    async def follow(self) -> None:
        """Note every state of every LeaderWorkerSet from now on."""
        listed = await self.client.list(LEADER_WORKER_SETS, self.namespace)
        now: dict[str, tuple[int, int]] = {}

        def take(lws: Object) -> None:
            name = lws["metadata"]["name"]
            self.labels[name] = lws["metadata"]["labels"]
            now[name] = (lws["spec"]["replicas"], lws.get("status", {}).get("readyReplicas", 0))

        for lws in listed.items:
            take(lws)
        self.moments.append(dict(now))

        async def watch() -> None:
            events = self.client.watch(
                LEADER_WORKER_SETS, self.namespace, resource_version=listed.resource_version
            )
            async with contextlib.aclosing(events):
                async for event in events:
                    if event.type == "DELETED":
                        now.pop(event.object["metadata"]["name"], None)
                    else:
                        take(event.object)
                    self.moments.append(dict(now))

        self._following = asyncio.ensure_future(watch())

    async def close(self) -> None:
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    async def apply(self, manifest: Object) -> Object:
        return await self.client.apply(
            DISAGGREGATED_SETS,
            manifest,
            field_manager="test",
            field_validation="Strict",
            namespace=self.namespace,
        )

    async def named(self, resource: Resource) -> dict[str, Object]:
        """Without those that are being deleted."""
        listed = await self.client.list(resource, self.namespace)
        return {
            one["metadata"]["name"]: one for one in listed.items if "deletionTimestamp" not in one["metadata"]
        }

    async def sets(self) -> dict[str, Object]:
        return await self.named(LEADER_WORKER_SETS)

    async def services(self) -> dict[str, Object]:
        """Of DisaggregatedSets."""
        return {name: one for name, one in (await self.named(SERVICES)).items() if name.endswith("-prv")}

    async def scalers(self) -> dict[str, Object]:
        return await self.named(DISAGGREGATED_SET_ROLE_SCALERS)

    async def pods(self) -> dict[str, Object]:
        return await self.named(PODS)

    async def the_set(self, name: str = "x") -> Object:
        return await self.client.get(DISAGGREGATED_SETS, name, self.namespace)

    async def said(self, reason: str) -> list[str]:
        listed = await self.client.list(EVENTS, self.namespace)
        return [event["note"] for event in listed.items if event["reason"] == reason]

    async def until(
        self, condition: Callable[[], Awaitable[Any]], what: str, seconds: float = SECONDS
    ) -> Any:
        return await eventually(condition, what, seconds)

    async def available(self, name: str = "x") -> Object:
        """Wait until the set says so of itself as it stands."""

        async def check() -> Object | None:
            found = await self.the_set(name)
            status = found.get("status", {})
            current = status.get("observedGeneration") == found["metadata"]["generation"]
            return found if current and condition(found, v1.AVAILABLE) == "True" else None

        try:
            return await self.until(check, f"{name} is available")
        except AssertionError as late:
            found = (await self.the_set(name)).get("status")
            sets = {
                name: (one["spec"]["replicas"], one.get("status"))
                for name, one in (await self.sets()).items()
            }
            pods = {
                name: one.get("status", {}).get("conditions") for name, one in (await self.pods()).items()
            }
            raise AssertionError(f"{late}\n{found}\n{sets}\n{pods}") from None

    def sampled(self) -> list[dict[str, dict[str, tuple[int, int]]]]:
        """For each moment and revision the groups of each role of the first slice."""
        samples: list[dict[str, dict[str, tuple[int, int]]]] = []
        for moment in self.moments:
            sample: dict[str, dict[str, tuple[int, int]]] = {}
            for name, groups in moment.items():
                labels = self.labels[name]
                if labels[v1.SLICE_LABEL] == "0":
                    sample.setdefault(labels[v1.REVISION_LABEL], {})[labels[v1.ROLE_LABEL]] = groups
            samples.append(sample)
        return samples

    def total(self, sample: dict[str, dict[str, tuple[int, int]]]) -> Counter[str]:
        """Wanted groups of each role over all revisions."""
        found: Counter[str] = Counter()
        for roles in sample.values():
            for role, (wanted, _) in roles.items():
                found[role] += wanted
        return found


def condition(obj: Object, kind: str) -> str:
    found = [one["status"] for one in obj.get("status", {}).get("conditions", ()) if one["type"] == kind]
    return found[0] if found else ""
