"""`/metrics`, `/healthz` and `/readyz` of a daemon, on a port or a unix socket, for whoever runs it.

An address is `HOST:PORT` (port 0: any free one) or a path.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest


@asynccontextmanager
async def serve_endpoint(
    address: str, registry: CollectorRegistry, is_ready: Callable[[], bool]
) -> AsyncGenerator[str]:
    """Serve while the context lasts; gives the address in force. Raises OSError if it is taken."""

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/metrics":
            return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
        if request.path == "/healthz":
            return web.Response(text="ok\n")
        if request.path == "/readyz":
            ready = is_ready()
            return web.Response(text="ok\n" if ready else "not ready\n", status=200 if ready else 503)
        return web.Response(text="not found\n", status=404)

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    try:
        yield await _start(runner, address)
    finally:
        await runner.cleanup()


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


async def _start(runner: web.ServerRunner, address: str) -> str:
    if "/" in address:
        # A socket that a killed process left behind; a live one would have been refused by its owner's lock.
        _remove(address)
        await web.UnixSite(runner, address).start()
        return address
    host, _, port = address.rpartition(":")
    await web.TCPSite(runner, host, int(port)).start()
    bound = runner.addresses[0]
    return f"{bound[0]}:{bound[1]}"
