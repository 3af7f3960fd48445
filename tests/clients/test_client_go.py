"""client-go, unmodified, against both API servers: informers, elections, applies, recorders, protobuf.

The program is `tools/kubernetes/client`.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tools.kubernetes.build import build

from tests.servers import Place

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


@pytest.mark.timeout(300)
async def test_every_check_of_a_client_in_go_passes(place: Place, tmp_path: Path) -> None:
    program = build() / "client"
    code, output = await _run(
        str(program), "-kubeconfig", str(place.kubeconfig), seconds=240, folder=tmp_path
    )
    lines = output.splitlines()
    assert code == 0, "\n".join(line for line in lines if not line.startswith(("I", "E", "W")))
    assert sum(line.startswith("ok ") for line in lines) == 18
