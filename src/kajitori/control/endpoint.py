"""`/metrics`, `/healthz` and `/readyz` of a daemon, on a port or a unix socket, for whoever runs it.

An address is `HOST:PORT` (port 0: any free one) or a path. Of aiohttp's server only the core is used: what it has for
applications would be 1.4 MB in each daemon.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from aiohttp.web_request import BaseRequest
from aiohttp.web_response import Response, StreamResponse
from aiohttp.web_server import Server
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

_STOP_SECONDS = 2.0


@asynccontextmanager
async def serve_endpoint(
    address: str, registry: CollectorRegistry, is_ready: Callable[[], bool]
) -> AsyncGenerator[str]:
    """Serve while the context lasts; gives the address in force. Raises OSError if it is taken."""

    async def answer(request: BaseRequest) -> StreamResponse:
        if request.path == "/metrics":
            return Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})
        if request.path == "/healthz":
            return Response(text="ok\n")
        if request.path == "/readyz":
            ready = is_ready()
            return Response(text="ok\n" if ready else "not ready\n", status=200 if ready else 503)
        return Response(text="not found\n", status=404)

    connections = Server(answer, access_log=None)
    listening, bound = await _listen(connections, address)
    try:
        yield bound
    finally:
        listening.close()
        # Without this, connections that are merely kept alive would be waited for.
        connections.pre_shutdown()
        await connections.shutdown(_STOP_SECONDS)


def _remove(path: str) -> None:
    Path(path).unlink(missing_ok=True)


async def _listen(connections: Server, address: str) -> tuple[asyncio.Server, str]:
    loop = asyncio.get_running_loop()
    if "/" in address:
        # A socket that a killed process left behind; a live one would have been refused by its owner's lock.
        _remove(address)
        return await loop.create_unix_server(connections, address), address
    host, _, port = address.rpartition(":")
    listening = await loop.create_server(connections, host, int(port))
    name = listening.sockets[0].getsockname()
    return listening, f"{name[0]}:{name[1]}"
