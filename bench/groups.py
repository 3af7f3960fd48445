"""LeaderWorkerSets by the thousand: what their creation and their updates cost, beside upstream's controller.

    python -m bench.groups [steady] [roll] [kill] [plan] [--groups 100] [--peer-groups 100] [--roll-groups 50]

`steady` and `roll` run on a real control plane without nodes: a pod is said to be ready as soon as it is there, so
that only controllers work. Both contestants get the same control plane, one after the other; the controller manager
counts with both, since upstream leaves making pods to it (its own limit of requests is lifted here). `kill` is a
laptop cluster with sleeping processes, `plan` is arithmetic alone. Without Go, or with `--peer-groups 0`, ours runs alone.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.cluster import cpu_seconds, memory_mib  # noqa: E402
from tests.behaviours.controllers import NAME, NAMESPACE, running_controllers  # noqa: E402
from tests.behaviours.manifests import a_set, rolling, template  # noqa: E402
from tests.groups.leader_worker_sets import conftest as planned  # noqa: E402
from tests.servers import QUICK_CONTROLLERS, Place  # noqa: E402
from tests.world.conftest import Cluster, down, up  # noqa: E402
from tools.kubernetes.control_plane import APISERVER, CONTROLLERS, ControlPlane, running_control_plane  # noqa: E402

from kajitori.api.crds import all_crds  # noqa: E402
from kajitori.api.resource import (  # noqa: E402
    CUSTOM_RESOURCE_DEFINITIONS,
    LEADER_WORKER_SETS,
    PODS,
    SERVICE_ACCOUNTS,
)
from kajitori.base.errors import Conflict, Gone, NotFound, Unreachable  # noqa: E402
from kajitori.groups.leader_worker_sets.plan import plan_set  # noqa: E402
from kajitori.kube.client import Client  # noqa: E402
from kajitori.kube.config import load_config  # noqa: E402

Object = dict[str, Any]
SIZE = 8
SURGE = 5
NAME_OF_SET = "big"
PREFIX = "leaderworkerset.sigs.k8s.io/"
READY = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
# Events are counted up for some seconds before they are written again.
QUIET_SECONDS = 8.0
PATIENCE_SECONDS = 3_600.0


@dataclass(frozen=True)
class Contestant:
    """name: `ours` or `upstream`. user: as whom its process asks. run: starts the process and gives its pid."""

    name: str
    user: str
    run: Callable[[ControlPlane], contextlib.AbstractContextManager[int]]


@contextlib.contextmanager
def run_ours(plane: ControlPlane) -> Generator[int]:
    asyncio.run(make_definitions(plane))
    place = Place("real", plane.home, plane.server, plane.kubeconfig, dict(plane.processes))
    with running_controllers(place):
        yield place.processes["controllers"].pid


@contextlib.contextmanager
def run_upstream(plane: ControlPlane) -> Generator[int]:
    from tools.peers.lws import running_lws_manager

    with running_lws_manager(plane) as process:
        yield process.pid


async def make_definitions(plane: ControlPlane) -> None:
    async with Client(load_config(str(plane.kubeconfig))) as client:
        for definition in all_crds():
            await client.apply(CUSTOM_RESOURCE_DEFINITIONS, definition, field_manager="bench")


OURS = Contestant("ours", f"system:serviceaccount:{NAMESPACE}:{NAME}", run_ours)
UPSTREAM = Contestant("upstream", "lws-manager", run_upstream)


class Nodes:
    """Says of every pod that it is ready, and knows at each moment how many groups of the set are."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._limit = asyncio.Semaphore(64)
        self._ready: dict[str, str] = {}
        self._members: Counter[str] = Counter()
        self._whole = 0
        self.fewest = 0
        self.images: Counter[str] = Counter()
        self._images: dict[str, str] = {}

    @property
    def ready_groups(self) -> int:
        return self._whole

    def begin_to_count(self) -> None:
        self.fewest = self.ready_groups

    async def run(self) -> None:
        """A watch that falls behind is ended by the server: then what is there is looked at anew."""
        async with asyncio.TaskGroup() as tasks:
            while True:
                found = await self._client.list(PODS)
                gone = self._images.keys() - {pod["metadata"]["uid"] for pod in found.items}
                for uid in gone:
                    self._lose(uid)
                for pod in found.items:
                    self._see(pod, tasks)
                with contextlib.suppress(Gone, Unreachable):
                    async for event in self._client.watch(PODS, resource_version=found.resource_version):
                        if event.type == "DELETED":
                            self._lose(event.object["metadata"]["uid"])
                        else:
                            self._see(event.object, tasks)

    def _see(self, pod: Object, tasks: asyncio.TaskGroup) -> None:
        metadata = pod["metadata"]
        uid, group = metadata["uid"], metadata["labels"].get(f"{PREFIX}group-index", "")
        runs = pod["status"].get("phase") == "Running"
        ready = runs and "deletionTimestamp" not in metadata
        if uid not in self._images:
            self._images[uid] = pod["spec"]["containers"][0]["image"]
            self.images[self._images[uid]] += 1
            if not runs:
                tasks.create_task(self._run(pod))
        if ready and uid not in self._ready:
            self._ready[uid] = group
            self._count(group, 1)
        elif not ready and uid in self._ready:
            self._count(self._ready.pop(uid), -1)

    def _lose(self, uid: str) -> None:
        self.images[self._images.pop(uid, "")] -= 1
        if uid in self._ready:
            self._count(self._ready.pop(uid), -1)

    def _count(self, group: str, change: int) -> None:
        self._whole -= self._members[group] == SIZE
        self._members[group] += change
        self._whole += self._members[group] == SIZE
        self.fewest = min(self.fewest, self._whole)

    async def _run(self, pod: Object) -> None:
        metadata = pod["metadata"]
        async with self._limit:
            with contextlib.suppress(NotFound, Conflict):
                await self._client.patch(
                    PODS,
                    metadata["name"],
                    {"metadata": {"uid": metadata["uid"]}, "status": READY},
                    namespace=metadata["namespace"],
                    subresource="status",
                )


