"""Pods that wait are told the latest, and not with every change. On virtual time."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import msgspec

from kajitori.base.clock import LoopClock
from kajitori.control.testing import run_virtual
from kajitori.laptop.scheduler.telling import Telling
from kajitori.scheduling.demand import demand_of
from kajitori.scheduling.views import PodView


class Pods:
    """One pod, as an informer, a client and a recorder of events have it."""

    def __init__(self) -> None:
        metadata = {"name": "x", "namespace": "default", "uid": "u", "resourceVersion": "1"}
        self.pod = msgspec.convert({"metadata": metadata}, PodView)
        self.writes: list[tuple[float, str]] = []
        self.waits = True

    def get(self, namespace: str, name: str) -> PodView:
        return self.pod

    def remember(self, pod: PodView) -> None:
        self.pod = pod

    async def patch(self, resource: Any, name: str, patch: dict[str, Any], **options: Any) -> PodView:
        (condition,) = patch["status"]["conditions"]
        self.writes.append((asyncio.get_running_loop().time(), condition["message"]))
        status = msgspec.structs.replace(self.pod.status, conditions=[condition])
        return msgspec.structs.replace(self.pod, status=status)

    async def record(self, *about: Any, **more: Any) -> None:
        pass

    def telling(self) -> Telling:
        parts: Any = self
        return Telling(parts, LoopClock(), parts, parts, asyncio.Semaphore(1), lambda uid: self.waits)


def test_a_pod_whose_reasons_change_all_the_time_is_told_at_growing_intervals_and_the_latest_in_the_end():
    async def scenario() -> None:
        pods = Pods()
        telling, demand = pods.telling(), demand_of(pods.pod)
        tasks = []
        for number in range(600):
            if telling.news(demand, f"reason {number}"):
                tasks.append(asyncio.create_task(telling.tell(demand)))
            await asyncio.sleep(0.1)
        await asyncio.gather(*tasks)
        times = [time for time, _ in pods.writes]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        assert gaps == sorted(gaps)
        assert len(times) < 15
        assert pods.writes[0] == (0.0, "reason 0")
        assert pods.writes[-1][1] == "reason 599"

    run_virtual(scenario())


def test_a_pod_that_knows_already_is_not_told_and_one_that_waits_no_longer_neither():
    async def scenario() -> None:
        pods = Pods()
        demand = demand_of(pods.pod)
        telling = pods.telling()
        assert telling.news(demand, "full")
        await telling.tell(demand)
        assert not telling.news(demand, "full")
        # As after a restart of the scheduler.
        assert not pods.telling().news(demand, "full")
        assert telling.news(demand, "still full")
        telling.forget(demand.uid)
        pods.waits = False
        await telling.tell(demand)
        assert [message for _, message in pods.writes] == ["full"]

    run_virtual(scenario())
