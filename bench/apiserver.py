"""The embedded API server beside kube-apiserver + etcd: CPU an operation, rates, memory, start; in one run.

    python -m bench.apiserver [--pods 10000] [--operations 400]

Both run as processes of their own in temporary homes, get the same requests in turn, and their CPU is read from
/proc/PID/task/*/schedstat, so the client's share does not count; it does in the rates, alike on both. etcd runs without
waiting for the disk, which spares it the most that ours cannot be spared. Without Go only ours is measured.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from tools.kubernetes.build import have_go
from tools.kubernetes.control_plane import APISERVER, ETCD, running_control_plane

from kajitori.laptop.apiserver import pki
from kajitori.laptop.apiserver.testing import prepare_home

PODS = "/api/v1/namespaces/default/pods"
DEPLOYMENTS = "/apis/apps/v1/namespaces/default/deployments"


def pod(name: str) -> dict[str, Any]:
    """About 3 kB when stored, as in the comparison."""
    variables = [{"name": f"VARIABLE_{n}", "value": f"value-{n}"} for n in range(6)]
    container = {
        "name": "server",
        "image": "registry.example/server:1.2.3",
        "args": ["--model", "m", "--port", "8000"],
        "env": variables,
        "ports": [{"containerPort": 8000, "name": "http"}],
        "resources": {
            "requests": {"cpu": "100m", "memory": "128Mi"},
            "limits": {"cpu": "1", "memory": "1Gi"},
        },
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 5},
    }
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": "server", "group": "g1"}},
        "spec": {"containers": [container]},
    }


def status_patch(number: int) -> dict[str, Any]:
    now = f"2026-01-01T00:{number // 60 % 60:02}:{number % 60:02}Z"
    return {
        "status": {
            "phase": "Running",
            "podIP": "127.0.5.1",
            "startTime": now,
            "conditions": [
                {"type": kind, "status": "True", "lastTransitionTime": now}
                for kind in ("Initialized", "Ready", "ContainersReady", "PodScheduled")
            ],
            "containerStatuses": [
                {
                    "name": "server",
                    "ready": True,
                    "started": True,
                    "restartCount": 0,
                    "image": "i",
                    "imageID": "i",
                    "state": {"running": {"startedAt": now}},
                }
            ],
        }
    }


def deployment(name: str, number: int) -> dict[str, Any]:
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "labels": labels},
        "spec": {
            "replicas": 1 + number % 5,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {"revision": str(number)}},
                "spec": pod("x")["spec"],
            },
        },
    }


@dataclass(frozen=True)
class Figure:
    """milliseconds: of CPU an operation. rate: operations a second, None where nobody counts it."""

    milliseconds: float
    rate: float | None = None
    note: str = ""


class Server:
    """The processes under test and a client of them. ready_seconds: from start to the first good answer."""

    def __init__(self, url: str, pids: list[int], authority: pki.Authority, ready_seconds: float) -> None:
        self.url = url
        self._pids = pids
        self.ready_seconds = ready_seconds
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=_context(authority), limit=0), read_bufsize=1 << 22
        )

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> bytes:
        data = msgspec.json.encode(body) if body is not None else None
        sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        async with self.session.request(method, self.url + path, data=data, headers=sent) as response:
            content = await response.read()
            if response.status >= 300:
                raise RuntimeError(f"{method} {path}: {response.status} {content[:300]!r}")
            return content

    def cpu_seconds(self) -> float:
        """Of all threads, in nanoseconds inside: clock ticks would be as long as ten operations."""
        total = 0
        for pid in self._pids:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    total += int((thread / "schedstat").read_text().split()[0])
        return total / 1e9

    def resident_mebibytes(self) -> float:
        pages = sum(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in self._pids)
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def _context(authority: pki.Authority) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = authority.client_certificate(pki.ADMIN)
        (Path(folder) / "c").write_bytes(certificate)
        (Path(folder) / "k").write_bytes(key)
        context.load_cert_chain(Path(folder) / "c", Path(folder) / "k")
    return context


@contextlib.asynccontextmanager
async def embedded(home: Path) -> AsyncIterator[Server]:
    prepare_home(home)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "kajitori.laptop.apiserver", "--home", str(home), "--port", str(port)),
        stderr=asyncio.subprocess.DEVNULL,
    )
    server = Server(f"https://127.0.0.1:{port}", [process.pid], pki.Authority(home / "pki"), 0.0)
    try:
        while True:
            try:
                await server.call("GET", "/readyz")
                break
            except aiohttp.ClientError:
                await asyncio.sleep(0.02)
        server.ready_seconds = time.perf_counter() - started
        yield server
    finally:
        await server.session.close()
        process.terminate()
        await process.wait()


@contextlib.asynccontextmanager
async def real(home: Path) -> AsyncIterator[Server]:
    # The first start makes certificates; what is timed is a start like the embedded server's, which has its own.
    with running_control_plane(home, controllers=False, scheduler=False):
        pass
    started = time.perf_counter()
    with running_control_plane(home, controllers=False, scheduler=False) as plane:
        pids = [plane.pids[ETCD], plane.pids[APISERVER]]
        server = Server(plane.server, pids, plane.authority, time.perf_counter() - started)
        try:
            yield server
        finally:
            await server.session.close()


def report(name: str, figures: list[Figure]) -> None:
    ours = figures[0]
    line = f"{name:44} {ours.milliseconds:10.3f} ms CPU"
    if len(figures) > 1:
        theirs = figures[1]
        ratio = ours.milliseconds / theirs.milliseconds if theirs.milliseconds else float("nan")
        line += f" of {theirs.milliseconds:10.3f} = {ratio:5.2f}"
    if ours.rate:
        line += f"   {ours.rate:7.0f}/s"
        if len(figures) > 1 and figures[1].rate:
            line += f" of {figures[1].rate:7.0f} = {ours.rate / figures[1].rate:5.2f}"
    print(f"{line} {ours.note}", flush=True)


async def measure(
    servers: list[Server],
    name: str,
    count: int,
    clients: int,
    one: Callable[[Server, int], Awaitable[Any]],
) -> None:
    figures: list[Figure] = []
    for server in servers:
        numbers = iter(range(count))

        async def client(server: Server = server, numbers: Any = numbers) -> None:
            for number in numbers:
                await one(server, number)

        before, started = server.cpu_seconds(), time.perf_counter()
        await asyncio.gather(*(client() for _ in range(clients)))
        used, wall = server.cpu_seconds() - before, time.perf_counter() - started
        figures.append(Figure(used / count * 1_000, count / wall))
    report(f"{name} @{clients}", figures)


async def writes(servers: list[Server], count: int, clients: int) -> None:
    tag = f"c{clients}"
    strategic = "application/strategic-merge-patch+json"
    apply_type = "application/apply-patch+yaml"
    query = "?fieldManager=bench&force=true"
    names = [f"d{n}" for n in range(20)]

    def applied(server: Server, n: int, number: int) -> Awaitable[bytes]:
        name = names[n % 20]
        return server.call(
            "PATCH", f"{DEPLOYMENTS}/{name}{query}", deployment(name, number), Content_Type=apply_type
        )

    async def reset() -> None:
        for server in servers:
            for n in range(20):
                await applied(server, n, 0)

    await measure(
        servers, "create pod", count, clients, lambda server, n: server.call("POST", PODS, pod(f"{tag}-{n}"))
    )
    await measure(
        servers, "get pod", count, clients, lambda server, n: server.call("GET", f"{PODS}/{tag}-{n}")
    )
    await measure(
        servers,
        "patch pod status",
        count,
        clients,
        lambda server, n: server.call(
            "PATCH", f"{PODS}/{tag}-{n}/status", status_patch(n), Content_Type=strategic
        ),
    )
    await reset()
    await measure(
        servers,
        "apply deployment, changed",
        count,
        clients,
        lambda server, n: applied(server, n, clients * count + n + 1),
    )
    await reset()
    await measure(
        servers, "apply deployment, nothing changed", count, clients, lambda server, n: applied(server, n, 0)
    )


async def fan_out(servers: list[Server], watchers: int, events: int) -> None:
    figures = [await _delivered(server, watchers, events) for server in servers]
    report(f"event to a watcher @{watchers}", figures)


async def _delivered(server: Server, watchers: int, events: int) -> Figure:
    """CPU of delivering events, less that of the writes themselves."""
    received = 0
    enough = asyncio.Event()

    async def version() -> str:
        return msgspec.json.decode(await server.call("GET", PODS + "?limit=1"))["metadata"]["resourceVersion"]

    async def watch(since: str) -> None:
        nonlocal received
        url = f"{server.url}{PODS}?watch=true&resourceVersion={since}"
        async with server.session.get(url) as response:
            async for line in response.content:
                if line:
                    received += 1
                    if received >= watchers * events:
                        enough.set()

    async def write(first: int) -> None:
        for n in range(events):
            await server.call(
                "PATCH",
                f"{PODS}/c1-0/status",
                status_patch(n + first),
                Content_Type="application/strategic-merge-patch+json",
            )

    before = server.cpu_seconds()
    await write(100_000)
    alone = server.cpu_seconds() - before
    since = await version()
    tasks = [asyncio.create_task(watch(since)) for _ in range(watchers)]
    await asyncio.sleep(1.0)
    received = 0
    before, started = server.cpu_seconds(), time.perf_counter()
    await write(200_000)
    await asyncio.wait_for(enough.wait(), 120)
    wall = time.perf_counter() - started
    used = server.cpu_seconds() - before - alone
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return Figure(used / (watchers * events) * 1_000, watchers * events / wall)


async def fill(server: Server, pods: int) -> None:
    have = len(msgspec.json.decode(await server.call("GET", PODS))["items"])
    names = iter(range(max(pods - have, 0)))

    async def some() -> None:
        for n in names:
            await server.call("POST", PODS, pod(f"fill-{n}"))

    await asyncio.gather(*(some() for _ in range(16)))


async def lists(servers: list[Server], pods: int) -> None:
    label = f"{pods:,} pods"
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    plain = {"Accept_Encoding": "identity"}
    for name, query, headers in (
        (f"list {label}", "", plain),
        (f"list {label}, gzip", "", {"Accept_Encoding": "gzip"}),
        (f"list {label} as a table", "", {**plain, "Accept": table}),
        (f"list {label}, metadata only", "", {**plain, "Accept": partial}),
        (f"list {label}, protobuf", "", {**plain, "Accept": "application/vnd.kubernetes.protobuf"}),
        ("list by a label that none has", "?labelSelector=none%3Dx", plain),
    ):
        figures: list[Figure] = []
        times = 20 if "none" in name else 3
        for server in servers:
            await server.call("GET", PODS + query, **headers)
            before, started = server.cpu_seconds(), time.perf_counter()
            size = 0
            for _ in range(times):
                size = len(await server.call("GET", PODS + query, **headers))
            wall = time.perf_counter() - started
            used = (server.cpu_seconds() - before) / times
            figures.append(Figure(used * 1_000, times / wall, f"{size / 1e6:.1f} MB"))
        report(name, figures)
    report(f"list {label} in pages of 500", [await _paged(server, plain) for server in servers])


async def _paged(server: Server, headers: dict[str, str]) -> Figure:
    before, started = server.cpu_seconds(), time.perf_counter()
    following = ""
    while True:
        page = msgspec.json.decode(await server.call("GET", f"{PODS}?limit=500{following}", **headers))
        if "continue" not in page["metadata"]:
            used = server.cpu_seconds() - before
            return Figure(used * 1_000, 1 / (time.perf_counter() - started))
        following = f"&continue={page['metadata']['continue']}"


def in_turn(what: str, values: list[float], unit: str) -> None:
    beside = f" of {values[1]:.2f} = {values[0] / values[1]:.2f}" if len(values) > 1 else ""
    print(f"{what:44} {values[0]:10.2f} {unit}{beside}", flush=True)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--operations", type=int, default=400)
    options = parser.parse_args()
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = [await stack.enter_async_context(embedded(folder / "embedded"))]
        if have_go():
            servers.append(await stack.enter_async_context(real(folder / "real")))
        in_turn("start to ready", [server.ready_seconds for server in servers], "s")
        for server in servers:
            await server.call(
                "POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}}
            )
        for clients in (1, 8, 32):
            await writes(servers, options.operations, clients)
        await fan_out(servers, 50, 400)
        for server in servers:
            await fill(server, options.pods)
        await asyncio.sleep(5)
        in_turn(
            f"resident with {options.pods:,} pods", [server.resident_mebibytes() for server in servers], "MiB"
        )
        await lists(servers, options.pods)
        in_turn("resident after the lists", [server.resident_mebibytes() for server in servers], "MiB")
        idle = [server.cpu_seconds() for server in servers]
        await asyncio.sleep(5)
        used = [(server.cpu_seconds() - before) * 20 for server, before in zip(servers, idle, strict=True)]
        print(f"idle, % of a core: {', '.join(f'{value:.1f}' for value in used)}")


if __name__ == "__main__":
    asyncio.run(main())
