"""A real Envoy with our control plane, stand-ins for providers, and manifests without a cluster."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml
from aiohttp import web

from kajitori.api.kubernetes.core_v1 import ConfigMap, Secret
from kajitori.engines.envoy import envoy_arguments, find_envoy
from kajitori.gateway.accounting.ledger import Ledger
from kajitori.gateway.accounting.log_reader import LogReader
from kajitori.gateway.accounting.metrics import GatewayMetrics
from kajitori.gateway.accounting.record_reading import read_position
from kajitori.gateway.accounting.record_store import RecordStore
from kajitori.gateway.accounting.records import FILE_NAME, RequestRecord
from kajitori.gateway.envoy.admin import reopen_logs
from kajitori.gateway.envoy.ads import AdsServer
from kajitori.gateway.envoy.bootstrap import write_bootstrap
from kajitori.gateway.envoy.encode import Encoder
from kajitori.gateway.envoy.schema import schema
from kajitori.gateway.envoy.server import ControlPlane
from kajitori.gateway.envoy.xds import Snapshot
from kajitori.gateway.observed import Observed, Settings
from kajitori.gateway.plan import Plan, make_plan
from kajitori.gateway.resources import Resources
from kajitori.gateway.watched_kinds import WATCHED
from tests.waiting import eventually

# Kind -> field of `Observed` and projection.
KINDS: dict[str, tuple[str, type[Any]]] = {
    "Secret": ("secrets", Secret),
    "ConfigMap": ("config_maps", ConfigMap),
    **{resource.kind: (name, projection) for name, (resource, projection) in WATCHED.items()},
}
CLASS = {"kind": "GatewayClass", "metadata": {"name": "kajitori"},
         "spec": {"controllerName": "kajitori.dev/gateway-controller"}}  # fmt: skip


def observe(
    *documents: dict[str, Any] | str,
    body_limit_bytes: int = 32 * 1024 * 1024,
    access_log: str = "",
    logged_headers: tuple[str, ...] = (),
    bind_address: str = "127.0.0.1",
    rescue_sockets: tuple[str, str] | None = None,
) -> Observed:
    """Objects (dicts, or YAML text of several) as the informers would show them."""
    found: dict[str, list[Any]] = {}
    for item in (CLASS, *documents):
        for document in yaml.safe_load_all(item) if isinstance(item, str) else (item,):
            copy = json.loads(json.dumps(document))
            if copy["kind"] not in ("GatewayClass", "Namespace"):
                copy["metadata"].setdefault("namespace", "default")
            for key, value in copy.pop("stringData", {}).items():
                copy.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()
            name, kind = KINDS[copy["kind"]]
            found.setdefault(name, []).append(msgspec.convert(copy, kind))
    settings = Settings(
        bind_address=bind_address,
        body_limit_bytes=body_limit_bytes,
        access_log=access_log,
        logged_headers=logged_headers,
        rescue_sockets=rescue_sockets,
    )
    return Observed(settings=settings, **{name: tuple(items) for name, items in found.items()})


def free_port(address: str = "127.0.0.1") -> int:
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        return probe.getsockname()[1]


def gateway(port: int, name: str = "gateway", **listener: Any) -> dict[str, Any]:
    return {
        "kind": "Gateway",
        "metadata": {"name": name},
        "spec": {
            "gatewayClassName": "kajitori",
            "listeners": [{"name": "http", "protocol": "HTTP", "port": port, **listener}],
        },
    }


def backend(name: str, port: int, schema: dict[str, Any] | None = None, **spec: Any) -> list[dict[str, Any]]:
    """A Backend on this machine and the AIServiceBackend in front of it."""
    return [
        {
            "kind": "Backend",
            "metadata": {"name": name},
            "spec": {"endpoints": [{"ip": {"address": "127.0.0.1", "port": port}}]},
        },
        {
            "kind": "AIServiceBackend",
            "metadata": {"name": name},
            "spec": {
                "schema": schema or {"name": "OpenAI"},
                "backendRef": {"name": name, "kind": "Backend", "group": "gateway.envoyproxy.io"},
                **spec,
            },
        },
    ]


def key_policy(target: str, value: str, kind: str = "APIKey", member: str = "apiKey") -> list[dict[str, Any]]:
    """A BackendSecurityPolicy with its Secret."""
    return [
        {"kind": "Secret", "metadata": {"name": f"{target}-key"}, "stringData": {"apiKey": value}},
        {
            "kind": "BackendSecurityPolicy",
            "metadata": {"name": f"{target}-key"},
            "spec": {
                "targetRefs": [
                    {"group": "aigateway.envoyproxy.io", "kind": "AIServiceBackend", "name": target}
                ],
                "type": kind,
                member: {"secretRef": {"name": f"{target}-key"}},
            },
        },
    ]


def ai_route(name: str, model: str, *refs: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """One rule for one model."""
    rule_extra = spec.pop("rule", {})
    match = {"headers": [{"type": "Exact", "name": "x-ai-eg-model", "value": model}]}
    return {
        "kind": "AIGatewayRoute",
        "metadata": {"name": name},
        "spec": {
            "parentRefs": [{"name": "gateway"}],
            "rules": [{"matches": [match], "backendRefs": list(refs), **rule_extra}],
            **spec,
        },
    }


@dataclass
class Seen:
    """A request as a provider got it."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.body)


