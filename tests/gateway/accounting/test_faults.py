"""Real processes, killed under load: what Envoy wrote is booked, once."""

from __future__ import annotations

import asyncio
import collections
import contextlib
import os
import shutil
from collections.abc import AsyncIterator

import aiohttp
import pytest

from kajitori.gateway.accounting.record_reading import read_recent
from kajitori.gateway.accounting.records import RequestRecord
from kajitori.gateway.envoy.admin import failed_log_writes
from tests.gateway.test_process import Processes, processes  # noqa: F401  a fixture
from tests.gateway.workbench import (
    CLASS,
    Provider,
    Workbench,
    ai_route,
    backend,
    gateway,
    running_workbench,
)
from tests.waiting import eventually

QUESTION = {"model": "gpt-4o", "messages": []}


class Load:
    """Clients that ask again and again. answered: ids of requests by when their answer came; failed: other statuses."""

    def __init__(self, url: str) -> None:
        self.url = url + "/v1/chat/completions"
        self.answered: dict[str, float] = {}
        self.failed: list[int] = []

    async def _client(self, session: aiohttp.ClientSession) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                async with session.post(self.url, json=QUESTION) as response:
                    await response.read()
                    if response.status == 200:
                        self.answered[response.headers["X-Request-ID"]] = loop.time()
                    else:
                        self.failed.append(response.status)
            except aiohttp.ClientError:
                self.failed.append(0)
            await asyncio.sleep(0.01)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with aiohttp.ClientSession() as session:
            tasks = [asyncio.create_task(self._client(session)) for _ in range(4)]
            try:
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def more(self, count: int) -> None:
        """Returns when so many more were answered."""
        wanted = len(self.answered) + count
        await eventually(lambda: len(self.answered) >= wanted, what=lambda: f"{self.failed[-5:]}")


def booked(found: Processes) -> list[RequestRecord]:
    return read_recent(found.home, 100_000)


async def started(found: Processes, provider: Provider) -> None:
    found.start_gateway()
    await eventually((found.home / "run" / "envoy-bootstrap.json").exists, what=found.logs)
    found.start_accountant()
    found.start_envoy()
    route = ai_route("one", "gpt-4o", {"name": "a"})
    await found.apply(CLASS, gateway(found.port), *backend("a", provider.port), route)
    key = await found.answered("gpt-4o")
    await eventually(lambda: any(record.id == key for record in booked(found)), what=found.logs)


async def test_a_killed_accountant_costs_no_request_and_no_record_and_knows_its_policy_without_the_control_plane(
    processes: Processes,  # noqa: F811
    first: Provider,
) -> None:
    await started(processes, first)
    load = Load(f"http://127.0.0.1:{processes.port}")
    async with load.running():
        await load.more(20)
        processes.kill("accountant")
        await load.more(50)
        processes.start_accountant()
        await load.more(20)
        processes.kill("accountant")
        processes.kill("gateway")
        await load.more(20)
        processes.start_accountant()
        await load.more(20)
    assert load.failed == []

    def missing() -> set[str]:
        return load.answered.keys() - {record.id for record in booked(processes)}

    await eventually(lambda: not missing(), what=lambda: f"{missing()} {processes.logs()}")
    counts = collections.Counter(record.id for record in booked(processes))
    assert {key: count for key, count in counts.items() if count != 1} == {}
    assert {record.backend for record in booked(processes) if record.id in load.answered} == {"default/a"}


async def test_a_killed_envoy_loses_no_line_that_is_older_than_the_interval_in_which_it_writes(
    processes: Processes,  # noqa: F811
    first: Provider,
) -> None:
    await started(processes, first)
    load = Load(f"http://127.0.0.1:{processes.port}")
    async with load.running():
        await load.more(50)
        log = processes.home / "log" / "access.log"
        before = asyncio.get_running_loop().time()
        size = log.stat().st_size
        await eventually(lambda: log.stat().st_size > size)  # what was answered before is written
        size = log.stat().st_size
        await eventually(lambda: log.stat().st_size > size)
        processes.kill("envoy")
        processes.start_envoy()
        await processes.answered("gpt-4o")
        await load.more(10)
    written = {key for key, when in load.answered.items() if when < before}
    assert len(written) >= 50

    def complete() -> bool:
        return written <= {record.id for record in booked(processes)}

    await eventually(complete, what=processes.logs)
    assert max(collections.Counter(record.id for record in booked(processes)).values()) == 1


async def test_a_log_that_has_grown_is_begun_anew_by_envoy_and_no_request_is_lost(first: Provider) -> None:
    async with running_workbench() as bench:
        bench.log_reader._rotate_bytes = 5_000
        await bench.apply(
            gateway(bench.port), *backend("a", first.port), ai_route("r", "gpt-4o", {"name": "a"})
        )
        load = Load(bench.url)
        async with load.running():
            for _ in range(3):
                inode = bench.access_log.stat().st_ino
                await load.more(40)
                await eventually(
                    lambda: bench.access_log.exists() and bench.access_log.stat().st_ino != inode,  # noqa: B023
                    what=bench.log,
                )
        await eventually(lambda: load.answered.keys() <= bench.records.keys())
        await eventually(lambda: not bench.access_log.with_name("access.log.1").exists())

        def once() -> bool:
            counts = collections.Counter(record.id for record in read_recent(bench.folder, 100_000))
            assert max(counts.values(), default=1) == 1
            return load.answered.keys() <= counts.keys()

        await eventually(once)


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="needs util-linux")
async def test_a_full_disk_keeps_nobody_from_being_served_and_is_counted(first: Provider) -> None:
    class FullDisk(Workbench):
        def envoy_prefix(self) -> list[str]:
            # A file that may not grow fails as a full disk does, once the signal of it is ignored.
            return ["prlimit", "--fsize=20000", "--", "env", "--ignore-signal=XFSZ"]

    async with running_workbench(kind=FullDisk) as bench:
        await bench.apply(
            gateway(bench.port), *backend("a", first.port), ai_route("r", "gpt-4o", {"name": "a"})
        )
        replies = [await bench.post(QUESTION) for _ in range(100)]
        assert {reply.status for reply in replies} == {200}
        admin = bench.folder / "admin.sock"

        await eventually(lambda: failed_log_writes(admin), bench.log)
        ids = {reply.headers["X-Request-ID"] for reply in replies}
        await eventually(lambda: len(ids & bench.records.keys()) > 20, what=bench.log)
        assert not ids <= bench.records.keys()
        os.truncate(bench.access_log, 0)  # somebody makes room
        reply = await bench.post(QUESTION)
        assert (await bench.record(reply)).status == 200
