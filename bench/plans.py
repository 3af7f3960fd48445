"""CPU of the control plane for a change of one object, in milliseconds, by the number of AIGatewayRoutes.

    python -m bench.plans [--routes 300 1000 3000] [--rounds 5] [--profile route] [--envoy]

Each route has three backends of its own, every backend its AIServiceBackend, key and Secret; every tenth is a Service with
an EndpointSlice. Limits: a BackendTrafficPolicy of the Gateway, and a Budget for all routes. Columns: plan = `make_plan`
with what it remembers of the one before; encode = what Envoy is sent is compared and encoded; statuses = which are to be
written; in all = with what the controller does besides. Numbers are CPU time of this process, the median of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import gc
import itertools
import os
import pstats
import statistics
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.gateway.workbench import (  # noqa: E402
    Workbench,
    ai_route,
    backend,
    eventually,
    gateway,
    key_policy,
    observe,
    running_provider,
    running_workbench,
)

from kajitori.control.controller import Key  # noqa: E402
from kajitori.gateway.accounting.policy_delivery import PolicyServer  # noqa: E402
from kajitori.gateway.conditions import StatusUpdate  # noqa: E402
from kajitori.gateway.envoy.encode import Encoder  # noqa: E402
from kajitori.gateway.envoy.schema import schema  # noqa: E402
from kajitori.gateway.envoy.xds import Snapshot  # noqa: E402
from kajitori.gateway.garbage_collector import collector_paused  # noqa: E402
from kajitori.gateway.observed import Observed  # noqa: E402
from kajitori.gateway.plan import Plan, make_plan  # noqa: E402
from kajitori.gateway.plan_memory import PlanMemory  # noqa: E402
from kajitori.gateway.references import find_references  # noqa: E402

BACKENDS_EACH = 3
Change = Callable[[Observed, int], Observed]


def world(count: int, port: int = 8080, provider: int = 9000, *, limited: bool = True) -> Observed:
    """So many routes with their backends."""
    documents: list[dict[str, Any]] = [gateway(port)]
    for number in range(count):
        names = [f"b{number}-{place}" for place in range(BACKENDS_EACH)]
        for place, name in enumerate(names):
            documents += backend(name, provider)
            documents += key_policy(name, f"key-{name}")
            if limited and (number * BACKENDS_EACH + place) % 10 == 0:
                documents[-3]["spec"]["backendRef"] = {
                    "name": name,
                    "kind": "Service",
                    "group": "",
                    "port": 80,
                }
                documents += service(name)
        documents.append(ai_route(f"r{number}", f"model-{number}", *({"name": name} for name in names)))
    documents += limits() if limited else []
    return observe(*documents)


def service(name: str, address: str = "10.0.0.1") -> list[dict[str, Any]]:
    port = {"name": "web", "port": 80}
    return [
        {"kind": "Service", "metadata": {"name": name}, "spec": {"ports": [port]}},
        {
            "kind": "EndpointSlice",
            "metadata": {"name": f"{name}-1", "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [address]}],
            "ports": [{"name": "web", "port": 9000, "protocol": "TCP"}],
        },
    ]


def limits() -> list[dict[str, Any]]:
    rule = {"limit": {"requests": 1000, "unit": "Hour"}}
    return [
        {
            "kind": "BackendTrafficPolicy",
            "metadata": {"name": "limits"},
            "spec": {
                "targetRefs": [{"group": "gateway.networking.k8s.io", "kind": "Gateway", "name": "gateway"}],
                "rateLimit": {"type": "Global", "global": {"rules": [rule]}},
            },
        }
    ]


def touched(field: str, name: str, change: Callable[[Any, int], Any]) -> Change:
    """Replaces one object by a changed one, as an informer does."""

    def replace(observed: Observed, revision: int) -> Observed:
        items = tuple(
            change(item, revision) if item.metadata.name == name else item
            for item in getattr(observed, field)
        )
        return msgspec.structs.replace(observed, **{field: items})

    return replace


def _route(route: Any, revision: int) -> Any:
    rule = route.spec.rules[0]
    header = msgspec.structs.replace(rule.matches[0].headers[0], value=f"model-7-{revision}")
    rule = msgspec.structs.replace(rule, matches=[msgspec.structs.replace(rule.matches[0], headers=[header])])
    return msgspec.structs.replace(route, spec=msgspec.structs.replace(route.spec, rules=[rule]))


def _converted(path: tuple[str | int, ...], value: Callable[[int], Any]) -> Callable[[Any, int], Any]:
    """Changes a member of an object by way of its JSON."""

    def change(item: Any, revision: int) -> Any:
        raw: Any = msgspec.to_builtins(item)
        place = raw
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = value(revision)
        return msgspec.convert(raw, type(item))

    return change


CHANGES: dict[str, Change] = {
    "nothing": lambda observed, revision: observed,
    "route": touched("ai_routes", "r7", _route),
    "secret": touched("secrets", "b7-1-key", _converted(("data", "apiKey"), lambda n: "a2V5" + "abcd" * n)),
    "slice": touched(
        "endpoint_slices",
        "b10-0-1",
        _converted(("endpoints",), lambda n: [{"addresses": [f"10.0.1.{n + 1}"]}]),
    ),
    "policy": touched(
        "backend_traffic_policies",
        "limits",
        _converted(
            ("spec", "rateLimit", "global", "rules", 0, "limit"),
            lambda n: {"requests": 1000 + n, "unit": "Hour"},
        ),
    ),
}


class Controller:
    """The steps of `GatewayController` for one change, each with its CPU time."""

    def __init__(self) -> None:
        self._snapshot = Snapshot(Encoder(schema()))
        self._policies = PolicyServer()
        self._memory, self._asked = PlanMemory(), PlanMemory()
        self._told: dict[int, Any] = {}
        self._statuses: dict[Any, Any] = {}
        self.plan: Plan | None = None

    def take(self, observed: Observed) -> dict[str, float]:
        """Milliseconds of each step."""
        clock = time.process_time
        marks = [clock()]
        for _ in range(2):  # what Secrets say decides which tokens are asked for
            find_references(observed, self._asked)
        marks.append(clock())
        self.plan = plan = make_plan(observed, memory=self._memory)
        marks.append(clock())
        self._policies.configure(plan.policy)
        marks.append(clock())
        self._snapshot.set_resources("gateway", plan.resources)
        marks.append(clock())
        known, self._told = self._told, {}
        for update in plan.statuses:
            self._told[id(update)] = known.get(id(update)) or (update, _status_key(update))
        self._statuses = {key: update for update, key in self._told.values()}
        marks.append(clock())
        steps = [1000 * (after - before) for before, after in itertools.pairwise(marks)]
        return dict(zip(("asked", "plan", "policy", "encode", "statuses"), steps, strict=True))


def _status_key(update: StatusUpdate) -> Key:
    return Key(update.namespace, f"{update.resource.qualified_name}/{update.name}")


def measure(count: int, rounds: int, profiled: str = "") -> None:
    observed = world(count)
    controller = Controller()
    with collector_paused():
        first = controller.take(observed)
    print(f"{count} routes: first plan {first['plan']:.0f} ms, in all {sum(first.values()):.0f} ms")
    for name, change in CHANGES.items():
        found: list[dict[str, float]] = []
        profile = cProfile.Profile()
        for revision in range(1, rounds + 1):
            observed = change(observed, revision)
            if name == profiled:
                profile.enable()
            with collector_paused():
                found.append(controller.take(observed))
            profile.disable()
        if name == profiled:
            pstats.Stats(profile).sort_stats("tottime").print_stats(45)
        print_row(name, found)


def print_row(name: str, found: Iterable[dict[str, float]]) -> None:
    rounds = list(found)
    steps = {step: statistics.median(each[step] for each in rounds) for step in rounds[0]}
    steps["in all"] = statistics.median(sum(each.values()) for each in rounds)
    print(f"  {name:10}" + "".join(f"{step:>10} {value:7.1f}" for step, value in steps.items()))


async def measure_effect(count: int, rounds: int) -> None:
    """Wall time from a change of one object until an Envoy acts on it, by way of a real delivery."""
    async with running_provider() as provider, running_workbench() as bench:
        assert bench.envoy is not None
        memory, pid = PlanMemory(), bench.envoy.pid

        def deliver(observed: Observed) -> None:
            with collector_paused():
                bench.ads.set_resources(
                    "gateway", make_plan(observed, bench.ads.rejected, memory=memory).resources
                )

        observed = world(count, bench.port, provider.port, limited=False)
        begun = time.perf_counter()
        deliver(observed)
        await eventually(lambda: bench.ads.settled, seconds=120)
        print(f"{count} routes: everything at once {time.perf_counter() - begun:.1f} s")
        found: dict[str, list[float]] = {}
        for revision in range(1, rounds + 1):
            observed = CHANGES["route"](observed, revision)
            question = {"model": f"model-7-{revision}", "messages": []}
            begun, ours, theirs = time.perf_counter(), time.process_time(), cpu_seconds(pid)
            deliver(observed)
            found.setdefault("plan and encode", []).append(time.perf_counter() - begun)
            while (await bench.post(question)).status != 200:
                await asyncio.sleep(0.001)
            found.setdefault("a request takes the changed route", []).append(time.perf_counter() - begun)
            await eventually(lambda: bench.ads.settled, seconds=60)
            found.setdefault("CPU of the control plane, until Envoy has confirmed", []).append(
                time.process_time() - ours
            )
            found.setdefault("CPU of Envoy meanwhile", []).append(cpu_seconds(pid) - theirs)
        for name, seconds in found.items():
            print(f"  {name:52} {1000 * statistics.median(seconds):7.1f} ms")
        await idle(bench)


async def idle(bench: Workbench, seconds: float = 10.0) -> None:
    """CPU of both while nothing happens."""
    assert bench.envoy is not None
    before, of_envoy = time.process_time(), cpu_seconds(bench.envoy.pid)
    await asyncio.sleep(seconds)
    used = time.process_time() - before
    print(f"  idle for {seconds:.0f} s: control plane {1000 * used:.0f} ms of CPU, Envoy {1000 * (cpu_seconds(bench.envoy.pid) - of_envoy):.0f} ms")  # fmt: skip


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--routes", type=int, nargs="+", default=[300, 1000, 3000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--profile", default="", choices=["", *CHANGES])
    parser.add_argument("--envoy", action="store_true", help="deliver to a real Envoy, and measure wall time")
    given = parser.parse_args()
    if given.envoy:
        for count in given.routes:
            asyncio.run(measure_effect(count, given.rounds))
        return
    for count in given.routes:
        measure(count, given.rounds, given.profile)
        gc.collect()


if __name__ == "__main__":
    main()
