"""Limits, requests and a clock for tests, and real Redis servers."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from kajitori.gateway.accounting.accountant_policy import (
    AccountantPolicy,
    CostRule,
    Price,
    RouteFacts,
    TargetFacts,
)
from kajitori.gateway.accounting.costs import Usage
from kajitori.gateway.limits.decision import Hold
from kajitori.gateway.limits.engine import Engine
from kajitori.gateway.limits.limit import Limit, Selector, Window
from kajitori.gateway.limits.memory_store import MemoryStore
from kajitori.gateway.limits.request import Request, Settlement
from kajitori.gateway.limits.store import Store
from tests.waiting import eventually_blocking

ROUTE = "default/chat"
HOUR = Window("Fixed", 3600.0)


class ManualClock:
    """Time that passes when a test says so."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.time = now

    def now(self) -> float:
        return self.time


def limit(
    name: str = "Budget default/all", amount: float = 100, counts: str = "tokens", **fields: object
) -> Limit:
    values: dict[str, object] = {"window": HOUR, **fields}
    return Limit(name=name, counts=counts, amount=amount, **values)  # type: ignore[arg-type]


def policy(
    *limits: Limit,
    targets: Sequence[TargetFacts] = (TargetFacts(0, 0, "default/a"),),
    costs: Sequence[CostRule] = (),
    prices: Sequence[Price] = (),
) -> AccountantPolicy:
    """All limits hold for one route."""
    facts = RouteFacts(costs=tuple(costs), limits=tuple(range(len(limits))), targets=tuple(targets))
    return AccountantPolicy(routes={ROUTE: facts}, limits=limits, prices=tuple(prices))


def request(id: str, input_tokens: int = 1, output_tokens: int | None = 1, **fields: object) -> Request:
    values: dict[str, object] = {"model": "gpt", **fields}
    return Request(id=id, route=ROUTE, input_tokens=input_tokens, output_tokens=output_tokens, **values)  # type: ignore[arg-type]


def ended(id: str, input_tokens: int = 0, output_tokens: int = 0, **fields: object) -> Settlement:
    """A request that was answered with this usage."""
    usage = Usage(input_tokens, output_tokens, input_tokens + output_tokens)
    values: dict[str, object] = {
        "model": "gpt",
        "answered": True,
        "backend": "default/a",
        "usage": usage,
        **fields,
    }
    return Settlement(id=id, route=ROUTE, **values)  # type: ignore[arg-type]


def failed(id: str) -> Settlement:
    """A request that nobody answered."""
    return Settlement(id=id, route=ROUTE, model="gpt")


def distinct(fact: str) -> Selector:
    return Selector(fact, "Distinct")


def engine(
    *limits: Limit, store: Store | None = None, clock: ManualClock | None = None, **fields: object
) -> tuple[Engine, ManualClock]:
    """An engine with these limits; its store is one in memory unless given."""
    clock = clock or ManualClock()
    made = Engine(store or MemoryStore(), clock)
    made.configure(policy(*limits, **fields))  # type: ignore[arg-type]
    return made, clock


def hold(counter: str = "c", amount: int = 1, capacity: int = 10, **fields: object) -> Hold:
    values: dict[str, object] = {
        "slot": 1, "oldest": 1, "newest": 10**12, "keep": 1, "kind": "strict", "group": 0, "forget": int(time.time()) + 7200, **fields,
    }  # fmt: skip
    return Hold(counter=counter, amount=amount, capacity=capacity, **values)  # type: ignore[arg-type]


async def counted(store: Store, counters: Sequence[tuple[str, int]]) -> list[int]:
    """What counters hold from a slot on."""
    amounts = await store.amounts([name for name, _ in counters])
    return [
        sum(amount for slot, amount in slots.items() if slot >= oldest)
        for (_, oldest), slots in zip(counters, amounts, strict=True)
    ]


def find_redis() -> str:
    """The program; Debian's package is installed where it is missing and that is allowed (a container of a CI)."""
    found = shutil.which("redis-server") or shutil.which("valkey-server")
    if found:
        return found
    with Path(tempfile.gettempdir(), "kajitori-redis.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the same run may be installing it
        if shutil.which("redis-server") is None and os.geteuid() == 0:
            quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}  # not to be started
            for command in (["update"], ["install", "-y", "--no-install-recommends", "redis-server"]):
                subprocess.run(["apt-get", "-q", *command], env=quiet, check=False, stdout=subprocess.DEVNULL)
    found = shutil.which("redis-server")
    assert found, "these tests need a Redis: apt-get install redis-server"
    return found


class RedisServer:
    """A redis-server of our own in a folder, which keeps what it was told though it is killed."""

    def __init__(self, folder: Path, *options: str) -> None:
        program = find_redis()
        with socket.socket() as probe, socket.socket() as other:
            probe.bind(("127.0.0.1", 0))
            other.bind(("127.0.0.1", 0))
            self.port, bus_port = probe.getsockname()[1], other.getsockname()[1]
        if "--cluster-enabled" in options:
            options = (*options, "--cluster-port", str(bus_port))
        self.bus_port = bus_port
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._command = [
            program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(folder), "--appendonly", "yes",
            "--save", "", "--daemonize", "no", *options,
        ]  # fmt: skip
        self._log = folder / "redis.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        process = self._process

        def answers() -> bool:
            assert process.poll() is None, self._log.read_text()
            with socket.create_connection(("127.0.0.1", self.port), 1) as probe:
                probe.settimeout(5)
                probe.sendall(b"PING\r\n")
                return probe.recv(5) == b"+PONG"

        eventually_blocking(answers, self._log.read_text, despite=(OSError,))

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


@contextlib.contextmanager
def running_redis(folder: Path, *options: str) -> Iterator[RedisServer]:
    server = RedisServer(folder, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill()
