"""Start, idle and group figures of a laptop cluster, on clusters of its own.

    python bench/cluster.py [start] [idle] [group] [growth] [many]     # all by default

CPU seconds are read from /proc for every process of the tree. What it costs to prepare a container, from the fork to
its command, counts as ours, under `containers`; what the command then does is the pod's. Wall times are printed for
orientation: the machine may be busy.
"""

from __future__ import annotations

import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.world.conftest import Cluster, down, free_port, wait_until  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")


def cpu_seconds(pid: int) -> float:
    """User and system time of the process and of its children that ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(int(field) for field in fields[11:15]) / TICKS


def memory_mib(pid: int) -> tuple[float, float]:
    """Resident and proportional memory."""
    resident = proportional = 0.0
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Rss:"):
                resident = int(line.split()[1]) / 1024
            elif line.startswith("Pss:"):
                proportional = int(line.split()[1]) / 1024
    except OSError:
        pass
    return resident, proportional


def tree(cluster: Cluster) -> dict[str, int]:
    """Name to pid of the cluster's processes, the supervisor included."""
    from kajitori.cli.local import ask_supervisor

    status = ask_supervisor(cluster.home, "status")
    assert status is not None
    return {"supervisor": status["pid"]} | {
        each["name"]: each["pid"] for each in status["processes"] if each["pid"]
    }


def preparing_seconds(runner: int) -> float:
    """What the inits of a runner's living containers have used, to the nanosecond: each has one thread."""
    total = 0
    for child in Path(f"/proc/{runner}/task/{runner}/children").read_text().split():
        with contextlib.suppress(OSError):
            total += int(Path(f"/proc/{child}/schedstat").read_text().split()[0])
    return total / 1e9


def spent(pids: dict[str, int]) -> dict[str, float]:
    """CPU seconds by process; `containers` is for those that run now: it moves to the runner when they end."""
    times = {name: cpu_seconds(pid) for name, pid in pids.items()}
    runners = [pid for name, pid in pids.items() if name.startswith("runner-")]
    return {**times, "containers": sum(map(preparing_seconds, runners))}


def difference(before: dict[str, float], after: dict[str, float]) -> str:
    """The sum, and each share of it that is worth a word."""
    shares = {name: after[name] - before[name] for name in after}
    named = ", ".join(f"{name} {share:.1f}" for name, share in shares.items() if share > 0.05)
    return f"{sum(shares.values()):.1f} CPU s of ours ({named})"


def start(home: Path, *options: str) -> tuple[Cluster, float, str]:
    cluster = Cluster(home, free_port(), free_port())
    began = time.perf_counter()
    done = cluster.kaji(
        "up", "--detach", "--home", str(home), "--port", str(cluster.port), "--gateway-port",
        str(cluster.gateway_port), *options, timeout=300,
    )  # fmt: skip
    return cluster, time.perf_counter() - began, done.stdout


def measure_start(folder: Path) -> None:
    walls: list[float] = []
    for number in range(3):
        cluster, wall, _ = start(folder / f"start{number}", "--ask", "What is Kubernetes?")
        walls.append(wall)
        total = sum(spent(tree(cluster)).values())
        down(cluster)
    print(
        f"kaji up to the end of a first answer (80 tokens): {min(walls):.1f} s best of {len(walls)}; {total:.1f} CPU s of ours"
    )
    best = {
        name: min(child_cpu(command) for _ in range(9))
        for name, command in {
            "python -c pass": [sys.executable, "-c", "pass"],
            "kaji --help": [str(Path(sys.executable).parent / "kaji"), "--help"],
        }.items()
    }
    ratio = best["kaji --help"] / best["python -c pass"]
    print(f"kaji --help: {best['kaji --help'] * 1000:.0f} ms CPU, {ratio:.2f} × python -c pass")