@contextlib.asynccontextmanager
async def running_nodes(plane: ControlPlane) -> AsyncGenerator[tuple[Client, Nodes]]:
    async with Client(load_config(str(plane.kubeconfig)), user_agent="bench") as client:
        while True:
            with contextlib.suppress(NotFound):
                await client.get(SERVICE_ACCOUNTS, "default", "default")
                await client.list(LEADER_WORKER_SETS, "default")
                break
            await asyncio.sleep(0.1)
        nodes = Nodes(client)
        # Whoever waits for something that these no longer do is told.
        async with asyncio.TaskGroup() as tasks:
            running = tasks.create_task(nodes.run())
            yield client, nodes
            running.cancel()


@dataclass(frozen=True)
class Cost:
    """CPU seconds and requests of a contestant's process, of the controller manager, and CPU of the API server."""

    controller: float
    manager: float
    api_server: float
    controller_requests: int
    manager_requests: int

    def since(self, before: Cost) -> Cost:
        return Cost(
            self.controller - before.controller,
            self.manager - before.manager,
            self.api_server - before.api_server,
            self.controller_requests - before.controller_requests,
            self.manager_requests - before.manager_requests,
        )

    def __str__(self) -> str:
        return (
            f"controller {self.controller:.1f} CPU s and {self.controller_requests} requests, controller manager"
            f" {self.manager:.1f} CPU s and {self.manager_requests} requests, API server {self.api_server:.1f} CPU s"
        )


def cost(plane: ControlPlane, pid: int, user: str) -> Cost:
    asked = requests(plane)
    manager = sum(
        count
        for name, count in asked.items()
        if name == f"system:{CONTROLLERS}" or name.startswith("system:serviceaccount:kube-system:")
    )
    return Cost(
        cpu_seconds(pid),
        cpu_seconds(plane.pids[CONTROLLERS]),
        cpu_seconds(plane.pids[APISERVER]),
        asked[user],
        manager,
    )


