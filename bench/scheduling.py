"""What it costs to place gangs, and the laptop's scheduler to bind them.

    python -m bench.scheduling [place] [make-room] [many] [loop]     # all by default

CPU time of this process, the best of a few rounds. `place` and `make-room` are the pure functions on a state that is kept
from gang to gang, printed beside a floor: one pass over as many numbers. `loop` is the scheduler on an embedded API server
in a process of its own, whose time is not counted; pods are gangs of 8, and for comparison pods of their own.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import Coroutine
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.cluster import cpu_seconds  # noqa: E402
from tests.scheduling.objects import cluster, node, pod  # noqa: E402
from tests.scheduling.test_gangs import exclusive  # noqa: E402

from kajitori.api.resource import NODES, PODS, SERVICE_ACCOUNTS  # noqa: E402
from kajitori.kube.client import Client  # noqa: E402
from kajitori.kube.config import load_config  # noqa: E402
from kajitori.laptop.apiserver.testing import running_api_server  # noqa: E402
from kajitori.model.gang import Gang, gang_annotations, gang_labels  # noqa: E402
from kajitori.scheduling.demand import Demand  # noqa: E402
from kajitori.scheduling.gangs.plan import place_gang  # noqa: E402
from kajitori.scheduling.gangs.victims import make_room  # noqa: E402
from kajitori.scheduling.plan import plan  # noqa: E402
from kajitori.scheduling.state import ClusterState  # noqa: E402

GPU = "nvidia.com/gpu"
RACK, ZONE = "kajitori.dev/rack", "topology.kubernetes.io/zone"
NODES_A_RACK, NODES_A_ZONE = 16, 512


def nodes(count: int) -> ClusterState:
    return cluster(
        *(
            node(
                f"n{number}",
                {RACK: f"r{number // NODES_A_RACK}", ZONE: f"z{number // NODES_A_ZONE}"},
                **{GPU: "8", "cpu": "128", "memory": "1Ti"},
            )
            for number in range(count)
        )
    )


def gang(name: str, size: int, leader_cpu: str = "8", priority: int = 0, gpus: int = 8) -> list[Demand]:
    wish = Gang(name=name, size=size, preferred_topology=(RACK, ZONE))
    labels = gang_labels(wish) | {"leaderworkerset.sigs.k8s.io/group-key": name}
    return [
        pod(
            f"{name}-{number}",
            {GPU: str(gpus), "cpu": "8" if number else leader_cpu, "memory": "64Gi"},
            labels=labels,
            annotations=gang_annotations(wish),
            priority=priority,
        )
        for number in range(size)
    ]


def spent(work: Any) -> float:
    """CPU milliseconds."""
    began = time.process_time()
    work()
    return (time.process_time() - began) * 1000


def floor_ms(count: int) -> float:
    free, wanted = np.arange(count) % 9, 8
    return min(spent(lambda: [(free // wanted).sum() for _ in range(100)]) for _ in range(5)) / 100


def measure_place() -> None:
    print(
        "one gang of 8-GPU pods: ms of CPU to choose its nodes | to plan it and count it in the state | floor"
    )
    for count in (1_000, 10_000):
        for leader in ("8", "16"):
            row: list[str] = []
            for size in (2, 8, 16, 64):
                state = nodes(count)
                plan(gang("warm", size, leader), state)
                gangs = [gang(f"g{number}", size, leader) for number in range(min(60, count // size - 2))]
                choices: list[float] = []
                plans: list[float] = []
                for members in gangs:
                    choices.append(spent(partial(place_gang, members, state)))
                    plans.append(spent(partial(plan, members, state)))
                assert all(state.node_of(demand.uid) for members in gangs for demand in members)
                row.append(f"{size}: {statistics.median(choices):.2f} | {statistics.median(plans):.2f}")
            kind = "equal pods" if leader == "8" else "leader of another shape"
            print(f"  {count} nodes, {kind}: {'   '.join(row)}   floor {floor_ms(count):.3f}")


def measure_make_room() -> None:
    for count in (1_000, 10_000):
        state = nodes(count)
        for number in range(count // 8):
            plan(gang(f"g{number}", 8, priority=number % 3), state)
        members = gang("urgent", 16, priority=5)
        milliseconds = min(spent(partial(make_room, members, state)) for _ in range(3))
        found = make_room(members, state)
        assert found is not None
        print(
            f"  {count} nodes full of {count // 8} gangs of 8: room for a gang of 16 in {milliseconds:.0f} ms, "
            f"{len(found.victims)} pods go"
        )


GANGS, SIZE = 1_000, 8


def measure_many() -> None:
    """The plan alone, for pods that come in batches as they do in the loop."""
    for label, mark in KINDS.items():
        row: list[str] = []
        for gangs, count in ((GANGS // 10, GANGS // 10), (GANGS, GANGS)):
            state = nodes(count)
            demands = [mark(f"g{number}") for number in range(gangs)]
            milliseconds = sum(spent(partial(plan, members, state)) for members in demands)
            placed = sum(bool(state.node_of(demand.uid)) for members in demands for demand in members)
            assert placed == gangs * SIZE
            row.append(f"{gangs} on {count} nodes {milliseconds / placed:.3f}")
        print(f"  groups of {SIZE}, {label}: ms of CPU a pod: {', '.join(row)}")


def whole(name: str) -> list[Demand]:
    return gang(name, SIZE, gpus=1)


def drawn_together(name: str) -> list[Demand]:
    """As pods of a LeaderWorkerSet are that is not placed as a gang."""
    labels = {"leaderworkerset.sigs.k8s.io/group-key": name}
    annotations = {"leaderworkerset.sigs.k8s.io/size": str(SIZE)}
    requests = {GPU: "1", "cpu": "8"}
    return [pod(f"{name}-{n}", requests, labels=labels, annotations=annotations) for n in range(SIZE)]


def exclusive_racks(name: str) -> list[Demand]:
    """One group a rack, by affinity terms; racks here are nodes, so that all find one."""
    label = "leaderworkerset.sigs.k8s.io/group-key"
    wish = Gang(name=name, size=SIZE, required_topology="kubernetes.io/hostname")
    affinity = exclusive(label, name, "kubernetes.io/hostname")
    labels = gang_labels(wish) | {label: name}
    requests = {GPU: "1", "cpu": "8"}
    return [
        pod(f"{name}-{n}", requests, labels=labels, annotations=gang_annotations(wish), affinity=affinity)
        for n in range(SIZE)
    ]


KINDS = {"as gangs": whole, "as gangs, exclusive": exclusive_racks, "drawn together": drawn_together}


def measure_loop() -> None:
    for kind in ("gangs", "pods"):
        for count in (GANGS // 10, GANGS):
            seconds, wall = asyncio.run(bound_by_a_scheduler(kind, count))
            pods = count * SIZE
            print(
                f"  {pods} pods ({kind}) on {count} nodes: the scheduler's process {1000 * seconds / pods:.2f} ms of CPU "
                f"a pod, {wall:.0f} s until all are bound"
            )


async def bound_by_a_scheduler(kind: str, count: int) -> tuple[float, float]:
    """CPU seconds of a scheduler's process that finds so many groups of 8 waiting, and how long it takes."""
    async with running_api_server() as server, Client(load_config(str(server.kubeconfig))) as client:
        await client.create(SERVICE_ACCOUNTS, {"metadata": {"name": "default"}}, namespace="default")
        await in_turn([make_node(client, number) for number in range(count)])
        await in_turn(
            [make_pod(client, kind, number // SIZE, number % SIZE) for number in range(count * SIZE)]
        )
        began = time.perf_counter()
        command = [sys.executable, "-c", ONLY_THE_SCHEDULER, str(server.kubeconfig)]
        process = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
        try:
            while (await client.list(PODS, "default", field_selector="spec.nodeName=")).items:
                await asyncio.sleep(1)
            return cpu_seconds(process.pid), time.perf_counter() - began
        finally:
            process.terminate()
            await process.wait()


async def in_turn(work: list[Coroutine[Any, Any, None]]) -> None:
    """A few at a time."""
    limit = asyncio.Semaphore(16)

    async def one(each: Coroutine[Any, Any, None]) -> None:
        async with limit:
            await each

    await asyncio.gather(*map(one, work))


async def make_node(client: Client, number: int) -> None:
    name = f"n{number}"
    labels = {RACK: f"r{number // NODES_A_RACK}", ZONE: f"z{number // NODES_A_ZONE}"}
    await client.create(NODES, {"metadata": {"name": name, "labels": labels}})
    await client.patch(NODES, name, {"spec": {"taints": None}})
    offered = {"cpu": "128", "memory": "1Ti", "pods": "110", GPU: "8"}
    status = {"status": {"allocatable": offered, "capacity": offered}}
    await client.patch(NODES, name, status, subresource="status")


async def make_pod(client: Client, kind: str, group: int, number: int) -> None:
    wish = Gang(name=f"g{group}", size=SIZE)
    marks = {"labels": gang_labels(wish), "annotations": gang_annotations(wish)} if kind == "gangs" else {}
    resources = {"requests": {GPU: "1"}, "limits": {GPU: "1"}}
    body = {
        "metadata": {"name": f"g{group}-{number}", **marks},
        "spec": {"containers": [{"name": "c", "image": "busybox", "resources": resources}]},
    }
    await client.create(PODS, body, namespace="default")


ONLY_THE_SCHEDULER = """
import asyncio, sys
from kajitori.control.runtime import Runtime
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.scheduler.controller import register

async def run():
    async with Client(load_config(sys.argv[1])) as client:
        runtime = Runtime(client)
        register(runtime)
        await runtime.run(asyncio.Event())

asyncio.run(run())
"""

MEASURES: dict[str, Any] = {
    "place": measure_place,
    "make-room": measure_make_room,
    "many": measure_many,
    "loop": measure_loop,
}

if __name__ == "__main__":
    for chosen in sys.argv[1:] or MEASURES:
        MEASURES[chosen]()