def child_cpu(command: list[str]) -> float:
    """CPU seconds of a command; by rusage, since os.times counts in hundredths."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def measure_idle(folder: Path) -> None:
    cluster, _, _ = start(folder / "idle")
    time.sleep(15)  # start-up work ends
    pids = tree(cluster)
    before, began = spent(pids), time.perf_counter()
    time.sleep(60)
    after, seconds = spent(pids), time.perf_counter() - began
    print(f"idle cluster over {seconds:.0f} s:")
    for name, pid in pids.items():
        resident, proportional = memory_mib(pid)
        share = (after[name] - before[name]) / seconds
        print(
            f"  {name:<14} {share:7.2%} of a core   {resident:6.0f} MiB resident   {proportional:6.0f} MiB proportional"
        )
    share = (sum(after.values()) - sum(before.values())) / seconds
    resident = sum(memory_mib(pid)[0] for pid in pids.values())
    proportional = sum(memory_mib(pid)[1] for pid in pids.values())
    print(
        f"  {'all':<14} {share:7.2%} of a core   {resident:6.0f} MiB resident   {proportional:6.0f} MiB proportional"
    )
    down(cluster)


def ready_count(cluster: Cluster, selector: str) -> int:
    return sum(
        any(
            each["type"] == "Ready" and each["status"] == "True"
            for each in pod["status"].get("conditions") or ()
        )
        for pod in cluster.items("pods", "-l", selector)
    )


def measure_group(folder: Path) -> None:
    cluster, _, _ = start(folder / "group", "--no-model")
    manifest = ROOT / "examples" / "leader-worker-set" / "leader-worker-set.yaml"
    rows: list[tuple[float, float]] = []
    for _ in range(3):
        pids = tree(cluster)
        before, began = sum(spent(pids).values()), time.perf_counter()
        cluster.kaji("apply", "-f", str(manifest))
        wait_until(
            lambda: ready_count(cluster, "leaderworkerset.sigs.k8s.io/name=deepseek-r1-inference") == 16,
            "ready",
        )
        rows.append((time.perf_counter() - began, sum(spent(pids).values()) - before))
        cluster.kaji("delete", "lws", "deepseek-r1-inference")
        wait_until(lambda: not cluster.items("pods"), "gone")
    print(
        f"2 x 8 group, apply to all Ready: {statistics.median(row[0] for row in rows):.1f} s wall, "
        f"{statistics.median(row[1] for row in rows):.2f} CPU s of ours (medians of {len(rows)})"
    )
    down(cluster)


SLEEPERS = """
apiVersion: leaderworkerset.x-k8s.io/v1
kind: LeaderWorkerSet
metadata: {{name: sleepers}}
spec:
  replicas: {groups}
  leaderWorkerTemplate:
    size: 8
    workerTemplate:
      spec:
        terminationGracePeriodSeconds: 0
        containers: [{{name: sleep, image: busybox, command: [sleep, "86400"]}}]
"""


def measure_growth(folder: Path) -> None:
    for groups in (10, 100):
        cluster, _, _ = start(folder / f"growth{groups}", "--no-model", "--node-cpus", "1000")
        pids = tree(cluster)
        before, began = spent(pids), time.perf_counter()
        cluster.apply(SLEEPERS.format(groups=groups))
        wait_until(partial(available, cluster), f"{groups} groups are ready", 580)
        wall = time.perf_counter() - began
        print(f"{groups} groups x 8 sleeping pods: {wall:.1f} s wall, {difference(before, spent(pids))}")
        down(cluster)


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata: {{name: many}}
spec:
  replicas: {pods}
  selector: {{matchLabels: {{app: many}}}}
  template:
    metadata: {{labels: {{app: many}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: sleep, image: busybox, command: [sleep, "86400"]}}]
"""


def measure_many(folder: Path) -> None:
    """A thousand pods of a Deployment on two nodes, three times."""
    pods, rounds = 1_000, 3
    cluster, _, _ = start(folder / "many", "--no-model", "--node-cpus", "1000")
    print_memory("before", pids := tree(cluster))
    for number in range(1, rounds + 1):
        before, began = spent(pids), time.perf_counter()
        cluster.apply(DEPLOYMENT.format(pods=pods))
        wait_until(partial(has_replicas, cluster, pods), "all run", 300)
        made, wall = spent(pids), time.perf_counter() - began
        print(f"round {number}: {pods} pods created: {wall:.1f} s wall, {difference(before, made)}")
        print_memory("  with them", pids)
        began = time.perf_counter()
        cluster.kaji("delete", "deployment", "many")
        wait_until(lambda: not cluster.kaji("get", "pods", "-o", "name").stdout, "all are gone", 300)
        wall = time.perf_counter() - began
        print(f"round {number}: {pods} pods deleted: {wall:.1f} s wall, {difference(made, spent(pids))}")
    time.sleep(65)  # the longest that a process waits before it gives memory back
    print_memory("65 s later", pids)
    down(cluster)


def print_memory(title: str, pids: dict[str, int]) -> None:
    sizes = {name: memory_mib(pid)[0] for name, pid in pids.items()}
    print(f"{title}: MiB resident: " + ", ".join(f"{name} {size:.0f}" for name, size in sizes.items()))


def has_replicas(cluster: Cluster, count: int) -> bool:
    time.sleep(0.5)
    status: dict[str, Any] = cluster.get("deployment", "many").get("status") or {}
    return status.get("availableReplicas") == count


def available(cluster: Cluster) -> bool:
    status: dict[str, Any] = cluster.get("lws", "sleepers").get("status") or {}
    time.sleep(0.5)
    return any(
        each["type"] == "Available" and each["status"] == "True" for each in status.get("conditions") or ()
    )


MEASURES: dict[str, Callable[[Path], None]] = {
    "start": measure_start,
    "idle": measure_idle,
    "group": measure_group,
    "growth": measure_growth,
    "many": measure_many,
}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="kaji-bench-") as scratch:
        for chosen in sys.argv[1:] or MEASURES:
            MEASURES[chosen](Path(scratch))
