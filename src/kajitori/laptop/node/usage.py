"""What the containers of this node use: CPU and memory of their processes, read from /proc when somebody asks.

Nothing is measured while nobody asks. A rate needs two samples: the last ones are remembered for a while, and where
there is none a second one is taken half a second later. Memory is what is resident; pages that processes share
are counted for each.

Source of the form: a kubelet's `/stats/summary` and `/metrics/resource`. `windowSeconds` is ours: over how long a
rate was taken.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import web

from kajitori.base.clock import rfc3339
from kajitori.laptop.node.runner_client import ContainerRecord

Object = dict[str, Any]
_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_SHORTEST_WINDOW_SECONDS = 0.5
_RENEWED_SECONDS = 10.0
_OLDEST_SECONDS = 120.0


class Usage(NamedTuple):
    """cpu_seconds: since it started, of processes that live and of those that were waited for."""

    cpu_seconds: float
    memory_bytes: int


class Rate(NamedTuple):
    """cores: over the window that ended at `time`."""

    cores: float
    usage: Usage
    time: float
    window_seconds: float


class _Process(NamedTuple):
    parent: int
    cpu_seconds: float
    memory_bytes: int


def read_processes(proc: Path = Path("/proc")) -> dict[int, _Process]:
    """All processes of the machine that can be read."""
    found: dict[int, _Process] = {}
    for entry in os.listdir(proc):
        if not entry.isdigit():
            continue
        try:
            text = (proc / entry / "stat").read_text()
        except OSError:
            continue
        # The name in brackets may hold anything; what follows the last bracket is numbers.
        fields = text[text.rindex(")") + 2 :].split()
        ticks = sum(int(field) for field in fields[11:15])
        found[int(entry)] = _Process(int(fields[1]), ticks / _TICKS, int(fields[21]) * _PAGE_BYTES)
    return found


def usage_below(roots: Iterable[int], processes: dict[int, _Process]) -> dict[int, Usage]:
    """What each root and all below it use."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for number, process in processes.items():
        children[process.parent].append(number)
    found: dict[int, Usage] = {}
    for root in roots:
        pending, cpu_seconds, memory_bytes = [root], 0.0, 0
        while pending:
            number = pending.pop()
            process = processes.get(number)
            if process is not None:
                cpu_seconds += process.cpu_seconds
                memory_bytes += process.memory_bytes
            pending += children.get(number, ())
        found[root] = Usage(cpu_seconds, memory_bytes)
    return found


class _Sample(NamedTuple):
    taken: float
    usages: dict[str, Usage]


class UsageMeter:
    """records: the containers that the runner holds now, by name."""

    def __init__(self, records: Callable[[], Iterable[ContainerRecord]]) -> None:
        self._records = records
        self._samples: list[_Sample] = []
        self._lock = asyncio.Lock()

    async def measure(self) -> dict[str, Rate]:
        """The rate of each container that runs, by the runner's name for it."""
        async with self._lock:
            now = await self._sample()
            if not self._bases(now, _SHORTEST_WINDOW_SECONDS):
                self._samples = [now]
                await asyncio.sleep(_SHORTEST_WINDOW_SECONDS)
                now = await self._sample()
            rates = self._rates(now)
            if not self._samples or now.taken - self._samples[-1].taken >= _RENEWED_SECONDS:
                self._samples = [*self._samples[-1:], now]
            return rates

    def _bases(self, now: _Sample, least_seconds: float) -> list[_Sample]:
        """Earlier samples that a rate may be taken from, the latest first."""
        ages = ((now.taken - sample.taken, sample) for sample in reversed(self._samples))
        return [sample for age, sample in ages if least_seconds <= age <= _OLDEST_SECONDS]

    def _rates(self, now: _Sample) -> dict[str, Rate]:
        wall, rates = time.time(), dict[str, Rate]()
        started = {record.name: record.started_at for record in self._records()}
        for name, usage in now.usages.items():
            known = [one for one in self._bases(now, _SHORTEST_WINDOW_SECONDS - 0.01) if name in one.usages]
            if known:
                seconds = now.taken - known[0].taken
                used = usage.cpu_seconds - known[0].usages[name].cpu_seconds
            else:
                # It started since: the rate over its life.
                seconds = max(_SHORTEST_WINDOW_SECONDS, wall - started.get(name, wall))
                used = usage.cpu_seconds
            rates[name] = Rate(max(0.0, used) / seconds, usage, wall, seconds)
        return rates

    async def _sample(self) -> _Sample:
        roots = {
            record.name: record.pid for record in self._records() if record.state == "running" and record.pid
        }
        processes = await asyncio.to_thread(read_processes)
        usages = usage_below(roots.values(), processes)
        return _Sample(
            asyncio.get_running_loop().time(), {name: usages[number] for name, number in roots.items()}
        )


class UsageRoutes:
    """Serves the measurements. pods: the pods of the node, by uid, as (namespace, name)."""

    def __init__(self, node: str, meter: UsageMeter, pods: Callable[[], dict[str, tuple[str, str]]]) -> None:
        self._node = node
        self._meter = meter
        self._pods = pods

    def add_to(self, router: web.UrlDispatcher) -> None:
        router.add_get("/stats/summary", self._summary)
        router.add_get("/metrics/resource", self._metrics)

    async def _summary(self, _: web.Request) -> web.Response:
        pods: dict[str, Object] = {}
        rates = await self._meter.measure()
        known = self._pods()
        for name, rate in rates.items():
            uid, container = name.split("/")[:2]
            if uid not in known:
                continue
            namespace, pod = known[uid]
            reference = {"name": pod, "namespace": namespace, "uid": uid}
            pods.setdefault(uid, {"podRef": reference, "containers": []})["containers"].append(
                {"name": container, **_stats(rate)}
            )
        total = _sum(rates.values())
        node = {"nodeName": self._node, **(_stats(total) if total is not None else {})}
        return web.json_response({"node": node, "pods": list(pods.values())})

    async def _metrics(self, _: web.Request) -> web.Response:
        lines: list[str] = []
        rates = await self._meter.measure()
        known = self._pods()
        for name, rate in rates.items():
            uid, container = name.split("/")[:2]
            if uid in known:
                namespace, pod = known[uid]
                labels = f'{{container="{container}",namespace="{namespace}",pod="{pod}"}}'
                stamp = round(rate.time * 1000)
                lines += [
                    f"container_cpu_usage_seconds_total{labels} {rate.usage.cpu_seconds:.6f} {stamp}",
                    f"container_memory_working_set_bytes{labels} {rate.usage.memory_bytes} {stamp}",
                ]
        lines.sort()
        return web.Response(text="\n".join([*lines, ""]), content_type="text/plain")


def _sum(rates: Iterable[Rate]) -> Rate | None:
    found = list(rates)
    if not found:
        return None
    usage = Usage(sum(one.usage.cpu_seconds for one in found), sum(one.usage.memory_bytes for one in found))
    window = max(one.window_seconds for one in found)
    return Rate(sum(one.cores for one in found), usage, max(one.time for one in found), window)


def _stats(rate: Rate) -> Object:
    stamp = rfc3339(rate.time)
    return {
        "cpu": {
            "time": stamp,
            "usageNanoCores": round(rate.cores * 1e9),
            "usageCoreNanoSeconds": round(rate.usage.cpu_seconds * 1e9),
            "windowSeconds": round(rate.window_seconds, 3),
        },
        "memory": {"time": stamp, "workingSetBytes": rate.usage.memory_bytes},
    }
