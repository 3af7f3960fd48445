"""What the gateway costs, beside a plain Envoy and routers of others in the same run.

    python -m bench.gateway [--requests 20000] [--streams 1000] [--rounds 2] [--parts cpu latency streams change]

One Envoy worker; providers and clients are processes of their own and do not count (`bench.gateway_load`). The configurations
take turns, so that a busy machine touches all alike; the ratio to the plain proxy is the figure to compare between machines.

- `cpu`: CPU of Envoy and of the accountant, microseconds a request, from the clocks of the processes. JSON: a prompt of 1 KB (and of 32 KB), an
  answer with usage, 32 connections. Streams: 50 events, 2 ms apart, 64 connections.
- `latency`: milliseconds that each adds to a request of 1 KB at 50 requests a second, sent at fixed times.
- `streams`: KiB of memory (Pss) that each of `--open` streams takes while it is open.
- `change`: 1,000 routes with three backends each: a changed route until an answer shows it, and CPU while nothing happens.

"API key": clients need a key of the 1,000 that there are; the model chooses the route, usage is read, a cost computed, one record
written. "budget": the same under a strict Budget, reserved of before a request passes and settled after it; "soft budget": under one
that is not strict, and not used up. Peers: vllm-router and smg
go round robin over two workers; smg checks one key. Neither looks at the model, keeps records or counts tokens for a budget.
The control plane is this process; it does nothing for a request.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # this process starts others

import msgspec
import uvloop

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.gateway.keys.objects import api_key, asking, key_text  # noqa: E402
from tests.gateway.workbench import (  # noqa: E402
    Workbench,
    ai_route,
    backend,
    free_port,
    gateway,
    key_policy,
    observe,
    running_workbench,
)
from tools.peers.routers import install, vllm_router  # noqa: E402

from kajitori.app.daemon import stop_on_signals  # noqa: E402
from kajitori.gateway.accountant import Accountant  # noqa: E402
from kajitori.gateway.accounting.places import Places  # noqa: E402
from kajitori.gateway.accounting.policy_delivery import PolicyServer, local_channel  # noqa: E402
from kajitori.gateway.backends.clusters import plain_cluster  # noqa: E402
from kajitori.gateway.backends.targets import Target  # noqa: E402
from kajitori.gateway.envoy.server import ControlPlane  # noqa: E402
from kajitori.gateway.garbage_collector import collector_paused  # noqa: E402
from kajitori.gateway.limits.opening import open_engine  # noqa: E402
from kajitori.gateway.plan import make_plan  # noqa: E402
from kajitori.gateway.plan_memory import PlanMemory  # noqa: E402
from kajitori.gateway.resources import CLUSTER, LISTENER, ROUTES, TYPE, Resources  # noqa: E402, TYPE

_CPU_CLOCK = 2  # CPUCLOCK_SCHED, of clock_getcpuclockid(3)
JSON, JSON_32_KB = "json", "json, 32 KB"
KINDS = (JSON, JSON_32_KB, "stream", "stream, usage asked for")
KEYS = 1_000
PLAIN = "plain Envoy"
PARTS = ("cpu", "latency", "streams", "change")
BIG_ROUTES = 1_000


class Bench(Workbench):
    """A workbench whose accountant is a process, as it is everywhere else."""

    def _make_control_plane(self) -> None:
        super()._make_control_plane()
        self.policies = PolicyServer()
        self.control_plane = ControlPlane(self.ads, self.policies)

    def start_reading(self) -> None:
        self._reading = asyncio.create_task(asyncio.Event().wait())  # nobody reads in this process
        self.accountant = subprocess.Popen(
            [sys.executable, "-m", "bench.gateway", "--account", str(self.folder)], cwd=ROOT
        )

    async def close(self) -> None:
        self.accountant.kill()
        self.accountant.wait()
        await super().close()


async def account(folder: Path) -> None:
    """What `kajitori.app.accountant` runs."""
    places = Places(
        folder / "ledger",
        folder / "access.log",
        folder / "accountant.sock",
        folder / "admin.sock",
        folder / "rescue.sock",
        folder / "inner.sock",
    )
    places.folder.mkdir()
    engine = open_engine(places.folder, used_up=places.used_up)
    try:
        await Accountant(places, lambda: local_channel(folder / "ads.sock"), engine).run(stop_on_signals())
    finally:
        await engine.close()


async def answering(port: int) -> None:
    """Waits until something listens there."""
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.close()
        return


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process. Its clock is finer than /proc, which counts in 10 ms: 17 µs of each of 600 streams."""
    return time.clock_gettime((~pid << 3) | _CPU_CLOCK)


