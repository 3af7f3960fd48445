"""The gateway's process on an embedded API server: killed in the middle of everything."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from kajitori.engines.envoy import envoy_arguments, find_envoy
from kajitori.gateway.accounting.record_reading import read_request
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import running_api_server
from kajitori.laptop.settings import ClusterSettings, write_settings
from tests.definitions import install_definitions
from tests.gateway.cluster import apply
from tests.gateway.workbench import CLASS, Provider, ai_route, backend, free_port, gateway
from tests.waiting import eventually

QUESTION = {"model": "gpt-4o", "messages": []}


class Processes:
    """The gateway, the accountant and Envoy as a laptop cluster runs them."""

    def __init__(self, home: Path, client: Client) -> None:
        self.home = home
        self.client = client
        self.port = free_port()
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        write_settings(home, ClusterSettings())
        (home / "log").mkdir(exist_ok=True)

    def start(self, name: str, *command: str) -> None:
        with (self.home / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ,
            )  # fmt: skip

    def start_gateway(self) -> None:
        self.start("gateway", sys.executable, "-m", "kajitori.app.gateway", "--home", str(self.home))

    def start_accountant(self) -> None:
        self.start("accountant", sys.executable, "-m", "kajitori.app.accountant", "--home", str(self.home))

    def start_envoy(self) -> None:
        arguments = envoy_arguments(self.home / "run" / "envoy-bootstrap.json")
        self.start("envoy", str(find_envoy()), *arguments)

    def kill(self, name: str) -> None:
        process = self.running.pop(name)
        process.kill()
        process.wait()

    async def apply(self, *documents: dict[str, Any]) -> None:
        await apply(self.client, *documents)

    async def ask(self, model: str, stream: bool = False) -> tuple[int, str, bytes]:
        """Status, request id and body; status 0 where nothing listens."""
        body = {**QUESTION, "model": model, **({"stream": True} if stream else {})}
        url = f"http://127.0.0.1:{self.port}/v1/chat/completions"
        try:
            async with aiohttp.request("POST", url, json=body) as response:
                return response.status, response.headers["X-Request-ID"], await response.read()
        except OSError:
            return 0, "", b""

    async def answered(self, model: str, status: int = 200) -> str:
        """Waits for a status; returns the id of the request that got it."""

        async def asked() -> str:
            found, key, _ = await self.ask(model)
            return key if found == status else ""

        return await eventually(asked, self.logs)

    def logs(self) -> str:
        return "\n".join(path.read_text()[-2000:] for path in self.home.glob("*.log"))


@pytest.fixture
async def processes() -> AsyncIterator[Processes]:
    async with contextlib.AsyncExitStack() as stack:
        server = await stack.enter_async_context(running_api_server())
        client = await stack.enter_async_context(Client(load_config(str(server.kubeconfig))))
        await install_definitions(client)
        found = Processes(server.home, client)
        try:
            yield found
        finally:
            for name in list(found.running):
                found.kill(name)


async def test_killed_processes_come_back_and_streams_that_did_not_touch_them_stay_whole(
    processes: Processes, first: Provider
) -> None:
    first.chunks, first.chunk_seconds = 80, 0.05
    processes.start_gateway()
    bootstrap = processes.home / "run" / "envoy-bootstrap.json"
    await eventually(bootstrap.exists, what=processes.logs)
    processes.start_accountant()
    processes.start_envoy()
    await processes.apply(
        CLASS, gateway(processes.port), *backend("a", first.port), ai_route("one", "gpt-4o", {"name": "a"})
    )
    key = await processes.answered("gpt-4o")
    await eventually(lambda: read_request(processes.home, key), what=processes.logs)

    stream = asyncio.create_task(processes.ask("gpt-4o", stream=True))
    await eventually(lambda: any(seen.json.get("stream") for seen in first.seen))
    processes.kill("gateway")
    assert (await processes.ask("gpt-4o"))[0] == 200
    await processes.apply(ai_route("two", "later", {"name": "a"}))
    assert (await processes.ask("later"))[0] == 404
    processes.start_gateway()
    key = await processes.answered("later")
    await eventually(lambda: read_request(processes.home, key), what=processes.logs)
    status, _, body = await stream
    assert status == 200 and body.endswith(b"data: [DONE]\n\n")

    processes.kill("envoy")
    assert (await processes.ask("gpt-4o"))[0] == 0
    processes.start_envoy()
    for model in ("gpt-4o", "later"):
        await processes.answered(model)
