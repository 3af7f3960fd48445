"""CPU of the gateway for each request: Envoy's and its accountant's, beside a plain Envoy in the same run.

    python bench/gateway.py [--requests 20000] [--streams 1000] [--rounds 2]

One Envoy worker; providers and clients are processes of their own and do not count. JSON: a prompt of 1 KB (and of 32 KB), an answer
with usage, 32 connections. Streams: 50 events, 2 ms apart, 64 connections. CPU is read from /proc/<pid>/stat. The
configurations take turns, so that a busy machine touches all alike; the ratio to the plain proxy is the figure to
compare between machines. "budget" is the gateway where a strict Budget is reserved of before a request passes and settled after
it, "API key" where clients need a key of 1,000 that there are. The control plane is this process; it does nothing for a request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")  # this process starts others

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

from kajitori.app.daemon import stop_on_signals  # noqa: E402
from kajitori.gateway.accountant import Accountant  # noqa: E402
from kajitori.gateway.accounting.places import Places  # noqa: E402
from kajitori.gateway.accounting.policy_delivery import PolicyServer, local_channel  # noqa: E402
from kajitori.gateway.backends.clusters import plain_cluster  # noqa: E402
from kajitori.gateway.backends.targets import Target  # noqa: E402
from kajitori.gateway.envoy.server import ControlPlane  # noqa: E402
from kajitori.gateway.limits.opening import open_engine  # noqa: E402
from kajitori.gateway.plan import make_plan  # noqa: E402
from kajitori.gateway.resources import CLUSTER, LISTENER, ROUTES, TYPE, Resources  # noqa: E402

TICKS = os.sysconf("SC_CLK_TCK")
JSON, JSON_32_KB = "json", "json, 32 KB"
KINDS = (JSON, JSON_32_KB, "stream", "stream, usage asked for")
KEYS = 1_000
EVENTS = 50
EVENT_SECONDS = 0.002
USAGE = {"prompt_tokens": 250, "completion_tokens": 50, "total_tokens": 300}
ANSWER = json.dumps(
    {"id": "x", "object": "chat.completion", "model": "m", "usage": USAGE,
     "choices": [{"index": 0, "message": {"role": "assistant", "content": "word " * 40}, "finish_reason": "stop"}]}
).encode()  # fmt: skip
ANSWER = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(ANSWER) + ANSWER
)
EVENT = {"id": "x", "object": "chat.completion.chunk", "model": "m",
         "choices": [{"index": 0, "delta": {"content": "word "}, "finish_reason": None}]}  # fmt: skip
LAST = {"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [], "usage": USAGE}


class Bench(Workbench):
    """A workbench whose accountant is a process, as it is everywhere else."""

    def _make_control_plane(self) -> None:
        super()._make_control_plane()
        self.policies = PolicyServer()
        self.control_plane = ControlPlane(self.ads, self.policies)

    def start_reading(self) -> None:
        self._reading = asyncio.create_task(asyncio.Event().wait())  # nobody reads in this process
        self.accountant = subprocess.Popen([sys.executable, __file__, "--account", str(self.folder)])

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
    engine = open_engine(places.folder)
    try:
        await Accountant(places, lambda: local_channel(folder / "ads.sock"), engine).run(stop_on_signals())
    finally:
        await engine.close()


def chunked(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Provider(asyncio.Protocol):
    """Answers as soon as the body is whole."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.data = b""

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
        if not found or len(body) < length:
            return
        self.data = body[length:]
        if b'"stream": true' not in body:
            self.transport.write(ANSWER)
            return
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self.event(EVENTS, b"include_usage" in body)

    def event(self, left: int, usage: bool) -> None:
        if left:
            self.transport.write(chunked(b"data: " + json.dumps(EVENT).encode() + b"\n\n"))
            asyncio.get_running_loop().call_later(EVENT_SECONDS, self.event, left - 1, usage)
            return
        if usage:
            self.transport.write(chunked(b"data: " + json.dumps(LAST).encode() + b"\n\n"))
        self.transport.write(chunked(b"data: [DONE]\n\n") + b"0\r\n\r\n")


async def provide(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Provider, "127.0.0.1", port)
    await server.serve_forever()


class Client(asyncio.Protocol):
    """Asks again as soon as the answer is whole, until none is left."""

    def __init__(self, request: bytes, left: list[int], done: asyncio.Event) -> None:
        self.request, self.left, self.done = request, left, done

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.ask()

    def ask(self) -> None:
        self.data = b""
        if self.left[0] <= 0:
            self.transport.close()
            return
        self.left[0] -= 1
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return
        assert head.startswith(b"HTTP/1.1 200"), self.data
        length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
        if (length and len(body) >= int(length)) or (not length and self.data.endswith(b"0\r\n\r\n")):
            self.left[1] -= 1
            if self.left[1] == 0:
                self.done.set()
            self.ask()


async def load(port: int, body: bytes, count: int, connections: int, token: str) -> None:
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {token}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    left, done = [count, count], asyncio.Event()
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Client(head.encode() + body, left, done), "127.0.0.1", port)
    await done.wait()


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
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(field) for field in fields[11:13]) / TICKS


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


