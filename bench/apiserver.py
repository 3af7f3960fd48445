"""CPU seconds of the embedded API server an operation, beside what kube-apiserver and etcd take.

    python bench/apiserver.py [--pods 10000] [--operations 400]

Starts the server as a process of its own in a temporary home and reads its CPU from /proc/<pid>/stat, so the
clients' share does not count. The right column is kube-apiserver + etcd 1.36 on the machine where the figures in
`docs/` were taken; the target is at most half of it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import ssl
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec

from kajitori.laptop.apiserver import pki
from kajitori.laptop.apiserver.testing import prepare_home

TICKS = os.sysconf("SC_CLK_TCK")
REAL_MILLISECONDS = {
    "create pod": 5.9,
    "apply deployment, changed": 10.8,
    "patch pod status": 8.8,
    "get pod": 2.9,
    "event to a watcher": 0.2,
    "list 10,000 pods": 1_130.0,
    "list 10,000 pods, gzip": 780.0,
    "list 10,000 pods as a table": 740.0,
    "list 10,000 pods, metadata only": 360.0,
    "list 10,000 pods in pages of 500": 900.0,
    "list by a label that none has": 14.0,
}
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


class Server:
    """The process under test and a client of it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"https://127.0.0.1:{self.port}"
        self.process: asyncio.subprocess.Process
        self.session: aiohttp.ClientSession

    async def start(self) -> None:
        prepare_home(self.home)
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "kajitori.laptop.apiserver", "--home", str(self.home), "--port", str(self.port)),
            stderr=asyncio.subprocess.DEVNULL,
        )
        authority = pki.Authority(self.home / "pki")
        certificate, key = authority.client_certificate(pki.ADMIN)
        (self.home / "c").write_bytes(certificate)
        (self.home / "k").write_bytes(key)
        context = ssl.create_default_context(cadata=authority.certificate.decode())
        context.load_cert_chain(self.home / "c", self.home / "k")
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        self.session = aiohttp.ClientSession(connector=connector, read_bufsize=1 << 22)
        while True:
            try:
                await self.call("GET", "/readyz")
                return
            except aiohttp.ClientError:
                await asyncio.sleep(0.05)

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> bytes:
        data = msgspec.json.encode(body) if body is not None else None
        sent = {"Content-Type": "application/json", **{k.replace("_", "-"): v for k, v in headers.items()}}
        async with self.session.request(method, self.url + path, data=data, headers=sent) as response:
            content = await response.read()
            if response.status >= 300:
                raise RuntimeError(f"{method} {path}: {response.status} {content[:300]}")
            return content

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def resident_mebibytes(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)

    async def stop(self) -> None:
        await self.session.close()
        self.process.terminate()
        await self.process.wait()


def report(name: str, milliseconds: float, rate: float | None = None, extra: str = "") -> None:
    real = REAL_MILLISECONDS.get(name.split(" @")[0])
    beside = f"{milliseconds / real:6.2f} of {real:g}" if real else ""
    speed = f"{rate:8.0f}/s" if rate else ""
    print(f"{name:44} {milliseconds:10.3f} ms CPU {speed:>10} {beside:>18} {extra}")


async def measure(
    server: Server, name: str, count: int, clients: int, one: Callable[[int], Awaitable[Any]]
) -> None:
    numbers = iter(range(count))

    async def client() -> None:
        for number in numbers:
            await one(number)

    before, started = server.cpu_seconds(), time.perf_counter()
    await asyncio.gather(*(client() for _ in range(clients)))
    used, wall = server.cpu_seconds() - before, time.perf_counter() - started
    report(f"{name} @{clients}", used / count * 1_000, count / wall)


async def writes(server: Server, count: int, clients: int) -> None:
    tag = f"c{clients}"
    await measure(
        server, "create pod", count, clients, lambda n: server.call("POST", PODS, pod(f"{tag}-{n}"))
    )
    await measure(server, "get pod", count, clients, lambda n: server.call("GET", f"{PODS}/{tag}-{n}"))
    await measure(
        server,
        "patch pod status",
        count,
        clients,
        lambda n: server.call(
            "PATCH",
            f"{PODS}/{tag}-{n}/status",
            status_patch(n),
            Content_Type="application/strategic-merge-patch+json",
        ),
    )
    query = "?fieldManager=bench&force=true"
    apply_type = "application/apply-patch+yaml"
    names = [f"d{n}" for n in range(20)]
    for name in names:
        await server.call(
            "PATCH", f"{DEPLOYMENTS}/{name}{query}", deployment(name, 0), Content_Type=apply_type
        )
    await measure(
        server,
        "apply deployment, changed",
        count,
        clients,
        lambda n: server.call(
            "PATCH",
            f"{DEPLOYMENTS}/{names[n % 20]}{query}",
            deployment(names[n % 20], clients * count + n + 1),
            Content_Type=apply_type,
        ),
    )
    for name in names:
        await server.call(
            "PATCH", f"{DEPLOYMENTS}/{name}{query}", deployment(name, 0), Content_Type=apply_type
        )
    await measure(
        server,
        "apply deployment, nothing changed",
        count,
        clients,
        lambda n: server.call(
            "PATCH",
            f"{DEPLOYMENTS}/{names[n % 20]}{query}",
            deployment(names[n % 20], 0),
            Content_Type=apply_type,
        ),
    )


