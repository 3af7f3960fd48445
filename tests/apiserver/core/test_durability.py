"""The server as a process of its own: killed at any moment it loses nothing that it acknowledged."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from tests.apiserver.core.conftest import CONFIG_MAPS, Api, config_map, tls_context
from tests.waiting import eventually

from kajitori.laptop.apiserver.testing import prepare_home

if TYPE_CHECKING:
    from pathlib import Path

GONE = "gone"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Process:
    """One API server process after another in the same home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port = _free_port()
        self.process: asyncio.subprocess.Process

    async def start(self) -> Api:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "kajitori.laptop.apiserver", "--home", str(self.home), "--port", str(self.port)),
            stderr=asyncio.subprocess.DEVNULL,
        )

        async def listens() -> bool:
            assert self.process.returncode is None
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.close()
            return True

        await eventually(listens, "the server listens", despite=(OSError,))
        return Api(f"https://127.0.0.1:{self.port}", tls_context(self.home / "kubeconfig"))

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


class Writer:
    """Writes one object over and over; knows what was acknowledged and what was on its way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.acknowledged = GONE
        self.attempted = GONE
        self.count = 0

    async def run(self, api: Api) -> None:
        path = f"{CONFIG_MAPS}/{self.name}"
        while True:
            self.count += 1
            try:
                if self.count % 7 == 0 and self.acknowledged != GONE:
                    self.attempted = GONE
                    answer = await api.delete(path)
                else:
                    self.attempted = str(self.count)
                    answer = await api.apply(path, config_map(self.name, n=self.attempted))
            except (aiohttp.ClientError, ConnectionError):
                return
            assert answer.code in (200, 201), answer.body
            self.acknowledged = self.attempted

    def check(self, stored: dict[str, str]) -> None:
        assert stored.get(self.name, GONE) in (self.acknowledged, self.attempted)
        self.acknowledged = self.attempted = stored.get(self.name, GONE)


async def test_no_acknowledged_object_is_lost_to_kill_9_under_load(tmp_path: Path) -> None:
    prepare_home(tmp_path)
    server = Process(tmp_path)
    writers = [Writer(f"w{n}") for n in range(16)]
    api = await server.start()
    highest = 0
    try:
        for _ in range(4):
            tasks = [asyncio.create_task(writer.run(api)) for writer in writers]
            enough = sum(writer.count for writer in writers) + 150
            await eventually(
                lambda enough=enough: sum(writer.count for writer in writers) >= enough,
                "enough is written",
                pause_seconds=0.001,
            )
            await server.kill()
            await asyncio.gather(*tasks)
            await api.close()
            api = await server.start()
            listed = (await api.get(CONFIG_MAPS)).ok()
            stored = {item["metadata"]["name"]: item["data"]["n"] for item in listed["items"]}
            for writer in writers:
                writer.check(stored)
            version = int(listed["metadata"]["resourceVersion"])
            assert version > highest
            highest = version
    finally:
        await api.close()
        await server.kill()


async def test_sigterm_ends_watches_cleanly_and_leaves_status_zero(tmp_path: Path) -> None:
    prepare_home(tmp_path)
    server = Process(tmp_path)
    api = await server.start()
    try:
        async with api.watch(CONFIG_MAPS) as watch:
            (await api.create(CONFIG_MAPS, config_map("a"))).ok()
            await watch.next()
            server.process.send_signal(signal.SIGTERM)
            with pytest.raises(EOFError):
                await watch.next()
        assert await asyncio.wait_for(server.process.wait(), 20) == 0
    finally:
        await api.close()
        if server.process.returncode is None:
            await server.kill()


async def test_a_taken_port_is_told_in_one_sentence(tmp_path: Path) -> None:
    prepare_home(tmp_path)
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        process: Any = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "kajitori.laptop.apiserver", "--home", str(tmp_path), "--port", str(port)),
            stderr=asyncio.subprocess.PIPE,
        )
        _, stderr = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in stderr.decode() and "Traceback" not in stderr.decode()
