"""The node's own API: logs, exec, attach, port-forward. The API server passes requests on to it.

Paths and parameters are a kubelet's. It is served on a unix socket, which is readable for its owner alone, to the
API server of the same cluster's home; a node that joined another cluster serves it over TLS as well (`secure`).
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from pathlib import Path

from aiohttp import web

from kajitori.api.resource import PODS
from kajitori.base.clock import parse_rfc3339
from kajitori.base.unix_sockets import short_path
from kajitori.laptop.node.container import ContainerLife
from kajitori.laptop.node.launch import ContainerFolder
from kajitori.laptop.node.logs import LogOptions, read_log
from kajitori.laptop.node.node import Node
from kajitori.laptop.node.pod import PodWorker
from kajitori.laptop.node.port_forward import forward
from kajitori.laptop.node.secure import Doorkeeper, SecureSite, only_known
from kajitori.laptop.node.status import Running, Waiting
from kajitori.laptop.node.streams import attach, execute
from kajitori.laptop.node.usage import UsageRoutes

FindWorker = Callable[[str, str], PodWorker | None]


class KubeletServer:
    """find_worker: the worker of a pod by namespace and name. secure: where it is served over TLS, if at all."""

    def __init__(
        self, node: Node, find_worker: FindWorker, usage: UsageRoutes, secure: SecureSite | None = None
    ) -> None:
        self._node = node
        self._usage = usage
        self._find_worker = find_worker
        self._secure = secure

    async def run(self) -> None:
        """Serve until cancelled."""
        doors = [only_known(Doorkeeper(self._node.client, self._node.name))] if self._secure else []
        application = web.Application(middlewares=doors)
        place = "/{namespace}/{pod}/{container}"
        application.router.add_get("/containerLogs" + place, self._logs)
        for method in ("GET", "POST"):
            application.router.add_route(method, "/exec" + place, self._exec)
            application.router.add_route(method, "/attach" + place, self._attach)
            application.router.add_route(method, "/portForward/{namespace}/{pod}", self._forward)
        application.router.add_get("/healthz", _healthy)
        application.router.add_get("/pods", self._pods)
        self._usage.add_to(application.router)
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await runner.setup()
        path = self._node.home / "run" / f"{self._node.name}.sock"
        try:
            site = web.SockSite(runner, _listen(path))
            await site.start()
            try:
                await (self._secure.run(runner) if self._secure else asyncio.Event().wait())
            finally:
                await site.stop()
        finally:
            await runner.cleanup()
            path.unlink(missing_ok=True)

    async def _pods(self, _: web.Request) -> web.Response:
        query = {"fieldSelector": f"spec.nodeName={self._node.name}"}
        body = await self._node.client.request("GET", PODS.path(), query=query)
        return web.Response(body=body, content_type="application/json")

    def _worker(self, request: web.Request) -> PodWorker:
        namespace, name = request.match_info["namespace"], request.match_info["pod"]
        worker = self._find_worker(namespace, name)
        if worker is None:
            raise web.HTTPNotFound(text=f'pod "{namespace}/{name}" is not on node {self._node.name}')
        return worker

    def _container(self, request: web.Request) -> ContainerLife:
        name = request.match_info["container"]
        life = self._worker(request).find_container(name)
        if life is None:
            raise web.HTTPNotFound(text=f'container "{name}" not found in pod "{request.match_info["pod"]}"')
        return life

    async def _logs(self, request: web.Request) -> web.StreamResponse:
        life = self._container(request)
        name, pod = request.match_info["container"], request.match_info["pod"]
        options = _log_options(request)
        attempt = life.attempt
        if request.query.get("previous") in ("true", "1"):
            if life.last is None:
                raise web.HTTPBadRequest(
                    text=f'previous terminated container "{name}" in pod "{pod}" not found'
                )
            # While it waits for its next start, the present attempt is the one that ended last.
            attempt -= 0 if isinstance(life.state, Waiting) else 1
        elif not life.names():
            reason = getattr(life.state, "reason", "") or "ContainerCreating"
            raise web.HTTPBadRequest(text=f'container "{name}" in pod "{pod}" is waiting to start: {reason}')
        log = ContainerFolder(life.folder.base, attempt).log
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        ended = asyncio.Event()
        watcher = asyncio.ensure_future(_set_when_ended(life, attempt, ended)) if options.follow else None
        try:
            async for piece in read_log(log, options, ended):
                await response.write(piece)
        except ConnectionResetError:
            return response  # the reader left
        finally:
            if watcher:
                watcher.cancel()
        await response.write_eof()
        return response

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        life = self._running(request)
        command = request.query.getall("command", [])
        if not command:
            raise web.HTTPBadRequest(text="you must specify at least 1 command for the container")
        return await execute(request, self._node.runner, life.name, command)

    async def _attach(self, request: web.Request) -> web.StreamResponse:
        life = self._running(request)
        return await attach(request, self._node, life)

    def _running(self, request: web.Request) -> ContainerLife:
        life = self._container(request)
        if not isinstance(life.state, Running):
            raise web.HTTPBadRequest(text=f'container "{life.spec.name}" is not running')
        return life

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        worker = self._worker(request)
        return await forward(request, worker.facts.pod_ip)


async def _healthy(_: web.Request) -> web.Response:
    return web.Response(text="ok")


async def _set_when_ended(life: ContainerLife, attempt: int, ended: asyncio.Event) -> None:
    while life.attempt == attempt and isinstance(life.state, Running):
        await asyncio.sleep(0.1)
    ended.set()


def _listen(path: Path) -> socket.socket:
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_path(path) as short:
        listener.bind(short)
    path.chmod(0o600)
    return listener


def _log_options(request: web.Request) -> LogOptions:
    query = request.query
    try:
        since = None
        if query.get("sinceSeconds"):
            since = time.time() - int(query["sinceSeconds"])
        elif query.get("sinceTime"):
            since = parse_rfc3339(query["sinceTime"])
        stream = query.get("stream", "")
        return LogOptions(
            follow=query.get("follow") in ("true", "1"),
            tail_lines=int(query["tailLines"]) if query.get("tailLines") else None,
            since=since,
            timestamps=query.get("timestamps") in ("true", "1"),
            limit_bytes=int(query["limitBytes"]) if query.get("limitBytes") else None,
            stream="" if stream in ("", "All") else stream.lower(),
        )
    except ValueError as error:
        raise web.HTTPBadRequest(text=f"log options: {error}") from error
