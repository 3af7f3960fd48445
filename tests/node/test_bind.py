"""What the preloaded library makes of a pod's sockets."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kajitori.laptop.node.native import compile_programs

ADDRESS = "127.77.66.55"
# Without SO_REUSEADDR, as some servers do.
LISTEN = (
    "import socket; s = socket.socket(); s.bind(('0.0.0.0', {port})); s.listen(); print(s.getsockname()[0])"
)


def listen(library: str, port: int) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "KAJITORI_POD_IP": ADDRESS, "LD_PRELOAD": library}
    return subprocess.run(
        [sys.executable, "-c", LISTEN.format(port=port)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def library(native_cache: Path) -> str:
    found = compile_programs(native_cache).bind_library
    if not found:
        pytest.skip("NOT TESTED: no C compiler on this machine")
    return found


def test_past_connections_of_another_pod_do_not_keep_a_port(library: str) -> None:
    with socket.socket() as server:
        # As the library does for the other pod.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((ADDRESS, 0))
        server.listen()
        port = server.getsockname()[1]
        client = socket.create_connection((ADDRESS, port))
        accepted, _ = server.accept()
        # Who closes first is left with the memory of the connection.
        accepted.close()
        client.close()
    with socket.socket() as plain, pytest.raises(OSError, match="in use"):
        plain.bind((ADDRESS, port))
    done = listen(library, port)
    assert (done.stdout.strip(), done.stderr) == (ADDRESS, "")


def test_a_port_that_another_program_listens_on_is_refused(library: str) -> None:
    with socket.socket() as server:
        server.bind((ADDRESS, 0))
        server.listen()
        done = listen(library, server.getsockname()[1])
    assert done.returncode != 0
    assert "Address already in use" in done.stderr