BUDGET = {
    "kind": "Budget",
    "metadata": {"name": "month"},
    "spec": {"amount": {"tokens": 10**15}, "window": {"calendar": {"unit": "Month"}}, "routes": ["limited"]},
}


def configure(
    bench: Bench, port: int, keyed_port: int, limited_port: int, upstream: int, models: int
) -> None:
    documents: list[Any] = [gateway(port), *backend("a", upstream), *key_policy("a", "secret")]
    limited = ai_route("limited", "m", {"name": "a"}, parentRefs=[{"name": "limited"}])
    documents += [gateway(limited_port, "limited"), limited, BUDGET]
    documents += [ai_route(f"r{n}", f"model-{n}", {"name": "a"}) for n in range(models - 1)]
    costs = [{"metadataKey": "cost", "type": "CEL", "cel": "input_tokens / uint(3) + output_tokens"}]
    documents.append(ai_route("route", "m", {"name": "a"}, llmRequestCosts=costs))
    keyed = ai_route("keyed", "m", {"name": "a"}, llmRequestCosts=costs, parentRefs=[{"name": "keyed"}])
    documents += [asking(gateway(keyed_port, "keyed")), keyed]
    documents += [api_key(f"key{number:05}", models=["m"]) for number in range(KEYS)]
    plan = make_plan(observe(*documents, access_log=str(bench.access_log)))
    bench.policies.configure(plan.policy)
    bench.set_resources("gateway", plan.resources)


async def measure(bench: Bench, port: int, kind: str, count: int, token: str) -> tuple[float, float]:
    """Microseconds a request of Envoy and of the accountant."""
    content = "word " * 190
    messages = [{"role": "user", "content": content}]
    if kind == JSON_32_KB:  # a conversation, in which lines and quotes are escaped
        messages = [{"role": "user", "content": ("word " * 14 + '"word"\n') * 11}] * 36
    body: dict[str, Any] = {"model": "m", "messages": messages}
    connections = 32
    if kind not in (JSON, JSON_32_KB):
        body["stream"] = True
        connections = 64
        if kind == "stream, usage asked for":
            body["stream_options"] = {"include_usage": True}
    load_options = [str(port), json.dumps(body), str(count), str(connections), token]
    command = [sys.executable, __file__, "--load", *load_options]
    assert bench.envoy is not None
    envoy, ours = cpu_seconds(bench.envoy.pid), cpu_seconds(bench.accountant.pid)
    process = await asyncio.create_subprocess_exec(*command)
    assert await process.wait() == 0
    await asyncio.sleep(1.0)  # the last batches arrive and are stored
    envoy = cpu_seconds(bench.envoy.pid) - envoy
    ours = cpu_seconds(bench.accountant.pid) - ours
    return envoy / count * 1e6, ours / count * 1e6


async def run(options: argparse.Namespace) -> None:
    upstream, plain_port, limited_port, keyed_port = (free_port() for _ in range(4))
    key = key_text("key00000")
    provider = subprocess.Popen([sys.executable, __file__, "--provide", str(upstream)])
    try:
        async with running_workbench(("gateway", "plain"), Bench) as bench:
            assert isinstance(bench, Bench)
            configure(bench, bench.port, keyed_port, limited_port, upstream, options.models)
            bench.set_resources("plain", plain_resources(plain_port, upstream))
            await bench.settled()
            await answering(upstream)
            results: dict[tuple[str, str], list[tuple[float, float]]] = {}
            for _ in range(options.rounds + 1):
                for kind in KINDS if not options.only else (options.only,):
                    count = options.requests if kind.startswith(JSON) else options.streams
                    for name, port, token in (
                        ("plain Envoy", plain_port, "client"),
                        ("gateway", bench.port, "client"),
                        ("API key", keyed_port, key),
                        ("budget", limited_port, "client"),
                    ):
                        figures = await measure(bench, port, kind, count, token)
                        results.setdefault((kind, name), []).append(figures)
    finally:
        provider.kill()
    print(
        f"{'':26}{'':14}{'Envoy':>9}{'Python':>9}{'ratio':>8}   µs a request, median of {options.rounds} rounds"
    )
    for (kind, name), rounds in results.items():
        envoy = statistics.median(item[0] for item in rounds[1:])
        ours = statistics.median(item[1] for item in rounds[1:])
        plain = statistics.median(item[0] for item in results[kind, "plain Envoy"][1:])
        python = "" if name == "plain Envoy" else f"{ours:.1f}"
        print(f"{kind:26}{name:14}{envoy:9.1f}{python:>9}{envoy / plain:8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--streams", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=KINDS, help="one kind of request")
    parser.add_argument("--models", type=int, default=1, help="routes in front of the one that is asked for")
    parser.add_argument("--provide", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--account", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--load", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.provide:
        uvloop.run(provide(options.provide))
    elif options.account:
        uvloop.run(account(options.account))
    elif options.load:
        port, body, count, connections, token = options.load
        uvloop.run(load(int(port), body.encode(), int(count), int(connections), token))
    else:
        uvloop.run(run(options))


if __name__ == "__main__":
    main()