def requests(plane: ControlPlane) -> Counter[str]:
    """By user, without leases."""
    asked: Counter[str] = Counter()
    for file in plane.home.glob("audit*.log"):
        for line in file.read_text().splitlines():
            if '"resource":"leases"' not in line:
                asked[json.loads(line)["user"]["username"]] += 1
    return asked


async def until_steady(client: Client, groups: int, generation: int) -> float:
    """When the set says that all its groups are there, updated and ready, and no more; seconds of `perf_counter`."""
    found = await client.list(LEADER_WORKER_SETS, "default")
    watch = client.watch(
        LEADER_WORKER_SETS,
        "default",
        resource_version=found.resource_version,
        timeout_seconds=PATIENCE_SECONDS,
    )
    for lws in found.items:
        if is_steady(lws, groups, generation):
            return time.perf_counter()
    async with contextlib.aclosing(watch) as events:
        async for event in events:
            if is_steady(event.object, groups, generation):
                return time.perf_counter()
    raise TimeoutError("the set did not become steady")


def is_steady(lws: Object, groups: int, generation: int) -> bool:
    status = lws.get("status") or {}
    available = any(
        one["type"] == "Available"
        and one["status"] == "True"
        and one.get("observedGeneration", 0) >= generation
        for one in status.get("conditions") or ()
    )
    counts = [status.get(key, 0) for key in ("replicas", "readyReplicas", "updatedReplicas")]
    return available and counts == [groups] * 3


async def measure(plane: ControlPlane, contestant: Contestant, pid: int, groups: int, roll: bool) -> None:
    """Create the set; with `roll`, change its template afterwards and measure that alone."""
    title = f"{contestant.name}: {groups} groups of {SIZE}"
    async with running_nodes(plane) as (client, nodes):
        lws = a_set(NAME_OF_SET, groups, SIZE, rolloutStrategy=rolling(1, SURGE) if roll else rolling())
        before, began = cost(plane, pid, contestant.user), time.perf_counter()
        await client.create(LEADER_WORKER_SETS, lws, namespace="default")
        ended = await until_steady(client, groups, 1)
        await asyncio.sleep(QUIET_SECONDS)
        if not roll:
            resident, _ = memory_mib(pid)
            spent = cost(plane, pid, contestant.user).since(before)
            print(
                f"{title} to steady: {ended - began:.1f} s; {spent}; controller has {resident:.0f} MiB",
                flush=True,
            )
            return
        nodes.begin_to_count()
        before, began = cost(plane, pid, contestant.user), time.perf_counter()
        change = {"spec": {"leaderWorkerTemplate": {"workerTemplate": template("engine:2")}}}
        changed = await client.patch(LEADER_WORKER_SETS, NAME_OF_SET, change, namespace="default")
        while nodes.images["engine:2"] < groups * SIZE:
            await asyncio.sleep(0.02)
        ended = await until_steady(client, groups, changed["metadata"]["generation"])
        await asyncio.sleep(QUIET_SECONDS)
        spent = cost(plane, pid, contestant.user).since(before)
        print(
            f"{title} rolled, {SURGE} in excess: {ended - began:.1f} s; {spent}; never fewer than {nodes.fewest} ready",
            flush=True,
        )


def contest(contestant: Contestant, groups: int, *, roll: bool) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="kajitori-") as folder,
        running_control_plane(Path(folder), scheduler=False, flags={CONTROLLERS: QUICK_CONTROLLERS}) as plane,
        contestant.run(plane) as pid,
    ):
        asyncio.run(measure(plane, contestant, pid, groups, roll))


