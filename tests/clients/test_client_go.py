"""client-go, unmodified, against the embedded API server: informers, elections, applies, recorders, protobuf.

The program is in `go/`. Its first build takes a minute or two, later ones come from Go's own cache.
"""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest

from kajitori.api.leaderworkerset.v1 import DEFINITIONS
from kajitori.api.resource import CUSTOM_RESOURCE_DEFINITIONS
from kajitori.kube.client import Client
from kajitori.kube.config import load_config
from kajitori.laptop.apiserver.testing import running_api_server

SOURCE = Path(__file__).with_name("go")
BUILD_SECONDS = 900

pytestmark = pytest.mark.world


async def _run(*words: str, seconds: float, folder: Path) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *words, cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        output, _ = await asyncio.wait_for(process.communicate(), seconds)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    return process.returncode or 0, output.decode()


@pytest.mark.timeout(BUILD_SECONDS + 300)
async def test_every_check_of_a_client_in_go_passes(tmp_path: Path) -> None:
    if shutil.which("go") is None:
        pytest.skip("NOT TESTED: Go is not installed, so client-go was not tried")
    program = tmp_path / "client"
    code, output = await _run("go", "build", "-o", str(program), ".", seconds=BUILD_SECONDS, folder=SOURCE)
    assert code == 0, output
    async with running_api_server() as server:
        async with Client(load_config(str(server.kubeconfig))) as client:
            for definition in DEFINITIONS:
                await client.create(CUSTOM_RESOURCE_DEFINITIONS, definition.to_crd())
        code, output = await _run(
            str(program), "-kubeconfig", str(server.kubeconfig), seconds=200, folder=tmp_path
        )
    lines = output.splitlines()
    assert code == 0, "\n".join(line for line in lines if not line.startswith(("I", "E", "W")))
    assert sum(line.startswith("ok ") for line in lines) == 18