def plain_resources(port: int, upstream: int) -> Resources:
    """A listener and a route, and nothing else."""
    manager = {
        "@type": TYPE + "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "plain",
        "rds": {"route_config_name": "plain", "config_source": {"ads": {}, "resource_api_version": "V3"}},
        "http_filters": [
            {
                "name": "router",
                "typed_config": {"@type": TYPE + "envoy.extensions.filters.http.router.v3.Router"},
            }
        ],
    }
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    chain = {"filters": [{"name": "hcm", "typed_config": manager}]}
    route = {"name": "all", "match": {"prefix": "/"}, "route": {"cluster": "plain", "timeout": "0s"}}
    return Resources(
        {
            CLUSTER: {"plain": plain_cluster("plain", Target("STATIC", (("127.0.0.1", upstream, ""),)))},
            LISTENER: {"plain": {"name": "plain", "address": address, "filter_chains": [chain]}},
            ROUTES: {
                "plain": {
                    "name": "plain",
                    "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
                }
            },
        }
    )


BUDGET: dict[str, Any] = {
    "kind": "Budget",
    "metadata": {"name": "month"},
    "spec": {"amount": {"tokens": 10**15}, "window": {"calendar": {"unit": "Month"}}, "routes": ["limited"]},
}
SOFT_BUDGET = {
    "kind": "Budget",
    "metadata": {"name": "soft"},
    "spec": {**BUDGET["spec"], "strict": False, "routes": ["soft"]},
}
COSTS = [{"metadataKey": "cost", "type": "CEL", "cel": "input_tokens / uint(3) + output_tokens"}]


class Proxy(NamedTuple):
    """One way to the provider. processes: that serve it, the proxy's first."""

    name: str
    port: int
    token: str
    processes: tuple[int, ...]


class Ports(NamedTuple):
    plain: int
    open: int
    keyed: int
    limited: int
    soft: int


def configure(bench: Bench, ports: Ports, upstream: int, models: int) -> None:
    documents: list[Any] = [gateway(ports.open), *backend("a", upstream), *key_policy("a", "secret")]
    for name, port in (("keyed", ports.keyed), ("limited", ports.limited), ("soft", ports.soft)):
        parents = [{"name": name}]
        documents += [asking(gateway(port, name))]
        documents += [ai_route(name, "m", {"name": "a"}, llmRequestCosts=COSTS, parentRefs=parents)]
    documents += [BUDGET, SOFT_BUDGET]
    documents += [ai_route(f"r{n}", f"model-{n}", {"name": "a"}) for n in range(models - 1)]
    documents.append(ai_route("route", "m", {"name": "a"}, llmRequestCosts=COSTS))
    documents += [api_key(f"key{number:05}", models=["m"]) for number in range(KEYS)]
    plan = make_plan(observe(*documents, access_log=str(bench.access_log)))
    bench.policies.configure(plan.policy)
    bench.set_resources("gateway", plan.resources)


def body_of(kind: str) -> str:
    messages = [{"role": "user", "content": "word " * 190}]
    if kind == JSON_32_KB:  # a conversation, in which lines and quotes are escaped
        messages = [{"role": "user", "content": ("word " * 14 + '"word"\n') * 11}] * 36
    body: dict[str, Any] = {"model": "m", "messages": messages}
    if not kind.startswith(JSON):
        body["stream"] = True
    if kind == "stream, usage asked for":
        body["stream_options"] = {"include_usage": True}
    if kind == "held":
        body["hold"] = True
    return json.dumps(body)


def helper(*words: Any) -> list[str]:
    return [sys.executable, "-m", "bench.gateway_load", *map(str, words)]