async def fan_out(server: Server, watchers: int, events: int) -> None:
    received = 0
    enough = asyncio.Event()

    async def watch() -> None:
        nonlocal received
        url = f"{server.url}{PODS}?watch=true&resourceVersion={version}"
        async with server.session.get(url) as response:
            async for line in response.content:
                if line:
                    received += 1
                    if received >= watchers * events:
                        enough.set()

    version = msgspec.json.decode(await server.call("GET", PODS + "?limit=1"))["metadata"]["resourceVersion"]
    name = "c1-0"

    async def write() -> None:
        for n in range(events):
            await server.call(
                "PATCH",
                f"{PODS}/{name}/status",
                status_patch(n + 100_000),
                Content_Type="application/strategic-merge-patch+json",
            )

    before = server.cpu_seconds()
    await write()
    alone = server.cpu_seconds() - before
    version = msgspec.json.decode(await server.call("GET", PODS + "?limit=1"))["metadata"]["resourceVersion"]
    tasks = [asyncio.create_task(watch()) for _ in range(watchers)]
    await asyncio.sleep(1.0)
    received = 0
    before = server.cpu_seconds()
    for n in range(events):
        await server.call(
            "PATCH",
            f"{PODS}/{name}/status",
            status_patch(n + 200_000),
            Content_Type="application/strategic-merge-patch+json",
        )
    await asyncio.wait_for(enough.wait(), 60)
    used = server.cpu_seconds() - before - alone
    report("event to a watcher @50", used / (watchers * events) * 1_000)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def lists(server: Server, pods: int) -> None:
    have = len(msgspec.json.decode(await server.call("GET", PODS))["items"])
    names = iter(range(max(pods - have, 0)))

    async def fill() -> None:
        for n in names:
            await server.call("POST", PODS, pod(f"fill-{n}"))

    await asyncio.gather(*(fill() for _ in range(16)))
    label = f"{pods:,} pods"
    table = "application/json;as=Table;v=v1;g=meta.k8s.io"
    partial = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    plain = {"Accept_Encoding": "identity"}
    for name, query, headers in (
        (f"list {label}", "", plain),
        (f"list {label}, gzip", "", {"Accept_Encoding": "gzip"}),
        (f"list {label} as a table", "", {**plain, "Accept": table}),
        (f"list {label}, metadata only", "", {**plain, "Accept": partial}),
        ("list by a label that none has", "?labelSelector=none%3Dx", plain),
    ):
        await server.call("GET", PODS + query, **headers)
        before = server.cpu_seconds()
        for _ in range(3):
            body = await server.call("GET", PODS + query, **headers)
        report(name, (server.cpu_seconds() - before) / 3 * 1_000, extra=f"{len(body) / 1e6:.1f} MB")
    before = server.cpu_seconds()
    following = ""
    while True:
        page = msgspec.json.decode(await server.call("GET", f"{PODS}?limit=500{following}", **plain))
        if "continue" not in page["metadata"]:
            break
        following = f"&continue={page['metadata']['continue']}"
    report(f"list {label} in pages of 500", (server.cpu_seconds() - before) * 1_000)


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pods", type=int, default=10_000)
    parser.add_argument("--operations", type=int, default=400)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder))
        started = time.perf_counter()
        await server.start()
        print(
            f"ready after {time.perf_counter() - started:.2f} s, {server.cpu_seconds():.2f} s CPU, "
            f"{server.resident_mebibytes():.0f} MiB"
        )
        try:
            await server.call(
                "POST", "/api/v1/namespaces/default/serviceaccounts", {"metadata": {"name": "default"}}
            )
            for clients in (1, 32):
                await writes(server, options.operations, clients)
            await fan_out(server, 50, 500)
            await lists(server, options.pods)
            print(f"resident with {options.pods:,} pods: {server.resident_mebibytes():.0f} MiB")
            before = server.cpu_seconds()
            await asyncio.sleep(5)
            print(f"idle: {(server.cpu_seconds() - before) / 5 * 100:.2f} % of a core")
        finally:
            await server.stop()


if __name__ == "__main__":
    asyncio.run(main())
