"""A server for tests of other rooms: in this event loop, on a free port, with a home that vanishes.

    async with running_api_server() as server:
        config = load_config(str(server.kubeconfig))

Certificates are made once a process and shared by all its servers, so a start takes tens of milliseconds.
"""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from kajitori.laptop.apiserver import pki
from kajitori.laptop.apiserver.server import ApiServer
from kajitori.laptop.settings import ClusterSettings

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

_KEYS = ("ca.crt", "ca.key", "apiserver.crt", "apiserver.key", "sa.key", "sa.pub")


@dataclass(frozen=True)
class RunningApiServer:
    """home: the cluster's folder. kubeconfig: the admin's. url: such as `https://127.0.0.1:41234`."""

    home: Path
    kubeconfig: Path
    url: str
    server: ApiServer

    def kubeconfig_of(self, component: str) -> Path:
        """Of `controllers`, `gateway`, `node-1`, ..."""
        return self.home / "pki" / "clients" / f"{component}.kubeconfig"


@cache
def _shared_keys() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        pki.Authority(path).server_certificate(ClusterSettings().kubernetes_service_address)
        pki.service_account_key(path)
        return {name: (path / name).read_bytes() for name in _KEYS}


def prepare_home(home: Path) -> None:
    """Put the shared certificates into a new home."""
    for name, content in _shared_keys().items():
        pki.write_private(home / "pki" / name, content)


@contextlib.asynccontextmanager
async def running_api_server(
    home: Path | None = None, settings: ClusterSettings | None = None
) -> AsyncGenerator[RunningApiServer]:
    """A running server. home: kept afterwards if given, so that a second start finds what the first one stored."""
    temporary = None
    if home is None:
        temporary = Path(tempfile.mkdtemp(prefix="kajitori-"))
        home = temporary
    if not (home / "pki" / "ca.key").exists():
        prepare_home(home)
    server = ApiServer(home, settings or ClusterSettings(), port=0)
    try:
        await server.start()
        try:
            yield RunningApiServer(home, home / "kubeconfig", server.state.server, server)
        finally:
            await server.stop()
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