USAGE = {"prompt_tokens": 12, "completion_tokens": 7, "total_tokens": 19}
Answer = Callable[[web.Request, bytes], Awaitable[web.StreamResponse]]


@dataclass
class Provider:
    """A stand-in that speaks OpenAI's dialect. status: what it answers; seen: what it got."""

    port: int = 0
    status: int = 200
    seen: list[Seen] = field(default_factory=list)
    chunks: int = 3
    chunk_seconds: float = 0.0
    usage: dict[str, Any] = field(default_factory=lambda: dict(USAGE))
    answer: Answer | None = None
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.seen.append(Seen(request.path_qs, headers, body))
        if self.answer is not None:
            return await self.answer(request, body)
        if self.status != 200:
            error = {"error": {"message": f"provider says {self.status}", "type": "server_error"}}
            return web.json_response(error, status=self.status)
        try:
            content = json.loads(body) if body.lstrip().startswith(b"{") else {}
        except ValueError:
            error = {"type": "error", "error": {"message": "provider says that is no JSON"}}
            return web.json_response(error, status=400)
        if content.get("stream"):
            return await self.stream(request, content)
        return web.json_response(
            {"object": "chat.completion", "model": content.get("model"), "usage": self.usage,
             "choices": [{"index": 0, "message": {"role": "assistant", "content": str(self.port)}}]}
        )  # fmt: skip

    async def stream(self, request: web.Request, content: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        try:
            for number in range(self.chunks):
                event = {"choices": [{"index": 0, "delta": {"content": f"{number} "}}]}
                await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
                await asyncio.sleep(self.chunk_seconds)
            if (content.get("stream_options") or {}).get("include_usage"):
                event = {"choices": [], "usage": self.usage}
                await response.write(b"data: " + json.dumps(event).encode() + b"\n\n")
            await response.write(b"data: [DONE]\n\n")
        except (ConnectionError, asyncio.CancelledError):
            self.closed.set()
            raise
        return response


@contextlib.asynccontextmanager
async def running_provider(provider: Provider | None = None) -> AsyncIterator[Provider]:
    provider = provider or Provider()
    app = web.Application(client_max_size=1 << 28)
    app.router.add_route("*", "/{path:.*}", provider.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", provider.port)
    await site.start()
    server: Any = site._server
    provider.port = server.sockets[0].getsockname()[1]
    try:
        yield provider
    finally:
        await runner.cleanup()


class Workbench:
    """One Envoy and the control plane that it listens to, in a folder that vanishes."""

    def __init__(self, folder: Path, sources: tuple[str, ...] = ("gateway",)) -> None:
        self.folder = folder
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.records: dict[str, RequestRecord] = {}
        self._arrived = asyncio.Condition()
        self._sources = sources
        self.envoy: subprocess.Popen[bytes] | None = None
        self.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1000, force_close=True))
        self.plan: Plan | None = None
        self._make_control_plane()

    def _make_control_plane(self) -> None:
        self.store = RecordStore(self.folder / FILE_NAME)
        self.ledger = Ledger(self.store, GatewayMetrics(), self._on_record)
        self.ads = AdsServer(schema(), Snapshot(Encoder(schema())), self._sources)
        self.control_plane = ControlPlane(self.ads)
        self.access_log = self.folder / "access.log"
        position = read_position(self.folder / FILE_NAME)
        self.log_reader = LogReader(
            self.access_log, self.ledger, self.store, position, self._reopen_logs, awaited=lambda: True
        )

    async def _reopen_logs(self) -> None:
        await reopen_logs(self.folder / "admin.sock")

    def _on_record(self, record: RequestRecord) -> None:
        self.records[record.id] = record

    async def start(self) -> None:
        await self.control_plane.start(self.folder / "ads.sock")
        self.start_reading()
        write_bootstrap(
            self.folder / "bootstrap.json",
            self.folder / "ads.sock",
            self.folder / "admin.sock",
            self.folder / "accountant.sock",
        )
        self.start_envoy()

    def start_reading(self) -> None:
        """Follows the access log, as the accountant does."""
        self._reading = asyncio.create_task(self.log_reader.run())

    def start_envoy(self) -> None:
        with (self.folder / "envoy.log").open("ab") as log:
            self.envoy = subprocess.Popen(
                # A plain fork of a process that runs gRPC may hang, so the wish to die with us is told by a tool.
                [
                    "setpriv",
                    "--pdeathsig",
                    "KILL",
                    "--",
                    *self.envoy_prefix(),
                    str(find_envoy()),
                    *envoy_arguments(self.folder / "bootstrap.json"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def envoy_prefix(self) -> list[str]:
        """What Envoy is started through."""
        return []

    def kill_envoy(self) -> None:
        assert self.envoy is not None
        self.envoy.kill()
        self.envoy.wait()

    async def restart_control_plane(self) -> None:
        """As if the process had been killed: nothing is remembered but what is on disk."""
        await self.stop_control_plane()
        self._make_control_plane()
        await self.control_plane.start(self.folder / "ads.sock")
        self.start_reading()

    async def stop_control_plane(self) -> None:
        self._reading.cancel()
        await asyncio.wait([self._reading])
        await self.control_plane.close()
        self.store.close()

    async def close(self) -> None:
        await self.session.close()
        if self.envoy is not None:
            self.kill_envoy()
        await self.stop_control_plane()

    def set(self, *documents: dict[str, Any] | str, **settings: Any) -> Plan:
        """Plans and delivers; does not wait."""
        self.plan = make_plan(
            observe(*documents, access_log=str(self.access_log), **settings), self.ads.rejected
        )
        self.ledger.configure(self.plan.policy)
        self.ads.set_resources("gateway", self.plan.resources)
        return self.plan

    def set_resources(self, source: str, resources: Resources) -> None:
        self.ads.set_resources(source, resources)

    async def settled(self) -> None:
        await eventually(
            lambda: self.ads.settled, what=lambda: f"settled; refused: {self.ads.rejected}; {self.log()}"
        )

    def log(self) -> str:
        return (self.folder / "envoy.log").read_text()[-3000:]

    async def apply(self, *documents: dict[str, Any] | str, **settings: Any) -> Plan:
        plan = self.set(*documents, **settings)
        await self.settled()
        return plan

    async def post(
        self, body: Any, path: str = "/v1/chat/completions", headers: dict[str, str] | None = None
    ) -> Reply:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
        async with self.session.post(self.url + path, data=io.BytesIO(data), headers=sent) as response:
            return Reply(response.status, dict(response.headers), await response.read())

    async def get(self, path: str, headers: dict[str, str] | None = None) -> Reply:
        async with self.session.get(self.url + path, headers=headers, allow_redirects=False) as response:
            return Reply(response.status, dict(response.headers), await response.read())

    async def record(self, reply: Reply) -> RequestRecord:
        """What the ledger has of a request."""
        key = reply.headers["X-Request-ID"]
        await eventually(lambda: key in self.records, what=lambda: f"record {key} of {list(self.records)}")
        return self.records[key]

    async def admin(self, path: str) -> str:
        connector = aiohttp.UnixConnector(str(self.folder / "admin.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get(f"http://envoy{path}") as response,
        ):
            return await response.text()


@dataclass
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@contextlib.asynccontextmanager
async def running_workbench(
    sources: tuple[str, ...] = ("gateway",), kind: type[Workbench] = Workbench
) -> AsyncIterator[Workbench]:
    with tempfile.TemporaryDirectory(prefix="kgw-", dir=os.environ.get("TMPDIR", "/tmp")) as folder:
        bench = kind(Path(folder), sources)
        await bench.start()
        try:
            yield bench
        finally:
            await bench.close()