async def measure_kill(folder: Path) -> None:
    """One process of a group is killed: until the group is there anew and ready."""
    cluster = await asyncio.to_thread(up, folder / "kill", "--no-model")
    try:
        async with Client(load_config(str(cluster.home / "kubeconfig")), user_agent="bench") as client:
            walls = [
                await killed_until_ready(client, cluster, f"{NAME_OF_SET}{number}") for number in range(3)
            ]
        print(
            f"kill: one process of a group of {SIZE} to the new group ready: {statistics.median(walls):.2f} s median of"
            f" {', '.join(f'{wall:.2f}' for wall in walls)}"
        )
    finally:
        await asyncio.to_thread(down, cluster)


async def killed_until_ready(client: Client, cluster: Cluster, name: str) -> float:
    """In a set of its own: a group that fails again waits before it begins anew."""
    container = {"name": "engine", "image": "busybox:1", "command": ["sleep", "1000"]}
    sleeping = {"spec": {"containers": [container], "terminationGracePeriodSeconds": 1}}
    await client.create(LEADER_WORKER_SETS, a_set(name, 1, SIZE, worker=sleeping), namespace="default")
    await until_steady(client, 1, 1)
    before = {pod["metadata"]["uid"] for pod in (await client.list(PODS, "default")).items}
    began = time.perf_counter()
    kill = asyncio.to_thread(cluster.kubectl, "exec", f"{name}-0-3", "--", "kill", "1", check=False)
    killing = asyncio.create_task(kill)
    while True:
        pods = (await client.list(PODS, "default")).items
        if sum(pod["metadata"]["uid"] not in before and is_ready(pod) for pod in pods) == SIZE:
            ended = time.perf_counter()
            await killing
            await client.delete(LEADER_WORKER_SETS, name, "default", propagation_policy="Foreground")
            while (await client.list(LEADER_WORKER_SETS, "default")).items:
                await asyncio.sleep(0.1)
            return ended - began
        await asyncio.sleep(0.02)


def is_ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def measure_plan(groups: int = 1_000) -> None:
    """The plan of a set in the middle of a roll, all its pods known."""
    limits = {"rollingUpdateConfiguration": {"partition": 0, "maxUnavailable": 10, "maxSurge": SURGE}}
    cluster = planned.PlannedCluster(planned.a_set(replicas=groups, size=SIZE, rolloutStrategy=limits))
    for _ in range(2):
        cluster.reconcile()
        for pod in cluster.pods.values():
            pod.setdefault("status", READY)
    changed = planned.template(planned.container() | {"image": "busybox:2"})
    cluster.lws["spec"]["leaderWorkerTemplate"]["workerTemplate"] = changed
    cluster.lws["metadata"]["generation"] = 2
    cluster.reconcile()
    cluster.bury()
    world = cluster.world()
    times: dict[str, float] = defaultdict(lambda: float("inf"))
    for _ in range(9):
        began = time.process_time()
        plan_set(world)
        times["plan"] = min(times["plan"], time.process_time() - began)
    print(f"plan of a roll over {groups} groups of {SIZE}: {1000 * times['plan']:.1f} ms of CPU, best of 9")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = ("steady", "roll", "kill", "plan")
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(parts)}; all by default")
    parser.add_argument("--groups", type=int, default=100, help="of the set that ours makes")
    parser.add_argument(
        "--peer-groups", type=int, default=100, help="of the set that upstream's makes; 0 for none"
    )
    parser.add_argument("--roll-groups", type=int, default=50)
    options = parser.parse_args()
    wanted = options.parts or parts
    print(f"load {os.getloadavg()[0]:.1f} when it began", flush=True)
    if "plan" in wanted:
        measure_plan()
    if "kill" in wanted:
        with tempfile.TemporaryDirectory(prefix="kajitori-") as folder:
            asyncio.run(measure_kill(Path(folder)))
    for contestant in (OURS, UPSTREAM) if options.peer_groups else (OURS,):
        if "steady" in wanted:
            contest(contestant, options.groups if contestant is OURS else options.peer_groups, roll=False)
        if "roll" in wanted:
            contest(contestant, options.roll_groups, roll=True)


if __name__ == "__main__":
    main()