async def output_of(*words: Any) -> str:
    process = await asyncio.create_subprocess_exec(*helper(*words), cwd=ROOT, stdout=subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, words
    return output.decode()


async def measure(proxy: Proxy, kind: str, count: int) -> list[float]:
    """Microseconds a request of each process."""
    before = [cpu_seconds(pid) for pid in proxy.processes]
    connections = 32 if kind.startswith(JSON) else 64
    await output_of("load", proxy.port, body_of(kind), count, connections, proxy.token)
    await asyncio.sleep(1.0)  # the last batches arrive and are stored
    after = [cpu_seconds(pid) for pid in proxy.processes]
    return [(end - begin) / count * 1e6 for begin, end in zip(before, after, strict=True)]


async def measure_cpu(proxies: list[Proxy], options: argparse.Namespace) -> None:
    results: dict[tuple[str, str], list[list[float]]] = {}
    for _ in range(options.rounds + 1):  # the first one warms up
        for kind in (options.only,) if options.only else KINDS:
            for proxy in proxies:
                count = options.requests if kind.startswith(JSON) else options.streams
                results.setdefault((kind, proxy.name), []).append(await measure(proxy, kind, count))
    print(f"\nCPU, µs a request, median of {options.rounds} rounds")
    print(f"{'':26}{'':14}{'proxy':>9}{'Python':>9}{'sum':>9}{'to plain':>10}")
    for (kind, name), rounds in results.items():
        figures = [statistics.median(column) for column in zip(*rounds[1:], strict=True)]
        plain = statistics.median(item[0] for item in results[kind, PLAIN][1:])
        python = f"{figures[1]:.1f}" if len(figures) > 1 else ""
        print(
            f"{kind:26}{name:14}{figures[0]:9.1f}{python:>9}{sum(figures):9.1f}{sum(figures) / plain:10.2f}"
        )


async def measure_latency(proxies: list[Proxy], upstream: int, seconds: float) -> None:
    named = [("direct", upstream, "client"), *((item.name, item.port, item.token) for item in proxies)]
    targets = [word for _, port, token in named for word in (port, token)]
    took: list[list[float]] = json.loads(await output_of("latency", seconds, 50, body_of(JSON), *targets))
    direct: list[float] = []
    print(f"\nAdded latency, ms, 1 KB JSON at 50 requests/s to each for {seconds:g} s")
    print(f"{'':16}{'p50':>8}{'p99':>8}")
    for (name, _, _), times in zip(named, took, strict=True):
        quantiles = statistics.quantiles(times, n=100)
        found = [quantiles[49] * 1e3, quantiles[98] * 1e3]
        if not direct:
            direct = found
            print(f"{name:16}{found[0]:8.2f}{found[1]:8.2f}   by itself")
        else:
            print(f"{name:16}{found[0] - direct[0]:8.2f}{found[1] - direct[1]:8.2f}")


def pss_kib(pid: int) -> int:
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(text.partition("\nPss:")[2].split()[0])


async def measure_streams(proxies: list[Proxy], count: int) -> None:
    """Each proxy once: what a process took for its first streams it keeps for later ones."""
    print(f"\nMemory of {count} open streams, KiB each")
    seen: set[int] = set()
    for proxy in proxies:
        pid = proxy.processes[0]
        if pid in seen:
            continue
        seen.add(pid)
        before = pss_kib(pid)
        words = helper("hold", proxy.port, body_of("held"), count, proxy.token)
        process = await asyncio.create_subprocess_exec(
            *words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert process.stdin and process.stdout
        told = await process.stdout.readline()
        print(
            f"{proxy.name:16}{(pss_kib(pid) - before) / count:8.1f}{'' if told else '   not all were opened'}"
        )
        process.stdin.close()
        await process.wait()
        await asyncio.sleep(1.0)


def answer_is(port: int, model: str) -> bool:
    """Whether a request for a model is answered with 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    body = json.dumps({"model": model, "messages": []})
    connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
    found = connection.getresponse().status == 200
    connection.close()
    return found


async def measure_change(bench: Bench, port: int, upstream: int, changes: int) -> None:
    """From a changed object as an informer shows it to the first answer by it. Settings of the others stay."""
    documents: list[Any] = [gateway(port)]
    for number in range(BIG_ROUTES):
        names = [f"b{number}-{place}" for place in range(3)]
        documents += [item for name in names for item in backend(name, upstream)]
        documents.append(ai_route(f"r{number}", f"model-{number}", *({"name": name} for name in names)))
    memory = PlanMemory()
    observed = observe(*documents, access_log=str(bench.access_log))
    with collector_paused():
        bench.set_resources("gateway", make_plan(observed, memory=memory).resources)
    loop = asyncio.get_running_loop()
    while not await loop.run_in_executor(None, answer_is, port, "model-7"):
        await asyncio.sleep(0.1)
    took: list[float] = []
    for turn in range(changes):
        changed = observe(ai_route("r7", f"changed-{turn}", *({"name": f"b7-{place}"} for place in range(3))))
        routes = tuple(
            changed.ai_routes[0] if item.metadata.name == "r7" else item for item in observed.ai_routes
        )
        observed = msgspec.structs.replace(observed, ai_routes=routes)
        began = loop.time()
        with collector_paused():
            bench.set_resources("gateway", make_plan(observed, memory=memory).resources)
        while not await loop.run_in_executor(None, answer_is, port, f"changed-{turn}"):
            await asyncio.sleep(0.001)
        took.append((loop.time() - began) * 1e3)
    assert bench.envoy is not None
    pids = {"Envoy": bench.envoy.pid, "control plane": os.getpid(), "accountant": bench.accountant.pid}
    await asyncio.sleep(3.0)
    before = {name: cpu_seconds(pid) for name, pid in pids.items()}
    await asyncio.sleep(10.0)
    idle = ", ".join(f"{name} {(cpu_seconds(pid) - before[name]) * 1e3:.0f}" for name, pid in pids.items())
    print(f"\n{BIG_ROUTES} routes with 3 backends each")
    print(
        f"change of a route to its first answer: median {statistics.median(took):.0f} ms, most {max(took):.0f}"
        f" ms, of {changes}"
    )
    print(f"CPU over 10 idle seconds, ms: {idle}")


@contextlib.asynccontextmanager
async def peers(upstreams: list[int]) -> AsyncIterator[list[Proxy]]:
    """Routers of other projects over two workers, those that can be started."""
    programs = install()
    started: list[subprocess.Popen[bytes]] = []
    found: list[Proxy] = []
    urls = [f"http://127.0.0.1:{port}" for port in upstreams]
    own = [str(programs / "smg"), "launch", "--api-key", "k", "--policy", "round_robin"]
    try:
        for name, words in (("vllm-router", vllm_router(programs, 0, [])), ("smg", own)):
            port = free_port()
            words = [str(port) if word == "0" else word for word in words if word != "--worker-urls"]
            words += ["--worker-urls", *urls, "--prometheus-port", str(free_port())]
            words += ["--max-concurrent-requests", "20000"]  # as many streams as are held open
            if name == "smg":
                words += ["--host", "127.0.0.1", "--port", str(port)]
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            started.append(process)
            proxy = Proxy(name, port, "k", (process.pid,))
            try:
                async with asyncio.timeout(60):
                    await answering(port)
                    loop = asyncio.get_running_loop()
                    while not await loop.run_in_executor(None, peer_is_ready, proxy):
                        await asyncio.sleep(0.2)
                found.append(proxy)
            except TimeoutError:
                print(f"{name} did not become ready and is left out")
        yield found
    finally:
        for process in started:
            process.kill()
            process.wait()


def peer_is_ready(proxy: Proxy) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=5)
        headers = {"content-type": "application/json", "authorization": f"Bearer {proxy.token}"}
        connection.request("POST", "/v1/chat/completions", body_of(JSON), headers)
        return connection.getresponse().status == 200
    except OSError:
        return False


async def run(options: argparse.Namespace) -> None:
    upstream, second = free_port(), free_port()
    ports = Ports(*(free_port() for _ in Ports._fields))
    key = key_text("key00000")
    parts = options.parts
    async with contextlib.AsyncExitStack() as stack:
        for port in (upstream, second):
            provider = subprocess.Popen(helper("provide", port), cwd=ROOT)
            stack.callback(provider.kill)
            await answering(port)
        bench = await stack.enter_async_context(running_workbench(("gateway", "plain"), Bench))
        assert isinstance(bench, Bench)
        configure(bench, ports, upstream, options.models)
        bench.set_resources("plain", plain_resources(ports.plain, upstream))
        await bench.settled()
        assert bench.envoy is not None
        ours = (bench.envoy.pid, bench.accountant.pid)
        others: list[Proxy] = []
        if options.peers:
            others = await stack.enter_async_context(peers([upstream, second]))
        keyed = Proxy("API key", ports.keyed, key, ours)
        proxies = [Proxy(PLAIN, ports.plain, "client", ours[:1]), Proxy("no key", ports.open, "client", ours)]
        proxies += [keyed, Proxy("budget", ports.limited, key, ours)]
        proxies += [Proxy("soft budget", ports.soft, key, ours), *others]
        print(f"load of the machine: {' '.join(Path('/proc/loadavg').read_text().split()[:3])}")
        if "streams" in parts:  # first: while little of the memory that Envoy has taken is free
            await measure_streams([keyed, *others], options.open)
        if "latency" in parts:
            await measure_latency(proxies, upstream, options.seconds)
        if "cpu" in parts:
            await measure_cpu(proxies, options)
        if "change" in parts:
            await measure_change(bench, ports.open, upstream, 20)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=KINDS, help="one kind of request, for cpu")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--open", type=int, default=5_000, help="open streams")
    parser.add_argument("--seconds", type=float, default=20.0, help="for latency")
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--models", type=int, default=1, help="routes in front of the one that is asked for")
    parser.add_argument("--account", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    uvloop.run(account(options.account) if options.account else run(options))


if __name__ == "__main__":
    main()
