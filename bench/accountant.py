"""What the accountant costs without an Envoy: CPU of this process, microseconds a request.

    python -m bench.accountant [--requests 50000] [--parts lines paced admission idle] [--profile]

Processes beside this one stand for the control plane and for Envoy, which writes lines to the log ten times a second and asks on
the socket. They do not count. Of several rounds the least is told: whoever shares the machine makes all else dearer.

- `lines`: a log that is there already, read to its end and stored. The pieces by themselves come from `--profile`.
- `paced`: lines as they come, `--rate` of them a second: what each reading and each commit costs besides.
- `admission`: a question and its settlement under a strict Budget, 32 at a time on one connection of HTTP/2.
- `idle`: milliseconds of CPU in ten seconds in which nothing comes, and the memory of the process.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import os
import pstats
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path

import grpc.aio
import msgspec
import uvloop

from kajitori.gateway.accountant import Accountant
from kajitori.gateway.accounting.accountant_policy import (
    AccountantPolicy,
    BackendFacts,
    CostRule,
    KeyFacts,
    RouteFacts,
    TargetFacts,
)
from kajitori.gateway.accounting.admission_http2 import PREFACE, frame
from kajitori.gateway.accounting.header_blocks import write_name, write_text
from kajitori.gateway.accounting.log_format import FIELD_SEPARATOR, LINE_START, REQUEST_VERSION, RequestLine
from kajitori.gateway.accounting.places import Places
from kajitori.gateway.accounting.policy_delivery import FILE_NAME, PolicyServer, local_channel
from kajitori.gateway.accounting.questions import FACTS_HEADER
from kajitori.gateway.accounting.record_reading import read_position
from kajitori.gateway.accounting.records import FILE_NAME as LEDGER
from kajitori.gateway.limits.limit import Limit, Window
from kajitori.gateway.limits.opening import open_engine

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("lines", "paced", "admission", "idle")
CONNECTIONS, KEYS = 32, 20
HEADERS, SETTINGS = 1, 4
CLUSTER = "ai/default/a~46b5a007"
COST = CostRule("cost", "CEL", "input_tokens / uint(3) + output_tokens")
BUDGET = Limit("Budget default/month", "tokens", 1e15, Window("Calendar", unit="Month"))
POLICY = AccountantPolicy(
    backends={CLUSTER: BackendFacts("default/a")},
    routes={
        "default/keyed": RouteFacts((COST,)),
        "default/limited": RouteFacts((COST,), (0,), (TargetFacts(0, 0, "default/a"),)),
    },
    limits=(BUDGET,),
    keys={f"key{number:05}": KeyFacts(f"default/key{number:05}") for number in range(KEYS)},
)
HEAD = b"\x83\x01\tlocalhost\x04\x1a/admit/v1/chat/completions\x86\x0f\r\x010" + write_name(
    FACTS_HEADER.encode()
)
REST = b"\x00\x10x-envoy-internal\x04true\x00\x1ex-envoy-expected-rq-timeout-ms\x042000"
FACTS = "ai/default/limited/rule/0/match/0|{}|key00000||246||openai|chat||127.0.0.1|m"


def line(request_id: str, route: str, *, stream: bool = False) -> str:
    """As Envoy writes it; what an answer took differs from request to request."""
    given, answered = random.randrange(20, 4_000), random.randrange(1, 900)
    first = random.randrange(2_000, 90_000)
    told = RequestLine(
        version=LINE_START + REQUEST_VERSION, id=request_id, time=f"{time.time():.6f}",
        route=f"ai/default/{route}/rule/0/match/0", method="POST", status="200", flags="-", cluster=CLUSTER,
        address="127.0.0.1:39589", attempts="1", client="127.0.0.1", duration_milliseconds=str(first // 900),
        duration_microseconds=str(first + 9_000), received_microseconds=str(random.randrange(20, 200)),
        sent_microseconds=str(random.randrange(200, 900)), first_byte_microseconds=str(first), request_bytes="1011",
        response_bytes="434", usage=f"{given},{answered},{given + answered},0,0,0;m",
        who=f"key{random.randrange(KEYS):05}||246||openai|chat|{'true' if stream else ''}", traceparent="", headers="",
        decision="", path="/v1/chat/completions", sent_path="/v1/chat/completions", model="m",
    )  # fmt: skip
    return FIELD_SEPARATOR.join(msgspec.structs.astuple(told)) + "\n"


def lines(count: int, route: str = "keyed", *, stream: bool = False) -> str:
    return "".join(line(str(uuid.uuid4()), route, stream=stream) for _ in range(count))


def write_paced(path: Path, rate: int, seconds: float) -> None:
    """The stand-in of Envoy that only writes."""
    began = time.monotonic()
    with path.open("a") as log:
        for turn in range(int(seconds * 10)):
            text = lines(rate // 10, stream=True)
            time.sleep(max(0.0, began + turn / 10 - time.monotonic()))
            log.write(text)
            log.flush()


def ask(path: Path, log: Path, count: int) -> None:
    """The stand-in of Envoy that asks. What ended is written ten times a second."""
    ended: list[str] = []
    done = threading.Event()

    def write() -> None:
        with log.open("a") as file:
            while not (done.wait(0.1) and not ended):
                taken, ended[:] = ended[:], []
                file.write("".join(line(each, "limited") for each in taken))
                file.flush()

    writer = threading.Thread(target=write)
    writer.start()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(str(path))
        connection.sendall(PREFACE + frame(SETTINGS, 0, bytes(4)))
        ask_in_turn(connection, count, ended)
    done.set()
    writer.join()


def ask_in_turn(connection: socket.socket, count: int, ended: list[str]) -> None:
    """Questions on one connection as Envoy asks them, 32 at a time: a further one for each answer. ended: gets their ids."""
    asked: dict[int, str] = {}
    data, table = b"", b"\x20"
    answered = 0
    while answered < count:
        answers = CONNECTIONS if not asked else 0
        data += connection.recv(65_536) if asked else b""
        while len(data) >= 9 and len(data) >= 9 + (length := int.from_bytes(data[:3], "big")):
            if data[3] == HEADERS:
                assert data[9] == 0x88, data[:200]  # 200
                answers, answered = answers + 1, answered + 1
                ended.append(asked[int.from_bytes(data[5:9], "big")])
            data = data[9 + length :]
        questions: list[bytes] = []
        for _ in range(min(answers, count - len(asked))):
            stream, request_id = 2 * len(asked) + 1, str(uuid.uuid4())
            block = table + HEAD + write_text(FACTS.format(request_id).encode()) + REST
            questions.append(frame(HEADERS, 5, stream.to_bytes(4, "big"), block))
            asked[stream], table = request_id, b""
        connection.sendall(b"".join(questions))


async def serve(path: Path) -> None:
    """The stand-in of the control plane."""
    policies = PolicyServer()
    policies.configure(POLICY)
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((policies.handler(),))
    server.add_insecure_port(f"unix:{path}")
    await server.start()
    await server.wait_for_termination()


class Running:
    """An accountant in this process. folder: its own."""

    def __init__(self, folder: Path) -> None:
        self.places = Places(
            folder, folder / "access.log", folder / "accountant.sock", folder / "admin.sock", folder / "rescue.sock",
            folder / "inner.sock",
        )  # fmt: skip
        (folder / FILE_NAME).write_bytes(msgspec.msgpack.encode(POLICY))
        self.places.access_log.touch()

    def start(self, what: str, count: int) -> subprocess.Popen[bytes]:
        words = [
            sys.executable,
            "-m",
            "bench.accountant",
            "--beside",
            what,
            str(count),
            str(self.places.folder),
        ]
        return subprocess.Popen(words, cwd=ROOT)

    def begin(self) -> None:
        """Counts from now on."""
        self.began = time.process_time()

    async def during(self, work: Callable[[], Awaitable[None]]) -> float:
        """CPU seconds of an accountant while something is done, until all is stored."""
        control_plane = self.start("serve", 0)
        while not (self.places.folder / "ads.sock").exists():
            await asyncio.sleep(0.05)
        stop = asyncio.Event()
        engine = open_engine(self.places.folder)
        accountant = Accountant(self.places, lambda: local_channel(self.places.folder / "ads.sock"), engine)
        task = asyncio.create_task(accountant.run(stop))
        self.begin()
        while not self.places.admission.exists():
            await asyncio.sleep(0.01)
        await work()
        while read_position(self.places.folder / LEDGER).offset < self.places.access_log.stat().st_size:
            await asyncio.sleep(0.5)
        spent = time.process_time() - self.began
        stop.set()
        await task
        await engine.close()
        control_plane.kill()
        control_plane.wait()
        return spent

    async def idle(self) -> None:
        await asyncio.sleep(3.0)  # what comes with the start
        self.begin()
        await asyncio.sleep(10.0)

    async def beside(self, what: str, count: int) -> None:
        process = self.start(what, count)
        self.begin()
        assert await asyncio.get_running_loop().run_in_executor(None, process.wait) == 0


async def measure(part: str, options: argparse.Namespace) -> float:
    """CPU seconds a request, or of ten seconds without one."""
    with tempfile.TemporaryDirectory() as folder:
        running = Running(Path(folder))
        count = options.requests
        if part == "lines":
            running.places.access_log.write_text(lines(count))
            return await running.during(lambda: asyncio.sleep(0)) / count
        if part == "paced":
            return await running.during(lambda: running.beside("write", options.rate)) / (options.rate * 5)
        if part == "admission":
            count = count // CONNECTIONS * CONNECTIONS
            return await running.during(lambda: running.beside("ask", count)) / count
        return await running.during(running.idle)


def stand_in(what: str, count: int, folder: Path) -> None:
    if what == "serve":
        asyncio.run(serve(folder / "ads.sock"))
    elif what == "write":
        write_paced(folder / "access.log", count, 5.0)
    else:
        ask(folder / "accountant.sock", folder / "access.log", count)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=50_000)
    parser.add_argument("--rate", type=int, default=600)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profile", action="store_true", help="of the thread that reads and answers")
    parser.add_argument("--beside", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.beside:
        stand_in(options.beside[0], int(options.beside[1]), Path(options.beside[2]))
        return
    profile = cProfile.Profile()
    for part in options.parts:
        if options.profile:
            profile.enable()
        least = min(uvloop.run(measure(part, options)) for _ in range(options.rounds))
        profile.disable()
        print(f"{part:12}{least * 1e3:8.2f} ms" if part == "idle" else f"{part:12}{least * 1e6:8.1f} µs")
    if options.profile:
        pstats.Stats(profile).sort_stats("tottime").print_stats(45)


if __name__ == "__main__":
    os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
    main()
